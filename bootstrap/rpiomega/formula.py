"""The formula this workstation holds, as one file a board can fetch from."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from rpiomega.errors import NodeError


@dataclass(frozen=True)
class Formula:
    """A git repository's HEAD: `commit`, whether the tree has uncommitted changes (`dirty`), its folder."""

    root: Path
    commit: str
    dirty: bool
    shallow: bool

    def bundle(self, folder: Path, branch: str) -> Path:
        """Write HEAD as `branch` into a git bundle in `folder`; return its path. The repository is only read."""
        bare, target = folder / "formula.git", folder / "formula.bundle"
        _git(folder, "init", "--quiet", "--bare", str(bare))
        objects = _git(self.root, "rev-parse", "--git-path", "objects")
        alternates = bare / "objects" / "info" / "alternates"
        alternates.write_text(f"{(self.root / objects).resolve()}\n", encoding="utf-8")
        if self.shallow:
            # A clone without its past cannot be bundled as it is: tell git where the past ends.
            edge = _git(self.root, "rev-parse", "--git-path", "shallow")
            (bare / "shallow").write_bytes((self.root / edge).read_bytes())
        _git(bare, "update-ref", f"refs/heads/{branch}", self.commit)
        _git(bare, "bundle", "create", "--quiet", str(target), f"refs/heads/{branch}")
        return target


def find(start: Path) -> Formula:
    """Return the formula whose checkout holds `start` (a folder). Raise NodeError if there is none."""
    try:
        root = Path(_git(start, "rev-parse", "--show-toplevel"))
        commit = _git(root, "rev-parse", "HEAD")
        dirty = bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
        shallow = _git(root, "rev-parse", "--is-shallow-repository") == "true"
    except NodeError as error:
        cure = "run the bootstrap from a git checkout of it, or set formula.remote in the site file"
        raise NodeError(f"no checkout of the formula at {start}: {error.cause}", cure, "formula") from None
    if not (root / "salt" / "top.sls").is_file():
        cure = "run the bootstrap from a git checkout of the formula, or set formula.remote in the site file"
        raise NodeError(f"{root} has no salt/top.sls", cure, "formula")
    return Formula(root, commit, dirty, shallow)


def _git(folder: Path, *arguments: str) -> str:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "-C", str(folder), *arguments]
    try:
        result = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise NodeError(f"git cannot be run: {error}", "install git", "formula") from None
    if result.returncode:
        last = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise NodeError(f"`git {arguments[0]}`: {last}", "see what git says there", "formula")
    return result.stdout.strip()
