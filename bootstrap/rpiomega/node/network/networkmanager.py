"""NetworkManager: a profile of our own that outranks the owner's, which stay as they are.

Sources: nm-settings-keyfile(5); `autoconnect-priority` is -999 to 999, the highest profile that fits is taken.
"""

from __future__ import annotations

import re
import uuid

from rpiomega.node.files import File
from rpiomega.node.network import keyfile, nm_config, wifi
from rpiomega.node.network.concealed import PROFILES, Concealed, kept
from rpiomega.node.network.stack import Stack, Wanted
from rpiomega.node.step import StepError

FOLDER = nm_config.FOLDERS[0]
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
        nm_config.refuse_unmanaged(self.board, self.interface)
        profiles = nm_config.profiles(self.board)
        base, path = self._base(wanted)
        text = keyfile.takeover(base, path, wanted, f"rpiomega-{self.interface}", self.uuid)
        nm_config.refuse_invalid(self.board, text, path)
        found: list[File] = []
        for rival in nm_config.same(profiles, self.uuid, self.path):
            if not rival.startswith(f"{FOLDER}/"):
                raise StepError(f"{rival} has the UUID of rpiomega's profile", "remove it")
            found += [*kept(self.board, rival, PROFILES), File(rival, None)]
        nm_config.refuse_equal(profiles, self.interface, self.uuid)
        return [*found, Concealed(self.path, text, mode=0o600, owner="root:root"), *wifi.country(wanted.wifi)]

    def _base(self, wanted: Wanted) -> tuple[str, str]:
        """Return text and path of the profile that ours is made from: the one in force, or else a new one."""
        _, connection, path = self.active()
        text = (self.board.read(path) if path else None) or ""
        profile = keyfile.sections(text)
        if wanted.wifi and keyfile.ssid(profile) != wanted.wifi.ssid.encode():
            return keyfile.fresh(wanted), self.path
        if any(section.name == "connection" for section in profile):
            return text, path
        if connection or (wanted.wireless and not wanted.wifi):
            cause = f"the profile of {self.interface} ({path or connection or 'none'}) cannot be read as a keyfile"
            cure = "write network.wifi into the site file" if wanted.wireless else "`nmcli connection migrate`"
            raise StepError(cause, cure)
        return keyfile.fresh(wanted), self.path

    def activate(self, wanted: Wanted) -> list[list[str]]:
        return [
            *wifi.country_commands(self.board, wanted),
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
