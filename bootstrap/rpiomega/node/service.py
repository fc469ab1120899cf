"""systemd: a unit as it should be, enabled, running, and restarted when what it runs has changed."""

from __future__ import annotations

import os
import re

from rpiomega.node import files
from rpiomega.node.board import Board
from rpiomega.node.files import File
from rpiomega.node.step import Diff, StepError

MARK = "# Written by rpiomega.\n"
# What a unit starts, by the kind of Salt's installation.
PROGRAMS = {"pip": "/opt/rpiomega/salt/bin/{}", "onedir": "/usr/bin/{}"}
# A marker per unit: kept on the card, so that a restart still pending after a kill or power cut is not forgotten.
PENDING = "/var/lib/rpiomega/restart-{}"


def check(board: Board, unit: str) -> Diff:
    """Return what a unit lacks of being enabled, running, and running what is on the card."""
    diff, enabled, active = Diff(), False, False
    if board.has("systemctl"):
        shown = board.shell.run(["systemctl", "show", "-p", "UnitFileState", "-p", "ActiveState", unit]).output
        values = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
        enabled = values.get("UnitFileState") == "enabled"
        active = values.get("ActiveState") in ("active", "activating", "reloading")
    if not enabled:
        diff.add(f"enable {unit}")
    if not active:
        diff.add(f"start {unit}")
    elif board.exists(PENDING.format(unit)):
        diff.add(f"restart {unit}")
    return diff


def restart_later(board: Board, unit: str) -> None:
    """Remember, before anything a unit runs or reads is changed, that it must be restarted afterwards."""
    files.write(board.path(PENDING.format(unit)), "")


def ensure(board: Board, unit: str) -> None:
    """Enable a unit, start or restart it. Raise StepError with the journal's last word."""
    pending = board.path(PENDING.format(unit))
    board.shell.must(["systemctl", "daemon-reload"], "see this node's log")
    board.shell.must(["systemctl", "enable", "--quiet", unit], "see this node's log")
    result = board.shell.run(["systemctl", "restart" if os.path.exists(pending) else "start", unit], timeout=180)
    if result.code:
        journal = board.shell.run(["journalctl", "-u", unit, "-n", "15", "--no-pager", "-o", "cat"])
        raise StepError(f"{unit} does not start: {journal.last}", f"see `journalctl -u {unit}` on the board")
    if os.path.exists(pending):
        os.unlink(pending)


def foreign(board: Board, unit: str, program: str) -> None:
    """Raise StepError if systemd starts something else than `program` for a unit: which file says so.

    A unit of another installation in /etc/systemd/system goes before the package's, and a drop-in may exchange the
    command (systemd.unit(5)).
    """
    if not board.has("systemctl"):
        return
    shown = board.shell.run(["systemctl", "show", "-p", "FragmentPath,DropInPaths,ExecStart,LoadState", unit]).output
    values = dict(line.split("=", 1) for line in shown.splitlines() if "=" in line)
    found = re.search(r"path=(\S+) ;", values.get("ExecStart", ""))
    if not found or found[1] == program:
        return
    drop_ins = values.get("DropInPaths", "").split()
    by = [path for path in drop_ins if "ExecStart" in (board.read(path) or "")] or [values.get("FragmentPath", unit)]
    raise StepError(
        f"{unit} starts {found[1]} instead of {program} ({by[-1]} says so)",
        f"remove that installation of Salt or move {by[-1]} away, then run the bootstrap again",
    )


def unit_files(board: Board, kind: str, unit: str, description: str, command: str) -> list[File]:
    """Return the unit as it should be: ours for Salt from pip; for Salt from packages, none of ours before theirs."""
    path = f"/etc/systemd/system/{unit}"
    if kind == "pip":
        return [File(path, unit_text(description, command))]
    return [File(path, None)] if (board.read(path) or "").startswith(MARK) else []


def unit_text(description: str, command: str) -> str:
    """Return the unit of a Salt daemon run from the virtual environment."""
    return f"""{MARK}[Unit]
Description={description}
Documentation=man:{command}(1)
Wants=network-online.target
After=network-online.target time-sync.target

[Service]
Type=notify
NotifyAccess=all
LimitNOFILE=100000
# Jobs outlive a restart of the daemon: a state may restart it.
KillMode=process
Restart=on-failure
RestartSec=10
ExecStart=/opt/rpiomega/salt/bin/{command}

[Install]
WantedBy=multi-user.target
"""
