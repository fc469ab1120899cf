"""Saves one group: survey, quiesce, snapshot. Nothing here catches a failure; `run` reports it."""

from __future__ import annotations

import contextlib
import datetime
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from omega.backup import dump, manifest, pick, quiesce, restic
from omega.backup.plan import Group
from omega.backup.progress import Progress
from omega.backup.restic_errors import ResticError
from omega.backup.settings import Places, Settings

# More than this changed: it is uploaded before the pause, so that the pause lasts as long as the rest.
WARM_BYTES = 8 * 1024 * 1024
PAUSE_BOUND = 600  # seconds that containers stay paused at most
WARM = "rpiomega-warm"


@dataclass
class Context:
    """What all groups of a run share."""

    run: str
    settings: Settings
    places: Places
    repository: restic.Repository
    progress: Progress
    client: Any = None  # Docker SDK client, None without an engine
    consul_snapshot: Callable[[str], Any] | None = None  # writes a snapshot of Consul into a folder
    snapshots: tuple[dict, ...] = ()  # of this repository, oldest first


def group(context: Context, item: Group) -> dict[str, Any]:
    """Save one group and return its entry of the report.

    :raises ResticError, omega.docker.engine.EngineError, OSError: why it is not saved
    """
    if item.name == "consul":
        with _consul(context) as folder:
            return _files(context, item, (folder,))
    if item.mode == "dump":
        return _dump(context, item)
    return _files(context, item, item.paths)


def last(context: Context, name: str) -> dict[str, Any] | None:
    """Return the newest snapshot of a group, None if there is none."""
    found = [one for one in context.snapshots if pick.group_of(one) == name]
    return found[-1] if found else None


def _files(context: Context, item: Group, paths: tuple[str, ...]) -> dict[str, Any]:
    parent = last(context, item.name)
    context.progress.at("survey", item.name)
    survey = manifest.survey(paths, pick.taken(parent) if parent else 0.0, item.exclude)
    if not item.containers or item.mode != "pause":
        sha = _manifest(context, item, survey["sample"], survey["counts"])
        problem = _nothing(context, item, paths, survey["counts"])
        return _entry(item, _backup(context, item, paths, parent, survey["counts"]["bytes"]), sha, problem=problem)
    warm = None
    if survey["changed"] > WARM_BYTES:
        context.progress.at("prepare", item.name, survey["counts"]["bytes"])
        warm = _warm(context, item, paths, parent)
    with quiesce.paused(context.client, item.containers, context.places.quiesced, context.run) as rest:
        sha = _manifest(context, item, manifest.settled(survey["sample"]), survey["counts"])
        bound = PAUSE_BOUND if rest.names else None
        summary = _backup(context, item, paths, warm or parent, survey["counts"]["bytes"], bound)
    if warm:
        # A leftover costs nothing but a line in `restic snapshots`.
        with contextlib.suppress(ResticError):
            restic.run(context.repository, ["forget", warm["id"]], seconds=300)
    return _entry(item, summary, sha, rest.seconds, rest.problem)


def _nothing(context: Context, item: Group, paths: tuple[str, ...], counts: dict[str, int]) -> str:
    """Return why the owner's patterns leave too little to save, "" if they do not."""
    patterns = context.settings.exclude if item.name == "files" else ()
    out = manifest.excluder(patterns)
    if patterns and any(map(out, _parts(manifest.path(context.places.run, item.name)))):
        return "backup.exclude leaves out the manifest of the snapshot, without which no drill can prove it"
    lost = [path for path in paths if any(map(out, _parts(path))) or not (counts["files"] or _bare(path))]
    return f"backup.exclude leaves out everything of {', '.join(lost)}" if patterns and lost else ""


def _parts(path: str) -> list[str]:
    """Return a path and the folders it is in; restic leaves out what is in a folder that it leaves out."""
    parts = path.strip("/").split("/")
    return ["/" + "/".join(parts[: number + 1]) for number in range(len(parts))]


def _bare(path: str) -> bool:
    """Return whether a folder has no file at all."""
    return not any(names for _, _, names in os.walk(path)) and not os.path.isfile(path)


def _dump(context: Context, item: Group) -> dict[str, Any]:
    folder = os.path.join(context.places.state, "dumps", item.name)
    context.progress.at("dump", item.name)
    try:
        # The path stays the same, so restic compares with the dump before.
        written = dump.write(context.client, item.containers[0], item.dump, os.path.join(folder, "dump"))
        counts = {"files": 1, "bytes": written["size"]}
        found = os.lstat(written["path"])
        sample = [{**{key: written[key] for key in ("path", "size", "sha256")}, "mtime": found.st_mtime_ns}]
        sha = _manifest(context, item, sample, counts, {"dump": written})
        parent = last(context, item.name)
        return _entry(item, _backup(context, item, (written["path"],), parent, written["size"]), sha)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _consul(context: Context) -> Iterator[str]:
    folder = os.path.join(context.places.run, "consul")
    if context.consul_snapshot is None:
        raise ResticError("bad_request", "this call cannot take a snapshot of Consul", "run `salt-call backup.run`")
    shutil.rmtree(folder, ignore_errors=True)
    os.makedirs(folder, mode=0o700)
    try:
        context.consul_snapshot(folder)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _manifest(
    context: Context, item: Group, sample: list[dict], counts: dict[str, int], more: dict[str, Any] | None = None
) -> str:
    volumes = [
        {
            "name": volume.name,
            "driver": volume.driver,
            "options": volume.options,
            "labels": volume.labels,
            "path": volume.path,
            "containers": [
                {"name": one.name, "image": one.image, "image_id": one.image_id, "labels": one.labels}
                for one in item.containers
                if volume.name in one.volumes
            ],
        }
        for volume in item.volumes
    ]
    settings = context.settings
    head = {"node": settings.node, "cluster": settings.cluster, "group": item.name, "mode": item.mode}
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    content = {**head, "run": context.run, "time": now, "paths": list(item.paths), "volumes": volumes, **(more or {})}
    return manifest.write(manifest.path(context.places.run, item.name), content, sample, counts)


def _arguments(context: Context, item: Group, paths: tuple[str, ...], parent: dict[str, Any] | None) -> list[str]:
    upload = context.settings.upload
    options = ["--host", context.settings.node, "--no-scan"]
    options += ["--limit-upload", str(upload)] if upload else []
    options += ["--parent", parent["id"]] if parent else []
    for pattern in item.exclude:
        options += ["--exclude", pattern]
    return [*options, "--", *paths]


def _backup(
    context: Context,
    item: Group,
    paths: tuple[str, ...],
    parent: dict[str, Any] | None,
    total: int,
    bound: float | None = None,
) -> dict[str, Any]:
    context.progress.at("save", item.name, total)
    tags = (pick.TAG, f"group={item.name}", f"run={context.run}", f"mode={item.mode}")
    marks = [part for tag in tags for part in ("--tag", tag)]
    everything = (*paths, manifest.path(context.places.run, item.name))
    command = ["backup", *marks, *_arguments(context, item, everything, parent)]
    return _summary(restic.run(context.repository, command, context.progress.event, seconds=bound))


def _warm(
    context: Context, item: Group, paths: tuple[str, ...], parent: dict[str, Any] | None
) -> dict[str, Any] | None:
    """Upload what changed, while the containers go on; return the snapshot, whose content is not consistent."""
    command = ["backup", "--tag", WARM, *_arguments(context, item, paths, parent)]
    try:
        summary = _summary(restic.run(context.repository, command, context.progress.event))
    except ResticError as error:
        if error.kind != "unreadable":  # a file that its service removed meanwhile
            raise
        summary = _summary(error.events)
    return {"id": summary["snapshot_id"]} if summary.get("snapshot_id") else None


def _summary(events: list[dict]) -> dict[str, Any]:
    return next((event for event in events if event.get("message_type") == "summary"), {})


def _entry(item: Group, summary: dict[str, Any], sha: str, seconds: float = 0.0, problem: str = "") -> dict[str, Any]:
    causes = [text for text in (item.problem, problem) if text]
    if not summary.get("snapshot_id"):
        causes.append("restic made no snapshot")
    return {
        "name": item.name,
        "mode": item.mode,
        "snapshot": summary.get("snapshot_id", ""),
        "bytes_added": summary.get("data_added_packed", summary.get("data_added", 0)),
        "bytes_total": summary.get("total_bytes_processed", 0),
        "files": max(0, summary.get("total_files_processed", 0) - 1),  # the manifest is one
        "paused_seconds": seconds,
        "ok": not causes,
        "cause": "; ".join(causes),
        "canary": sha,
    }
