"""Read snapshots: what is in them, how large it is, and one path of them restored below a folder."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
from collections.abc import Callable
from typing import Any

from omega.backup import restic
from omega.backup.pick import RestoreError, shown, taken
from omega.backup.restic import Repository
from omega.backup.restic_errors import ResticError

MARGIN = 32 << 20  # bytes that stay free
MANIFEST = "rpiomega-manifest.json"


def escaped(name: str) -> str:
    """Return a file's name as a pattern of restic that matches it alone."""
    return re.sub(r"([\\*?\[])", r"\\\1", name)


def selection(row: dict, path: str) -> list[str]:
    """Return the arguments of `restic restore` that select one path: it becomes an entry of the target.

    The folder above it is given as ID:FOLDER, because restic sets no owner and mode on the target itself.
    """
    folder, name = os.path.split(path)
    return ["restore", f"{row['id']}:{folder}", "--include", f"/{escaped(name)}"]


def measured(repository: Repository, row: dict, path: str) -> dict[str, int]:
    """Return {"files", "bytes"} that a restore of `path` writes; restic itself is asked, and writes nothing.

    :raises RestoreError: not_found: the snapshot has no such path
    """
    try:
        shown_end = restic.run(repository, [*selection(row, path), "--dry-run", "--target", "/nonexistent"])
    except ResticError as error:
        raise _absent(error, row, path) or error from None
    found = next((event for event in shown_end if event.get("message_type") == "summary"), {})
    if not found.get("total_files"):
        raise _not_there(row, path)
    return {"files": int(found["total_files"]), "bytes": int(found.get("total_bytes", 0))}


def has(repository: Repository, row: dict, path: str) -> bool:
    """Return whether a snapshot has a path."""
    try:
        measured(repository, row, path)
    except RestoreError:
        return False
    return True


def into(
    repository: Repository, row: dict, path: str, target: str, on_event: Callable[[dict], Any] | None = None
) -> str:
    """Restore one path of a snapshot as an entry of the folder `target`; return where it is.

    Owner, mode, times, extended attributes, ACLs, hard links within it and holes are those of the snapshot.

    :raises RestoreError: not_found, no_space
    :raises ResticError: as `restic.run`
    """
    os.makedirs(target, mode=0o700, exist_ok=True)
    try:
        restic.run(repository, [*selection(row, path), "--sparse", "--target", target], on_event)
    except ResticError as error:
        raise _absent(error, row, path) or error from None
    made = os.path.join(target, os.path.basename(path))
    if not os.path.lexists(made):
        raise _not_there(row, path)
    return made


def manifest(repository: Repository, row: dict, scratch: str) -> dict | None:
    """Return the manifest of a snapshot, None if it has none.

    :param scratch: a folder that may be written to
    :raises RestoreError: damaged: it is no JSON object
    """
    at = next((path for path in row.get("paths") or () if path.endswith(f"/{MANIFEST}")), None)
    if not at:
        at = next((f"{path}/{MANIFEST}" for path in row.get("paths") or () if "/backup/manifest/" in path), None)
    if not at:
        return None
    made = into(repository, row, at, os.path.join(scratch, "manifest"))
    try:
        with open(made, encoding="utf-8", errors="surrogateescape") as file:
            found = json.load(file)
        if not isinstance(found, dict):
            raise ValueError("no object")
    except ValueError as error:
        raise RestoreError("damaged", f"its manifest cannot be read ({error})", "", _named(row)) from None
    finally:
        shutil.rmtree(os.path.join(scratch, "manifest"), ignore_errors=True)
    return found


def room(folder: str, need: int, what: str) -> None:
    """Return if `need` bytes have room in the file system of `folder`.

    :raises RestoreError: no_space
    """
    while not os.path.exists(folder):
        folder = os.path.dirname(folder)
    free = shutil.disk_usage(folder).free
    if need + MARGIN > free:
        sizes = f"{_mib(need + MARGIN)} MiB are needed and {_mib(free)} MiB are free at {folder}"
        raise RestoreError("no_space", sizes, "see `df -h`, or name another folder with --to", what)


def refused_by_disk(error: OSError, what: str) -> RestoreError:
    """Return the error of a call of the system's as one line."""
    kind = "no_space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "not_restored"
    where = f" {error.filename}" if error.filename else ""
    return RestoreError(kind, f"{error.strerror}{where}", "see `df -h` and `dmesg`", what)


def _mib(size: int) -> int:
    return -(-size >> 20)


def _named(row: dict) -> str:
    return f"snapshot {row['id'][:8]} of {shown(taken(row))}"


def _not_there(row: dict, path: str) -> RestoreError:
    return RestoreError("not_found", f"{_named(row)} does not have it", "give another --at", path)


def _absent(error: ResticError, row: dict, path: str) -> RestoreError | None:
    """Return the error for a path whose folder is not in the snapshot; None if restic failed for another reason."""
    return _not_there(row, path) if re.search(r"path .*: not found|subfolder", error.cause) else None
