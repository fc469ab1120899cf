"""From facts to findings: pure, so a report can be made from a saved set of facts as well."""

from __future__ import annotations

from collections.abc import Iterator

from rpiomega.doctor import backup, cluster, network, power, software, system
from rpiomega.doctor.finding import Finding
from rpiomega.site import Node, Site

READERS = ("identity", "boot", "power", "storage", "clock", "sources", "kernel", "docker", "leftovers")


def judge(site: Site, facts: dict[str, dict]) -> list[Finding]:
    """Given the facts of the examined nodes (node -> facts), return what is wrong, in no order."""
    found = []
    whole = {}
    for name, values in facts.items():
        broken = [reader for reader in READERS if "error" in values[reader]]
        for reader in broken:
            found.append(
                Finding(
                    name,
                    "examine",
                    "error",
                    f"{reader} could not be read: {values[reader]['error']}",
                    "what cannot be read is not known to be well",
                    f"see the log of {name}",
                )
            )
        if not broken:
            whole[name] = values
            found += one(site.nodes[name], values, site)
    return found + list(cluster.check(site, whole))


def one(node: Node, facts: dict, site: Site) -> Iterator[Finding]:
    """Yield what is wrong with one node by itself."""
    name, swarm = node.name, site.swarm.enabled
    yield from system.cmdline(name, facts)
    yield from system.memory_cgroup(name, facts)
    yield from system.userland(name, facts)
    yield from system.memory(name, facts, "manager" in node.roles or "master" in node.roles)
    yield from system.clock(name, facts)
    yield from system.storage(name, facts)
    yield from power.check(name, facts)
    yield from network.address(node, facts, site)
    yield from network.sources(name, facts)
    yield from network.kernel(name, facts, swarm)
    yield from software.docker(name, facts, swarm)
    yield from software.salt(node, facts, site)
    yield from software.leftovers(node, facts, site)
    yield from backup.check(name, facts.get("backup", {}), site)
