"""
What can be known to be wrong before a node is taken into a swarm: ports, address, space, kernel, firewall backend.

7946/udp and 4789/udp cannot be seen from outside: the services there do not answer unknown senders. Only traffic in an
overlay network shows that they work.
"""

from __future__ import annotations

import errno
import os
import socket
from concurrent.futures import ThreadPoolExecutor

from omega.core import engine_fit, files
from omega.docker import config

SETTINGS = "/etc/docker/daemon.json"
CONTROL, GOSSIP = 2377, 7946
CONNECT_TIMEOUT = 3.0  # seconds; a Wi-Fi link with loss needs more than one SYN


def split(address, port=CONTROL):
    """Return (host, port) of "host", "host:port" or "[v6]:port"."""
    host, colon, tail = address.rpartition(":")
    if colon and tail.isdigit() and (host.startswith("[") or ":" not in host):
        return host.strip("[]"), int(tail)
    return address.strip("[]"), port


def with_port(address):
    """Return `address` with the swarm port, if it has none of its own."""
    host, port = split(address)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def unreachable(address, port, timeout=CONNECT_TIMEOUT):
    """Return why `address`:`port`/tcp cannot be reached, empty if it can. `address` may carry another port."""
    host = split(address)[0]
    where = f"{host}:{port}/tcp"
    try:
        socket.create_connection((host, port), timeout).close()
    except socket.timeout:
        return f"{where} gave no answer within {timeout:g} s (blocked by a firewall, or the host is down)"
    except ConnectionRefusedError:
        return f"{where} refused the connection (nothing listens there)"
    except OSError as error:
        return f"{where} is not reachable ({error.strerror or error})"
    return ""


def manager_unreachable(address, timeout=CONNECT_TIMEOUT):
    """Return why no node can join through the manager at `address`, empty if it seems possible."""
    port = split(address)[1]
    return unreachable(address, port, timeout) or unreachable(address, GOSSIP, timeout)


def managers_unreachable(addresses, timeout=CONNECT_TIMEOUT):
    """Return {address: why no node can join through it, or ""} in the given order; all are tried side by side."""
    if not addresses:
        return {}
    with ThreadPoolExecutor(len(addresses)) as pool:
        problems = pool.map(lambda address: manager_unreachable(address, timeout), addresses)
        return dict(zip(addresses, problems))


def not_dialable(addresses, timeout=CONNECT_TIMEOUT):
    """
    Return {name: why it cannot be a manager, or ""} of {name: address}: the swarm port must let connections through,
    though nothing may listen there yet, and 7946/tcp must answer. All are tried side by side.
    """

    def problem(address):
        closed = unreachable(address, split(address)[1], timeout)
        return "" if "refused" in closed else closed

    if not addresses:
        return {}
    with ThreadPoolExecutor(len(addresses)) as pool:
        found = pool.map(lambda each: problem(each) or unreachable(each, GOSSIP, timeout), addresses.values())
        return dict(zip(addresses, found))


def has_address(host):
    """Whether an interface of this host has that IP address; None if `host` is no IP address, or that is not known."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.inet_pton(family, host)
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.bind((host, 0))
        return True
    except OSError as error:
        return False if error.errno == errno.EADDRNOTAVAIL else None


def address_towards(host):
    """Return the address this host would use to reach `host`, "" without a route. Nothing is sent."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((host, GOSSIP))
            return probe.getsockname()[0]
    except OSError:
        return ""


def answering(addresses, timeout=1.0):
    """Return the keys of {name: address} whose address takes connections on the swarm port."""
    if not addresses:
        return ()
    with ThreadPoolExecutor(len(addresses)) as pool:
        results = pool.map(lambda address: unreachable(address, split(address)[1], timeout), addresses.values())
        return tuple(name for name, problem in zip(addresses, results) if not problem)


def host_problems(local, min_free_mb=0, root="/"):
    """
    Return (problems, warnings) of this host: what makes a swarm impossible, and what limits it.

    :param local: omega.swarm.api.Local
    :param min_free_mb: MiB that must be free where the engine keeps its data
    :param root: where /etc, /sys and /lib/modules are looked for
    """
    problems, warnings = [], []
    settings = _settings(root)
    for key, why, cure in engine_fit.problems(settings, local.engine):
        where = f"{key} in {SETTINGS}" if key in settings else f"{key} of the engine (`docker info`)"
        problems.append(f"{where}: {why}; {cure}, and restart Docker")
    folders = [local.data_root, *([local.image_root] if local.image_root else [])]
    problems += filter(None, [space_problem(folder, min_free_mb) for folder in folders])
    if not _has_vxlan(root):
        problems.append(
            "the kernel has no vxlan module, so overlay networks cannot work: install the package with the "
            "kernel's extra modules (Ubuntu: linux-modules-extra-raspi) and reboot"
        )
    if "memory" in local.warnings:
        warnings.append(
            "the memory cgroup is off, so memory limits do not work: add `cgroup_enable=memory cgroup_memory=1` to "
            "the kernel command line (`rpiomega bootstrap` does) and reboot"
        )
    return problems, warnings


def space_problem(folder, min_free_mb):
    """Return why too little is free on the file system of `folder`, empty if enough is or it is not to be seen."""
    try:
        disk = os.statvfs(folder)
    except OSError:
        return ""
    free = disk.f_bavail * disk.f_frsize // 2**20
    if free >= min_free_mb:
        return ""
    return (
        f"only {free} MiB are free in {folder}, and a manager whose disk is full harms the whole swarm: free space "
        f"(`docker system df`) until there are {min_free_mb} (site key swarm.min_free_mb)"
    )


def _settings(root):
    """What daemon.json asks for: the engine may not have been restarted since."""
    try:
        return config.parse(SETTINGS, files.read(os.path.join(root, SETTINGS.lstrip("/"))))
    except (OSError, config.ConfigError):
        return {}


def _has_vxlan(root):
    """Loaded, built in or loadable; True as well where the kernel's module lists are not to be seen."""
    if os.path.isdir(os.path.join(root, "sys/module/vxlan")):
        return True
    folder = os.path.join(root, "lib/modules", os.uname().release)
    names = [os.path.join(folder, name) for name in ("modules.builtin", "modules.dep")]
    lists = [name for name in names if os.path.exists(name)]
    if not lists:
        return True
    for name in lists:
        with open(name, encoding="utf-8", errors="replace") as file:
            if any("/vxlan.ko" in line for line in file):
                return True
    return False
