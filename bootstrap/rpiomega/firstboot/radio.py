"""Shell that switches the radio of wireless networks on, also where the image keeps it off.

Sources: pi-gen, stage2/02-net-tweaks (NetworkManager's state with WirelessEnabled=false, since 2024-10-31);
raspi-config, do_wifi_country; systemd-rfkill(8).
"""

from __future__ import annotations

STATE = "/var/lib/NetworkManager/NetworkManager.state"


def script(country: str) -> str:
    """Return commands for sh, one a line; `country` (two letters) may be empty. They fail in no way that matters."""
    lines = []
    if country:
        lines += [
            "if command -v raspi-config >/dev/null",
            f"then raspi-config nonint do_wifi_country {country}",
            f"elif command -v iw >/dev/null; then iw reg set {country}; fi",
        ]
    return "\n".join(
        [
            *lines,
            # Read by NetworkManager when it starts, written when it ends: both ways, it may run or not.
            f"if [ -e {STATE} ]; then sed -i 's/^WirelessEnabled=.*/WirelessEnabled=true/' {STATE}; fi",
            'for saved in /var/lib/systemd/rfkill/*:wlan; do if [ -e "$saved" ]; then echo 0 >"$saved"; fi; done',
            "if command -v rfkill >/dev/null; then rfkill unblock wifi; fi",
            "if systemctl -q is-active NetworkManager; then nmcli radio wifi on; fi",
            "true",
        ]
    )
