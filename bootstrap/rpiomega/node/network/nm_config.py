"""What else NetworkManager reads: its configuration, and the other profiles that could be taken instead of ours.

Sources: NetworkManager.conf(5) (device list format, keyfile.path), nm-settings-keyfile(5).
"""

from __future__ import annotations

import fnmatch
import glob
import os
import re
import subprocess

from rpiomega.node.board import Board
from rpiomega.node.network import ini, keyfile, links
from rpiomega.node.network.concealed import redact
from rpiomega.node.step import StepError

FOLDERS = tuple(f"{root}/NetworkManager/system-connections" for root in ("/etc", "/run", "/usr/lib"))
CONF = ("/etc/NetworkManager/NetworkManager.conf",) + tuple(
    f"{root}/NetworkManager/conf.d/*.conf" for root in ("/usr/lib", "/run", "/etc")
)
# NetworkManager passes over hidden files and editors' copies. Whatever else is in its folder in /etc is a profile,
# x.bak and x.nmconnection.save as well (1.52.1 as it ran).
_IGNORED = re.compile(r"^\.|~$")


def profiles(board: Board) -> dict[str, list[ini.Section]]:
    """Return path -> sections of all keyfiles."""
    found = {}
    for folder in FOLDERS:
        for real in sorted(glob.glob(f"{glob.escape(board.path(folder))}/*")):
            name = os.path.basename(real)
            if os.path.isfile(real) and not _IGNORED.search(name):
                found[f"{folder}/{name}"] = keyfile.sections(board.read(f"{folder}/{name}") or "")
    return found


def same(found: dict[str, list[ini.Section]], uuid: str, path: str) -> list[str]:
    """Return the paths of other profiles with our UUID: copies made by hand. NetworkManager takes one of them."""
    return [other for other, profile in found.items()
            if other != path and ini.last(profile, "connection", "uuid") == uuid]  # fmt: skip


def refuse_equal(found: dict[str, list[ini.Section]], interface: str, uuid: str) -> None:
    """Raise StepError if another profile for the interface has the highest priority too."""
    for path, profile in found.items():
        has = {key: value for section in profile if section.name == "connection" for key, value, _ in section.items}
        fits = keyfile.TYPES.get(has.get("type", "")) == ("wifi" if links.wireless(interface) else "ethernet")
        fits = fits and has.get("interface-name", "") in ("", interface) and has.get("uuid") != uuid
        if not fits or has.get("autoconnect-priority") != "999" or not ini.true(has.get("autoconnect", "true")):
            continue
        name = has.get("id", path)
        cause = f"{path} has autoconnect-priority=999 as rpiomega's profile has: either may be taken"
        raise StepError(cause, f"nmcli connection modify '{name}' connection.autoconnect-priority 0")


def refuse_unmanaged(board: Board, interface: str) -> None:
    """Raise StepError if NetworkManager leaves the interface, or our folder, alone from its next start on."""
    shown = board.shell.run(["NetworkManager", "--print-config"], timeout=15) if board.has("NetworkManager") else None
    if shown is None or shown.code:
        return
    configuration = ini.parse(shown.output)
    path = ini.last(configuration, "keyfile", "path")
    if path and os.path.normpath(path) != FOLDERS[0]:
        raise StepError(f"NetworkManager keeps its profiles in {path} (keyfile.path)", f"use {FOLDERS[0]}")
    for section in configuration:
        values = section.values("unmanaged-devices") if section.name == "keyfile" else []
        managed = section.values("managed") if section.name.startswith("device") else []
        if managed and not ini.true(managed[-1]):
            values = section.values("match-device") or ["*"]
        for value in values:
            if matches(value, interface, _mac(interface), links.wireless(interface)):
                cause = f"{_where(board, value)} takes {interface} from NetworkManager at its next start ({value})"
                raise StepError(cause, f"take {interface} out of it, or let another stack configure it")


def _mac(interface: str) -> str:
    try:
        return links.mac(interface).hex(":")
    except (OSError, ValueError):
        return ""


def _where(board: Board, value: str) -> str:
    for pattern in reversed(CONF):
        for real in sorted(glob.glob(board.path(pattern)), reverse=True):
            path = f"{os.path.dirname(pattern)}/{os.path.basename(real)}"
            if value in (board.read(path) or ""):
                return path
    return "NetworkManager's configuration"


def matches(spec: str, interface: str, mac: str, wireless: bool) -> bool:
    """Return whether a device list of NetworkManager.conf names an interface; an `except:` that fits outweighs all."""
    plain, fits = False, False
    for word in filter(None, (word.strip() for word in re.split(r"[;,]", spec))):
        negated = word.startswith("except:")
        hit = _hit(word[len("except:") :] if negated else word, interface, mac, wireless)
        if negated and hit:
            return False
        plain, fits = plain or not negated, fits or (hit and not negated)
    return fits or not plain


def _hit(word: str, interface: str, mac: str, wireless: bool) -> bool:
    kind, _, value = word.partition(":")
    if kind == "interface-name":
        return value[1:] == interface if value.startswith("=") else fnmatch.fnmatchcase(interface, value.lstrip("~"))
    if kind == "type":
        return value == ("wifi" if wireless else "ethernet")
    if kind == "mac":
        return value.lower() == mac
    return word in ("*", interface) or word.lower() == mac


def refuse_invalid(board: Board, text: str, path: str) -> None:
    """Raise StepError if NetworkManager's own parser refuses a profile (nmcli reads one from 1.40 on).

    Not logged: the profile may hold a key.
    """
    if not board.has("nmcli"):
        return
    argv = ["nmcli", "--offline", "connection", "modify", "connection.autoconnect", "yes"]
    try:
        done = subprocess.run(
            argv, input=text, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, encoding="utf-8",
            errors="surrogateescape", timeout=30, check=False, env={**os.environ, "LC_ALL": "C.UTF-8"},
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return
    said = redact(done.stderr.strip())
    if done.returncode and "--offline" not in said and "unknown" not in said:
        last = (said or f"exit code {done.returncode}").splitlines()[-1]
        raise StepError(f"NetworkManager would refuse the profile made from {path}: {last}", "see this node's log")
