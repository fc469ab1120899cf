"""The repositories of all nodes, on the master: made once, and the recovery passphrase opens each of them."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from omega.backup import restic
from omega.backup.configured import MAINTENANCE
from omega.backup.restic import Repository, ResticError
from omega.core import files

RECORD = "repositories.json"  # addresses of the repositories that are there, in the folder of `configured`
SECONDS = 120  # for one call of restic, which goes on for 15 minutes where the store does not answer
RECOVERY = ("rpiomega", "recovery")  # user and host of the recovery key, as `restic key list` shows them


@dataclass(frozen=True)
class Found:
    """What a repository is: there or not, and whether the recovery passphrase opens it."""

    there: bool
    recovery: bool

    @property
    def missing(self) -> str:
        """Return in words what has to be done, "" if nothing."""
        if not self.there:
            return "repository made, recovery key added"
        return "" if self.recovery else "recovery key added"


def known(folder: str, program: str = "restic") -> dict[str, Repository]:
    """Return {node: Repository with the maintenance key}, by the files that `backup.configured` writes.

    :param folder: /etc/rpiomega/backup of the master
    :raises ResticError: bad_request: the files are not there
    """
    nodes = os.path.join(folder, MAINTENANCE, "nodes")
    try:
        names = sorted(os.listdir(nodes))
    except OSError as error:
        cause = f"{nodes} cannot be read ({error.strerror})"
        raise ResticError("bad_request", cause, "apply the state `backup` on the master") from None
    region = settings(folder)["region"]
    return {
        name: Repository(
            url=text(os.path.join(nodes, name, "repository")).strip(),
            password_file=os.path.join(nodes, name, "password"),
            aws_file=os.path.join(folder, MAINTENANCE, "aws"),
            region=region,
            program=program,
        )
        for name in names
    }


def settings(folder: str) -> dict[str, Any]:
    """Return the settings that `backup.configured` wrote.

    :raises ResticError: bad_request: there are none
    """
    found: dict[str, Any] = json.loads(text(os.path.join(folder, "settings.json")))
    return found


def text(path: str) -> str:
    """Return the text of a file that `backup.configured` wrote.

    :raises ResticError: bad_request: there is none
    """
    found = files.read(path)
    if found is None:
        raise ResticError("bad_request", f"there is no file {path}", "apply the state `backup` on this node")
    return found


def seen(folder: str) -> list[str]:
    """Return the addresses of the repositories that were there at an earlier time."""
    try:
        found = json.loads(files.read(os.path.join(folder, RECORD)) or "[]")
    except ValueError:
        return []
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


def note(folder: str, urls: Iterable[str]) -> None:
    """Record that repositories are there."""
    before = seen(folder)
    now = sorted({*before, *urls})
    if now != before:
        files.write(os.path.join(folder, RECORD), json.dumps(now, indent=1) + "\n", 0o600)


def lost(repository: Repository, folder: str) -> ResticError:
    """Return the error for a repository that was there once: a new one in its place would hide the loss."""
    node = os.path.basename(repository.url)
    cause = f"{repository.url} was there and is gone: somebody deleted or hid it, and no new one is made in its place"
    cure = (
        f"`rpiomega backup past {node} --at TIME --into FOLDER` on the workstation copies it as it was; for a new, "
        f"empty one delete its line in {os.path.join(folder, RECORD)}"
    )
    return ResticError("no_repository", cause, cure)


def look(repository: Repository, recovery: str) -> Found:
    """Return what a repository is.

    :param recovery: path of the file that has the recovery passphrase
    :raises ResticError: it cannot be reached, or opens with another password than the node's
    """
    try:
        _open(repository)
    except ResticError as error:
        if error.kind == "no_repository":
            return Found(False, False)
        if error.kind == "wrong_password":
            raise _foreign(repository) from None
        raise
    try:
        _open(Repository(**{**vars(repository), "password_file": recovery}))
    except ResticError as error:
        if error.kind != "wrong_password":
            raise
        return Found(True, False)
    return Found(True, True)


def make(repository: Repository, recovery: str, found: Found) -> None:
    """Make what `look` found missing. A repository that is there is never overwritten, and no key of it removed.

    :raises ResticError: restic refuses, or the store does not answer
    """
    if not found.there:
        restic.run(repository, ["init"], seconds=SECONDS)
    if not found.recovery:
        user, host = RECOVERY
        arguments = ["key", "add", "--user", user, "--host", host, "--new-password-file", recovery]
        restic.run(repository, arguments, seconds=SECONDS)


def _open(repository: Repository) -> None:
    restic.run(repository, ["cat", "config", "--no-lock"], seconds=SECONDS)


def _foreign(repository: Repository) -> ResticError:
    cause = f"{repository.url} opens with another password than this cluster's, and was left as it is"
    node = os.path.basename(repository.url)
    cure = (
        f"put the file backup/nodes/{node}/password of its time back into /etc/rpiomega/secrets of the master, or set "
        "backup.bucket to another bucket and run `rpiomega backup init`"
    )
    return ResticError("wrong_password", cause, cure)
