"""
Take this node out of its swarm: drain, demote, wait, publish that, leave, in that order and never by force.

It publishes, in its own key in Consul, that it is in no swarm and which NodeID it had. A node that has left keeps its
entry for ever (moby#24106); the managers remove it in `swarm.nodes_managed`.
"""

from __future__ import annotations

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

    def run(self, test=False):
        """(result, comment); what was done, or with `test` would be, is in `changes`."""
        local, refused = retried(self._look, self.engine, test)
        if refused:
            return False, refused
        before, node = self._published(), self.store.node
        if local.state == "inactive":
            if not before.node_id:
                return True, f"{node} is in no swarm"
            self._withdraw(before, before.node_id, test)
            would = "would say so" if test else "says so now"
            return None if test else True, f"{node} is in no swarm; its key in Consul {would}"
        if local.control and test:
            self._predict_step_down(local)
        elif local.control:
            self._step_down(local)
        self._withdraw(before, local.node_id, test)
        if not test:
            self.engine.leave()
        self.changes["swarm"] = {"old": f"{local.role} of {local.cluster_id}", "new": "inactive"}
        if test:
            order = "be drained, demoted and leave" if local.control else "leave"
            return None, f"{node} would {order} swarm {local.cluster_id}"
        return True, f"{node} has left swarm {local.cluster_id}"

    def _look(self):
        local = self.engine.local()
        if local.leaderless:
            raise SwarmError("no_leader", describe(local))
        if local.state not in ("active", "inactive"):
            return local, f"{self.store.node}: {describe(local)}"
        problem = demotion_problem(self.engine.nodes(), local.node_id) if local.control else ""
        return local, f"{self.store.node} stays in swarm {local.cluster_id}: {problem}" if problem else ""

    def _published(self):
        return self.store.snapshot().published.get(self.store.node) or Published()

    def _withdraw(self, before, node_id, test):
        """Publish that this node is in no swarm and that `node_id` was its own."""
        if not test:
            previous = tuple(dict.fromkeys([*before.previous, node_id]))[-PREVIOUS:]
            self.store.publish(Published(address=before.address, previous=previous))
        if before.role_now or before.node_id:
            self.changes["published"] = {"old": before.role_now or None, "new": None}

    def _predict_step_down(self, local):
        availability = self.engine.find(local.node_id).availability
        if availability != spec.DRAIN:
            self.changes["availability"] = {"old": availability, "new": spec.DRAIN}
        self.changes["role"] = {"old": MANAGER, "new": WORKER}

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
