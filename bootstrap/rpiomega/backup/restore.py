"""A restore on one node: previewed, started as a unit there, followed to its end.

The restore belongs to the node's systemd: it goes on if this command or its connection ends.
"""

from __future__ import annotations

import re
import time
import uuid
from dataclasses import dataclass, replace
from datetime import datetime

from rpiomega import agent, reach
from rpiomega.backup.following import follow
from rpiomega.bulk import Row
from rpiomega.errors import NodeError
from rpiomega.node import job_steps
from rpiomega.report import count, printable, size
from rpiomega.site import Site
from rpiomega.ssh import Pool


class BadInput(NodeError):
    """What the user typed is wrong: the command ends with exit code 2."""


@dataclass(frozen=True)
class Wanted:
    """`what`: ``file``, ``volume`` or ``node``; `path`: of the file, or the volume's name; `at`: seconds since 1970, 0:
    now.
    """

    what: str
    path: str
    to: str = ""
    at: float = 0.0
    preview: bool = False
    force: bool = False


def split(text: str) -> tuple[str, str]:
    """Return (node, path) of ``NODE:PATH``. Raise ValueError with what is wrong."""
    node, colon, path = text.partition(":")
    if colon and not path.strip("/"):
        raise ValueError(f"{text}: all of a node is not restored as one path: name a folder below it")
    if not colon or not node or not path.startswith("/"):
        raise ValueError(f"{text} is no NODE:PATH: write it as rpiomega-2:/home/pi/notes.txt")
    return node, path


def moment(text: str, now: float | None = None) -> float:
    """Return a time as seconds since 1970, of this workstation's zone unless it names one; a day alone is its end.

    Raise ValueError with what is wrong.
    """
    now = now or time.time()
    try:
        found = datetime.fromisoformat(re.sub(r"[zZ]$", "+00:00", text.strip()))
        seconds = found.timestamp()
        last = found.replace(hour=23, minute=59, second=59).timestamp()
    except (ValueError, OverflowError):  # also a year that the clock of this machine cannot have
        raise ValueError(f"{printable(text)} is no time: write 2026-11-28 or '2026-11-28 14:30'") from None
    if seconds > now:
        raise ValueError(f"{text} is in the future")
    if re.fullmatch(r"\d{4}-?\d\d-?\d\d", text.strip()):
        return min(last, now)
    return seconds


def run(pool: Pool, site: Site, row: Row, wanted: Wanted, wait: float) -> dict:
    """Restore, or with `preview` ask what would be done; return the result of the formula's `backup_restore`.

    :param wait: seconds to wait for SSH, also after a connection was lost
    :raises BadInput: what the user typed is wrong
    :raises NodeError: it failed; SshError, Stopped
    """
    row.start("ssh")
    remote = reach.board(pool, site, site.nodes[row.name], row.log)
    remote.connect(wait)
    name = uuid.uuid4().hex
    start = job_steps.RestoreStart(name, **vars(wanted))
    agent.run(remote, [start], row.event)
    return judged(row.name, name, follow(remote, job_steps.RestoreFollow(name), row, "restore", wait))


def judged(node: str, name: str, data: dict) -> dict:
    """Return the result of a restore that ended well (see step `restore_follow`).

    :raises BadInput, NodeError: it did not
    """
    result = data["result"]
    look = f"on {node}: sudo journalctl -u rpiomega-restore-{name}"
    if result is None:
        raise NodeError(f"the restore ended without a result: {data['journal'] or 'its journal is empty'}", look)
    if not result.get("ok"):
        kind = BadInput if result.get("kind") == "bad_request" else NodeError
        raise kind(printable(result.get("cause") or "no cause is known"), printable(result.get("cure") or look))
    return result


def refusal(wanted: Wanted, preview: dict) -> NodeError | None:
    """Return why a restore that was previewed would not be done, None if it would."""
    if preview.get("in_use") and not wanted.force and not preview["target"].startswith("container "):
        users = ", ".join(preview["in_use"])
        cure = "stop them, or give --force, which pauses them for the exchange and restarts them"
        return NodeError(f"volume {wanted.path}: used by {users}", cure)
    return None


def lines(node: str, result: dict) -> list[str]:
    """Return what a restore does or did, a line for each step."""
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(result["time"]))
    head = f"{node}: {result['what']}: snapshot {result['snapshot'][:8]} of {when}"
    many = f"{count(result['files'], 'file')}, {size(result['bytes'])}"
    done = [printable(f"{head}, {many}"), *(f"  {printable(action)}" for action in result["actions"])]
    for one in result.get("left") or ():
        done.append(printable(f"  not restored: {one['name']}: {one['why']}"))
        done += [printable(f"    next: {one['cure']}")] * bool(one["cure"])
    return done


def failures(result: dict) -> list[str]:
    """Return the names of what a restore of a node wanted to restore and could not."""
    return [one["name"] for one in result.get("left") or () if one["failed"]]


def node_of(volume: str, states: dict[str, dict]) -> str:
    """Return the node whose last run saved a volume, from the nodes' state.json. Raise ValueError with why not one."""
    having = []
    for name, state in states.items():
        groups = (state.get("last") or {}).get("groups") or []
        if any(group["name"] == f"volume:{volume}" for group in groups):
            having.append(name)
    if len(having) == 1:
        return having[0]
    if having:
        raise ValueError(f"volume {volume} is saved on {', '.join(having)}: say which with --node")
    raise ValueError(f"no node's last backup has a volume {volume}: say with --node where it was")


def preview_of(wanted: Wanted) -> Wanted:
    """Return the same restore as one that writes nothing."""
    return replace(wanted, preview=True)
