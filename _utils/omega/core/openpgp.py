"""The fingerprint of an OpenPGP public key, without gpg: a minimal Debian has none."""

import base64
import hashlib


class KeyFileError(Exception):
    """The text is no OpenPGP public key."""


def primary_fingerprints(data):
    """Return the fingerprints of the primary keys in ``data``.

    :param data: bytes, ASCII-armoured or binary
    :return: list of upper-case hex strings, version 4 keys (RFC 9580, section 5.5.4.2)
    :raises KeyFileError: ``data`` cannot be read as a public key
    """
    try:
        packets = list(_packets(_dearmour(data)))
    except (ValueError, IndexError) as error:
        raise KeyFileError(f"no OpenPGP public key: {error}") from error
    found = [
        hashlib.sha1(b"\x99" + len(body).to_bytes(2, "big") + body).hexdigest().upper()  # noqa: S324
        for tag, body in packets
        if tag == 6 and body[:1] == b"\x04"
    ]
    if not found:
        raise KeyFileError("no OpenPGP public key: no version 4 primary key in it")
    return found


def _dearmour(data):
    if not data.lstrip().startswith(b"-----BEGIN"):
        return data
    blocks, lines, inside = [], [], False
    for line in data.splitlines():
        line = line.strip()
        if line.startswith(b"-----BEGIN"):
            lines, inside, headers = [], True, True
        elif line.startswith(b"-----END"):
            blocks.append(base64.b64decode(b"".join(lines), validate=True))
            inside = False
        elif inside and headers:
            # Armour headers end at the first empty line (RFC 9580, section 6.2).
            headers = bool(line)
        elif inside and not line.startswith(b"="):
            lines.append(line)
    return b"".join(blocks)


def _packets(data):
    """Yield ``(tag, body)`` for old and new packet formats (RFC 9580, section 4.2)."""
    at = 0
    while at < len(data):
        head = data[at]
        if not head & 0x80:
            raise ValueError(f"byte {at} starts no packet")
        at += 1
        if head & 0x40:
            tag, first = head & 0x3F, data[at]
            if first < 192:
                size, at = first, at + 1
            elif first < 224:
                size, at = ((first - 192) << 8) + data[at + 1] + 192, at + 2
            elif first == 255:
                size, at = int.from_bytes(data[at + 1 : at + 5], "big"), at + 5
            else:
                raise ValueError("partial lengths do not occur in keys")
        else:
            tag, kind = (head >> 2) & 0x0F, head & 3
            if kind == 3:
                raise ValueError("a packet of unknown length does not occur in keys")
            width = 1 << kind
            size, at = int.from_bytes(data[at : at + width], "big"), at + width
        if at + size > len(data):
            raise ValueError("the key ends in the middle of a packet")
        yield tag, data[at : at + size]
        at += size
