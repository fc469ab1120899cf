"""Take this node out of its swarm: drain, demote, wait, leave, in that order and never by force."""

from __future__ import annotations

import time

from omega_swarm_docker import MANAGER, WORKER, SwarmError, demotion_problem, describe

POLL = 0.5


class Leaver:
    """One run of `swarm.absent`."""

    def __init__(self, engine, store, drain_timeout=120, demote_timeout=60):
        self.engine, self.store = engine, store
        self.drain_timeout, self.demote_timeout = drain_timeout, demote_timeout
        self.changes = {}

    def predict(self):
        """(result, comment) of test=True; `changes` is what would change. Writes nothing."""
        local, refused = self._look()
        if refused:
            return False, refused
        if local.state == "inactive":
            return self._entry(local)
        self.changes = {"swarm": {"old": f"{local.role} of {local.cluster_id}", "new": "inactive"}}
        order = "be drained, demoted and leave" if local.control else "leave"
        return None, f"{self.store.node} would {order} swarm {local.cluster_id}"

    def _entry(self, _local):
        if self.store.node in (self.store.snapshot().published or {}):
            self.changes = {"published": {"old": "present", "new": "absent"}}
            return None, f"{self.store.node} is in no swarm; its entry in Consul would be deleted"
        return True, f"{self.store.node} is in no swarm"

    def _look(self):
        local = self.engine.local()
        if local.state not in ("active", "inactive") or local.leaderless:
            return local, f"{self.store.node}: {describe(local)}"
        problem = demotion_problem(self.engine.nodes(), local.node_id) if local.control else ""
        return local, f"{self.store.node} stays in swarm {local.cluster_id}: {problem}" if problem else ""

    def run(self):
        """(result, comment); what was done is in `changes`."""
        local, refused = self._look()
        if refused:
            return False, refused
        if local.state == "inactive":
            result, comment = self._entry(local)
            if result is None:
                self.store.withdraw()
                comment = f"{self.store.node} is in no swarm; its entry in Consul was deleted"
            return True, comment
        old = f"{local.role} of {local.cluster_id}"
        if local.control:
            self._step_down(local)
        self.engine.leave()
        self.changes["swarm"] = {"old": old, "new": "inactive"}
        self.store.withdraw()
        return True, f"{self.store.node} has left swarm {local.cluster_id}"

    def _step_down(self, local):
        self.engine.update_node(local.node_id, lambda spec: {**spec, "Availability": "drain"})
        self.changes["availability"] = {"old": "active", "new": "drain"}
        self._until(
            lambda: not self.engine.running_tasks(local.node_id),
            self.drain_timeout,
            "the tasks on this node to move away (see `docker node ps self`)",
        )
        refused = demotion_problem(self.engine.nodes(), local.node_id)
        if refused:
            raise SwarmError("refused", f"drained, but it stays in the swarm: {refused}")
        self.engine.update_node(local.node_id, lambda spec: {**spec, "Role": WORKER})
        self.changes["role"] = {"old": MANAGER, "new": WORKER}
        self._until(lambda: not self.engine.local().control, self.demote_timeout, "the demotion to take effect")

    def _until(self, condition, bound, what):
        end = time.monotonic() + bound
        while not condition():
            if time.monotonic() > end:
                raise SwarmError("refused", f"waited {bound:g} s for {what}; run again")
            time.sleep(POLL)
