"""systemd: a unit as it should be, enabled, running, and restarted when what it runs has changed."""

from __future__ import annotations

import os

from rpiomega.node import files
from rpiomega.node.step import Diff, StepError

# A marker per unit: kept on the card, so that a restart still owed after a kill or power cut is not forgotten.
OWED = "/var/lib/rpiomega/restart-{}"


def check(board, unit: str) -> Diff:
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
    elif board.exists(OWED.format(unit)):
        diff.add(f"restart {unit}")
    return diff


def owe_restart(board, unit: str) -> None:
    """Remember, before anything a unit runs or reads is changed, that it must be restarted afterwards."""
    files.write(board.path(OWED.format(unit)), "")


def ensure(board, unit: str) -> None:
    """Enable a unit, start or restart it. Raise StepError with the journal's last word."""
    owed = board.path(OWED.format(unit))
    board.shell.must(["systemctl", "daemon-reload"], "see this node's log")
    board.shell.must(["systemctl", "enable", "--quiet", unit], "see this node's log")
    result = board.shell.run(["systemctl", "restart" if os.path.exists(owed) else "start", unit], timeout=180)
    if result.code:
        journal = board.shell.run(["journalctl", "-u", unit, "-n", "15", "--no-pager", "-o", "cat"])
        raise StepError(f"{unit} does not start: {journal.last}", f"see `journalctl -u {unit}` on the board")
    if os.path.exists(owed):
        os.unlink(owed)


def unit_text(description: str, command: str) -> str:
    """Return the unit of a Salt daemon run from the virtual environment."""
    return f"""# Written by rpiomega.
[Unit]
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
