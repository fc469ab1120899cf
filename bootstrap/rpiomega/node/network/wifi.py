"""Wireless settings: wpa_supplicant's file, the radio's country, and nothing of a key in any diff."""

from __future__ import annotations

import os
import re

from rpiomega.node.files import File
from rpiomega.node.network.stack import MARK, Concealed, Wanted, Wifi

_KEYS = re.compile(
    r"^(\s*#?\s*\"?(?:psk|password|wep-key\d|wep_key\d|private-key-password|sae_password)\"?\s*[=:]\s*)(.+)$", re.M
)
# Raspberry Pi OS before bookworm: dhcpcd starts wpa_supplicant itself.
HOOK = "/lib/dhcpcd/dhcpcd-hooks/10-wpa_supplicant"


def redact(text: str) -> str:
    """Return configuration text with the values of all keys and passwords blanked."""
    return _KEYS.sub(r"\1********", text)


def supplicant(wanted: Wanted) -> File:
    """Return wpa_supplicant's file for an interface; the SSID goes in as hexadecimal, whatever its letters."""
    wifi = wanted.wifi
    lines = [MARK, "ctrl_interface=DIR=/run/wpa_supplicant GROUP=netdev", "update_config=0"]
    lines += [f"country={wifi.country}"] if wifi.country else []
    lines += ["network={", f"\tssid={wifi.ssid.encode().hex()}", "\tscan_ssid=1", "\tkey_mgmt=WPA-PSK"]
    lines += [f"\tpsk={wifi.psk}", "}"]
    path = f"/etc/wpa_supplicant/wpa_supplicant-{wanted.interface}.conf"
    return Concealed(path, "\n".join(lines) + "\n", mode=0o600)


def supplicant_commands(interface: str) -> list[list[str]]:
    """Return what starts wpa_supplicant for an interface, with its file as it is now."""
    if os.path.exists(HOOK):
        return []
    unit = f"wpa_supplicant@{interface}.service"
    return [["systemctl", "enable", "--quiet", unit], ["systemctl", "restart", unit]]


def country(wifi: Wifi | None) -> list[File]:
    """Return the file that tells the kernel the radio's country where the stack cannot."""
    if not wifi or not wifi.country:
        return []
    return [File("/etc/modprobe.d/rpiomega-wifi.conf", f"{MARK}\noptions cfg80211 ieee80211_regdom={wifi.country}\n")]


def country_commands(board, wifi: Wifi | None) -> list[list[str]]:
    """Return what sets the radio's country and switches it on now, where there are the tools."""
    if not wifi:
        return []
    commands = [["iw", "reg", "set", wifi.country]] if wifi.country and board.has("iw") else []
    return commands + ([["rfkill", "unblock", "wifi"]] if board.has("rfkill") else [])
