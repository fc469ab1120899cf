"""Salt itself, from the project's packages or as a virtual environment."""

from __future__ import annotations

from typing import Any

from rpiomega.node import job_steps, salt_onedir, salt_pip, service
from rpiomega.node.board import Board
from rpiomega.node.step import Diff, Step
from rpiomega.node.steps.master import UNIT as MASTER
from rpiomega.node.steps.minion import UNIT as MINION


class Salt(Step):
    """Salt's packages, or its virtual environment.

    `data`: ``version`` of the installed Salt; ``packed`` (path, sha256, size) of the build if `pack` asked for it.
    """

    name = job_steps.Salt.step
    args: job_steps.Salt

    def __init__(self, board: Board, args: Any) -> None:
        super().__init__(board, args)
        if self.args.kind == "onedir":
            assert self.args.repository  # comes with onedir
            self.kind: salt_onedir.Onedir | salt_pip.Pip = salt_onedir.Onedir(
                board, self.args.version, self.args.master, self.args.repository
            )
        else:
            self.kind = salt_pip.Pip(board, self.args)

    def check(self) -> Diff:
        diff = self.kind.check()
        if not diff:
            self.data["version"] = salt_onedir.installed(self.board) or salt_pip.installed(self.board).get("salt", "")
        return diff

    def apply(self) -> None:
        # Running services hold the old code.
        for unit in (MINION, MASTER) if self.args.master else (MINION,):
            service.restart_later(self.board, unit)
        self.kind.apply()
        self.notes += getattr(self.kind, "notes", [])
        if packed := getattr(self.kind, "packed", None):
            self.data["packed"] = packed
