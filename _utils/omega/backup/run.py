"""One run: everything that this node has to save, group by group; a failure of one does not keep the others."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterator
from dataclasses import replace
from typing import Any

from omega.backup import facts as node_facts
from omega.backup import pick, plan, quiesce, restic, save, state
from omega.backup.progress import Progress
from omega.backup.restic_errors import ResticError
from omega.backup.settings import Places, Settings
from omega.core import clock, files, polling
from omega.core.errors import Failure, line
from omega.docker import engine

CLOCK_BOUND = 180  # seconds until the clock is synchronised: after a boot without a network it is years behind
# After one of these no other group can be saved either.
_FATAL = frozenset({"unreachable", "denied", "wrong_password", "no_repository", "capped", "clock", "missing", "busy"})
_DUMP_SILENCE = 3600  # seconds that a dump command may print nothing


def run(
    places: Places,
    settings: Settings,
    repository: restic.Repository,
    only: Collection[str] = (),
    consul_snapshot: Callable[[str], Any] | None = None,
    synchronised: Callable[[], bool | None] = clock.synchronised,
    clock_bound: float = CLOCK_BOUND,
) -> dict[str, Any]:
    """Save this node and return the report, which is `last` of the state file, too.

    :param only: names of groups; empty: all
    :param consul_snapshot: takes a folder and writes a snapshot of Consul into it
    :param synchronised: returns whether the clock is right, None if nothing says so
    :param clock_bound: seconds to wait for that
    :raises ResticError: locked: another run works, and the state file stays as it is
    """
    places.make()
    with locked(places):
        state.interrupted(places.report)
        name = time.strftime("%Y%m%dT%H%M%SZ-", time.gmtime()) + secrets.token_hex(3)
        state.begin(places.report, name, repository.url)
        _ping(settings, "/start")
        report: dict[str, Any] = {"id": name, "started": int(time.time()), "ok": False, "cause": "", "cure": ""}
        report.update(groups=[], skipped=[])
        progress = Progress(places.progress, name)
        try:
            _all(
                save.Context(name, settings, places, repository, progress),
                report,
                only,
                consul_snapshot,
                synchronised,
                clock_bound,
            )
        except (Failure, OSError) as error:
            _fail(report, error)
        except BaseException as error:  # a signal, or a defect: what was saved before is no whole run
            report["cause"] = f"interrupted: the run was ended by {type(error).__name__}"
            report["cure"] = "see `journalctl -u rpiomega-backup`; the next run begins afresh"
            raise
        finally:
            report["ended"] = int(time.time())
            failed = [item for item in report["groups"] if not item["ok"]]
            if failed and not report["cause"]:
                report["cause"] = "; ".join(f"{item['name']}: {item['cause']}" for item in failed)
                report["cure"] = failed[0].get("cure", "")
            report["ok"] = not report["cause"] and bool(report["groups"])
            state.end(places.report, report, whole=not only)
            progress.close()
        _ping(settings, "" if report["ok"] else "/fail")
        return report


@contextlib.contextmanager
def locked(places: Places) -> Iterator[None]:
    """Hold the lock of runs for the body of this block; the kernel frees it when the process ends, however it ends.

    :raises ResticError: locked: another process has it
    """
    cure = "wait for it: `salt-call --local backup.status` shows what it does"
    held = ResticError("locked", "another backup, a restore or a drill of this node is running", cure)
    with open(places.lock, "a", encoding="utf-8") as file:
        files.lock(file, 0, lambda late: held)
        yield


def release(places: Places, settings: Settings) -> dict[str, Any]:
    """Undo what a run that was ended left: unpause its containers, report it as interrupted.

    :return: ``{"unpaused": names, "problems": texts, "interrupted": bool}``
    :raises ResticError: locked: a run is working
    :raises omega.docker.engine.EngineError: containers are paused, and no engine answers
    """
    places.make()
    try:
        with locked(places):
            return _released(places, settings)
    except ResticError:
        # A drill that waited for this run has the lock now, for hours: what the run paused is resumed all the same.
        if not quiesce.orphaned(places.quiesced):
            raise
        names, problems = _unpaused(places, settings)
        return {"unpaused": names, "problems": problems, "interrupted": False}


def _unpaused(places: Places, settings: Settings) -> tuple[list[str], list[str]]:
    if not quiesce.pending(places.quiesced):
        return [], []
    client = engine.connect(settings.docker_url)
    try:
        return quiesce.release(client, places.quiesced)
    finally:
        client.close()


def _released(places: Places, settings: Settings) -> dict[str, Any]:
    names, problems = _unpaused(places, settings)
    shutil.rmtree(os.path.join(places.state, "dumps"), ignore_errors=True)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(places.progress)
    return {"unpaused": names, "problems": problems, "interrupted": state.interrupted(places.report)}


def look(places: Places, settings: Settings) -> tuple[plan.Plan, Any]:
    """Return the plan of this node as it is now, and the Docker SDK client (None without an engine) to close."""
    client, problem = _engine(settings)
    found = node_facts.read(client, plan.own_paths(settings), problem)
    before = state.read(places.report).get("files", {})
    return plan.plan(found, settings, before), client


def _all(
    context: save.Context,
    report: dict[str, Any],
    only: Collection[str],
    consul_snapshot: Callable[[str], Any] | None,
    synchronised: Callable[[], bool | None],
    clock_bound: float,
) -> None:
    places, settings = context.places, context.settings
    _unpaused(places, settings)
    context.progress.at("clock")
    _right_time(synchronised, clock_bound)
    state.first(places.report, time.time())
    context.progress.at("repository")
    restic.version(context.repository.program)
    restic.unlock(context.repository)
    snapshots = tuple(restic.snapshots(context.repository, [pick.TAG]))
    context.progress.at("plan")
    wanted, client = look(places, settings)
    try:
        context = replace(context, client=client, snapshots=snapshots, consul_snapshot=consul_snapshot)
        report["skipped"] = [{"name": item.name, "why": item.why} for item in wanted.skipped]
        names = [item.name for item in wanted.groups] + [item.name for item in wanted.failed]
        unknown = set(only) - set(names)
        if unknown:
            raise ResticError(
                "bad_request", f"no such group: {', '.join(sorted(unknown))}", "see `salt-call backup.plan`"
            )
        for bad in wanted.failed:
            if not only or bad.name in only:
                report["groups"].append(_failed(bad.name, bad.mode, bad.cause, bad.cure))
        stop: ResticError | None = None
        for item in wanted.groups:
            if only and item.name not in only:
                continue
            if stop:
                report["groups"].append(_failed(item.name, item.mode, f"not tried: {stop.cause}", stop.cure))
                continue
            try:
                report["groups"].append(save.group(context, item))
            except (Failure, OSError) as error:
                report["groups"].append(_of_error(item, error))
                stop = error if isinstance(error, ResticError) and error.kind in _FATAL else None
    finally:
        if client is not None:
            client.close()
    if not report["groups"]:
        report["cause"] = "nothing to save"
        report["cure"] = "see `salt-call backup.plan`"


def _of_error(item: plan.Group, error: Exception) -> dict[str, Any]:
    cause, cure = _words(error)
    entry = _failed(item.name, item.mode, cause, cure)
    if isinstance(error, ResticError):  # an incomplete snapshot is better than none, and no success
        made = next((event for event in error.events if event.get("snapshot_id")), {})
        entry["snapshot"] = made.get("snapshot_id", "")
    return entry


def _failed(name: str, mode: str, cause: str, cure: str = "") -> dict[str, Any]:
    entry: dict[str, Any] = {"name": name, "mode": mode, "snapshot": "", "bytes_added": 0, "bytes_total": 0, "files": 0}
    return {**entry, "paused_seconds": 0.0, "ok": False, "cause": cause, "cure": cure}


def _fail(report: dict[str, Any], error: Exception) -> None:
    report["cause"], report["cure"] = _words(error)


def _words(error: Exception) -> tuple[str, str]:
    if isinstance(error, Failure):
        return line(error.cause, subject=error.subject), error.cure
    return (
        f"{getattr(error, 'filename', None) or 'this node'}: {getattr(error, 'strerror', None) or error}",
        "see `df -h`",
    )


def _right_time(synchronised: Callable[[], bool | None], bound: float) -> None:
    failure = ResticError(
        "clock", "no time server has confirmed this node's clock", "see `timedatectl timesync-status`"
    )
    polling.until(lambda: synchronised() is not False, bound, "the right time", failure=lambda late: failure)


def _engine(settings: Settings) -> tuple[Any, str]:
    """Return (Docker SDK client, "") or (None, why there is none): "" where this node has no engine."""
    path = settings.docker_url.partition("://")[2]
    if not os.path.exists(path):
        expected = {"manager", "worker"} & set(settings.roles)
        return None, f"no Docker Engine answers at {settings.docker_url}" if expected else ""
    try:
        return engine.connect(settings.docker_url, timeout=_DUMP_SILENCE), ""
    except engine.EngineError as error:
        return None, error.cause


def _ping(settings: Settings, suffix: str) -> None:
    """Call the owner's monitor; a failure of it is none of the backup."""
    if not settings.ping.startswith(("http://", "https://")):
        return
    with contextlib.suppress(OSError, urllib.error.URLError, ValueError):
        urllib.request.urlopen(settings.ping.rstrip("/") + suffix, timeout=10).close()
