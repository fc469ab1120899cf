"""apt: installs packages that are missing, and names what prevents it."""

from __future__ import annotations

import fcntl
import glob
import os
import re
import time

from omega.core import apt_rules
from rpiomega.node.board import Board
from rpiomega.node.shell import Result
from rpiomega.node.step import StepError

LOCKS = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/apt/lists/lock", "/var/cache/apt/archives/lock")
LOCK_BOUND = 180.0


def missing(board: Board, packages: list[str]) -> list[str]:
    """Return those of `packages` that are not installed."""
    query = ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *packages]
    lines = board.shell.run(query).output.splitlines()
    installed = {line.split()[0] for line in lines if line.endswith(" installed")}
    return [package for package in packages if package not in installed]


def install(board: Board, packages: list[str], refresh: bool = False) -> None:
    """Install what is missing of `packages` (name or ``name=version``); `refresh`: the sources have changed.

    Raise StepError naming the package source, the lock's holder, the missing space...
    """
    wanted = missing(board, packages)
    if not wanted:
        return
    _ready(board)
    if refresh or _stale():
        update(board)
    _install(board, wanted)


def change(board: Board, packages: list[str]) -> None:
    """Bring `packages` to the version that sources and pins name, an older one too; raise StepError as `install`."""
    update(board)
    _install(board, ["--allow-downgrades", "--allow-change-held-packages", *packages])


def _install(board: Board, wanted: list[str]) -> None:
    result = _apt(board, ["install", "--no-install-recommends", *wanted])
    if result.code and re.search("Unable to locate|404 +Not Found", result.output):
        update(board)  # the mirror has moved on since the lists were fetched
        result = _apt(board, ["install", "--no-install-recommends", *wanted])
    if result.code:
        raise _error(f"installing {' '.join(word for word in wanted if word[0] != '-')}", result)


def update(board: Board) -> None:
    """Fetch the package lists; raise StepError naming the source that does not answer."""
    _ready(board)
    result = _apt(board, ["update"])
    if result.code:
        raise _error("fetching package lists", result)


def _apt(board: Board, arguments: list[str]) -> Result:
    # An interrupted dpkg has to be repaired; so apt may end what it began, whatever the user does.
    return board.shell.run([*apt_rules.APT, *arguments], timeout=1800, env=apt_rules.ENVIRONMENT, finish=True)


def _stale() -> bool:
    lists = glob.glob("/var/lib/apt/lists/*_Packages*")
    return not lists or time.time() - max(os.path.getmtime(path) for path in lists) > 86400


def _ready(board: Board) -> None:
    """Wait for other package managers, then finish what an interrupted one left."""

    def free() -> tuple[bool, str]:
        for path in LOCKS:
            holder = _holder(path)
            if holder:
                return False, f"{path} is held by {holder}"
        return True, ""

    board.wait("the package manager's lock", free, LOCK_BOUND, "wait for that process (first boot's updates?) to end")
    if apt_rules.interrupted():
        command = [*apt_rules.DPKG, "--configure", "-a"]
        result = board.shell.run(command, timeout=900, env=apt_rules.ENVIRONMENT, finish=True)
        if result.code:
            raise _error("finishing an installation that was interrupted before", result)


def _holder(path: str) -> str:
    """Return ``process 12 (apt-get)`` if a process holds the lock, an empty string otherwise."""
    try:
        with open(path, "r+b") as handle:
            try:
                fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return ""
            except OSError:
                inode = os.fstat(handle.fileno()).st_ino
    except OSError:
        return ""
    with open("/proc/locks", encoding="ascii") as locks:
        for line in locks:
            words = line.split()
            if len(words) > 5 and words[5].endswith(f":{inode}"):
                return f"process {words[4]} ({_command(words[4])})"
    return "a process that just ended"


def _command(pid: str) -> str:
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8") as handle:
            return handle.read().strip()
    except OSError:
        return "gone"


def _error(doing: str, result: Result) -> StepError:
    cause, cure = apt_rules.explain(result.output) or (result.last, "see this node's log")
    return StepError(f"{doing}: {cause}", cure)
