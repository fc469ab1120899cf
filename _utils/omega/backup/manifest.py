"""The file in each snapshot that says what the snapshot has to have: a drill compares without the original."""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from omega.core import files

NAME = "rpiomega-manifest.json"
MOST_FILES = 200
MOST_BYTES = 64 * 1024 * 1024
_CHANGED_BYTES = 8 * 1024 * 1024  # of changed files that are read again while containers are paused


def path(folder: str, group: str) -> str:
    """Return the path of a group's manifest below the run's folder."""
    return os.path.join(folder, "manifest", group, NAME)


def survey(paths: Iterable[str], since: float = 0.0, exclude: Iterable[str] = ()) -> dict[str, Any]:
    """Return what the paths have and a bounded sample of it, read while they may change.

    :param since: seconds of the epoch of the last snapshot
    :param exclude: patterns of restic
    :return: ``{"counts": {"files", "bytes"}, "changed": bytes of files changed after `since`, "sample": [...]}``; a
        sample has path, size, mtime (nanoseconds) and sha256
    """
    count = size = changed = 0
    chosen: list[tuple[str, os.stat_result]] = []
    for name, found in _walk(paths, excluder(exclude)):
        count += 1
        size += found.st_size
        changed += found.st_size if max(found.st_mtime, found.st_ctime) > since else 0
        # Reservoir of a fixed size: each file has the same chance, whatever the number of files.
        place = count - 1 if count <= MOST_FILES else secrets.randbelow(count)
        if count <= MOST_FILES:
            chosen.append((name, found))
        elif place < MOST_FILES:
            chosen[place] = (name, found)
    sample: list[dict] = []
    left = MOST_BYTES
    for name, found in sorted(chosen, key=lambda item: item[1].st_size):
        if found.st_size > left:
            break
        entry = _entry(name)
        if entry:
            sample.append(entry)
            left -= entry["size"]
    sample.sort(key=lambda item: item["path"])
    return {"counts": {"files": count, "bytes": size}, "changed": changed, "sample": sample}


def settled(sample: list[dict]) -> list[dict]:
    """Return the sample as the files are now, for data at rest: what changed since is read again, within a bound."""
    result, left = [], _CHANGED_BYTES
    for entry in sample:
        try:
            found = os.lstat(entry["path"])
        except OSError:
            continue
        if (found.st_size, found.st_mtime_ns) == (entry["size"], entry["mtime"]):
            result.append(entry)
        elif found.st_size <= left:
            again = _entry(entry["path"])
            left -= found.st_size
            if again:
                result.append(again)
    return result


def write(target: str, head: dict[str, Any], sample: list[dict], counts: dict[str, int]) -> str:
    """Write a manifest and return the SHA-256 of its canary.

    :param target: of `path`
    :param head: node, cluster, group, mode, time, volumes, and dump if there is one
    """
    canary = secrets.token_hex(32)
    content = {"version": 1, **head, "canary": canary, "sample": sample, "counts": counts}
    folder = os.path.dirname(target)
    os.makedirs(folder, mode=0o700, exist_ok=True)
    files.write(target, json.dumps(content, indent=1, sort_keys=True) + "\n", 0o600)
    return hashlib.sha256(canary.encode()).hexdigest()


def excluder(patterns: Iterable[str]) -> Callable[[str], bool]:
    """Return whether restic leaves a path out: a pattern that begins with / matches from the top, another anywhere.

    One that begins with ! takes back what those before it leave out (restic's manual, "Excluding Files").
    """
    found = [(pattern.startswith("!"), _compiled(pattern.lstrip("!"))) for pattern in patterns]

    def excluded(path: str) -> bool:
        out = False
        for back, compiled in found:
            if out == back and compiled and compiled.search(path):
                out = not back
        return out

    return excluded


def _compiled(pattern: str) -> re.Pattern | None:
    if not pattern.strip("/"):
        return None
    try:
        return re.compile(_expression(pattern))
    except re.error:
        return None  # [z-a] matches nothing; what is no pattern at all is refused by restic


def _expression(pattern: str) -> str:
    parts = []
    for part in pattern.strip("/").split("/"):
        if part == "**":
            parts.append(".*")
            continue
        pieces = re.findall(r"\\.|\[\^?[^]]+\]|.", part)
        parts.append("".join(_piece(piece) for piece in pieces))
    return ("^/" if pattern.startswith("/") else "(?:^|/)") + "/".join(parts) + "(?:/|$)"


def _piece(piece: str) -> str:
    if piece in ("*", "?"):
        return "[^/]*" if piece == "*" else "[^/]"
    return piece if piece.startswith("[") and len(piece) > 1 else re.escape(piece[-1])


def _walk(paths: Iterable[str], excluded: Callable[[str], bool]) -> Iterator[tuple[str, os.stat_result]]:
    """Yield (path, lstat) of each regular file; what vanishes meanwhile is left out."""
    for top in paths:
        if not os.path.isdir(top):
            yield from _regular(top)
        for folder, folders, names in os.walk(top):
            folders[:] = [name for name in folders if not excluded(os.path.join(folder, name))]
            for name in names:
                if not excluded(os.path.join(folder, name)):
                    yield from _regular(os.path.join(folder, name))


def _regular(name: str) -> Iterator[tuple[str, os.stat_result]]:
    try:
        found = os.lstat(name)
    except OSError:
        return
    if stat.S_ISREG(found.st_mode):
        yield name, found


def _entry(name: str) -> dict | None:
    digest = hashlib.sha256()
    try:
        # Not through a link, and not a file that waits for a writer.
        with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:
            before = os.fstat(file.fileno())
            while block := file.read(1 << 20):
                digest.update(block)
            after = os.fstat(file.fileno())
    except OSError:
        return None
    if (before.st_size, before.st_mtime_ns) != (after.st_size, after.st_mtime_ns) or not stat.S_ISREG(after.st_mode):
        return None
    try:
        name.encode()
    except UnicodeEncodeError:
        return None  # its name is no text
    return {"path": name, "size": after.st_size, "mtime": after.st_mtime_ns, "sha256": digest.hexdigest()}
