"""What can be known to be wrong before a node is taken into a swarm: ports, kernel, firewall backend."""

from __future__ import annotations

import os
import socket
from concurrent.futures import ThreadPoolExecutor

CONTROL, GOSSIP = 2377, 7946
CONNECT_TIMEOUT = 3.0  # seconds; a Wi-Fi link with loss needs more than one SYN


def split(address, port=CONTROL):
    """Return (host, port) of "host", "host:port" or "[v6]:port"."""
    host, colon, tail = address.rpartition(":")
    if colon and tail.isdigit() and (host.startswith("[") or ":" not in host):
        return host.strip("[]"), int(tail)
    return address.strip("[]"), port


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


def answering(addresses, timeout=1.0):
    """Return the keys of {name: address} whose address takes connections on the swarm port."""
    if not addresses:
        return ()
    with ThreadPoolExecutor(len(addresses)) as pool:
        results = pool.map(lambda address: unreachable(address, split(address)[1], timeout), addresses.values())
        return tuple(name for name, problem in zip(addresses, results) if not problem)


def host_problems(local, root="/"):
    """
    Return (problems, warnings) of this host: what makes a swarm impossible, and what limits it.

    :param local: omega_swarm_docker.Local
    :param root: where /sys and /lib/modules are looked for
    """
    problems, warnings = [], []
    if local.firewall.startswith("nftables"):  # moby#50467
        problems.append(
            "Swarm needs the iptables backend: set `firewall-backend` to iptables in /etc/docker/daemon.json and "
            "restart Docker"
        )
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
