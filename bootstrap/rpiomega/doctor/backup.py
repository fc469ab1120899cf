"""Backups of one node: made, young enough, proven by a drill, and the timers that make them. Pure."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace

from rpiomega.doctor.finding import Finding
from rpiomega.report import age, printable
from rpiomega.site import Site

HOUR, DAY = 3600, 86400
# Days between two drills; a proof that is older than two of them is a finding.
PERIODS = {"weekly": 7, "monthly": 31}
APPLY = "on the master: sudo salt '{name}' state.apply"
TIMERS = {
    "rpiomega-backup.timer": "no backup is made unless you start one",
    "rpiomega-backup-drill.timer": "nothing shows that the backups can be restored",
    "rpiomega-backup-forget.timer": "old snapshots are kept for ever, and cost money",
}


def check(name: str, facts: dict, site: Site) -> Iterator[Finding]:
    """Yield what is wrong with the backups of a node, in lines that any terminal can print.

    :param facts: see rpiomega.node.backup.read; empty if the node was not asked
    """
    for one in _all(name, facts, site):
        yield replace(one, what=printable(one.what), cure=printable(one.cure))


def _all(name: str, facts: dict, site: Site) -> Iterator[Finding]:
    if not site.backup.bucket or not facts:
        return
    problem = facts.get("error") or facts["problem"]
    if problem:
        cure = f"on {name}: delete the file if it is damaged, then from here: rpiomega backup now {name}"
        why = "what cannot be read is not known to be saved"
        yield Finding(name, "backup", "error", f"the state of its backups cannot be read: {problem}", why, cure)
        return
    if not facts["configured"]:
        what, why = "backups are not set up on this node", "nothing of it is saved"
        yield Finding(name, "backup", "error", what, why, APPLY.format(name=name))
        return
    yield from _timers(name, facts, site)
    yield from _saved(name, facts, site)
    yield from _proven(name, facts, site)
    yield from _kit(name, facts)


def _timers(name: str, facts: dict, site: Site) -> Iterator[Finding]:
    for timer, why in TIMERS.items():
        if "forget" in timer and name != site.master.name or "drill" in timer and not period(site):
            continue
        seen = facts["units"].get(timer)
        if not seen or seen["active"] == "active":
            continue
        there = seen["load"] != "not-found"
        cure = f"on {name}: sudo systemctl enable --now {timer}" if there else APPLY.format(name=name)
        what = f"{timer} is {seen['active'] if there else 'not installed'}"
        yield Finding(name, "backup-timer", "error", what, why, cure)


def _saved(name: str, facts: dict, site: Site) -> Iterator[Finding]:
    last, success = facts["state"].get("last") or {}, facts["state"].get("success")
    failed = bool(last) and not last.get("ok")
    again = f"rpiomega backup now {name}"
    cause = failure(last)
    cure = f"{next_step(last)}; then {again}" if failed and next_step(last) else again
    seconds = facts["now"] - success if success else 0
    if seconds < -HOUR:
        yield _future(name, "backup-age", "the newest backup", success, again)
        return
    late = bool(success) and seconds > site.backup.max_age * HOUR
    if success and not late:
        if failed:
            what = f"the last backup failed: {cause}"
            why = f"the newest good one is {age(seconds)} old; it becomes an error after {site.backup.max_age} h"
            yield Finding(name, "backup-failed", "warning", what, why, cure)
        return
    if facts["running"] == "backup" and not failed:
        what = "the first backup is running" if not success else f"the last good backup is {age(seconds)} old"
        yield Finding(name, "backup-running", "note", what, "a new one is being made", f"{again} shows how far it is")
        return
    what = f"the last good backup is {age(seconds)} old" if success else "never backed up"
    why = f"what was written since is lost with the card (at most {site.backup.max_age} h are allowed: backup.max_age)"
    why = why if success else "all that is on it is lost with its card"
    what = f"{what}; the last run failed: {cause}" if failed else what
    yield Finding(name, "backup-age" if success else "backup-never", "error", what, why, cure)


def _future(name: str, check: str, what: str, seconds: float, again: str) -> Finding:
    date = time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
    why = "the node's clock was or is wrong, and until then nothing would be reported as too old"
    return Finding(
        name, check, "error", f"{what} is dated in the future ({date})", why, f"rpiomega doctor {name}, then {again}"
    )


def failure(last: dict) -> str:
    """Return in one line why a run failed: its own cause, else those of its groups."""
    groups = [f"{group['name']}: {group.get('cause', '')}" for group in last.get("groups", []) if not group.get("ok")]
    return last.get("cause") or "; ".join(groups) or "no cause is known"


def next_step(last: dict) -> str:
    """Return what to do about a run that failed, as the run itself says: for all of it, else for its first group."""
    groups = [group["cure"] for group in last.get("groups", []) if not group.get("ok") and group.get("cure")]
    return last.get("cure") or (groups[0] if groups else "")


def period(site: Site) -> int:
    """Return the days between two drills, 0 if they are off."""
    return PERIODS.get(site.backup.drill.every, 0)


def _proven(name: str, facts: dict, site: Site) -> Iterator[Finding]:
    state, days = facts["state"], period(site)
    drill, proven = state.get("drill") or {}, state.get("proven")
    again = f"rpiomega backup drill {name}"
    if drill and not drill.get("ok"):
        broken = [f"{one['name']}: {one.get('cause', '')}" for one in drill.get("checks", []) if not one.get("ok")]
        said = drill.get("cause") or "; ".join(broken) or "no cause is known"
        why = "a restore from these backups may fail too"
        cure = f"rpiomega backup now {name}, then {again}; if it fails again: docs/backup.md, When a drill fails"
        yield Finding(name, "drill-failed", "error", f"the last drill failed: {said}", why, cure)
    elif proven and facts["now"] - proven < -HOUR:
        yield _future(name, "drill-age", "the last proof", proven, again)
    elif state.get("success") and days and not proven:
        why = "a backup that was never restored is a hope"
        yield Finding(name, "drill-never", "warning", "never proven by a drill", why, again)
    elif days and proven and facts["now"] - proven > 2 * days * DAY:
        what = f"the last proof is {age(facts['now'] - proven)} old, drills are {site.backup.drill.every}"
        yield Finding(name, "drill-age", "warning", what, "what was saved since was never restored", again)


def _kit(name: str, facts: dict) -> Iterator[Finding]:
    kit = facts.get("kit")
    if kit is None:
        return
    cure = "rpiomega backup kit, print it, then: rpiomega backup kit --check FILE"
    if kit["problem"]:
        why = "nodes without their key are not saved, and no kit can be made"
        yield Finding(name, "backup-kit", "error", kit["problem"], why, "rpiomega backup init")
    elif not kit["checked"]:
        why = "without it, the backups are lost together with the master"
        yield Finding(name, "backup-kit", "warning", "the recovery kit was never checked", why, cure)
    elif kit["stale"]:
        what = "the recovery kit is stale: what it shows has changed since it was checked"
        yield Finding(name, "backup-kit", "warning", what, "the printed one may not open all backups", cure)
