"""Which node must reach which port of which other node, and what the tries say.

Ports: docs.saltproject.io (4505, 4506), docs.docker.com/engine/swarm/swarm-tutorial (2377, 7946, 4789),
developer.hashicorp.com/consul/docs/install/ports (8300 to 8302).
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from dataclasses import dataclass

from rpiomega.doctor.finding import Finding
from rpiomega.site import Site

SERVERS = 3
_WHY = {
    4505: "Salt's master cannot send jobs",
    4506: "minions cannot answer Salt's master",
    2377: "nodes cannot join or be managed",
    7946: "swarm nodes do not find each other's containers",
    4789: "overlay networks carry nothing between these nodes",
    8300: "Consul's agents cannot ask the servers",
    8301: "Consul takes the node for dead",
    8302: "Consul's servers do not see each other across sites",
}


@dataclass(frozen=True)
class Need:
    """`source` must reach `protocol`/`port` of `target`; both are node names."""

    source: str
    target: str
    protocol: str
    port: int


def needs(site: Site) -> list[Need]:
    """Return every connection the site's roles ask for."""
    names, master = list(site.nodes), site.master.name
    found = [Need(name, master, "tcp", port) for name in names for port in (4505, 4506)]
    servers = consul_servers(site)
    for source in names:
        found += [Need(source, server, "tcp", 8300) for server in servers]
        found += [Need(source, other, protocol, 8301) for other in names for protocol in ("tcp", "udp")]
        if source in servers:
            found += [Need(source, server, protocol, 8302) for server in servers for protocol in ("tcp", "udp")]
        if site.swarm.enabled:
            found += [Need(source, manager.name, "tcp", 2377) for manager in site.managers]
            for other in names:
                found += [Need(source, other, *port) for port in (("tcp", 7946), ("udp", 7946), ("udp", 4789))]
    return [need for need in found if need.source != need.target]


def consul_servers(site: Site) -> list[str]:
    """Return the nodes that carry a Consul server: the master alone below three managers, else three of them."""
    managers, master = [node.name for node in site.managers], site.master.name
    if len(managers) < SERVERS:
        return [master]
    return ([master] + [name for name in managers if name != master])[:SERVERS]


def listening(site: Site, node: str) -> list[tuple[str, int]]:
    """Return the ports of a node others must reach."""
    return sorted({(need.protocol, need.port) for need in needs(site) if need.target == node})


def judge(tried: dict[str, list[dict]], held: dict[str, dict], listened: dict[str, dict]) -> Iterator[Finding]:
    """Given the tries of each node, what `hold` saw and what `listen` opened on each, yield what is blocked."""
    for source, results in tried.items():
        for result in results:
            said = explain(result, source, held.get(result["to"]), listened[result["to"]], listened[source])
            if said:
                port, protocol = result["port"], result["protocol"]
                yield Finding(
                    source,
                    "port",
                    "error",
                    f"cannot reach {result['to']} at {port}/{protocol}: {said}",
                    _WHY[port],
                    _cure(result, said, source),
                )
    for node, listen in listened.items():
        for protocol, port, why in listen["problems"]:
            yield Finding(
                node,
                "port",
                "warning",
                f"{port}/{protocol} could not be tested here: {why}",
                _WHY[port],
                f"`ss -lnp | grep :{port}` on the board",
            )


def explain(result: dict, source: str, held: dict | None, target: dict, sender: dict) -> str:
    """Return why a try counts as blocked, an empty string if it does not."""
    said, busy = result["result"], result.get("busy", False)
    if said == "open":
        return ""
    if said == "refused":
        return "refused: a firewall rejects it"
    if said == os.strerror(errno.EPERM):
        return f"{source}'s own firewall drops it on the way out"
    if said != "silent":
        return said
    if result["protocol"] == "tcp" or not busy:
        return "no answer: a firewall drops it"
    # UDP to the real service, which does not answer unknown senders: what did the target see of our packet?
    if held is None:
        return ""
    own = {item["address"] for item in sender["addresses"]}
    arrived = _holds(held["seen"], own, result)
    if not arrived:
        return "it does not arrive: something between the two, or the sender's firewall, drops it"
    if held["passed"] is not None and not _holds(held["passed"], own, result):
        return f"it arrives, and the firewall of {result['to']} drops it"
    return ""


def _holds(flows: list, own: set[str], result: dict) -> bool:
    return any(source in own and [sport, port] == [result["sport"], result["port"]] for source, sport, port in flows)


def _cure(result: dict, said: str, source: str) -> str:
    port, protocol, to = result["port"], result["protocol"], result["to"]
    if "own firewall" in said:
        return f"on {source}: find the rule of the OUTPUT chain with `sudo iptables -S OUTPUT; sudo nft list ruleset`"
    if "host" in said.lower() or "network is" in said.lower():
        return f"check the route from here to {result['address']}: `ping {result['address']}`, `ip route`"
    return f"on {to}: sudo ufw allow {port}/{protocol}, or find the rule with `sudo iptables -S; sudo nft list ruleset`"
