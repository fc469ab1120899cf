"""netplan: a file of our own, merged last; only what would be added to ours is taken out of the owner's files.

Sources: netplan(5): files in /etc/netplan are merged in alphabetical order, mappings key by key, and lists are joined.
So an address, a default route or a name server of the owner would stay beside ours.
"""

from __future__ import annotations

import glob
import json
import os
import re
import subprocess
import tempfile

from rpiomega.node import files
from rpiomega.node.files import File
from rpiomega.node.network import links, networkd, wifi
from rpiomega.node.network.networkmanager import NetworkManager
from rpiomega.node.network.stack import MARK, Concealed, Stack, Wanted, kept
from rpiomega.node.step import StepError

FOLDER = "/etc/netplan"
OWN = f"{FOLDER}/99-rpiomega.yaml"
_DEFAULT = re.compile(r"to:\s*[\"']?(default|0\.0\.0\.0/0)[\"']?\s*$", re.M)


def _indent(line: str) -> int:
    return len(line) - len(line.lstrip(" "))


def span(lines: list[str], start: int) -> int:
    """Return where the value of the key in line `start` ends; netplan does not indent the dashes of a list."""
    depth, end = _indent(lines[start]), start + 1
    while end < len(lines) and (
        _indent(lines[end]) > depth or (_indent(lines[end]) == depth and lines[end].lstrip().startswith("- "))
    ):
        end += 1
    return end


def find(lines: list[str], *path: str) -> tuple[int, int] | None:
    """Return the lines (first, end) of a key below others in YAML as `netplan get` prints it, None if there is none."""
    start, end, depth = 0, len(lines), -1
    for key in path:
        for number in range(start, end):
            name = lines[number].strip().partition(":")[0].strip("\"'")
            if name == key and depth < _indent(lines[number]) <= depth + 3:
                start, end, depth = number + 1, span(lines, number), _indent(lines[number])
                break
        else:
            return None
    return start - 1, end


def without(text: str, kind: str, name: str, access_points: bool = False) -> str:
    """Return a definition file (as `netplan get` prints it) without the addresses of one interface.

    Its default route, its name servers and, with `access_points`, its access points go too; everything else stays.
    """
    lines = text.splitlines()
    paths = [
        ("addresses",),
        ("gateway4",),
        ("nameservers", "addresses"),
        *([("access-points",)] if access_points else []),
    ]
    for path in paths:
        found = find(lines, "network", kind, name, *path)
        if found:
            del lines[slice(*found)]
    found = find(lines, "network", kind, name, "routes")
    if found:
        items: list[list[str]] = []
        for line in lines[found[0] + 1 : found[1]]:
            if line.lstrip().startswith("- "):
                items.append([])
            items[-1].append(line)
        left = [item for item in items if not _DEFAULT.search("\n".join(item))]
        lines[slice(*found)] = [lines[found[0]], *sum(left, [])] if left else []
    for path in ((name, "nameservers"), (name,)):
        found = find(lines, "network", kind, *path)
        if found and found[1] == found[0] + 1 and lines[found[0]].rstrip().endswith(":"):
            lines[found[0]] += " {}"
    return "\n".join(lines) + "\n"


def get(*options: str) -> str:
    """Return what netplan understands of the definitions, as its own YAML. Not logged: it holds Wi-Fi keys."""
    argv = ["netplan", "get", *options, "all"]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, encoding="utf-8", timeout=60, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise StepError(f"`netplan get` cannot be run: {error}", "run it on the board and see what it says") from None
    if done.returncode:
        last = wifi.redact((done.stderr.strip() or "no reason given").splitlines()[-1])
        raise StepError(f"`netplan get` failed: {last}", f"correct the definitions in {FOLDER}")
    return done.stdout


class Netplan(Stack):
    """Definitions in YAML; netplan writes them out for networkd or NetworkManager, which then hold the interface."""

    name = "netplan"

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

    def _definition(self) -> tuple[str, str]:
        """Return kind (``ethernets``, ``wifis``) and name of the definition that holds the interface."""
        generated = self._generated()
        lines = get().splitlines()
        for kind in ("ethernets", "wifis"):
            found = find(lines, "network", kind)
            if not found:
                continue
            depth = _indent(lines[found[0]]) + 2
            names = [
                line.strip().partition(":")[0].strip("\"'") for line in lines[slice(*found)] if _indent(line) == depth
            ]
            # NetworkManager's file for a wireless network is named NAME-SSID.
            fits = [name for name in names if generated == name or generated.startswith(f"{name}-")]
            if fits:
                return kind, max(fits, key=len)
        cause = f"{self.interface} is part of a bridge, bond or VLAN of netplan ({generated})"
        raise StepError(
            cause, "write `network.manage: false` into the site file, and the address into netplan yourself"
        )

    def files(self, wanted: Wanted) -> list[File]:
        kind, name = self._definition()
        found = []
        for path in sorted(glob.glob(self.board.path(f"{FOLDER}/*.yaml"))):
            path = f"{FOLDER}/{os.path.basename(path)}"
            if path != OWN:
                found += self._cleared(path, kind, name, wanted)
        found.append(Concealed(OWN, self._text(kind, name, wanted), mode=0o600))
        below = self._renderer()
        return found + (networkd.resolver(self.board, wanted.dns) if isinstance(below, networkd.Networkd) else [])

    def _cleared(self, path: str, kind: str, name: str, wanted: Wanted) -> list[File]:
        """Return an owner's file without what would be joined to ours, nothing where there is nothing of it."""
        with tempfile.TemporaryDirectory(dir="/run") as root:
            files.write(f"{root}{path}", self.board.read(path) or "", mode=0o600)
            old = get("--root-dir", root)
        new = without(old, kind, name, wanted.wifi is not None)
        if new == old:
            return []
        return [
            *kept(self.board, path),
            Concealed(path, f"{MARK} The original: {path}.before-rpiomega\n{new}", mode=0o600),
        ]

    @staticmethod
    def _text(kind: str, name: str, wanted: Wanted) -> str:
        # JSON is YAML: no quoting rules of our own.
        lines = [
            MARK,
            "network:",
            "  version: 2",
            f"  {kind}:",
            f"    {json.dumps(name)}:",
            "      dhcp4: false",
            f"      addresses: {json.dumps([wanted.cidr])}",
            # "default" is not known to netplan before 0.103.
            f"      routes: {json.dumps([{'to': '0.0.0.0/0', 'via': wanted.gateway}])}",
            f"      nameservers: {json.dumps({'addresses': list(wanted.dns)})}",
        ]
        if wanted.wifi:
            lines += [f"      regulatory-domain: {json.dumps(wanted.wifi.country)}"] if wanted.wifi.country else []
            lines += [
                "      access-points:",
                f"        {json.dumps(wanted.wifi.ssid, ensure_ascii=False)}:",
                f"          password: {json.dumps(wanted.wifi.psk)}",
            ]
        return "\n".join(lines) + "\n"

    def _renderer(self) -> Stack:
        """Return what holds the interface for netplan."""
        _, file = networkd.status(self.board, self.interface)
        return (networkd.Networkd if "-netplan-" in file else NetworkManager)(self.board, self.interface)

    def activate(self, wanted: Wanted) -> list[list[str]]:
        return [*wifi.country_commands(self.board, wanted.wifi), *self.restore()]

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
