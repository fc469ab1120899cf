"""Multicast DNS (RFC 6762), as little of it as finding boards needs: ask once, listen a little, collect names.

The question goes out from an ordinary port, so the answers come straight back to it (section 6.7, legacy unicast).

Why not `zeroconf`: its browser and resolver ask for services, and a scan also asks for the names of addresses (PTR) and
for hosts by name. Its packet classes alone would spare 50 of these lines for 4.4 MB of compiled code and most of a
second at import.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import time
from dataclasses import dataclass, field

GROUP = ("224.0.0.251", 5353)
PTR, A, SRV = 12, 1, 33
# What Raspberry Pi OS, Armbian and Ubuntu announce, and the name every new Raspberry Pi has.
SERVICES = ("_ssh._tcp.local", "_sftp-ssh._tcp.local", "_workstation._tcp.local", "_device-info._tcp.local")
NAMES = ("raspberrypi.local", "odroid.local", "armbian.local", "ubuntu.local")
REVERSE = ".in-addr.arpa"
_JUMPS = 16
# So many questions fit into one packet of 1500 bytes.
_AT_ONCE = 24


@dataclass
class Answers:
    """What was heard: address -> names, without the final ``.local``."""

    names: dict[str, set[str]] = field(default_factory=dict)

    def add(self, address: str, name: str) -> None:
        """Remember a name of an address."""
        self.names.setdefault(address, set()).add(name.removesuffix(".local"))


def reverse(address: str) -> str:
    """Return the name whose PTR record names an address."""
    return ".".join(reversed(address.split("."))) + REVERSE


def common() -> list[tuple[str, int]]:
    """Return the questions that ask for boards without knowing any address."""
    return [(service, PTR) for service in SERVICES] + [(name, A) for name in NAMES]


def ask(interfaces: list[str], bound: float, questions: list[tuple[str, int]]) -> Answers:
    """Ask on the given interfaces (by their addresses) and collect answers for `bound` seconds."""
    found = Answers()
    if not questions:
        return found
    channels = [_open(address) for address in interfaces]
    try:
        deadline = time.monotonic() + bound
        # Twice: multicast over Wi-Fi gets lost.
        for pause in (bound / 3, bound):
            for channel in channels:
                for first in range(0, len(questions), _AT_ONCE):
                    _send(channel, questions[first : first + _AT_ONCE])
            _listen(channels, min(deadline, time.monotonic() + pause), found)
    finally:
        for channel in channels:
            channel.close()
    return found


def _open(address: str) -> socket.socket:
    channel = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    channel.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
    channel.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 255)
    channel.bind((address, 0))
    return channel


def _send(channel: socket.socket, questions: list[tuple[str, int]]) -> None:
    # An interface without a route for multicast has no boards to tell of.
    with contextlib.suppress(OSError):
        channel.sendto(query(questions), GROUP)


def _listen(channels: list[socket.socket], until: float, found: Answers) -> None:
    while (left := until - time.monotonic()) > 0:
        for channel in select.select(channels, [], [], left)[0]:
            try:
                packet, sender = channel.recvfrom(9000)
            except OSError:
                continue
            for kind, name, value in records(packet):
                if kind == A:
                    found.add(value, name)
                elif kind == SRV:
                    found.add(sender[0], value)
                elif name.endswith(REVERSE):
                    found.add(".".join(reversed(name.removesuffix(REVERSE).split("."))), value)


def query(questions: list[tuple[str, int]]) -> bytes:
    """Return a DNS query for (name, type) pairs."""
    packet = struct.pack("!6H", 0, 0, len(questions), 0, 0, 0)
    for name, kind in questions:
        labels = b"".join(struct.pack("!B", len(label)) + label.encode() for label in name.split("."))
        packet += labels + b"\0" + struct.pack("!HH", kind, 1)
    return packet


def records(packet: bytes) -> list[tuple[int, str, str]]:
    """Return (type, name, address or target) of all A, SRV and PTR records; what is broken ends it early."""
    found: list[tuple[int, str, str]] = []
    try:
        _, _, questions, *counts = struct.unpack_from("!6H", packet, 0)
        position = 12
        for _ in range(questions):
            position = _name(packet, position)[1] + 4
        for _ in range(sum(counts)):
            name, position = _name(packet, position)
            kind, _, _, length = struct.unpack_from("!HHIH", packet, position)
            position += 10
            if kind == A and length == 4 and position + 4 <= len(packet):
                found.append((A, name, socket.inet_ntoa(packet[position : position + 4])))
            elif kind == SRV:
                found.append((SRV, name, _name(packet, position + 6)[0]))
            elif kind == PTR:
                found.append((PTR, name, _name(packet, position)[0]))
            position += length
    except (struct.error, IndexError):
        pass
    return found


def _name(packet: bytes, position: int) -> tuple[str, int]:
    """Return the name at a position and where it ends; names may point into what stands before (RFC 1035, 4.1.4)."""
    labels, end, jumps = [], 0, 0
    while True:
        length = packet[position]
        if length & 0xC0 == 0xC0:
            jumps += 1
            if jumps > _JUMPS:
                raise IndexError("names that point at each other")
            end = end or position + 2
            position = (length & 0x3F) << 8 | packet[position + 1]
        elif length:
            label = packet[position + 1 : position + 1 + length]
            if len(label) < length:
                raise IndexError("a label beyond the end")
            labels.append(label.decode("utf-8", "replace"))
            position += 1 + length
        else:
            return ".".join(labels), end or position + 1
