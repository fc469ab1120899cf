"""Files into a folder, or straight onto a mounted boot partition."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from rpiomega.errors import NodeError
from rpiomega.firstboot import cloudinit, firstrun
from rpiomega.firstboot.plan import Plan
from rpiomega.node import boot_files, firmware, kernel_line
from rpiomega.node.step import StepError

# Release -> what prepares its cards, and where the running board mounts the boot partition.
RELEASES = {
    "trixie": ("cloud-init", "/boot/firmware"),
    "ubuntu": ("cloud-init", "/boot/firmware"),
    "bookworm": ("firstrun", "/boot/firmware"),
    "bullseye": ("firstrun", "/boot"),
}
ADDITION = "cmdline.txt.addition"
# Raspberry Pi OS says in config.txt where the board mounts this partition (pi-gen, stage1/00-boot-files).
_MOUNT = re.compile(r"^# .*\s(/boot(?:/firmware)?)/overlays/README\s*$", re.MULTILINE)
KEPT = ".before-rpiomega"
# What other programs have a first boot do; it would contradict ours.
RIVALS = ("rpi-preseed.toml", "custom.toml", "userconf.txt", "userconf", "wpa_supplicant.conf")


@dataclass
class Written:
    """Names of the files, relative to the folder, and sentences for the user."""

    names: list[str]
    notes: list[str] = field(default_factory=list)
    mounted: bool = False


def write(plan: Plan, release: str, folder: Path) -> Written:
    """Write the files of a node's first boot. Raise NodeError if that cannot be.

    If `folder` is a boot partition (config.txt or cmdline.txt is in it), the command line in the file that its
    firmware reads is edited, with a copy beside it.
    """
    kind, boot = RELEASES[release]
    done = Written([])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lines = firmware.command_lines(lambda name: _read(folder / name))
        done.mounted = bool(lines)
        mount = next(iter(_MOUNT.findall(_read(folder / firmware.CONFIG) or "")), "")
        plain = "bullseye" if mount == "/boot" else "bookworm"
        for name in RIVALS:
            if done.mounted and (folder / name).exists():
                done.notes.append(f"{name} on this card is applied at the first boot as well: delete it")
        if kind == "firstrun":
            if lines and (folder / "user-data").exists():
                cause = f"{folder} is the boot partition of an image with cloud-init"
                raise NodeError(cause, "give its release: --release trixie (or ubuntu)", "firstboot")
            if lines and mount not in ("", boot):
                # systemd.run= would name a file that is not there: the board would reboot for ever.
                cause = f"{folder} is the boot partition of an image that mounts it at {mount}, {release} at {boot}"
                raise NodeError(cause, f"give its release: --release {plain}", "firstboot")
            wanted = firstrun.files(plan, boot, tuple(lines) or (firmware.DEFAULT,))
            if lines:
                wanted |= _edited(folder, lines, lambda line: firstrun.edit_line(line, boot))
            else:
                wanted[ADDITION] = firstrun.arguments(boot) + "\n"
        else:
            if lines and not _has_cloud_init(folder):
                cause = f"{folder} is the boot partition of an image without cloud-init"
                raise NodeError(cause, f"give its release: --release {plain}", "firstboot")
            wanted = cloudinit.files(plan)
            identity = cloudinit.instance_id(plan)
            for name in lines:
                done.notes += cloudinit.overrides(kernel_line.split(_read(folder / name) or "")[1], name)
            wanted |= _edited(folder, lines, lambda line: cloudinit.edit_line(line, identity))
        for name, text in wanted.items():
            if done.mounted:
                _keep(folder, name)
            _private(folder / name, text)
    except OSError as error:
        raise NodeError(f"{error.filename or folder}: {error.strerror}", "give a folder with -o", "firstboot") from None
    done.names = sorted(wanted)
    return done


def _edited(folder: Path, names: list[str], change: Callable[[str], str]) -> dict[str, str]:
    """Return name -> text of the command line files that `change(line)` changes; raise NodeError for a damaged one."""
    wanted = {}
    for name in names:
        old = _read(folder / name) or ""
        if not kernel_line.split(old)[1]:
            try:
                boot_files.edit_cmdline(old)
            except StepError as error:
                cure = "write the image to the card again"
                raise NodeError(f"{folder / name} {error.cause}", cure, "firstboot") from None
        new = kernel_line.edit(old, change)
        if new != old:
            wanted[name] = new
    return wanted


def _keep(folder: Path, name: str) -> None:
    """Keep a copy of a file as the image, or the program that wrote the card, has it."""
    copy, old = folder / f"{name}{KEPT}", _read(folder / name)
    if old and not copy.exists():
        _private(copy, old)


def _read(path: Path) -> str | None:
    """Return a file's text to the byte, None if it is no file."""
    try:
        return path.read_bytes().decode("utf-8", "surrogateescape") if path.is_file() else None
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None


def _has_cloud_init(folder: Path) -> bool:
    return any((folder / name).exists() for name in ("user-data", "meta-data", "network-config"))


def _private(path: Path, text: str) -> None:
    """Write a file only its owner may read, whole or not at all; on FAT, which has no modes, the mount decides."""
    temporary = path.with_name(f".{path.name}.rpiomega")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8", errors="surrogateescape", newline="") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(temporary, path)
