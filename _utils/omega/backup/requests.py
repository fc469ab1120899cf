"""Requests of the workstation's `rpiomega restore`: a JSON file that says what to restore, and one with the result."""

from __future__ import annotations

import json
import os
import re
import time
from typing import Any

from omega.backup.pick import RestoreError
from omega.backup.settings import Places
from omega.core import files

KEYS: dict[str, set[str]] = {"file": {"path", "to"}, "volume": {"name"}, "node": set()}
COMMON = {"what", "at", "dry_run", "force"}


def path(places: Places, name: str) -> str:
    """Return the path of a request; its result is beside it, with ``.result`` after the name.

    :raises RestoreError: bad_request: the name is none
    """
    if not re.fullmatch(r"[0-9A-Za-z-]{1,64}", name):
        raise RestoreError("bad_request", "it is no name of a request", "run `rpiomega restore`", name)
    return os.path.join(places.run, "requests", name)


def read(places: Places, name: str) -> dict[str, Any]:
    """Return a request, and remove it: `what` (file, volume or node) and the arguments of that function.

    :raises RestoreError: bad_request: there is no such request, or it is none
    """
    try:
        found = json.loads(files.read(path(places, name)) or "null")
    except ValueError:
        found = None
    if not isinstance(found, dict) or set(found) - COMMON - KEYS.get(str(found.get("what")), set()):
        raise RestoreError("bad_request", "there is no such request", "run `rpiomega restore` again", name)
    files.remove(path(places, name))
    return found


def answer(places: Places, name: str, result: dict[str, Any]) -> None:
    """Write the result of a request; remove those that nobody has read for a day."""
    folder, now = os.path.join(places.run, "requests"), time.time()
    for old in os.listdir(folder) if os.path.isdir(folder) else ():
        if os.path.getmtime(os.path.join(folder, old)) < now - 86400:
            files.remove(os.path.join(folder, old))
    files.write(f"{path(places, name)}.result", json.dumps(result), 0o600)
