"""A mounted file system, the partition below it and the disk below that, read from the kernel."""

from __future__ import annotations

import contextlib
import fcntl
import os
import struct
from dataclasses import dataclass, field

from rpiomega.node.step import StepError

SECTOR = 512
# XFS_IOC_FSGEOMETRY_V1 (fs/xfs/libxfs/xfs_fs.h): struct xfs_fsop_geom_v1 of 112 bytes.
_XFS_GEOMETRY = 0x80705864
_LAYERS = {"LVM": "LVM", "CRYPT": "LUKS", "mpath": "multipath"}


@dataclass
class Disk:
    """All sizes in bytes. `number` is 0 where the file system is on a whole disk; `room` is free behind it.

    `device` has the file system. `layer` is what is between it and the partition (LVM, LUKS, RAID; empty for nothing),
    `below` that partition. `size` is the device's, `partition` that of the partition. `behind` are the partitions that
    follow on the disk; `logical`: it is inside an extended partition.
    """

    kind: str
    device: str
    disk: str
    number: int
    partition: int
    file_system: int
    room: int
    last: bool
    size: int = 0
    layer: str = ""
    below: str = ""
    behind: list[str] = field(default_factory=list)
    logical: bool = False
    read_only: bool = False


def find(mount: str) -> Disk | None:
    """Return what is mounted at a path; None where no block device is below it (overlay, container, network)."""
    entry = _mounted(mount)
    if entry is None:
        return None
    folder = _folder(*entry)
    if not folder:
        return None
    kind, device, size = entry[1], _device(folder), _number(f"{folder}/size") * SECTOR
    base, layer = _base(folder)
    found = Disk(kind, device, _device(base), 0, _number(f"{base}/size") * SECTOR, 0, 0, True, size, layer)
    found.below = found.disk
    if os.path.exists(f"{base}/partition"):
        found.number, parent = _number(f"{base}/partition"), os.path.dirname(base)
        found.disk = _device(parent)
        end = _number(f"{base}/start") * SECTOR + found.partition
        others = [other for other in _partitions(parent) if other != base]
        found.behind = [_device(other) for other in others if _number(f"{other}/start") * SECTOR >= end]
        found.logical = found.number > 4 and _is_dos(found.disk)
        found.last = not found.behind
        found.room = _number(f"{parent}/size") * SECTOR - end if found.last else 0
    found.read_only = bool(os.statvfs(mount).f_flag & os.ST_RDONLY)
    found.file_system = _file_system(device, kind, mount)
    return found


def kind(mount: str) -> str:
    """Return the type of the file system mounted at a path, an empty string if nothing is."""
    entry = _mounted(mount)
    return entry[1] if entry else ""


def _mounted(mount: str) -> tuple[str, str, str] | None:
    """Return (``major:minor``, type, source) of the file system mounted at a path (proc(5), mountinfo)."""
    found = None
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as table:
        for line in table:
            left, _, right = line.partition(" - ")
            words = left.split()
            if words[4] == (mount.rstrip("/") or "/"):
                found = words[2], right.split()[0], right.split()[1]
    return found


def _folder(number: str, _kind: str, source: str) -> str:
    """Return the kernel's folder of a block device; empty if there is none. btrfs has a number of its own."""
    if number.startswith("0:"):
        try:
            device = os.stat(source).st_rdev if source.startswith("/dev/") else 0
        except OSError:
            device = 0
        number = f"{os.major(device)}:{os.minor(device)}"
    folder = os.path.realpath(f"/sys/dev/block/{number}")
    return folder if os.path.isdir(folder) and not number.startswith("0:") else ""


def _base(folder: str) -> tuple[str, str]:
    """Return (folder of the partition or disk at the bottom, what is on top of it)."""
    layer = ""
    while os.path.isdir(f"{folder}/slaves") and os.listdir(f"{folder}/slaves"):
        kinds = _LAYERS.get(_text(f"{folder}/dm/uuid").partition("-")[0], "device mapper")
        kinds = "RAID" if os.path.isdir(f"{folder}/md") else kinds
        layer = f"{layer} on {kinds}" if layer else kinds
        below = sorted(os.listdir(f"{folder}/slaves"))
        if len(below) > 1:
            return folder, f"{layer} over {len(below)} devices"
        folder = os.path.realpath(f"{folder}/slaves/{below[0]}")
    return folder, layer


def _device(folder: str) -> str:
    name = _text(f"{folder}/dm/name")
    # The kernel writes a slash of a name as an exclamation mark (cciss!c0d0).
    return f"/dev/mapper/{name}" if name else f"/dev/{os.path.basename(folder).replace('!', '/')}"


def _partitions(parent: str) -> list[str]:
    return [f"{parent}/{name}" for name in sorted(os.listdir(parent)) if os.path.exists(f"{parent}/{name}/partition")]


def _is_dos(device: str) -> bool:
    """Return whether a disk has a DOS partition table, and not the protective one of GPT (type 0xEE)."""
    with contextlib.suppress(OSError), open(device, "rb") as handle:
        block = handle.read(SECTOR)
        return block[510:] == b"\x55\xaa" and block[450] != 0xEE
    return False


def is_swap(device: str) -> bool:
    """Return whether a device is used as swap, or has been prepared for it (mkswap(8): its first page)."""
    with contextlib.suppress(OSError), open(device, "rb") as handle:
        handle.seek(4086)
        return handle.read(10) == b"SWAPSPACE2"
    return False


def _text(path: str) -> str:
    with contextlib.suppress(OSError), open(path, encoding="ascii") as handle:
        return handle.read().strip()
    return ""


def _number(path: str) -> int:
    with open(path, encoding="ascii") as handle:
        return int(handle.read())


def _file_system(device: str, kind: str, mount: str) -> int:
    """Return a file system's own size, 0 where it is not known."""
    if kind in ("ext2", "ext3", "ext4"):
        return _ext(_start(device))
    if kind == "f2fs":
        # struct f2fs_super_block (include/linux/f2fs_fs.h): block_count, in blocks of 1 << log_blocksize.
        block = _start(device)
        return struct.unpack_from("<Q", block, 36)[0] << struct.unpack_from("<I", block, 16)[0]
    if kind == "xfs":
        return _xfs(mount)
    if kind == "btrfs":
        state = os.statvfs(mount)
        return state.f_blocks * state.f_frsize
    return 0


def _start(device: str) -> bytes:
    """Return the kilobyte of a device in which ext and f2fs have their superblock."""
    try:
        with open(device, "rb") as handle:
            handle.seek(1024)
            return handle.read(1024)
    except OSError as error:
        raise StepError(f"{device} cannot be read: {error.strerror}", "run as root on the board") from None


def _ext(block: bytes) -> int:
    """Return an ext file system's size from its superblock (docs.kernel.org/filesystems/ext4/super.html)."""
    low, (log_size,), (magic,) = (
        *struct.unpack_from("<I", block, 4),
        struct.unpack_from("<I", block, 24),
        (struct.unpack_from("<H", block, 56)),
    )
    if magic != 0xEF53:
        raise StepError("the root file system has no ext superblock", "see `blkid` on the board")
    high = struct.unpack_from("<I", block, 0x150)[0] if struct.unpack_from("<I", block, 0x60)[0] & 0x80 else 0
    return (low + (high << 32)) * (1024 << log_size)


def _xfs(mount: str) -> int:
    handle = os.open(mount, os.O_RDONLY | os.O_DIRECTORY)
    try:
        answer = fcntl.ioctl(handle, _XFS_GEOMETRY, bytes(112))
    except OSError:
        return 0
    finally:
        os.close(handle)
    return struct.unpack_from("<I", answer, 0)[0] * struct.unpack_from("<Q", answer, 32)[0]
