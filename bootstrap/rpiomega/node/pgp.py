"""Fingerprints of OpenPGP keys, so that a downloaded key can be compared with the one pinned here."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator

PUBLIC_KEY = 6


def dearmor(data: bytes) -> bytes:
    """Return the binary packets of an armored or binary key (RFC 9580, section 6)."""
    if not data.lstrip().startswith(b"-----BEGIN PGP"):
        return data
    lines = data.decode("ascii", "replace").strip().splitlines()
    body = lines[lines.index("") + 1 : -1] if "" in lines else lines[1:-1]
    # A line that starts with "=" is the checksum.
    return base64.b64decode("".join(line for line in body if not line.startswith("=")))


def fingerprints(data: bytes) -> list[str]:
    """Return the fingerprints (40 capital hex digits) of all primary keys in a file: apt trusts every one of them.

    Raise ValueError if the data is cut off or holds another key version than 4. RFC 9580, section 5.5.4.
    """
    found = []
    for tag, body in _packets(dearmor(data)):
        if tag != PUBLIC_KEY:
            continue
        if body[:1] != b"\x04":
            raise ValueError("not a version 4 public key")
        prefix = b"\x99" + len(body).to_bytes(2, "big")
        found.append(hashlib.sha1(prefix + body, usedforsecurity=False).hexdigest().upper())
    return found


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (tag, body) of each packet; headers as in RFC 9580, section 4.2."""
    at = 0
    while at < len(data):
        first = data[at]
        if not first & 0x80:
            raise ValueError("not an OpenPGP packet")
        tag, start, length = _current(data, at) if first & 0x40 else _legacy(data, at)
        if start + length > len(data):
            raise ValueError("cut off in the middle of a packet")
        yield tag, data[start : start + length]
        at = start + length


def _legacy(data: bytes, at: int) -> tuple[int, int, int]:
    kind = data[at] & 3
    if kind == 3:
        raise ValueError("a packet of unknown length")
    size = 1 << kind
    return (data[at] & 0x3C) >> 2, at + 1 + size, int.from_bytes(data[at + 1 : at + 1 + size], "big")


def _current(data: bytes, at: int) -> tuple[int, int, int]:
    tag, octets = data[at] & 0x3F, data[at + 1 : at + 7]
    if not octets:
        raise ValueError("cut off in a packet's header")
    if octets[0] < 192:
        return tag, at + 2, octets[0]
    if octets[0] < 224 and len(octets) > 1:
        return tag, at + 3, ((octets[0] - 192) << 8) + octets[1] + 192
    if octets[0] == 255 and len(octets) > 4:
        return tag, at + 6, int.from_bytes(octets[1:5], "big")
    raise ValueError("a packet of unknown length")
