"""What kind of device an interface is. Only a plain Ethernet or Wi-Fi interface is given an address here.

Sources: Documentation/ABI/testing/sysfs-class-net (type, uevent's DEVTYPE, master), ip-link(8) (info_kind).
"""

from __future__ import annotations

import json
import os
import re

from rpiomega.node.board import Board
from rpiomega.node.step import StepError

SYSFS = "/sys/class/net"
ARPHRD_ETHER = 1
# A container's own interface is a veth, and a port of a switch chip (dsa) is an interface like any other.
PLAIN_KINDS = ("", "veth", "dsa")
PLAIN_TYPES = ("", "wlan", "dsa")
_NAMES = {"bridge": "a bridge", "bond": "a bond", "team": "a team", "vlan": "a VLAN", "wireguard": "a WireGuard tunnel",
          "tun": "a tun or tap device", "wlan": "a Wi-Fi interface", "gadget": "a USB gadget", "wwan": "a mobile modem",
          "macvlan": "a macvlan", "ipvlan": "an ipvlan", "dummy": "a dummy device"}  # fmt: skip


def _sysfs(interface: str, name: str) -> str:
    try:
        with open(f"{SYSFS}/{interface}/{name}", encoding="ascii", errors="replace") as handle:
            return handle.read().strip()
    except OSError:
        return ""


def names() -> list[str]:
    """Return the names of all interfaces."""
    return sorted(name for name in os.listdir(SYSFS) if os.path.isdir(f"{SYSFS}/{name}"))


def facts(board: Board, interface: str) -> dict:
    """Return what the kernel knows: ``kind`` (of a virtual device), ``devtype``, ``arphrd``, ``master``, ``ports``."""
    shown = board.shell.run(["ip", "-d", "-j", "link", "show", "dev", interface], timeout=15)
    link = (json.loads(shown.output) if not shown.code and shown.output.strip() else [{}])[0]
    uevent = dict(line.split("=", 1) for line in _sysfs(interface, "uevent").splitlines() if "=" in line)
    master = os.path.basename(os.path.realpath(f"{SYSFS}/{interface}/master"))
    return {
        "kind": link.get("linkinfo", {}).get("info_kind", ""),
        "devtype": uevent.get("DEVTYPE", ""),
        "arphrd": int(_sysfs(interface, "type") or 0),
        "master": master if os.path.exists(f"{SYSFS}/{interface}/master") else "",
        "ports": [name for name in names() if os.path.exists(f"{SYSFS}/{interface}/lower_{name}")],
        "lower": link.get("link", ""),
    }


def unsupported(interface: str, found: dict) -> str:
    """Return why an interface is not one to configure, as the end of a sentence; empty if it is."""
    kind, devtype = found["kind"], found["devtype"]
    if found["master"]:
        return f"is a port of {found['master']}"
    if kind not in PLAIN_KINDS or devtype not in PLAIN_TYPES:
        what = kind if kind not in PLAIN_KINDS else devtype
        below = ", ".join(found["ports"]) or found["lower"]
        return f"is {_NAMES.get(what, f'a device of type {what}')}" + (f" (on {below})" if below else "")
    if re.fullmatch(r"usb\d+", interface):
        # The kernel's usbnet driver names point-to-point links so; an Ethernet adapter on USB is an eth.
        return "is a point-to-point link over USB"
    if found["arphrd"] != ARPHRD_ETHER:
        return f"is no Ethernet or Wi-Fi interface (ARPHRD {found['arphrd']})"
    return ""


def refuse(board: Board, interface: str) -> None:
    """Raise StepError naming the device's type, and its master, unless it is a plain Ethernet or Wi-Fi interface."""
    why = unsupported(interface, facts(board, interface))
    if why:
        cure = "name another one (`interface` of the node), or write `network.manage: false` into the site file"
        raise StepError(f"{interface} {why}, whose address rpiomega does not set", cure)
