"""Arms the way back before anything changes, and takes it away once the new address is confirmed."""

from __future__ import annotations

import fcntl
import json
import os
import pkgutil
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager

from rpiomega.node import files
from rpiomega.node.board import Board
from rpiomega.node.network import guard, links
from rpiomega.node.network.stack import Stack, Wanted

FOLDER, PYTHON = guard.FOLDER, guard.PYTHON
TIMER = "rpiomega-network-rollback"
GO = "rpiomega-network-activate"
# Before anything configures an interface, and without waiting for what waits for the network.
UNIT_TEXT = f"""# Written by rpiomega while a new address waits for its confirmation; goes with it.
[Unit]
Description=Take back a network configuration that nobody confirmed
DefaultDependencies=no
After=local-fs.target
Wants=network-pre.target
Before=network-pre.target NetworkManager.service systemd-networkd.service dhcpcd.service shutdown.target
Conflicts=shutdown.target
ConditionPathExists={FOLDER}/pending.json

[Service]
Type=oneshot
ExecStart={PYTHON} {FOLDER}/guard.py boot

[Install]
WantedBy=multi-user.target
"""


def pending(board: Board) -> dict | None:
    """Return what waits for its confirmation, None if nothing does."""
    text = board.read(f"{FOLDER}/pending.json")
    return json.loads(text) if text else None


def outcome(board: Board) -> dict:
    """Return how the last rollback came about: `token`, `why`, `failure`, `when`; empty if there was none."""
    return json.loads(board.read(f"{FOLDER}/outcome.json") or "{}")


def arm(board: Board, stack: Stack, wanted: Wanted, changed: list[files.File], bound: int) -> str:
    """Keep what is there now, and start the timer that brings it back after `bound` seconds; return a token."""
    token = secrets.token_hex(8)
    data = {
        "token": token,
        "target": wanted.cidr,
        "interface": wanted.interface,
        "bound": bound,
        "before": [f"{found.address}/{found.prefix}" for found in links.addresses(board, wanted.interface)],
        "files": [_snapshot(board, file.path) for file in changed],
        "activate": stack.activate(wanted),
        "restore": stack.restore(),
        "restart": stack.restart(),
        "boot": stack.boot(),
    }
    os.makedirs(FOLDER, mode=0o700, exist_ok=True)
    files.write(f"{FOLDER}/guard.py", pkgutil.get_data(guard.__name__, "guard.py") or b"", mode=0o600)
    _stop_timer(board)
    after = ["systemd-run", "--quiet", "--collect", f"--unit={TIMER}", f"--on-active={bound}"]
    after += ["--timer-property=AccuracySec=1s", PYTHON, f"{FOLDER}/guard.py", "rollback"]
    cure = "run `systemd-run --on-active=9 true` on the board and see what it says"
    # The timer first: it does nothing as long as nothing is pending.
    board.shell.must(after, cure)
    files.write(guard.UNIT, UNIT_TEXT, mode=0o644)
    os.makedirs(os.path.dirname(guard.WANTS), exist_ok=True)
    if not os.path.lexists(guard.WANTS):
        os.symlink(guard.UNIT, guard.WANTS)
    files.write(f"{FOLDER}/pending.json", json.dumps(data), mode=0o600)
    return token


def _snapshot(board: Board, path: str) -> dict:
    text = board.read(path)
    item = {"path": path, "text": text, "mode": 0, "uid": 0, "gid": 0}
    if text is not None:
        found = os.stat(path)
        item.update(mode=stat.S_IMODE(found.st_mode), uid=found.st_uid, gid=found.st_gid)
    return item


def go_command() -> str:
    """Return the shell command that makes the new configuration effective a second later, without the caller."""
    options = f"--quiet --collect --unit={GO} --on-active=1 --timer-property=AccuracySec=100ms"
    return f"systemd-run {options} {PYTHON} {FOLDER}/guard.py activate"


def back(board: Board) -> None:
    """Go back now; what was never made effective is only taken off the card."""
    argv = [PYTHON, f"{FOLDER}/guard.py", "rollback"]
    board.shell.must(argv, "see this node's log", timeout=180, finish=True)
    _stop_timer(board)


def disarm(board: Board) -> None:
    """Take the way back away. The lock must be held, or nothing be pending."""
    if os.path.exists(f"{FOLDER}/pending.json"):
        os.unlink(f"{FOLDER}/pending.json")
    guard.disarm()
    _stop_timer(board)


def _stop_timer(board: Board) -> None:
    board.shell.run(["systemctl", "stop", "--quiet", f"{TIMER}.timer"], timeout=20)


@contextmanager
def held() -> Iterator[None]:
    """Keep the guard from acting meanwhile; waits while it acts."""
    os.makedirs(FOLDER, mode=0o700, exist_ok=True)
    with open(f"{FOLDER}/lock", "a", encoding="ascii") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
