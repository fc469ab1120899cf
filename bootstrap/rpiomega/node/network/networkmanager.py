"""NetworkManager: a profile of our own that outranks the owner's, which stay as they are.

Sources: nm-settings-keyfile(5); `autoconnect-priority` is -999 to 999, the highest profile that fits is taken.
"""

from __future__ import annotations

import re
import uuid

from rpiomega.node.files import File
from rpiomega.node.network import wifi
from rpiomega.node.network.stack import MARK, Concealed, Stack, Wanted
from rpiomega.node.step import StepError

FOLDER = "/etc/NetworkManager/system-connections"
WAIT = "45"
_SPACE = uuid.UUID("6a5e1a4e-3a1c-4b57-9d5f-0f2b8c3c7d11")


class NetworkManager(Stack):
    """Profiles in keyfiles. Those that netplan made are netplan's, but for the ones NetworkManager keeps there."""

    name = "networkmanager"

    def owns(self) -> bool:
        state, _, file = self.active()
        return state > 10 and "netplan-" not in file.replace("netplan-NM-", "")

    def active(self) -> tuple[int, str, str]:
        """Return the device's state (nm-device-state: 10 unmanaged, 100 activated), active profile's UUID and file."""
        if not self.board.has("nmcli"):
            return 0, "", ""
        fields = ["nmcli", "-g", "GENERAL.STATE,GENERAL.CON-UUID", "device", "show", self.interface]
        result = self.board.shell.run(fields, timeout=15)
        lines = result.output.splitlines()
        number = re.match(r"\d+", lines[0]) if lines and not result.code else None
        if not number or "externally" in lines[0]:
            return 0, "", ""
        connection = lines[1].strip() if len(lines) > 1 else ""
        return int(number.group()), connection, self._file(connection) if connection else ""

    def _file(self, connection: str) -> str:
        shown = self.board.shell.run(
            ["nmcli", "-t", "-e", "no", "-f", "UUID,FILENAME", "connection", "show"], timeout=15
        )
        return next((line.partition(":")[2] for line in shown.output.splitlines() if line.startswith(connection)), "")

    @property
    def path(self) -> str:
        """Return our profile's path."""
        return f"{FOLDER}/rpiomega-{self.interface}.nmconnection"

    @property
    def uuid(self) -> str:
        """Return our profile's UUID, the same at every run."""
        return str(uuid.uuid5(_SPACE, self.interface))

    def files(self, wanted: Wanted) -> list[File]:
        lines = [
            MARK,
            "[connection]",
            f"id=rpiomega-{self.interface}",
            f"uuid={self.uuid}",
            f"type={'wifi' if wanted.wireless else 'ethernet'}",
            f"interface-name={self.interface}",
            "autoconnect-priority=999",
            # Never give up: a board whose switch boots slowly must come back.
            "autoconnect-retries=0",
            "",
            *(self._wireless(wanted) if wanted.wireless else []),
            "[ipv4]",
            "method=manual",
            f"address1={wanted.cidr},{wanted.gateway}",
            f"dns={''.join(f'{server};' for server in wanted.dns)}",
            "",
            # As the owner has it: IPv6 is not what the site file speaks of.
            *(sections(self.board.read(self.active()[2]) or "", ("ipv6",)) or ["[ipv6]", "method=auto"]),
        ]
        return [Concealed(self.path, "\n".join(lines) + "\n", mode=0o600), *wifi.country(wanted.wifi)]

    def _wireless(self, wanted: Wanted) -> list[str]:
        if wanted.wifi:
            ssid = "".join(f"{byte};" for byte in wanted.wifi.ssid.encode())
            security = ["[wifi-security]", "key-mgmt=wpa-psk", f"psk={wanted.wifi.psk}", ""]
            return ["[wifi]", "mode=infrastructure", f"ssid={ssid}", "", *security]
        kept = sections(self.board.read(self.active()[2]) or "", ("wifi", "wifi-security", "802-1x"))
        if not kept:
            cause = f"the profile of {self.interface} cannot be read, so its Wi-Fi settings are not known"
            raise StepError(cause, "write network.wifi into the site file")
        return [*kept, ""]

    def activate(self, wanted: Wanted) -> list[list[str]]:
        return [
            *wifi.country_commands(self.board, wanted.wifi),
            ["nmcli", "connection", "load", self.path],
            ["nmcli", "--wait", WAIT, "connection", "up", "uuid", self.uuid, "ifname", self.interface],
        ]

    def restore(self) -> list[list[str]]:
        _, connection, _ = self.active()
        commands = [["nmcli", "connection", "reload"]]
        target = ["connection", "up", "uuid", connection, "ifname"] if connection else ["device", "connect"]
        return [*commands, ["nmcli", "--wait", WAIT, *target, self.interface]]

    def restart(self) -> list[list[str]]:
        return [["systemctl", "restart", "NetworkManager.service"]]


def sections(text: str, names: tuple[str, ...]) -> list[str]:
    """Return the lines of some sections of a keyfile, as they are."""
    kept, inside = [], False
    for line in text.splitlines():
        if line.startswith("["):
            inside = line.strip("[] ") in names
        if inside:
            kept.append(line)
    while kept and not kept[-1].strip():
        kept.pop()
    return kept
