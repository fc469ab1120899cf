"""Swap: left alone, off, or compressed memory only - through whatever manages it on this board.

Sources: swap.conf(5) of rpi-swap (Raspberry Pi OS trixie), dphys-swapfile(8) (before), armbian-zram-config (Armbian).
"""

from __future__ import annotations

import re

from rpiomega.node.files import File
from rpiomega.node.step import Diff, Step, StepError

RPI = "/etc/rpi/swap.conf"
RPI_OURS = "/etc/rpi/swap.conf.d/90-rpiomega.conf"
DPHYS = "/etc/dphys-swapfile"
ARMBIAN = "/etc/default/armbian-zram-config"
MECHANISM = {"off": "none", "zram": "zram"}


class Swap(Step):
    """Argument: `swap`: ``keep``, ``off`` or ``zram``. `data`: ``reboot`` (needed, with the reason)."""

    name = "swap"

    def check(self) -> Diff:
        diff, wanted = Diff(), self.args.get("swap", "keep")
        self.notes[:] = []
        if wanted == "keep":
            return diff
        if wanted == "zram" and not (self.board.exists(RPI) or self.board.exists(ARMBIAN)):
            self.notes.append("compressed swap comes with the states: nothing on the board makes it yet")
        if self.board.container():
            self.notes.append("swap belongs to the host of a container")
            return diff
        for file in self._files(wanted):
            diff += file.diff(self.board)
        for device in self._in_the_way(wanted):
            diff.add(f"swapoff {device}")
        return diff

    def apply(self) -> None:
        wanted = self.args["swap"]
        for file in self._files(wanted):
            file.apply(self.board)
        if self.board.exists(DPHYS) and self.board.live:
            self.board.shell.run(["systemctl", "disable", "--now", "--quiet", "dphys-swapfile"], timeout=120)
        for device in self._in_the_way(wanted):
            self._off(device)

    def verify(self) -> None:
        wanted = self.args["swap"]
        left = [line for file in self._files(wanted) for line in file.diff(self.board).lines]
        if left:
            raise StepError(f"still differs after the change: {left[0]}", "see this node's log")
        if self._in_the_way(wanted):
            self.data["reboot"] = "swap in use is let go with the next boot"
            self.notes.append("reboot needed: swap in use is let go with the next boot")

    def _off(self, device: str) -> None:
        used = next((size for name, size in self._active() if name == device), 0)
        free = re.search(r"^MemAvailable:\s+(\d+)", self.board.read("/proc/meminfo") or "", re.MULTILINE)
        # What is swapped out must fit, or the kernel kills somebody.
        if free and used < int(free.group(1)) // 2:
            self.board.shell.run(["swapoff", device], timeout=300, finish=True)

    def _active(self) -> list[tuple[str, int]]:
        """Return (device or file, KB in use) of each active swap."""
        lines = (self.board.read("/proc/swaps") or "").splitlines()[1:] if self.board.live else []
        return [(line.split()[0], int(line.split()[3])) for line in lines if len(line.split()) > 3]

    def _in_the_way(self, wanted: str) -> list[str]:
        return [name for name, _ in self._active() if wanted == "off" or "zram" not in name]

    def _files(self, wanted: str) -> list[File]:
        files = []
        if self.board.exists(RPI):
            files.append(File(RPI_OURS, f"# Written by rpiomega.\n[Main]\nMechanism={MECHANISM[wanted]}\n"))
        text = self.board.read(DPHYS)
        if text is not None and wanted == "off":
            files.append(File(DPHYS, _set(text, "CONF_SWAPSIZE", "0")))
        text = self.board.read(ARMBIAN)
        if text is not None:
            files.append(File(ARMBIAN, _set(text, "SWAP", "false" if wanted == "off" else "true")))
        text = self.board.read("/etc/fstab")
        if text is not None:
            files.append(File("/etc/fstab", edit_fstab(text)))
        return files


def edit_fstab(text: str) -> str:
    """Return fstab(5) with its swap lines as comments; all else stays, to the byte."""
    return re.sub(r"^(?=[^#\s]\S*[ \t]+\S+[ \t]+swap\b)", "# off (rpiomega): ", text, flags=re.MULTILINE)


def _set(text: str, key: str, value: str) -> str:
    """Return shell-like settings with ``key=value`` once, in place of a commented one if there is none yet."""
    new, count = re.subn(rf"^{key}=.*$", f"{key}={value}", text, flags=re.MULTILINE)
    if not count:
        new, count = re.subn(rf"^#\s*{key}=.*$", f"{key}={value}", text, count=1, flags=re.MULTILINE)
    return new if count else f"{text.rstrip()}\n{key}={value}\n"
