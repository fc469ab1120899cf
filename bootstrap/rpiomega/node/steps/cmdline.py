"""Memory cgroup: Raspberry Pi's firmware turns it off, Docker needs it.

Sources: raspberrypi/linux#6980 (flags); arch/arm64 and arch/arm include/uapi/asm/setup.h (COMMAND_LINE_SIZE).
"""

from __future__ import annotations

import os
import platform

from rpiomega.node import boot_files, files, job_steps, kernel_line
from rpiomega.node.boot_files import BootFile
from rpiomega.node.files import File
from rpiomega.node.kernel_line import FLAGS
from rpiomega.node.step import Diff, Step, StepError

KEPT = ".before-rpiomega"
# The kernel cuts what is longer, its end first.
LONGEST = {"aarch64": 2047, "x86_64": 2047}
LONGEST_ELSE = 1023


class Cmdline(Step):
    """The memory cgroup. `data`: ``memory_cgroup`` (effective or not), ``reboot`` (needed, with the reason)."""

    name = job_steps.Cmdline.step
    args: job_steps.Cmdline

    def check(self) -> Diff:
        self.notes[:] = []
        self.data.clear()
        effective = self.data["memory_cgroup"] = self._effective()
        diff = Diff()
        try:
            found = self._files()
            for _, file in found:
                diff += file.diff(self.board)
        except StepError as error:
            if not effective:
                raise
            self.notes.append(f"{error.cause}: {error.cure}")
            return Diff()
        if len([boot for boot, _ in found if boot.line]) > 1:
            names = ", ".join(boot.path for boot, _ in found if boot.line)
            self.notes.append(f"config.txt does not say which of {names} the board starts with: all get the flags")
        if not effective:
            self._explain([boot for boot, _ in found], bool(diff))
        return diff

    def _explain(self, found: list[BootFile], changes: bool) -> None:
        """Note why the controller is not effective, and whether a reboot will change that."""
        if self.board.container():
            self.notes.append("memory cgroup is not effective: in a container the host's kernel decides")
        elif not found:
            model = self.board.model() or "an unknown board"
            self.notes.append(f"memory cgroup is off and {model} has no known boot file: add {' '.join(FLAGS)} by hand")
        elif not changes and self._booted_with():
            self.notes.append("memory cgroup is off although the kernel was asked for it: memory limits will not work")
        elif not changes and self._ignored(found):
            names = ", ".join(boot.path for boot in found)
            self.notes.append(f"memory cgroup is off: this system was not started with the command line of {names}; "
                              "find the file its boot loader reads, and add the flags there")  # fmt: skip
        else:
            self.data["reboot"] = "the memory cgroup starts with the next boot"
            self.notes.append("reboot needed: the memory cgroup starts with the next boot")

    def apply(self) -> None:
        for boot, file in self._files():
            if not file.diff(self.board):
                continue
            old = self.board.read(file.path)
            copy = self.board.path(file.path + KEPT)
            try:
                if old is not None and files.read(copy) is None:
                    files.write(copy, old)
                file.apply(self.board)
            except StepError as error:
                if "Read-only" not in error.cause:
                    raise
                folder = os.path.dirname(file.path)
                cure = (
                    f"run `sudo mount -o remount,rw {folder}`; if raspi-config's overlay file system or write "
                    "protection is on, switch it off there first"
                )
                raise StepError(error.cause, cure) from None
            if boot.generate:
                self._generate(boot)

    def _generate(self, boot: BootFile) -> None:
        """Have the file made that the boot loader reads, and look into it: exit code 0 alone proves nothing."""
        if not self.board.live:
            return
        command = boot.generate[0]
        if not self.board.has(command):
            cause = f"{boot.path} has the flags, but there is no {command} to make the boot loader's file from it"
            raise StepError(cause, f"install the package with {command}, or run what makes it, then again")
        self.board.shell.must(list(boot.generate), f"run `sudo {command}` on the board", timeout=300, finish=True)
        if boot.derived and FLAGS[0] not in (self.board.read(boot.derived) or ""):
            cause = f"`{command}` ended, yet {boot.derived} has no {FLAGS[0]}"
            raise StepError(cause, f"see what overrides {boot.path}, run `sudo {command}`, then again")

    def _files(self) -> list[tuple[BootFile, File]]:
        """Return the boot files as they should be; StepError names the file that is damaged or full."""
        wanted = []
        for boot in boot_files.find(self.board):
            if not boot.line and not boot.path.startswith(boot_files.DEBIAN_EXTRA) and self._effective():
                continue
            old = self.board.read(boot.path) or ""
            try:
                new = boot.edit(old)
            except StepError as error:
                raise StepError(f"{boot.path} {error.cause}", error.cure) from None
            if boot.line and new != old:
                self._refuse_too_long(boot.path, kernel_line.split(old)[1], kernel_line.split(new)[1])
            wanted.append((boot, File(boot.path, new)))
        return wanted

    def _refuse_too_long(self, path: str, old: str, new: str) -> None:
        booted = (self.board.read("/proc/cmdline") or "").strip()
        # The firmware puts words of its own in front.
        length = len(new) + (len(booted) - len(old) if old and old in booted else 0)
        longest = LONGEST.get(platform.machine(), LONGEST_ELSE)
        if length > longest:
            cause = f"{path} leaves no room: with {' '.join(FLAGS)} the kernel gets {length} of at most {longest} bytes"
            raise StepError(cause, f"take out of {path} what the board does not need, then again")

    def _effective(self) -> bool:
        unified = self.board.read("/sys/fs/cgroup/cgroup.controllers")
        if unified is not None and "memory" in unified.split():
            return True
        for line in (self.board.read("/proc/cgroups") or "").splitlines():
            words = line.split()
            if words[:1] == ["memory"]:
                # With the unified hierarchy alone, "enabled" may be 1 while the controller is masked.
                return words[-1] == "1" and unified is None
        return False

    def _booted(self) -> list[str]:
        return kernel_line.words((self.board.read("/proc/cmdline") or "").strip())

    def _booted_with(self) -> bool:
        booted = self._booted()
        return all(kernel_line.holds(booted, flag) for flag in FLAGS)

    def _ignored(self, found: list[BootFile]) -> bool:
        """Return whether neither a cmdline.txt nor its copy from before our change is what the kernel was given."""
        booted = set(self._booted())
        lines = [boot.path for boot in found if boot.line]
        if not booted or not lines:
            return False
        for path in [name for line in lines for name in (line, line + KEPT)]:
            words = kernel_line.words(kernel_line.split(self.board.read(path) or "")[1])
            # The firmware writes a console's real name; the first boot takes its own `init=` out of the file.
            mine = {word for word in words if not word.startswith(("console=", "init=")) and word not in FLAGS}
            if mine and mine <= booted:
                return False
        return True
