"""The recovery kit as the master's secrets have it: its fields, and the hash by which a kit is known to be current."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING

from rpiomega.node.step import StepError

if TYPE_CHECKING:
    from rpiomega.node.board import Board

FOLDER = "/etc/rpiomega/secrets/backup"
MARK = f"{FOLDER}/kit.json"
INIT = "run `rpiomega backup init` on the workstation"
FIELDS = ("cluster", "bucket", "endpoint", "region", "key_id", "key", "recovery", "nodes")


def digest(fields: dict) -> str:
    """Return the SHA-256 of a kit's FIELDS. Key and passphrase are in it, so it changes with each of them."""
    wanted = {name: sorted(fields[name]) if name == "nodes" else fields[name] for name in FIELDS}
    return hashlib.sha256(json.dumps(wanted, sort_keys=True).encode()).hexdigest()


def key_file(text: str | None) -> dict[str, str]:
    """Return key_id and key of a key file (see omega.b2.files); without those that are missing."""
    found = {}
    for name, value in re.findall(r"^(key_id|key):[ \t]*(\S+)[ \t]*$", text or "", re.MULTILINE):
        found[name] = json.loads(value) if value.startswith('"') else value.strip("'")
    return found


def fields(board: Board) -> dict:
    """Return the kit's fields from the files of the master. Raise StepError if a file is missing."""
    try:
        bucket = json.loads(board.read(f"{FOLDER}/bucket.json") or "")
        found = {name: bucket[name] for name in ("cluster", "bucket", "endpoint", "region")}
        reader = key_file(board.read(f"{FOLDER}/reader"))
        found.update(key_id=reader["key_id"], key=reader["key"])
        found["recovery"] = (board.read(f"{FOLDER}/recovery") or "").strip()
    except (ValueError, KeyError):
        raise StepError(f"{FOLDER} lacks bucket.json, or the key of the kit", INIT) from None
    if not found["recovery"]:
        raise StepError(f"there is no file {FOLDER}/recovery", INIT)
    pattern = f"{FOLDER}/nodes/*/key"
    found["nodes"] = [path.split("/")[-2] for path in board.glob(pattern)]
    return found


def mark(board: Board) -> dict:
    """Return ``{"hash", "checked", "stale"}``: of the kit that was checked last, "" and 0 if none was; and whether the
    secrets have changed since, or none was checked.
    """
    try:
        found = json.loads(board.read(MARK) or "{}")
    except ValueError:
        found = {}
    last = str(found.get("hash") or "")
    return {"hash": last, "checked": found.get("checked") or 0, "stale": last != digest(fields(board))}
