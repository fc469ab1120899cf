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
MARK = "kit.json"
FIELDS = ("cluster", "bucket", "endpoint", "region", "key_id", "key", "recovery", "nodes")


def digest(fields: dict[str, Any]) -> str:
    """Return the SHA-256 of a kit's FIELDS. Key and passphrase are in it, so it changes with each of them."""
    wanted = {name: sorted(fields[name]) if name == "nodes" else fields[name] for name in FIELDS}
    return hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()


def key_file(text: str | None) -> dict[str, str]:
    """Return key_id and key of a key file (see omega.b2.files); without those that are missing.

    :raises ValueError: a quoted value is no text of JSON
    """
    found = {}
    for name, value in re.findall(r"^(key_id|key):[ \t]*(\S+)[ \t]*$", text or "", re.MULTILINE):
        found[name] = json.loads(value) if value.startswith('"') else value.strip("'")
    return found


def fields(folder: str = FOLDER) -> dict[str, Any]:
    """Return the kit's FIELDS from the files of the master's secrets.

    :raises Failure: a file is missing or damaged
    """
    cure = "run `rpiomega backup init` on the workstation"
    try:
        bucket = json.loads(_read(folder, "bucket.json"))
        found = {name: bucket[name] for name in ("cluster", "bucket", "endpoint", "region")}
        reader = key_file(_read(folder, "reader"))
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
    """Return {"hash", "checked", "stale"}: of the kit that was checked last ("" and 0: none was), and whether the
    secrets have changed since.

    :raises Failure: as `fields`
    """
    found: Any = {}
    with contextlib.suppress(OSError, ValueError):
        found = json.loads(_read(folder, MARK))
    found = found if isinstance(found, dict) else {}
    last = str(found.get("hash") or "")
    return {"hash": last, "checked": found.get("checked") or 0, "stale": last != digest(fields(folder))}


def _read(folder: str, name: str) -> str:
    with open(os.path.join(folder, name), encoding="utf-8") as file:
        return file.read()
