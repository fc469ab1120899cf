"""
A drill: restores the newest snapshot of each group into a scratch folder, compares, and runs the services' checks.

Each check has a name, a result and a one-line cause. The evidence is a file for each drill; state.json has the last.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from omega.backup import check, compare, fetch, pick, restic, state
from omega.backup.manifest import NAME as MANIFEST
from omega.backup.pick import RestoreError
from omega.backup.progress import Progress
from omega.backup.restic import Repository
from omega.backup.restic_errors import ResticError
from omega.backup.restore import alone
from omega.backup.settings import Places
from omega.core import files, recovery_kit
from omega.core.errors import Failure, line

WAIT = 4 * 3600.0  # seconds until a backup that runs has ended; the next drill is a week later
PARTS = 8  # weeks in which `restic check` has read the whole repository
SHARE = 0.5  # of the free space that a drill may take
PREFIX = "drill-"
KEPT = 60  # evidence files
_WEEK = 7 * 86400
_CURE = "`rpiomega backup now`, then the drill again; if it fails again: docs/backup.md"


@dataclass
class Drill:
    """One drill. `checks`: {"name", "ok", "cause", "seconds", "notes"} each."""

    repository: Repository
    places: Places
    client: Any = None  # Docker SDK client
    parts: int = PARTS
    secrets: str = recovery_kit.FOLDER
    download: int = 0  # KiB a second; 0: no limit
    wait: float = WAIT
    now: float = field(default_factory=time.time)
    checks: list[dict[str, Any]] = field(default_factory=list)

    def run(self) -> dict[str, Any]:
        """Do all checks, write the evidence and state.json; return what state.json has as `drill`.

        :raises RestoreError: busy: a backup, a restore or another drill runs
        """
        with alone(self.places, self.wait):
            self._clear()
            began = time.time()
            rows: list[dict] = []
            self._check("snapshots", lambda notes: rows.extend(self._rows(notes)))
            for group, row in pick.newest_of_groups(rows).items():
                self._check(group, functools.partial(self._group, group, row))
            self._check("repository", self._repository)
            if os.path.exists(os.path.join(self.secrets, "bucket.json")):  # on the master
                self._check("kit", self._kit)
            failed = [one for one in self.checks if not one["ok"]]
            cause = "; ".join(f"{one['name']}: {one['cause']}" for one in failed)
            ended = int(time.time())
            shown = [{key: one[key] for key in ("name", "ok", "cause", "seconds")} for one in self.checks]
            report = {"started": int(began), "ended": ended, "ok": not failed, "cause": cause, "checks": shown}
            self._evidence({**report, "checks": self.checks, "repository": self.repository.url})
            state.update(self.places.report, drill=report, **({} if failed else {"proven": ended}))
            return report

    def _check(self, name: str, work: Callable[[dict], Any]) -> None:
        """Run one check; a failure is its result, and the next one goes on."""
        shown = Progress(self.places.progress, str(int(self.now)))
        with contextlib.suppress(OSError):
            shown.at("drill", name)
        began, notes, cause = time.monotonic(), {}, ""  # type: ignore[var-annotated]
        try:
            work(notes)
        except Failure as error:
            cause = line(error.cause, subject=error.subject if error.subject != name else "")
        except OSError as error:
            cause = f"{error.strerror or error} {error.filename or ''}".strip()
        seconds = round(time.monotonic() - began, 1)
        self.checks.append({"name": name, "ok": not cause, "cause": cause, "seconds": seconds, "notes": notes})

    def _rows(self, notes: dict) -> list[dict]:
        """Return the snapshots. Each group that the last run saved must have the one that it made."""
        restic.unlock(self.repository)
        rows = restic.snapshots(self.repository, [pick.TAG])
        notes["snapshots"] = len(rows)
        if not rows:
            raise RestoreError("not_found", "the repository has no snapshot", _CURE)
        known = {row["id"] for row in rows}
        gone = [name for name, one in self._saved().items() if one["snapshot"] not in known]
        if gone:
            cause = f"the snapshot that the last run made is not in the repository: {', '.join(gone)}"
            self._check("last run", _raise(RestoreError("damaged", cause, _CURE)))
        return rows

    def _saved(self) -> dict[str, dict]:
        """Return group -> its entry in the last run's report, where the run made a snapshot."""
        last = state.read(self.places.report).get("last") or {}
        return {one["name"]: one for one in last.get("groups") or () if one.get("snapshot") and one.get("ok")}

    def _group(self, group: str, row: dict, notes: dict) -> None:
        """Restore one group and check it; raise the first problem."""
        notes.update(snapshot=row["id"], time=pick.taken(row), mode=pick.mode_of(row))
        size = _size(row)
        base, whole = self._place(size)
        notes.update(bytes=size, restored="all" if whole else "sample", folder=base)
        scratch = tempfile.mkdtemp(prefix=PREFIX, dir=base)
        try:
            self._restored(group, row, scratch, whole, notes)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)

    def _restored(self, group: str, row: dict, scratch: str, whole: bool, notes: dict) -> None:
        manifest = fetch.manifest(self.repository, row, scratch)
        if manifest is None:
            raise RestoreError("damaged", f"the snapshot has no {MANIFEST}", _CURE, group)
        self._canary(group, row, manifest, notes)
        root = os.path.join(scratch, "files")
        paths = [path for path in row["paths"] if not path.endswith(f"/{MANIFEST}")]
        chosen = [row["id"], *_selection(manifest, whole), *self._limit()]
        restic.run(self.repository, ["restore", *chosen, "--sparse", "--target", root])
        result = compare.tree(manifest, root, whole=whole, paths=paths)
        notes.update(files=result.files, compared=result.same, changed=result.changed)
        if result.problems:
            more = f" (and {len(result.problems) - 1} more)" if len(result.problems) > 1 else ""
            raise RestoreError("damaged", f"{result.problems[0]}{more}", _CURE, group)
        if not whole:
            notes["check"] = "not run: the group is larger than the free space that a drill may take"
            return
        check.files(group, root, paths)
        for service in check.services(manifest):
            if self.client is None:
                raise RestoreError("not_restored", f"no engine answers for the check of {service.name}", "", group)
            check.run(self.client, service, manifest, root)
            notes.setdefault("commands", []).append(f"{service.name}: {service.command}")

    def _canary(self, group: str, row: dict, manifest: dict, notes: dict) -> None:
        """Compare the manifest's random value with the one that the run kept on this node."""
        saved = self._saved().get(group)
        if not saved or not saved.get("canary"):
            notes["canary"] = "unknown: the last run did not save this group"
            return
        found = hashlib.sha256(str(manifest.get("canary", "")).encode()).hexdigest()
        if found != saved["canary"]:
            cause = f"snapshot {row['id'][:8]} is not the one that the last run made: its canary differs"
            raise RestoreError("damaged", cause, _CURE, group)
        notes["canary"] = "equal"

    def _repository(self, notes: dict) -> None:
        """Let restic check the structure, and read one part of the packs; another each week."""
        part = int(self.now // _WEEK) % self.parts + 1
        notes["part"] = f"{part}/{self.parts}"
        try:
            restic.run(self.repository, ["check", *self._limit(), f"--read-data-subset={part}/{self.parts}"])
        except ResticError as error:
            damage = _damage(error.events)
            raise RestoreError("damaged", damage or error.cause, _CURE) from None

    def _limit(self) -> list[str]:
        return ["--limit-download", str(self.download)] if self.download else []

    def _kit(self, notes: dict) -> None:
        """Compare the kit that was checked last with the secrets; that none was checked is no failure of a drill."""
        mark = recovery_kit.mark(self.secrets)
        notes["checked"] = mark["checked"]
        if mark["checked"] and mark["stale"]:
            when = pick.shown(mark["checked"])
            cause = (
                f"the recovery kit is stale: a key, the passphrase or the nodes have changed since its check of {when}"
            )
            raise RestoreError("damaged", cause, "`rpiomega backup kit`, then `rpiomega backup kit --check`")

    def _place(self, size: int) -> tuple[str, bool]:
        """Return the scratch folder for so many bytes, and whether they have room there."""
        for base in (self.places.run, self.places.state):  # memory first: it spares the card
            os.makedirs(base, mode=0o700, exist_ok=True)
            if size + fetch.MARGIN < shutil.disk_usage(base).free * (SHARE if base == self.places.state else SHARE / 2):
                return base, True
        return self.places.state, False

    def _clear(self) -> None:
        """Remove what a drill that was killed left."""
        for base in (self.places.run, self.places.state):
            with contextlib.suppress(FileNotFoundError):
                for name in os.listdir(base):
                    if name.startswith(PREFIX):
                        shutil.rmtree(os.path.join(base, name), ignore_errors=True)
        if self.client is not None:
            check.clear(self.client)

    def _evidence(self, content: dict[str, Any]) -> None:
        folder = os.path.join(self.places.state, "drills")
        os.makedirs(folder, mode=0o700, exist_ok=True)
        path = os.path.join(folder, f"{pick.stamp(content['started'])}.json")
        files.write(path, json.dumps(content, indent=1, sort_keys=True) + "\n", 0o600)
        for name in sorted(name for name in os.listdir(folder) if name.endswith(".json"))[:-KEPT]:
            os.unlink(os.path.join(folder, name))


def _raise(error: Exception) -> Callable[[dict], Any]:
    """Return a check that fails with this error."""

    def work(_notes: dict) -> None:
        raise error

    return work


def _selection(manifest: dict, whole: bool) -> list[str]:
    """Return the options of `restic restore` for all files, or for the sample alone."""
    if whole:
        return []
    return [part for entry in manifest.get("sample") or () for part in ("--include", fetch.escaped(entry["path"]))]


def _size(row: dict) -> int:
    """Return the bytes of a snapshot's files, as restic noted them when it made it."""
    return int((row.get("summary") or {}).get("total_bytes_processed") or 0)


def _damage(events: list[dict]) -> str:
    """Return in one line which pack is damaged or missing, "" if `restic check` named none."""
    said = " ".join(str(event.get("message", "")) for event in events)
    missing = sorted(set(re.findall(r"pack ([0-9a-f]{64}): (?:does not exist|not found)", said)))
    if missing:
        return f"pack {missing[0][:8]} is missing" + (f" (and {len(missing) - 1} more)" if missing[1:] else "")
    broken = sorted(
        {pack for event in events for pack in event.get("broken_packs") or ()}
        | set(re.findall(r"pack ([0-9a-f]{64}):? contains \d+ errors", said))
    )
    if broken:
        return f"pack {broken[0][:8]} is damaged" + (f" (and {len(broken) - 1} more)" if broken[1:] else "")
    return ""
