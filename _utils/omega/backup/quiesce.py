"""
Pauses containers while their volumes are read, and undoes exactly that, whatever ends the run.

The journal has the containers before the first of them is paused, so after `kill -9` the next `release` finds them. One
that its owner had paused before is not in it and stays paused. A paused container of a swarm is not replaced: the
engine runs no health check meanwhile (moby daemon/health.go: a monitor runs while Running and not Paused).
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from omega.backup.facts import Container
from omega.core import files
from omega.core.polling import TimedOut, until
from omega.docker.engine import EngineError, asking

FREEZE_BOUND = 15  # seconds for the pause of one container
_CURE = "see `docker ps` and `journalctl -u docker`"


@dataclass
class Paused:
    """What was paused: names of containers, seconds from before the first pause until after the last unpause."""

    names: list[str] = field(default_factory=list)
    gone: list[str] = field(default_factory=list)  # ended or removed since they were looked at
    owners: list[str] = field(default_factory=list)  # paused by their owner before, and still
    seconds: float = 0.0
    problem: str = ""  # why the data was not at rest all the time, "" if it was


@contextlib.contextmanager
def paused(client: Any, containers: Sequence[Container], journal: str, run: str) -> Iterator[Paused]:
    """Pause the running ones of `containers` for the body of this block; yield a Paused, complete after it.

    :param client: Docker SDK client
    :param journal: path of the journal
    :param run: the ID of this run, for the journal
    :raises EngineError: a container could not be paused (all are unpaused again), or not unpaused (it stays in the
        journal, and the next `release` tries again)
    """
    left = release(client, journal)[1] if pending(journal) else []
    if left:
        raise EngineError("; ".join(left), _CURE)
    result = Paused()
    ours = []
    for item in containers:
        state = _state(client, item.id)
        if state == "paused":
            result.owners.append(item.name)
        elif state in ("running", "restarting"):
            ours.append(item)
        else:
            result.gone.append(item.name)
    _write(journal, run, ours)
    began = time.monotonic()
    try:
        for item in ours:
            outcome = _pause(client, item)
            if outcome == "paused":
                result.names.append(item.name)
                continue
            (result.owners if outcome == "owner" else result.gone).append(item.name)
            ours = [other for other in ours if other is not item]
            _write(journal, run, ours)
        yield result
        result.problem = _disturbed(client, ours, containers)
    finally:
        left = release(client, journal)[1]
        result.seconds = round(time.monotonic() - began, 2) if result.names else 0.0
    if left:
        raise EngineError("; ".join(left), _CURE)


def release(client: Any, journal: str) -> tuple[list[str], list[str]]:
    """Unpause the containers of the journal; return (names unpaused, problems). One that is gone needs nothing.

    :param client: Docker SDK client
    :param journal: path of the journal; removed when nothing is left in it
    """
    noted = _read(journal)
    done, problems, left = [], [], []
    for item in noted:
        try:
            if _unpause(client, item["id"]):
                done.append(item["name"])
        except EngineError as error:
            problems.append(str(error))
            left.append(item)
    if left:
        files.write(journal, json.dumps({"version": 1, "run": "", "containers": left}), 0o600)
    else:
        files.remove(journal)
    return done, problems


def orphaned(journal: str) -> bool:
    """Return whether the journal has containers, and the process that paused them has ended."""
    try:
        noted = json.loads(files.read(journal) or "null") or {}
        return bool(noted.get("containers")) and not _lives(noted.get("pid", 0), noted.get("began", ""))
    except (ValueError, LookupError, TypeError, AttributeError):
        return False


def _lives(pid: int, began: str) -> bool:
    return bool(began) and began == _began(pid)


def _began(pid: int) -> str:
    """Return when a process was started (proc_pid_stat(5), field 22), "" if there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            state, *rest = file.read().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if state in "ZX" else rest[18]


def pending(journal: str) -> list[str]:
    """Return the names of the containers that the journal has."""
    return [item["name"] for item in _read(journal)]


def _read(journal: str) -> list[dict]:
    text = files.read(journal)
    try:
        return list(json.loads(text)["containers"]) if text else []
    except (ValueError, LookupError, TypeError):
        return []  # it is written whole or not at all, so this is nothing of ours


def _write(journal: str, run: str, containers: Sequence[Container]) -> None:
    """Write the journal so that it is there after `kill -9`: whole, synchronised, in one rename."""
    noted = [{"id": item.id, "name": item.name} for item in containers]
    whose = {"pid": os.getpid(), "began": _began(os.getpid())}
    files.write(journal, json.dumps({"version": 1, "run": run, **whose, "containers": noted}), 0o600)


def _state(client: Any, container: str) -> str:
    """Return the container's status, "gone" if there is none."""
    import docker

    with asking(f"container {container[:12]} cannot be inspected", _CURE):
        try:
            return str(client.api.inspect_container(container)["State"]["Status"])
        except docker.errors.NotFound:
            return "gone"


def _pause(client: Any, item: Container) -> str:
    """Pause; return paused, owner (somebody else paused it since it was looked at) or gone.

    A busy container may refuse at first: with cgroup v1 runc gives up after some tries (opencontainers/runc,
    cgroups/fs/freezer.go: "unable to freeze"), and has then thawed it.
    """
    return str(until(lambda: _pause_once(client, item), FREEZE_BOUND, passing=_busy, pause=0.2, failure=_last))


def _busy(error: BaseException) -> bool:
    return isinstance(error, EngineError) and "unable to freeze" in error.cause


def _last(late: TimedOut) -> BaseException | None:
    return late.error


def _pause_once(client: Any, item: Container) -> str:
    import docker

    with asking(f"container {item.name} cannot be paused", _CURE):
        try:
            client.api.pause(item.id)
            return "paused"
        except docker.errors.NotFound:
            return "gone"
        except docker.errors.APIError as error:
            if error.status_code != 409:
                raise
            # A conflict: it runs no more, or is paused already (moby daemon/pause.go).
            state = _state(client, item.id)
            if state in ("running", "restarting"):
                raise
            return "owner" if state == "paused" else "gone"


def _unpause(client: Any, container: str) -> bool:
    import docker

    with asking(f"container {container[:12]} cannot be unpaused", f"`docker unpause {container[:12]}`"):
        try:
            if client.api.inspect_container(container)["State"]["Status"] != "paused":
                return False
            client.api.unpause(container)
            return True
        except docker.errors.NotFound:
            return False
        except docker.errors.APIError:
            if _state(client, container) == "paused":
                raise
            return False  # unpaused or ended by somebody else meanwhile


def _disturbed(client: Any, ours: Sequence[Container], known: Sequence[Container]) -> str:
    """Return which container may have written meanwhile: one that was unpaused, or a new one of the same volumes."""
    for item in ours:
        state = _state(client, item.id)
        if state == "running":
            return f"container {item.name} was unpaused by somebody else before its data was read"
    volumes = {volume for item in known for volume in item.volumes}
    with asking("the containers cannot be listed", _CURE):
        for row in client.api.containers():
            used = {mount.get("Name") for mount in row.get("Mounts") or [] if mount.get("Type") == "volume"}
            if row["State"] == "running" and used & volumes:
                name = (row.get("Names") or [row["Id"][:12]])[0].lstrip("/")
                return f"container {name} wrote to the same volume, while the others were paused"
    return ""
