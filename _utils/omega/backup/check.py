"""What a drill checks of one group's restored files: by the service's own command, and by their kind."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from omega.backup import dump
from omega.backup.facts import Volume, volume_path
from omega.backup.pick import RestoreError
from omega.consul import snapshot as consul_snapshot
from omega.consul.client import ConsulError
from omega.docker.engine import EngineError, asking

LABEL = "rpiomega.backup.check"
MARK = "rpiomega.drill"  # label of the containers that a drill makes
PLACE = "/rpiomega-restored"
BOUND = 900  # seconds that a check command may take
DATABASES = 20  # SQLite files that are checked in one group
LARGEST = 256 << 20  # bytes of such a file
_MAGIC = b"SQLite format 3\0"
# swarmkit: manager/state/raft/storage and node/node.go
_OF_A_MANAGER = ("raft/wal-v3-encrypted", "certificates/swarm-node.crt", "certificates/swarm-node.key")


@dataclass(frozen=True)
class Service:
    """A container that a volume was saved for, with its check command: read from the manifest."""

    name: str
    image: str
    image_id: str
    command: str


def services(manifest: dict) -> list[Service]:
    """Return the services of a manifest that have a check command, each once."""
    found: dict[str, Service] = {}
    for volume in manifest.get("volumes") or ():
        for one in volume.get("containers") or ():
            command = (one.get("labels") or {}).get(LABEL)
            if command:
                service = Service(one["name"], one.get("image", ""), one.get("image_id", ""), command)
                found.setdefault(f"{service.image} {command}", service)
    return list(found.values())


def run(client: Any, service: Service, manifest: dict, root: str) -> None:
    """
    Run a service's check command in a container of its image, without a network, on the restored data.

    The volumes are mounted where the service has them (where it runs on this node now) and below PLACE, by their
    names; a dump is the file PLACE/dump.

    :param root: the folder that is ``/`` for the paths of the manifest
    :raises RestoreError: not_restored: the command failed or did not end
    :raises EngineError: the engine refused, or has no such image
    """
    what = f"the check of {service.name}"
    with asking(f"{what} cannot be run", "see `docker images` and `journalctl -u docker`"):
        made = client.containers.create(
            _image(client, service),
            command=dump.arguments(service.command),
            entrypoint="",
            network_mode="none",
            mounts=_mounts(client, manifest, root),
            environment={"RPIOMEGA_RESTORED": PLACE},
            labels={MARK: service.name},
            mem_limit="512m",
            pids_limit=512,
        )
        try:
            made.start()
            code = _wait(made, what)
            said = made.logs(tail=5)
        finally:
            made.remove(force=True, v=True)
    if code:
        cause = f"its command ended with code {code}{dump.because(said)}"
        raise RestoreError("not_restored", cause, "", what)


def clear(client: Any) -> None:
    """Remove the containers that a drill which was killed left."""
    with asking("the containers of an interrupted drill cannot be removed"):
        for one in client.containers.list(all=True, filters={"label": MARK}):
            one.remove(force=True, v=True)


def files(group: str, root: str, paths: list[str]) -> None:
    """Check restored files by their kind: Consul's snapshot, the state of a swarm manager, SQLite databases.

    :param paths: of the group, below `root`
    :raises RestoreError: damaged
    """
    if group == "consul":
        _consul(root, paths)
    elif group == "swarm":
        _swarm(root, paths)
    elif group.startswith("volume:"):
        for path in _databases(root, paths):
            _sqlite(path, path[len(root) :])


def _image(client: Any, service: Service) -> str:
    import docker

    for name in filter(None, (service.image_id, service.image)):
        with contextlib.suppress(docker.errors.NotFound):
            client.api.inspect_image(name)
            return name
    raise EngineError(f"image {service.image} is not on this node", f"`docker pull {service.image}`")


def _wait(made: Any, what: str) -> int:
    import requests

    try:
        return int(made.wait(timeout=BOUND)["StatusCode"])
    except (requests.exceptions.ReadTimeout, requests.exceptions.ConnectionError):
        raise RestoreError("not_restored", f"its command had not ended after {BOUND} s", "", what) from None


def _mounts(client: Any, manifest: dict, root: str) -> list[Any]:
    from docker.types import Mount

    noted = manifest.get("dump")
    if noted:
        return [Mount(PLACE, os.path.dirname(root + noted["path"]), type="bind", read_only=True)]
    mounts = []
    for volume in manifest.get("volumes") or ():
        found = Volume(volume["name"], options=volume.get("options") or {}, path=volume.get("path") or "")
        for place in (f"{PLACE}/{found.name}", *_destinations(client, found.name)):
            mounts.append(Mount(place, root + volume_path(found), type="bind"))
    return mounts


def _destinations(client: Any, name: str) -> list[str]:
    rows = client.api.containers(all=True, filters={"volume": [name]})
    places = {m["Destination"] for row in rows for m in row.get("Mounts") or () if m.get("Name") == name}
    return sorted(places)[:1]


def _consul(root: str, paths: list[str]) -> None:
    found = [path for path in _files(root, paths) if path.endswith(".snap")]
    if not found:
        raise RestoreError("damaged", "no snapshot of Consul was restored", "", "consul")
    for path in found:
        try:
            consul_snapshot.inspect(path)
        except ConsulError as error:
            raise RestoreError("damaged", str(error).replace(root, ""), "", "consul") from None


def _swarm(root: str, paths: list[str]) -> None:
    """Raise if a manager could not start from the copy: it needs its certificate and the log of the raft group."""
    for path in (path for path in paths if os.path.basename(path) == "swarm"):
        for name in _OF_A_MANAGER:
            at = f"{root}{path}/{name}"
            there = os.listdir(at) if os.path.isdir(at) else os.path.isfile(at) and os.path.getsize(at)
            if not there:
                raise RestoreError("damaged", f"{path}/{name} is missing or empty", "", "swarm")


def _databases(root: str, paths: list[str]) -> Iterator[str]:
    left = DATABASES
    for path in _files(root, paths):
        if left and 0 < os.path.getsize(path) <= LARGEST and _begins(path) == _MAGIC:
            left -= 1
            yield path


def _sqlite(path: str, name: str) -> None:
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=30)) as database:
            said = str(database.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.DatabaseError as error:
        said = str(error)
    if said != "ok":
        cure = "save it with the mode pause or dump; see docs/backup.md"
        raise RestoreError("damaged", f"the SQLite database is damaged: {' '.join(said.split())[:200]}", cure, name)


def _begins(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(len(_MAGIC))


def _files(root: str, paths: list[str]) -> Iterator[str]:
    for top in paths:
        if os.path.isfile(root + top):
            yield root + top
        for folder, _, names in os.walk(root + top):
            for name in sorted(names):
                path = os.path.join(folder, name)
                if os.path.isfile(path) and not os.path.islink(path):
                    yield path
