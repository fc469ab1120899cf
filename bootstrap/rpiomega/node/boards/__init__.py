"""What rpiomega knows about kinds of boards, as data: one JSON file each, the first whose `match` fits counts.

`match` has regular expressions for ``model`` (device tree), ``armbian`` (BOARD=), ``os`` (os-release ID) and
``machine``; all that are given must fit. `rootfs` names the tools that may grow the root file system, in order.
"""

from __future__ import annotations

import json
import pkgutil
import platform
import re

from rpiomega.node.board import Board

# Special before general.
ORDER = ("raspberrypi", "armbian", "ubuntu", "debian")


def profiles() -> list[dict]:
    """Return all profiles in the order they are tried."""
    return [json.loads(pkgutil.get_data(__name__, f"{name}.json") or "") for name in ORDER]


def find(board: Board) -> dict:
    """Return the profile of a board; the last one fits everything."""
    armbian = re.search(r"^BOARD=\"?([^\"\n]+)", board.read("/etc/armbian-release") or "", re.MULTILINE)
    facts = {
        "model": board.model(),
        "armbian": armbian.group(1) if armbian else "",
        "os": board.release().get("ID", ""),
        "machine": platform.machine(),
    }
    for profile in profiles():
        if all(re.search(pattern, facts[key]) for key, pattern in profile["match"].items()):
            return profile
    raise LookupError("the last profile must fit everything")
