"""What there is to save on this node: Docker's volumes and containers, mounts, folders. Read here, judged in `plan`."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from omega.docker import engine


@dataclass(frozen=True)
class Volume:
    """A volume as the engine describes it."""

    name: str
    driver: str = "local"
    options: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    path: str = ""


@dataclass(frozen=True)
class Container:
    """A container. `labels` has its service's labels, too, where this node is a manager and may read them."""

    id: str
    name: str
    status: str  # created, running, paused, restarting, exited, dead
    image: str = ""
    image_id: str = ""
    labels: dict[str, str] = field(default_factory=dict)
    volumes: tuple[str, ...] = ()
    binds: tuple[str, ...] = ()  # folders of the host that it may write to


@dataclass(frozen=True)
class Path:
    """A folder or file of this node."""

    kind: str  # folder, file, missing, unreadable
    empty: bool = False
    problem: str = ""
    real: str = ""  # where a link leads to


@dataclass(frozen=True)
class Facts:
    """All that `omega.backup.plan` decides from."""

    volumes: tuple[Volume, ...] = ()
    containers: tuple[Container, ...] = ()
    paths: dict[str, Path] = field(default_factory=dict)
    mounts: dict[str, str] = field(default_factory=dict)  # {mount point: type of its file system}
    expected: tuple[str, ...] = ()  # mount points of /etc/fstab
    docker_root: str = ""
    manager: bool = False
    engine_problem: str = ""  # why the engine was not read; "" if it was, or if this node has none


def read(client: Any, paths: Iterable[str], engine_problem: str = "") -> Facts:
    """Return the facts.

    :param client: Docker SDK client; None on a node without an engine
    :param paths: folders and files that are to be saved besides volumes
    :param engine_problem: why there is no client, where there should be one
    :raises omega.docker.engine.EngineError: the engine's answer broke off
    """
    volumes: tuple[Volume, ...] = ()
    containers: tuple[Container, ...] = ()
    root, manager = "", False
    if client is not None:
        with engine.asking("the engine's volumes and containers cannot be read"):
            info = client.info()
            root, manager = info["DockerRootDir"], bool((info.get("Swarm") or {}).get("ControlAvailable"))
            volumes = tuple(map(_volume, client.api.volumes()["Volumes"] or []))
            services = _service_labels(client) if manager else {}
            containers = tuple(_container(item, services) for item in client.api.containers(all=True))
    wanted = {*paths, *(volume_path(volume) for volume in volumes)}
    if root and manager:
        wanted.add(os.path.join(root, "swarm"))
    return Facts(
        volumes=volumes,
        containers=containers,
        paths={path: look(path) for path in wanted if path},
        mounts=_mounts(),
        expected=_expected(),
        docker_root=root,
        manager=manager,
        engine_problem=engine_problem,
    )


def volume_path(volume: Volume) -> str:
    """Return the folder that has a volume's data; that of a bind is its device, which exists without a container."""
    flags = volume.options.get("o", "").split(",")
    device = volume.options.get("device", "")
    return device if device.startswith("/") and {"bind", "rbind"} & set(flags) else volume.path


def look(path: str) -> Path:
    """Return what is at a path now."""
    try:
        real = os.path.realpath(path) if os.path.islink(path) else ""
        os.stat(path)
        if not os.path.isdir(path):
            return Path("file", real=real)
        with os.scandir(path) as entries:
            return Path("folder", empty=next(entries, None) is None, real=real)
    except FileNotFoundError:
        return Path("missing")
    except OSError as error:
        return Path("unreadable", problem=error.strerror or str(error))


def _volume(item: dict) -> Volume:
    return Volume(
        name=item["Name"],
        driver=item["Driver"],
        options=item.get("Options") or {},
        labels=item.get("Labels") or {},
        path=item.get("Mountpoint") or "",
    )


def _container(item: dict, services: dict[str, dict]) -> Container:
    labels = item.get("Labels") or {}
    mounts = item.get("Mounts") or []
    return Container(
        id=item["Id"],
        name=(item.get("Names") or [item["Id"][:12]])[0].lstrip("/"),
        status=item["State"],
        image=item.get("Image") or "",
        image_id=item.get("ImageID") or "",
        labels={**services.get(labels.get("com.docker.swarm.service.id", ""), {}), **labels},
        volumes=tuple(sorted({mount["Name"] for mount in mounts if mount.get("Type") == "volume"})),
        binds=tuple(sorted({m["Source"] for m in mounts if m.get("Type") == "bind" and m.get("RW")})),
    )


def _service_labels(client: Any) -> dict[str, dict]:
    """Return {service ID: its own labels}: a worker cannot read them, so a container's labels win."""
    return {item["ID"]: item["Spec"].get("Labels") or {} for item in client.api.services()}


def _mounts() -> dict[str, str]:
    """Return /proc/self/mountinfo as {mount point: type} (proc_pid_mountinfo(5): fields 5 and, after the dash, 1)."""
    found = {}
    with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
        for line in file:
            before, _, after = line.partition(" - ")
            found[_plain(before.split()[4])] = after.split()[0]
    return found


def _expected(path: str = "/etc/fstab") -> tuple[str, ...]:
    """Return the mount points that fstab(5) wants mounted at boot."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            rows = [line.split() for line in file if line.strip() and not line.lstrip().startswith("#")]
    except FileNotFoundError:
        return ()
    wanted = [row for row in rows if len(row) >= 4 and row[1].startswith("/") and "noauto" not in row[3].split(",")]
    return tuple(_plain(row[1]) for row in wanted if row[2] != "swap")


def _plain(text: str) -> str:
    """Return a name of mountinfo or fstab without its octal escapes (\\040 is a space)."""
    for code, char in (("\\040", " "), ("\\011", "\t"), ("\\012", "\n"), ("\\134", "\\")):
        text = text.replace(code, char)
    return text
