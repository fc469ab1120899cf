"""Restored files against the manifest of their snapshot. Nothing is compared with files that go on changing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass

# Runs survey before they save, so files that are saved while they change are not what the survey saw.
TOLERANCE = 0.1
SMALL = 10  # files
LEAST_SAME = 0.5  # of a sample saved in mode hot
AT_REST = frozenset({"pause", "dump"})


@dataclass(frozen=True)
class Compared:
    """`problems`: one line each; `same`: files of the sample that were equal; `changed`: saved after the survey."""

    problems: tuple[str, ...]
    same: int
    changed: int
    files: int
    bytes: int


def tree(manifest: dict, root: str, below: str = "", whole: bool = True, paths: Sequence[str] = ()) -> Compared:
    """
    Compare restored files with a manifest.

    :param manifest: of omega.backup.manifest
    :param root: the folder that is ``/`` for the paths of the manifest
    :param below: only the sample below this path
    :param paths: what is counted below `root`; empty: `below`
    :param whole: all files of the group are there, so their number and size are compared, too
    """
    problems: list[str] = []
    same = changed = 0
    inside = [entry for entry in manifest.get("sample") or () if _within(entry["path"], below)]
    for entry in inside:
        problem = _entry(entry, root + entry["path"])
        same += problem == ""
        changed += problem == "changed"
        if problem and (problem != "changed" or manifest.get("mode") in AT_REST):
            problems.append(f"{entry['path']} {'is missing or has another date' if problem == 'changed' else problem}")
    if not problems and inside and same < LEAST_SAME * len(inside):
        problems.append(f"only {same} of {len(inside)} files of the sample are as the manifest says")
    sizes = [counted(root + path) for path in paths or [below]]
    count, size = sum(one for one, _ in sizes), sum(one for _, one in sizes)
    counts = manifest.get("counts") or {}
    if whole and counts:
        problems += _fewer("files", count, int(counts["files"]), SMALL)
        problems += _fewer("bytes", size, int(counts["bytes"]), 1 << 20)
    return Compared(tuple(problems), same, changed, count, size)


def counted(root: str) -> tuple[int, int]:
    """Return the number and the size in bytes of the regular files below a path."""
    count = size = 0
    if os.path.isfile(root) and not os.path.islink(root):
        return 1, os.path.getsize(root)
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                count += 1
                size += os.path.getsize(path)
    return count, size


def _fewer(what: str, found: int, expected: int, small: int) -> list[str]:
    if abs(found - expected) <= max(small, expected * TOLERANCE) and not (expected and not found):
        return []
    return [f"{found} {what} were restored, the manifest has {expected}"]


def _entry(entry: dict, path: str) -> str:
    """Return "" for an equal file, "changed" for one that was saved later than surveyed or not at all, else why not."""
    try:
        found = os.lstat(path)
    except OSError:
        return "changed"
    if "mtime" in entry and found.st_mtime_ns != entry["mtime"]:
        return "changed"
    return "" if sha256(path) == entry["sha256"] else "has another content than the manifest says"


def sha256(path: str) -> str:
    """Return the SHA-256 of a file, hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _within(path: str, below: str) -> bool:
    return not below or path == below or path.startswith(below + "/")
