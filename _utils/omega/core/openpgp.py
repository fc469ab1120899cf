"""OpenPGP keys, read without gpg, by the states and by the bootstrap's part on the board: only what is understood.

apt trusts every key of the file that `Signed-By` names, and each of its verifiers (gpgv, sqv) reads more than this
project can judge. So a key file is taken apart here, every packet has to be one that an ordinary version 4 key consists
of, and what is written for apt is put together again from exactly these packets.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator

from omega.core.errors import Failure

# Packet types (RFC 9580, section 5).
SIGNATURE, PRIMARY_KEY, USER_ID, SUBKEY, USER_ATTRIBUTE = 2, 6, 13, 14, 17
# Signatures of a key (RFC 9580, section 5.2.1): certifications, bindings, direct key, revocations.
SIGNATURE_TYPES = (0x10, 0x11, 0x12, 0x13, 0x18, 0x1F, 0x20, 0x28, 0x30)
REFUSED = {
    5: "a secret key",
    7: "a secret subkey",
    8: "compressed data",
    # gpg stores there whether it has verified a signature, and believes it.
    12: "a trust packet of a keyring",
}
ARMOR = "PGP PUBLIC KEY BLOCK"
_LONGEST = 0xFFFF  # a version 4 fingerprint has two bytes for the length


class KeyFileError(Failure, ValueError):
    """The data is not, or not only, what a version 4 OpenPGP public key consists of."""


def primary_fingerprints(data: bytes) -> list[str]:
    """Return the fingerprints of all primary keys in `data`.

    :param data: bytes, ASCII-armored (one block) or binary
    :return: list of 40 upper-case hexadecimal digits (RFC 9580, section 5.5.4.2)
    :raises KeyFileError: something in it is not understood
    """
    return [fingerprint for fingerprint, _ in _keys(data)]


def pinned(data: bytes, fingerprint: str) -> bytes:
    """Return the binary key with this fingerprint, put together from the packets that were checked.

    :param data: bytes, ASCII-armored (one block) or binary
    :param fingerprint: 40 hexadecimal digits
    :return: bytes, for a file that apt reads as ``*.gpg``
    :raises KeyFileError: something in it is not understood, or it holds another key than this one
    """
    found = _keys(data)
    fingerprint = fingerprint.replace(" ", "").upper()
    if [key for key, _ in found] != [fingerprint]:
        names = ", ".join(key for key, _ in found[:5]) + (f" and {len(found) - 5} more" if len(found) > 5 else "")
        raise KeyFileError(
            f"it holds {'key' if len(found) == 1 else 'the keys'} {names}, pinned is {fingerprint} alone"
        )
    return found[0][1]


def armored(key: bytes) -> str:
    """Return a binary key as ASCII-armored text, for a file that apt reads as ``*.asc`` (RFC 9580, section 6)."""
    text = base64.b64encode(key).decode("ascii")
    lines = "\n".join(text[at : at + 64] for at in range(0, len(text), 64))
    return f"-----BEGIN {ARMOR}-----\n\n{lines}\n-----END {ARMOR}-----\n"


def _keys(data: bytes) -> list[tuple[str, bytes]]:
    """Return [(fingerprint, bytes of its packets)]."""
    keys: list[tuple[str, list[bytes]]] = []
    for tag, body in _packets(_binary(data)):
        _check(tag, body)
        if tag == PRIMARY_KEY:
            digest = hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body)
            keys.append((digest.hexdigest().upper(), []))
        elif not keys:
            raise KeyFileError("it does not begin with a public key")
        keys[-1][1].append(_packet(tag, body))
    if not keys:
        raise KeyFileError("it is empty")
    return [(fingerprint, b"".join(packets)) for fingerprint, packets in keys]


def _check(tag: int, body: bytes) -> None:
    """Raise KeyFileError unless the packet is one of those that an ordinary version 4 key consists of."""
    if tag in (PRIMARY_KEY, SUBKEY):
        # Version, four bytes of time, algorithm, the key's numbers (RFC 9580, section 5.5.2.2).
        if body[:1] != b"\x04":
            raise KeyFileError(f"it holds a key of version {_version(body)}, only version 4 is understood")
        if not 6 < len(body) <= _LONGEST:
            raise KeyFileError(f"it holds a key of {len(body)} bytes")
    elif tag == SIGNATURE:
        _check_signature(body)
    elif tag not in (USER_ID, USER_ATTRIBUTE):
        what = REFUSED.get(tag, f"a packet of type {tag}")
        raise KeyFileError(f"it holds {what}, which does not belong to a public key")


def _check_signature(body: bytes) -> None:
    """Raise KeyFileError unless this is a version 4 signature of a key (RFC 9580, section 5.2.3)."""
    if body[:1] != b"\x04":
        raise KeyFileError(f"it holds a signature of version {_version(body)}, only version 4 is understood")
    if len(body) < 2 or body[1] not in SIGNATURE_TYPES:
        raise KeyFileError("it holds a signature of something else than a key")
    at = 4
    for _ in ("hashed", "unhashed"):  # subpackets, each part with its length in two bytes
        at += 2 + int.from_bytes(body[at : at + 2], "big")
    if at + 2 >= len(body):
        raise KeyFileError("it holds a signature that is cut off")


def _version(body: bytes) -> int | str:
    return body[0] if body else "none"


def _packet(tag: int, body: bytes) -> bytes:
    """Return a packet with the header that names its length in four bytes (RFC 9580, section 4.2.1.3)."""
    return bytes([0xC0 | tag, 0xFF]) + len(body).to_bytes(4, "big") + body


def _binary(data: bytes) -> bytes:
    """Return the bytes of `data`, without the armor (RFC 9580, section 6)."""
    if not data.lstrip().startswith(b"-----"):
        before, armor, _ = data.partition(b"-----BEGIN ")
        if armor and before.decode("utf-8", "ignore").encode() == before:
            raise KeyFileError("there is something before its armor")
        return data
    # Line by line: the data is whatever a server has answered, and a pattern over all of it may take hours.
    lines = [line.strip() for line in data.strip().splitlines()]
    empty = lines.index(b"") if b"" in lines else 0  # headers go up to the first empty line
    headers, body = lines[1:empty], [line for line in lines[empty + 1 : -1] if line]
    if body and re.fullmatch(rb"=[A-Za-z0-9+/]{4}", body[-1]):
        del body[-1]  # a checksum, which proves nothing (RFC 9580, section 6.1)
    sound = (
        (lines[0], lines[-1]) == tuple(f"-----{edge} {ARMOR}-----".encode() for edge in ("BEGIN", "END"))
        and empty
        and all(re.fullmatch(rb"[A-Za-z0-9-]+:( .*)?", header) for header in headers)
        and all(re.fullmatch(rb"[A-Za-z0-9+/]+={0,2}", line) for line in body)
    )
    if not sound:
        raise KeyFileError("its armor is not exactly one block of a public key")
    try:
        return base64.b64decode(b"".join(body), validate=True)
    except binascii.Error as error:
        raise KeyFileError(f"its armor cannot be decoded: {error}") from None


def _packets(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield (tag, body) of each packet; headers of both formats as in RFC 9580, section 4.2."""
    at = 0
    while at < len(data):
        if not data[at] & 0x80:
            raise KeyFileError("it is no OpenPGP key" if at == 0 else "bytes that are no packet follow the key")
        tag, start, size = _current(data, at) if data[at] & 0x40 else _legacy(data, at)
        if start + size > len(data):
            raise KeyFileError("it ends in the middle of a packet")
        yield tag, data[start : start + size]
        at = start + size


def _legacy(data: bytes, at: int) -> tuple[int, int, int]:
    if data[at] & 3 == 3:
        raise KeyFileError("it holds a packet of indeterminate length")
    width = 1 << (data[at] & 3)
    return (data[at] >> 2) & 0x0F, at + 1 + width, int.from_bytes(data[at + 1 : at + 1 + width], "big")


def _current(data: bytes, at: int) -> tuple[int, int, int]:
    tag, octets = data[at] & 0x3F, data[at + 1 : at + 6]
    first = octets[0] if octets else 0
    need = 1 if first < 192 else 2 if first < 224 else 5 if first == 255 else 0
    if not need:
        raise KeyFileError("it holds a packet of partial length")
    if len(octets) < need:
        raise KeyFileError("it ends in the middle of a packet")
    if need == 1:
        size = first
    elif need == 2:
        size = ((first - 192) << 8) + octets[1] + 192
    else:
        size = int.from_bytes(octets[1:], "big")
    return tag, at + 1 + need, size
