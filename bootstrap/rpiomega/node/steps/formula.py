"""The formula on the master: states, modules, the site's own file and the archives nodes load."""

from __future__ import annotations

import hashlib
import json
import os
import shutil

from rpiomega.node import apt, files, job_steps, service
from rpiomega.node.files import File
from rpiomega.node.formula_tree import BARE, TREE, commit
from rpiomega.node.step import Diff, Step, StepError
from rpiomega.node.steps.inventory import FILES, SUMS, known_sums, missing_files, sum_entry

SITE = "/srv/rpiomega/pillar/site.sls"
HASHES = "/var/cache/salt/master/roots/hash"


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
        if not self.board.exists(f"{TREE}/.git"):
            diff.add(f"check {self._origin()} out to {TREE}")
        elif self._head() != self._wanted():
            diff.add(f"{TREE}: {self._head()[:12]} -> {self._wanted()[:12]}")
        return diff

    def apply(self) -> None:
        apt.install(self.board, ["git"])
        os.makedirs(os.path.dirname(BARE), exist_ok=True)
        if not self.args.remote:
            self._feed()
        if not self.board.exists(f"{TREE}/.git"):
            self._clone()
        elif self._head() != self._wanted():
            self._forward()
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

    def _wanted(self) -> str:
        """Return the commit the checkout should be at; a remote's is followed by Salt, not by the bootstrap."""
        return self._head() if self.args.remote else self.args.commit

    def _head(self) -> str:
        if not self.board.has("git"):
            return ""
        return self.board.shell.run(["git", "-C", TREE, "rev-parse", "--verify", "--quiet", "HEAD"]).output.strip()

    def _feed(self) -> None:
        if commit(self.board, self.args.branch) == self.args.commit:
            return
        if not self.args.bundle:
            raise StepError("the formula did not arrive", "run the bootstrap again")
        cure = "see this node's log"
        self.board.shell.must(["git", "init", "--quiet", "--bare", BARE], cure)
        branch = f"refs/heads/{self.args.branch}"
        fetch = ["git", "--git-dir", BARE, "fetch", "--quiet", self.args.bundle, f"+{branch}:{branch}"]
        self.board.shell.must(fetch, "run the bootstrap again", timeout=300)
        self.board.shell.must(["git", "--git-dir", BARE, "symbolic-ref", "HEAD", branch], cure)
        os.unlink(self.args.bundle)

    def _clone(self) -> None:
        part = f"{TREE}.part"
        shutil.rmtree(part, ignore_errors=True)
        clone = ["git", "clone", "--quiet", "--branch", self.args.branch, self._origin(), part]
        cure = "check `remote` and `branch` in section formula of the site file"
        self.board.shell.must(clone, cure, timeout=600, env={"GIT_TERMINAL_PROMPT": "0"})
        if os.path.isdir(TREE) and os.listdir(TREE):
            raise StepError(f"{TREE} is there and is no git checkout", f"move {TREE} away")
        shutil.rmtree(TREE, ignore_errors=True)
        os.sync()
        os.rename(part, TREE)

    def _forward(self) -> None:
        """Bring the checkout to the bare repository's commit, unless that would lose somebody's work."""
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
        self.board.shell.must([*git, "fetch", "--quiet", "origin"], "see this node's log", timeout=300)
        # A running master keeps what it has imported from _pillar and _utils.
        service.owe_restart(self.board, "salt-master.service")
        if os.path.islink(TREE):
            self._switch()
            return
        target = f"origin/{self.args.branch}"
        self.board.shell.must([*git, "checkout", "--quiet", "-B", self.args.branch, target], "see this node's log")

    def _switch(self) -> None:
        """Put a link to a new worktree in the place of the old one, as state `formula.followed` does from then on."""
        path = f"{TREE}.releases/{self._wanted()[:12]}"
        if os.path.realpath(TREE) == path:
            path += ".again"
        cure = "see this node's log"
        shutil.rmtree(path, ignore_errors=True)
        self.board.shell.must(["git", "-C", TREE, "worktree", "prune"], cure)
        add = ["git", "-C", TREE, "worktree", "add", "--quiet", "--detach", path, self._wanted()]
        self.board.shell.must(add, cure, timeout=300)
        os.sync()
        if os.path.lexists(f"{TREE}.next"):
            os.unlink(f"{TREE}.next")
        os.symlink(os.path.relpath(path, os.path.dirname(TREE)), f"{TREE}.next")
        os.replace(f"{TREE}.next", TREE)

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
    args: job_steps.SiteFile

    def check(self) -> Diff:
        return self._site().diff(self.board)

    def apply(self) -> None:
        self._site().apply(self.board)


def _has_group(name: str) -> bool:
    with open("/etc/group", encoding="utf-8") as handle:
        return any(line.startswith(f"{name}:") for line in handle)
