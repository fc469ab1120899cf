"""Swap: left alone, off, or compressed memory only - through whatever manages it on this board.

What starts swap at boot are units of systemd: of files, of fstab, and of other generators (systemd.swap(5),
systemd-gpt-auto-generator(8), zram-generator).
Sources: swap.conf(5) of rpi-swap (Raspberry Pi OS trixie), dphys-swapfile(8) (before), armbian-zram-config (Armbian).
"""

from __future__ import annotations

import re
import shutil

from rpiomega.node import fstab, job_steps
from rpiomega.node.files import File
from rpiomega.node.step import Diff, Step, StepError

RPI = "/etc/rpi/swap.conf"
RPI_OURS = "/etc/rpi/swap.conf.d/90-rpiomega.conf"
DPHYS = "/etc/dphys-swapfile"
ARMBIAN = "/etc/default/armbian-zram-config"
# Services of packages that make swap by a script: dphys-swapfile, zram-tools, zram-config.
SERVICES = {"off": ("dphys-swapfile", "zramswap", "zram-config"), "zram": ("dphys-swapfile",)}
MECHANISM = {"off": "none", "zram": "zram"}


class Swap(Step):
    """The swap that the site wants. `data`: ``reboot`` (needed, with the reason)."""

    name = job_steps.Swap.step
    args: job_steps.Swap

    def check(self) -> Diff:
        diff, wanted = Diff(), self.args.swap
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
        # Units made of a file that is about to change go with it.
        for verb, unit in self._units(wanted, generated=not diff):
            diff.add(f"{verb} {unit}")
        for device in self._in_the_way(wanted):
            diff.add(f"swapoff {device}")
        if not diff:
            self.board.in_force(RPI_OURS, "set system.swap to keep")
        return diff

    def apply(self) -> None:
        wanted = self.args.swap
        for file in self._files(wanted):
            file.apply(self.board)
        if self.board.live:
            self.board.shell.must(["systemctl", "daemon-reload"], "see this node's log", timeout=120)
        for verb, unit in self._units(wanted):
            cure = f"run `systemctl {verb} {unit}` on the board and see what it says"
            # A service takes its swap away as it stops; of a unit's swap, see `_off`.
            now = ["--now"] if self.board.live and unit.endswith(".service") else []
            self.board.shell.must(self._systemctl(verb, *now, unit), cure, timeout=120)
        for device in self._in_the_way(wanted):
            self._off(device)

    def verify(self) -> None:
        wanted = self.args.swap
        left = [line for file in self._files(wanted) for line in file.diff(self.board).lines]
        left += [f"{verb} {unit}" for verb, unit in self._units(wanted)]
        if left:
            raise StepError(f"still differs after the change: {left[0]}", "see this node's log")
        self.board.in_force(RPI_OURS, "set system.swap to keep")
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
        return [(fstab.decode(line.split()[0]), int(line.split()[3])) for line in lines if len(line.split()) > 3]

    def _in_the_way(self, wanted: str) -> list[str]:
        return [name for name, _ in self._active() if wanted == "off" or "zram" not in name]

    def _systemctl(self, *words: str) -> list[str]:
        return ["systemctl", *([] if self.board.live else [f"--root={self.board.root}"]), "--quiet", *words]

    def _units(self, wanted: str, generated: bool = True) -> list[tuple[str, str]]:
        """Return (verb for systemctl, unit) for each unit that starts unwanted swap at boot, or is kept from wanted."""
        if not shutil.which("systemctl"):
            return []
        listed = self.board.shell.run(self._systemctl("list-unit-files", "--no-legend", "--no-pager")).output
        states = dict(line.split()[:2] for line in listed.splitlines() if len(line.split()) > 1)
        found = [("disable", f"{name}.service") for name in SERVICES[wanted]]
        found = [(verb, unit) for verb, unit in found if states.get(unit) in ("enabled", "enabled-runtime")]
        for unit, state in sorted(states.items()):
            ours = wanted == "zram" and unit.startswith("dev-zram")
            if not unit.endswith(".swap"):
                continue
            if ours and state == "masked":
                found.append(("unmask", unit))
            elif not ours and state in ("enabled", "enabled-runtime"):
                found.append(("disable", unit))
            elif not ours and state == "generated" and generated:
                # No file of /etc says so: a partition of the type swap, or another package's generator.
                found.append(("mask", unit))
        return found

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
            files.append(File("/etc/fstab", edit_fstab(text, wanted)))
        return files


def edit_fstab(text: str, wanted: str = "off") -> str:
    """Return fstab(5) with its swap lines as comments; `wanted` zram leaves those of compressed memory."""

    def unwanted(entry: fstab.Entry) -> bool:
        return entry.kind == "swap" and not (wanted == "zram" and entry.device.startswith("/dev/zram"))

    return fstab.without(text, unwanted)


def _set(text: str, key: str, value: str) -> str:
    """Return shell-like settings with ``key=value`` once, in place of a commented one if there is none yet."""
    new, count = re.subn(rf"^[ \t]*(?:export[ \t]+)?{key}=.*$", f"{key}={value}", text, flags=re.MULTILINE)
    if not count:
        new, count = re.subn(rf"^[ \t]*#[ \t]*{key}=.*$", f"{key}={value}", text, count=1, flags=re.MULTILINE)
    return new if count else f"{text.rstrip()}\n{key}={value}\n"
