"""
The recovery kit as the master's secrets have it, and whether the one that was checked last is still that.

kit.json has "hash", the SHA-256 of the kit that was read back last, and "checked", when that was.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
from typing import Any

from omega.core.errors import Failure

FOLDER = "/etc/rpiomega/secrets/backup"
FIELDS = ("cluster", "bucket", "endpoint", "region", "key_id", "key", "recovery", "nodes")


def digest(fields: dict[str, Any]) -> str:
    """Return the SHA-256 of a kit's FIELDS. Key and passphrase are in it, so it changes with each of them."""
    wanted = {name: sorted(fields[name]) if name == "nodes" else fields[name] for name in FIELDS}
    return hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()


def fields(folder: str = FOLDER) -> dict[str, Any]:
    """Return the kit's FIELDS from the files of the master's secrets.

    :raises Failure: a file is missing or damaged
    """
    cure = "run `rpiomega backup init` on the workstation"
    try:
        bucket = json.loads(_read(folder, "bucket.json"))
        found = {name: bucket[name] for name in ("cluster", "bucket", "endpoint", "region")}
        lines = re.findall(r"^(key_id|key):[ \t]*(\S+)[ \t]*$", _read(folder, "reader"), re.MULTILINE)
        reader = {name: json.loads(value) if value.startswith('"') else value.strip("'") for name, value in lines}
        found.update(key_id=reader["key_id"], key=reader["key"], recovery=_read(folder, "recovery").strip())
    except (OSError, ValueError, KeyError, TypeError):
        raise Failure(
            "bucket.json, or the key or the passphrase of the kit, is missing or damaged", cure, folder
        ) from None
    if not found["recovery"]:
        raise Failure("the passphrase of the kit is empty", cure, folder)
    nodes = os.path.join(folder, "nodes")
    names = os.listdir(nodes) if os.path.isdir(nodes) else []
    found["nodes"] = sorted(name for name in names if os.path.exists(os.path.join(nodes, name, "key")))
    return found


def mark(folder: str = FOLDER) -> dict[str, Any]:
    """Return {"checked", "stale"}: when a kit was checked last (0: never), and whether the secrets have changed since.

    :raises Failure: as `fields`
    """
    found: dict[str, Any] = {}
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(_read(folder, "kit.json"))
    return {"checked": found.get("checked") or 0, "stale": found.get("hash") != digest(fields(folder))}


def _read(folder: str, name: str) -> str:
    with open(os.path.join(folder, name), encoding="utf-8") as file:
        return file.read()
