"""The one thing that a node does next."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Step:
    """kind: one of omega.swarm.member.plan's ACTS or WAITS, "done" or "refuse". reason: one clause for the reader."""

    kind: str
    reason: str
    names: tuple = ()
