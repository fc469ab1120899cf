"""Restore what a run of a node saved, on the board that took its place: folders outside /etc, then volumes.

What belongs to a board itself (/etc: host keys, network, the minion's key) or is kept by the rest of the cluster
(swarm, Consul) is listed, and not restored.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
import time
from collections.abc import Iterator
from typing import Any

from omega.backup import fetch, pick, restic, restore, restore_volume, state
from omega.backup.facts import volume_path
from omega.backup.pick import RestoreError
from omega.backup.restic import Repository
from omega.backup.restore import Report, Wanted
from omega.backup.settings import Places
from omega.core import files
from omega.core.errors import Failure

OF_BOARD = ("/etc", "/boot", "/var/lib/rpiomega", "/run", "/root")
CONSUL_VOLUME = "rpiomega-consul"  # with the data of the old card its server would be one of the past
LOGIN = ".ssh/authorized_keys"


def newest_run(rows: list[dict], at: float | None, first: float | None) -> tuple[str, dict[str, dict]]:
    """Return (ID, {group: snapshot}) of the run that a node is restored from.

    A run with the group `files` counts before one that saved some groups only.

    :param rows: all snapshots of the node
    :param at: the newest run up to then; None: the newest that is older than `first`, or the newest of all
    :param first: when this card's own first run began; None: there was none
    :raises RestoreError: not_found
    """
    runs: dict[str, dict[str, dict]] = {}
    for row in sorted(rows, key=pick.taken):
        name, group = pick.tag(row, "run"), pick.group_of(row)
        if name and group:
            runs.setdefault(name, {})[group] = row
    if not runs:
        raise RestoreError("not_found", "this node's repository has no run", "`rpiomega backup list` shows it", "node")
    if at is not None:
        found = {name: groups for name, groups in runs.items() if _began(groups) <= at}
        if not found:
            oldest = pick.shown(min(map(_began, runs.values())))
            raise RestoreError("not_found", f"the first run is of {oldest}", "give a later --at", "node")
        # Of a run that was going on then, what it had saved by then.
        found = {
            name: {group: row for group, row in groups.items() if pick.taken(row) <= at}
            for name, groups in found.items()
        }
    else:
        before = {name: groups for name, groups in runs.items() if first and _ended(groups) < first}
        found = before or runs
    whole = [name for name, groups in found.items() if "files" in groups] or list(found)
    best = max(whole, key=lambda name: _ended(found[name]))
    return best, found[best]


def chosen_paths(row: dict) -> tuple[list[str], list[str]]:
    """Return the paths of a snapshot of the group `files` that are restored, and those that are not."""
    paths = [path for path in row.get("paths") or () if not path.endswith(f"/{fetch.MANIFEST}")]
    of_board = [path for path in paths if any(path == one or path.startswith(f"{one}/") for one in OF_BOARD)]
    return [path for path in paths if path not in of_board], of_board


class Restore:
    """One restore of this node.

    :param client: Docker SDK client; None: `problem` says why there is none
    :param wanted: `at`: of `newest_run`; `force`: as of `restore_volume`
    """

    def __init__(
        self, repository: Repository, client: Any, node: str, wanted: Wanted, places: Places, problem: str = ""
    ):
        self.repository, self.client, self.node, self.wanted = repository, client, node, wanted
        self.places, self.problem = places, problem
        self.report: dict[str, Any] = {}

    def run(self) -> dict[str, Any]:
        """Do it; return the report, in which `left` has what is not restored.

        :raises RestoreError, ResticError: there is no run, or the repository cannot be read
        """
        began = time.monotonic()
        rows = restic.snapshots(self.repository, [pick.TAG])
        first = state.read(self.places.report).get("first")
        name, groups = newest_run(rows, pick.moment(self.wanted.at), first)
        any_row = groups.get("files") or next(iter(groups.values()))
        self.report = {"what": f"node {self.node}", "run": name, "snapshot": any_row["id"], "time": _ended(groups)}
        self.report.update(target="", dry_run=self.wanted.dry_run, files=0, bytes=0, actions=[], kept=[], left=[])
        self.report["in_use"] = []
        if "files" in groups:
            self._files(groups["files"])
        for group in sorted(groups):
            if group.startswith("volume:"):
                self._volumes(group, groups[group])
        self._others(groups, rows)
        self.report["seconds"] = round(time.monotonic() - began, 1)
        return self.report

    # -- folders --------------------------------------------------------------------------------------------

    def _files(self, row: dict) -> None:
        wanted, of_board = chosen_paths(row)
        for path in wanted:
            with self._noted(path, f"rpiomega restore file {self.node}:{path}"):
                for entry in self._entries(row, path):
                    with self._noted(entry, f"rpiomega restore file {self.node}:{entry}"):
                        self._file(row, entry)
        for path in of_board:
            cure = f"rpiomega restore file {self.node}:{path} --to /root/saved"
            self._left(path, "it belongs to the board itself: look what of it you need", cure)

    def _entries(self, row: dict, path: str) -> list[str]:
        """Return the entries of a saved folder: each is restored by itself, so that others beside it stay."""
        found = restic.run(self.repository, ["ls", row["id"], path])
        below = [event["path"] for event in found if os.path.dirname(event.get("path", "")) == path]
        folder = any(event.get("path") == path and event.get("type") == "dir" for event in found)
        # Of a name that is no text, `ls` does not say the bytes: such a folder is restored as one.
        return below if folder and not any("\ufffd" in name for name in below) else [path]

    def _file(self, row: dict, path: str) -> None:
        if os.path.lexists(path) and same(self.repository, row, path, path, (LOGIN, os.path.dirname(LOGIN))):
            self.report["actions"].append(f"leave {path}: it is as it was saved")
            return
        wanted = Wanted(pick.taken(row), self.wanted.dry_run)
        done = restore.restore_file(self.repository, path, wanted, None, self.places)
        self._add(done)
        if done.kept and not self.wanted.dry_run:
            added = keep_logins(done.kept, path)
            if added:
                self.report["actions"].append(f"add to {path}/{LOGIN} {added} lines of now, so that logins go on")

    # -- volumes --------------------------------------------------------------------------------------------

    def _volumes(self, group: str, row: dict) -> None:
        with self._noted(group, f"rpiomega backup list --node {self.node}"):
            with tempfile.TemporaryDirectory(prefix="rpiomega-") as scratch:
                manifest = fetch.manifest(self.repository, row, scratch) or {}
            names = [one["name"] for one in manifest.get("volumes") or ()] or [group.partition(":")[2]]
            for name in names:
                if name == CONSUL_VOLUME:
                    self._left(f"volume {name}", "Consul gets its data from its other servers", "docs/consul.md")
                    continue
                cure = f"rpiomega restore volume {name} --node {self.node}"
                with self._noted(f"volume {name}", cure):
                    self._volume(row, name)

    def _volume(self, row: dict, name: str) -> None:
        if self.client is None:
            raise RestoreError("not_restored", f"no Docker Engine answers ({self.problem})", "", f"volume {name}")
        there = restore_volume.inspect(self.client, name)
        source = pick.volume_path(row, name)
        if there and source and same(self.repository, row, source, volume_path(there)):
            self.report["actions"].append(f"leave volume {name}: it is as it was saved")
            return
        wanted = Wanted(pick.taken(row), self.wanted.dry_run, self.wanted.force)
        done = restore_volume.restore_volume(self.repository, self.client, name, wanted, self.places)
        if done.in_use and self.wanted.dry_run and not self.wanted.force and not done.target.startswith("container "):
            raise RestoreError("in_use", f"used by {', '.join(done.in_use)}", "", f"volume {name}")
        self._add(done)

    # -- the report -----------------------------------------------------------------------------------------

    def _others(self, groups: dict[str, dict], rows: list[dict]) -> None:
        why = {
            "swarm": ("the other managers have the swarm's state", "docs/operations.md, Quorum lost for ever"),
            "consul": ("the other servers have Consul's data", "docs/consul.md, All servers lost their data"),
            "salt": ("it is the master's", "rpiomega restore master --kit FILE"),
        }
        for group, (cause, cure) in why.items():
            if group in groups:
                self._left(group, cause, cure)
        last = max(map(pick.taken, groups.values()))
        for group, row in pick.newest_of_groups(row for row in rows if pick.taken(row) <= last).items():
            if group not in groups and group.startswith("volume:"):
                name = group.partition(":")[2]
                cause = f"it is not in this run; it was last saved at {pick.shown(pick.taken(row))}"
                self._left(f"volume {name}", cause, f"rpiomega restore volume {name} --node {self.node}")

    def _add(self, done: Report) -> None:
        self.report["files"] += done.files
        self.report["bytes"] += done.bytes
        self.report["actions"] += [f"{done.what}: {line}" if "volume" in done.what else line for line in done.actions]
        if done.kept and os.path.lexists(done.kept):
            self.report["kept"].append(done.kept)

    def _left(self, name: str, why: str, cure: str, failed: bool = False) -> None:
        self.report["left"].append({"name": name, "why": why, "cure": cure, "failed": failed})

    @contextlib.contextmanager
    def _noted(self, name: str, cure: str) -> Iterator[None]:
        """List what fails in this block as not restored, and go on."""
        try:
            yield
        except Failure as error:
            if getattr(error, "kind", "") in ("unreachable", "denied", "wrong_password", "busy"):
                raise  # the others would fail for the same reason
            force = " --force" if getattr(error, "kind", "") == "in_use" else ""
            self._left(name, error.cause, cure + force, failed=True)


def same(repository: Repository, row: dict, source: str, place: str, but: tuple[str, ...] = ()) -> bool:
    """Return whether what is at `place` has the names, sizes and dates of `source` in a snapshot, and no other file.

    restic is asked what a restore would write; it counts every folder as written.

    :param but: entries below `place` that may differ
    """
    if os.path.islink(place):
        return False
    top, options = place, ["--overwrite", "if-changed", "--dry-run", "--verbose=2", "--target"]
    command = ["restore", f"{row['id']}:{source}", *options, place, "--delete"]
    if not os.path.isdir(place):
        top = os.path.dirname(place)
        command = [*fetch.selection(row, source), *options, top]
    for event in restic.run(repository, command):
        item, action = str(event.get("item", "")), event.get("action")
        path = item if item.startswith(f"{top}/") else os.path.join(top, item.lstrip("/"))
        if event.get("message_type") != "verbose_status" or action == "unchanged" or path[len(top) + 1 :] in but:
            continue
        if action != "restored" or not os.path.isdir(path) or os.path.islink(path):
            return False
    return True


def keep_logins(kept: str, place: str) -> int:
    """Add the keys that let in now to those that were saved in a home folder; return how many lines were added.

    :param kept: the home folder as it was before the restore
    :param place: the restored one
    """
    path = os.path.join(place, LOGIN)
    both = [os.path.join(folder, LOGIN) for folder in (kept, place)]
    # A link could lead to a file that its user may not read or write.
    if not os.path.isdir(kept) or any(os.path.islink(name) or os.path.islink(os.path.dirname(name)) for name in both):
        return 0
    before = files.read(both[0])
    if before is None:
        return 0
    found = os.stat(os.path.join(kept, LOGIN))
    now = files.read(path) or ""
    missing = [line for line in before.splitlines() if line.strip() and line not in now.splitlines()]
    if missing:
        folder = os.path.dirname(path)
        if not os.path.isdir(folder):
            above = os.stat(os.path.join(kept, os.path.dirname(LOGIN)))
            os.mkdir(folder, 0o700)
            os.chown(folder, above.st_uid, above.st_gid)
        text = "\n".join([*now.splitlines(), *missing]) + "\n"
        files.write(path, text, 0o600)
        os.chown(path, found.st_uid, found.st_gid)
    return len(missing)


def _began(groups: dict[str, dict]) -> float:
    return min(map(pick.taken, groups.values()))


def _ended(groups: dict[str, dict]) -> float:
    return max(map(pick.taken, groups.values()))
