"""What is wanted of an interface, and what every owner of interfaces must be able to say about it."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from rpiomega.node.board import Board
from rpiomega.node.files import File
from rpiomega.node.job_steps import Wifi

MARK = "# Written by rpiomega from the site file."


def family(text: str) -> int:
    """Return 4 or 6 for an IP address, with or without prefix, port, scope or server name; 0 if it is none."""
    try:
        return ipaddress.ip_interface(re.split(r"[#%]|\]", text.strip().lstrip("["))[0]).version
    except ValueError:
        return 4 if re.fullmatch(r"[\d.]+:\d+", text.strip()) else 0


def gives_way(cidr: str, wanted: Wanted, gateways: set[str]) -> bool:
    """Return whether the wanted address replaces this one.

    It does where both are in one network, and where the default route used so far (`gateways`) depends on it. An
    address in another network, and every IPv6 address, is the owner's own affair and stays.
    """
    if family(cidr) != 4:
        return False
    network = ipaddress.ip_interface(cidr).network
    return network.overlaps(wanted.network) or any(
        family(via) == 4 and ipaddress.ip_address(via) in network for via in gateways
    )


@dataclass(frozen=True)
class Wanted:
    """The configuration an interface should have. `wifi` None: wired, or the wireless settings it has now."""

    interface: str
    address: str
    prefix: int
    gateway: str
    dns: tuple[str, ...]
    wireless: bool = False
    wifi: Wifi | None = None

    @property
    def cidr(self) -> str:
        """Return address/prefix."""
        return f"{self.address}/{self.prefix}"

    @property
    def network(self) -> ipaddress.IPv4Network:
        """Return the network the address is in."""
        return ipaddress.IPv4Interface(self.cidr).network


class Stack:
    """One owner of interfaces. Commands are argument lists, run by the guard, without a shell."""

    name = ""

    def __init__(self, board: Board, interface: str):
        self.board = board
        self.interface = interface

    def owns(self) -> bool:
        """Return whether this stack configures the interface now."""
        raise NotImplementedError

    def files(self, wanted: Wanted) -> list[File]:
        """Return the files as they should be."""
        raise NotImplementedError

    def activate(self, wanted: Wanted) -> list[list[str]]:
        """Return the commands that make the files effective. They may cut the connection."""
        raise NotImplementedError

    def restore(self) -> list[list[str]]:
        """Return the commands that make the files of before effective again; called while those are in force."""
        raise NotImplementedError

    def restart(self) -> list[list[str]]:
        """Return what starts the owner of the interface again: the last resort when it does not come back by itself."""
        raise NotImplementedError

    def boot(self) -> list[list[str]]:
        """Return the commands that must follow a change of files at boot, before the network starts."""
        return []
