"""
Restore a volume: its data beside the present data, compared with the manifest, then both names exchanged.

A journal in `state` names the restored folder by its inode number before anything is paused or renamed. `finish` reads
from it what an interrupted restore left, so the data is the old or the new one, whole, at any moment.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from dataclasses import dataclass
from typing import Any

from omega.backup import compare, dump_restore, fetch, pick, quiesce, restic, swap
from omega.backup.facts import Container, Volume, volume_path
from omega.backup.pick import RestoreError
from omega.backup.restic import Repository
from omega.backup.restore import Report, Wanted, alone, disk, progress
from omega.backup.settings import Places
from omega.core import files
from omega.core.polling import until_clear
from omega.docker.engine import asking

BUSY = ("running", "paused", "restarting")
RESTARTED = 60.0  # seconds until no container has the old data mounted
_TASK = "com.docker.swarm.task.id"


@dataclass
class Found:
    """What is restored: the snapshot, its manifest, where the data is in it, and where it goes."""

    row: dict
    manifest: dict
    source: str
    volume: Volume | None
    data: str


def restore_volume(
    repository: Repository, client: Any, name: str, wanted: Wanted, places: Places | None = None
) -> Report:
    """
    Restore a volume of this node. Its present data is kept beside it as NAME.before-restore-DATE.

    :param client: Docker SDK client
    :param name: of the volume; one that is missing is created as the manifest says
    :param wanted: `force`: containers that use the volume are paused for the exchange, then restarted
    :raises RestoreError: in_use, no_space, not_found, damaged (the restored data is not what the manifest says)
    :raises ResticError: as `restic.run`
    :raises omega.docker.engine.EngineError: the engine refused or does not answer
    """
    began, at, places = time.monotonic(), pick.moment(wanted.at), places or Places()
    with contextlib.ExitStack() as stack:
        ended = ""
        if not wanted.dry_run:
            stack.enter_context(alone(places))
            stack.enter_context(disk(f"volume {name}"))
            ended = finish(client, name, places)
        found = _find(repository, client, name, at)
        users = using(client, name)
        report = _report(repository, found, name, users, wanted)
        if ended:
            report.actions.insert(0, ended)
        if users and not wanted.force and not (wanted.dry_run or _is_dump(found)):
            cure = "stop them, or give --force, which pauses them for the exchange and restarts them"
            raise RestoreError("in_use", f"used by {', '.join(report.in_use)}", cure, f"volume {name}")
        if not wanted.dry_run:
            if _is_dump(found):
                dump_restore.run(repository, client, found.row, found.manifest, users, places)
            else:
                _restore(repository, client, found, name, report, places)
    report.seconds = round(time.monotonic() - began, 1)
    return report


def using(client: Any, name: str) -> list[Container]:
    """Return the containers that run (or are paused) with a volume."""
    with asking(f"the containers of volume {name} cannot be listed"):
        rows = client.api.containers(all=True, filters={"volume": [name]})
    return [
        Container(row["Id"], row["Names"][0].lstrip("/"), row["State"], labels=row.get("Labels") or {})
        for row in rows
        if row["State"] in BUSY and any(mount.get("Name") == name for mount in row.get("Mounts") or ())
    ]


def finish(client: Any, name: str, places: Places) -> str:
    """Complete or undo what an interrupted restore of a volume left; return in one line what it was, "" if nothing."""
    path = journal(places, name)
    noted = json.loads(files.read(path) or "null")
    if not noted:
        return ""
    quiesce.release(client, places.quiesced)
    data, kept, made, inode = noted["data"], noted["kept"], noted["made"], noted["inode"]
    if not os.path.lexists(data) and _inode(made) == inode:
        os.rename(made, data)  # killed between the two steps of `swap.put`
    if _inode(data) == inode:
        _restart(client, name, inode)
        done = f"complete the restore of {noted['begun']} that was interrupted: volume {name} has its data now"
    else:
        if _inode(kept) == inode:
            swap.remove(kept)
        done = f"undo the restore of {noted['begun']} that was interrupted: volume {name} has its data from before"
    swap.cleared(data)
    files.remove(path)
    return done


def pending(places: Places) -> list[str]:
    """Return the names of the volumes whose restore was interrupted."""
    with contextlib.suppress(FileNotFoundError):
        names = os.listdir(os.path.join(places.state, "restores"))
        return sorted(name[:-5] for name in names if name.endswith(".json"))
    return []


def journal(places: Places, name: str) -> str:
    """Return the path of the journal of a volume's restore."""
    return os.path.join(places.state, "restores", f"{name}.json")


def _find(repository: Repository, client: Any, name: str, at: float | None) -> Found:
    volume = inspect(client, name)
    data = volume_path(volume) if volume else ""
    rows = restic.snapshots(repository, [pick.TAG])

    def fits(row: dict) -> bool:
        here = data and data in (row.get("paths") or ())
        return bool(pick.group_of(row) == f"volume:{name}" or pick.volume_path(row, name) or here)

    row = pick.chosen(rows, fits, f"volume {name}", at)[0]
    with tempfile.TemporaryDirectory(prefix="rpiomega-") as scratch:
        manifest = fetch.manifest(repository, row, scratch) or {}
    noted = next((one for one in manifest.get("volumes") or () if one["name"] == name), None)
    saved = _volume(noted) if noted else None
    source = pick.volume_path(row, name) or (volume_path(saved) if saved else data)
    return Found(row, manifest, source, volume or saved, data)


def _report(repository: Repository, found: Found, name: str, users: list[Container], wanted: Wanted) -> Report:
    row, when = found.row, pick.shown(pick.taken(found.row))
    report = Report(f"volume {name}", row["id"], pick.taken(row), found.data, wanted.dry_run)
    report.in_use = [item.name for item in users]
    if _is_dump(found):
        item, command = dump_restore.target(name, found.manifest, users)
        report.target = f"container {item.name}"
        report.files, report.bytes = 1, int(found.manifest["dump"]["size"])
        report.actions = [f"run `{command}` in container {item.name} with the dump of {when}"]
        return report
    size = fetch.measured(repository, row, found.source)
    report.files, report.bytes = size["files"], size["bytes"]
    if not found.data:
        report.actions.append(f"create volume {name}")
    else:
        swap.refuse_mount(found.data)
        fetch.room(found.data, size["bytes"], f"volume {name}")
        report.kept = swap.kept_name(found.data, pick.stamp(time.time()))
    many = f"{report.files} entries, {report.bytes} bytes"
    report.actions.append(f"restore its data ({many}) from the snapshot of {when}, and compare it with its manifest")
    if users:
        report.actions.append(f"pause {', '.join(report.in_use)}")
    if report.kept:
        report.actions.append(f"keep {found.data} as {report.kept}")
    if users:
        report.actions.append(f"restart {', '.join(report.in_use)}")
    return report


def _restore(repository: Repository, client: Any, found: Found, name: str, report: Report, places: Places) -> None:
    if not found.data:
        found.data = report.target = _create(client, name, found.volume)
        fetch.room(found.data, report.bytes, f"volume {name}")
        report.kept = swap.kept_name(found.data, pick.stamp(time.time()))
    staging = swap.cleared(found.data)
    try:
        made = fetch.into(repository, found.row, found.source, staging, progress(places, report.what, report.bytes))
        _verify(found, made, name)
    except BaseException:
        swap.remove(staging)
        raise
    noted = {"volume": name, "data": found.data, "kept": report.kept, "made": made, "inode": _inode(made)}
    noted.update(snapshot=found.row["id"], begun=pick.shown(time.time()))
    files.write(journal(places, name), json.dumps(noted), 0o600)
    try:
        with quiesce.paused(client, using(client, name), places.quiesced, "restore"):
            swap.put(made, found.data, report.kept)
    finally:
        finish(client, name, places)


def _verify(found: Found, made: str, name: str) -> None:
    """Raise RestoreError if the restored data is not what the manifest says of it."""
    if not found.manifest:
        return
    # The manifest has the paths of the node: a view of the restored folder under its old name.
    view = tempfile.mkdtemp(prefix="rpiomega-")
    try:
        place = view + found.source
        os.makedirs(os.path.dirname(place))
        os.symlink(made, place)
        alone_in_group = len(found.manifest.get("volumes") or ()) == 1
        result = compare.tree(found.manifest, view, found.source, whole=alone_in_group)
    finally:
        shutil.rmtree(view)
    if result.problems:
        more = f" and {len(result.problems) - 1} more" if len(result.problems) > 1 else ""
        cause = f"the restored data is not what its manifest says: {result.problems[0]}{more}"
        raise RestoreError("damaged", cause, "nothing was changed; give another --at", f"volume {name}")


def _restart(client: Any, name: str, inode: int) -> None:
    """Restart the containers that have the old data mounted: a mount goes on with the folder it was made from."""

    def stale() -> str:
        left = [item for item in using(client, name) if not _sees(client, item, name, inode)]
        for item in left:
            with asking(f"container {item.name} cannot be restarted"):
                _again(client, item)
        return ", ".join(item.name for item in left)

    left = until_clear(stale, RESTARTED)
    if left:
        cure = f"`docker restart {left}`"
        raise RestoreError("not_restored", f"still has the old data mounted: {left}", cure, f"volume {name}")


def _again(client: Any, item: Container) -> None:
    """Restart a container within the time that it has to end; one that its owner had paused is paused again."""
    if _TASK in item.labels:
        client.api.stop(item.id)  # the swarm starts another task in its place
        return
    seconds = client.api.inspect_container(item.id)["Config"].get("StopTimeout")
    client.api.restart(item.id, timeout=10 if seconds is None else seconds)
    if item.status == "paused":
        client.api.pause(item.id)


def _sees(client: Any, item: Container, name: str, inode: int) -> bool:
    """Return whether a container has the folder with this inode number mounted as the volume."""
    import docker

    try:
        shown = client.api.inspect_container(item.id)
    except docker.errors.NotFound:
        return True
    place = next((one["Destination"] for one in shown["Mounts"] if one.get("Name") == name), "")
    return _inode(f"/proc/{shown['State']['Pid']}/root{place}") == inode


def _create(client: Any, name: str, volume: Volume | None) -> str:
    wanted = volume or Volume(name)
    with asking(f"volume {name} cannot be created"):
        client.api.create_volume(name, wanted.driver, wanted.options or None, wanted.labels or None)
    made = inspect(client, name)
    if made is None:
        raise RestoreError("not_restored", "it is gone after it was created", "see `docker volume ls`", name)
    return volume_path(made)


def inspect(client: Any, name: str) -> Volume | None:
    """Return a volume of this node, None if there is none of that name."""
    import docker

    with asking(f"volume {name} cannot be inspected"):
        try:
            found = client.api.inspect_volume(name)
        except docker.errors.NotFound:
            return None
    return _volume({**found, "name": name, "path": found["Mountpoint"]})


def _volume(item: dict) -> Volume:
    low = {key.lower(): value for key, value in item.items()}
    return Volume(
        low["name"],
        low.get("driver") or "local",
        low.get("options") or {},
        low.get("labels") or {},
        low.get("path") or "",
    )


def _is_dump(found: Found) -> bool:
    return bool(found.manifest.get("dump"))


def _inode(path: str) -> int:
    try:
        return os.stat(path).st_ino
    except OSError:
        return 0
