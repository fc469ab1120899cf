"""The formula's revisions in git; `omega.core.releases` says where they are and how the tree is switched."""

import contextlib
import os
import shutil

from omega.core import files
from omega.core import releases as places
from omega.formula import repository as git

LOCK_SECONDS = 60
REF = places.REF


class Releases:
    """The folder of revisions that belongs to ``tree``; nothing is written before `prepare`.

    :param tree: path of the link
    :param folder: the folder, by default beside the tree
    :param borrow: the store of another folder to read objects from: a rehearsal in a temporary folder
    """

    def __init__(self, tree, folder=None, borrow=None):
        self.tree = tree.rstrip("/")
        self.folder = folder or places.folder(tree)
        self.store = places.store(self.folder)
        self.borrow = borrow

    def applied(self):
        """Return ``(commit, rev)`` of the last switch, each None if there was none."""
        found = []
        for command in (("rev-parse", "--verify", "--quiet", REF), ("config", "--get", places.CONFIG)):
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
            files.lock(lock, LOCK_SECONDS, busy)
            yield

    def prepare(self, remote):
        """Make the store if it is missing or was left half-made, and have it fetch from ``remote``."""
        os.makedirs(self.folder, exist_ok=True)
        git.run(self.folder, "init", "--quiet", "--bare", self.store)
        git.run(self.store, "config", "remote.origin.url", remote)
        git.run(self.store, "config", "remote.origin.fetch", places.REFSPEC)
        if self.borrow:
            with open(os.path.join(self.store, "objects/info/alternates"), "w", encoding="utf-8") as file:
                file.write(os.path.join(self.borrow, "objects") + "\n")

    def check_out(self, commit):
        """Return the path of a fresh worktree of ``commit``; whatever another run left at that place goes first."""
        path = places.place(self.tree, self.folder, commit)
        self._remove(path)
        git.run(self.store, "worktree", "add", "--quiet", "--detach", path, commit, seconds=git.FETCH_SECONDS)
        return path

    def switch(self, path, commit, rev):
        """Make the tree name ``path``, remember it, and drop all revisions but this and the one before.

        :return: where a plain folder went that was in the tree's place, or None
        """
        keep = {path, os.path.realpath(self.tree)}
        # What can fail, as on a full disk, comes before the one step after which the new revision is in use.
        git.run(self.store, "update-ref", REF, commit)
        git.run(self.store, "config", places.CONFIG, rev)
        kept = places.switch(self.tree, path)
        with contextlib.suppress(git.GitFailed):  # the next switch prunes as well
            for entry in os.scandir(self.folder):
                if entry.is_dir() and not {entry.path, os.path.realpath(entry.path)} & {*keep, self.store}:
                    self._remove(entry.path)
        return kept

    def _remove(self, path):
        shutil.rmtree(path, ignore_errors=True)
        git.run(self.store, "worktree", "prune")
