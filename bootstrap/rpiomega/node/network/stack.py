"""What is wanted of an interface, and what every owner of interfaces must be able to say about it."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field

from rpiomega.node import files
from rpiomega.node.files import File

MARK = "# Written by rpiomega from the site file."
KEPT = ".before-rpiomega"


@dataclass(frozen=True)
class Wifi:
    """A wireless network. `psk` is the 256-bit key as 64 hexadecimal digits, never the passphrase."""

    ssid: str
    psk: str = field(repr=False)
    country: str = ""


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
        return ipaddress.ip_interface(self.cidr).network


class Stack:
    """One owner of interfaces. Commands are argument lists, run by the guard, without a shell."""

    name = ""

    def __init__(self, board, interface: str):
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
        """Return what starts the owner of the interface anew: the last resort when it does not come back by itself."""
        raise NotImplementedError

    def boot(self) -> list[list[str]]:
        """Return the commands that must follow a change of files at boot, before the network starts."""
        return []


class Concealed(File):
    """A file with a Wi-Fi key among its lines: its diff shows everything but that."""

    def diff(self, board):
        """Return how the board's file differs, keys blanked."""
        from rpiomega.node.network import wifi
        from rpiomega.node.step import Diff

        old = files.read(board.path(self.path))
        diff = Diff()
        if self.text is not None and old != self.text:
            before, after = (None if old is None else wifi.redact(old)), wifi.redact(self.text)
            if before == after:
                diff.add(f"write {self.path} (the Wi-Fi key changes, not shown)")
            else:
                diff.add_text(self.path, before, after)
            return diff
        return super().diff(board)


def kept(board, path: str) -> list[File]:
    """Return the copy that keeps what the owner wrote, unless there is one; nothing if there is nothing to keep."""
    text = board.read(path)
    if text is None or MARK in text or board.exists(path + KEPT):
        return []
    return [Concealed(path + KEPT, text, mode=0o600)]
