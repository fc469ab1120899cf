"""Whether the services of a stack run as their specs say."""

import datetime

from omega.swarm.api import SwarmError
from omega.swarm.stack.diff import NAMESPACE

YOUNG = 10  # seconds in which a global service without any task may still get some
UPDATING = ("updating", "rollback_started")
FAILED = ("paused", "rollback_paused")


def unfinished(engine, stack, deployed):
    """
    Return one clause for each service that does not run as its spec says. Jobs are not looked at.

    :param deployed: this run has deployed it, so an update that was rolled back is this one
    :raises SwarmError: "refused" if the engine stopped an update or rolled it back
    """
    label = {"label": f"{NAMESPACE}={stack}"}
    tasks = engine.listed("tasks", label)
    found = []
    for service in engine.listed("services", label, status=True):
        spec, update = service["Spec"], service.get("UpdateStatus") or {}
        state = update.get("State") or ""
        if state in FAILED or (deployed and state == "rollback_completed"):
            raise SwarmError(
                "refused",
                f"service {spec['Name']}: the engine reports its update as {state}: {update.get('Message') or '?'}"
                f"{_why(service, tasks)}",
            )
        if not {"Replicated", "Global"} & set(spec.get("Mode") or {}):
            continue
        own = [task for task in tasks if task["ServiceID"] == service["ID"]]
        running = len([task for task in own if _runs(task, spec)])
        desired = (service.get("ServiceStatus") or {}).get("DesiredTasks") or 0
        starting = "Global" in spec["Mode"] and not own and _age(service) < YOUNG
        if running < desired or state in UPDATING or starting:
            found.append(f"{spec['Name']}: {running} of {desired} tasks run{_why(service, tasks)}")
    return found


def _runs(task, spec):
    wanted = {key: value for key, value in spec["TaskTemplate"].items() if key != "Runtime"}
    has = {key: value for key, value in task["Spec"].items() if key != "Runtime"}
    return (
        task.get("DesiredState") == "running"
        and (task.get("Status") or {}).get("State") == "running"
        and has == wanted
    )  # fmt: skip


def _why(service, tasks):
    """The last error of a service's tasks, as a clause to append."""
    failed = [task for task in tasks if task["ServiceID"] == service["ID"] and (task["Status"].get("Err") or "")]
    if not failed:
        return ""
    last = max(failed, key=lambda task: task["Status"].get("Timestamp") or "")
    return f", last error: {' '.join(last['Status']['Err'].split())}"


def _age(service):
    stamp = (service.get("UpdatedAt") or service["CreatedAt"])[:19]
    then = datetime.datetime.strptime(stamp, "%Y-%m-%dT%H:%M:%S").replace(tzinfo=datetime.timezone.utc)
    return (datetime.datetime.now(datetime.timezone.utc) - then).total_seconds()
