"""Which snapshot a restore takes: pure choices over the rows of `restic snapshots --json`."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable, Iterable
from datetime import datetime, timezone

from omega.core import rfc3339
from omega.core.errors import KindOfFailure

TAG = "rpiomega"  # of each snapshot that this project made, beside group=, run= and mode=


class RestoreError(KindOfFailure):
    """
    A restore or a drill cannot go on. `kind` is one of: bad_request, not_found, in_use, no_space, damaged, busy,
    not_restored.
    """


def moment(value: str | float | None, now: float | None = None) -> float | None:
    """Return a time as seconds since 1970, None for none.

    :param value: seconds, or ISO 8601 (``2026-11-28``: its end; ``2026-11-28 14:00``; without a zone: this machine's)
    :param now: seconds since 1970, instead of the clock
    :raises RestoreError: bad_request: it is no time, or is in the future
    """
    if value in (None, ""):
        return None
    text = str(value).strip()
    current = now or time.time()
    try:
        if re.fullmatch(r"\d{9,}(\.\d+)?", text):
            seconds = float(text)
        elif re.fullmatch(r"\d{4}-\d\d-\d\d", text):
            midnight = datetime.fromisoformat(f"{text}T00:00:00").timestamp()
            end = datetime.fromisoformat(f"{text}T23:59:59.999999").timestamp()
            seconds = midnight if midnight > current else min(end, current)
        else:
            seconds = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text)).timestamp()
    except (ValueError, OverflowError):
        cure = "write it as 2026-11-28, as '2026-11-28 14:00' or as 2026-11-28T14:00:00Z"
        raise RestoreError("bad_request", f"{text!r} is no time", cure) from None
    if seconds > current + 60:
        raise RestoreError("bad_request", f"{text} is in the future", "see `date` on this node")
    return seconds


def taken(row: dict) -> float:
    """Return when a snapshot was taken, seconds since 1970."""
    return rfc3339.seconds(str(row["time"]))


def shown(seconds: float) -> str:
    """Return a time as users read it."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y-%m-%d %H:%M:%SZ")


def stamp(seconds: float) -> str:
    """Return a time as the names of kept files have it."""
    return datetime.fromtimestamp(seconds, timezone.utc).strftime("%Y%m%dT%H%M%SZ")


def group_of(row: dict) -> str:
    """Return the group that a snapshot is of, "" if it has no such tag."""
    return tag(row, "group")


def mode_of(row: dict) -> str:
    """Return the quiesce mode of a snapshot, "" if it has no such tag."""
    return tag(row, "mode")


def tag(row: dict, name: str) -> str:
    """Return the value of a snapshot's tag NAME=VALUE, "" if it has none."""
    return next((each[len(name) + 1 :] for each in row.get("tags") or () if each.startswith(f"{name}=")), "")


def covers(row: dict, path: str) -> bool:
    """Return whether a path of the node is one of the snapshot's, or below one."""
    return any(path == each or path.startswith(each.rstrip("/") + "/") for each in row.get("paths") or ())


def chosen(rows: Iterable[dict], fits: Callable[[dict], bool], what: str, at: float | None) -> list[dict]:
    """Return the snapshots that fit, of `at` or older, the newest first.

    :param what: names what is restored, for the error
    :raises RestoreError: not_found: none fits, or each is newer than `at`
    """
    fitting = sorted((row for row in rows if fits(row)), key=taken, reverse=True)
    if not fitting:
        raise RestoreError("not_found", "no snapshot of this node has it", "`rpiomega backup list` shows them", what)
    older = [row for row in fitting if at is None or taken(row) <= at]
    if not older:
        first = shown(taken(fitting[-1]))
        raise RestoreError("not_found", f"the first snapshot of it is of {first}", "give a later --at", what)
    return older


def newest_of_groups(rows: Iterable[dict]) -> dict[str, dict]:
    """Return group -> its newest snapshot, of those that have a group."""
    found: dict[str, dict] = {}
    for row in sorted(rows, key=taken):
        if group_of(row):
            found[group_of(row)] = row
    return found


def volume_path(row: dict, name: str) -> str | None:
    """Return where the data of a volume is in a snapshot, None if it has none of it by that name."""
    return next((path for path in row.get("paths") or () if path.endswith(f"/volumes/{name}/_data")), None)


def normal(path: str) -> str:
    """Return an absolute path without ``..``, double and trailing slashes.

    :raises RestoreError: bad_request: it is not absolute, or it is ``/``
    """
    if not path.startswith("/") or "\0" in path:
        raise RestoreError("bad_request", "it is no absolute path", "write it as /FOLDER/FILE", path or "path")
    clean = os.path.normpath(path).replace("//", "/")
    if clean == "/":
        raise RestoreError("bad_request", "all of a node is not restored as one path", "name a folder below it", path)
    return clean
