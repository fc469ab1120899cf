"""The secrets of backups on the master: delivered by the workstation, kept where they are."""

from __future__ import annotations

import json
import os
import re
import time

from rpiomega.node import backup_kit, files, job_steps
from rpiomega.node.backup_kit import FOLDER
from rpiomega.node.step import Diff, Step, StepError

ALLOWED = re.compile(r"bucket\.json|maintenance|reader|recovery|nodes/[a-z0-9][a-z0-9-]*/key")


class BackupSecrets(Step):
    """Writes what is missing below FOLDER. `data`: ``present``, file -> ID of its key ("" if it has none).

    A file that is there stays: one with other content is refused, unless it has the very key that may be replaced.
    Contents are in no diff, note or log.
    """

    name = job_steps.BackupSecrets.step
    args: job_steps.BackupSecrets

    def check(self) -> Diff:
        bucket = self.board.read(f"{FOLDER}/bucket.json")
        self.data["bucket"] = _json(bucket) if bucket is not None else {}
        self.data["present"] = {name: self._key_id(name) for name in self._names() if self._read(name) is not None}
        diff = Diff()
        for name, text in self.args.files.items():
            if not ALLOWED.fullmatch(name):
                raise StepError(f"{name} is no file of {FOLDER}", "this is a defect of rpiomega")
            old = self._read(name)
            if old is None:
                diff.add(f"write {FOLDER}/{name}")
            elif old != text:
                if name not in self.args.replace or self.args.replace[name] != self._key_id(name):
                    cause = f"{FOLDER}/{name} is there with other content, and is not overwritten"
                    raise StepError(cause, f"compare it, then move it away: sudo mv {FOLDER}/{name} /root/")
                diff.add(f"replace the key in {FOLDER}/{name}")
        return diff

    def apply(self) -> None:
        parent = self.board.path(os.path.dirname(FOLDER))
        if not os.path.isdir(parent):
            raise StepError(f"{os.path.dirname(FOLDER)} is missing: this node is no master", "run `rpiomega bootstrap`")
        owner = os.stat(parent)
        for name, text in self.args.files.items():
            if self._read(name) == text:
                continue
            path = self.board.path(f"{FOLDER}/{name}")
            self._folder(os.path.dirname(path), owner)
            files.write(path, text, 0o600, (owner.st_uid, owner.st_gid))

    def _folder(self, path: str, owner: os.stat_result) -> None:
        if not os.path.isdir(path):
            self._folder(os.path.dirname(path), owner)
            os.mkdir(path, 0o700)
            os.chown(path, owner.st_uid, owner.st_gid)

    def _names(self) -> list[str]:
        nodes = [path[len(FOLDER) + 1 :] for path in self.board.glob(f"{FOLDER}/nodes/*/key")]
        return ["bucket.json", "maintenance", "reader", "recovery", *nodes]

    def _read(self, name: str) -> str | None:
        return self.board.read(f"{FOLDER}/{name}")

    def _key_id(self, name: str) -> str:
        if name in ("bucket.json", "recovery"):
            return ""
        return backup_kit.key_file(self._read(name)).get("key_id", "")


class BackupKit(Step):
    """Records which kit was checked, if the kit is that of the secrets here. `data`: see `backup_kit.mark`, and
    ``current``: whether the kit that was checked is that of the secrets here.
    """

    name = job_steps.BackupKit.step
    args: job_steps.BackupKit

    def check(self) -> Diff:
        found = backup_kit.mark(self.board)
        self.data.update(found, current=self.args.hash == backup_kit.digest(backup_kit.fields(self.board)))
        diff = Diff()
        if self.args.hash and self.data["current"] and found["checked"] < self.args.checked:
            diff.add(f"record in {backup_kit.MARK} that the recovery kit was checked")
        return diff

    def apply(self) -> None:
        path = self.board.path(backup_kit.MARK)
        owner = os.stat(os.path.dirname(path))
        # A check of the future would hide a stale kit: the board's clock bounds it.
        at = min(self.args.checked, int(time.time())) if self.board.live else self.args.checked
        text = json.dumps({"version": 1, "hash": self.args.hash, "checked": at}) + "\n"
        files.write(path, text, 0o600, (owner.st_uid, owner.st_gid))

    def verify(self) -> None:
        found = backup_kit.mark(self.board)
        if found["hash"] != self.args.hash:
            raise StepError(f"{backup_kit.MARK} was not written", "see this node's log")
        self.data.update(found)


def _json(text: str) -> dict:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise StepError(f"{FOLDER}/bucket.json is not what init writes", f"sudo mv {FOLDER}/bucket.json /root/")
    return found
