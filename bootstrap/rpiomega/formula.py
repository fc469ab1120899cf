"""The formula this workstation holds, as one file a board can fetch from."""

from __future__ import annotations

import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from rpiomega.errors import NodeError


@dataclass(frozen=True)
class Formula:
    """A git repository's HEAD: `commit` as the master gets it; `dirty`: there are uncommitted changes besides."""

    root: Path
    commit: str
    dirty: bool
    shallow: bool

    def bundle(self, folder: Path, branch: str) -> Path:
        """Write HEAD as `branch` into a git bundle in `folder`; return its path. The repository is only read."""
        bare, target = _aside(self.root, folder), folder / "formula.bundle"
        commit = _without_past(self.root, bare) if self.shallow else self.commit
        _git(bare, "update-ref", f"refs/heads/{branch}", commit)
        _git(bare, "bundle", "create", "--quiet", str(target), f"refs/heads/{branch}")
        return target


def find(start: Path) -> Formula:
    """Return the formula whose checkout holds `start` (a folder). Raise NodeError if there is none."""
    cure = "run the bootstrap from a git checkout of the formula, or set formula.remote in the site file"
    try:
        root = Path(_git(start, "rev-parse", "--show-toplevel"))
        commit = head(root)
        dirty = bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
        shallow = _git(root, "rev-parse", "--is-shallow-repository") == "true"
        if shallow:
            with tempfile.TemporaryDirectory(prefix="rpiomega-") as folder:
                commit = _without_past(root, _aside(root, Path(folder)))
    except NodeError as error:
        raise NodeError(f"no checkout of the formula at {start}: {error.cause}", cure, "formula") from None
    if not (root / "salt" / "top.sls").is_file():
        raise NodeError(f"{root} has no salt/top.sls", cure, "formula")
    return Formula(root, commit, dirty, shallow)


def head(root: Path) -> str:
    """Return the commit that is checked out at `root`; of a shallow clone `Formula.commit` is another one."""
    return _git(root, "rev-parse", "HEAD")


def _aside(root: Path, folder: Path) -> Path:
    """Make a bare repository in `folder` that borrows the objects of `root`, for work that must not touch `root`."""
    bare = folder / "formula.git"
    _git(folder, "init", "--quiet", "--bare", str(bare))
    objects = (root / _git(root, "rev-parse", "--git-path", "objects")).resolve()
    (bare / "objects" / "info" / "alternates").write_text(f"{objects}\n", encoding="utf-8")
    return bare


def _without_past(root: Path, bare: Path) -> str:
    """Make a commit of HEAD's files alone and return it: nobody can fetch a clone whose past was cut off.

    The same HEAD gives the same commit, so that a second run sees that nothing has changed.
    """
    when = _git(root, "show", "-s", "--format=%ct +0000", "HEAD")
    tree = _git(root, "rev-parse", "HEAD^{tree}")
    message = f"Formula as of {head(root)}"
    who = {"NAME": "rpiomega", "EMAIL": "rpiomega@localhost", "DATE": when}
    names = {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in who.items()}
    return _git(bare, "commit-tree", tree, "-m", message, environment=names)


def _git(folder: Path, *arguments: str, environment: dict[str, str] | None = None) -> str:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), *arguments]
    try:
        result = subprocess.run(
            command, capture_output=True, text=True, env={**inherited, **(environment or {})}, timeout=120, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NodeError(f"git cannot be run: {error}", "install git", "formula") from None
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise NodeError(f"`git {arguments[0]}`: {last}", "see what git says there", "formula")
    return result.stdout.strip()
