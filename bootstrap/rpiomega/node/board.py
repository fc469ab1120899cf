"""The board a job runs on: paths below a root, facts, commands, the way to say something."""

from __future__ import annotations

import glob
import os
import platform
import shutil
import sys
import threading
from collections.abc import Callable
from typing import Any

from omega.core import dropin
from omega.core.polling import TimedOut, seeing, until
from rpiomega.node import files
from rpiomega.node.shell import Shell
from rpiomega.node.step import Cancelled, StepError


class Board:
    """A board, or a folder that looks like one (`root`): then nothing but files below it is touched."""

    def __init__(
        self,
        root: str = "/",
        log: Callable[[str], object] | None = None,
        cancelled: threading.Event | None = None,
        tell: Callable[..., object] | None = None,
    ):
        """`log` takes lines for the node's log, `tell` an event (its name, then values) for the workstation."""
        self.root = root
        self.log = log or (lambda line: None)
        self.tell = tell or (lambda event, **values: None)
        self.cancelled = cancelled or threading.Event()
        self.shell = Shell(self.log, self.cancelled)
        self.shared: dict = {}  # what one step of a job leaves for the next

    @property
    def live(self) -> bool:
        """Return whether this is the running system and not a fixture tree."""
        return self.root == "/"

    def path(self, absolute: str) -> str:
        """Return where an absolute path of the board is."""
        return absolute if self.live else os.path.join(self.root, absolute.lstrip("/"))

    def read(self, absolute: str) -> str | None:
        """Return a file's text or None."""
        return files.read(self.path(absolute))

    def exists(self, absolute: str) -> bool:
        """Return whether there is something at the path."""
        return os.path.lexists(self.path(absolute))

    def glob(self, pattern: str) -> list[str]:
        """Return the absolute paths on the board that match a pattern, sorted; none for an empty pattern."""
        found = sorted(glob.glob(self.path(pattern))) if pattern else []
        return found if self.live else ["/" + os.path.relpath(path, self.root) for path in found]

    def has(self, command: str) -> bool:
        """Return whether a command is on the board."""
        return self.live and shutil.which(command, path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin") is not None

    def ask(self, argv: list[str], env: dict) -> tuple[int, str]:
        """Run a command that changes nothing; return its exit code and output (what `omega.core.dropin` needs)."""
        result = self.shell.run(argv, env=env)
        return result.code, result.output

    def in_force(self, path: str, cure: str = "") -> None:
        """Raise StepError if a setting of our file `path` is not in force: which one, which file sets it instead.

        `cure`: what else the user can do, after "or".
        """
        try:
            lost = dropin.lost(path, self.ask, self.root)
        except ValueError as error:
            raise StepError(f"the settings of {path} cannot be read back: {error}", "see this node's log") from None
        if lost:
            raise StepError(lost[0].cause(path), f"{lost[0].cure(path)}{f', or {cure}' if cure else ''}")

    def wait(self, what: str, probe: Callable, bound: float, cure: str, pause: float = 0.3) -> Any:
        """Return the first true value of `probe`, which returns (value, what it saw).

        Raise StepError naming `what`, the bound and the last thing seen; Cancelled if cancelled.
        """

        def rest(seconds: float) -> None:
            if self.cancelled.wait(seconds):
                raise Cancelled

        self.log(f"waiting for {what}, at most {bound:.0f} s")
        try:
            return until(seeing(probe), bound, what, pause=pause, sleep=rest)
        except TimedOut as late:
            raise StepError(late.cause, cure) from None

    def release(self) -> dict:
        """Return os-release as a dict (keys in capitals)."""
        text = self.read("/etc/os-release") or self.read("/usr/lib/os-release") or ""
        pairs = (line.partition("=") for line in text.splitlines() if "=" in line and not line.startswith("#"))
        return {key.strip(): value.strip().strip("\"'") for key, _, value in pairs}

    def model(self) -> str:
        """Return the board's model, an empty string if it does not say."""
        # Device tree strings end with a NUL.
        model = (self.read("/proc/device-tree/model") or "").rstrip("\0\n")
        armbian = self.read("/etc/armbian-release") or ""
        for line in armbian.splitlines():
            if line.startswith("BOARD_NAME="):
                return model or line.partition("=")[2].strip('"')
        return model

    def container(self) -> bool:
        """Return whether the board is a container: it shares the host's kernel, clock and boot."""
        # systemd writes its kind here at boot (systemd-detect-virt reads the same file).
        return bool((self.read("/run/systemd/container") or "").strip()) or self.exists("/.dockerenv")

    def free_mb(self, absolute: str) -> int:
        """Return the free space of the file system that holds a path (or its nearest parent), in MB."""
        path = self.path(absolute)
        while not os.path.exists(path):
            path = os.path.dirname(path)
        found = os.statvfs(path)
        return found.f_bavail * found.f_frsize // 1_000_000

    def need_space(self, absolute: str, megabytes: int, what: str) -> None:
        """Raise StepError if less than `megabytes` are free at a path."""
        free = self.free_mb(absolute)
        if free < megabytes:
            cure = "expand the root file system or remove what is not needed (`df -h`, `apt-get clean`)"
            raise StepError(f"{free} MB free at {absolute}, {what} needs {megabytes} MB", cure)

    def facts(self) -> dict:
        """Return what the workstation needs to know before it decides anything."""
        release = self.release()
        return {
            "hostname": platform.node(),
            "model": self.model(),
            "os": release.get("ID", ""),
            "codename": release.get("VERSION_CODENAME", ""),
            "system": release.get("PRETTY_NAME", ""),
            "machine": platform.machine(),
            "bits": 64 if sys.maxsize > 2**32 else 32,
            "python": "{}.{}".format(*sys.version_info[:2]),
            "container": self.container(),
            "free_mb": self.free_mb("/"),
        }
