"""wpa_supplicant's file of an interface: the owner's one, with the site's network in it.

Source: wpa_supplicant.conf(5). An SSID is text in quotes, printf-escaped text as ``P"..."``, or hexadecimal.
"""

from __future__ import annotations

import os
import re

from rpiomega.node.board import Board
from rpiomega.node.files import File
from rpiomega.node.network.concealed import Concealed, kept
from rpiomega.node.network.stack import MARK, Wanted, Wifi
from rpiomega.node.network.wifi import derived
from rpiomega.node.step import StepError

FOLDER = "/etc/wpa_supplicant"
# Raspberry Pi OS before bookworm: dhcpcd starts wpa_supplicant itself, with the first of the two files that exists.
HOOK = "/lib/dhcpcd/dhcpcd-hooks/10-wpa_supplicant"
SHARED = f"{FOLDER}/wpa_supplicant.conf"
_BLOCK = re.compile(r"^[ \t]*network=\{[ \t]*(?:#[^\n]*)?\r?\n(.*?)^[ \t]*\}[ \t]*(?:#[^\n]*)?\r?$", re.M | re.S)
_ESCAPES = {"n": b"\n", "r": b"\r", "t": b"\t", "e": b"\033", "\\": b"\\", '"': b'"'}


def path(interface: str) -> str:
    """Return the file of an interface."""
    return f"{FOLDER}/wpa_supplicant-{interface}.conf"


def files(board: Board, wanted: Wanted) -> list[File]:
    """Return wpa_supplicant's file as it should be, and the copy of what the owner had; nothing without a `wifi`."""
    if not wanted.wifi:
        return []
    own = path(wanted.interface)
    source = own if board.exists(own) or not board.exists(HOOK) else SHARED
    old = board.read(source) or ""
    new = edit(old, source, wanted.wifi)
    copies = kept(board, own) if new != old and source == own else []
    return [*copies, Concealed(own, new, mode=0o600)]


def ssid(value: str) -> bytes:
    """Return the bytes of an `ssid=` line's value."""
    value = value.strip()
    if value.startswith('P"'):
        raw = value[2:].rpartition('"')[0].encode("utf-8", "surrogateescape")
        return re.sub(
            rb'\\(x[0-9a-fA-F]{2}|[nrte\\"])',
            lambda found: bytes([int(found[1][1:], 16)]) if found[1][:1] == b"x" else _ESCAPES[found[1].decode()],
            raw,
        )
    if value.startswith('"'):
        return value[1:].rpartition('"')[0].encode("utf-8", "surrogateescape")
    try:
        return bytes.fromhex(value)
    except ValueError:
        return b""


def _value(block: str, key: str) -> str:
    found = re.findall(rf"^[ \t]*{key}[ \t]*=[ \t]*(.*?)[ \t\r]*$", block, re.M)
    return found[-1] if found else ""


def edit(text: str, source: str, wifi: Wifi) -> str:
    """Return the file `source` with the wireless network of the site; its other networks and settings stay.

    Raise StepError if the owner's entry of this network has no pre-shared key.
    """
    wanted = f"psk={wifi.psk}"
    for found in _BLOCK.finditer(text):
        block = found[1]
        if ssid(_value(block, "ssid")) != wifi.ssid.encode():
            continue
        management = (_value(block, "key_mgmt") or "WPA-PSK").split()
        if "WPA-PSK" not in management:
            cause = f"{source}: key_mgmt={' '.join(management)} of {wifi.ssid} would be lost"
            raise StepError(cause, "take `wifi` out of section network of the site file: the settings there stay")
        psk = _value(block, "psk")
        if psk != wifi.psk and derived(psk.strip('"'), wifi.ssid) != wifi.psk:
            lines = [line for line in block.splitlines() if not re.match(r"\s*psk\s*=", line)]
            block = "\n".join([*lines, f"\t{wanted}"]) + "\n"
        # A network that was switched off has to be on.
        block = re.sub(r"^[ \t]*disabled[ \t]*=.*\n", "", block, flags=re.M)
        return _country(text[: found.start(1)] + block + text[found.end(1) :], wifi)
    if not text.strip():
        text = f"{MARK}\nctrl_interface=DIR=/run/wpa_supplicant GROUP=netdev\nupdate_config=0\n"
    lines = [
        "network={",
        f"\tssid={wifi.ssid.encode().hex()}",
        "\tscan_ssid=1",
        "\tkey_mgmt=WPA-PSK",
        f"\t{wanted}",
        "}",
    ]
    return _country(text.rstrip("\n") + "\n" + "\n".join(lines) + "\n", wifi)


def _country(text: str, wifi: Wifi) -> str:
    if not wifi.country or re.search(rf"^country={wifi.country}\s*$", text, re.M):
        return text
    rest = re.sub(r"^country=.*\n", "", text, flags=re.M)
    # Before the first network: global settings end there.
    return re.sub(r"^(?=[ \t]*network=\{)", f"country={wifi.country}\n", rest, count=1, flags=re.M)


def commands(interface: str) -> list[list[str]]:
    """Return what starts wpa_supplicant for an interface, with its file as it is now."""
    if os.path.exists(HOOK):
        return []
    unit = f"wpa_supplicant@{interface}.service"
    return [["systemctl", "enable", "--quiet", unit], ["systemctl", "restart", unit]]
