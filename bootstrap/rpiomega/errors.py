"""Errors a user sees."""

from __future__ import annotations

from omega.core.errors import Failure


class NodeError(Failure):
    """Something went wrong with a node: `cause` and `cure` (the next step), one line each; `step` if it is known."""

    def __init__(self, cause: str, cure: str, step: str = "", subject: str = ""):
        super().__init__(cause, cure, subject)
        self.step = step


class Stopped(Exception):
    """The user pressed Ctrl-C."""
