"""What is on the board already; the workstation decides by it what to bring. Changes nothing."""

from __future__ import annotations

import json
import os

from rpiomega.node import formula_tree, job_steps, salt_onedir, salt_pip, saltkeys
from rpiomega.node.board import Board
from rpiomega.node.step import Diff, Step, StepError

FILES = "/srv/rpiomega/files"
# Sums of the files above: reading a big archive through at each run would cost a board seconds.
SUMS = "/var/lib/rpiomega/files.json"


def missing_files(board: Board, wanted: list[job_steps.ServedFile]) -> list[str]:
    """Return the names of `wanted` that the board does not hold in that version."""
    known, missing = known_sums(board), []
    for item in wanted:
        path = board.path(f"{FILES}/{item.name}")
        if not os.path.isfile(path) or known.get(item.name) != sum_entry(path, item.sha256):
            missing.append(item.name)
    return missing


def known_sums(board: Board) -> dict:
    """Return name -> `sum_entry` of the files above, as they were placed."""
    try:
        return json.loads(board.read(SUMS) or "{}")
    except ValueError:
        return {}


def sum_entry(path: str, sha256: str) -> list:
    """Return what is remembered about a file whose sum was seen to be `sha256`."""
    found = os.stat(path)
    return [sha256, found.st_size, found.st_mtime_ns]


class Inventory(Step):
    """`data`: ``salt`` ({"kind", "key", "installed"}), ``files`` (missing names), ``formula`` (commit) and
    ``master_finger``.
    """

    name = job_steps.Inventory.step
    args: job_steps.Inventory

    def check(self) -> Diff:
        self.notes[:] = []
        self.data["salt"] = self._salt(self.args.salt)
        self.data["files"] = missing_files(self.board, self.args.files)
        self.data["formula"] = formula_tree.commit(self.board, self.args.branch)
        self.data["master_finger"] = saltkeys.fingerprint(self.board.read(saltkeys.MASTER_PUB))
        return Diff()

    def _salt(self, wanted: job_steps.SaltWanted) -> dict:
        package, pip = salt_onedir.installed(self.board), salt_pip.installed(self.board)
        kind = self._kind(wanted.source, package, pip, wanted.repository)
        key = salt_pip.key(self.board, wanted.version) if kind == "pip" else ""
        return {"kind": kind, "key": key, "installed": bool(key) and pip.get("key") == key}

    def _kind(self, source: str, package: str, pip: dict, repository: job_steps.Repository) -> str:
        if source == "pip" and package:
            cure = "remove them (`apt-get purge 'salt-*'`) or write `source: onedir` in section salt of the site file"
            raise StepError(f"Salt {package} is here as packages, the site file says pip", cure)
        if source != "auto":
            return source
        if package or pip:
            return "onedir" if package else "pip"
        architecture = self.board.shell.run(["dpkg", "--print-architecture"]).output.strip()
        if architecture not in salt_onedir.ARCHITECTURES:
            self.notes.append(f"Salt by pip: the project has no packages for {architecture}")
            return "pip"
        refusal = salt_onedir.reachable(repository.uri)
        if refusal:
            self.notes.append(f"Salt by pip: the project's package repository does not answer ({refusal})")
        return "pip" if refusal else "onedir"
