"""Who the board says it is."""

from __future__ import annotations

import base64
import glob
import hashlib
import json
import os
import re

from rpiomega.node.board import Board

KEYS = "/etc/ssh/ssh_host_*_key.pub"


def read(board: Board, args: dict) -> dict:
    """Return host name (running and written), machine-id, host key fingerprints, addresses, Salt's id and master."""
    return {
        "hostname": os.uname().nodename if board.live else (board.read("/etc/hostname") or "").strip(),
        "written": (board.read("/etc/hostname") or "").strip(),
        "machine_id": (board.read("/etc/machine-id") or "").strip(),
        "host_keys": host_keys(board),
        "addresses": addresses(board),
        "salt": _salt(board),
    }


def host_keys(board: Board) -> dict[str, str]:
    """Return key type -> SHA256 fingerprint, as `ssh-keygen -l` prints it."""
    found = {}
    for path in sorted(glob.glob(board.path(KEYS))):
        with open(path, encoding="ascii", errors="replace") as handle:
            words = handle.read().split()
        if len(words) < 2:
            continue
        digest = hashlib.sha256(base64.b64decode(words[1] + "===")).digest()
        found[words[0]] = "SHA256:" + base64.b64encode(digest).decode().rstrip("=")
    return found


def addresses(board: Board) -> list[dict]:
    """Return the board's IPv4 addresses of scope global: ``{"device", "address", "prefix", "dynamic"}``."""
    if not board.has("ip"):
        return []
    output = board.shell.run(["ip", "-j", "-4", "addr", "show", "scope", "global"], timeout=5).output
    try:
        links = json.loads(output or "[]")
    except ValueError:
        return []
    return [
        {
            "device": link["ifname"],
            "address": entry["local"],
            "prefix": entry["prefixlen"],
            "dynamic": bool(entry.get("dynamic")),
        }
        for link in links
        for entry in link.get("addr_info", [])
        if link.get("ifname")
    ]


def _salt(board: Board) -> dict:
    """Return what the minion's configuration says: ``id``, ``master``, ``file_client``, each with its ``KEY_file``.

    Read as lines and not by Salt, which takes an old board longer than an examination may: ``key: value``, and lists.
    """
    found: dict[str, str | bool] = {}
    paths = ["/etc/salt/minion", *sorted(_below(board, "/etc/salt/minion.d"))]
    for path in paths:
        for key, value in settings(board.read(path) or "").items():
            found[key], found[f"{key}_file"] = value, path
    if "id" not in found and board.exists("/etc/salt/minion_id"):
        found["id"] = (board.read("/etc/salt/minion_id") or "").strip()
    found["minion"] = any(board.has(name) for name in ("salt-minion",))
    return found


def settings(text: str) -> dict[str, str]:
    """Return ``id``, ``master`` and ``file_client`` of a minion's file in YAML; a list's items with commas between."""
    plain = [line.split(" #")[0].rstrip() for line in text.splitlines() if not line.lstrip().startswith("#")]
    lines = [line for line in plain if line.strip() not in ("", "---")]
    # A document's keys have the same indentation, which may be more than none.
    depth = min((len(line) - len(line.lstrip()) for line in lines), default=0)
    found = {}
    for number, line in enumerate(lines):
        key, colon, value = line[depth:].partition(":")
        if colon and key.strip("\"'") in ("id", "master", "file_client"):
            items = re.findall(r"[^\s,\[\]\"']+", value)
            for item in [] if items else lines[number + 1 :]:
                if not item.lstrip().startswith("- "):
                    break
                items.append(item.lstrip()[2:].strip().strip("\"'"))
            if items:
                found[key.strip("\"'")] = ", ".join(items)
    return found


def _below(board: Board, folder: str) -> list[str]:
    path = board.path(folder)
    names = os.listdir(path) if os.path.isdir(path) else []
    return [f"{folder}/{name}" for name in names if name.endswith(".conf")]
