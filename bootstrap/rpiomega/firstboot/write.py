"""Files into a folder, or straight onto a mounted boot partition."""

from __future__ import annotations

import os
from pathlib import Path

from rpiomega.errors import NodeError
from rpiomega.firstboot import cloudinit, firstrun
from rpiomega.firstboot.plan import Plan

# Release -> what prepares its cards, and where the running board mounts the boot partition.
RELEASES = {
    "trixie": ("cloud-init", "/boot/firmware"),
    "ubuntu": ("cloud-init", "/boot/firmware"),
    "bookworm": ("firstrun", "/boot/firmware"),
    "bullseye": ("firstrun", "/boot"),
}
ADDITION = "cmdline.txt.addition"


def write(plan: Plan, release: str, folder: Path) -> list[str]:
    """Write the files of a node's first boot; return their names. Raise NodeError if that cannot be.

    If `folder` is a boot partition (it holds cmdline.txt), that file is edited, with a backup beside it.
    """
    kind, boot = RELEASES[release]
    wanted = cloudinit.files(plan) if kind == "cloud-init" else firstrun.files(plan, boot)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if kind == "firstrun":
            wanted |= _cmdline(folder, boot)
        elif (folder / "cmdline.txt").exists() and not _has_cloud_init(folder):
            cause = f"{folder} is the boot partition of an image without cloud-init"
            raise NodeError(cause, "give its release: --release bookworm", "firstboot")
        for name, text in wanted.items():
            _private(folder / name, text)
    except OSError as error:
        raise NodeError(f"{error.filename or folder}: {error.strerror}", "give a folder with -o", "firstboot") from None
    return sorted(wanted)


def _cmdline(folder: Path, boot: str) -> dict[str, str]:
    path = folder / "cmdline.txt"
    if not path.exists():
        return {ADDITION: firstrun.arguments(boot) + "\n"}
    old = path.read_text(encoding="utf-8", errors="surrogateescape")
    if (folder / "user-data").exists():
        cause = f"{folder} is the boot partition of an image with cloud-init"
        raise NodeError(cause, "give its release: --release trixie (or ubuntu)", "firstboot")
    backup = folder / "cmdline.txt.before-rpiomega"
    if not backup.exists():
        backup.write_text(old, encoding="utf-8", errors="surrogateescape")
    return {"cmdline.txt": firstrun.edit_cmdline(old, boot)}


def _has_cloud_init(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("user-data", "meta-data", "network-config"))


def _private(path: Path, text: str) -> None:
    """Write a file only its owner may read, whole or not at all; on FAT, which has no modes, the mount decides."""
    temporary = path.with_name(f".{path.name}.rpiomega")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape", newline="\n") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)
