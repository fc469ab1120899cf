"""Machine-id and SSH host keys: every board its own, also where one card was copied from another.

Source: machine-id(5).
"""

from __future__ import annotations

import glob
import os
import re
import tempfile
import uuid

from rpiomega.node import files, job_steps
from rpiomega.node.board import Board
from rpiomega.node.doctor import engine, identity
from rpiomega.node.step import Diff, Step, StepError

MACHINE_ID = "/etc/machine-id"
DBUS = "/var/lib/dbus/machine-id"
SWARM = "/var/lib/docker/swarm/docker-state.json"


class Identity(Step):
    """Changes nothing. `data`: ``machine_id``, ``host_keys``, ``swarm`` (member of one)."""

    name = job_steps.Identity.step
    args: job_steps.Identity

    def check(self) -> Diff:
        self.data["machine_id"] = (self.board.read(MACHINE_ID) or "").strip()
        self.data["host_keys"] = identity.host_keys(self.board)
        self.data["swarm"] = in_swarm(self.board)
        return Diff()


def in_swarm(board: Board) -> bool:
    """Return whether Docker says it is in a swarm; while it does not answer, what it has written counts."""
    found = engine.read(board, {})
    if found["info"]:
        return found["swarm"]["state"] != "inactive"
    return board.exists(SWARM)


class MachineId(Step):
    """An identity of the board's own: machine-id and SSH host keys.

    `data`: ``reboot``, and ``public_keys`` (the new host keys' lines) if they were made.
    """

    name = job_steps.MachineId.step
    args: job_steps.MachineId

    def check(self) -> Diff:
        diff, done = Diff(), self.board.shared.get("renewed", set())
        text = (self.board.read(MACHINE_ID) or "").strip()
        if not re.fullmatch(r"[0-9a-f]{32}", text):
            diff.add("make a machine-id: there is none")
        elif self.args.machine_id and "machine_id" not in done:
            diff.add(f"make a new machine-id: {self.args.machine_id} has the same")
        if not identity.host_keys(self.board):
            diff.add("make SSH host keys: there are none")
        elif self.args.host_keys and "host_keys" not in done:
            diff.add(f"make new SSH host keys: {self.args.host_keys} has the same")
        if (self.args.machine_id or self.args.host_keys) and diff:
            self._refuse_member()
        return diff

    def apply(self) -> None:
        done = self.board.shared.setdefault("renewed", set())
        for line in self.check().lines:
            if "machine-id" in line:
                self._new_machine_id()
                done.add("machine_id")
            else:
                self._new_host_keys()
                done.add("host_keys")

    def _refuse_member(self) -> None:
        if in_swarm(self.board) and not self.args.force:
            other = self.args.machine_id or self.args.host_keys
            cause = f"this board is a copy of {other}'s card, and a member of a swarm"
            cure = "drain it, let it leave the swarm, then again; or --renew-identity if you know what depends on it"
            raise StepError(cause, cure)

    def _new_machine_id(self) -> None:
        new = f"{uuid.uuid4().hex}\n"
        files.write(self.board.path(MACHINE_ID), new, 0o444)
        dbus = self.board.path(DBUS)
        if os.path.exists(dbus) and not os.path.islink(dbus):
            files.write(dbus, new, 0o444)
        self.data["reboot"] = "programs that run have still the old machine-id"
        self.notes.append("new machine-id: a board with an address from DHCP may get another one at its next boot")

    def _new_host_keys(self) -> None:
        folder = self.board.path("/etc/ssh")
        old = set(glob.glob(f"{folder}/ssh_host_*_key*"))
        # Made beside the old ones: without any, sshd would not start after a power cut.
        with tempfile.TemporaryDirectory(prefix=".rpiomega-", dir=folder) as made:
            os.makedirs(f"{made}/etc/ssh")
            result = self.board.shell.run(["ssh-keygen", "-A", "-f", made], timeout=120, finish=True)
            new = sorted(glob.glob(f"{made}/etc/ssh/ssh_host_*_key*"))
            if result.code or not new:
                raise StepError(f"ssh-keygen failed: {result.last}", "see `ssh-keygen -A` on the board")
            os.sync()
            for path in new:
                os.replace(path, f"{folder}/{os.path.basename(path)}")
        for path in old - {f"{folder}/{os.path.basename(path)}" for path in new}:
            os.unlink(path)
        self.data["public_keys"] = [
            " ".join((files.read(path) or "").split()[:2]) for path in sorted(glob.glob(self.board.path(identity.KEYS)))
        ]
        if self.board.live:
            # Reload: this very connection stays open.
            self.board.shell.run(["systemctl", "try-reload-or-restart", "ssh"], timeout=30)
