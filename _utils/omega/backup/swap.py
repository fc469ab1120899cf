"""Put a restored file or folder in its place; what was there is kept under a name of its own.

A kill or a power cut at any moment leaves the old or the new one whole in its place, and deletes neither.
"""

from __future__ import annotations

import ctypes
import errno
import os
import shutil

from omega.backup import facts
from omega.backup.pick import RestoreError
from omega.core import files

STAGING = ".rpiomega-restoring"
EXCHANGE = 2  # RENAME_EXCHANGE, renameat2(2)
HERE = -100  # AT_FDCWD


def staging(place: str) -> str:
    """Return the folder beside `place` that a restore writes to first: the same file system."""
    return os.path.join(os.path.dirname(place), STAGING)


def cleared(place: str) -> str:
    """Remove what an interrupted restore left in the staging folder of `place`; return that folder.

    The staging folder never has the only copy of anything (`put`).
    """
    folder = staging(place)
    remove(folder)
    return folder


def kept_name(place: str, stamp: str) -> str:
    """Return a name beside `place` that no file has."""
    name, number = f"{place}.before-restore-{stamp}", 1
    while os.path.lexists(name):
        number += 1
        name = f"{place}.before-restore-{stamp}-{number}"
    return name


def refuse_mount(place: str) -> None:
    """Return if `place` can be renamed.

    :raises RestoreError: not_restored: it is a mount point
    """
    # Not os.path.ismount: it does not see a bind mount of the same file system.
    if os.path.realpath(place) in facts._mounts():
        raise _mounted(place)


def _mounted(place: str) -> RestoreError:
    cause = "it is a mount point, which cannot be renamed"
    return RestoreError("not_restored", cause, "restore its files to another folder: rpiomega restore file --to", place)


def put(made: str, place: str, kept: str | None) -> bool:
    """Move `made` to `place`; what was there goes to `kept`, or is removed. Return whether something was there.

    :param kept: a name that no file has, beside `place`; None: nothing is kept
    :raises RestoreError: not_restored: `place` is a mount point
    """
    if not os.path.lexists(place):
        os.rename(made, place)
        files.sync_folder(os.path.dirname(place))
        return False
    try:
        _replace(made, place, kept)
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.EXDEV):
            raise
        raise _mounted(place) from None
    files.sync_folder(os.path.dirname(place))
    return True


def _replace(made: str, place: str, kept: str | None) -> None:
    if kept is None and not os.path.isdir(made) and (os.path.islink(place) or not os.path.isdir(place)):
        os.replace(made, place)
        return
    # The new one has the kept name for a moment. The next run empties the staging folder: the old one is never in it.
    aside = kept or kept_name(place, "replaced")
    os.rename(made, aside)
    try:
        exchanged = exchange(aside, place)
    except OSError:
        os.rename(aside, made)
        raise
    if not exchanged:
        # Two steps where the file system cannot exchange: in between, both are whole beside `place`.
        os.rename(aside, made)
        os.rename(place, aside)
        files.sync_folder(os.path.dirname(place))
        os.rename(made, place)
    if kept is None:
        remove(aside)


def exchange(one: str, other: str) -> bool:
    """Exchange two names of one file system in one step; return False where the file system cannot.

    :raises OSError: it can, and refused
    """
    call = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)  # glibc 2.28
    if call is None:
        return False
    if call(HERE, os.fsencode(one), HERE, os.fsencode(other), EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP):
        return False
    raise OSError(number, os.strerror(number), other)


def remove(path: str) -> None:
    """Remove a file or a folder with all it has, if there is one."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    else:
        files.remove(path)
