"""systemd-networkd: a file of our own that sorts before the owner's.

Source: systemd.network(5): of all files that match an interface the first in alphabetical order is taken.
"""

from __future__ import annotations

import glob
import os
import re

from rpiomega.node.board import Board
from rpiomega.node.files import File
from rpiomega.node.network import ini, network_file, supplicant, wifi
from rpiomega.node.network.concealed import kept
from rpiomega.node.network.stack import MARK, Stack, Wanted, family
from rpiomega.node.step import StepError

FOLDER = "/etc/systemd/network"
FOLDERS = (FOLDER, "/run/systemd/network", "/usr/local/lib/systemd/network", "/usr/lib/systemd/network",
           "/lib/systemd/network")  # fmt: skip
PREFIXES = ("10-", "05-", "00-", "0-", "-")


def status(board: Board, interface: str) -> tuple[str, str]:
    """Return networkd's state of an interface (``configured``, ``unmanaged``...) and the file it took it from."""
    if not board.has("networkctl"):
        return "", ""
    shown = board.shell.run(["networkctl", "status", "--no-pager", "-n0", interface], timeout=15).output
    state = re.search(r"^\s*State: .*\((\S+)\)", shown, re.M)
    file = re.search(r"^\s*Network File: (/\S+)", shown, re.M)
    return (state.group(1) if state else ""), (file.group(1) if file else "")


def resolver(board: Board, dns: tuple[str, ...]) -> list[File]:
    """Return /etc/resolv.conf where nobody writes it: a plain file, and no systemd-resolved.

    Only IPv4 name servers are replaced; what else the owner has there stays.
    """
    path = "/etc/resolv.conf"
    if os.path.islink(board.path(path)) or not board.shell.run(["systemctl", "is-active", "systemd-resolved"]).code:
        return []
    old = board.read(path) or ""
    lines = [
        line for line in old.splitlines() if not re.match(r"\s*nameserver\s", line) or family(line.split()[1]) == 6
    ]
    text = "\n".join([*([] if MARK in lines else [MARK]), *lines, *(f"nameserver {server}" for server in dns)]) + "\n"
    if text == old:
        return []
    return [*([] if MARK in old else kept(board, path)), File(path, text)]


def drop_ins(board: Board, name: str) -> dict[str, str]:
    """Return path -> text of the drop-ins of a `.network` file, in the order in which they are read.

    Of drop-ins with one name the first folder's counts; an empty one, or a link to /dev/null, is none.
    """
    found: dict[str, str] = {}
    for folder in FOLDERS:
        for real in glob.glob(f"{glob.escape(board.path(folder))}/{glob.escape(name)}.d/*.conf"):
            found.setdefault(os.path.basename(real), f"{folder}/{name}.d")
    return {f"{found[conf]}/{conf}": board.read(f"{found[conf]}/{conf}") or "" for conf in sorted(found)}


def names(board: Board) -> list[str]:
    """Return the names of all `.network` files, sorted as networkd reads them."""
    return sorted({os.path.basename(path) for folder in FOLDERS
                   for path in glob.glob(f"{glob.escape(board.path(folder))}/*.network")})  # fmt: skip


class Networkd(Stack):
    """Files in /etc/systemd/network; those below /run come from netplan and belong to it."""

    name = "networkd"

    def owns(self) -> bool:
        state, file = status(self.board, self.interface)
        return state in ("configured", "configuring", "degraded", "failed") and "-netplan-" not in file

    def _present(self) -> list[str]:
        """Return the names of our own files for the interface."""
        own = re.compile(rf"[0-9-]*rpiomega-{re.escape(self.interface)}\.network")
        return [name for name in names(self.board) if own.fullmatch(name) and self.board.exists(f"{FOLDER}/{name}")]

    def _name(self) -> str:
        """Return our file's name: the first one that sorts before all files of others.

        Whether another file matches the interface is for networkd to say, and it says so of the running state only.
        """
        own, present = f"rpiomega-{self.interface}.network", self._present()
        first = min((name for name in names(self.board) if "rpiomega-" not in name), default="~")
        for prefix in PREFIXES:
            if prefix + own < first:
                # A name that an earlier run chose is as good, as long as it is the first one.
                return next((name for name in present if name < first), prefix + own)
        raise StepError(f"no file can be sorted before {first}", f"rename {first}, so that it starts with 50-")

    def _base(self, name: str) -> tuple[str, str]:
        """Return text and path of what is in force; of our own file, without drop-ins."""
        path = status(self.board, self.interface)[1]
        taken = os.path.basename(path)
        if taken in self._present():
            for conf, text in drop_ins(self.board, taken).items():
                self._refuse_drop_in(conf, text)
            return self.board.read(f"{FOLDER}/{taken}") or "", f"{FOLDER}/{taken}"
        present = self._present()
        if present and not path:
            return self.board.read(f"{FOLDER}/{present[0]}") or "", f"{FOLDER}/{present[0]}"
        texts = [self.board.read(path) or "", *drop_ins(self.board, taken).values()] if path else []
        return "\n".join(texts), path

    @staticmethod
    def _refuse_drop_in(path: str, text: str) -> None:
        for section in ini.parse(text, continued=True):
            for key, value, _ in section.items:
                ours = section.name == "Network" and key in ("Address", "Gateway", "DHCP", "DNS")
                if ours or (section.name, key) == ("Address", "Address") or section.name == "Match":
                    raise StepError(f"{path} changes rpiomega's own file: [{section.name}] {key}={value}", "remove it")

    def files(self, wanted: Wanted) -> list[File]:
        name = self._name()
        text = network_file.takeover(*self._base(name), wanted)
        found = [File(f"{FOLDER}/{old}", None) for old in self._present() if old != name]
        found.append(File(f"{FOLDER}/{name}", text, mode=0o644))
        return found + supplicant.files(self.board, wanted) + resolver(self.board, wanted.dns)

    def activate(self, wanted: Wanted) -> list[list[str]]:
        start = supplicant.commands(self.interface) if wanted.wifi else []
        return [*wifi.country_commands(self.board, wanted), *start, *self._reload()]

    def restore(self) -> list[list[str]]:
        unit = f"wpa_supplicant@{self.interface}.service"
        running = self.board.has("systemctl") and not self.board.shell.run(["systemctl", "is-active", unit]).code
        return [*([["systemctl", "restart", unit]] if running else []), *self._reload()]

    def restart(self) -> list[list[str]]:
        return [["systemctl", "restart", "systemd-networkd.service"]]

    def _reload(self) -> list[list[str]]:
        return [["networkctl", "reload"], ["networkctl", "reconfigure", self.interface]]
