"""What the last run and the last drill of this node did, in one file that outlives a restart and a crash."""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import Any

from omega.core import files

VERSION = 1
INTERRUPTED = "interrupted: the run was ended before it could report"


def read(path: str) -> dict[str, Any]:
    """Return the content of the state file; without one, or with one that cannot be read, an empty state."""
    empty: dict[str, Any] = {"version": VERSION, "last": None, "success": None, "drill": None, "proven": None}
    with contextlib.suppress(OSError):
        return {**empty, **(_content(files.read(path)) or {})}
    return empty


def _content(text: str | None) -> dict[str, Any] | None:
    """Return the keys of a state file that have the right types, {} for no file, None for one that is damaged."""
    if text is None:
        return {}
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, dict):
        return None
    return {key: value for key, value in found.items() if key not in _SHAPES or _SHAPES[key](value)}


def _time(value: Any) -> bool:
    return value is None or isinstance(value, (int, float)) and not isinstance(value, bool)


def _result(value: Any) -> bool:
    rows = [(value or {}).get(key) or [] for key in ("groups", "checks")] if isinstance(value or {}, dict) else [None]
    return all(isinstance(each, list) and all(isinstance(one, dict) and "name" in one for one in each) for each in rows)


def _begun(value: Any) -> bool:
    return not value or isinstance(value, dict) and "id" in value and _time(value.get("started"))


def _counts(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(one, int) for one in value.values())


_SHAPES = {
    "last": _result, "drill": _result, "success": _time, "proven": _time, "current": _begun, "files": _counts
}  # fmt: skip


def update(path: str, **changes: Any) -> dict[str, Any]:
    """Replace keys of the state file, whose readers see the old content or the new; return the new."""
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    with open(f"{path}.lock", "a", encoding="utf-8") as lock:
        files.lock(lock, 30)
        with contextlib.suppress(OSError):
            if _content(files.read(path)) is None:
                os.replace(path, f"{path}.damaged")  # kept for its owner; the run goes on
        content = {key: value for key, value in {**read(path), **changes}.items() if key != "current" or value}
        files.write(path, json.dumps(content, indent=1, sort_keys=True) + "\n", 0o600)
        return content


def begin(path: str, run: str, repository: str = "") -> None:
    """Note that a run has begun, so that one that never ends is reported, too.

    :param repository: its address; a success and a proof of another repository are none of this one
    """
    known = read(path).get("repository")
    other: dict[str, Any] = (
        {"success": None, "proven": None, "drill": None, "files": {}} if known not in (None, repository) else {}
    )
    update(path, current={"id": run, "started": int(time.time())}, repository=repository, **other)


def first(path: str, now: float) -> None:
    """Note when this card's first run began to save, once its clock is right: what is older was saved by another."""
    found = read(path)
    if "first" not in found:
        update(path, first=0 if found.get("files") else now)  # 0: runs of this card were not noted yet


def end(path: str, report: dict[str, Any], whole: bool = True) -> dict[str, Any]:
    """Note what a run did.

    :param report: the value of `last`
    :param whole: it was about all groups: only such a run that succeeded counts as the last success
    """
    changes: dict[str, Any] = {"last": report, "current": None}
    saved = {item["name"]: item["files"] for item in report["groups"] if item["ok"]}
    changes["files"] = {**read(path).get("files", {}), **saved}
    if report["ok"] and whole:
        changes["success"] = report["ended"]
    return update(path, **changes)


def interrupted(path: str) -> bool:
    """Report a run that began and never ended as failed; return whether there was one. Call it with the run's lock."""
    current = read(path).get("current")
    if not current:
        return False
    report = {"id": current["id"], "started": current["started"], "ended": int(time.time()), "ok": False}
    cure = "see `journalctl -u rpiomega-backup` and `dmesg`; the next run begins afresh"
    end(path, {**report, "cause": INTERRUPTED, "cure": cure, "groups": [], "skipped": []})
    return True
