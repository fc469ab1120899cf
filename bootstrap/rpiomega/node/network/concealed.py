"""Files with keys among their lines: no diff shows a key, and what is replaced is kept."""

from __future__ import annotations

import os
import re

from rpiomega.node import files
from rpiomega.node.board import Board
from rpiomega.node.files import File
from rpiomega.node.step import Diff

KEPT = ".before-rpiomega"
# NetworkManager reads every file of its folder as a profile, whatever its ending: copies of profiles go here.
PROFILES = "/var/lib/rpiomega/network/profiles"
# wpa_supplicant's, netplan's and NetworkManager's names; of a mapping in one line ({password: x}) the rest goes.
# netplan has the keys of WireGuard as `key`, `private` and `shared`.
_NAMES = (
    r"psk|\w*(?:password|passphrase|passwd)(?:-raw)?|wep[-_]key\d?|sae_password|pin|secret|pac|"
    r"(?:private|preshared)[-_]key|key|private|shared"
)
_KEYS = re.compile(rf"((?:^|[\s#{{,\"'.-])\"?(?:[\w-]+-)?(?:{_NAMES})\"?\s*[=:]\s*)(\S.*)$", re.M | re.I)


def redact(text: str) -> str:
    """Return configuration text with the values of all keys and passwords blanked."""
    return _KEYS.sub(r"\1********", text)


class Concealed(File):
    """A file with a key among its lines: its diff shows everything but that."""

    def diff(self, board: Board) -> Diff:
        """Return how the board's file differs, keys blanked."""
        old = files.read(board.path(self.path))
        if self.text is None or old == self.text:
            return super().diff(board)
        diff = Diff()
        before, after = (None if old is None else redact(old)), redact(self.text)
        if before == after:
            diff.add(f"write {self.path} (a key changes, not shown)")
        else:
            diff.add_text(self.path, before, after)
        return diff


def kept(board: Board, path: str, folder: str = "") -> list[File]:
    """Return the copy that keeps what a file holds now, in a file beside it (or in `folder`); nothing if there is one.

    A copy is never replaced: the second one is called NAME.before-rpiomega.2, and so on.
    """
    text = board.read(path)
    if text is None:
        return []
    base = (f"{folder}/{os.path.basename(path)}" if folder else path) + KEPT
    number, name = 1, base
    while board.exists(name):
        if board.read(name) == text:
            return []
        number += 1
        name = f"{base}.{number}"
    return [Concealed(name, text, mode=0o600)]
