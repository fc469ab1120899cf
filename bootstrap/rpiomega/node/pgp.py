"""Fingerprints of OpenPGP keys, so that a downloaded key can be compared with the one pinned here."""

from __future__ import annotations

import base64
import hashlib


def dearmor(data: bytes) -> bytes:
    """Return the binary packets of an armored or binary key (RFC 9580, section 6)."""
    if not data.lstrip().startswith(b"-----BEGIN PGP"):
        return data
    lines = data.decode("ascii", "replace").strip().splitlines()
    body = lines[lines.index("") + 1 : -1] if "" in lines else lines[1:-1]
    # A line that starts with "=" is the checksum.
    return base64.b64decode("".join(line for line in body if not line.startswith("=")))


def primary_fingerprint(data: bytes) -> str:
    """Return the fingerprint (40 capital hex digits) of a file's first key, a version 4 public key packet.

    Raise ValueError if it does not start with one. RFC 9580, sections 4.2 (packet headers) and 5.5.4 (fingerprint).
    """
    packets = dearmor(data)
    try:
        first = packets[0]
        if first & 0x40:  # current format
            tag, length, start = first & 0x3F, packets[1], 2
            if length >= 192:
                length, start = ((length - 192) << 8) + packets[2] + 192, 3
        else:
            size = 1 << (first & 3)
            tag, start = (first & 0x3C) >> 2, 1 + size
            length = int.from_bytes(packets[1:start], "big")
        body = packets[start : start + length]
        if tag != 6 or body[0] != 4:
            raise ValueError("not a version 4 public key")
    except IndexError:
        raise ValueError("not an OpenPGP key") from None
    return hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body, usedforsecurity=False).hexdigest().upper()
