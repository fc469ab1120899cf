"""Free space, a read-only root, and how long the card takes until a small write is safe."""

from __future__ import annotations

import os
import tempfile
import time

from rpiomega.node.board import Board

FOLDERS = ("/", "/etc", "/var", "/var/lib/docker", "/var/lib/containerd", "/boot", "/boot/firmware")
# Options of a mount that refuses writes without being `ro`: ext4 after an error (fs/ext4/super.c, since Linux 6.15).
REFUSING = {"emergency_ro", "shutdown"}
BLOCK = b"\0" * 4096
WRITES = 24
BOUND = 3.0


def read(board: Board, args: dict) -> dict:
    """Return per file system free and total MB and free inodes in percent, and whether it is read-only.

    `args`: `folders`, more paths to look at, as the engine's data root. A folder that is mounted read-only on its own
    is listed beside the file system it is a part of.
    """
    found, seen = {}, set()
    for folder in (*FOLDERS, *args.get("folders", ())):
        path = board.path(folder)
        if not os.path.isdir(path):
            continue
        state = os.statvfs(path)
        read_only = bool(state.f_flag & os.ST_RDONLY) or bool(_options(path) & REFUSING)
        key = os.stat(path).st_dev, read_only
        if key in seen:
            continue
        seen.add(key)
        found[folder] = {
            "free_mb": state.f_bavail * state.f_frsize // 1_000_000,
            "total_mb": state.f_blocks * state.f_frsize // 1_000_000,
            # FAT and btrfs count no inodes.
            "inodes": round(100 * state.f_favail / state.f_files) if state.f_files else None,
            "read_only": read_only,
        }
    return {"file_systems": found}


def _options(path: str) -> set[str]:
    """Return the options of the mount that has a path; none where the kernel does not tell."""
    path, found = os.path.realpath(path), ("", set[str]())
    try:
        with open("/proc/self/mounts", encoding="utf-8", errors="surrogateescape") as stream:
            table = [line.split() for line in stream]
    except OSError:
        return set()
    for _device, point, _kind, options, *_ in table:
        # The later of two mounts at one point covers the earlier one.
        if len(point) >= len(found[0]) and os.path.commonpath([point, path]) == point:
            found = point, set(options.split(","))
    return found[1]


def latency(board: Board, args: dict) -> dict:
    """Write 4 KiB and fsync, at most 24 times and 3 s; return the median and the worst in milliseconds.

    /var/tmp is on the card also where /tmp is in memory. The file has no name: nothing is left behind.
    """
    taken, deadline = [], time.monotonic() + BOUND
    with tempfile.TemporaryFile(dir=board.path("/var/tmp")) as stream:
        for _ in range(WRITES):
            began = time.monotonic()
            stream.write(BLOCK)
            stream.flush()
            os.fsync(stream.fileno())
            taken.append(time.monotonic() - began)
            if time.monotonic() > deadline:
                break
    taken.sort()
    return {
        "median_ms": round(taken[len(taken) // 2] * 1000, 1),
        "worst_ms": round(taken[-1] * 1000, 1),
        "writes": len(taken),
    }
