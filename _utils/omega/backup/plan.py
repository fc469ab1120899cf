"""Which groups a run saves, what it leaves out and why, and what fails before it begins. Pure: facts in, plan out."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from omega.backup.facts import Container, Facts, Path, Volume, volume_path
from omega.backup.settings import Settings
from omega.docker.containers import LABEL as OWN

LABEL = "rpiomega.backup"
MODES = ("stop", "dump", "pause", "hot")  # the first of those that containers of one volume ask for counts
DEFAULT = "pause"

# Of the master, one group; what a node has of Docker's swarm is another.
MASTER_PATHS = ("/etc/salt", "/var/lib/salt", "/etc/rpiomega/secrets", "/srv/rpiomega")
# Never saved: the repository's own password and keys, and what is another group or can be made again.
NEVER = ("/etc/rpiomega/backup", "/var/cache/rpiomega", "/var/lib/rpiomega/backup")

_REMOTE = ("nfs", "nfs4", "cifs", "smb3", "9p", "ceph", "glusterfs", "sshfs", "davfs")
_MEMORY = ("tmpfs", "ramfs")
_NO_DATA = (
    "proc",
    "sysfs",
    "cgroup",
    "cgroup2",
    "devtmpfs",
    "devpts",
    "overlay",
    "autofs",
    "nsfs",
    "squashfs",
    "mqueue",
)
_ANONYMOUS = re.compile(r"[0-9a-f]{64}")
_OF_SYSTEM = ("/proc", "/sys", "/dev", "/run", "/var/run", "/etc/localtime", "/etc/timezone", "/tmp")


@dataclass(frozen=True)
class Group:
    """What one snapshot has: what is saved while the same containers are quiesced."""

    name: str
    mode: str  # hot, pause, dump
    paths: tuple[str, ...] = ()
    volumes: tuple[Volume, ...] = ()
    exclude: tuple[str, ...] = ()
    containers: tuple[Container, ...] = ()  # those that use the volumes
    dump: str = ""  # the command
    problem: str = ""  # saved all the same, and reported as failed


@dataclass(frozen=True)
class Skipped:
    """What is not saved, for a reason that is in order."""

    name: str
    why: str


@dataclass(frozen=True)
class Failed:
    """What should be saved and cannot be."""

    name: str
    mode: str
    cause: str
    cure: str = ""


@dataclass(frozen=True)
class Plan:
    """All that a run does, leaves out, and cannot do."""

    groups: tuple[Group, ...] = ()
    skipped: tuple[Skipped, ...] = ()
    failed: tuple[Failed, ...] = ()


@dataclass
class _Draft:
    groups: list[Group] = field(default_factory=list)
    skipped: list[Skipped] = field(default_factory=list)
    failed: list[Failed] = field(default_factory=list)


def own_paths(settings: Settings) -> tuple[str, ...]:
    """Return the paths besides volumes whose state `plan` needs."""
    return tuple(dict.fromkeys([*settings.paths, "/etc/rpiomega", *(MASTER_PATHS if settings.master else ())]))


def plan(facts: Facts, settings: Settings, before: Mapping[str, int] | None = None) -> Plan:
    """Return what to save.

    :param facts: of `omega.backup.facts.read` with the paths of `own_paths`
    :param before: {group: files in its last snapshot}: a group that had files and is empty now is not saved, because a
        disk that is not mounted looks like this
    """
    draft = _Draft()
    _files(facts, settings, draft)
    _volumes(facts, settings, draft)
    if facts.engine_problem:
        draft.failed.append(Failed("volumes", DEFAULT, facts.engine_problem))
    if facts.manager:
        _one(draft, facts, "swarm", [os.path.join(facts.docker_root, "swarm")])
    if settings.master:
        present = [path for path in MASTER_PATHS if facts.paths.get(path, Path("missing")).kind != "missing"]
        _one(draft, facts, "salt", present)
        draft.groups.append(Group("consul", "hot"))
    _binds(facts, settings, draft)
    lost = [group for group in draft.groups if (before or {}).get(group.name) and _empty(group, facts)]
    for group in lost:
        draft.groups.remove(group)
        count = (before or {})[group.name]
        cause = f"{', '.join(group.paths)} is empty, and its last snapshot has {count} files: is its disk mounted?"
        draft.failed.append(Failed(group.name, group.mode, cause, "mount it, or take it out of `backup`"))
    return Plan(tuple(draft.groups), tuple(draft.skipped), tuple(draft.failed))


# -- folders ------------------------------------------------------------------------------------------------


def _files(facts: Facts, settings: Settings, draft: _Draft) -> None:
    wanted = [path for path in settings.paths if path not in MASTER_PATHS or not settings.master]
    own = "/etc/rpiomega"  # what the states wrote; the owner need not name it
    if not any(_within(own, path) for path in wanted) and facts.paths.get(own, Path("missing")).kind == "folder":
        wanted.append(own)
    saved, exclude = [], [*settings.exclude, *NEVER]
    for path in wanted:
        found = facts.paths.get(path, Path("missing"))
        unmounted = _unmounted(path, facts)
        remote = _type_at(path, facts.mounts)
        if unmounted:
            cause = f"/etc/fstab mounts {unmounted}, which is not mounted"
            draft.failed.append(Failed(f"files:{path}", "hot", cause, f"`mount {unmounted}`, and see `dmesg`"))
        elif found.kind == "missing":
            draft.failed.append(
                Failed(f"files:{path}", "hot", f"there is no {path}", "correct `backup.paths` in the site file")
            )
        elif found.problem:
            draft.failed.append(Failed(f"files:{path}", "hot", f"{path} cannot be read: {found.problem}"))
        elif remote in _REMOTE or remote.startswith("fuse."):
            draft.skipped.append(Skipped(path, f"on another machine ({remote}): save it there"))
        elif remote in _MEMORY:
            draft.skipped.append(Skipped(path, f"in memory ({remote}): gone after each restart"))
        elif found.empty:
            mounted = path in facts.mounts
            draft.skipped.append(Skipped(path, "empty" + " (a mounted file system without files)" * mounted))
            saved.append(path)
        else:
            saved += dict.fromkeys((path, found.real or path))  # of a link restic would save the link alone
        for inner, kind in sorted(facts.mounts.items()):
            if (
                (found.real or path) in saved
                and inner not in wanted
                and _within(inner, found.real or path)
                and not _within(inner, facts.docker_root)
            ):
                why = _why_not(kind)
                if why:
                    draft.skipped.append(Skipped(inner, why))
                    exclude.append(escaped(inner))
    if facts.docker_root:
        exclude.append(escaped(facts.docker_root))
    if saved:
        draft.groups.append(Group("files", "hot", tuple(saved), exclude=tuple(dict.fromkeys(exclude))))


def escaped(path: str) -> str:
    """Return a path as a pattern of restic that matches it alone (filepath.Match: \\ escapes)."""
    return re.sub(r"([*?\[\\])", r"\\\1", path)


def _why_not(kind: str) -> str:
    if kind in _REMOTE or kind.startswith("fuse."):
        return f"on another machine ({kind}): save it there"
    return f"a file system without data of its own ({kind})" if kind in (*_NO_DATA, *_MEMORY) else ""


def _unmounted(path: str, facts: Facts) -> str:
    """Return the mount point of fstab that has or is below `path` and is not mounted, "" if there is none."""
    absent = [point for point in facts.expected if point != "/" and point not in facts.mounts]
    return next((point for point in absent if _within(path, point) or _within(point, path)), "")


def _type_at(path: str, mounts: Mapping[str, str]) -> str:
    """Return the type of the file system that has `path`."""
    holders = [point for point in mounts if _within(path, point)]
    return mounts[max(holders, key=len)] if holders else ""


def _within(path: str, folder: str) -> bool:
    return bool(folder) and (path == folder or path.startswith(folder.rstrip("/") + "/"))


def _one(draft: _Draft, facts: Facts, name: str, paths: list[str]) -> None:
    """Add a group of folders that have to be there."""
    problems = [path for path in paths if facts.paths.get(path, Path("missing")).kind not in ("folder", "file")]
    if problems or not paths:
        draft.failed.append(Failed(name, "hot", f"there is no {', '.join(problems or MASTER_PATHS)}"))
    else:
        draft.groups.append(Group(name, "hot", tuple(paths), exclude=NEVER))


def _binds(facts: Facts, settings: Settings, draft: _Draft) -> None:
    """Report the folders of the host that containers write to and that nothing saves."""
    saved = [*(path for group in draft.groups for path in group.paths), *_OF_SYSTEM, *NEVER]
    for container in facts.containers:
        for path in container.binds:
            if path != "/" and not any(_within(path, one) for one in saved):
                why = f"a folder of this node that container {container.name} writes to: add it to `backup.paths`"
                draft.skipped.append(Skipped(path, why))
                saved.append(path)


def _empty(group: Group, facts: Facts) -> bool:
    found = [facts.paths.get(path) for path in group.paths]
    return bool(found) and all(path is not None and path.empty for path in found)


# -- volumes ------------------------------------------------------------------------------------------------


def _volumes(facts: Facts, settings: Settings, draft: _Draft) -> None:
    users = {
        volume.name: tuple(item for item in facts.containers if volume.name in item.volumes) for volume in facts.volumes
    }
    ready: list[tuple[Volume, str, str]] = []
    for volume in sorted(facts.volumes, key=lambda item: item.name):
        name = f"volume:{volume.name}"
        mode, problem = mode_of(volume, users[volume.name], settings)
        why = "not to be saved (`no`)" if mode == "no" else _not_here(volume, users[volume.name], facts)
        if not why and volume.name not in settings.volumes and _ours(users[volume.name]):
            why = "of rpiomega's own Consul agent, whose servers must not be paused together: the group `consul` has it"
        found = facts.paths.get(volume_path(volume), Path("missing"))
        if why:
            draft.skipped.append(Skipped(name, why))
        elif mode == "stop":
            cause = "the mode `stop` does not exist yet"
            draft.failed.append(Failed(name, mode, cause, "set `pause` or `dump` for it in the site file"))
        elif found.kind == "missing" and mode != "dump":
            draft.failed.append(
                Failed(
                    name,
                    mode,
                    f"its folder {volume_path(volume)} is missing",
                    f"see `docker volume inspect {volume.name}`",
                )
            )
        elif found.problem and mode != "dump":
            draft.failed.append(Failed(name, mode, f"{volume_path(volume)} cannot be read: {found.problem}"))
        elif mode != "dump" and _unmounted(volume_path(volume), facts):
            point = _unmounted(volume_path(volume), facts)
            cause = f"/etc/fstab mounts {point}, which is not mounted"
            draft.failed.append(Failed(name, mode, cause, f"`mount {point}`, and see `dmesg`"))
        else:
            ready.append((volume, mode, problem))
    # A dump speaks for every volume of its container that has the mode dump, so these are one group, too.
    for mode in ("dump", "pause"):
        for members in _joined([volume for volume, its, _ in ready if its == mode], users):
            problem = "; ".join(filter(None, (text for volume, _, text in ready if volume in members)))
            _group(members, mode, users, problem, draft)
    for volume, mode, problem in ready:
        if mode == "hot":
            _group([volume], mode, users, problem, draft)


def mode_of(volume: Volume, users: Iterable[Container], settings: Settings) -> tuple[str, str]:
    """Return (mode, problem) of a volume: the site's entry, else its own label, else its containers', else DEFAULT.

    Of several containers the one that asks for most counts (MODES); `no` counts if all with a label ask for it.
    """
    if volume.name in settings.volumes:
        asked = [(settings.volumes[volume.name], "the site file")]
    elif LABEL in volume.labels:
        asked = [(volume.labels[LABEL], f"volume {volume.name}")]
    else:
        asked = [(item.labels[LABEL], f"container {item.name}") for item in users if LABEL in item.labels]
    known = [mode for mode, _ in asked if mode in (*MODES, "no")]
    problem = "; ".join(
        f"{LABEL}={ascii(mode)[1:-1][:40]} of {who} is none of hot, pause, dump, stop, no: saved in mode {DEFAULT}"
        for mode, who in asked
        if mode not in (*MODES, "no")
    )
    if problem:
        known.append(DEFAULT)
    return next((mode for mode in (*MODES, "no") if mode in known), DEFAULT), problem


def _ours(users: tuple[Container, ...]) -> bool:
    """Return whether only containers use it that a state of rpiomega made: the Consul agent."""
    return bool(users) and all(OWN in item.labels for item in users)


def _not_here(volume: Volume, users: tuple[Container, ...], facts: Facts) -> str:
    """Return why a volume has no data of its own on this node's disk, "" if it has."""
    kind = volume.options.get("type", "")
    if volume.driver != "local":
        return f"of the driver {volume.driver}: its data is not a folder of this node"
    if kind in _REMOTE:
        return f"on another machine ({kind}): save it there"
    if kind in _MEMORY:
        return f"in memory ({kind}): gone after each restart"
    held = _type_at(volume_path(volume), facts.mounts)
    if held in _REMOTE or held.startswith("fuse."):
        return f"on another machine ({held}): save it there"
    device = volume.options.get("device", "")
    if device and volume_path(volume) != device and volume.path not in facts.mounts:
        return f"on {device}, which Docker mounts only while a container uses it"
    if _ANONYMOUS.fullmatch(volume.name) and not users:
        return "without a name, and no container uses it"
    return ""


def _joined(volumes: list[Volume], users: Mapping[str, tuple[Container, ...]]) -> list[list[Volume]]:
    """Return the volumes in lists: those that one container uses are saved together."""
    groups: list[tuple[set[str], list[Volume]]] = []
    for volume in volumes:
        ids, members = {item.id for item in users[volume.name]}, [volume]
        for other in [group for group in groups if group[0] & ids]:
            groups.remove(other)
            ids, members = ids | other[0], [*other[1], *members]
        groups.append((ids, members))
    return [sorted(members, key=lambda item: item.name) for _, members in groups]


def _group(
    members: list[Volume], mode: str, users: Mapping[str, tuple[Container, ...]], problem: str, draft: _Draft
) -> None:
    name = f"volume:{members[0].name}"
    containers = tuple({item.id: item for volume in members for item in users[volume.name]}.values())
    if mode != "dump":
        paths = tuple(volume_path(volume) for volume in members)
        draft.groups.append(Group(name, mode, paths, tuple(members), containers=containers, problem=problem))
        return
    able = [item for item in containers if item.labels.get(f"{LABEL}.dump")]
    running = [item for item in able if item.status == "running"]
    if not able:
        cause = f"mode dump, and no container that uses it has the label {LABEL}.dump"
        draft.failed.append(Failed(name, mode, cause, "add the label with the command that writes the dump to stdout"))
    elif not running:
        cause = f"container {able[0].name} is {able[0].status}, so its dump command cannot run"
        draft.failed.append(Failed(name, mode, cause, "start it, or set `pause` for the volume in the site file"))
    else:
        draft.groups.append(
            Group(
                name,
                mode,
                (),
                tuple(members),
                containers=(running[0],),
                dump=running[0].labels[f"{LABEL}.dump"],
                problem=problem,
            )
        )
