"""Wireless settings: wpa_supplicant's file, the radio's country, and nothing of a key in any diff."""

from __future__ import annotations

import os

from rpiomega.node.files import File
from rpiomega.node.network import guard
from rpiomega.node.network.concealed import Concealed
from rpiomega.node.network.stack import MARK, Wanted, Wifi

# Raspberry Pi OS before bookworm: dhcpcd starts wpa_supplicant itself.
HOOK = "/lib/dhcpcd/dhcpcd-hooks/10-wpa_supplicant"


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


def country_commands(board, wanted: Wanted) -> list[list[str]]:
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
