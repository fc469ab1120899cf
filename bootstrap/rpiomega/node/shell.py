"""Commands on the board: no shell, a bound on each, output into the node's log."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rpiomega.node.step import Cancelled, StepError

_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass
class Result:
    """Exit code and output (both streams, as they came) of a command."""

    code: int
    output: str

    @property
    def last(self) -> str:
        """Return the last line that says something."""
        lines = [line.strip() for line in self.output.splitlines() if line.strip()]
        return lines[-1] if lines else f"exit code {self.code}, no output"


class Shell:
    """Runs commands; `log` takes their output lines, `cancelled` is an event that ends them early."""

    def __init__(self, log: Callable[[str], object], cancelled: threading.Event):
        self.log = log
        self.cancelled = cancelled

    def run(
        self,
        argv: list[str],
        timeout: float = 60,
        env: dict | None = None,
        finish: bool = False,
        text: str | None = None,
    ) -> Result:
        """Run a command and return its Result, whatever its exit code.

        `finish`: let it end even if the user cancels (a package manager killed half-way leaves a mess).
        Raise StepError if it cannot start or takes longer than `timeout` seconds, Cancelled if cancelled.
        """
        self.log("$ " + " ".join(argv))
        try:
            process = subprocess.Popen(
                argv,
                stdin=subprocess.PIPE if text is not None else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                env={"PATH": _PATH, "LC_ALL": "C.UTF-8", "HOME": "/root", **(env or {})},
                encoding="utf-8",
                errors="replace",
                start_new_session=True,
            )
        except OSError as error:
            raise StepError(
                f"{argv[0]} cannot be run: {error.strerror}", f"check that {argv[0]} is installed"
            ) from None
        lines: list[str] = []
        reader = threading.Thread(target=self._read, args=(process, lines), daemon=True)
        reader.start()
        if process.stdin and text is not None:
            process.stdin.write(text)
            process.stdin.close()
        self._wait(process, argv, timeout, finish)
        # A daemon the command left behind may hold the pipe open for ever.
        reader.join(timeout=2)
        return Result(process.returncode, "".join(lines))

    def must(self, argv: list[str], cure: str, **options: Any) -> Result:
        """Run a command that has to succeed; raise StepError with its last line and `cure` otherwise."""
        result = self.run(argv, **options)
        if result.code:
            raise StepError(f"`{' '.join(argv[:4])}` failed: {result.last}", cure)
        return result

    def _read(self, process: subprocess.Popen, lines: list[str]) -> None:
        for line in process.stdout or ():
            lines.append(line)
            self.log(line.rstrip())

    def _wait(self, process: subprocess.Popen, argv: list[str], timeout: float, finish: bool) -> None:
        deadline = time.monotonic() + timeout
        while True:
            try:
                process.wait(timeout=0.5)
                return
            except subprocess.TimeoutExpired:
                pass
            if self.cancelled.is_set() and not finish:
                self._end(process)
                raise Cancelled
            if time.monotonic() > deadline:
                self._end(process)
                cause = f"`{' '.join(argv[:4])}` did not end within {timeout:.0f} s"
                raise StepError(cause, "see this node's log for its last output")

    @staticmethod
    def _end(process: subprocess.Popen) -> None:
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, number)
                process.wait(timeout=5)
                return
            except ProcessLookupError:
                return
            except subprocess.TimeoutExpired:
                continue
