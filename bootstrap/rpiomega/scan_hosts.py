"""The local network from this machine: its interfaces, its neighbours, and who answers as an SSH server."""

from __future__ import annotations

import ipaddress
import json
import re
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

# The first half of a network card's address says who made it (standards-oui.ieee.org).
MAKERS = {
    "28:cd:c1": "Raspberry Pi",
    "2c:cf:67": "Raspberry Pi",
    "88:a2:9e": "Raspberry Pi",
    "b8:27:eb": "Raspberry Pi",
    "d8:3a:dd": "Raspberry Pi",
    "dc:a6:32": "Raspberry Pi",
    "e4:5f:01": "Raspberry Pi",
    "00:1e:06": "ODROID",
}
# Bridges and tunnels of this machine's own containers and machines: no boards there, unless asked for by --network.
_OWN = re.compile(r"^(lo|docker|br-|veth|virbr|vmnet|tun|tap|wg|zt|tailscale)")
LARGEST = 2048
SSH_BOUND = 3.0


def maker(mac: str) -> str:
    """Return who makes boards with such an address, an empty string for others."""
    return MAKERS.get(mac.lower()[:8], "")


def interfaces(wanted: list[str]) -> list[tuple[str, ipaddress.IPv4Interface]]:
    """Return (device, address with network) of this machine, only those in the networks `wanted` if any are given."""
    found = []
    for link in _ip("-4", "addr", "show"):
        for entry in link.get("addr_info", []):
            address = ipaddress.IPv4Interface(f"{entry['local']}/{entry['prefixlen']}")
            inside = any(address.network.overlaps(ipaddress.ip_network(item, strict=False)) for item in wanted)
            if inside or (not wanted and not _OWN.match(link["ifname"]) and entry.get("scope") == "global"):
                found.append((link["ifname"], address))
    return found


def wake(networks: list[ipaddress.IPv4Network]) -> None:
    """Make the kernel ask for every address of small networks (ARP), by a packet nobody listens to."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as channel:
        for network in networks:
            if network.num_addresses > LARGEST:
                continue
            for number, host in enumerate(network.hosts()):
                try:
                    channel.sendto(b"", (str(host), 9))
                except OSError:
                    continue
                if number % 64 == 63:
                    time.sleep(0.02)  # the kernel keeps only so many open questions


def neighbours(networks: list[ipaddress.IPv4Network]) -> dict[str, str]:
    """Return address -> network card's address of who has answered, in the given networks."""
    found = {}
    for entry in _ip("-4", "neigh", "show"):
        states = set(entry.get("state", []))
        if "lladdr" not in entry or states & {"FAILED", "INCOMPLETE"}:
            continue
        address = ipaddress.ip_address(entry["dst"])
        if any(address in network for network in networks):
            found[str(address)] = entry["lladdr"]
    return found


def _ip(*arguments: str) -> list[dict]:
    try:
        done = subprocess.run(["ip", "-j", *arguments], capture_output=True, timeout=10, check=False)
        return json.loads(done.stdout or b"[]")
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return []


def banners(addresses: list[str], port: int) -> dict[str, tuple[str, str]]:
    """Return address -> (``answers``, ``refused``, ``silent`` or ``other``; what the SSH server calls itself)."""
    if not addresses:
        return {}
    with ThreadPoolExecutor(max_workers=min(64, len(addresses))) as pool:
        return dict(zip(addresses, pool.map(lambda address: _banner(address, port), addresses), strict=True))


def _banner(address: str, port: int) -> tuple[str, str]:
    try:
        with socket.create_connection((address, port), timeout=SSH_BOUND) as channel:
            line = channel.recv(255).split(b"\n")[0].decode("ascii", "replace").strip()
    except ConnectionRefusedError:
        return "refused", ""
    except OSError:
        return "silent", ""
    return ("answers", line.removeprefix("SSH-2.0-")) if line.startswith("SSH-") else ("other", line[:40])
