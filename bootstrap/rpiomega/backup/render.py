"""Backups in words and as JSON."""

from __future__ import annotations

import json
import time
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rpiomega.doctor.finding import Finding
from rpiomega.doctor.report import STYLES
from rpiomega.report import age, count, printable, size

AHEAD = 3600  # seconds that clocks may differ
BACKUP = "rpiomega-backup.timer"


def cells(facts: dict | None) -> tuple[str, str]:
    """Return the columns BACKUP and PROVEN of a node: ages, or what is instead of one; empty if it was not asked."""
    if not facts or "error" in facts:
        return "", ""
    state, now = facts["state"], facts["now"]
    success, proven = state.get("success"), state.get("proven")
    saved, proof = _age(success, now), _age(proven, now)
    if facts["running"] == "backup":
        saved += ", running"
    elif state.get("last") and not state["last"].get("ok"):
        saved += ", failed"
    if facts["running"] == "drill":
        proof += ", running"
    elif state.get("drill") and not state["drill"].get("ok"):
        proof += ", failed"
    return saved, proof


def _age(at: float | None, now: float) -> str:
    if not at:
        return "never"
    return "in the future" if at - now > AHEAD else age(now - at)


def node(facts: dict | None) -> dict[str, Any]:
    """Return a node's backups as JSON data; the times are seconds since 1970, None for never or unknown."""
    if not facts or "error" in facts:
        return {"known": False, "error": (facts or {}).get("error", "the node was not reached")}
    state = facts["state"]
    last, success, proven = state.get("last") or {}, state.get("success"), state.get("proven")
    groups = last.get("groups") or []
    return {
        "known": True,
        "configured": facts["configured"],
        "running": facts["running"],
        "success": success,
        "age": round(facts["now"] - success) if success else None,
        "proven": proven,
        "proven_age": round(facts["now"] - proven) if proven else None,
        "next": (facts["units"].get(BACKUP) or {}).get("next") or None,
        "bytes_added": sum(group.get("bytes_added") or 0 for group in groups),
        "bytes_total": sum(group.get("bytes_total") or 0 for group in groups),
        "last": last or None,
        "drill": state.get("drill") or None,
    }


def status(out: Console, names: list[str], facts: dict[str, dict], findings: list[Finding]) -> None:
    """Print a line for each node, then its groups and what is not saved, then what is wrong."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("NODE", "BACKUP", "PROVEN", "NEXT", "ADDED", "TOTAL", "GROUPS"):
        table.add_column(column)
    known = {name: node(facts.get(name)) for name in names}
    for name, found in known.items():
        groups = (found.get("last") or {}).get("groups") or []
        good = sum(bool(group.get("ok")) for group in groups)
        row = [size(found["bytes_added"]), size(found["bytes_total"]), f"{good}/{len(groups)}"] if groups else [""] * 3
        table.add_row(name, *cells(facts.get(name)), _when(found.get("next")), *row)
    out.print(table)
    for name, found in known.items():
        for line in lines(found.get("last") or {}):
            out.print(f"{name}: {line}", markup=False, highlight=False, soft_wrap=True)
    for found_one in findings:
        style = STYLES[found_one.severity]
        out.print(f"[{style}]{found_one.severity}[/] [bold]{found_one.node}[/]: ", end="", highlight=False)
        out.print(printable(f"{found_one.what}; {found_one.why}"), markup=False, highlight=False, soft_wrap=True)
        out.print(printable(f"  cure: {found_one.cure}"), markup=False, highlight=False, soft_wrap=True)


def lines(last: dict) -> list[str]:
    """Return a line for each group that a run saved or did not save, and for what it left out."""
    found = []
    for group in last.get("groups") or []:
        if not group.get("ok"):
            cure = f"; next: {group['cure']}" if group.get("cure") else ""
            found.append(f"{group['name']} FAILED: {group.get('cause') or 'no cause is known'}{cure}")
            continue
        paused = group.get("paused_seconds") or 0
        rest = f", paused {paused:.1f} s" if paused else ""
        added, total = size(group.get("bytes_added") or 0), size(group.get("bytes_total") or 0)
        files = count(group.get("files") or 0, "file")
        found.append(f"{group['name']} ({group.get('mode', '')}): {added} added, {total} in {files}{rest}")
    found += [f"{one['name']} is not saved: {one['why']}" for one in last.get("skipped") or []]
    return [printable(line) for line in found]


def ended(what: str, result: dict) -> str:
    """Return in one line how a run that ended well went."""
    seconds = max((result.get("ended") or 0) - (result.get("started") or 0), 0)
    if what == "drill":
        return f"proven in {seconds:.0f} s, {count(len(result.get('checks') or []), 'check')} passed"
    groups = result.get("groups") or []
    added = size(sum(group.get("bytes_added") or 0 for group in groups))
    total = size(sum(group.get("bytes_total") or 0 for group in groups))
    paused = max((group.get("paused_seconds") or 0 for group in groups), default=0)
    rest = f", longest pause {paused:.1f} s" if paused else ""
    return f"saved in {seconds:.0f} s: {count(len(groups), 'group')}, {added} added of {total}{rest}"


def _when(epoch: int | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(epoch)) if epoch else ""


def as_json(names: list[str], facts: dict[str, dict], findings: list[Finding]) -> str:
    """Return the status as one JSON document."""
    nodes = {name: node(facts.get(name)) for name in names}
    return json.dumps({"nodes": nodes, "findings": [found.as_dict() for found in findings]}, indent=2)


def snapshots(out: Console, found: dict[str, list[dict]]) -> None:
    """Print the snapshots of each node, the newest last."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("NODE", "TIME", "GROUP", "MODE", "SNAPSHOT", "RUN"):
        table.add_column(column)
    for name, listed in found.items():
        for one in sorted(listed, key=lambda snapshot: snapshot["time"]):
            # Whoever has a node's key writes tags of any text: no markup of rich, no control codes of a terminal.
            tags = [Text(printable(str(one[key]))) for key in ("group", "mode")]
            last = [Text(printable(str(text))) for text in (one["id"][:8], one["run"])]
            table.add_row(name, _local(one["time"]), *tags, *last)
    out.print(table)
    if not any(found.values()):
        out.print("no snapshots", highlight=False)


def _local(epoch: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(epoch))
