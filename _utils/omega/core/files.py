"""Whole-file writes: a reader sees the old text or the new one, never half of it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import os
import tempfile
from collections.abc import Callable
from typing import IO, Any

from omega.core.polling import until


def read(path: str) -> str | None:
    """Return the text of ``path``, or None if there is no such file.

    A worn card gives back bytes that are no text: they differ from any, and `write` gives them back as they were.
    """
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return None


def mode_of(path: str) -> int | None:
    """Return the permission bits of ``path``, or None if there is no such file."""
    try:
        return os.stat(path).st_mode & 0o7777
    except FileNotFoundError:
        return None


def remove(path: str) -> None:
    """Remove ``path``, if there is such a file."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)


def write(path: str, text: str, mode: int = 0o644) -> None:
    """Replace ``path`` by ``text`` with permission bits ``mode``, surviving a power cut at any moment."""
    folder = os.path.dirname(path)
    os.makedirs(folder, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder, prefix=".rpiomega-")
    try:
        with open(handle, "w", encoding="utf-8", errors="surrogateescape") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), mode)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)
        raise
    sync_folder(folder)


def lock(file: IO, bound: float, failure: Any = None) -> None:
    """
    Lock an open file against other processes until it is closed (flock(2)), or wait for another holder.

    :param bound: seconds to wait
    :param failure: as of `omega.core.polling.until`
    :raises TimedOut: another process has held it all the time
    """

    def locked() -> bool:
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    until(locked, bound, f"the lock {file.name}", pause=0.1, failure=failure)


def sync_folder(path: str) -> None:
    """Bring the names in the folder ``path`` to the disk: after a power cut, too, a file has the one it was given."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def disk_errors_returned(state: Callable[..., dict]) -> Callable[..., dict]:
    """Decorate a state function: on a card that is full, read-only or worn it fails in one line, not in a traceback."""

    @functools.wraps(state)
    def wrapper(name: str, *args: Any, **kwargs: Any) -> dict:
        try:
            return state(name, *args, **kwargs)
        except OSError as error:
            if error.errno is None:  # no call of the system's
                raise
            where = f" {error.filename}" if error.filename else ""
            problem = f"{name}: {error.strerror}{where}{_why(error)}"
            comment = f"{problem}; see `df` and `dmesg` on this node, then apply again"
            return {"name": name, "result": False, "changes": {}, "comment": comment}

    return wrapper


def _why(error: OSError) -> str:
    """What an error of the system means for the owner of the card, as a clause; "" if nothing is known."""
    if error.errno == errno.EROFS:
        return " (the kernel makes a failing card read-only: replace it if `dmesg` has errors of it)"
    if error.errno == errno.ENOSPC:
        return " (or no inode is free: `df -i`)"
    return ""
