"""Whether a node holds the modules that its master serves: one digest for either side.

It stands alone: a node asks before it brings its modules up to date, and what is imported by then stays as it was.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator

# What `saltutil.sync_all` takes (salt/utils/extmods.py).
SUFFIXES = (".py", ".pyx", ".so", ".zip")


def served(roots: list[str]) -> str:
    """Return the digest of the modules that a file server has for minions.

    :param roots: its folders, ``file_roots`` of one environment; as there, the first that has a file wins
    :return: hexadecimal string; empty if a file cannot be read, or is exchanged at this moment
    """
    return _digest((name[1:], path) for root in roots for name, path in _folders(root) if name.startswith("_"))


def synced(folder: str) -> str:
    """Return the digest of the modules that a minion has.

    :param folder: its option ``extension_modules``
    :return: hexadecimal string, the master's if they are the same; empty as above
    """
    return _digest(_folders(folder))


def _folders(path: str) -> Iterator[tuple[str, str]]:
    if os.path.isdir(path):
        yield from ((entry.name, entry.path) for entry in os.scandir(path) if entry.is_dir())


def _digest(folders: Iterable[tuple[str, str]]) -> str:
    whole, files = hashlib.sha256(), dict[tuple[str, str], str]()
    try:
        for kind, folder in folders:
            for parent, _, names in os.walk(folder, followlinks=True):
                for name in names:
                    if name.endswith(SUFFIXES):
                        path = os.path.join(parent, name)
                        files.setdefault((kind, os.path.relpath(path, folder)), path)
        for kind, name in sorted(files):
            with open(files[kind, name], "rb") as file:
                content = file.read()
            whole.update(f"{kind}/{name}\0{len(content)}\0".encode() + content)
    except OSError:
        return ""
    return whole.hexdigest()
