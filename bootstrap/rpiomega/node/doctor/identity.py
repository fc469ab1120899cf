"""Who the board says it is."""

from __future__ import annotations

import base64
import glob
import hashlib
import json
import os

KEYS = "/etc/ssh/ssh_host_*_key.pub"


def read(board, args: dict) -> dict:
    """Return host name (running and written), machine-id, host key fingerprints, addresses, Salt's id and master."""
    return {
        "hostname": os.uname().nodename if board.live else (board.read("/etc/hostname") or "").strip(),
        "written": (board.read("/etc/hostname") or "").strip(),
        "machine_id": (board.read("/etc/machine-id") or "").strip(),
        "host_keys": host_keys(board),
        "addresses": addresses(board),
        "salt": _salt(board),
    }


def host_keys(board) -> dict[str, str]:
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


def addresses(board) -> list[dict]:
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


def _salt(board) -> dict:
    """Return what the minion's configuration says, without reading YAML: only plain ``key: value`` lines count."""
    found = {}
    paths = ["/etc/salt/minion", *sorted(_below(board, "/etc/salt/minion.d"))]
    for path in paths:
        for line in (board.read(path) or "").splitlines():
            key, colon, value = line.partition(":")
            if colon and key in ("id", "master") and value.strip():
                found[key] = value.split(" #")[0].strip().strip("\"'")
    if "id" not in found and board.exists("/etc/salt/minion_id"):
        found["id"] = (board.read("/etc/salt/minion_id") or "").strip()
    found["minion"] = any(board.has(name) for name in ("salt-minion",))
    return found


def _below(board, folder: str) -> list[str]:
    path = board.path(folder)
    names = os.listdir(path) if os.path.isdir(path) else []
    return [f"{folder}/{name}" for name in names if name.endswith(".conf")]
