"""The contract between a job and its steps."""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from omega.core.errors import Failure
from rpiomega.node import job_steps

if TYPE_CHECKING:
    from rpiomega.node.board import Board


class StepError(Failure):
    """A step cannot go on: `cause` says what is wrong, `cure` what to do next. Both are one line."""


class Cancelled(Exception):
    """The workstation is gone or the user pressed Ctrl-C."""


@dataclass
class Diff:
    """What a step would change: `lines` is ready to print. False when there is nothing to do."""

    lines: list[str] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self.lines)

    def add(self, line: str) -> None:
        """Add one change that is not a file's text, such as ``start salt-minion``."""
        self.lines.append(line)

    def add_text(self, path: str, old: str | None, new: str) -> None:
        """Add the unified diff of a file; `old` is None if the file does not exist."""
        before = [] if old is None else old.splitlines()
        name = "/dev/null" if old is None else path
        self.lines += difflib.unified_diff(before, new.splitlines(), name, path, lineterm="", n=2)
        if before == new.splitlines():
            self.lines.append(f"end {path} with a newline")

    def __iadd__(self, other: Diff) -> Diff:
        self.lines += other.lines
        return self


class Step:
    """One concern of a board. Subclasses set `name`, annotate `args` and implement `check` and `apply`.

    `notes` are sentences for the user; `data` goes back to the workstation. `check` writes nothing, ever.
    """

    name = ""

    def __init__(self, board: Board, args: Any) -> None:
        """`args`: the step of `rpiomega.node.job_steps`, or its arguments as JSON has them."""
        self.board = board
        self.args = job_steps.made(self.name, args) if isinstance(args, dict) else args
        self.notes: list[str] = []
        self.data: dict = {}

    def check(self) -> Diff:
        """Return what differs from what should be."""
        raise NotImplementedError

    def apply(self) -> None:
        """Make it so; raise StepError with cause and cure."""
        raise NotImplementedError

    def verify(self) -> None:
        """Look again, at what is effective and not at what was written; raise StepError if it is not right."""
        left = self.check()
        if left:
            raise StepError(f"still differs after the change: {left.lines[0]}", "see this node's log")
