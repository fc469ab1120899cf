"""What a lost master's backup has, written to the board that takes its place. Contents are in no diff, note or log."""

from __future__ import annotations

import base64
import grp
import os
import pwd
import stat
import time

from rpiomega.node import files, job_steps
from rpiomega.node.job_steps import MasterFile
from rpiomega.node.step import Diff, Step, StepError

PLACES = ("/etc/rpiomega/secrets", "/etc/salt", "/srv/rpiomega/pillar")
KEPT = "/root/rpiomega-before-restore-{}"
UNITS = ("salt-master.service", "salt-minion.service")


class MasterRestore(Step):
    """Writes what is missing. What is there with other content is refused, or with `force` moved to KEPT before.

    `data`: ``same``, ``new``, ``other``: paths as they are found; ``written``, ``old``: paths that were written, and
    those of them that were moved to the folder ``kept`` before ("" if none was).
    """

    name = job_steps.MasterRestore.step
    args: job_steps.MasterRestore

    def check(self) -> Diff:
        self.data.update(same=[], new=[], other=[])
        self.data = {"written": [], "old": [], "kept": "", **self.data}
        for item in self.args.files:
            if not any(_within(item.path, place) for place in PLACES) or os.path.normpath(item.path) != item.path:
                raise StepError(f"{item.path} is no file of a master's backup", "this is a defect of rpiomega")
            self.data[self._state(item)].append(item.path)
        if self.data["other"] and not self.args.force:
            first, more = self.data["other"][0], len(self.data["other"]) - 1
            cause = f"{first}{f' and {more} more' * bool(more)} is there with other content, and is not overwritten"
            raise StepError(cause, f"look at it; --force moves it to {KEPT.format('DATE')} and restores")
        diff = Diff()
        for path in self.data["new"]:
            diff.add(f"write {path}")
        for path in self.data["other"]:
            diff.add(f"replace {path}, and keep it")
        return diff

    def apply(self) -> None:
        self.data.update(written=[*self.data["new"], *self.data["other"]], old=self.data["other"])
        if self.data["other"]:
            stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
            self.data["kept"] = KEPT.format(stamp)
        # A folder comes before what is in it.
        for item in sorted(self.args.files, key=lambda item: item.path):
            if self._state(item) != "same":
                self._write(item)
        if self.board.live and self.board.has("systemctl"):
            for unit in UNITS:  # on a blank board there are none; where there are, they read their keys again
                self.board.shell.run(["systemctl", "try-restart", unit])

    def _state(self, item: MasterFile) -> str:
        path = self.board.path(item.path)
        try:
            found = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            return "new"
        if item.kind == "folder":
            return "same" if stat.S_ISDIR(found.st_mode) else "other"
        if item.kind == "link":
            return "same" if stat.S_ISLNK(found.st_mode) and os.readlink(path) == item.target else "other"
        if not stat.S_ISREG(found.st_mode):
            return "other"
        with open(path, "rb") as stream:
            return "same" if stream.read() == base64.b64decode(item.content) else "other"

    def _write(self, item: MasterFile) -> None:
        path = self.board.path(item.path)
        if os.path.lexists(path):
            kept = self.board.path(self.data["kept"]) + item.path
            os.makedirs(os.path.dirname(kept), mode=0o700, exist_ok=True)
            os.chmod(self.board.path(self.data["kept"]), 0o700)
            os.rename(path, kept) if _one_disk(path, kept) else self.board.shell.must(["mv", "--", path, kept], "`df`")
        _parents(os.path.dirname(path))
        if item.kind == "folder":
            os.mkdir(path, item.mode)
            os.chmod(path, item.mode)
            os.chown(path, *_owner(item))
        elif item.kind == "link":
            os.symlink(item.target, path)
        else:
            files.write(path, base64.b64decode(item.content), item.mode, _owner(item))


def _parents(folder: str) -> None:
    """Make the folders above, for all to read whatever the umask: Salt's user has to get to its files."""
    if not os.path.isdir(folder):
        _parents(os.path.dirname(folder))
        os.mkdir(folder)
        os.chmod(folder, 0o755)


def _owner(item: MasterFile) -> tuple[int, int]:
    """Return the IDs of an owner by its name; root where the board has no such user yet.

    Never by number: it may be another user's here. Salt's own user comes with Salt, and gets its files then.
    """
    try:
        user = pwd.getpwnam(item.user).pw_uid
    except KeyError:
        return 0, 0
    try:
        return user, grp.getgrnam(item.group).gr_gid
    except KeyError:
        return user, 0


def _one_disk(path: str, other: str) -> bool:
    return os.lstat(path).st_dev == os.lstat(os.path.dirname(other)).st_dev


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")
