"""The files a board's kernel command line comes from: where each kind of boot loader has it, and what generates it.

Sources: /etc/kernel/postinst.d/z50-raspi-firmware of Debian's raspi-firmware (raspi-extra-cmdline), u-boot-update(8),
flash-kernel(8), grub-mkconfig(8), docs.armbian.com (armbianEnv.txt), himport_r() of U-Boot (lib/hashtable.c), U-Boot's
boot/pxe_utils.c (extlinux.conf).
"""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from typing import Callable

from rpiomega.node import firmware, fstab, kernel_line
from rpiomega.node.board import Board
from rpiomega.node.step import StepError

ARMBIAN = "/boot/armbianEnv.txt"
EXTLINUX = "/boot/extlinux/extlinux.conf"
UBOOT = "/etc/default/u-boot"
GRUB = "/etc/default/grub"
FLASH = "/etc/default/flash-kernel"
DEBIAN_EXTRA = "/etc/default/raspi-extra-cmdline"
_DEBIAN_HOOK = "/etc/kernel/postinst.d/z50-raspi-firmware"
_CHOSEN = "/proc/device-tree/chosen"
MOVED = "DO NOT EDIT"  # what bookworm leaves in the place of a file that has moved to /boot/firmware


@dataclass
class BootFile:
    """A file with kernel arguments. `edit(text)` returns its text with the flags; raises StepError if it cannot.

    `generate` is the command that makes `derived`, the file the boot loader reads; both empty where that is `path`.
    `line` tells a file of one command line (cmdline.txt) from one with settings.
    """

    path: str
    edit: Callable[[str], str]
    generate: tuple[str, ...] = ()
    derived: str = ""
    line: bool = False


def find(board: Board) -> list[BootFile]:
    """Return the boot files of a board; an empty list where none is known. Raise StepError if one is damaged."""
    folder = boot_folder(board)
    names = _names(board, folder) if folder else []
    if names:
        found = [BootFile(f"{folder}/{name}", edit_cmdline, line=True) for name in names]
        if "raspi-extra-cmdline" in (board.read(_DEBIAN_HOOK) or ""):
            # Debian's kernel packages rewrite cmdline.txt, from this file.
            found.insert(0, BootFile(DEBIAN_EXTRA, edit_extra))
        return found
    if board.read(ARMBIAN) is not None:
        return [BootFile(ARMBIAN, edit_armbian)]
    if board.read(EXTLINUX) is not None:
        return [_uboot(board)]
    if board.read(GRUB) is not None:
        return [_shell(board, GRUB, "/etc/default/grub.d/*.cfg", "GRUB_CMDLINE_LINUX", "update-grub",
                       "/boot/grub/grub.cfg", "")]  # fmt: skip
    if board.read(FLASH) is not None:
        return [_shell(board, FLASH, "", "LINUX_KERNEL_CMDLINE", "flash-kernel", "", "quiet")]
    if folder and board.read(f"{folder}/{firmware.CONFIG}"):
        cause = f"{folder}/{firmware.CONFIG} names a file for the kernel's command line that is not there"
        raise StepError(cause, "correct `cmdline=` and `os_prefix=` in it, or the board will not start")
    return []


def boot_folder(board: Board) -> str:
    """Return where the boot partition of a Raspberry Pi is mounted; empty where there is none.

    Raise StepError if it should be and is not: what is below its folder then is not what the board boots with.
    """
    entries = filter(None, map(fstab.parse, (board.read("/etc/fstab") or "").splitlines()))
    wanted = {posixpath.normpath(entry.folder) for entry in entries}
    mounts = board.read("/proc/self/mountinfo")
    for folder in ("/boot/firmware", "/boot"):
        texts = [board.read(f"{folder}/{name}") for name in ("config.txt", "cmdline.txt")]
        moved = folder == "/boot" and any(MOVED in (text or "") for text in texts)
        mounted = mounts is None or re.search(rf"^\S+ \S+ \S+ \S+ {folder} ", mounts, re.MULTILINE)
        if (folder == "/boot/firmware" and folder in wanted and not mounted) or moved:
            cause = "the boot partition is not mounted at /boot/firmware: what the board boots with is not there"
            raise StepError(cause, "run `sudo mount /boot/firmware` on the board; see `findmnt --verify` if that fails")
        if any(text is not None for text in texts):
            return folder
    return ""


def _names(board: Board, folder: str) -> list[str]:
    tryboot = (board.read(f"{_CHOSEN}/bootloader/tryboot") or "").strip("\0")
    booted = board.read(f"{_CHOSEN}/os_prefix")
    prefix = booted.strip("\0\n") if booted is not None and not tryboot else None
    return firmware.command_lines(lambda name: board.read(f"{folder}/{name}"), board.model(), prefix)


def edit_cmdline(text: str) -> str:
    """Return a cmdline.txt with the flags in the line the firmware passes on; raise StepError if there is none."""
    if not kernel_line.split(text)[1]:
        what = "contains NUL bytes where the command line should be" if "\0" in text else "is empty"
        raise StepError(what, "write the line back (`cat /proc/cmdline` has it, or a copy beside the file), or the "
                        "board will not start again")  # fmt: skip
    return kernel_line.edit(text, kernel_line.add)


def edit_extra(text: str) -> str:
    """Return /etc/default/raspi-extra-cmdline with the flags; it may be empty."""
    return kernel_line.edit(text, kernel_line.add)


def edit_armbian(text: str) -> str:
    """Return armbianEnv.txt with the flags in the ``extraargs=`` that is effective (made if missing).

    U-Boot takes the last one; a space before ``=`` makes it another variable, ``#`` a comment: those stay.
    """
    lines = text.split("\n")
    given = [index for index, line in enumerate(lines) if re.match(r"[ \t]*extraargs=", line)]
    if given:
        key, _, value = lines[given[-1]].partition("=")
        end = "\r" if value.endswith("\r") else ""
        lines[given[-1]] = f"{key}={kernel_line.add(value.rstrip())}{end}" if value.strip() else _extraargs(end)
        return "\n".join(lines)
    end = "\r" if "\r\n" in text else ""
    return text + ("" if not text or text.endswith("\n") else f"{end}\n") + f"{_extraargs(end)}\n"


def _extraargs(end: str) -> str:
    return f"extraargs={' '.join(kernel_line.FLAGS)}{end}"


def edit_extlinux(text: str) -> str:
    """Return extlinux.conf with the flags in the ``append`` line of the entry that is started by default.

    Raise StepError if that entry has none: U-Boot then takes the arguments from its own environment.
    """
    lines, label, wanted = text.split("\n"), "", ""
    found: dict[str, int | None] = {}
    for index, line in enumerate(lines):
        word, rest = (line.split(None, 1) + ["", ""])[:2]
        if word.lower() == "default":
            wanted = rest.strip()
        elif word.lower() == "label":
            label = rest.strip()
            found.setdefault(label, None)
        elif word.lower() == "append" and label:
            found[label] = index
    label = wanted if wanted in found else next(iter(found), "")
    at = found.get(label)
    if at is None:
        cure = f"add the kernel's arguments and {' '.join(kernel_line.FLAGS)} to that entry as a line `append ...`"
        raise StepError(f"has no `append` line in its default entry {label}".rstrip(), cure)
    start, rest = re.findall(r"^(\s*\S+\s+)(.*)", lines[at] + " ", re.S)[0]
    lines[at] = start + kernel_line.add(rest.rstrip()) + ("\r" if lines[at].endswith("\r") else "")
    return "\n".join(lines)


def _uboot(board: Board) -> BootFile:
    """Return what extlinux.conf is made of where u-boot-update makes it, else the file itself."""
    if not board.exists("/usr/sbin/u-boot-update"):
        return BootFile(EXTLINUX, edit_extlinux)
    kernel = "/etc/kernel/cmdline"
    fragments = "/etc/u-boot-menu/conf.d/*.conf"
    path = _last(board, UBOOT, fragments, "U_BOOT_PARAMETERS")
    if path is None and board.read(kernel) is not None:
        return BootFile(kernel, edit_extra, ("u-boot-update",), EXTLINUX)
    return _shell(board, UBOOT, fragments, "U_BOOT_PARAMETERS", "u-boot-update", EXTLINUX, "ro quiet")


def _shell(board: Board, path: str, fragments: str, name: str, command: str, derived: str, default: str) -> BootFile:
    """Return the settings file of shell variables whose `name` is effective: a fragment overrides the file."""
    path = _last(board, path, fragments, name) or path
    return BootFile(path, lambda text: edit_variable(text, name, default), (command,), derived)


def _last(board: Board, path: str, fragments: str, name: str) -> str | None:
    """Return the last of a file and its fragments that sets a variable."""
    setting = [found for found in [path, *board.glob(fragments)] if _assigned(board.read(found) or "", name)]
    return setting[-1] if setting else None


def _assigned(text: str, name: str) -> list[re.Match]:
    return list(re.finditer(rf"^[ \t]*(?:export[ \t]+)?{name}=(.*)$", text, re.MULTILINE))


def edit_variable(text: str, name: str, default: str = "") -> str:
    """Return a file of shell variables with the flags in `name`, which is made with `default` if it is missing.

    Raise StepError where the value is more than one quoted text: it is then the owner's program.
    """
    given = _assigned(text, name)
    if not given:
        before = text + ("" if not text or text.endswith("\n") else "\n")
        return f'{before}{name}="{kernel_line.add(default)}"\n'
    value, (start, end) = given[-1][1].rstrip(), given[-1].span(1)
    plain = re.fullmatch(r"""(["'])([^"'\\$`]*)\1(\s+#.*)?|()([^\s"'\\$`;&|()<>#]*)(\s+#.*)?""", value)
    if not plain:
        raise StepError(f"sets {name} in a way that cannot be edited safely ({value})",
                        f"add `{' '.join(kernel_line.FLAGS)}` to it by hand")  # fmt: skip
    quote, old = plain[1] or '"', plain[2] if plain[1] else plain[5]
    new = kernel_line.add(old)
    if new == old:
        return text
    return f"{text[:start]}{quote}{new}{quote}{plain[3] or plain[6] or ''}{text[end:]}"
