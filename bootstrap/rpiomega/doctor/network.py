"""What one board needs from the network and from the kernel's networking."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

from rpiomega.doctor.finding import Finding
from rpiomega.site import Node, Site

# Docker's default pool of swarm networks (docs.docker.com/engine/swarm/networking).
SWARM_POOL = ipaddress.ip_network("10.0.0.0/8")


def address(node: Node, facts: dict, site: Site) -> Iterator[Finding]:
    """The board has the address of the site file, in a network that clashes with none of the swarm's."""
    held = {item["address"]: item for item in facts["identity"]["addresses"]}
    if node.address not in held:
        yield Finding(
            node.name,
            "address",
            "warning",
            f"has {', '.join(held) or 'no address'}, the site file says {node.address}",
            "the other nodes look for it at the address of the site file",
            f"rpiomega bootstrap {node.name}   (or correct the address in the site file)",
        )
    elif held[node.address]["dynamic"] and site.network.manage:
        yield Finding(
            node.name,
            "address",
            "warning",
            f"{node.address} comes from DHCP",
            "a manager whose address changes is lost to the swarm",
            f"rpiomega bootstrap {node.name}   (or reserve it in the router)",
        )
    if site.swarm.enabled and ipaddress.ip_address(node.address) in ipaddress.ip_network("10.0.0.0/16"):
        yield Finding(
            node.name,
            "subnet",
            "warning",
            f"{node.address} lies in the swarm's default pool {SWARM_POOL}",
            "overlay networks take 10.0.x.0/24 and may hide the nodes from each other",
            "use another subnet, or set swarm.default_addr_pool in the site file before the swarm is initialised",
        )


def sources(node: str, facts: dict) -> Iterator[Finding]:
    """Names resolve, package sources answer."""
    found = facts["sources"]
    failed = {host: said[7:] for host, said in found["dns"].items() if said.startswith("error: ")}
    servers = ", ".join(found["nameservers"]) or "none"
    if failed:
        host, said = next(iter(failed.items()))
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        yield Finding(
            node,
            "dns",
            "error",
            f"{host}{more} does not resolve: {said} (name servers: {servers})",
            "packages and images cannot be fetched",
            f"set `network.dns` in the site file to a server that answers; try `getent hosts {host}` on the board",
        )
    by_proxy = f" through {found['proxy']}" if found["proxy"] else ""
    for url, said in found["apt"].items():
        # One cause, one finding: without DNS no source answers.
        if said and not any(f"//{host}" in url for host in failed) and not (failed and found["proxy"]):
            yield Finding(
                node,
                "package-source",
                "error",
                f"{url} does not answer{by_proxy}: {said}",
                "packages cannot be installed or updated",
                _source_cure(said, found["proxy"]),
            )


def _source_cure(said: str, proxy: str) -> str:
    if said.startswith("certificate"):
        return "check the clock; behind an inspecting proxy, name its certificate in sources.ca_bundle of the site file"
    if said.startswith("HTTP 4"):
        return "the source has no such release: correct or remove it in /etc/apt/sources.list.d"
    return f"check that {proxy} runs (sources.apt_proxy)" if proxy else "check the route and the firewall to it"


def kernel(node: str, facts: dict, swarm: bool) -> Iterator[Finding]:
    """VXLAN, iptables and IPVS work where a swarm needs them."""
    if not swarm:
        return
    found = facts["kernel"]
    if found["vxlan"]["works"] is False:
        yield Finding(
            node,
            "vxlan",
            "error",
            f"VXLAN devices cannot be made: {found['vxlan']['said']}",
            "overlay networks need them",
            "sudo modprobe vxlan   - if that fails: sudo apt-get install linux-modules-extra-raspi (Ubuntu), "
            "or a kernel with CONFIG_VXLAN",
            fix="modules",
        )
    yield from _iptables(node, found)
    if found["ipvs"] is False or (found["ipvs"] is None and facts["boot"]["container"]):
        unsure = "" if found["ipvs"] is False else ", as far as can be seen from a container"
        yield Finding(
            node,
            "ipvs",
            "note" if unsure else "warning",
            f"the kernel has no IPVS{unsure}",
            "a service's virtual IP and the ingress mesh do not work; host-mode ports and dnsrr do",
            "use a kernel with CONFIG_IP_VS, or `endpoint_mode: dnsrr` and host-mode ports",
        )


def _iptables(node: str, found: dict) -> Iterator[Finding]:
    tables = found["iptables"]
    if not tables["version"]:
        yield Finding(
            node,
            "iptables",
            "note",
            "there is no iptables command",
            "Docker publishes ports with it",
            "comes with Docker's package: nothing to do before",
        )
    elif tables["nat"] is False:
        yield Finding(
            node,
            "iptables",
            "error",
            f"{tables['version']}: the nat table does not work: {tables['said']}",
            "Docker cannot start its networks",
            "sudo update-alternatives --set iptables /usr/sbin/iptables-nft (or -legacy); "
            "after a kernel update, reboot first",
        )
    if tables["backend"] == "nf_tables" and found["legacy_rules"]:
        yield Finding(
            node,
            "iptables",
            "warning",
            f"{found['legacy_rules']} rules stand in the old tables, while iptables is {tables['version']}",
            "two rule sets filter one after the other; rules you do not see drop packets",
            "sudo iptables-legacy-save   - then flush them, or set one backend for all",
        )
