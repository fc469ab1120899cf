"""Errors a user sees."""

from __future__ import annotations


class NodeError(Exception):
    """Something went wrong with a node: `cause` and `cure` (the next step), one line each; `step` if it is known."""

    def __init__(self, cause: str, cure: str, step: str = ""):
        super().__init__(f"{cause}; {cure}")
        self.cause = cause
        self.cure = cure
        self.step = step


class Stopped(Exception):
    """The user pressed Ctrl-C."""
