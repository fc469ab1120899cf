"""Whether the system calls this node's clock synchronised."""

from __future__ import annotations

import os
import subprocess

BOUND = 10  # seconds; systemd may have to start timedated first


def synchronised() -> bool | None:
    """
    Return whether the system calls this clock synchronised, by any time client; None if nothing here can say that.
    A container has its host's clock, which nothing in the container sets.
    """
    if os.path.exists("/run/systemd/container") or os.path.exists("/.dockerenv"):
        return None
    command = ("timedatectl", "show", "--property=NTPSynchronized", "--value")
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=BOUND, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return {"yes": True, "no": False}.get(done.stdout.strip())
