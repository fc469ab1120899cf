"""Docker's data root: on a disk that is there, and moved with what it holds or not at all."""

import os
import shutil
import subprocess

from omega.core import files
from omega.core.errors import Failure

DEFAULT = "/var/lib/docker"
# Below the data root, what there is only once somebody has used the engine.
_SIGNS = {
    "containers": ("containers",),
    "volumes": ("volumes",),
    "images": ("image/overlay2/imagedb/content/sha256", "image/vfs/imagedb/content/sha256"),
    "a swarm": ("swarm",),
}
# Stands in a data root until it is complete.
COPYING = ".rpiomega-copying"
COPY_BOUND = 6 * 3600  # seconds; 100 GB at 5 MB/s
MEASURE_BOUND = 900
_OWN = {"metadata.db", "backingFsBlockDev"}


class DataError(Failure):
    """The data root cannot be used; the text says what to do next."""


def mount_of(path):
    """Return the mount point of the file system that `path` is on, or would be."""
    path = os.path.realpath(path)
    while not os.path.ismount(path):
        path = os.path.dirname(path)
    return path


def dependence(path):
    """Return the part of a systemd unit that keeps the engine from starting without the disk of `path`; None: no need.

    AssertPathIsMountPoint also holds for a disk that somebody mounted by hand: no unit stands for it after a reboot.
    """
    if path == DEFAULT:
        return None
    return (
        "# Written by rpiomega from docker.data_root of the site file.\n"
        f"[Unit]\nRequiresMountsFor={path}\nAssertPathIsMountPoint={mount_of(path)}\n"
    )


def check_place(path):
    """Return if `path` is on a disk of its own.

    :raises DataError: it is on the root file system, which a card would soon be full with
    """
    if path != DEFAULT and mount_of(path) == "/":
        raise DataError(
            f"docker.data_root {path}: no disk is mounted there, and Docker would fill the card. "
            "Mount it (`lsblk -f`, /etc/fstab), then apply again"
        )


def holds(path):
    """Return what a data root holds, in words; an empty list: nothing that anybody would miss."""
    return [what for what, folders in _SIGNS.items() if any(_used(os.path.join(path, name)) for name in folders)]


def _used(folder):
    try:
        return bool(set(os.listdir(folder)) - _OWN)
    except (FileNotFoundError, NotADirectoryError):
        return False


def plan(old, new, move):
    """Return whether the data of `old` has to be copied to `new`.

    :param move: whether that is allowed
    :raises DataError: it is not allowed, both hold data, or it does not fit
    """
    check_place(new)
    have = holds(old)
    # The same folder by another name, as where the owner has made /var/lib/docker a link to the disk.
    if not have or os.path.realpath(old) == os.path.realpath(new):
        return False
    if os.path.realpath(new).startswith(f"{os.path.realpath(old)}/"):
        raise DataError(f"docker.data_root: {new} is inside of {old}, whose data would move; choose another folder")
    interrupted = COPYING in _entries(new)
    there = [] if interrupted else holds(new)
    if there:
        raise DataError(
            f"docker.data_root: both {old} and {new} hold data ({', '.join(there)}): rename the one not to be used"
        )
    if not move:
        raise DataError(
            f"docker.data_root: {old} holds {', '.join(have)}. Write `move_data: true` beside it, or on this node: "
            f"`systemctl stop docker.socket docker && mkdir -p {new} && cp -a {old}/. {new}/ && mv {old} {old}.old`; "
            "then apply again"
        )
    if _entries(new) and not interrupted:
        raise DataError(f"docker.data_root: {new} is not empty, so nothing is copied there; choose a folder of its own")
    fits(old, new)
    return True


def fits(old, new, besides=0):
    """Return if what `old` contains has room where `new` is.

    :param besides: MB that are needed there as well
    :raises DataError: it has not
    """
    # What an interrupted copy left goes before the next one.
    need, free = megabytes(old) + besides, _free(new) + (megabytes(new) if COPYING in _entries(new) else 0)
    if need > free:
        raise DataError(f"docker.data_root: {old} needs {need} MB and {mount_of(new)} has {free} MB free")


def copy(old, new):
    """Copy a folder of data whole, while no engine uses it; the old one stays.

    The copy counts as incomplete until `complete` is called: after a power cut the next one begins again.

    :raises DataError: it could not be copied within COPY_BOUND, and `new` is empty again
    """
    _clear(new)
    os.makedirs(new, mode=0o710, exist_ok=True)
    with open(os.path.join(new, COPYING), "w", encoding="utf-8"):
        pass
    try:
        done = _run(COPY_BOUND, "cp", "-a", f"{old}/.", new)
        if done.returncode:
            raise DataError(done.stderr.strip().splitlines()[-1])
    except DataError as error:
        _clear(new)
        raise DataError(f"docker.data_root: {old} was not copied to {new}: {error}") from None
    os.sync()


def complete(folder):
    """Have a copy count as whole: the engine's settings name it now. Return whether it did not before."""
    if COPYING not in _entries(folder):
        return False
    os.unlink(os.path.join(folder, COPYING))
    files.sync_folder(folder)
    return True


def incomplete(folder):
    """Whether a copy into this folder has begun and not been completed."""
    return COPYING in _entries(folder)


def _entries(folder):
    try:
        return set(os.listdir(folder)) - {"lost+found"}
    except FileNotFoundError:
        return set()


def _clear(folder):
    """Remove what an interrupted copy left, and nothing else."""
    if COPYING not in _entries(folder):
        return
    for name in _entries(folder) - {COPYING}:
        path = os.path.join(folder, name)
        shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
    os.unlink(os.path.join(folder, COPYING))


def megabytes(path):
    """Return how many MB a folder takes, without what is mounted below it."""
    try:
        # Its exit code says only that a file went meanwhile: the engine still runs.
        shown = _run(MEASURE_BOUND, "du", "-smx", path).stdout
    except DataError as error:
        raise DataError(f"docker.data_root: how much {path} holds is unknown: {error}") from None
    return int(shown.split()[0]) if shown else 0


def _run(bound, *command):
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=bound, check=False)
    except subprocess.TimeoutExpired:
        raise DataError(f"`{command[0]}` did not end within {bound} s; see `dmesg` for errors of the disk") from None


def _free(path):
    while not os.path.exists(path):
        path = os.path.dirname(path)
    return shutil.disk_usage(path).free >> 20
