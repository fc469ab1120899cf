"""The minions' keys as the master sees them. Runs on the master."""

from __future__ import annotations

import json

from rpiomega.node import saltkeys
from rpiomega.node.step import Diff, Step, StepError

PUBLISH_PORT = 4505


class Keys(Step):
    """Arguments: `fingers` (minion -> fingerprint on the minion, may be empty), `bound` in seconds.

    Waits until the master holds a key of every minion. `data`: ``seen`` (minion -> state -> fingerprint).
    """

    name = "keys"

    def check(self) -> Diff:
        fingers = self.args["fingers"]

        def all_there():
            self.data["seen"] = {name: saltkeys.seen_by_master(self.board, name) for name in fingers}
            missing = [name for name, finger in fingers.items() if finger and finger not in self._of(name)]
            return not missing, missing

        try:
            self.board.wait("the minions' keys", all_there, self.args.get("bound", 0), "")
        except StepError:
            self.data["late"] = True  # the workstation says it per node
        return Diff()

    def _of(self, name: str) -> list[str]:
        return list(self.data["seen"][name].values())


class Accept(Step):
    """Argument: `fingers` (minion -> fingerprint proven on the minion). Accepts those that wait with that very key."""

    name = "accept"

    def check(self) -> Diff:
        diff = Diff()
        for name in self._waiting():
            diff.add(f"accept the key of {name} ({self.args['fingers'][name]})")
        return diff

    def apply(self) -> None:
        # One call for all: each start of salt-key takes seconds on a board.
        command = ["salt-key", "--yes", "--accept", ",".join(self._waiting())]
        self.board.shell.must(command, "see `salt-key -L` on the master", timeout=180)

    def _waiting(self) -> list[str]:
        fingers = self.args["fingers"]
        return [n for n, finger in fingers.items() if saltkeys.seen_by_master(self.board, n).get("waiting") == finger]


class Answering(Step):
    """Arguments: `minions` (name -> address), `bound` in seconds. Waits until they all answer their master.

    A minion asks every few seconds whether its key was accepted, and `salt '*'` passes over one that is not connected.
    `data`: ``silent`` (the names that do not answer).
    """

    name = "answering"

    def check(self) -> Diff:
        def all_answer():
            # Asking a minion that is not connected would only cost Salt's time-outs.
            self.data["silent"] = self._unconnected() or self._unanswered()
            return not self.data["silent"], self.data["silent"]

        try:
            self.board.wait("the minions' answers", all_answer, self.args["bound"], "")
        except StepError:
            self.data["late"] = True  # the workstation says it per node
        return Diff()

    def _unconnected(self) -> list[str]:
        command = ["ss", "-Htn", "state", "established", f"( sport = :{PUBLISH_PORT} )"]
        peers = self.board.shell.run(command).output.replace("[::ffff:", "").replace("]", "")
        return [name for name, address in self.args["minions"].items() if f" {address}:" not in peers]

    def _unanswered(self) -> list[str]:
        command = ["salt", "--out=json", "--static", "--timeout=3", "--list", ",".join(self.args["minions"])]
        output = self.board.shell.run([*command, "test.ping"], timeout=120).output
        return [name for name in self.args["minions"] if not answered(output, name)]


def answered(output: str, name: str) -> bool:
    """Return whether `salt --out=json --static` printed a minion's true, among what else it may print."""
    try:
        return json.loads(output[output.index("{") : output.rindex("}") + 1]).get(name) is True
    except ValueError:
        return False


class Finger(Step):
    """No arguments. `data`: ``finger`` of this minion's key, empty if it has none."""

    name = "finger"

    def check(self) -> Diff:
        self.data["finger"] = saltkeys.fingerprint(self.board.read(saltkeys.MINION_PUB))
        return Diff()
