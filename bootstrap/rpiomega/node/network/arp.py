"""Who has an address on the wire: duplicate address detection (RFC 5227) and "does the gateway answer".

ARP packet: RFC 826. A probe's sender address is 0.0.0.0, so nobody's cache is touched (RFC 5227, 2.1.1).
"""

from __future__ import annotations

import random
import select
import socket
import struct
import time

ETHERTYPE, REQUEST, REPLY = 0x0806, 1, 2
# RFC 5227, 1.1: three probes, one to two seconds apart, then two seconds of listening.
PROBES, APART, LISTEN = 3, (1.0, 1.4), 2.0
_ARP = struct.Struct("!HHBBH6s4s6s4s")
NOBODY = "0.0.0.0"


def packet(operation: int, sender: bytes, sender_ip: str, target_ip: str, target: bytes = bytes(6)) -> bytes:
    """Return an Ethernet frame with an ARP packet, broadcast."""
    header = b"\xff" * 6 + sender + struct.pack("!H", ETHERTYPE)
    own, other = socket.inet_aton(sender_ip), socket.inet_aton(target_ip)
    return header + _ARP.pack(1, 0x0800, 6, 4, operation, sender, own, target, other)


def parse(frame: bytes) -> tuple[int, bytes, str, str] | None:
    """Return (operation, sender's hardware address, sender's address, target address), None if it is no ARP."""
    if len(frame) < 14 + _ARP.size or frame[12:14] != struct.pack("!H", ETHERTYPE):
        return None
    hardware, protocol, _, _, operation, sender, sender_ip, _, target_ip = _ARP.unpack_from(frame, 14)
    if (hardware, protocol) != (1, 0x0800):
        return None
    return operation, sender, socket.inet_ntoa(sender_ip), socket.inet_ntoa(target_ip)


def holder(frame: bytes, own: bytes, address: str) -> bytes | None:
    """Return the hardware address of who claims `address` in this frame: it has it, or probes for it as we do."""
    seen = parse(frame)
    if seen is None or seen[1] == own:
        return None
    operation, sender, sender_ip, target_ip = seen
    rival = operation == REQUEST and sender_ip == NOBODY and target_ip == address
    return sender if sender_ip == address or rival else None


def look(interface: str, own: bytes, wanted: list[str], sender_ip: str = NOBODY, early: bool = False) -> dict[str, str]:
    """Ask the wire who has each of the `wanted` addresses; return address -> hardware address of those that are held.

    `early`: return as soon as all have answered (a gateway's answer needs no waiting). Takes root, and 4 to 5 seconds
    when somebody stays silent. Raise OSError where the interface takes no packets.
    """
    found: dict[str, str] = {}
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETHERTYPE)) as wire:
        wire.bind((interface, 0))
        for number in range(PROBES):
            for address in wanted:
                if address not in found:
                    wire.send(packet(REQUEST, own, sender_ip, address))
            pause = LISTEN if number == PROBES - 1 else random.uniform(*APART)
            _listen(wire, own, wanted, found, time.monotonic() + pause, early)
            if len(found) == len(wanted):
                break
    return found


def _listen(
    wire: socket.socket, own: bytes, wanted: list[str], found: dict[str, str], until: float, early: bool
) -> None:
    while True:
        left = until - time.monotonic()
        if left <= 0 or (early and len(found) == len(wanted)):
            return
        if not select.select([wire], [], [], left)[0]:
            return
        frame = wire.recv(2048)
        for address in wanted:
            who = holder(frame, own, address)
            if who is not None:
                found.setdefault(address, who.hex(":"))
