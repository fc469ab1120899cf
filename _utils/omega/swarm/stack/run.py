"""
Stacks: deployed from compose files by the docker CLI, by one manager at a time, and only where something would change.

What would change is known by a rehearsal (omega.swarm.stack.proxy), so drift by hand is seen and test=True is exact.
"""

import os
import shutil
import subprocess
import tempfile
import time

from omega.consul import lock as consul_lock
from omega.swarm.api import SwarmError, describe
from omega.swarm.record import PREFIX
from omega.swarm.stack import diff, files
from omega.swarm.stack.proxy import rehearsal
from omega.swarm.stack.tasks import unfinished
from omega.swarm.waits import retried, wait

CLI_BOUND = 300  # seconds; asking a registry for digests may take long
RESOLVE = ("always", "changed", "never")
_GONE = {"old": "present", "new": "absent"}
# What releases from 26 on say of every deployment, whatever is wrong with it.
_CHATTER = ("Since --detach=false was not specified", "In a future release, --detach=false")
RUNNING = ("pending", "assigned", "accepted", "preparing", "ready", "starting", "running")


def failure(said):
    """Return in one line what the docker command said of a failure, without its remarks on itself."""
    return " ".join(" ".join(line for line in said.splitlines() if not line.startswith(_CHATTER)).split())


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

    def __init__(self, engine, store, name, compose, cache, **options):
        super().__init__(engine, store, name, options.pop("timeout", 300))
        self.compose, self.cache = compose, cache
        self.env = {str(key): "" if value is None else str(value) for key, value in (options.pop("env") or {}).items()}
        self.prune, self.auth = options.pop("prune", False), options.pop("with_registry_auth", False)
        self.resolve_image, self.wait = options.pop("resolve_image", "changed"), options.pop("wait", True)
        self.binary, self.home = options.pop("docker", "docker"), options.pop("home", "/root")
        if self.resolve_image not in RESOLVE:
            raise SwarmError("refused", f"resolve_image {self.resolve_image!r}: must be one of {', '.join(RESOLVE)}")

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
        paths = files.prepare(self.compose, folder, self.cache)
        planned = self._planned(paths)
        if test:
            self.changes = planned
            return (None, f"stack {self.name} would be deployed") if planned else (True, self._as_wanted(test))
        if planned:
            with self._lock() as lock:
                planned = self._planned(paths)  # another manager may have been faster
                if planned:
                    lock.check()
                    self._cli(self.engine.base_url, paths)
                    self.changes = planned
                    self._look_again(paths)
        if self.wait:
            self._until(lambda: unfinished(self.engine, self.name, bool(planned)), "not all services run")
        return True, f"stack {self.name} was deployed{self._and_runs()}" if self.changes else self._as_wanted(test)

    def _and_runs(self):
        return ", all its services run" if self.wait else ""

    def _as_wanted(self, test):
        if not test:
            return f"stack {self.name} is as wanted{self._and_runs()}"
        left = unfinished(self.engine, self.name, False)
        return f"stack {self.name} is as wanted" + (f", but: {'; '.join(left)}" if left else "")

    def _planned(self, paths):
        with rehearsal(self.engine.base_url) as (address, noted, unknown):
            try:
                self._cli(address, paths)
            except SwarmError:
                if unknown:
                    raise SwarmError(
                        "refused",
                        f"stack {self.name}: this docker CLI sends {', '.join(unknown)}, which cannot be rehearsed",
                    ) from None
                raise
            return self._redacted(diff.planned(noted, self.engine))

    def _look_again(self, paths):
        left = self._planned(paths)
        if left:
            fields = sorted({f"{name}: {field}" for name, changed in left.items() for field in changed})
            self.warnings.append(
                f"stack {self.name}: the engine shows other values than were sent, so each run deploys again: "
                + "; ".join(fields)
            )

    def _cli(self, address, paths):
        """Run `docker stack deploy`. Values of env go by its environment, which only root can read."""
        binary = shutil.which(self.binary)
        if not binary:
            raise SwarmError("refused", f"{self.binary} is not installed: apply the state docker")
        argv = [binary, "stack", "deploy", "--resolve-image", self.resolve_image]
        argv += ["--prune"] if self.prune else []
        argv += ["--with-registry-auth"] if self.auth else []
        for path in paths:
            argv += ["--compose-file", path]
        own = {"PATH": os.environ.get("PATH", os.defpath), "HOME": self.home, "DOCKER_HOST": address}
        try:
            done = subprocess.run(
                [*argv, self.name],
                env={**self.env, **own},
                capture_output=True,
                text=True,
                timeout=CLI_BOUND,
                check=False,
                stdin=subprocess.DEVNULL,
            )
        except subprocess.TimeoutExpired:
            raise SwarmError("timeout", f"stack {self.name}: docker stack deploy took over {CLI_BOUND} s") from None
        if done.returncode:
            said = failure(done.stderr or done.stdout)
            raise SwarmError("refused", f"stack {self.name}: docker stack deploy: {self._hidden(said)}")

    # -- values of `env` are kept out of everything that is returned ------------------------------------------

    def _hidden(self, text):
        for value in sorted(self.env.values(), key=len, reverse=True):
            if len(value) > 3:
                text = text.replace(value, diff.HIDDEN)
        return text

    def _redacted(self, value):
        if isinstance(value, dict):
            return {key: self._redacted(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._redacted(item) for item in value]
        return self._hidden(value) if isinstance(value, str) else value


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
