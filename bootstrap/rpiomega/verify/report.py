"""What the checks found, in words and as JSON."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict

from rich.console import Console

from rpiomega.verify.checks import Check, Found


def text(out: Console, found: dict[str, Found], verbose: bool = False) -> None:
    """Print a line per node, under it what does not hold, why, and the cure."""

    def line(words: str, style: str | None = None) -> None:
        out.print(words, style=style, markup=False, highlight=False, soft_wrap=True)

    for name, node in found.items():
        out.print(f"[bold]{name}[/]: ", end="", highlight=False)
        if node.error:
            line(f"FAILED: {node.error.cause}", "red")
            line(f"  cure: {node.error.cure}")
            continue
        counts = Counter(check.result for check in node.checks)
        numbers = f"{counts['ok']} checks passed, {counts['failed']} failed, {counts['skipped']} not for this node"
        line(f"{'ok' if node.ok else 'FAILED'}: {numbers}", "green" if node.ok else "red")
        for check in node.failed:
            line(f"  failed: {check.state}: {check.promise}")
            line(f"    cause: {check.cause}")
            line(f"    cure:  {check.cure}")
        for check in node.checks if verbose else []:
            if check.result != "failed":
                why = f" ({check.cause})" if check.cause else ""
                line(f"  {check.result}: {check.state}: {check.promise}{why}")


def as_json(found: dict[str, Found]) -> str:
    """Return everything as one JSON document: ``ok``, and per node ``ok``, ``error`` and ``checks``."""
    nodes = {
        name: {
            "ok": node.ok,
            "error": {"cause": node.error.cause, "cure": node.error.cure} if node.error else None,
            "checks": [asdict(check) for check in node.checks],
        }
        for name, node in found.items()
    }
    return json.dumps({"ok": all(node.ok for node in found.values()), "nodes": nodes}, indent=2)


def table(checks: list[Check]) -> str:
    """Return all checks as a table in Markdown: state, what is checked, the test, what to do if it fails."""
    rows = ["| state | what is checked | test | when it fails |", "|---|---|---|---|"]
    for check in checks:
        cure = check.cure.replace("{node}", "NODE")
        rows.append(f"| `{check.state}` | {check.promise} | `test_{check.state}.py` `{check.check}` | {cure} |")
    return "\n".join(rows)
