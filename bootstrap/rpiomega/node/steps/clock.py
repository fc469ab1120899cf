"""The clock: a board without a battery may be years behind, and then no certificate is valid."""

from __future__ import annotations

import time
from typing import Any

from rpiomega.node import job_steps
from rpiomega.node.board import Board
from rpiomega.node.step import Diff, Step, StepError

TOLERANCE = 5.0


class Clock(Step):
    """The clock and what keeps it.

    A clock that nobody synchronises and that is more than five seconds away is set from the workstation; time
    synchronisation is switched on where systemd has one. `data`: ``offset`` in seconds, ``synchronised``.
    """

    name = job_steps.Clock.step
    args: job_steps.Clock

    def __init__(self, board: Board, args: Any) -> None:
        super().__init__(board, args)
        # The workstation's time is this plus our monotonic clock, however long the steps before took.
        self.reference = self.args.now - board.shared.get("began", time.monotonic())

    def check(self) -> Diff:
        diff, offset, state = Diff(), self._offset(), self._timedate()
        synchronised = state.get("NTPSynchronized") == "yes"
        self.data.update(offset=round(offset, 1), synchronised=synchronised)
        self.notes[:] = []
        if abs(offset) > TOLERANCE:
            if synchronised:
                note = f"synchronised, yet {offset:+.0f} s from the workstation: is the workstation's clock right?"
                self.notes.append(note)
            else:
                diff.add(f"set the clock by {-offset:+.0f} s, from the workstation")
        # Containers share the host's clock; systemd keeps its time service off there.
        if state.get("CanNTP") == "yes" and state.get("NTP") == "no" and not self.board.container():
            diff.add("switch time synchronisation on")
        return diff

    def apply(self) -> None:
        state = self._timedate()
        if abs(self._offset()) > TOLERANCE and state.get("NTPSynchronized") != "yes":
            self._set()
        if state.get("CanNTP") == "yes" and state.get("NTP") == "no" and not self.board.container():
            cure = "run `timedatectl set-ntp true` on the board and see what it says"
            self.board.shell.must(["timedatectl", "set-ntp", "true"], cure, timeout=30)

    def _set(self) -> None:
        offset = self._offset()
        try:
            time.clock_settime(time.CLOCK_REALTIME, self.reference + time.monotonic())
        except OSError as error:
            cause = f"the clock is {offset:+.0f} s off and cannot be set: {error.strerror}"
            raise StepError(cause, "in a container, set the host's clock; else run `date -s` as root") from None
        if self.board.has("fake-hwclock"):
            self.board.shell.run(["fake-hwclock", "save"])

    def _offset(self) -> float:
        """Return by how many seconds the board is ahead of the workstation."""
        return time.time() - (self.reference + time.monotonic())

    def _timedate(self) -> dict[str, str]:
        if not self.board.has("timedatectl"):
            return {}
        output = self.board.shell.run(["timedatectl", "show"], timeout=15).output
        return dict(line.split("=", 1) for line in output.splitlines() if "=" in line)
