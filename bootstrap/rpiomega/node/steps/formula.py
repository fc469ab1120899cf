"""The formula on the master: states, modules, the site's own file and the archives nodes load."""

from __future__ import annotations

import hashlib
import json
import os
import shutil

from omega.core import releases
from rpiomega.node import apt, files, job_steps, service
from rpiomega.node.files import File
from rpiomega.node.formula_tree import BARE, TREE, commit
from rpiomega.node.step import Diff, Step, StepError
from rpiomega.node.steps.inventory import FILES, SUMS, known_sums, missing_files, sum_entry

SITE = "/srv/rpiomega/pillar/site.sls"
HASHES = "/var/cache/salt/master/roots/hash"
LOG = "see this node's log"


class Formula(Step):
    """The formula's checkout, the site file and the files for all nodes."""

    name = job_steps.Formula.step
    args: job_steps.Formula

    def check(self) -> Diff:
        diff = self._site().diff(self.board)
        for name in missing_files(self.board, self.args.files):
            diff.add(f"place {FILES}/{name}")
        if not self.args.remote and commit(self.board, self.args.branch) != self.args.commit:
            diff.add(f"{BARE}: {self.args.branch} -> {self.args.commit[:12]}")
        head = self._head()
        if not head:
            diff.add(f"check {self._origin()} out to {TREE}")
        elif head != self._wanted(head):
            diff.add(f"{TREE}: {head[:12]} -> {self._wanted(head)[:12]}")
        return diff

    def apply(self) -> None:
        apt.install(self.board, ["git"])
        os.makedirs(os.path.dirname(BARE), exist_ok=True)
        if not self.args.remote:
            self._feed()
        head = self._head()
        if not head or head != self._wanted(head):
            self._refuse_loss(head)
            self._switch()
            # A hash asked for during the checkout may be that of the old file with the new one's time stamp: minions
            # would keep the old file for good (salt/fileserver/roots.py, file_hash).
            shutil.rmtree(HASHES, ignore_errors=True)
        os.makedirs(os.path.dirname(SITE), exist_ok=True)
        self._site().apply(self.board)
        for item in self.args.files:
            if item.incoming:
                self._place(item)

    def _origin(self) -> str:
        return self.args.remote or BARE

    def _wanted(self, head: str) -> str:
        """Return the commit for a tree that is at `head`; Salt follows a remote, and not the bootstrap."""
        return head if self.args.remote else self.args.commit

    def _head(self) -> str:
        """Return the commit of the tree; empty if it is missing or no checkout."""
        return self._commit(TREE, "HEAD") if self.board.has("git") else ""

    def _commit(self, folder: str, name: str) -> str:
        result = self.board.shell.run(["git", "-C", folder, "rev-parse", "--verify", "--quiet", f"{name}^{{commit}}"])
        return "" if result.code else result.output.strip()

    def _feed(self) -> None:
        if commit(self.board, self.args.branch) == self.args.commit:
            return
        if not self.args.bundle:
            raise StepError("the formula did not arrive", "run the bootstrap again")
        self.board.shell.must(["git", "init", "--quiet", "--bare", BARE], LOG)
        branch = f"refs/heads/{self.args.branch}"
        fetch = ["git", "--git-dir", BARE, "fetch", "--quiet", self.args.bundle, f"+{branch}:{branch}"]
        self.board.shell.must(fetch, "run the bootstrap again", timeout=300)
        self.board.shell.must(["git", "--git-dir", BARE, "symbolic-ref", "HEAD", branch], LOG)
        os.unlink(self.args.bundle)

    def _refuse_loss(self, head: str) -> None:
        """Raise StepError if a switch would lose somebody's work; of a tree that is no checkout, anything."""
        if not head:
            if os.path.isdir(TREE) and not os.path.islink(TREE) and os.listdir(TREE):
                raise StepError(f"{TREE} is there and is no git checkout", f"move {TREE} away")
            return
        git = ["git", "-C", TREE]
        if self.board.shell.run([*git, "status", "--porcelain", "--untracked-files=no"]).output.strip():
            raise StepError(
                f"{TREE} holds changes nobody committed", f"look at `git -C {TREE} status`, commit or discard"
            )
        only_here = self.board.shell.run([*git, "rev-list", "--count", "HEAD", "--not", "--remotes"]).output.strip()
        if only_here != "0":
            raise StepError(
                f"{TREE} holds {only_here} commits found nowhere else", "push them somewhere, then reset it"
            )
        # A running master keeps what it has imported from _pillar and _utils.
        service.restart_later(self.board, "salt-master.service")

    def _switch(self) -> None:
        """Put a link to a new worktree in the place of the tree, as state `formula.followed` does from then on."""
        home, branch = releases.folder(TREE), self.args.branch
        store = releases.store(home)
        if not self._head():
            shutil.rmtree(store, ignore_errors=True)  # half-made or damaged, and no revision in use depends on it
        os.makedirs(home, exist_ok=True)
        self.board.shell.must(["git", "init", "--quiet", "--bare", store], LOG)
        self._git("config", "remote.origin.url", self._origin())
        self._git("config", "remote.origin.fetch", releases.REFSPEC)
        cure = "check `remote` and `branch` in section formula of the site file"
        self._git("fetch", "--quiet", "--tags", "--force", "origin", cure=cure)
        names = (f"refs/remotes/origin/{branch}", f"refs/tags/{branch}")
        wanted = self.args.commit or next(filter(None, (self._commit(store, name) for name in names)), "")
        if not wanted:
            raise StepError(f"{self._origin()} has no branch or tag {branch}", cure)
        path = releases.place(TREE, home, wanted)
        shutil.rmtree(path, ignore_errors=True)
        self._git("worktree", "prune")
        self._git("worktree", "add", "--quiet", "--detach", path, wanted)
        self._git("update-ref", releases.REF, wanted)
        self._git("config", releases.CONFIG, branch)
        kept = releases.switch(TREE, path)
        if kept:
            self.notes.append(f"the formula's first checkout is kept as {kept}")

    def _git(self, *arguments: str, cure: str = LOG) -> None:
        command = ["git", "-C", releases.store(releases.folder(TREE)), *arguments]
        self.board.shell.must(command, cure, timeout=600, env={"GIT_TERMINAL_PROMPT": "0"})

    def _site(self) -> File:
        # Salt's packages run the master as user salt.
        return File(SITE, self.args.site, 0o640, f"root:{'salt' if _has_group('salt') else 'root'}")

    def _place(self, item: job_steps.ServedFile) -> None:
        os.makedirs(FILES, exist_ok=True)
        digest = hashlib.sha256()
        with open(item.incoming, "rb") as handle:
            for block in iter(lambda: handle.read(1 << 20), b""):
                digest.update(block)
        if digest.hexdigest() != item.sha256:
            raise StepError(f"{item.name} arrived damaged", "run the bootstrap again")
        path = f"{FILES}/{item.name}"
        os.chmod(item.incoming, 0o644)
        os.replace(item.incoming, path)
        known = known_sums(self.board)
        known[item.name] = sum_entry(path, item.sha256)
        files.write(SUMS, json.dumps(known) + "\n", 0o644)


class SiteFile(Formula):
    """The site's own file alone; the rest of the formula stays as it is."""

    name = job_steps.SiteFile.step
    args: job_steps.SiteFile  # type: ignore[assignment]  # of the arguments, only `site` is used here

    def check(self) -> Diff:
        return self._site().diff(self.board)

    def apply(self) -> None:
        self._site().apply(self.board)


def _has_group(name: str) -> bool:
    with open("/etc/group", encoding="utf-8") as handle:
        return any(line.startswith(f"{name}:") for line in handle)
