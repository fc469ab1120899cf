"""apt: what is missing gets installed; what stands in the way gets a name."""

from __future__ import annotations

import fcntl
import glob
import os
import re
import time

from rpiomega.node.step import StepError

LOCKS = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock", "/var/lib/apt/lists/lock", "/var/cache/apt/archives/lock")
LOCK_BOUND = 180.0
_OPTIONS = ["-o", "DPkg::Lock::Timeout=60", "-o", "APT::Update::Error-Mode=any", "-o", "Acquire::Retries=2"]
_QUIET = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_MODE": "l"}
# What apt says -> cause, cure. The first match counts.
_CAUSES = [
    (r"No space left on device|not have enough free space", "no space left", "free some space (`df -h`)"),
    (r"not valid yet", "the package lists are from the future: the clock is wrong", "check `timedatectl`"),
    (r"NO_PUBKEY|not signed|Missing key", "a package source is not signed by a known key", "check `apt-get update`"),
    (r"Unable to locate package (\S+)", "no package source has {}", "check the sources with `apt-get update`"),
    (r"has no installation candidate", "no package source has it", "check the sources with `apt-get update`"),
    (
        r"Failed to fetch (\S+)\s+([^\n]+)",
        "the package source {} does not answer ({})",
        "check the network, and sources.apt_proxy of the site file",
    ),
    (r"Could not (?:resolve|connect)[^\n]*", "a package source does not answer", "check DNS and network"),
    (r"Read-only file system", "the file system is read-only", "look for card errors with `dmesg`"),
]


def missing(board, packages: list[str]) -> list[str]:
    """Return those of `packages` that are not installed."""
    query = ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *packages]
    lines = board.shell.run(query).output.splitlines()
    installed = {line.split()[0] for line in lines if line.endswith(" installed")}
    return [package for package in packages if package not in installed]


def install(board, packages: list[str], refresh: bool = False) -> None:
    """Install what is missing of `packages` (name or ``name=version``); `refresh`: the sources have changed.

    Raise StepError naming the package source, the lock's holder, the missing space...
    """
    wanted = missing(board, packages)
    if not wanted:
        return
    _ready(board)
    if refresh or _stale():
        update(board)
    result = _apt(board, ["install", "--no-install-recommends", *wanted])
    if result.code and re.search("Unable to locate|404 +Not Found", result.output):
        update(board)  # the mirror has moved on since the lists were fetched
        result = _apt(board, ["install", "--no-install-recommends", *wanted])
    if result.code:
        raise _error(f"installing {' '.join(wanted)}", result.output, result.last)


def update(board) -> None:
    """Fetch the package lists; raise StepError naming the source that does not answer."""
    _ready(board)
    result = _apt(board, ["update"])
    if result.code:
        raise _error("fetching package lists", result.output, result.last)


def _apt(board, arguments: list[str]):
    # dpkg killed half-way needs a hand; so apt may end what it began, whatever the user does.
    return board.shell.run(["apt-get", "-y", "-q", *_OPTIONS, *arguments], timeout=1800, env=_QUIET, finish=True)


def _stale() -> bool:
    lists = glob.glob("/var/lib/apt/lists/*_Packages*")
    return not lists or time.time() - max(os.path.getmtime(path) for path in lists) > 86400


def _ready(board) -> None:
    """Wait for other package managers, then mend what an interrupted one left."""

    def free():
        for path in LOCKS:
            holder = _holder(path)
            if holder:
                return False, f"{path} is held by {holder}"
        return True, ""

    board.wait("the package manager's lock", free, LOCK_BOUND, "wait for that process (first boot's updates?) to end")
    if os.path.isdir("/var/lib/dpkg/updates") and os.listdir("/var/lib/dpkg/updates"):
        cure = "run `dpkg --configure -a` on the board and see what it says"
        board.shell.must(["dpkg", "--configure", "-a"], cure, timeout=900, env=_QUIET, finish=True)


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


def _error(doing: str, output: str, last: str) -> StepError:
    for pattern, cause, cure in _CAUSES:
        found = re.search(pattern, output)
        if found:
            named = cause.format(*found.groups())
            return StepError(f"{doing}: {named}", cure)
    return StepError(f"{doing}: {last}", "see this node's log")
