"""systemd-networkd: a file of our own that sorts before the owner's.

Source: systemd.network(5): of all files that match an interface the first in alphabetical order is taken.
"""

from __future__ import annotations

import glob
import os
import re

from rpiomega.node.files import File
from rpiomega.node.network import wifi
from rpiomega.node.network.stack import MARK, Stack, Wanted, kept
from rpiomega.node.step import StepError

FOLDER = "/etc/systemd/network"
PREFIXES = ("10-", "00-", "00-00-", "")


def status(board, interface: str) -> tuple[str, str]:
    """Return networkd's state of an interface (``configured``, ``unmanaged``...) and the file it took it from."""
    if not board.has("networkctl"):
        return "", ""
    shown = board.shell.run(["networkctl", "status", "--no-pager", "-n0", interface], timeout=15).output
    state = re.search(r"^\s*State: .*\((\S+)\)", shown, re.M)
    file = re.search(r"^\s*Network File: (/\S+)", shown, re.M)
    return (state.group(1) if state else ""), (file.group(1) if file else "")


def resolver(board, dns: tuple[str, ...]) -> list[File]:
    """Return /etc/resolv.conf where nobody writes it: a plain file, and no systemd-resolved."""
    path = "/etc/resolv.conf"
    if os.path.islink(board.path(path)) or not board.shell.run(["systemctl", "is-active", "systemd-resolved"]).code:
        return []
    text = MARK + "\n" + "".join(f"nameserver {server}\n" for server in dns)
    return [*kept(board, path), File(path, text)]


class Networkd(Stack):
    """Files in /etc/systemd/network; those below /run come from netplan and belong to it."""

    name = "networkd"

    def owns(self) -> bool:
        state, file = status(self.board, self.interface)
        return state in ("configured", "configuring", "degraded", "failed") and "-netplan-" not in file

    def _path(self) -> str:
        """Return our file's path: the one that is there, or a name that sorts before what is in force."""
        own = f"rpiomega-{self.interface}.network"
        present = sorted(glob.glob(f"{glob.escape(self.board.path(FOLDER))}/*{own}"))
        if present:
            return f"{FOLDER}/{os.path.basename(present[0])}"
        taken = os.path.basename(status(self.board, self.interface)[1])
        for prefix in PREFIXES:
            if not taken or prefix + own < taken:
                return f"{FOLDER}/{prefix}{own}"
        raise StepError(f"no file can be sorted before {taken}", f"rename {FOLDER}/{taken}, so that it starts with 50-")

    def files(self, wanted: Wanted) -> list[File]:
        lines = [
            MARK,
            "[Match]",
            f"Name={self.interface}",
            "",
            "[Network]",
            f"Address={wanted.cidr}",
            f"Gateway={wanted.gateway}",
            *(f"DNS={server}" for server in wanted.dns),
        ]
        found = [File(self._path(), "\n".join(lines) + "\n", mode=0o644)]
        if wanted.wifi:
            found.append(wifi.supplicant(wanted))
        return found + resolver(self.board, wanted.dns)

    def activate(self, wanted: Wanted) -> list[list[str]]:
        start = wifi.supplicant_commands(self.interface) if wanted.wifi else []
        return [*wifi.country_commands(self.board, wanted.wifi), *start, *self._reload()]

    def restore(self) -> list[list[str]]:
        unit = f"wpa_supplicant@{self.interface}.service"
        running = self.board.has("systemctl") and not self.board.shell.run(["systemctl", "is-active", unit]).code
        return [*([["systemctl", "restart", unit]] if running else []), *self._reload()]

    def restart(self) -> list[list[str]]:
        return [["systemctl", "restart", "systemd-networkd.service"]]

    def _reload(self) -> list[list[str]]:
        return [["networkctl", "reload"], ["networkctl", "reconfigure", self.interface]]
