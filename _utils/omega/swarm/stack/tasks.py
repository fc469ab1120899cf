"""
Whether the services of a stack run as their specs say, judged by their tasks.

The engine's own count (`docker service ls`) is of no use for a global service: it counts the tasks that are to run at
this moment, which are none while all of them wait to be started again, so it says 0/0 (measured on 20.10).
"""

import datetime
import time

from omega.swarm.api import Node, SwarmError
from omega.swarm.stack import hints
from omega.swarm.stack.diff import NAMESPACE

YOUNG = 10  # seconds in which a global service without any task may still get some
SETTLE = 5  # seconds that a task of a new deployment has to run; `docker service create` watches as long
HORIZON = 60  # seconds; a task that failed after a longer life is no sign of a service that fails again and again
UPDATING = ("updating", "rollback_started")
STOPPED = ("paused", "rollback_paused")
LIVE = ("new", "pending", "assigned", "accepted", "preparing", "ready", "starting", "running")
FAILED = ("failed", "rejected")


class Judge:
    """
    :param engine: omega.swarm.api.Engine of a manager
    :param stack: the stack's name
    :param deployed: this run has deployed it: an update that was rolled back is this one, and tasks have to run a while

    `remarks`: what the last look found that is no failure, a clause each.
    """

    def __init__(self, engine, stack, deployed):
        self._engine, self._stack, self._deployed = engine, stack, deployed
        self._since = {}  # task ID: when this object saw it run first
        self.remarks = []

    def unfinished(self):
        """
        Return one clause for each service that does not run as its spec says.

        :raises SwarmError: "refused" if the engine stopped an update or rolled it back
        """
        label = {"label": f"{NAMESPACE}={self._stack}"}
        nodes = {node.id: node for node in map(Node.of, self._engine.raw_nodes())}
        tasks = self._engine.listed("tasks", label)
        self.remarks, found = [], []
        for attrs in self._engine.listed("services", label, status=True):
            own = [task for task in tasks if task["ServiceID"] == attrs["ID"]]
            found += self._judge(_Service(attrs, own, nodes))
        return found

    def _judge(self, service):
        state = service.update
        if state in STOPPED or (self._deployed and state == "rollback_completed"):
            raise SwarmError(
                "refused",
                f"service {service.name}: the engine reports its update as {state}: {service.said or '?'}"
                f"{service.why()}",
            )
        runs, wanted, starting = getattr(self, f"_{service.mode}")(service)
        if runs < wanted or state in UPDATING or starting:
            yield f"{service.name}: {runs} of {wanted} tasks run{service.why()}"

    def _replicated(self, service):
        given = service.detail.get("Replicas")
        return self._count(service.places().values(), service), 1 if given is None else given, False

    def _global(self, service):
        places = service.places()
        wanted = [tasks for node, tasks in places.items() if service.wants(node, tasks)]
        made = any(service.current(task) for tasks in places.values() for task in tasks)
        starting = not made and service.age() < YOUNG
        if not wanted and not starting and not any(self._fine(tasks, service) for tasks in places.values()):
            meets = f" and meets its constraints ({', '.join(service.constraints)})" if service.constraints else ""
            self.remarks.append(
                f"service {service.name} runs on no node: none is ready and active{meets}; see `docker node ls`"
            )
        return self._count(wanted, service), len(wanted), starting

    def _replicatedjob(self, service):
        total = service.detail.get("TotalCompletions") or 1
        places = service.places()
        bad = [tasks for tasks in places.values() if not self._fine(tasks, service)]
        # Of a job with many runs only some go on at a time; which have been, the engine may have forgotten.
        fine = min(total, service.completed + len(places) - len(bad))
        return (fine, total, False) if bad or not fine else (total, total, False)

    def _globaljob(self, service):
        places = [tasks for node, tasks in service.places().items() if service.answers(node)]
        return self._count(places, service), len(places), not places and service.age() < YOUNG

    def _count(self, places, service):
        return len([tasks for tasks in places if self._fine(tasks, service)])

    def _fine(self, tasks, service):
        """One of the tasks at a place runs and goes on, or the last has done what it was to do."""
        live = [task for task in tasks if service.current(task) and task["DesiredState"] in ("running", "complete")]
        if any(self._goes_on(task, tasks, service) for task in live if task["Status"]["State"] == "running"):
            return True
        last = max(tasks, key=_created)
        return service.current(last) and last["Status"]["State"] == "complete" and service.ends(tasks)

    def _goes_on(self, task, tasks, service):
        """Whether a task that runs is older than those before it that failed; twice, for starts differ in length."""
        watched = time.monotonic() - self._since.setdefault(task["ID"], time.monotonic())
        if self._deployed and watched < SETTLE and not service.is_job:
            return False
        lives = [_life(other) for other in tasks if service.current(other) and service.failed(other)]
        longest = max([life for life in lives if life < HORIZON], default=None)
        need = 0 if longest is None else min(HORIZON, 2 * longest + SETTLE)
        return max(watched, _seconds_since(task["CreatedAt"])) >= need


class _Service:
    """A service with its tasks. nodes: {NodeID: Node} of the swarm."""

    def __init__(self, attrs, tasks, nodes):
        spec, update = attrs["Spec"], attrs.get("UpdateStatus") or {}
        self.name, self._attrs, self._tasks, self._nodes = spec["Name"], attrs, tasks, nodes
        self.update, self.said = update.get("State") or "", update.get("Message")
        mode = next(iter(spec.get("Mode") or {"Replicated": {}}))
        self.mode, self.detail = mode.lower(), (spec.get("Mode") or {}).get(mode) or {}
        self.is_job = self.mode.endswith("job")
        self.completed = (attrs.get("ServiceStatus") or {}).get("CompletedTasks") or 0
        self._template = _without_runtime(spec["TaskTemplate"])
        self.constraints = (spec["TaskTemplate"].get("Placement") or {}).get("Constraints") or []
        self._restart = spec["TaskTemplate"].get("RestartPolicy") or {}

    def places(self):
        """{slot, or NodeID of what runs on each node: its tasks}; of a job those of its last start."""
        found: dict = {}
        start = _index((self._attrs.get("JobStatus") or {}).get("JobIteration"))
        for task in self._tasks:
            if self.is_job and _index(task.get("JobIteration")) != start:
                continue
            key = task.get("NodeID") if self.mode.startswith("global") else task.get("Slot") or 0
            found.setdefault(key, []).append(task)
        return found

    def current(self, task):
        """Whether a task was made of the spec that the service has now."""
        return _without_runtime(task["Spec"]) == self._template

    def wants(self, node_id, tasks):
        """Whether this service, which is global, is to run on a node: by what the engine has made of it there."""
        node = self._nodes.get(node_id)
        if not self.answers(node_id) or node.availability == "drain":
            return False
        if any(map(_is_live, tasks)):
            return True
        last = max(tasks, key=_created)
        state = last["Status"]["State"]
        # A paused node gets no new tasks; where a constraint took the node away the last task was shut down.
        return node.availability == "active" and self.current(last) and (state in FAILED or state == "complete")

    def answers(self, node_id):
        """Whether a node is in the swarm and ready."""
        node = self._nodes.get(node_id)
        return node is not None and node.ready

    @property
    def may_end(self):
        """Whether a task of this service may end with exit code 0."""
        return self.is_job or self._restart.get("Condition") in ("none", "on-failure")

    def ends(self, tasks):
        """Whether a task of this service may end, and no other was made in its place."""
        return self.may_end and not any(map(_is_live, tasks))

    def failed(self, task):
        """Whether a task ended and should not have. One that was shut down was asked to."""
        state = task["Status"]["State"]
        return state in FAILED or (state == "complete" and not self.may_end)

    def age(self):
        """Seconds since the service was changed."""
        return _seconds_since(self._attrs.get("UpdatedAt") or self._attrs["CreatedAt"])

    def why(self):
        """The last error of the service's tasks with the next step, as a clause to append."""
        ended = [task for task in self._tasks if task["Status"].get("Err") or self.failed(task)]
        now = [task for task in ended if self.current(task)] or ended
        if not now:
            return ""
        last = max(now, key=lambda task: task["Status"].get("Timestamp") or "")
        error = " ".join((last["Status"].get("Err") or "").split())
        node = self._nodes.get(last.get("NodeID"))
        where = f" on {node.hostname or node.id}" if node else ""
        if not error:
            step = "correct `command` so that it goes on, or set `restart_policy: {condition: none}`"
            return f", the last task{where} ended with exit code 0 ({step})"
        cure = hints.of_task(error, (node.hostname or node.id) if node else "", self.name)
        gone = "" if any(map(_is_live, self._tasks)) else ", and none is started again"
        return f", last error{where}: {error}{gone} ({cure})"


def _is_live(task):
    """Whether the managers want a task to run, or have yet to see that it ended."""
    wanted = task["DesiredState"]
    return wanted in LIVE or (wanted == "complete" and task["Status"]["State"] != "complete")


def _without_runtime(template):
    return {key: value for key, value in template.items() if key != "Runtime"}


def _index(version):
    return (version or {}).get("Index") or 0


def _created(task):
    return _time(task["CreatedAt"])


def _life(task):
    """Seconds from when the managers made a task until it ended."""
    return (_time(task["Status"]["Timestamp"]) - _time(task["CreatedAt"])).total_seconds()


def _time(stamp):
    whole, _, fraction = stamp.rstrip("Z").partition(".")
    then = datetime.datetime.strptime(whole, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=datetime.timezone.utc)
    return then + datetime.timedelta(microseconds=int(fraction[:6].ljust(6, "0") if fraction else 0))


def _seconds_since(stamp):
    return (datetime.datetime.now(datetime.timezone.utc) - _time(stamp)).total_seconds()
