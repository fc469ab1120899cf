"""
Take this node out of its swarm: drain, demote, wait, publish that, leave, in that order and never by force.

It publishes, in its own key in Consul, that it is in no swarm and which NodeID it had. A node that has left keeps its
entry for ever (moby#24106); the managers remove it in `swarm.nodes_managed`.
"""

from __future__ import annotations

from dataclasses import replace

from omega.swarm.api import MANAGER, WORKER, SwarmError, demotion_problem, describe
from omega.swarm.member.plan import PREVIOUS
from omega.swarm.nodes import labels as spec
from omega.swarm.record import Published
from omega.swarm.waits import retried, wait


class Leaver:
    """One run of `swarm.absent`."""

    def __init__(self, engine, store, drain_timeout=120, demote_timeout=60):
        self.engine, self.store = engine, store
        self.drain_timeout, self.demote_timeout = drain_timeout, demote_timeout
        self.changes, self.warnings = {}, []

    def predict(self):
        """(result, comment) of test=True; `changes` is what would change. Writes nothing."""
        local, refused = retried(self._look, self.engine, test=True)
        if refused:
            return False, refused
        said = self._published()
        if local.state == "inactive":
            if not said.node_id:
                return True, f"{self.store.node} is in no swarm"
            self._withdrawn(said)
            return None, f"{self.store.node} is in no swarm; its key in Consul would say so"
        if local.control and self._availability(local) != spec.DRAIN:
            self.changes["availability"] = {"old": self._availability(local), "new": spec.DRAIN}
        if local.control:
            self.changes["role"] = {"old": MANAGER, "new": WORKER}
        self._withdrawn(said)
        self.changes["swarm"] = {"old": f"{local.role} of {local.cluster_id}", "new": "inactive"}
        order = "be drained, demoted and leave" if local.control else "leave"
        return None, f"{self.store.node} would {order} swarm {local.cluster_id}"

    def run(self, test=False):
        """(result, comment); what was done, or with `test` would be, is in `changes`."""
        if test:
            return self.predict()
        local, refused = retried(self._look, self.engine)
        if refused:
            return False, refused
        said = self._published()
        if local.state == "inactive":
            if not said.node_id:
                return True, f"{self.store.node} is in no swarm"
            self._withdraw(said, said.node_id)
            return True, f"{self.store.node} is in no swarm; its key in Consul says so now"
        if local.control:
            self._step_down(local)
        self._withdraw(said, local.node_id)
        self.engine.leave()
        self.changes["swarm"] = {"old": f"{local.role} of {local.cluster_id}", "new": "inactive"}
        return True, f"{self.store.node} has left swarm {local.cluster_id}"

    def _look(self):
        local = self.engine.local()
        if local.leaderless:
            raise SwarmError("no_leader", describe(local))
        if local.state not in ("active", "inactive"):
            return local, f"{self.store.node}: {describe(local)}"
        problem = demotion_problem(self.engine.nodes(), local.node_id) if local.control else ""
        return local, f"{self.store.node} stays in swarm {local.cluster_id}: {problem}" if problem else ""

    def _published(self):
        return (self.store.snapshot().published or {}).get(self.store.node) or Published()

    def _availability(self, local):
        return self.engine.find(local.node_id).availability

    def _withdraw(self, said, node_id):
        """Publish that this node is in no swarm and that `node_id` was its own."""
        previous = tuple(dict.fromkeys([*said.previous, node_id]))[-PREVIOUS:]
        self.store.publish(replace(Published(address=said.address), previous=previous))
        self._withdrawn(said)

    def _withdrawn(self, said):
        if said.role_now or said.node_id:
            self.changes["published"] = {"old": said.role_now or None, "new": None}

    def _step_down(self, local):
        before, after = self.engine.update_node(local.node_id, spec.holding(spec.DRAIN))
        if before is not after:
            self.changes["availability"] = {"old": before["Availability"], "new": spec.DRAIN}
        self._until(
            lambda: ", ".join(self.engine.running_tasks(local.node_id)),
            self.drain_timeout,
            "the tasks on this node to move away (see `docker node ps self`)",
        )
        refused = demotion_problem(self.engine.nodes(), local.node_id)
        if refused:
            raise SwarmError("refused", f"drained, but it stays in the swarm: {refused}")
        self.engine.update_node(local.node_id, lambda spec: {**spec, "Role": WORKER})
        self.changes["role"] = {"old": MANAGER, "new": WORKER}
        # The engine stops being a manager after it has left the Raft membership (swarmkit: manager/role_manager.go).
        self._until(
            lambda: "still a manager" if self.engine.local().control else "",
            self.demote_timeout,
            "the demotion to take effect",
        )

    def _until(self, look, bound, what):
        last = wait(look, bound, self.engine)
        if last:
            raise SwarmError("refused", f"waited {bound:g} s for {what}: {last}; run again")
