"""A restore on a node: started as a unit of systemd's, which outlives the connection, then followed to its end."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable

from rpiomega.node import backup, files, job_steps
from rpiomega.node.board import Board
from rpiomega.node.step import Diff, Step, StepError

REQUESTS = "/run/rpiomega/backup/requests"
KEYS = {"file": "path", "volume": "name", "node": ""}  # what is restored -> the argument that says which
SALT = ["salt-call", "--local", "--log-level=warning", "--retcode-passthrough"]


def unit(name: str) -> str:
    """Return the name of a request's unit."""
    return f"rpiomega-restore-{name}.service"


class RestoreStart(Step):
    """Writes a request and starts the unit that does it. The request is a file: a path may have any character."""

    name = job_steps.RestoreStart.step
    args: job_steps.RestoreStart

    def check(self) -> Diff:
        if not re.fullmatch(r"[0-9A-Za-z-]{1,64}", self.args.name) or self.args.what not in KEYS:
            raise StepError(f"{self.args.name} {self.args.what} is no restore", "see this node's log")
        backup.refuse_unconfigured(self.board)
        diff = Diff()
        diff.add(f"start {unit(self.args.name)}")
        return diff

    def apply(self) -> None:
        """Start it without waiting for it; what an interrupted one left is completed when the unit ends."""
        folder = self.board.path(REQUESTS)
        os.makedirs(folder, mode=0o700, exist_ok=True)
        files.write(os.path.join(folder, self.args.name), json.dumps(self.request()), 0o600)
        finish = " ".join(["/usr/bin/env", *SALT, "backup_restore.finish"])
        options = ["--quiet", "--collect", "--property=Nice=10", f"--property=ExecStopPost={finish}"]
        described = [f"--unit={unit(self.args.name)}", "--description=Restore asked for by rpiomega restore"]
        command = ["systemd-run", *options, *described, "/usr/bin/env", *SALT, "backup_restore.request", self.args.name]
        self.board.shell.must(command, f"on the node: journalctl -u {unit(self.args.name)}")

    def request(self) -> dict:
        """Return the request, as the formula's omega.backup.requests reads it."""
        found: dict = {"what": self.args.what, "dry_run": self.args.preview, "force": self.args.force}
        if KEYS[self.args.what]:
            found[KEYS[self.args.what]] = self.args.path
        if self.args.to:
            found["to"] = self.args.to
        if self.args.at:
            found["at"] = self.args.at
        return found

    def verify(self) -> None:
        """Nothing: it may have ended already; `RestoreFollow` reads its result."""


class RestoreFollow(Step):
    """Follows a restore until it has ended. Changes nothing. `data`: ``result`` (None: it wrote none), ``journal``."""

    name = job_steps.RestoreFollow.step
    args: job_steps.RestoreFollow

    def check(self) -> Diff:
        quiet = Board(self.board.root, cancelled=self.board.cancelled)
        name = unit(self.args.name)
        self.board.wait(
            "the end of the restore", self._look(quiet, name), backup.FOLLOW_BOUND, f"it goes on: see {name}", 0.5
        )
        result, problem = backup.document(self.board, f"{REQUESTS}/{self.args.name}.result")
        self.data.update(result=result or None, journal=problem)
        if not result and not problem:
            self.data["journal"] = backup.journal(self.board, name)
        return Diff()

    def _look(self, quiet: Board, name: str) -> Callable[[], tuple[bool, str]]:
        shown: dict = {}

        def look() -> tuple[bool, str]:
            busy = backup.show(quiet, name).get("busy", False)
            if quiet.exists(f"{REQUESTS}/{self.args.name}.result") or not busy:
                return True, ""
            progress, _ = backup.document(quiet, backup.PROGRESS)
            now = {key: progress[key] for key in backup.SHOWN if key in progress}
            now["group"] = ascii(now.get("group", ""))[1:-1]  # a path may have bytes that are no text
            if now != shown and now.get("what") == "restore":
                shown.clear()
                shown.update(now)
                self.board.tell("progress", step=self.name, **now)
            return False, now["group"] or "no progress yet"

        return look
