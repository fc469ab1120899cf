"""
Stacks: deployed from compose files by the docker CLI, by one manager at a time, and only where something would change.

What would change is known by a rehearsal (omega.swarm.stack.proxy), so drift by hand is seen and test=True is exact.
"""

import tempfile
import time

from omega.consul import lock as consul_lock
from omega.swarm.api import SwarmError, describe
from omega.swarm.record import PREFIX
from omega.swarm.stack import diff, files
from omega.swarm.stack.command import Command
from omega.swarm.stack.tasks import Judge
from omega.swarm.waits import retried, wait

_GONE = {"old": "present", "new": "absent"}
RUNNING = ("pending", "assigned", "accepted", "preparing", "ready", "starting", "running")


class Stack:
    """
    :param engine: omega.swarm.api.Engine
    :param store: omega.swarm.record.Store, for the lock in Consul
    :param name: the stack's name
    """

    def __init__(self, engine, store, name, timeout=300):
        files.check_name(name)
        self.engine, self.store, self.name, self.timeout = engine, store, name, timeout
        self.changes, self.warnings = {}, []
        self._end = time.monotonic() + timeout

    def _refused(self, test):
        """(result, why this node cannot act), None if it can."""
        return retried(lambda: self._problem(test), self.engine, test)

    def _problem(self, test):
        local = self.engine.local()
        if local.leaderless:
            raise SwarmError("no_leader", describe(local))
        if test and local.state != "active":
            return None, f"{self.store.node}: once swarm.member has made it a manager ({describe(local)})"
        if not local.control or local.state != "active":
            return False, f"{self.store.node}: {describe(local)}; stacks are managed on managers"
        return None

    def _lock(self):
        return consul_lock.hold(self.store.client, f"{PREFIX}stacks/{self.name}", self.store.node, wait=self.timeout)

    def _until(self, look, what):
        """Wait until `look()` returns an empty list of clauses."""
        left = wait(lambda: "; ".join(look()), self._end - time.monotonic(), self.engine)
        if left:
            raise SwarmError("refused", f"stack {self.name}: {what} after {self.timeout:g} s: {left}")


class Present(Stack):
    """One run of `swarm.stack`."""

    def __init__(self, engine, store, name, compose, fetch, **options):
        super().__init__(engine, store, name, options.pop("timeout", 300))
        self.compose, self.fetch, self.wait = compose, fetch, options.pop("wait", True)
        self._command = Command(name, **options)

    def run(self, test=False):
        """(result, comment); what was changed, or with `test` would be, is in `changes`."""
        try:
            with tempfile.TemporaryDirectory(prefix="rpiomega-") as folder:  # mode 0700
                return self._run(folder, test)
        finally:
            self.engine.close()

    def _run(self, folder, test):
        refused = self._refused(test)
        if refused:
            return refused
        self._command.lay_out(self.compose, folder, self.fetch)
        planned = self._planned()
        if test:
            self.changes = planned
            return (None, f"stack {self.name} would be deployed") if planned else (True, self._as_wanted(test))
        if planned:
            with self._lock() as lock:
                planned = self._planned()  # another manager may have been faster
                if planned:
                    lock.check()
                    self._deploy(planned)
                    self._look_again()
        if self.wait:
            self._wait(bool(planned))
        return True, f"stack {self.name} was deployed{self._and_runs()}" if self.changes else self._as_wanted(test)

    def _deploy(self, planned):
        try:
            self._command.deploy(self.engine.base_url)
        except SwarmError as error:
            self.changes = self._done(planned)
            went_on = f" (done before: {', '.join(sorted(self.changes))}; it stays)" if self.changes else ""
            raise SwarmError(error.kind, f"{error}{went_on}") from None
        self.changes = planned

    def _done(self, planned):
        """What of a deployment that failed was done: what would not be done by another one."""
        try:
            left = retried(self._planned, self.engine)
        except SwarmError as error:
            self.warnings.append(f"stack {self.name}: what was done before the failure cannot be read: {error}")
            return {}
        return {name: change for name, change in planned.items() if left.get(name) != change}

    def _wait(self, deployed):
        judge = Judge(self.engine, self.name, deployed)
        self._until(judge.unfinished, "not all services run")
        self.warnings += judge.remarks

    def _and_runs(self):
        return ", all its services run" if self.wait else ""

    def _as_wanted(self, test):
        if not test:
            return f"stack {self.name} is as wanted{self._and_runs()}"
        judge = Judge(self.engine, self.name, False)
        left = judge.unfinished()
        self.warnings += judge.remarks
        return f"stack {self.name} is as wanted" + (f", but: {'; '.join(left)}" if left else "")

    def _planned(self):
        noted, warnings = self._command.rehearse(self.engine)
        self.warnings += [clause for clause in warnings if clause not in self.warnings]
        return self._command.hidden(diff.planned(noted, self.engine))

    def _look_again(self):
        left = self._planned()
        if left:
            fields = sorted({f"{name}: {field}" for name, changed in left.items() for field in changed})
            self.warnings.append(
                f"stack {self.name}: the engine shows other values than were sent, so each run deploys again: "
                + "; ".join(fields)
            )


class Absent(Stack):
    """One run of `swarm.stack_absent`: services first, then what they used, then until no task is left."""

    def run(self, test=False):
        """(result, comment); what was removed, or with `test` would be, is in `changes`."""
        try:
            return self._run(test)
        finally:
            self.engine.close()

    def _run(self, test):
        refused = self._refused(test)
        if refused:
            return refused
        there = self._there()
        if not there:
            return True, f"there is no stack {self.name}"
        if test:
            self.changes = dict.fromkeys(there, _GONE)
            return None, f"stack {self.name} would be removed"
        with self._lock():
            self._until(self._remove, "still there")
        return True, f"stack {self.name} was removed"

    def _there(self):
        """{"service web_app": (kind, ID)} of all that carries the stack's label."""
        found = {}
        for kind in ("services", "secrets", "configs", "networks"):
            for item in self.engine.listed(kind, {"label": f"{diff.NAMESPACE}={self.name}"}):
                name = item.get("Name") or item["Spec"]["Name"]
                found[f"{kind[:-1]} {name}"] = (kind, item.get("ID") or item["Id"])
        return found

    def _remove(self):
        """Remove what is left; return clauses on what is there still. A network goes when its last task has."""
        left = []
        for name, (kind, identity) in self._there().items():
            try:
                self.engine.remove(kind, identity)
                self.changes[name] = _GONE
            except SwarmError as error:
                if error.kind != "not_found":
                    left.append(f"{name} ({error})")
        tasks = self.engine.listed("tasks", {"label": f"{diff.NAMESPACE}={self.name}"})
        # The engine lets the task of a job go on to its end (measured on 20.10).
        running = [task for task in tasks if task["Status"]["State"] in RUNNING and task["DesiredState"] != "complete"]
        return left + ([f"{len(running)} of its tasks have not ended"] if running else [])
