"""netplan: a file of our own, merged last; only what would be added to ours is taken out of the owner's files.

`netplan_edit` has the edit, `netplan_check` runs netplan's own generator on a copy before anything is written.
"""

from __future__ import annotations

import os

from rpiomega.node.files import File
from rpiomega.node.network import links, netplan_check, netplan_edit, networkd, wifi
from rpiomega.node.network.concealed import KEPT, Concealed, kept
from rpiomega.node.network.networkmanager import WAIT, NetworkManager
from rpiomega.node.network.stack import MARK, Stack, Wanted
from rpiomega.node.step import StepError

FOLDER = "/etc/netplan"
# The first of these that sorts after all files of the owner. Ours has to be the last: its `dhcp4: false` must count,
# and without access points of its own it is valid only after the file that has them.
OWN_NAMES = ("99-rpiomega.yaml", "99_rpiomega.yaml", "99z-rpiomega.yaml", "zz-rpiomega.yaml", "zzzz-rpiomega.yaml")
BY_HAND = "write `network.manage: false` into the site file, and the address into netplan yourself"


def own_name(others: list[str]) -> str:
    """Return the name of our file: one that sorts after all `others`. Raise StepError if there is none."""
    last = max(others, default="")
    found = next((name for name in OWN_NAMES if name > last), "")
    if not found:
        raise StepError(f"no file can be sorted after {last}", f"rename it: {FOLDER}/99-{last.lstrip('z-_~')}")
    return found


class Netplan(Stack):
    """Definitions in YAML; netplan writes them out for networkd or NetworkManager, which then hold the interface."""

    name = "netplan"
    kind = definition = ""

    def owns(self) -> bool:
        return bool(self._generated())

    def _generated(self) -> str:
        """Return the name of the file that netplan made for this interface, without its ending."""
        _, file = networkd.status(self.board, self.interface)
        if "/run/systemd/network/10-netplan-" in file:
            return os.path.basename(file)[len("10-netplan-") : -len(".network")]
        file = os.path.basename(NetworkManager(self.board, self.interface).active()[2])
        if file.startswith("netplan-") and not file.startswith("netplan-NM-"):
            return file[len("netplan-") : -len(".nmconnection")]
        return ""

    def _definition(self, texts: dict[str, str]) -> tuple[str, str]:
        """Return kind (``ethernets``, ``wifis``) and name of the definition that holds the interface."""
        generated, kinds = self._generated(), {}
        for path, text in texts.items():
            network = netplan_edit.value(netplan_edit.load(text, path), "network")
            for kind, definitions in getattr(network, "value", ()):
                for name, _ in definitions.value if isinstance(definitions.value, list) else ():
                    kinds[getattr(name, "value", "")] = kind.value
        # NetworkManager's file for a wireless network is named NAME-SSID.
        fits = [name for name in kinds if generated == name or generated.startswith(f"{name}-")]
        name = max(fits, key=len, default="")
        if kinds.get(name) in ("ethernets", "wifis"):
            return kinds[name], name
        what = f"{name} of section {kinds[name]}" if name else generated
        cause = f"{self.interface} is configured by netplan as {what}, which is no plain Ethernet or Wi-Fi interface"
        raise StepError(cause, BY_HAND)

    def files(self, wanted: Wanted) -> list[File]:
        everything = netplan_check.definitions(self.board)
        present = [path for path in everything if path.startswith(f"{FOLDER}/") and os.path.basename(path) in OWN_NAMES]
        owners = {path: text for path, text in everything.items() if path not in present}
        self.kind, self.definition = kind, name = self._definition(everything)
        own = f"{FOLDER}/{own_name([os.path.basename(path) for path in owners])}"
        result = netplan_edit.takeover(owners, kind, name, wanted, everything[present[-1]] if present else "")
        for path in result.changed:
            if not path.startswith(f"{FOLDER}/"):
                raise StepError(f"{path} configures {self.interface} as well", f"move it to {FOLDER}, or remove it")
        changed = {path: f"{MARK} The original: {path}{KEPT}\n{text}" for path, text in result.changed.items()}
        before = netplan_check.generate(everything, "netplan refuses the board's own definitions", "correct them first")
        after = netplan_check.generate(
            {**owners, **changed, own: result.own}, "netplan would refuse the result", BY_HAND
        )
        netplan_check.refuse_loss(before, after, name, wanted, result.gone)
        found: list[File] = []
        for path, text in changed.items():
            found += [*kept(self.board, path), Concealed(path, text, mode=0o600)]
        found += [File(path, None) for path in present if path != own]
        found.append(Concealed(own, result.own, mode=0o600))
        below = self._renderer()
        return found + (networkd.resolver(self.board, wanted.dns) if isinstance(below, networkd.Networkd) else [])

    def _renderer(self) -> Stack:
        """Return what holds the interface for netplan."""
        _, file = networkd.status(self.board, self.interface)
        return (networkd.Networkd if "-netplan-" in file else NetworkManager)(self.board, self.interface)

    def activate(self, wanted: Wanted) -> list[list[str]]:
        commands = [*wifi.country_commands(self.board, wanted), *self.restore()]
        if wanted.wifi and isinstance(self._renderer(), NetworkManager):
            # Each access point is a profile of its own, and the one in force may be of another network.
            profile = f"netplan-{self.definition}-{wanted.wifi.ssid}"
            commands[-1] = ["nmcli", "--wait", WAIT, "connection", "up", "id", profile, "ifname", self.interface]
        return commands

    def restore(self) -> list[list[str]]:
        # Not `netplan apply`: it handles all interfaces, and where it fails half-way it leaves NetworkManager stopped.
        commands = [["netplan", "generate"], ["systemctl", "daemon-reload"]]
        unit = f"netplan-wpa-{self.interface}.service"
        if links.wireless(self.interface) and isinstance(self._renderer(), networkd.Networkd):
            commands.append(["systemctl", "restart", unit])
        return commands + self._renderer().restore()

    def restart(self) -> list[list[str]]:
        return self._renderer().restart()

    def boot(self) -> list[list[str]]:
        # systemd ran netplan's generator on the files that have just been taken back.
        return [["netplan", "generate"]]
