"""A backup or a drill on one node: start its unit, follow it to its end, read its result.

The run belongs to the node's systemd. A connection that is lost ends nothing: it is opened again, and a second
command follows the same run.
"""

from __future__ import annotations

from rpiomega import agent, reach
from rpiomega.backup.following import follow
from rpiomega.bulk import Row
from rpiomega.doctor.backup import failure, next_step
from rpiomega.errors import NodeError
from rpiomega.node import job_steps
from rpiomega.node.backup import UNITS
from rpiomega.report import printable
from rpiomega.site import Site
from rpiomega.ssh import Pool


def run(pool: Pool, site: Site, row: Row, what: str, wait: float) -> dict:
    """Start a backup or a drill on a node, or attach to the one that runs; return its result (see state.json).

    :param what: ``backup`` or ``drill``
    :param wait: seconds to wait for SSH, also after a connection was lost
    :raises NodeError: it failed or ended without a result; SshError, Stopped
    """
    row.start("ssh")
    remote = reach.board(pool, site, site.nodes[row.name], row.log)
    remote.connect(wait)
    started = agent.run(remote, [job_steps.BackupStart(what)], row.event)["backup_start"]["data"]
    if started["attached"]:
        row.notes.append(f"a {what} was running already: this is its result")
    data = follow(remote, job_steps.BackupFollow(what, started["before"]), row, "run", wait)
    judge(row.name, what, data)
    return data["result"]


def judge(name: str, what: str, data: dict) -> None:
    """Raise NodeError if a run that was followed (see step `backup_follow`) did not end well."""
    result, unit = data["result"], f"{UNITS[what]}.service"
    look = f"on {name}: sudo journalctl -u {unit} -n 50"
    if result is None:
        said = data["journal"] or "its journal is empty"
        ended = data["unit"].get("result") or "unknown"
        raise NodeError(printable(f"{unit} ended ({ended}) without a result: {said}"), look, what)
    if not result.get("ok"):
        raise NodeError(printable(why(what, result)), printable(next_step(result)) or _cure(name, what, look), what)


def why(what: str, result: dict) -> str:
    """Return in one line why a run or a drill failed."""
    if what == "backup":
        return failure(result)
    checks = [f"{one['name']}: {one.get('cause', '')}" for one in result.get("checks", []) if not one.get("ok")]
    return result.get("cause") or "; ".join(checks) or "no cause is known"


def _cure(name: str, what: str, look: str) -> str:
    if what == "drill":
        return f"rpiomega backup now {name}, then rpiomega backup drill {name}; else docs/backup.md, When a drill fails"
    return look
