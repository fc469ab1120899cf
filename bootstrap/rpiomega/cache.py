"""Builds of Salt this workstation keeps, so that no board builds what another one has built."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import threading
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rpiomega.errors import NodeError


@dataclass(frozen=True)
class Build:
    """A finished build: the archive's path and its SHA-256."""

    path: Path
    sha256: str


class Cache:
    """Folder of builds by name; `lock(name)` lets one node build while the others wait for it."""

    def __init__(self, folder: Path):
        self.folder = folder
        self._locks: dict[str, threading.Lock] = defaultdict(threading.Lock)

    def lock(self, name: str) -> threading.Lock:
        """Return the lock of a build."""
        return self._locks[name]

    def get(self, name: str) -> Build | None:
        """Return a kept build, None if there is none or it is damaged."""
        archive, about = self._paths(name)
        try:
            build = Build(archive, json.loads(about.read_text(encoding="utf-8"))["sha256"])
            return build if _sha256(archive) == build.sha256 else None
        except (OSError, ValueError, KeyError):
            return None

    def put(self, name: str, sha256: str, fetch: Callable) -> Build:
        """Keep a build: `fetch(path)` brings it. Raise NodeError if it arrives damaged."""
        archive, about = self._paths(name)
        self.folder.mkdir(parents=True, exist_ok=True)
        handle, part = tempfile.mkstemp(dir=self.folder, suffix=".part")
        os.close(handle)
        try:
            fetch(Path(part))
            if _sha256(Path(part)) != sha256:
                raise NodeError(f"the build {name} arrived damaged", "run the bootstrap again", "salt")
            os.replace(part, archive)
        finally:
            Path(part).unlink(missing_ok=True)
        about.write_text(json.dumps({"sha256": sha256}) + "\n", encoding="utf-8")
        return Build(archive, sha256)

    def _paths(self, name: str) -> tuple[Path, Path]:
        return self.folder / f"{name}.tar.gz", self.folder / f"{name}.json"


def default_folder() -> Path:
    """Return where builds are kept: $RPIOMEGA_CACHE, else the user's cache folder."""
    given = os.environ.get("RPIOMEGA_CACHE")
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "rpiomega"
    return (Path(given) if given else base) / "salt"


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
