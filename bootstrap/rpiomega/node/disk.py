"""A mounted file system, the partition below it and the disk below that, read from the kernel."""

from __future__ import annotations

import os
import struct
from dataclasses import dataclass

from rpiomega.node.step import StepError

SECTOR = 512


@dataclass
class Disk:
    """All sizes in bytes. `number` is 0 where the file system lies on a whole disk; `room` is free behind it."""

    kind: str
    device: str
    disk: str
    number: int
    partition: int
    file_system: int
    room: int
    last: bool


def find(mount: str) -> Disk | None:
    """Return what is mounted at a path; None where no block device is below it (overlay, container, network)."""
    entry = _mounted(mount)
    if entry is None:
        return None
    number, kind = entry
    folder = os.path.realpath(f"/sys/dev/block/{number}")
    if not os.path.isdir(folder) or number.startswith("0:"):
        return None
    device = f"/dev/{os.path.basename(folder)}"
    size, partition = _number(f"{folder}/size") * SECTOR, 0
    disk, room, last = device, 0, True
    if os.path.exists(f"{folder}/partition"):
        partition, parent = _number(f"{folder}/partition"), os.path.dirname(folder)
        disk = f"/dev/{os.path.basename(parent)}"
        end = _number(f"{folder}/start") * SECTOR + size
        last = all(start < end for start in _starts(parent))
        room = _number(f"{parent}/size") * SECTOR - end if last else 0
    return Disk(kind, device, disk, partition, size, _file_system(device, kind), room, last)


def _mounted(mount: str) -> tuple[str, str] | None:
    """Return (``major:minor``, type) of the file system mounted at a path (proc(5), mountinfo)."""
    found = None
    with open("/proc/self/mountinfo", encoding="utf-8") as table:
        for line in table:
            left, _, right = line.partition(" - ")
            words = left.split()
            if words[4] == (mount.rstrip("/") or "/"):
                found = words[2], right.split()[0]
    return found


def _starts(parent: str) -> list[int]:
    folders = [f"{parent}/{name}" for name in os.listdir(parent) if os.path.exists(f"{parent}/{name}/partition")]
    return [_number(f"{folder}/start") * SECTOR for folder in folders]


def _number(path: str) -> int:
    with open(path, encoding="ascii") as handle:
        return int(handle.read())


def _file_system(device: str, kind: str) -> int:
    """Return an ext file system's own size from its superblock (docs.kernel.org/filesystems/ext4/super.html)."""
    if kind not in ("ext2", "ext3", "ext4"):
        return 0
    try:
        with open(device, "rb") as handle:
            handle.seek(1024)
            block = handle.read(1024)
    except OSError as error:
        raise StepError(f"{device} cannot be read: {error.strerror}", "run as root on the board") from None
    low, (log_size,), (magic,) = (
        *struct.unpack_from("<I", block, 4),
        struct.unpack_from("<I", block, 24),
        (struct.unpack_from("<H", block, 56)),
    )
    if magic != 0xEF53:
        raise StepError(f"{device} has no ext superblock", "see `blkid` on the board")
    high = struct.unpack_from("<I", block, 0x150)[0] if struct.unpack_from("<I", block, 0x60)[0] & 0x80 else 0
    return (low + (high << 32)) * (1024 << log_size)
