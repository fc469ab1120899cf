"""Rules that span several keys of the site file. Each yields problems and looks at nothing but its arguments."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from pathlib import Path

from rpiomega.site import checks_backup
from rpiomega.site.errors import Problem
from rpiomega.site.schema import Site

MINUTES_OF_A_DAY = 24 * 60
# this network, multicast and reserved: RFC 6890
NO_BOARDS = [ipaddress.ip_network(text) for text in ("0.0.0.0/8", "224.0.0.0/3")]
PACKAGES_PORT = 3142  # cache.packages_port of salt/rpiomega/defaults.yaml


def problems(site: Site, base: Path) -> Iterator[Problem]:
    """Yield what is wrong with a site whose single values are all right; `base` is the folder of its file."""
    yield from _roles(site)
    yield from _addresses(site)
    yield from _files(site, base)
    yield from _upkeep(site)
    yield from checks_backup.problems(site)
    if any("master" in node.roles for node in site.nodes.values()):
        yield from _b2(site)
        yield from _cache(site)


def warnings(site: Site) -> list[str]:
    """Return remarks on a valid site that will surprise its owner later."""
    return [*_managers(site), *checks_backup.warnings(site)]


def _managers(site: Site) -> Iterator[str]:
    count = len(site.managers)
    if site.swarm.enabled and count % 2 == 0:
        yield f"{count} managers survive no more failures than {count - 1}: choose 3 or 5 (1 for two nodes)"
    elif site.swarm.enabled and count > 7:
        yield f"{count} managers slow every change down: 3 or 5 are enough, at most 7"


def _same(host: str) -> str:
    """Return a host's name or address in the one way that all its spellings share (RFC 4343, RFC 5952)."""
    address, _, zone = host.partition("%")
    try:
        return ipaddress.ip_address(address).compressed + (f"%{zone}" if zone else "")
    except ValueError:
        return host.lower().rstrip(".")


def _roles(site: Site) -> Iterator[Problem]:
    masters = [name for name, node in site.nodes.items() if "master" in node.roles]
    if not masters:
        yield Problem(("nodes",), "no node has the role master", "give it to exactly one node")
    for name in masters[1:]:
        cause = f"a second master ({masters[0]} is one already)"
        yield Problem(("nodes", name, "roles"), cause, "give the role to exactly one node")
    for name, node in site.nodes.items():
        key = ("nodes", name, "roles")
        if {"manager", "worker"} <= set(node.roles):
            yield Problem(key, "manager and worker exclude each other", "keep one of them")
        elif not {"manager", "worker"} & set(node.roles):
            yield Problem(key, "neither manager nor worker", "add one of them")
        if len(set(node.roles)) < len(node.roles):
            yield Problem(key, "a role is there twice", "keep it once")
    if not site.managers:
        yield Problem(("nodes",), "no node has the role manager", "a swarm needs one, better three")


def _addresses(site: Site) -> Iterator[Problem]:
    owners: dict[str, str] = {}
    hosts: dict[str, str] = {}
    first = next(iter(site.nodes.values()))
    network = ipaddress.ip_interface(f"{first.address}/{site.network.prefix}").network
    span = f"{network} holds {network[1]} to {network[-2]}"
    for name, node in site.nodes.items():
        if name == "localhost":
            yield Problem(("nodes", name), "every board calls itself localhost", "give it a name of its own")
        key = ("nodes", name, "address")
        address = ipaddress.ip_address(node.address)
        if node.address in owners:
            yield Problem(key, f"{node.address} is the address of {owners[node.address]} too", "give each node its own")
        elif node.address == site.network.gateway:
            yield Problem(key, f"{node.address} is network.gateway", "give the node another address")
        elif address not in network:
            yield Problem(key, f"{node.address} is not in the network of {first.name}", f"{span} (network.prefix)")
        elif address in (network.network_address, network.broadcast_address):
            yield Problem(key, f"{node.address} is no host address of {network}", span)
        elif any(address in taken for taken in NO_BOARDS):
            yield Problem(key, f"{node.address} is no address that a board can have", "choose one of your network")
        owners.setdefault(node.address, name)
        reached = _same(node.host) or node.address
        if reached in hosts and (node.host or reached != site.nodes[hosts[reached]].address):
            cause = f"{reached} is where {hosts[reached]} is reached too"
            yield Problem(("nodes", name, "host" if node.host else "address"), cause, "they are two boards")
        hosts.setdefault(reached, name)
    yield from _shifted(site, owners)
    gateway = site.network.gateway
    if gateway and ipaddress.ip_address(gateway) not in network:
        yield Problem(("network", "gateway"), f"{gateway} is not in the nodes' network", span)


def _shifted(site: Site, owners: dict[str, str]) -> Iterator[Problem]:
    """Yield each node whose `host` is the address of another one: one of the two would be taken for the other."""
    for name, node in site.nodes.items():
        owner = owners.get(node.host)
        # A router's DNS knows a board by its name as well: pi-2.local, pi-2.lan, pi-2.fritz.box.
        if not owner and node.host.lower().partition(".")[0] in site.nodes:
            owner = node.host.lower().partition(".")[0]
        if owner in (None, name):
            continue
        if node.host in owners:
            cause = f"{node.host} is where {name} is reached now (its `host`), and the address of {owner}"
            cure = f"move {name} first, with another address for {owner}; then delete `host` of {name}"
            yield Problem(("nodes", owner, "address"), cause, cure)
        else:
            cause = f"{node.host} is the name of the node {owner}"
            yield Problem(("nodes", name, "host"), cause, f"write the address at which {name} is reached now")


def _files(site: Site, base: Path) -> Iterator[Problem]:
    wanted = {
        ("consul", "archive"): site.consul.archive,
        ("users", "identity"): site.users.identity,
        ("sources", "ca_bundle"): site.sources.ca_bundle,
    }
    for key, value in wanted.items():
        path = base / Path(value).expanduser()
        if value and not path.is_file():
            yield Problem(key, f"there is no file {path}", "paths are relative to the site file")


def _b2(site: Site) -> Iterator[Problem]:
    for name in site.b2.credentials:
        if name != "*" and name not in site.nodes:
            yield Problem(("b2", "credentials", name), f"there is no node {name}", "name a node, or * for all others")
    own = site.b2.credentials.get(site.master.name) or site.b2.credentials.get("*")
    taken = {own: f"what {site.master.name} itself uses (b2.credentials)"} if own else {}
    for name, key in site.b2.application_keys.items():
        if key.file in taken:
            cause = f"{key.file} is {taken[key.file]}: one secret would overwrite the other"
            yield Problem(("b2", "application_keys", name, "file"), cause, "give the key a file of its own")
        taken.setdefault(key.file, f"the file of {name} too")
        if bool(key.bucket) == key.all_buckets:
            cause = "it opens every bucket" if not key.bucket else "bucket and all_buckets exclude each other"
            yield Problem(("b2", "application_keys", name), cause, "give one of `bucket: NAME` and `all_buckets: true`")
    if (site.b2.buckets or site.b2.application_keys) and not {"*", site.master.name} & set(site.b2.credentials):
        cause = f"buckets and keys are kept by {site.master.name}, which has no credentials"
        yield Problem(("b2", "credentials"), cause, f"add `{site.master.name}: FILE`")


def _upkeep(site: Site) -> Iterator[Problem]:
    needed = len(site.nodes) * site.upgrades.gap
    if (site.upgrades.security or site.upgrades.reboot) and needed > MINUTES_OF_A_DAY:
        cause = f"{len(site.nodes)} nodes, one every {site.upgrades.gap} minutes, take more than a day"
        yield Problem(("upgrades", "gap"), cause, f"at most {MINUTES_OF_A_DAY // len(site.nodes)}")


def _cache(site: Site) -> Iterator[Problem]:
    if site.cache.packages and _is_masters_cache(site):
        cause = f"{site.sources.apt_proxy} is the cache that cache.packages runs on {site.master.name}"
        yield Problem(("sources", "apt_proxy"), f"{cause}: it would ask itself", "leave one of the two out")
    if site.cache.image and not site.cache.images:
        yield Problem(("cache", "image"), "an image for a registry that is not asked for", "set cache.images: true")


def _is_masters_cache(site: Site) -> bool:
    host = re.fullmatch(rf"https?://(?:[^/@]*@)?([^/:]+):{PACKAGES_PORT}(/.*)?", site.sources.apt_proxy)
    master = {site.master.name, f"{site.master.name}.local", site.master.host, site.master.address}
    return host is not None and host[1] in {*master, "localhost", "127.0.0.1"}
