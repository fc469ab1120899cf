"""What the doctor says."""

from __future__ import annotations

from dataclasses import asdict, dataclass

# Worst first. Only errors make the command fail (with --strict, warnings as well).
SEVERITIES = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One thing found: `check` is its stable name, `what` is the fact, `why` it matters, `cure` the command or act.

    `fix` names the node step that cures it safely; empty where a person must decide.
    """

    node: str
    check: str
    severity: str
    what: str
    why: str
    cure: str
    fix: str = ""

    def as_dict(self) -> dict:
        """Return it as JSON data."""
        return asdict(self)


def ordered(findings: list[Finding]) -> list[Finding]:
    """Return findings, the worst first, then by node and check."""
    return sorted(findings, key=lambda found: (SEVERITIES.index(found.severity), found.node, found.check))
