"""Whether ifupdown configures an interface: /etc/network/interfaces and what it sources (interfaces(5))."""

from __future__ import annotations

import fnmatch
import glob
import os
import re

from rpiomega.node.board import Board

PATH = "/etc/network/interfaces"
_RUN_PARTS = re.compile(r"[A-Za-z0-9_-]+")


def lines(board: Board, path: str = PATH, seen: frozenset = frozenset()) -> list[tuple[str, list[str]]]:
    """Return (path, words) of every logical line, those of sourced files in their place."""
    found: list[tuple[str, list[str]]] = []
    if path in seen:
        return found
    text = re.sub(r"\\\n", " ", board.read(path) or "")
    for line in text.splitlines():
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if words[0] in ("source", "source-directory") and len(words) > 1:
            for other in _sourced(board, os.path.dirname(path), words):
                found += lines(board, other, seen | {path})
        else:
            found.append((path, words))
    return found


def _sourced(board: Board, folder: str, words: list[str]) -> list[str]:
    found = []
    for pattern in words[1:]:
        real = board.path(os.path.normpath(os.path.join(folder, pattern)))
        for match in sorted(glob.glob(real)):
            inside = [match]
            if words[0] == "source-directory":
                inside = [f"{match}/{name}" for name in sorted(os.listdir(match)) if _RUN_PARTS.fullmatch(name)]
            root = 0 if board.live else len(board.root.rstrip("/"))
            found += [path[root:] for path in inside if os.path.isfile(path)]
    return found


def stanza(board: Board, interface: str) -> tuple[str, bool]:
    """Return the file that gives an interface an IPv4 address (empty if none does), and whether at boot."""
    path, boot = "", False
    for where, words in lines(board):
        named = words[0] == "iface" and len(words) > 3 and fnmatch.fnmatchcase(interface, words[1].lstrip("/"))
        # `manual` leaves the address to others, as Raspberry Pi OS has it beside dhcpcd.
        if named and words[2] == "inet" and words[3] not in ("manual", "loopback"):
            path = where
        if words[0] in ("auto", "allow-auto", "allow-hotplug"):
            boot = boot or any(fnmatch.fnmatchcase(interface, word.lstrip("/")) for word in words[1:])
    return path, boot
