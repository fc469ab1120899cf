"""What a node knows of its backups: its files, its units, and whether a run is under way. Changes nothing.

The files are written by the formula (`omega.backup`); docs/backup.md names them. No secret leaves the node.
"""

from __future__ import annotations

import calendar
import json
import os
import time
from typing import Any

from rpiomega.node import backup_kit
from rpiomega.node.board import Board
from rpiomega.node.step import StepError

SETTINGS = "/etc/rpiomega/backup/settings.json"
STATE = "/var/lib/rpiomega/backup/state.json"
PROGRESS = "/run/rpiomega/backup/progress.json"
LOCK = "/run/rpiomega/backup/lock"
UNITS = {"backup": "rpiomega-backup", "drill": "rpiomega-backup-drill", "forget": "rpiomega-backup-forget"}
KINDS = ("timer", "service")
SHOWN = ("what", "group", "percent", "bytes_done", "bytes_total")  # of the progress, to the workstation
# Seconds a run or a restore is followed. The first backup of a large node over a slow line takes more than a day.
FOLLOW_BOUND = 3 * 86400.0
PROPERTIES = ("LoadState", "ActiveState", "SubState", "Result", "Job", "NextElapseUSecRealtime")


def read(board: Board, _args: dict) -> dict:
    """Return the facts of a node's backups.

    ``now`` (the node's clock), ``configured``, ``state`` and ``progress`` (the files; empty if there is none),
    ``problem`` (a file that cannot be read as JSON), ``running`` (see `running`),
    ``units`` (name -> see `unit`; empty without systemd), ``kit`` (see `kit`; None on a node that is not the master).
    """
    facts: dict[str, Any] = {"now": time.time(), "configured": board.exists(SETTINGS), "problem": ""}
    for name, path in (("state", STATE), ("progress", PROGRESS)):
        facts[name], problem = document(board, path)
        facts["problem"] = facts["problem"] or problem
    wrong = misshapen(facts["state"])
    if wrong:
        facts["state"], facts["problem"] = {}, facts["problem"] or f"{STATE} is damaged: `{wrong}` has another type"
    facts["units"] = {f"{unit}.{kind}": show(board, f"{unit}.{kind}") for unit in UNITS.values() for kind in KINDS}
    facts["running"] = running(board, facts["units"], facts["progress"])
    facts["kit"] = kit(board)
    return facts


def document(board: Board, path: str) -> tuple[dict, str]:
    """Return (the JSON object of a file, ""), ({}, why it is none) if it is damaged, ({}, "") if there is no file."""
    text = board.read(path)
    if text is None:
        return {}, ""
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        return {}, f"{path} is damaged: {error}"
    return (found, "") if isinstance(found, dict) else ({}, f"{path} is damaged: it is not an object")


def misshapen(state: dict) -> str:
    """Return the key of state.json that no reader can use, because its value has another type; "" if there is none."""
    for key in ("success", "proven"):
        value = state.get(key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
            return key
    for key, inner in (("last", "groups"), ("drill", "checks")):
        found = state.get(key) or {}
        rows = found.get(inner) or [] if isinstance(found, dict) else None
        if not isinstance(rows, list) or not all(isinstance(row, dict) and "name" in row for row in rows):
            return key
    return ""


def show(board: Board, name: str) -> dict:
    """Return what systemd says of a unit (see `unit`), {} where there is no systemd."""
    if not board.has("systemctl"):
        return {}
    # Times are printed in the zone of the caller: --timestamp=unix is there since systemd 251 only.
    asked = ["systemctl", "show", "-p", ",".join(PROPERTIES), name]
    return unit(board.shell.run(asked, env={"TZ": "UTC"}).output)


def unit(text: str) -> dict:
    """Given what `systemctl show` prints, return ``load``, ``active``, ``sub``, ``result``, ``busy``, ``next``.

    ``busy``: the unit's program runs, or a job for it waits. A service that systemd will start again later
    (``auto-restart``) is not busy, though its state is ``activating``. ``next``: when a timer elapses (seconds since
    1970), 0 if it does not say.
    """
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    active, sub = values.get("ActiveState", ""), values.get("SubState", "")
    works = active in ("activating", "active", "deactivating", "reloading") or bool(values.get("Job"))
    return {
        "load": values.get("LoadState", ""),
        "active": active,
        "sub": sub,
        "result": values.get("Result", ""),
        "busy": works and not sub.startswith("auto-restart"),
        "next": _epoch(values.get("NextElapseUSecRealtime", "")),
    }


def _epoch(text: str) -> int:
    try:
        return calendar.timegm(time.strptime(text, "%a %Y-%m-%d %H:%M:%S UTC"))
    except ValueError:
        return 0


def running(board: Board, units: dict[str, dict], progress: dict) -> str:
    """Return what is under way: ``backup``, ``drill``, ``restore`` or empty. What a person started by hand counts.

    A backup, a drill and a restore have the same lock; the progress says which of them has it.
    """
    for what in ("backup", "drill"):
        if units.get(f"{UNITS[what]}.service", {}).get("busy"):
            return what
    if not locked(board):
        return ""
    what = progress.get("what", "")
    return what if what in ("drill", "restore") else "backup" if progress else "restore"


def locked(board: Board) -> bool:
    """Return whether a process has the lock of a run. It is not tried: that could refuse a run that begins now."""
    try:
        found = os.stat(board.path(LOCK))
    except OSError:
        return False
    # proc_locks(5): the device in hexadecimal, then the inode.
    at = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}:{found.st_ino}"
    with open("/proc/locks", encoding="ascii") as locks:
        return any(line.split()[1] == "FLOCK" and at in line.split() for line in locks)


def refuse_unconfigured(board: Board) -> None:
    """Raise StepError if the formula has set up no backups on this node."""
    if board.exists(SETTINGS):
        return
    raise unconfigured(board)


def unconfigured(board: Board) -> StepError:
    """Return the error of a node on which the state `backup` was not applied."""
    name = (board.read("/etc/hostname") or "").strip() or "NODE"
    cure = f"on the master: sudo salt '{name}' state.apply; then run this again"
    return StepError("the node has no backups yet: the state `backup` is not applied", cure)


def journal(board: Board, unit: str) -> str:
    """Return the last line of a unit's journal, "" if there is none."""
    if not board.has("journalctl"):
        return ""
    said = board.shell.run(["journalctl", "-u", unit, "-n", "15", "--no-pager", "-o", "cat"])
    return said.last if said.output.strip() else ""


def kit(board: Board) -> dict | None:
    """Return ``checked`` (when the recovery kit was last read back; 0: never) and ``stale`` (what it shows has changed
    since); None on a node without the secrets of backups. ``problem``: why they cannot be read, else empty.
    """
    if not board.exists(backup_kit.FOLDER):
        return None
    try:
        mark = backup_kit.mark(board)
    except StepError as error:
        return {"checked": 0, "stale": True, "problem": str(error)}
    return {"checked": mark["checked"], "stale": mark["stale"], "problem": ""}
