"""Restore a path of a snapshot to its place on this node or into another folder."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

from omega.backup import fetch, pick, restic, swap
from omega.backup.pick import RestoreError
from omega.backup.progress import Progress
from omega.backup.restic import Repository
from omega.backup.settings import Places
from omega.core import files

OLDER = 10  # snapshots that are searched for a path which the newest does not have
LOCK_BOUND = 60.0


@dataclass(frozen=True)
class Wanted:
    """How to restore. `at`: as `pick.moment`; `dry_run`: write nothing; `force`: as the functions say."""

    at: str | float | None = None
    dry_run: bool = False
    force: bool = False


@dataclass
class Report:
    """What a restore did, or would do with `dry_run`: `actions` has a line for each step, in order."""

    what: str
    snapshot: str
    time: float
    target: str
    dry_run: bool
    files: int = 0
    bytes: int = 0
    kept: str = ""
    in_use: list[str] = field(default_factory=list)
    actions: list[str] = field(default_factory=list)
    seconds: float = 0.0

    def data(self) -> dict[str, Any]:
        """Return it as a mapping of JSON."""
        return asdict(self)


def restore_file(
    repository: Repository, path: str, wanted: Wanted, to: str | None = None, places: Places | None = None
) -> Report:
    """
    Restore a file or a folder. What is in its place is kept as NAME.before-restore-DATE, with `force` it is not.

    :param path: absolute, on the node that was saved
    :param to: a folder that gets it, created if it is missing; None: the place it was saved from
    :raises RestoreError: there is no such snapshot, it does not have the path, no space, another run works
    :raises ResticError: as `restic.run`
    """
    began, at, places = time.monotonic(), pick.moment(wanted.at), places or Places()
    path = pick.normal(path)
    row, path, size = _found(repository, path, at)
    folder = pick.normal(to) if to else os.path.dirname(path)
    place = os.path.join(folder, os.path.basename(path))
    report = Report(path, row["id"], pick.taken(row), place, wanted.dry_run, size["files"], size["bytes"])
    if os.path.exists(folder) and not os.path.isdir(folder):
        raise RestoreError("bad_request", f"{folder} is no folder", "name a folder with --to", path)
    swap.refuse_mount(place)
    fetch.room(folder, size["bytes"], path)
    if os.path.lexists(place) and not wanted.force:
        report.kept = swap.kept_name(place, pick.stamp(time.time()))
    report.actions = _file_actions(report, folder, wanted.force)
    if wanted.dry_run:
        return report
    with alone(places), disk(path):
        if not os.path.isdir(folder):
            os.makedirs(folder)
        staging = swap.cleared(place)
        try:
            made = fetch.into(repository, row, path, staging, progress(places, path, size["bytes"]))
            swap.put(made, place, report.kept or None)
        finally:
            swap.remove(staging)
    report.seconds = round(time.monotonic() - began, 1)
    return report


def _found(repository: Repository, path: str, at: float | None) -> tuple[dict, str, dict[str, int]]:
    """Return the snapshot, the path as it has it, and the size there."""
    rows = restic.snapshots(repository, [pick.TAG])
    real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    names = list(dict.fromkeys((path, real)))  # a snapshot has no path that goes through a symbolic link
    older = pick.chosen(rows, lambda row: any(pick.covers(row, name) for name in names), path, at)
    for name in names:
        with contextlib.suppress(RestoreError):
            return older[0], name, fetch.measured(repository, older[0], name)
    cause = f"the snapshot of {pick.shown(pick.taken(older[0]))} does not have it"
    last = next((row for row in older[1 : 1 + OLDER] if any(fetch.has(repository, row, name) for name in names)), None)
    cure = f"`rpiomega backup list` shows the snapshots; none of the {len(older[: 1 + OLDER])} newest has it"
    if last:
        cure = f"give --at '{pick.shown(pick.taken(last)).replace('Z', '+00:00')}', the last that has it"
    raise RestoreError("not_found", cause, cure, path)


def _file_actions(report: Report, folder: str, force: bool) -> list[str]:
    actions = [] if os.path.isdir(folder) else [f"create the folder {folder}"]
    if report.kept:
        actions.append(f"keep {report.target} as {report.kept}")
    elif os.path.lexists(report.target) and force:
        actions.append(f"replace {report.target}, which is not kept")
    size = f"{report.files} {'entry' if report.files == 1 else 'entries'}, {report.bytes} bytes"
    actions.append(f"restore {report.target} ({size}) from the snapshot of {pick.shown(report.time)}")
    return actions


@contextlib.contextmanager
def alone(places: Places, bound: float = LOCK_BOUND) -> Iterator[None]:
    """Hold the lock of this node's backups meanwhile: no run, restore or drill works beside another.

    :raises RestoreError: busy
    """
    places.make()
    late = RestoreError("busy", "a backup, a restore or a drill runs on this node", "see `rpiomega backup status`")
    with open(places.lock, "a", encoding="utf-8") as handle:
        files.lock(handle, bound, lambda seen: late)
        try:
            yield
        finally:
            files.remove(places.progress)


@contextlib.contextmanager
def disk(what: str) -> Iterator[None]:
    """Raise errors of the system's meanwhile as RestoreError."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise fetch.refused_by_disk(error, what) from error


def progress(places: Places, group: str, total: int = 0, what: str = "restore") -> Callable[[dict], None]:
    """Return a function that takes restic's status lines of a restore for progress.json.

    :param total: bytes that are restored
    """
    shown = Progress(places.progress, str(int(time.time())))
    shown.at(what, group, total)

    def event(status: dict) -> None:
        with contextlib.suppress(OSError):  # a picture for others: a restore does not fail for the lack of it
            done = {"bytes_done": status.get("bytes_restored"), "files_done": status.get("files_restored")}
            shown.event({**done, "total_bytes": status.get("total_bytes")})

    return event
