"""Backups on a node: what is known of them, a run started by its unit, a run followed to its end."""

from __future__ import annotations

import json
from collections.abc import Callable

from rpiomega.node import backup, job_steps
from rpiomega.node.board import Board
from rpiomega.node.shell import Result
from rpiomega.node.step import Diff, Step, StepError

LIST_BOUND = 900.0


def result(what: str, state: dict) -> dict:
    """Return what state.json says of the last run (`what`: ``backup``) or of the last drill."""
    return state.get("last" if what == "backup" else "drill") or {}


def marker(what: str, state: dict) -> str:
    """Return what tells one run, or one drill, from the one before; empty if there was none."""
    found = result(what, state)
    return str(found.get("id") or found.get("started") or "")


class BackupState(Step):
    """Changes nothing. `data`: see rpiomega.node.backup.read."""

    name = job_steps.BackupState.step
    args: job_steps.BackupState

    def check(self) -> Diff:
        self.data.update(backup.read(self.board, {}))
        return Diff()


class BackupStart(Step):
    """Starts the unit of a backup or of a drill, where it does not run yet.

    `data`: ``attached`` (it ran already), ``before`` (the marker of the last result, for `BackupFollow`).
    """

    name = job_steps.BackupStart.step
    args: job_steps.BackupStart

    def check(self) -> Diff:
        what, facts = self.args.what, backup.read(self.board, {})
        unit = f"{backup.UNITS[what]}.service"
        if not facts["configured"] or facts["units"][unit].get("load") == "not-found":
            raise backup.unconfigured(self.board)
        if facts["running"] not in ("", what):
            other = facts["running"]
            raise StepError(f"a {other} is running on this node", f"run this again after the {other} has ended")
        self.data.update(attached=facts["running"] == what, before=marker(what, facts["state"]))
        diff = Diff()
        if not self.data["attached"]:
            diff.add(f"start {unit}")
        return diff

    def apply(self) -> None:
        """Start it without waiting for it: the run belongs to systemd, and goes on if this connection is lost."""
        unit = f"{backup.UNITS[self.args.what]}.service"
        # A start of a unit that systemd is about to restart waits for that moment (systemd, service_start: EAGAIN).
        again = backup.show(self.board, unit).get("sub", "").startswith("auto-restart")
        self.board.shell.run(["systemctl", "reset-failed", unit])  # also resets the count of StartLimitBurst=
        command = ["systemctl", "restart" if again else "start", "--no-block", unit]
        self.board.shell.must(command, f"on the node: systemctl status {unit}")

    def verify(self) -> None:
        """Nothing: a run may have ended already; `BackupFollow` reads its result."""


class BackupFollow(Step):
    """Follows a run until it has ended. Changes nothing, and needs no lock.

    `data`: ``result`` (of the run that ended, None if it wrote none), ``unit`` (the service, see
    rpiomega.node.backup.unit), ``journal`` (its last line, where there is no result).
    """

    name = job_steps.BackupFollow.step
    args: job_steps.BackupFollow

    def check(self) -> Diff:
        what = self.args.what
        unit = f"{backup.UNITS[what]}.service"
        # Two looks a second are no lines for the node's log.
        quiet = Board(self.board.root, cancelled=self.board.cancelled)
        self.board.wait(
            f"the end of the {what}", self._look(quiet, unit), backup.FOLLOW_BOUND, f"it goes on: see {unit}", 0.5
        )
        state, problem = backup.document(self.board, backup.STATE)
        if problem:
            raise StepError(problem, "delete that file on the node: the next run writes it again")
        new = marker(what, state) != self.args.before
        self.data.update(result=result(what, state) if new else None, unit=backup.show(self.board, unit), journal="")
        if not new:
            self.data["journal"] = backup.journal(self.board, unit)
        return Diff()

    def _look(self, quiet: Board, unit: str) -> Callable[[], tuple[bool, str]]:
        """Return a look at the run that reports each change of its progress."""
        shown: dict = {}

        def look() -> tuple[bool, str]:
            progress, _ = backup.document(quiet, backup.PROGRESS)
            now = {key: progress[key] for key in backup.SHOWN if key in progress}
            if backup.running(quiet, {unit: backup.show(quiet, unit)}, progress) != self.args.what:
                return True, ""
            if now != shown:
                shown.clear()
                shown.update(now)
                if now.get("what"):
                    self.board.tell("progress", step=self.name, **now)
            return False, str(now.get("group") or "no progress yet")

        return look


class BackupList(Step):
    """Lists the snapshots of this node's repository. `data`: ``snapshots``, as the formula's `backup.list` gives them.

    The list is restic's, so it takes the network, and seconds.
    """

    name = job_steps.BackupList.step
    args: job_steps.BackupList

    def check(self) -> Diff:
        backup.refuse_unconfigured(self.board)
        command = ["salt-call", "--local", "--out=json", "--log-level=quiet", "--retcode-passthrough", "backup.list"]
        self.data["snapshots"] = listed(self.board.shell.run(command, timeout=LIST_BOUND))
        return Diff()


def listed(done: Result) -> list[dict]:
    """Return the snapshots that `salt-call backup.list` printed. Raise StepError with what it said instead."""
    try:
        found = json.loads(done.output[done.output.index("{") :])["local"]
    except (ValueError, KeyError, TypeError):
        found = None
    if done.code == 0 and isinstance(found, list):
        return found
    said = found if isinstance(found, str) else done.last
    raise StepError(
        f"the repository cannot be listed: {' '.join(said.split())}",
        "on the node: sudo salt-call --local backup.list",
    )
