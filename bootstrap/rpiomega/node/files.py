"""Files as they should be: compared, and written so that a power cut leaves the old or the new one, never half."""

from __future__ import annotations

import errno
import grp
import os
import pwd
import stat
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rpiomega.node.step import Diff, StepError

if TYPE_CHECKING:
    from rpiomega.node.board import Board


def read(path: str) -> str | None:
    """Return the text of a file, None if there is none. Bytes that are not UTF-8 survive a round trip."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as handle:
            return handle.read()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise StepError(f"{path} cannot be read: {error.strerror}", "check the file and the card") from None


def write(path: str, text: str | bytes, mode: int | None = None, owner: tuple[int, int] | None = None) -> None:
    """Replace a file whole: temporary file beside it, fsync, rename, fsync of the folder.

    Without `mode` and `owner` an existing file keeps its own; a new one gets 0644, root.
    """
    data = text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
    path = os.path.realpath(path)
    folder = os.path.dirname(path)
    try:
        os.makedirs(folder, mode=0o755, exist_ok=True)
        mode, owner = _kept(path, mode, owner)
        handle, temporary = tempfile.mkstemp(prefix=f".{os.path.basename(path)}.", suffix=".rpiomega", dir=folder)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(data)
                stream.flush()
                _give(stream.fileno(), mode, owner)
                os.fsync(stream.fileno())
            _rename(temporary, path, data)
        finally:
            if os.path.exists(temporary):
                os.unlink(temporary)
        _sync(folder)
    except OSError as error:
        raise StepError(f"{path} cannot be written: {error.strerror}", _cure(error)) from None


def _cure(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        return "free some space on the card (`df -h`)"
    if error.errno == errno.EROFS:
        return "the file system is read-only: look for card errors with `dmesg`, then `mount -o remount,rw`"
    return "check the folder's owner and mode"


def _kept(path: str, mode: int | None, owner: tuple[int, int] | None) -> tuple[int, tuple[int, int]]:
    try:
        found = os.stat(path)
    except FileNotFoundError:
        return (0o644 if mode is None else mode), owner or (os.geteuid(), os.getegid())
    kept = stat.S_IMODE(found.st_mode) if mode is None else mode
    return kept, owner or (found.st_uid, found.st_gid)


def _give(handle: int, mode: int, owner: tuple[int, int]) -> None:
    try:
        os.fchmod(handle, mode)
        os.fchown(handle, *owner)
    except PermissionError:
        # The boot partition is FAT: it has no owners and no modes.
        if os.geteuid() == 0:
            return
        raise


def _rename(temporary: str, path: str, data: bytes) -> None:
    try:
        os.replace(temporary, path)
    except OSError as error:
        if error.errno != errno.EBUSY:
            raise
        # A bind mount (a container's /etc/hosts) cannot be renamed over, only rewritten.
        with open(path, "r+b") as stream:
            stream.write(data)
            stream.truncate()
            os.fsync(stream.fileno())


def _sync(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError:
        pass  # FAT and overlay folders may refuse
    finally:
        os.close(handle)


@dataclass
class File:
    """A file as it should be; `text` None means: absent. `owner` is ``user:group``; `secret` text is never shown."""

    path: str
    text: str | None
    mode: int | None = None
    owner: str | None = None
    secret: bool = False

    def diff(self, board: Board) -> Diff:
        """Return how the board's file differs."""
        diff, path = Diff(), board.path(self.path)
        old = read(path)
        if self.text is None:
            if old is not None:
                diff.add(f"remove {self.path}")
            return diff
        if old != self.text:
            if self.secret:
                diff.add(f"write {self.path} (secret text, not shown)")
            else:
                diff.add_text(self.path, old, self.text)
        if old is not None:
            found = os.stat(path)
            if self.mode is not None and stat.S_IMODE(found.st_mode) != self.mode:
                diff.add(f"mode of {self.path}: {stat.S_IMODE(found.st_mode):04o} -> {self.mode:04o}")
            ids = self._ids()
            if ids and (found.st_uid, found.st_gid) != ids:
                diff.add(f"owner of {self.path}: {found.st_uid}:{found.st_gid} -> {self.owner}")
        return diff

    def apply(self, board: Board) -> bool:
        """Write what differs; return whether anything did."""
        if not self.diff(board):
            return False
        if self.text is None:
            os.unlink(board.path(self.path))
        else:
            write(board.path(self.path), self.text, self.mode, self._ids())
        return True

    def _ids(self) -> tuple[int, int] | None:
        if not self.owner:
            return None
        user, group = self.owner.split(":")
        try:
            return pwd.getpwnam(user).pw_uid, grp.getgrnam(group).gr_gid
        except KeyError:
            return None  # made by a package that is not there yet


def apply_all(board: Board, wanted: list[File]) -> list[str]:
    """Write all of `wanted` that differ; return the paths of those that did."""
    return [file.path for file in wanted if file.apply(board)]
