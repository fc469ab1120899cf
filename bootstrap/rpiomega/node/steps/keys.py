"""The minions' keys as the master sees them. Runs on the master."""

from __future__ import annotations

import json
from collections.abc import Iterable

from rpiomega.node import job_steps, saltkeys
from rpiomega.node.board import Board
from rpiomega.node.step import Diff, Step, StepError

PUBLISH_PORT = 4505


class Keys(Step):
    """Waits until the master holds a key of every minion. `data`: ``seen`` (minion -> state -> fingerprint)."""

    name = job_steps.Keys.step
    args: job_steps.Keys

    def check(self) -> Diff:
        fingers = self.args.fingers

        def all_there() -> tuple[bool, list]:
            self.data["seen"] = {name: saltkeys.seen_by_master(self.board, name) for name in fingers}
            missing = [name for name, finger in fingers.items() if finger and finger not in self._of(name)]
            return not missing, missing

        try:
            self.board.wait("the minions' keys", all_there, self.args.bound, "")
        except StepError:
            self.data["late"] = True  # the workstation says it per node
        return Diff()

    def _of(self, name: str) -> list[str]:
        return list(self.data["seen"][name].values())


class Accept(Step):
    """Accepts the minions that wait with that very key."""

    name = job_steps.Accept.step
    args: job_steps.Accept

    def check(self) -> Diff:
        diff = Diff()
        for name in self._waiting():
            diff.add(f"accept the key of {name} ({self.args.fingers[name]})")
        return diff

    def apply(self) -> None:
        # One call for all: each start of salt-key takes seconds on a board.
        command = ["salt-key", "--yes", "--accept", ",".join(self._waiting())]
        self.board.shell.must(command, "see `salt-key -L` on the master", timeout=180)

    def _waiting(self) -> list[str]:
        fingers = self.args.fingers
        return [n for n, finger in fingers.items() if saltkeys.seen_by_master(self.board, n).get("waiting") == finger]


class Answering(Step):
    """Waits until the minions answer their master.

    A minion asks every few seconds whether its key was accepted, and `salt '*'` passes over one that is not connected.
    `data`: ``silent`` (the names that do not answer).
    """

    name = job_steps.Answering.step
    args: job_steps.Answering

    def check(self) -> Diff:
        minions = self.args.minions

        def all_answer() -> tuple[bool, list]:
            # Asking a minion that is not connected would only cost Salt's time-outs.
            self.data["silent"] = [name for name in minions if name not in connected(self.board, minions)]
            if not self.data["silent"]:
                answers = ask(self.board, minions, "test.ping", 3)
                self.data["silent"] = [name for name in minions if answers.get(name) is not True]
            return not self.data["silent"], self.data["silent"]

        try:
            self.board.wait("the minions' answers", all_answer, self.args.bound, "")
        except StepError:
            self.data["late"] = True  # the workstation says it per node
        return Diff()


class Synced(Step):
    """Has the minions that are connected sync their modules with the master's formula.

    `state.apply NAME` does not sync, and would run old modules with new states. `data`: ``unsynced`` (names that are
    connected and did not).
    """

    name = job_steps.Synced.step
    args: job_steps.Synced

    def check(self) -> Diff:
        there = connected(self.board, self.args.minions)
        answers = ask(self.board, there, "saltutil.sync_all", 60)
        self.data["unsynced"] = [name for name in there if not isinstance(answers.get(name), dict)]
        return Diff()


def connected(board: Board, minions: dict[str, str]) -> list[str]:
    """Return the names of the minions whose addresses are connected to this master."""
    command = ["ss", "-Htn", "state", "established", f"( sport = :{PUBLISH_PORT} )"]
    peers = board.shell.run(command).output.replace("[::ffff:", "").replace("]", "")
    return [name for name, address in minions.items() if f" {address}:" in peers]


def ask(board: Board, names: Iterable[str], function: str, timeout: int) -> dict:
    """Return minion -> what a function of Salt returned there; without those that gave nothing."""
    if not names:
        return {}
    command = ["salt", "--out=json", "--static", f"--timeout={timeout}", "--list", ",".join(names), function]
    return answers(board.shell.run(command, timeout=120).output)


def answers(output: str) -> dict:
    """Return what `salt --out=json --static` printed, among what else it may print."""
    try:
        return json.loads(output[output.index("{") : output.rindex("}") + 1])
    except ValueError:
        return {}


class Finger(Step):
    """Changes nothing. `data`: ``finger`` of this minion's key, empty if it has none."""

    name = job_steps.Finger.step
    args: job_steps.Finger

    def check(self) -> Diff:
        self.data["finger"] = saltkeys.fingerprint(self.board.read(saltkeys.MINION_PUB))
        return Diff()
