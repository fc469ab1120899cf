"""The radio: its country, and its switches."""

from __future__ import annotations

import hashlib

from rpiomega.node.board import Board
from rpiomega.node.files import File
from rpiomega.node.network import guard
from rpiomega.node.network.stack import MARK, Wanted, Wifi


def derived(passphrase: str, ssid: str) -> str:
    """Return the key of a passphrase (IEEE 802.11, annex J.4.1: PBKDF2 with SHA-1, 4096 rounds)."""
    return hashlib.pbkdf2_hmac("sha1", passphrase.encode(), ssid.encode(), 4096, 32).hex()


def country(wifi: Wifi | None) -> list[File]:
    """Return the file that tells the kernel the radio's country where the stack cannot."""
    if not wifi or not wifi.country:
        return []
    return [File("/etc/modprobe.d/rpiomega-wifi.conf", f"{MARK}\noptions cfg80211 ieee80211_regdom={wifi.country}\n")]


def country_commands(board: Board, wanted: Wanted) -> list[list[str]]:
    """Return what sets the radio's country and switches it on now, where there are the tools.

    Raspberry Pi OS images since 2024-10-31 contain a state of NetworkManager with ``WirelessEnabled=false``: neither
    the country nor rfkill changes that, and a profile cannot be activated before it is changed.
    """
    wifi, commands = wanted.wifi, []
    if not wifi:
        return []
    if wifi.country and board.has("raspi-config"):
        # It may end 1 after it has set the country: without a wpa_supplicant to talk to, for one.
        commands.append(["-raspi-config", "nonint", "do_wifi_country", wifi.country])
    if wifi.country and board.has("iw"):
        commands.append(["iw", "reg", "set", wifi.country])
    if board.has("rfkill"):
        commands.append(["rfkill", "unblock", "wifi"])
    if board.has("nmcli") and not board.shell.run(["nmcli", "-t", "general"], timeout=15).code:
        verify = [guard.PYTHON, f"{guard.FOLDER}/guard.py", "radio", wanted.interface]
        commands += [["nmcli", "radio", "wifi", "on"], verify]
    return commands
