"""
Reconcile the swarm's nodes with the site, as one of its managers: look, plan (omega.swarm.nodes.plan), act, look again.

Any number of managers may do this at once: what they write depends on what they have just read, a node's spec is
written with its version, and the join tokens are rotated under a lock in Consul.
"""

from __future__ import annotations

import datetime
import logging
import time

from omega.consul.client import ConsulError
from omega.site import nodes as site_nodes
from omega.swarm import removal as swarm_removal
from omega.swarm.api import MANAGER, WORKER, SwarmError, describe
from omega.swarm.member import run as member_run
from omega.swarm.member.roles import promote_waiting
from omega.swarm.nodes import plan
from omega.swarm.owner import shown
from omega.swarm.record import NODES, PREFIX, READY, TOKEN, UNLISTED, snapshot_of
from omega.swarm.waits import not_there_yet

log = logging.getLogger(__name__)

ROTATION = PREFIX + "rotation"
POLL = 0.5
SETTLE = 60.0  # seconds after which managers that undo each other's work give up
NOBODY_ELSE = "a manager does this"


class Verdict(Exception):
    """This node cannot or need not reconcile the nodes: (result, why)."""

    def __init__(self, result, why, warn=False):
        super().__init__(why)
        self.result, self.warn = result, warn


class Reconciler:
    """
    One run on one node.

    :param engine: omega.swarm.api.Engine
    :param store: omega.swarm.record.Store
    :param site: the pillar's `rpiomega`
    :param gather: seconds to wait for nodes that Consul sees alive and that are joining, before the tokens are
        rotated; None: leave the tokens to another run while such nodes are missing
    :param patience: seconds to retry while the engine or Consul does not answer
    """

    def __init__(self, engine, store, site, gather=20, patience=30):
        self.engine, self.store, self.site = engine, store, site
        self.gather, self.patience = gather, patience
        self.changes, self.warnings = {}, []
        self._indices, self._since = {}, {}
        self._began, self._early = time.monotonic(), ""

    # -- looking -------------------------------------------------------------------------------------------

    def look(self):
        """plan.Facts of this moment; raises Verdict where this node has nothing to do."""
        local = self.engine.local()
        if not local.control:
            raise self._as_worker(local)
        if MANAGER not in site_nodes.roles(self.site, self.store.node):
            raise Verdict(True, f"not a manager of the site: {NOBODY_ELSE}")
        if local.leaderless:
            raise SwarmError("no_leader", describe(local))  # most often an election, which ends within the patience
        entries = self._entries()
        snap = snapshot_of(entries.values())
        if not snap.record or snap.record.state != READY:
            raise Verdict(False, "Consul contains no record of the cluster's swarm: apply swarm.member first")
        if snap.record.cluster_id != local.cluster_id:
            raise Verdict(False, f"swarm {local.cluster_id} is not the cluster's swarm {snap.record.cluster_id}")
        rotation, token = entries.get(ROTATION), entries.get(TOKEN)
        facts = plan.Facts(
            site=self.site,
            cluster_id=local.cluster_id,
            nodes=tuple(self.engine.nodes()),
            published=snap.published,
            rotation=plan.read_rotation(rotation.json() if rotation else None),
            token_known=bool(token) and token.json().get("token") == self.engine.worker_token(),
            unlisted=snap.unlisted,
            now=datetime.datetime.now(datetime.timezone.utc),
        )
        return plan.with_alive(facts, self._alive()) if plan.asks_who_is_alive(facts) else facts

    def _as_worker(self, local):
        """Return the Verdict of a node that is no manager: its engine does not show that it was removed."""
        entry = self._entries().get(UNLISTED + self.store.node)
        if local.node_id and entry and entry.json().get("node_id") == local.node_id:
            why = f"the swarm's managers have no entry {local.node_id} of it, somebody removed it: it gets no tasks"
            return Verdict(False, f"{why}; on the master: `sudo salt {self.store.node} state.apply`: it joins again")
        return Verdict(True, NOBODY_ELSE)

    def _entries(self):
        try:
            found = {entry.key: entry for entry in self.store.client.list(PREFIX)}
        except ConsulError as error:
            if error.kind != "no_leader":
                raise
            # As with swarm.member: the swarm goes on meanwhile. An agent that does not answer is a fault of this node.
            raise Verdict(True, f"no node is reconciled while Consul has no leader ({error})", warn=True) from None
        self._indices = {key: entry.modify_index for key, entry in found.items()}
        return found

    def _alive(self):
        """{name: address} of the nodes that Consul sees alive."""
        names, client = self.store.client.alive(), self.store.client
        what = "listing the nodes of the catalog"
        nodes = client.request("get", "/v1/catalog/nodes", [("consistent", "1")], what=what)[1]
        return {node["Node"]: node["Address"] for node in nodes or [] if node["Node"] in names}

    def predict(self):
        """What `run` would do now: (result, comment); `changes` as a run's are. Writes nothing."""
        try:
            facts = self._look_patiently()
            found = plan.plan(facts)
        except Verdict as verdict:
            return self._verdict(verdict)
        finally:
            self.engine.close()
        self._act(facts, found, test=True)
        if found.early:
            found.warn(found.early)
        return (None if found.acts else True), self._comment(facts, found, "would reconcile" if found.acts else "")

    def _look_patiently(self):
        while True:
            try:
                return self.look()
            except (SwarmError, ConsulError) as error:
                if not_there_yet(error):
                    raise
                self._retry(error)

    # -- the loop ------------------------------------------------------------------------------------------

    def run(self, test=False):
        """
        Reconcile, or with `test` predict; return (result, comment). What was changed is in `changes`, also after a
        failure.
        """
        if test:
            return self.predict()
        try:
            return self._run()
        except Verdict as verdict:
            return self._verdict(verdict)
        except (SwarmError, ConsulError) as error:
            return False, f"{self.store.node}: {error}"
        finally:
            self.engine.close()

    def _run(self):
        self._began, acted = time.monotonic(), ""
        while True:
            try:
                facts = self.look()
                spent = self._spent()
                found = plan.plan(facts, self._waits())
                if found.acts:
                    if spent > SETTLE + (self.gather or 0):
                        why = "another manager undoes it: do all managers have the same site file?"
                        return False, self._comment(facts, found, f"after {spent:.0f} s there is still work, {why}")
                    acted = "reconciled"
                    self._act(facts, found)
                elif found.awaited and self.gather and self._waits():
                    self._promote()
                    time.sleep(POLL)
                else:
                    if self._early:
                        found.warn(self._early)
                    self.warnings = found.warnings
                    return True, self._comment(facts, found, acted)
                self._since.clear()
            except (SwarmError, ConsulError) as error:
                self._retry(error)

    def _waits(self):
        """Whether nodes that are joining still come before new tokens."""
        return self.gather is None or self._spent() < self.gather

    def _spent(self):
        return time.monotonic() - self._began

    def _retry(self, error):
        if not error.transient and error.kind not in ("lost", "conflict"):
            raise error
        if time.monotonic() - self._since.setdefault("trouble", time.monotonic()) > self.patience:
            raise type(error)(error.kind, f"{error} (tried for {self.patience:g} s)")
        log.info("%s: %s; trying again", self.store.node, error)
        self.engine.close()
        time.sleep(POLL)

    def _verdict(self, verdict):
        if verdict.warn:
            self.warnings.append(str(verdict))
        return verdict.result, f"{self.store.node}: {verdict}"

    def _comment(self, facts, found, what):
        head = f"{self.store.node}: swarm {facts.cluster_id}, {len(facts.nodes)} nodes"
        return "\n".join([f"{head}, {what}" if what else head, *found.findings])

    # -- acting --------------------------------------------------------------------------------------------

    def _act(self, facts, found, test=False):
        """Carry out the plan, or with `test` only note what that changes."""
        for update in found.updates:
            self._update(facts, update, test)
        for removal in found.removals:
            if test or swarm_removal.remove(self.engine, removal.node):
                self._note("removed", f"{shown(removal.node)} ({removal.node.id}): {removal.why}")
        for name in found.forget:
            if test or self._delete(NODES + name):
                if not test:
                    self.store.forget_demoted(name)
                self._note("forgotten in Consul", name)
        for name, node_id in found.mark.items():
            key = UNLISTED + name
            if test or self.store.client.put_cas(key, {"node_id": node_id}, self._indices.get(key, 0)):
                self._note("not in the node list", f"{name} ({node_id})")
        for name in found.unmark:
            if test or self._delete(UNLISTED + name):
                self._note("no longer marked as not in the node list", name)
        if test:
            self._note_tokens(found)
        elif found.rotate or found.republish:
            self._rotate()

    def _delete(self, key):
        return self.store.client.delete(key, index=self._indices[key])

    def _promote(self):
        """Promote the nodes that wait for it: their runs may have begun after the others looked for them."""
        done, _ = promote_waiting(self.engine, self.store, member_run.wanted(self.site, self.store.node))
        if done:
            self.changes.setdefault("promoted", []).extend(done)

    def _update(self, facts, update, test):
        try:
            if test:
                before = plan.spec.of(update.node)
                after = update.change(before)
            else:
                before, after = self.engine.update_node(update.node.id, update.change)
        except SwarmError as error:
            if error.kind != "not_found":
                raise
            return
        if before is after:
            return
        changed = self.changes.setdefault(plan.label(facts, update.node), {})
        for key in ("Availability", "Labels"):
            old, new = before.get(key) or {}, after.get(key) or {}
            if old != new:
                first = changed.get(key.lower(), {"old": old})["old"]
                changed[key.lower()] = {"old": first, "new": new}

    def _rotate(self):
        """Rotate the tokens and publish the worker token, under the lock: the facts are read again."""
        with self.store.hold_rotation() as lock:
            facts = self.look()
            found = plan.plan(facts, self._waits())
            for role in found.rotate:
                lock.check()
                self.engine.rotate_token(role)
                self._early = found.early
            if WORKER in found.rotate or found.republish:
                value = {"token": self.engine.worker_token(), "cluster_id": facts.cluster_id}
                lock.write(TOKEN, value, self._indices.get(TOKEN, 0))
            if found.rotate:
                lock.write(ROTATION, plan.after(facts, found).value(), self._indices.get(ROTATION, 0))
            self._note_tokens(found)

    def _note(self, what, item):
        self.changes.setdefault(what, []).append(item)

    def _note_tokens(self, found):
        if found.rotate:
            self.changes["join tokens"] = {"old": "as before", "new": f"rotated: {', '.join(found.rotate)}"}
        elif found.republish:
            self.changes["join tokens"] = {"old": "another in Consul", "new": "the worker token published"}
