"""Which settings of a Docker Engine a swarm, or this site's own containers, cannot run with. Nothing is read.

These do not hinder either, and are the owner's: `bridge: none`, `icc: false`, `userland-proxy: false` (they concern the
default bridge, which neither uses), `default-runtime`, `containerd`.
"""

from __future__ import annotations

import re
import sys
from typing import Any

SOCKETS = ("unix:///var/run/docker.sock", "unix:///run/docker.sock")
# The keys of /info that are looked at.
INFO = ("FirewallBackend", "IPv4Forwarding", "LiveRestoreEnabled", "ServerVersion")
# moby daemon/config/config_linux.go since 29.6.0.
FEATURE, NFTABLES_FROM = "swarm-nftables", (29, 6)


def problems(settings: dict, info: dict | None = None, swarm: bool = True) -> list[tuple[str, str, str]]:
    """Return ``[(key, why, what to write)]`` of the settings that have to change, in words.

    The refusals of swarm are those of moby daemon/config/config_linux.go, IsSwarmCompatible.

    :param settings: daemon.json with the flags of the unit, as the engine will start with them
    :param info: decoded /info of an engine that runs, maybe with other settings, which count as well; None: none does
    :param swarm: whether this node is to be in a swarm
    """
    info = info or {}
    found = []
    if settings.get("userns-remap"):
        # moby daemon/daemon_unix.go, verifyPlatformContainerSettings
        found.append(("userns-remap", "it forbids Consul's container to share the host's network", "remove it"))
    if "hosts" in settings and not _local(settings["hosts"]):
        why = f"the engine does not listen at {SOCKETS[0]}, where Salt and the docker command ask it"
        found.append(("hosts", why, f'add "{SOCKETS[0]}" to it'))
    if not swarm:
        return found
    if settings.get("live-restore") is True or info.get("LiveRestoreEnabled"):
        found.append(("live-restore", "an engine with it refuses to join a swarm", "set it to false"))
    if nftables(settings, info):
        cure = f"set it to iptables, or on Docker {_words(NFTABLES_FROM)} and newer set features.{FEATURE} to true"
        found.append(("firewall-backend", "Swarm needs the iptables backend", cure))
    if settings.get("iptables") is False:
        found.append(("iptables", "without it published ports and overlay networks do not work", "set it to true"))
    if settings.get("ip-forward") is False and info.get("IPv4Forwarding") is False:
        why = "published ports do not work while `sysctl net.ipv4.ip_forward` is 0"
        found.append(("ip-forward", why, "remove it, or set the sysctl to 1"))
    for key in ("cluster-store", "cluster-advertise", "cluster-store-opts"):
        if settings.get(key):
            found.append((key, "it belongs to the swarm before Docker 1.12, and excludes today's", "remove it"))
    return found


def nftables(settings: dict, info: dict | None = None) -> bool:
    """Whether swarm refuses this engine for its firewall backend (moby#50467).

    A feature lets it in from release 29.6 on; an engine whose `iptables` is false adds no rules at all.

    :param settings: as in `problems`
    :param info: as in `problems`
    """
    running = (info or {}).get("FirewallBackend") or {}
    running = running.get("Driver", "") if isinstance(running, dict) else running
    chosen = [str(driver or "") for driver in (settings.get("firewall-backend"), running)]
    if settings.get("iptables") is False or not any(driver.startswith("nftables") for driver in chosen):
        return False
    features = settings.get("features")
    allowed = isinstance(features, dict) and features.get(FEATURE) is True
    return not (allowed and _release((info or {}).get("ServerVersion")) >= NFTABLES_FROM)


def _release(version: Any) -> tuple[int, int]:
    """Return (29, 6) of ``29.6.1``; of an unknown one, what is new enough for everything."""
    numbers = re.match(r"(\d+)\.(\d+)", str(version or ""))
    return (int(numbers[1]), int(numbers[2])) if numbers else (sys.maxsize, 0)


def _words(release: tuple[int, ...]) -> str:
    return ".".join(map(str, release))


def _local(hosts: Any) -> bool:
    hosts = hosts if isinstance(hosts, list) else [hosts]
    return any(str(host) in SOCKETS or str(host).startswith("fd://") for host in hosts)
