"""What must differ, or agree, between the nodes."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator

from rpiomega.doctor.finding import Finding
from rpiomega.site import Site

SPREAD = 2.0  # seconds between two clocks


def check(site: Site, facts: dict[str, dict]) -> Iterator[Finding]:
    """Judge all examined nodes together; `facts` is node -> its facts."""
    yield from _names(facts)
    yield from _same(
        facts,
        "machine-id",
        lambda found: {"": found["identity"]["machine_id"]},
        "DHCP, logs and network addresses derived from it mix the nodes up",
    )
    yield from _same(
        facts,
        "host-key",
        lambda found: found["identity"]["host_keys"],
        "a person with one of the cards can pose as the other node",
    )
    yield from _clocks(facts)
    yield from _swarms(facts)


def _names(facts: dict[str, dict]) -> Iterator[Finding]:
    held = defaultdict(list)
    for node, found in facts.items():
        held[found["identity"]["hostname"]].append(node)
        name, written = found["identity"]["hostname"], found["identity"]["written"]
        if name != node:
            yield Finding(
                node,
                "hostname",
                "error",
                f"is called {name}",
                "swarm, Consul and Salt know the nodes by their names",
                f"rpiomega bootstrap {node}",
            )
        elif written != node:
            yield Finding(
                node,
                "hostname",
                "error",
                f"/etc/hostname says {written or 'nothing'}",
                "the next boot brings that name back",
                f"rpiomega bootstrap {node}",
            )
    for name, nodes in held.items():
        if len(nodes) > 1:
            for node in nodes:
                others = ", ".join(other for other in nodes if other != node)
                yield Finding(
                    node,
                    "unique-name",
                    "error",
                    f"has the name {name}, as {others}",
                    "joins fail in silence when two nodes have one name",
                    f"rpiomega bootstrap {node}",
                )


def _same(facts: dict[str, dict], check: str, values: Callable, why: str) -> Iterator[Finding]:
    held = defaultdict(set)
    for node, found in facts.items():
        for value in filter(None, values(found).values()):
            held[value].add(node)
    # Three keys shared by the same nodes are one cloned card.
    groups = {frozenset(nodes) for nodes in held.values() if len(nodes) > 1}
    for nodes in groups:
        for node in nodes:
            others = ", ".join(sorted(nodes - {node}))
            yield Finding(
                node, check, "error", f"has the same {check} as {others}", why, _clone_cure(node, facts[node])
            )
    for node, found in facts.items():
        if not any(values(found).values()):
            yield Finding(node, check, "error", f"has no {check}", why, f"rpiomega bootstrap {node}")


def _clone_cure(node: str, found: dict) -> str:
    if found["docker"]["swarm"].get("state", "inactive") != "inactive":
        return f"rpiomega bootstrap {node}   (asks for --renew-identity: the node is in a swarm)"
    return f"rpiomega bootstrap {node}   (makes new ones on the cloned card)"


def _clocks(facts: dict[str, dict]) -> Iterator[Finding]:
    offsets = {node: found["clock"]["offset"] for node, found in facts.items()}
    if len(offsets) < 2 or max(offsets.values()) - min(offsets.values()) <= SPREAD:
        return
    early, late = min(offsets, key=offsets.__getitem__), max(offsets, key=offsets.__getitem__)
    apart = offsets[late] - offsets[early]
    yield Finding(
        late,
        "clock-spread",
        "error" if apart > 60 else "warning",
        f"is {apart:.0f} s ahead of {early}",
        "sessions, certificates and logs need one time",
        f"rpiomega doctor {early} {late} --fix",
    )


def _swarms(facts: dict[str, dict]) -> Iterator[Finding]:
    """Members of two swarms on one site; workers do not tell their cluster's ID."""
    held = {node: found["docker"]["swarm"].get("cluster", "") for node, found in facts.items()}
    clusters = sorted(set(filter(None, held.values())))
    if len(clusters) > 1:
        for node, cluster in held.items():
            if cluster:
                yield Finding(
                    node,
                    "two-swarms",
                    "error",
                    f"is in swarm {cluster}; the site has {len(clusters)}",
                    "their services and networks know nothing of each other",
                    "decide which one stays; on the others' managers: docker swarm leave --force",
                )
