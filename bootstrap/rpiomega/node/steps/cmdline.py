"""Memory cgroup: Raspberry Pi's firmware turns it off, Docker needs it.

The command line must stay one line, or the board does not boot.

Sources: raspberrypi/linux#6980 (flags), k3s#3283 (one line).
"""

from __future__ import annotations

import re

from rpiomega.node import files
from rpiomega.node.files import File
from rpiomega.node.step import Diff, Step

FLAGS = ("cgroup_enable=memory", "cgroup_memory=1")
CMDLINES = ("/boot/firmware/cmdline.txt", "/boot/cmdline.txt")
ARMBIAN = "/boot/armbianEnv.txt"
# A quoted value may hold spaces.
_WORD = re.compile(r'(?:[^\s"]|"[^"]*(?:"|$))+')


def edit_cmdline(text: str, flags: tuple[str, ...] = FLAGS) -> str:
    """Return a kernel command line as one line that holds `flags`; every other argument stays, in its order.

    ``cgroup_disable=memory`` goes. What stands after ``--`` is for init and stays there.
    """
    words = _WORD.findall(text.replace("\0", " "))
    words = [word for word in words if word != "cgroup_disable=memory"]
    end = words.index("--") if "--" in words else len(words)
    kernel, init = words[:end], words[end:]
    for flag in flags:
        if not _holds(kernel, flag):
            kernel.append(flag)
    return " ".join(kernel + init) + "\n"


def _holds(words: list[str], flag: str) -> bool:
    """Return whether a flag is there; ``cgroup_enable=cpuset,memory`` holds ``cgroup_enable=memory``."""
    key, _, value = flag.partition("=")
    given = [word.partition("=")[2] for word in words if word.partition("=")[0] == key]
    return any(value in item.split(",") for item in given) if key == "cgroup_enable" else given[-1:] == [value]


def edit_armbian(text: str, flags: tuple[str, ...] = FLAGS) -> str:
    """Return armbianEnv.txt with `flags` in its ``extraargs=`` line (made if missing); other lines stay."""
    lines, found = text.splitlines(), False
    for index, line in enumerate(lines):
        if line.startswith("extraargs="):
            lines[index] = "extraargs=" + edit_cmdline(line.partition("=")[2], flags).strip()
            found = True
    if not found:
        lines.append("extraargs=" + " ".join(flags))
    return "\n".join(lines) + "\n"


class Cmdline(Step):
    """No arguments. `data`: ``memory_cgroup`` (effective or not), ``reboot`` (needed, with the reason)."""

    name = "cmdline"

    def check(self) -> Diff:
        diff, file = Diff(), self._file()
        if file:
            diff = file.diff(self.board)
        effective = self._effective()
        self.data["memory_cgroup"] = effective
        self.notes[:] = []
        if effective:
            return diff
        if self.board.container():
            self.notes.append("memory cgroup is not effective: in a container the host's kernel decides")
        elif file and (diff or not self._booted_with()):
            self.data["reboot"] = "the memory cgroup starts with the next boot"
            self.notes.append("reboot needed: the memory cgroup starts with the next boot")
        elif file:
            self.notes.append("memory cgroup is off although the kernel was asked for it: memory limits will not work")
        else:
            model = self.board.model() or "an unknown board"
            self.notes.append(f"memory cgroup is off and {model} has no known boot file: add {' '.join(FLAGS)} by hand")
        return diff

    def apply(self) -> None:
        file = self._file()
        old = self.board.read(file.path)
        backup = self.board.path(file.path + ".before-rpiomega")
        if files.read(backup) is None:
            files.write(backup, old)
        file.apply(self.board)

    def _file(self) -> File | None:
        """Return the boot file as it should be, None where there is none to edit or nothing to do."""
        for path in CMDLINES:
            text = self.board.read(path)
            # Bookworm leaves a /boot/cmdline.txt that only says the file has moved.
            if text is not None and "DO NOT EDIT" not in text:
                return File(path, edit_cmdline(text))
        text = self.board.read(ARMBIAN)
        if text is not None and not self._effective():
            return File(ARMBIAN, edit_armbian(text))
        return None

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

    def _booted_with(self) -> bool:
        words = _WORD.findall(self.board.read("/proc/cmdline") or "")
        return all(_holds(words, flag) for flag in FLAGS)
