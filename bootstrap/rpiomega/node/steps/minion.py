"""The Salt minion: which master, proven by its key; service; own key."""

from __future__ import annotations

import os

from rpiomega.node import dropin_salt, job_steps, saltkeys, service
from rpiomega.node.files import File, apply_all
from rpiomega.node.step import Diff, Step, StepError

CONF = "/etc/salt/minion.d/rpiomega.conf"
UNIT = "salt-minion.service"
KEY_BOUND = 90.0
# Settings that decide whether the minion obeys this master; others of our file are the owner's to change.
ESSENTIAL = [
    "id",
    "append_domain",
    "master",
    "master_finger",
    "master_type",
    "master_port",
    "publish_port",
    "verify_master_pubkey_sign",
    "file_client",
    "hash_type",
]
UNKNOWN = "(known once the master has its key)"


class Minion(Step):
    """The running minion, with its master's fingerprint.

    On the master itself the fingerprint comes from the step before. `data`: ``finger`` of the minion's own key.
    """

    name = job_steps.Minion.step
    args: job_steps.Minion

    def check(self) -> Diff:
        diff = Diff()
        for file in self._files():
            diff += file.diff(self.board)
        if self._other_master():
            self._refuse_unless_told()
            diff.add(f"forget the key of another master ({self._other_master()[:23]}...)")
        for path in self._leftovers():
            diff.add(f"move {path} away: it is left from another use of this board")
        diff += service.check(self.board, UNIT)
        if not diff:
            service.foreign(self.board, UNIT, service.PROGRAMS[self.args.kind].format("salt-minion"))
        self.data["finger"] = saltkeys.fingerprint(self.board.read(saltkeys.MINION_PUB))
        return diff

    def apply(self) -> None:
        leftovers = self._leftovers()
        if any(file.diff(self.board) for file in self._files()) or self._other_master() or leftovers:
            service.restart_later(self.board, UNIT)
            apply_all(self.board, self._files())
        for path in leftovers:
            kept = dropin_salt.retire(self.board, path)
            self.notes.append(f"{path} named another master or none: kept as {kept}, which Salt does not read")
        if self._other_master():
            os.unlink(saltkeys.CACHED_MASTER)
        service.ensure(self.board, UNIT)

        def key() -> tuple[str, str]:
            return saltkeys.fingerprint(self.board.read(saltkeys.MINION_PUB)), "no key yet"

        self.board.wait("the minion to make its key", key, KEY_BOUND, f"see `journalctl -u {UNIT}` on the board")

    def _finger(self) -> str:
        return self.args.master_finger or self.board.shared.get("master_finger") or ""

    def _other_master(self) -> str:
        """Return the fingerprint of a cached master key that is not the one expected."""
        cached = saltkeys.fingerprint(self.board.read(saltkeys.CACHED_MASTER))
        return cached if self._finger() and cached != self._finger() else ""

    def _refuse_unless_told(self) -> None:
        if self.args.new_master:
            return
        cause = f"this minion belongs to another master (key {self._other_master()}, ours is {self._finger()})"
        raise StepError(cause, "if it is meant to change, run the bootstrap for it with --new-master")

    def _leftovers(self) -> list[str]:
        """Return the files that overrule ours and are left from another use of the board.

        Raise StepError if a setting would not be in force once they are gone, with the file that sets it.
        """
        program = dropin_salt.python(self.board, self.args.kind)
        if not program:
            return []
        text = self._files()[0].text
        found = dropin_salt.read(self.board, program, "minion", CONF, text, ESSENTIAL)
        lacking = dropin_salt.lost(found, ESSENTIAL, CONF)
        gone = dropin_salt.leftovers(found, lacking, CONF)
        for item in lacking:
            if item.file not in gone:
                raise dropin_salt.refusal(item, CONF)
        return gone

    def _files(self) -> list[File]:
        text = (
            "# Written by rpiomega's bootstrap.\n"
            f"id: '{self.args.id}'\n"  # YAML takes a name such as 010 or no for something else
            f"master: {self.args.master}\n"
            # Refuse a master at that address that has another key.
            f"master_finger: '{self._finger() or UNKNOWN}'\n"
            # A card used before may say otherwise in /etc/salt/minion.
            "master_type: str\nmaster_port: 4506\npublish_port: 4505\nfile_client: remote\n"
            # Salt appends this to the id above as well.
            "append_domain: ''\nverify_master_pubkey_sign: False\n"
            # The fingerprint above is of this kind.
            "hash_type: sha256\n"
            "# Ask often while the key waits for its acceptance.\n"
            "acceptance_wait_time: 3\n"
            "# Also while the master holds the key of this board's old card: Salt's default is to end.\n"
            "rejected_retry: True\n"
            "# The state rpiomega.modules syncs them, and only when they differ.\n"
            "autoload_dynamic_modules: False\n"
        )
        wanted = [File(CONF, text)]
        return wanted + service.unit_files(self.board, self.args.kind, UNIT, "Salt minion", "salt-minion")

    def verify(self) -> None:
        super().verify()
        if not self.data["finger"]:
            raise StepError("the minion has no key", f"see `journalctl -u {UNIT}` on the board")
