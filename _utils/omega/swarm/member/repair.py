"""The part of a run of `swarm.member` that repairs a damaged membership; the decisions are in `repair_plan`."""

import time
from dataclasses import replace

from omega.consul.client import ConsulError
from omega.core import files
from omega.swarm import check
from omega.swarm.api import SwarmError
from omega.swarm.member import plan
from omega.swarm.member import repair_plan as mend
from omega.swarm.member.promote import demote, release
from omega.swarm.waits import CONTEND, POLL, Failed


class Repair:
    """Part of omega.swarm.member.run.Member, whose attributes it uses."""

    def _snapshot(self, local, here):
        """What Consul says. Its agent, too, has to listen at the site's address: a board without that cannot ask it."""
        try:
            return self.store.snapshot(stale_allowed=local.state == "active")
        except ConsulError as error:
            if here is not False or error.kind != "unreachable":
                raise
            facts = plan.Facts(self.want.node, self.want.role, self.want.address, local=local, here=here)
            reason = mend.not_here(replace(facts, towards=self._towards())).reason
            raise Failed(f"{facts.node}: {reason}; {error}") from None

    def _towards(self):
        hosts = [check.split(address)[0] for address in self.want.others.values()]
        return next(filter(None, map(check.address_towards, hosts)), "")

    def _damage(self, facts):
        """The facts with what is needed to judge a damaged membership; nothing is asked for a sound one."""
        local = facts.local
        if local.state == "locked":
            facts = replace(facts, unlock=self._unlock_state())
        if facts.here is False:
            facts = replace(facts, towards=self._towards())
        addresses = None
        if local.leaderless:
            addresses = [peer for peer in local.managers if check.split(peer)[0] != local.address]
        elif mend.out_of_date(facts) or mend.unlisted(facts):
            addresses = self._addresses(facts) if facts.record else []
        return facts if addresses is None else replace(facts, reach=check.managers_unreachable(addresses))

    def _unlock_state(self):
        """Return "ready" if there is a key to try, else why there is none."""
        keys = self._keys()
        if not keys:
            where = f" (no key is kept in {self.keyring.path})" if self.keyring else ""
            return f"another manager shows the key: `docker swarm unlock-key`{where}"
        if (files.mode_of(self.keyring.path) or 0) & 0o077:
            return f"{self.keyring.path} is not used, because others than root can read it: chmod 600 it, run again"
        return "ready"

    def _keys(self):
        return self.keyring.keys() if self.keyring else []

    def _do_unlock(self, facts, _step):
        refused = "no key"
        for key in self._keys():
            try:
                self.engine.unlock(key)
            except SwarmError as error:
                if error.kind not in ("api", "locked"):
                    raise
                refused = str(error)
                continue
            self.changes["swarm state"] = {"old": "locked", "new": f"unlocked with the key in {self.keyring.path}"}
            return
        raise Failed(
            f"{facts.node}: the key in {self.keyring.path} does not unlock the swarm state ({refused}); another "
            "manager shows the right one: `docker swarm unlock-key`; run `docker swarm unlock` here with it"
        )

    def _do_rejoin(self, facts, _step):
        self._leave(facts)
        expired = facts.local.expires.strftime("%Y-%m-%d %H:%M:%S UTC")
        self.changes["certificate"] = {"old": f"expired at {expired}", "new": "of a new membership"}

    def _do_reenter(self, facts, _step):
        self._leave(facts)
        self.changes["NodeID"] = {"old": facts.local.node_id, "new": "of a new membership"}

    def _do_readdress(self, facts, _step):
        if not facts.local.control:
            self._move(facts)
            return
        with self.store.hold(CONTEND) as lock:  # one manager at a time: the next one sees this one missing
            facts = self.facts()
            if plan.decide(facts).kind == "readdress":
                lock.check()
                self._step_down(facts)
                self._move(facts)

    def _move(self, facts):
        self._leave(facts)
        self.changes["address"] = {"old": facts.local.address, "new": facts.address}

    def _step_down(self, facts):
        demote(self.engine, facts.local.node_id)
        end = time.monotonic() + self.bounds.promote
        while self.engine.local().control:
            if time.monotonic() > end:
                # The engine lets nobody go whom the quorum needs, whatever its role says (swarmkit: CanRemoveMember).
                raise Failed(
                    f"{facts.node}: demoted, but still a manager after {self.bounds.promote:g} s: the others have to "
                    "be a quorum without it; bring them back and run again"
                )
            time.sleep(POLL)

    def _leave(self, facts):
        """Leave by the engine's own rules, after the NodeID is kept for those who remove the old entry."""
        local = replace(facts.local, state="inactive", control=False)
        entry = plan.entry_of(replace(facts, local=local))
        if not entry.node_id:
            entry = replace(entry, node_id=facts.own.node_id)
        self.store.publish(entry)
        self.engine.leave()

    def _do_release(self, facts, step):
        for name in step.names:
            release(self.engine, self.store, name, facts.published[name].node_id)
            self.changes.setdefault("demoted", []).append(name)
        time.sleep(POLL)

    def _do_abandon(self, _facts, _step):
        local = self.engine.local()
        if local.state == "error" and local.unaccepted:  # not one that has been accepted since
            self.engine.leave()
            self.changes["swarm state"] = {"old": f"a join that failed ({local.error})", "new": "inactive"}

    def _do_restart(self, facts, step):
        self._restarted = True
        problem = self.restart(facts.node)
        if problem:
            cure = "run `sudo systemctl restart docker` there, then apply again"
            raise Failed(f"{facts.node}: {step.reason}; that failed ({problem}): {cure}")
        self.changes["engine"] = {"old": facts.local.error, "new": "restarted"}
