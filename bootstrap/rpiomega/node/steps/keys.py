"""The minions' keys as the master sees them. Runs on the master."""

from __future__ import annotations

from rpiomega.node import saltkeys
from rpiomega.node.step import Diff, Step, StepError


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


class Finger(Step):
    """No arguments. `data`: ``finger`` of this minion's key, empty if it has none."""

    name = "finger"

    def check(self) -> Diff:
        self.data["finger"] = saltkeys.fingerprint(self.board.read(saltkeys.MINION_PUB))
        return Diff()
