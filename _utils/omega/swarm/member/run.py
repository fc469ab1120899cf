"""
Bring this node into the swarm as its pillar says: look, decide (omega.swarm.member.plan), act, look again.

Every wait has a bound of its own (Bounds) and ends with what was seen last. A daemon that restarts or a Consul
without a leader for a moment is retried within a bound; nothing is ever forced.
"""

import datetime
import logging
import os
import time
from dataclasses import dataclass, field, replace

from omega.consul.client import ConsulError
from omega.site import nodes as site_nodes
from omega.swarm import check, clock
from omega.swarm.api import MANAGER, WORKER, SwarmError, describe
from omega.swarm.member import plan, predict
from omega.swarm.member import repair_plan as mend
from omega.swarm.member.join import Joining
from omega.swarm.member.promote import not_promotable, take
from omega.swarm.member.repair import Repair
from omega.swarm.member.step import Step
from omega.swarm.member.waiting import Waiting
from omega.swarm.nodes.labels import KEEP
from omega.swarm.record import INITIALIZING, READY, VACANT
from omega.swarm.settings import ca
from omega.swarm.waits import CONTEND, POLL, Failed, logged, not_there_yet

log = logging.getLogger(__name__)

JOINED_EVENT = "rpiomega/swarm/joined"
LONGEST_CALL = 5  # seconds of one request to a daemon that does not answer, rounded up


@dataclass(frozen=True)
class Bounds:
    """Seconds that the parts of a run may take."""

    bootstrap: float = 300  # until another node has initialised the swarm
    # Until a node that recorded its intent and was interrupted comes back: its lock outlives it by TTL and lock-delay.
    initializer: float = 45
    join: float = 120
    promote: float = 120  # until this node is promoted; also: until those that are joining right now are
    gather: float = 30  # after this run recorded the swarm, for managers-to-be that Consul sees alive
    engine: float = 60  # of an engine that does not answer
    consul: float = 15  # of a Consul that does not answer
    clock: float = 90  # until the clock is synchronised, before an init or a join
    notice: float = 20  # until the engine of a manager that was demoted notices that by itself


@dataclass(frozen=True)
class Wanted:
    """
    What the pillar says. managers: {name: address}. swarm: settings for `swarm init` and a join. readdress, rejoin:
    whether a node whose address has changed, or whose certificate has expired, may leave and join again. min_free_mb:
    free space below which a node is not taken into the swarm or made a manager.
    """

    node: str
    role: str
    address: str
    managers: dict
    swarm: dict = field(default_factory=dict)
    readdress: bool = False
    rejoin: bool = False
    min_free_mb: int = 0

    @property
    def others(self):
        """{name: address} of the managers-to-be but this node."""
        return {name: address for name, address in self.managers.items() if name != self.node}


def wanted(site, node, role=None, address=None, managers=None, swarm=None, **allowed):
    """
    Wanted of `node` from the site's pillar; arguments given win.

    :param allowed: readdress, rejoin, min_free_mb, as in Wanted

    :raises SwarmError: "refused" naming the key that is missing
    """
    entry = site_nodes.nodes(site).get(node) or {}
    if role is None:
        found = [name for name in site_nodes.roles(site, node) if name in (MANAGER, WORKER)]
        if len(found) != 1:
            what = "has both roles manager and worker" if found else "has neither role manager nor worker"
            raise SwarmError("refused", f"{node} {what} in rpiomega:nodes:{node}:roles of the site's pillar")
        role = found[0]
    if managers is None:
        managers = {name: site_nodes.address(site, name) for name in site_nodes.with_role(site, MANAGER)}
    address = address or entry.get("address")
    if not address:
        raise SwarmError("refused", f"no address for {node}: rpiomega:nodes:{node}:address of the site's pillar")
    # Told with the join, so that a node to be drained or paused gets no task before it is tended.
    said = entry.get("availability")
    swarm = {**(swarm or {}), "availability": "" if said == KEEP else said}
    return Wanted(node, role, str(address), dict(managers), swarm, **allowed)


class Member(Joining, Repair, Waiting):
    """
    One run of `swarm.member` on one node.

    :param engine: omega.swarm.api.Engine
    :param store: omega.swarm.record.Store
    :param notify: called with this node's name when it waits for a manager to act; best effort
    :param keyring: omega.swarm.settings.key.Keyring with the unlock key, if there may be one
    :param restart: called with this node's name, restarts its engine; returns what went wrong in words, or None
    :param synchronised: as omega.swarm.clock.synchronised
    """

    def __init__(
        self,
        engine,
        store,
        want,
        bounds=None,
        notify=None,
        keyring=None,
        restart=None,
        synchronised=clock.synchronised,
    ):
        self.engine, self.store, self.want, self.keyring = engine, store, want, keyring
        self.restart = restart or (lambda node: "nothing here can restart it")
        self.synchronised, self._clock_trusted = synchronised, False
        self._restarted, self._looked, self._refused, self._asked = False, False, "", ""
        self.bounds, self.notify = bounds or Bounds(), notify or (lambda node: None)
        self.changes, self.notes, self.warnings = {}, [], []
        self._since, self._appeared, self._bootstrapped = {}, False, None
        self._join_notes, self._said_first, self._expected = [], None, set()
        self._unsucceeded = False

    # -- looking -------------------------------------------------------------------------------------------

    def facts(self):
        """Facts of this moment: one /info and one read of Consul; more only where a decision needs it."""
        local = self.engine.local()
        here = self._here(local)
        snap = self._snapshot(local, here)
        facts = plan.Facts(
            self.want.node,
            self.want.role,
            self.want.address,
            tuple(self.want.managers),
            local,
            snap.record,
            snap.holder,
            snap.token_cluster,
            snap.published,
            snap.stale,
            now=datetime.datetime.now(datetime.timezone.utc),
            here=here,
            readdress=self.want.readdress,
            rejoin=self.want.rejoin,
            unsucceeded=self._unsucceeded,
            unlisted=snap.unlisted.get(self.want.node, ""),
            demoted=snap.demoted,
            restarted=self._restarted,
        )
        return self._more(facts, snap.token)

    def _here(self, local):
        """Whether this host has the site's address; None if the engine is another host's."""
        if local.hostname != os.uname().nodename:
            return None
        return check.has_address(check.split(self.want.address)[0])

    def _more(self, facts, token):
        local, record = facts.local, facts.record
        facts = self._damage(facts)
        if facts.demoted.get(facts.node, "") == local.node_id != "":
            # Demoted before this run began, its engine has had its time.
            facts = replace(facts, unaware=not self._looked or self._over("demoted", self.bounds.notice))
        self._looked = True
        if self.want.role == MANAGER and local.role == WORKER:
            facts = replace(facts, problem="; ".join(self._host(facts)[0]))
        asking = self.want.role == WORKER or plan.candidates(facts) or plan.wishing(facts) or mend.moved(facts)
        if local.state == "active" and local.control and not local.leaderless and asking:
            facts = replace(facts, nodes=tuple(self.engine.nodes()))
            facts = replace(facts, blocked=not_promotable(facts))
        if record and record.state == INITIALIZING and facts.holder != record.by != facts.node:
            facts = replace(facts, alive=frozenset(self.store.client.alive()))
        if self._bootstrapped and time.monotonic() - self._bootstrapped < self.bounds.gather:
            facts = replace(facts, expected=frozenset(self.store.client.alive()))
        if plan.decide(facts).kind == "bootstrap":
            facts = replace(facts, listening=check.answering(self.want.others))
        kind = plan.decide(facts).kind
        if kind in ("bootstrap", "join") and not self._clock_trusted:
            return replace(facts, clock=clock.doubt(facts, self.synchronised()))
        # Others wait for this run, perhaps with a token that somebody has rotated; swarm.tended looks after it later.
        if kind in ("linger", "promote", "release") and facts.role == MANAGER and token:
            facts = replace(facts, token_old=token != self.engine.worker_token())
        return facts

    def predict(self):
        """
        What `run` would do now: (result, comment, changes) for test=True. Writes nothing.

        :raises SwarmError, ConsulError: where there is no engine or no Consul (yet), and where waiting does not help
        """
        try:
            facts = self._facts_patiently()
        except Failed as error:
            return False, str(error), {}
        finally:
            self.engine.close()
        problems, self.warnings = self._host(facts)
        if problems and facts.local.state == "inactive":
            return False, f"{facts.node}: {'; '.join(problems)}", {}
        steps = predict.predict(facts)
        *ahead, last = steps
        if last.kind == "refuse" and not any(step.kind in plan.ACTS for step in ahead):
            return False, f"{facts.node}: {last.reason}", {}
        changes = predict.changes(facts, steps)
        if not changes:
            return True, self._comment(last, facts), {}
        reasons = "; then ".join(step.reason for step in ahead)
        return None, f"{facts.node} would: {reasons}", changes

    def _facts_patiently(self):
        """`facts`, again while a daemon that restarts, an election or a Consul without a leader stands in the way."""
        while True:
            began = time.monotonic()
            try:
                facts = self.facts()
                step = plan.decide(facts)
                if step.kind != "settle" or not facts.local.leaderless:
                    return facts
                self._wait(step, facts)  # what a run does then depends on the node list
            except (SwarmError, ConsulError) as error:
                if not_there_yet(error):
                    raise
                self._retry(error, began)

    def _host(self, facts):
        return check.host_problems(facts.local, self.want.min_free_mb)

    # -- the loop ------------------------------------------------------------------------------------------

    def run(self):
        """
        Do what is needed; returns (result, comment). What was changed is in `changes`, also after a failure.
        """
        try:
            return self._run()
        except (Failed, SwarmError, ConsulError) as error:
            return False, str(error)
        finally:
            with logged("ending this node's presence in Consul"):
                self.store.vanish()
            self.engine.close()

    def _run(self):
        while True:
            began = time.monotonic()
            try:
                facts = self.facts()
                step = plan.decide(facts)
                if self._asked and facts.local.state == "active":  # the engine went on in the background
                    new = f"member of {facts.local.cluster_id}, joined through {self._asked}"
                    self.changes.setdefault("swarm", {"old": "inactive", "new": new})
                if step.kind in ("done", "refuse"):
                    self.warnings = self._host(facts)[1]
                    self.notes += plan.missed(facts, self._expected)
                    return step.kind == "done", self._comment(step, facts)
                self._appear(facts)
                if step.kind == "linger":
                    self._expected.update(facts.expected.intersection(step.names))
                    if self._over("linger", self.bounds.promote):
                        missing = "; ".join([f"still missing: {', '.join(step.names)}", *plan.held_back(facts)])
                        return True, self._comment(Step("done", missing), facts)
                    time.sleep(POLL)
                elif step.kind in plan.WAITS:
                    self._wait(step, facts)
                else:
                    getattr(self, f"_do_{step.kind}")(facts, step)
                self._since.pop("engine", None)
                self._since.pop("consul", None)
            except (SwarmError, ConsulError) as error:
                self._retry(error, began)

    def _comment(self, step, facts):
        text = f"{facts.node}: {step.reason}"
        if facts.stale:
            text += " (read stale: Consul has no leader, bring back its servers)"
        return "; ".join([text, *self.notes])

    def _over(self, what, bound):
        return time.monotonic() - self._since.setdefault(what, time.monotonic()) > bound

    def _retry(self, error, began):
        """Let the next try come after a pause; Failed if one as long as this one would end past the bound."""
        # A lock that was lost or a key that somebody else wrote first: look again, the decision may be another one.
        if not error.transient and error.kind not in ("lost", "conflict"):
            raise error
        kind = "engine" if isinstance(error, SwarmError) else "consul"
        now, bound = time.monotonic(), getattr(self.bounds, kind)
        took = min(now - began, LONGEST_CALL)  # the rest of a step went well
        since = self._since.setdefault(kind, now - took)
        if now + took - since > bound:
            raise Failed(f"{self.want.node}: {error} (tried for {now - since:.0f} s)")
        log.info("%s: %s; trying again", self.want.node, error)
        self.engine.close()
        time.sleep(2 * POLL)

    def _appear(self, facts):
        """Show the other managers that this run goes on: they wait for it and promote this node."""
        if self.want.role != MANAGER:
            return
        if not self._appeared:
            self.store.appear()
            self._said_first = facts.own.role_now or None
            known = facts.local.control or facts.local.state in ("locked", "pending", "error")
            known = known and not facts.local.unaccepted
            self.store.publish(facts.own if known and facts.own.node_id else plan.entry_of(facts))
            self._appeared = True

    # -- acting --------------------------------------------------------------------------------------------

    def _precheck(self, facts):
        problems = self._host(facts)[0]
        if problems:
            raise Failed(f"{facts.node}: {'; '.join(problems)}")

    def _do_bootstrap(self, facts, _step):
        self._precheck(facts)
        try:
            with self.store.hold(CONTEND) as lock:
                record = self.store.record()
                if record and (record.state == READY or record.state == INITIALIZING and record.by != facts.node):
                    return
                record = self.store.write_record(lock, INITIALIZING, before=record)
                lock.check()
                self._init(lock, record)
                self._finish(lock, record, "initialised")
        except ConsulError as error:
            if error.kind != "timeout" or self._over("wait_bootstrap", self.bounds.bootstrap):
                raise

    def _init(self, lock, record):
        try:
            self.engine.init(self.want.address, **self.want.swarm)
        except SwarmError as error:
            if error.kind != "api":  # no answer: the engine may still carry it out, so the intent stays
                raise
            if self.engine.local().state != "inactive":
                raise SwarmError("conflict", str(error)) from None  # it has carried out an earlier one: look again
            self.store.write_record(lock, VACANT, before=record)
            raise

    def _finish(self, lock, record, how):
        """Write the ClusterID of the swarm that this node manages; then what the others need to join."""
        local = self._settled()
        self.store.write_record(lock, READY, local.cluster_id, record)
        self.changes["swarm"] = {"old": "inactive", "new": f"manager of {local.cluster_id}, {how} here"}
        self._bootstrapped = time.monotonic()
        self.store.write_token(self.engine.worker_token(), local.cluster_id)
        with logged("rotating the manager token"):
            self.engine.rotate_token(MANAGER)

    def _settled(self):
        """Local of this node once its engine has a leader and knows the ClusterID."""
        end = time.monotonic() + self.bounds.join
        while True:
            local = self.engine.local()
            if local.control and local.cluster_id and not local.leaderless:
                return local
            if time.monotonic() > end:
                raise Failed(f"after swarm init: {describe(local)} ({self.bounds.join:g} s have passed)")
            time.sleep(POLL)

    def _do_complete(self, facts, _step):
        self._record_own(facts, "initialised before")

    def _do_adopt(self, facts, _step):
        self._record_own(facts, "found")

    def _record_own(self, facts, how):
        with self.store.hold(self.bounds.bootstrap) as lock:
            record = self.store.record()
            if record and (record.state == READY or record.state == INITIALIZING and record.by != facts.node):
                return
            self._finish(lock, record, how)

    def _do_publish_token(self, facts, _step):
        ca.publish_token(self.engine, self.store, facts.record.cluster_id)
        self.changes["worker token"] = {"old": facts.token_cluster or None, "new": f"of {facts.record.cluster_id}"}

    def _do_publish(self, facts, _step):
        entry = plan.entry_of(facts)
        self.store.publish(entry)
        old = self.changes.get("published", {"old": self._said(facts)})["old"]
        self.changes["published"] = {"old": old, "new": entry.role_now}
        if facts.local.role == MANAGER and facts.own.role_now == WORKER:
            self.changes["role"] = {"old": WORKER, "new": MANAGER}

    def _said(self, facts):
        return facts.own.role_now or self._said_first

    def _do_demote(self, facts, _step):
        self._step_down(facts)
        self.changes["role"] = {"old": MANAGER, "new": WORKER}
        count = len(facts.managers)
        if count % 2 == 0:
            self.notes.append(f"{count} managers survive no more failures than {count - 1}")

    def _do_promote(self, facts, step):
        for name in step.names:
            if take(self.engine, self.store, facts, name):
                self.changes.setdefault("promoted", []).append(name)
        time.sleep(POLL)
