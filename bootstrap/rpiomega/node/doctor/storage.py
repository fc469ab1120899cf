"""Free space, a read-only root, and how long the card takes until a small write is safe."""

from __future__ import annotations

import os
import tempfile
import time

FOLDERS = ("/", "/var/lib/docker", "/var/lib/containerd", "/boot/firmware")
BLOCK = b"\0" * 4096
WRITES = 24
BOUND = 3.0


def read(board, args: dict) -> dict:
    """Return per file system free and total MB and free inodes in percent, and whether it is read-only."""
    found, devices = {}, set()
    for folder in FOLDERS:
        path = board.path(folder)
        if not os.path.isdir(path) or os.stat(path).st_dev in devices:
            continue
        devices.add(os.stat(path).st_dev)
        state = os.statvfs(path)
        found[folder] = {
            "free_mb": state.f_bavail * state.f_frsize // 1_000_000,
            "total_mb": state.f_blocks * state.f_frsize // 1_000_000,
            # FAT and btrfs count no inodes.
            "inodes": round(100 * state.f_favail / state.f_files) if state.f_files else None,
            "read_only": bool(state.f_flag & os.ST_RDONLY),
        }
    return {"file_systems": found}


def latency(board, args: dict) -> dict:
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
