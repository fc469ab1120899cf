"""Salt itself, from the project's packages or as a virtual environment."""

from __future__ import annotations

from rpiomega.node import salt_onedir, salt_pip, service
from rpiomega.node.board import Board
from rpiomega.node.step import Diff, Step
from rpiomega.node.steps.master import UNIT as MASTER
from rpiomega.node.steps.minion import UNIT as MINION


class Salt(Step):
    """Arguments: `kind` (onedir or pip), `version`, `master`; for onedir `repository` (uri, key_url, fingerprint); for
    pip `key`, `archive`, `sha256`, `pack`.

    `data`: ``version`` of the installed Salt; ``packed`` (path, sha256, size) of the build if `pack` asked for it.
    """

    name = "salt"

    def __init__(self, board: Board, args: dict):
        super().__init__(board, args)
        if args["kind"] == "onedir":
            self.kind: salt_onedir.Onedir | salt_pip.Pip = salt_onedir.Onedir(
                board, args["version"], args.get("master", False), args["repository"]
            )
        else:
            self.kind = salt_pip.Pip(board, args)

    def check(self) -> Diff:
        diff = self.kind.check()
        if not diff:
            self.data["version"] = salt_onedir.installed(self.board) or salt_pip.installed(self.board).get("salt", "")
        return diff

    def apply(self) -> None:
        # Running services hold the old code.
        for unit in (MINION, MASTER) if self.args.get("master") else (MINION,):
            service.owe_restart(self.board, unit)
        self.kind.apply()
        self.notes += getattr(self.kind, "notes", [])
        if packed := getattr(self.kind, "packed", None):
            self.data["packed"] = packed
