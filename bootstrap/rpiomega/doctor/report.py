"""The doctor's words."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

from rich.console import Console

from rpiomega.doctor.finding import Finding
from rpiomega.doctor.ports import explain
from rpiomega.report import count

STYLES = {"error": "bold red", "warning": "yellow", "note": "dim"}


def text(out: Console, findings: list[Finding], nodes: int, seconds: float) -> None:
    """Print findings that say the same of several nodes once, and a last line with the numbers."""
    groups: dict[tuple, list[str]] = {}
    for found in findings:
        cure = found.cure.replace(found.node, "NODE")
        groups.setdefault((found.severity, found.check, found.what, found.why, cure), []).append(found.node)
    for (severity, check, what, why, cure), names in groups.items():
        out.print(f"[{STYLES[severity]}]{severity}[/] [bold]{', '.join(names)}[/]: {check}: ", end="", highlight=False)
        out.print(what, markup=False, highlight=False, soft_wrap=True)
        out.print(f"  why:  {why}", markup=False, highlight=False, soft_wrap=True)
        out.print(f"  cure: {cure.replace('NODE', ' '.join(names))}", markup=False, highlight=False, soft_wrap=True)
    counted = Counter(found.severity for found in findings)
    numbers = ", ".join(count(counted[name], name) for name in STYLES if counted[name])
    out.print(f"{count(nodes, 'node')} examined in {seconds:.1f} s: {numbers or 'nothing found'}", highlight=False)


def as_json(findings: list[Finding], doctor: Any, fixed: dict, seconds: float) -> str:
    """Return everything as one JSON document: findings, facts and port tries per node, what was fixed."""
    return json.dumps(
        {
            "findings": [found.as_dict() for found in findings],
            "facts": doctor.facts,
            "ports": {node: [_judged(node, one, doctor) for one in tries] for node, tries in doctor.tried.items()},
            "fixed": fixed,
            "seconds": round(seconds, 1),
        },
        indent=2,
    )


def _judged(node: str, one: dict, doctor: Any) -> dict:
    """Return a port try with ``blocked``: why it counts as blocked, empty if it does not."""
    target, sender = doctor.listened[one["to"]], doctor.listened[node]
    return {**one, "blocked": explain(one, node, doctor.held.get(one["to"]), target, sender)}
