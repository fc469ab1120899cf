"""The picture in words and as JSON."""

from __future__ import annotations

import json

from rich.console import Console
from rich.table import Table

from rpiomega.backup import render as backup
from rpiomega.doctor.finding import Finding
from rpiomega.doctor.report import STYLES
from rpiomega.status.picture import Picture, Quorum


def rows(picture: Picture) -> list[dict]:
    """Return one dict per node of the site: name, address, roles, swarm, consul, docker, b2, containers.

    With `backup` and `proven` where the site has backups.
    """
    found = []
    for name, node in picture.site.nodes.items():
        fact = picture.facts.get(name)
        swarm = fact["swarm"] if fact else {}
        found.append(
            {
                "name": name,
                "address": node.address,
                "roles": node.roles,
                "swarm": _swarm(picture, name, swarm),
                "consul": _consul(picture, name),
                "docker": swarm.get("version", ""),
                "b2": fact.get("b2", "") if fact else "",
                "containers": swarm.get("running", 0),
                **_backup(picture, fact),
            }
        )
    return found


def _backup(picture: Picture, fact: dict | None) -> dict[str, str]:
    if not picture.site.backup.bucket:
        return {}
    return dict(zip(("backup", "proven"), backup.cells((fact or {}).get("backup")), strict=True))


def _swarm(picture: Picture, name: str, swarm: dict) -> str:
    if not swarm:
        known = (one for one in picture.swarm_nodes if one["name"] == name and not one["is_former"])
        entry = next(known, None)
        return entry["state"] if entry else "unknown"
    if swarm["state"] != "active":
        return swarm["state"] or "no engine"
    if picture.unlisted(name):
        return "not in the node list"
    role = "manager" if swarm["manager"] else "worker"
    return f"{role}, leader" if name == picture.swarm_leader else role


def _consul(picture: Picture, name: str) -> str:
    member = picture.members.get(name)
    if not member:
        return "absent" if name in picture.facts or picture.members else "unknown"
    kind = "leader" if name == picture.consul_leader else "server" if member["server"] else "client"
    return f"{member['state']}, {kind}"


def text(out: Console, picture: Picture, findings: list[Finding]) -> None:
    """Print the table, the two quorums, and each finding with its cure."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    saved = ("BACKUP", "PROVEN") if picture.site.backup.bucket else ()
    for column in ("NODE", "ADDRESS", "ROLES", "SWARM", "CONSUL", "DOCKER", "B2", "CONTAINERS", *saved):
        table.add_column(column)
    for row in rows(picture):
        table.add_row(
            row["name"],
            row["address"],
            ",".join(row["roles"]),
            row["swarm"],
            row["consul"],
            row["docker"],
            row["b2"],
            str(row["containers"] or ""),
            *(row[column.lower()] for column in saved),
        )
    out.print(table)
    swarm = f"swarm {picture.cluster_id}".strip()
    out.print(f"{swarm}: {_words(picture, picture.swarm, picture.swarm_leader)}", highlight=False)
    stale = " (stale: what the agents remember)" if picture.consul_stale else ""
    out.print(f"Consul: {_words(picture, picture.consul, picture.consul_leader)}{stale}", highlight=False)
    for found in findings:
        out.print(f"[{STYLES[found.severity]}]{found.severity}[/] [bold]{found.node}[/]: ", end="", highlight=False)
        out.print(f"{found.what}; {found.why}", markup=False, highlight=False, soft_wrap=True)
        out.print(f"  cure: {found.cure}", markup=False, highlight=False, soft_wrap=True)


def _words(picture: Picture, quorum: Quorum, leader: str) -> str:
    if not quorum.total:
        return "not there yet" if picture.facts else "unknown, no node was reached"
    state = f"leader {leader}" if leader else "no leader"
    return f"{state}, {quorum.up} of {quorum.total} voters answer, {quorum.to_lose} more may fail"


def as_json(picture: Picture, findings: list[Finding]) -> str:
    """Return everything as one JSON document."""

    def quorum(found: Quorum, leader: str) -> dict:
        words = {"leader": leader, "voters": found.total, "up": found.up, "to_lose": found.to_lose}
        return {**words, "quorum": bool(found.holds and leader)}

    return json.dumps(
        {
            "nodes": rows(picture),
            "swarm": {"cluster_id": picture.cluster_id, **quorum(picture.swarm, picture.swarm_leader)},
            "consul": {"stale": picture.consul_stale, **quorum(picture.consul, picture.consul_leader)},
            "findings": [found.as_dict() for found in findings],
        },
        indent=2,
    )
