"""Reads repositories with a recovery kit and nothing else: by this machine's restic, or by that of a board."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass

from omega.core import apt_rules
from rpiomega.backup import opening
from rpiomega.errors import NodeError
from rpiomega.ssh import Remote, shell

BOUND = 1800.0
_APT = shell("env", *(f"{name}={value}" for name, value in apt_rules.ENVIRONMENT.items()), *apt_rules.APT)
INSTALL = f"{{ {_APT} install restic || {{ {_APT} update && {_APT} install restic; }}; }} </dev/null >&2"


@dataclass(frozen=True)
class Reader:
    """`program`: restic where it runs; `remote`: the board that runs it, None: this machine."""

    kit: dict
    program: str = "restic"
    remote: Remote | None = None

    def ready(self) -> str:
        """Make sure that the board has restic; return in one line what was done, "" if nothing.

        :raises NodeError: it cannot be installed
        """
        if not self.remote or self.remote.run("command -v restic >/dev/null").returncode == 0:
            return ""
        done = self.remote.run(self.remote.as_root(INSTALL), timeout=BOUND)
        if done.returncode:
            said = (done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
            raise NodeError(f"restic cannot be installed there ({said})", "install restic 0.17 or newer here")
        return "restic installed there by apt-get"

    def snapshots(self, node: str, group: str) -> list[dict]:
        """Return the snapshots of a group, oldest first. Raise NodeError."""
        found = json.loads(self.read(node, "snapshots", "--json", "--tag", f"rpiomega,group={group}") or b"null") or []
        return sorted(found, key=lambda row: row["time"])

    def tar(self, node: str, snapshot: str, path: str) -> bytes:
        """Return a folder of a snapshot as a tar archive, with owners and modes. Raise NodeError."""
        return self.read(node, "dump", "--archive", "tar", snapshot, path)

    def read(self, node: str, *arguments: str) -> bytes:
        """Return what restic prints on a node's repository. Secrets go over its standard input, none to a disk.

        :raises NodeError: it failed: cause and cure
        """
        begin = f"set -- {shell(node, *arguments)}\n{opening.opened(self.kit, self.program)}"
        script = f'{begin}node=$1; shift\nnice -n 19 "$RESTIC" -r "$BASE/$node" --no-lock "$@" </dev/null\n'
        secrets = opening.given(self.kit)
        if self.remote:
            done = self.remote.run(self.remote.as_root(script), stdin=secrets, timeout=BOUND)
        else:
            try:
                done = subprocess.run(
                    ["sh", "-c", script], input=secrets, capture_output=True, timeout=BOUND, check=False
                )
            except subprocess.TimeoutExpired:
                raise NodeError(f"hosts/{node} did not answer within {BOUND:.0f} s", "check the network") from None
        if done.returncode:
            lines = done.stderr.decode(errors="replace").strip().splitlines() or [""]
            failed = opening.judged(node, done.returncode, lines[-1])
            raise NodeError(f"hosts/{node}: {failed.cause}", failed.cure)
        return done.stdout
