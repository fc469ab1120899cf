"""Interfaces, addresses and routes as the kernel has them now."""

from __future__ import annotations

import json
import os
import socket
import struct
from dataclasses import dataclass

from rpiomega.node.board import Board
from rpiomega.node.network import device
from rpiomega.node.step import StepError

# Made by container engines, tunnels and bridges: never a board's way to its network.
_VIRTUAL = ("lo", "docker", "veth", "br-", "virbr", "vxlan", "flannel", "cni", "tun", "tap", "wg", "dummy")

_CLIENTS = ("dhclient", "udhcpc", "dhcpcd", "pump")


@dataclass(frozen=True)
class Address:
    """An IPv4 address of an interface; `dynamic` means that it has a lease."""

    address: str
    prefix: int
    dynamic: bool

    def __str__(self) -> str:
        return f"{self.address}/{self.prefix}" + (" (DHCP)" if self.dynamic else "")


def addresses(board: Board, interface: str) -> list[Address]:
    """Return the global IPv4 addresses of an interface."""
    result = board.shell.must(["ip", "-j", "-4", "addr", "show", "dev", interface], "is iproute2 installed?")
    found = json.loads(result.output or "[]")
    return [
        Address(info["local"], info["prefixlen"], bool(info.get("dynamic")))
        for link in found
        for info in link.get("addr_info", [])
        if info.get("scope") == "global"
    ]


def default_routes(board: Board) -> list[tuple[str, str]]:
    """Return (gateway, interface) of every default route, the preferred one first."""
    found = []
    for line in (board.read("/proc/net/route") or "").splitlines()[1:]:
        # Iface Destination Gateway Flags RefCnt Use Metric Mask ...: addresses are hexadecimal, in host byte order.
        name, target, gateway, _, _, _, metric, mask = line.split()[:8]
        if target == mask == "00000000":
            address = socket.inet_ntoa(struct.pack("=I", int(gateway, 16)))
            found.append((int(metric), address, name))
    return [(gateway, name) for _, gateway, name in sorted(found)]


def choose(board: Board, named: str, target: str) -> str:
    """Return the interface to configure: the one named, or that has the target, or that leads to the world.

    Raise StepError if it does not exist, or if several could be meant.
    """
    every = device.names()
    names = [name for name in every if not name.startswith(_VIRTUAL)]
    if named:
        if named not in every:
            raise StepError(f"there is no interface {named}", f"the board has {', '.join(names)}: correct `interface`")
        return named
    for name in names:
        if any(found.address == target for found in addresses(board, name)):
            return name
    routes = [name for _, name in default_routes(board) if name in names]
    # A default route through a bridge or tunnel alone: `device.refuse` says what it is.
    routes = routes or [name for _, name in default_routes(board)]
    if routes:
        return routes[0]
    up = [name for name in names if addresses(board, name)]
    if len(up) == 1:
        return up[0]
    cause = f"no default route, and {len(up)} interfaces with an address ({', '.join(up) or 'none'})"
    raise StepError(cause, "name the one to configure: `interface:` of the node in the site file")


def carrier(interface: str) -> bool:
    """Return whether an interface is up and has a link."""
    try:
        with open(f"/sys/class/net/{interface}/carrier", encoding="ascii") as handle:
            return handle.read().strip() == "1"
    except OSError:  # EINVAL: the interface is down
        return False


def dhcp_clients(interface: str) -> list[str]:
    """Return the DHCP client programs that run for an interface, as "NAME (PID)"."""
    found = []
    for entry in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{entry}/cmdline", "rb") as handle:
                words = handle.read().decode(errors="replace").split("\0")
        except OSError:
            continue
        name = os.path.basename(words[0].split(" ")[0].rstrip(":"))
        if name in _CLIENTS and (interface in " ".join(words).split() or len(words) <= 3):
            found.append(f"{name} (PID {entry})")
    return found


def reached_at() -> str:
    """Return the address of this board that the workstation's SSH session goes to; empty if nobody says.

    sshd puts it into the session's environment (SSH_CONNECTION: client, port, server, port), sudo takes it out.
    """
    process = os.getpid()
    while process > 1:
        try:
            with open(f"/proc/{process}/environ", "rb") as handle:
                for item in handle.read().split(b"\0"):
                    if item.startswith(b"SSH_CONNECTION="):
                        return item.decode().split()[2]
            with open(f"/proc/{process}/stat", encoding="utf-8") as handle:
                process = int(handle.read().rpartition(")")[2].split()[1])
        except (OSError, ValueError, IndexError):
            break
    return ""


def wireless(interface: str) -> bool:
    """Return whether an interface is a wireless one."""
    return os.path.isdir(f"/sys/class/net/{interface}/wireless")


def mac(interface: str) -> bytes:
    """Return the hardware address of an interface."""
    with open(f"/sys/class/net/{interface}/address", encoding="ascii") as handle:
        return bytes.fromhex(handle.read().strip().replace(":", ""))
