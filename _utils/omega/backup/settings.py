"""What this node saves, and where the files of backups are."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, field

from omega.backup import restic
from omega.backup.restic_errors import ResticError
from omega.core import files

_CURE = "apply the state `backup` on this node"


@dataclass(frozen=True)
class Places:
    """Folders: settings and secrets, what outlives a restart, what does not."""

    settings: str = field(default_factory=lambda: restic.FOLDER)
    state: str = "/var/lib/rpiomega/backup"
    run: str = "/run/rpiomega/backup"

    def make(self) -> None:
        """Make the folders that runs write to, for root alone."""
        for path in (self.state, self.run):
            os.makedirs(path, mode=0o700, exist_ok=True)
            os.chmod(path, 0o700)

    @property
    def lock(self) -> str:
        """The file that a run locks."""
        return os.path.join(self.run, "lock")

    @property
    def quiesced(self) -> str:
        """The journal of the containers that a run pauses."""
        return os.path.join(self.run, "quiesced.json")

    @property
    def progress(self) -> str:
        """What a run does now."""
        return os.path.join(self.run, "progress.json")

    @property
    def report(self) -> str:
        """What the last run and the last drill did."""
        return os.path.join(self.state, "state.json")


@dataclass(frozen=True)
class Settings:
    """The site's section `backup`, with what belongs to this node."""

    node: str
    cluster: str = ""
    roles: tuple[str, ...] = ()
    master: bool = False
    paths: tuple[str, ...] = ("/home", "/etc")
    exclude: tuple[str, ...] = ()
    volumes: dict[str, str] = field(default_factory=dict)
    upload: int = 0  # KiB a second; 0: no limit
    download: int = 0
    ping: str = ""
    docker_url: str = "unix:///var/run/docker.sock"


def load(folder: str | None = None) -> Settings:
    """Return this node's settings.

    :param folder: of `settings.json`; None: `omega.backup.restic.FOLDER`
    :raises ResticError: bad_request: no such file, or it has no node
    """
    path = os.path.join(folder or restic.FOLDER, "settings.json")
    try:
        text = files.read(path)
        found = json.loads(text or "null")
    except (OSError, ValueError) as error:
        raise ResticError("bad_request", f"{path} cannot be read ({error})", _CURE) from None
    if text is None:
        raise ResticError("bad_request", f"there is no file {path}: this node has no backups set up", _CURE)
    if not isinstance(found, dict) or not found.get("node"):
        raise ResticError("bad_request", f"{path} has no `node`", _CURE)
    return Settings(
        node=str(found["node"]),
        cluster=str(found.get("cluster") or ""),
        roles=tuple(found.get("roles") or ()),
        master=bool(found.get("master")),
        paths=tuple(found.get("paths", Settings.paths)),
        exclude=tuple(found.get("exclude") or ()),
        volumes=dict(found.get("volumes") or {}),
        upload=int(found.get("upload") or 0),
        download=int(found.get("download") or 0),
        ping=str(found.get("ping") or ""),
        docker_url=str(found.get("docker_url") or Settings.docker_url),
    )
