"""Which snapshots are forgotten, on the master: a decision from the list of snapshots, then restic's forget and prune.

`restic forget --keep-within-*` counts from the newest snapshot of a group, not from today (restic's manual, "Removing
backup snapshots"): one snapshot dated in the future, by a board without a clock or by an attacker, would let all others
fall out. So a repository with such a snapshot is refused as a whole.
"""

from __future__ import annotations

import datetime
import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

from omega.backup import pick, repositories, restic
from omega.backup.pick import TAG
from omega.backup.restic import Repository, ResticError
from omega.backup.save import WARM
from omega.core import files, rfc3339
from omega.core.errors import KindOfFailure

AHEAD = 3600  # seconds that clocks may differ
WARM_AGE = 86400  # seconds after which no run needs the snapshot any more that it made before a pause
RECORD = "/var/lib/rpiomega/backup/forget.json"


class RetentionError(KindOfFailure):
    """A repository is not pruned. `kind`: future (a snapshot is later than now)."""


def plan(snapshots: Sequence[Mapping[str, Any]], keep: Mapping[str, int], now: float) -> list[list[str]]:
    """Return the arguments of each call of `restic forget` for one repository, one call a group of snapshots. Pure.

    restic's own --group-by tags would make a group of each snapshot, as each has a tag of its run.

    :param snapshots: as `restic snapshots --json` shows them
    :param keep: daily, weekly, monthly: for how many days, weeks, months one snapshot each stays
    :param now: seconds since the epoch
    :raises RetentionError: "future": a snapshot is later than now and AHEAD; nothing may be forgotten
    """
    late = [snapshot for snapshot in snapshots if rfc3339.seconds(str(snapshot["time"])) > now + AHEAD]
    if late:
        newest = max(late, key=lambda snapshot: rfc3339.seconds(str(snapshot["time"])))
        clock = datetime.datetime.fromtimestamp(now, datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC")
        name, more = str(newest["id"])[:8], f", with {len(late) - 1} more" if len(late) > 1 else ""
        cause = (
            f"snapshot {name} of {newest.get('hostname', 'unknown')} is dated {str(newest['time'])[:16]}{more}, "
            f"and it is {clock} here: nothing is forgotten, as all others would count as old"
        )
        cure = f"see `timedatectl` here and on that node; if its clock was wrong, `restic forget {name}` removes it"
        raise RetentionError("future", cause, cure)
    policy = ["--keep-within-daily", f"{keep['daily']}d"]
    # restic's durations have no weeks.
    policy += ["--keep-within-weekly", f"{keep['weekly'] * 7}d"] if keep.get("weekly") else []
    policy += ["--keep-within-monthly", f"{keep['monthly']}m"] if keep.get("monthly") else []
    calls = [["forget", "--tag", f"{TAG},group={group}", "--group-by", "host", *policy] for group in groups(snapshots)]
    left = leftovers(snapshots, now)
    return [*calls, ["forget", *left]] if left else calls


def groups(snapshots: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the names of the groups that this project's snapshots are of; those of others are left alone."""
    ours = [pick.group_of(dict(snapshot)) for snapshot in snapshots if TAG in (snapshot.get("tags") or [])]
    return sorted({group for group in ours if group})


def leftovers(snapshots: Sequence[Mapping[str, Any]], now: float) -> list[str]:
    """Return the IDs of snapshots that a run made before a pause, and then did not remove because it was ended."""
    return [
        str(snapshot["id"])
        for snapshot in snapshots
        if WARM in (snapshot.get("tags") or []) and rfc3339.seconds(str(snapshot["time"])) < now - WARM_AGE
    ]


def forget(repository: Repository, keep: Mapping[str, int], now: float | None = None) -> dict[str, int]:
    """Forget and prune in one repository; return {"kept", "removed"}, numbers of snapshots.

    :raises RetentionError: as `plan`
    :raises ResticError: restic failed
    """
    restic.unlock(repository)
    before = restic.snapshots(repository)
    calls = plan(before, keep, time.time() if now is None else now)
    for arguments in calls:
        restic.run(repository, arguments)
    after = len(restic.snapshots(repository)) if calls else len(before)
    if calls:
        restic.run(repository, ["prune"])  # also what an interrupted run has left
    return {"kept": after, "removed": len(before) - after}


def forget_all(folder: str = restic.FOLDER, record: str = RECORD, program: str = "restic") -> dict[str, dict[str, Any]]:
    """Forget and prune in the repositories of all nodes; a failure of one does not stop the others.

    :param folder: /etc/rpiomega/backup of the master
    :param record: file for the outcome: {"version": 1, "ended": epoch, "nodes": what is returned}
    :return: {node: {"ok", "kept", "removed"}} or {node: {"ok": False, "kind", "cause", "cure"}}
    :raises ResticError: bad_request: this node does not maintain the repositories
    """
    keep = repositories.settings(folder)["keep"]
    found: dict[str, dict[str, Any]] = {}
    for name, repository in repositories.known(folder, program).items():
        try:
            found[name] = {"ok": True, **forget(repository, keep)}
        except (ResticError, RetentionError) as error:
            found[name] = {"ok": False, "kind": error.kind, "cause": error.cause, "cure": error.cure}
    os.makedirs(os.path.dirname(record), mode=0o700, exist_ok=True)
    files.write(record, json.dumps({"version": 1, "ended": int(time.time()), "nodes": found}) + "\n", 0o600)
    return found
