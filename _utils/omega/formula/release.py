"""Revisions of the formula side by side, and a link that names the one in use.

Beside the tree `/srv/rpiomega/formula` lies the folder `/srv/rpiomega/formula.releases`::

    store.git        what was fetched
    0123456789ab     a git worktree of each revision: the one in use, and the one before

The tree is a symbolic link to a worktree. A worktree is complete and on the disk before the link is renamed into place,
and rename(2) is atomic: whenever the power goes, the link names a whole revision, the old or the new one. The first
checkout, which the bootstrap made, is a plain folder; it is exchanged for the link in one step (renameat2(2)) and kept.
"""

import contextlib
import ctypes
import errno
import os
import shutil

from omega.core import files
from omega.formula import repository as git

EXCHANGE = 2  # RENAME_EXCHANGE of linux/fs.h
AT_FDCWD = -100  # of fcntl.h
LOCK_SECONDS = 60
REF, CONFIG = "refs/rpiomega/applied", "rpiomega.rev"


class Releases:
    """The folder of revisions that belongs to ``tree``; nothing is written before `prepare`.

    :param tree: path of the link
    :param folder: the folder, by default beside the tree
    :param borrow: the store of another folder to read objects from: a rehearsal in a temporary folder
    """

    def __init__(self, tree, folder=None, borrow=None):
        self.tree = tree.rstrip("/")
        self.folder = folder or f"{self.tree}.releases"
        self.store = os.path.join(self.folder, "store.git")
        self.borrow = borrow

    def applied(self):
        """Return ``(commit, rev)`` of the last switch, each None if there was none."""
        found = []
        for command in (("rev-parse", "--verify", "--quiet", REF), ("config", "--get", CONFIG)):
            try:
                found.append(git.run(self.store, *command))
            except git.GitFailed:
                found.append(None)
        return tuple(found)

    @contextlib.contextmanager
    def locked(self):
        """Keep other runs out, such as the scheduled one."""
        os.makedirs(self.folder, exist_ok=True)
        with open(os.path.join(self.folder, ".lock"), "w", encoding="utf-8") as lock:
            cause = f"another run has been updating {self.tree} for more than {LOCK_SECONDS} s"
            busy = git.FormulaError(cause, "run it again when that one has ended")
            files.lock(lock, LOCK_SECONDS, lambda late: busy)
            yield

    def prepare(self, remote):
        """Make the store, if it is missing or was left half-made."""
        if not self._made():
            shutil.rmtree(self.store, ignore_errors=True)
            os.makedirs(self.folder, exist_ok=True)
            git.run(self.folder, "init", "--quiet", "--bare", self.store)
        git.run(self.store, "config", "remote.origin.url", remote)
        # For the bootstrap and for people: `git fetch` in the tree does what it does in any clone.
        git.run(self.store, "config", "remote.origin.fetch", "+refs/heads/*:refs/remotes/origin/*")
        if self.borrow:
            with open(os.path.join(self.store, "objects/info/alternates"), "w", encoding="utf-8") as file:
                file.write(os.path.join(self.borrow, "objects") + "\n")

    def _made(self):
        """Say whether the store is a repository: the revision in use is a worktree of it, and lost without it."""
        with contextlib.suppress(git.GitFailed):
            return git.run(self.store, "rev-parse", "--git-dir") == "."
        return False

    def check_out(self, commit):
        """Return the path of a fresh worktree of ``commit``; whatever another run left at that place goes first."""
        path = os.path.join(self.folder, commit[:12])
        if path == self._in_use():
            path += ".again"
        self._remove(path)
        git.run(self.store, "worktree", "add", "--quiet", "--detach", path, commit, seconds=git.FETCH_SECONDS)
        return path

    def switch(self, path, commit, rev):
        """Make the tree name ``path``, remember it, and drop all revisions but this and the one before.

        :return: where the plain folder went that stood at the tree's place before, or None
        """
        before = self._in_use()
        # What can fail, as on a full disk, comes before the one step after which the new revision is in use.
        git.run(self.store, "update-ref", REF, commit)
        git.run(self.store, "config", CONFIG, rev)
        os.sync()  # files first, the name after them
        link = f"{self.tree}.next"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(link)
        os.symlink(os.path.relpath(path, os.path.dirname(self.tree)), link)
        kept = None
        if os.path.isdir(self.tree) and not os.path.islink(self.tree):
            _exchange(link, self.tree)
            kept = _free_name(f"{self.tree}.before")
            os.rename(link, kept)
        else:
            os.replace(link, self.tree)
        files.sync_folder(os.path.dirname(self.tree))
        with contextlib.suppress(git.GitFailed):  # the next switch prunes as well
            self._prune({path, before})
        return kept

    def _in_use(self):
        return os.path.realpath(self.tree) if os.path.islink(self.tree) else None

    def _prune(self, keep):
        for name in os.listdir(self.folder):
            path = os.path.join(self.folder, name)
            if os.path.isdir(path) and path != self.store and os.path.realpath(path) not in keep and path not in keep:
                self._remove(path)

    def _remove(self, path):
        shutil.rmtree(path, ignore_errors=True)
        git.run(self.store, "worktree", "prune")


def _exchange(one, other):
    """Swap two names in one step, whatever they name."""
    call = ctypes.CDLL(None, use_errno=True).renameat2
    if call(AT_FDCWD, os.fsencode(one), AT_FDCWD, os.fsencode(other), EXCHANGE):
        code = ctypes.get_errno()
        os.unlink(one)
        cause = f"{other} is a plain folder and its file system cannot exchange it ({errno.errorcode.get(code, code)})"
        raise git.FormulaError(
            cause, f"do it once by hand: `mv {other} {other}.before && ln -s {other}.before {other}`"
        )


def _free_name(path):
    number, name = 1, path
    while os.path.lexists(name):
        number, name = number + 1, f"{path}-{number + 1}"
    return name
