"""Fingerprints of Salt's keys, as `salt-key -F` and the minion's `master_finger` write them."""

from __future__ import annotations

import hashlib

from rpiomega.node.board import Board

MASTER_PUB = "/etc/salt/pki/master/master.pub"
MINION_PUB = "/etc/salt/pki/minion/minion.pub"
CACHED_MASTER = "/etc/salt/pki/minion/minion_master.pub"
# Folder below /etc/salt/pki/master -> what it means.
STATES = {"minions": "accepted", "minions_pre": "waiting", "minions_rejected": "rejected", "minions_denied": "denied"}


def fingerprint(pem: str | None) -> str:
    """Return the SHA-256 fingerprint of a PEM text, an empty string if there is none yet.

    Salt hashes the lines between first and last, line ends included (salt.utils.crypt.pem_finger).
    """
    lines = [line for line in (pem or "").replace("\r\n", "\n").splitlines(keepends=True) if line.strip()][1:-1]
    if not lines:
        return ""
    digest = hashlib.sha256("".join(lines).encode()).hexdigest()
    return ":".join(digest[i : i + 2] for i in range(0, len(digest), 2))


def seen_by_master(board: Board, name: str) -> dict[str, str]:
    """Return state -> fingerprint of the keys the master holds under a minion's name."""
    found = {}
    for folder, state in STATES.items():
        finger = fingerprint(board.read(f"/etc/salt/pki/master/{folder}/{name}"))
        if finger:
            found[state] = finger
    return found
