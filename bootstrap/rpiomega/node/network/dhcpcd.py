"""dhcpcd: one marked block at the end of its only file; the original is kept beside it.

Sources: dhcpcd.conf(5), and dhcpcd 10.1.0 as it ran: all blocks of an interface count, in the order of the file. Of
several lines `static ip_address=` the last counts, of `static routers=` the first, and all name servers are joined.
"""

from __future__ import annotations

import re

from rpiomega.node.files import File
from rpiomega.node.network import supplicant, wifi
from rpiomega.node.network.concealed import kept
from rpiomega.node.network.stack import Stack, Wanted, family
from rpiomega.node.step import StepError

CONF = "/etc/dhcpcd.conf"
UNIT = "dhcpcd.service"
OFF = "#rpiomega: "
# Beside a static address these make dhcpcd do something else, or keep the default route away.
_REFUSED = ("inform", "nogateway", "noipv4", "ipv6only", "arping", "nodhcp", "denyinterfaces")
_SCOPES = ("interface", "profile", "ssid")
_OURS = re.compile(r"static\s+(ip_address|routers|domain_name_servers)\s*=\s*(.*)")
_DEFAULT = re.compile(r"static\s+\w*routes\s*=.*(?<![\d.])0\.0\.0\.0/0(?!\d)")


def _block(interface: str) -> tuple[str, str, re.Pattern]:
    begin, end = f"# rpiomega: begin {interface} (from the site file)", f"# rpiomega: end {interface}"
    pattern = rf"^\n?# rpiomega: begin {re.escape(interface)} .*?^{re.escape(end)}$\n?"
    return begin, end, re.compile(pattern, re.M | re.S)


def edit(text: str, interface: str, lines: list[str]) -> str:
    """Return dhcpcd.conf with one block of ours for an interface; everything else stays as it is."""
    begin, end, block = _block(interface)
    rest = block.sub("", text)
    if rest and not rest.endswith("\n"):
        rest += "\n"
    return rest + "\n".join(["", begin, f"interface {interface}", *lines, end]) + "\n"


def settings(text: str) -> list[tuple[int, str, str]]:
    """Return (line number from 0, scope, setting) of each line; scope is empty, ``interface eth0``, ``ssid home``."""
    found, scope = [], ""
    for number, line in enumerate(text.splitlines()):
        words = [] if line.lstrip().startswith(("#", ";")) else line.split()
        if words and words[0] in _SCOPES:
            scope = " ".join(words)
        elif words:
            found.append((number, scope, " ".join(words)))
    return found


def takeover(text: str, wanted: Wanted) -> str:
    """Return dhcpcd.conf with the wanted address; what the owner's blocks for the interface say else stays in force.

    Lines that would stay beside ours are commented out. Raise StepError naming the line that ours do not go with.
    """
    own = f"interface {wanted.interface}"
    lines, servers = text.splitlines(), list[str]()
    _, _, block = _block(wanted.interface)
    ours = {number for found in block.finditer(text)
            for number in range(text.count("\n", 0, found.start()), text.count("\n", 0, found.end()))}  # fmt: skip
    for number, scope, setting in settings(text):
        static = _OURS.match(setting)
        if scope not in ("", own) and not (scope.startswith("ssid ") and wanted.wireless):
            continue
        if number in ours:
            servers = static[2].split() if static and static[1] == "domain_name_servers" else servers
            continue
        if setting.split()[0] in _REFUSED or _DEFAULT.match(setting):
            _refuse_setting(number, scope, setting, wanted)
        if not static:
            continue
        if scope != own:
            raise StepError(f"{CONF} line {number + 1}: `{setting}` is for more than {wanted.interface}",
                            f"move it into a block `{own}`, or take it out")  # fmt: skip
        if static[1] == "domain_name_servers":
            servers = static[2].split()
        lines[number] = OFF + lines[number]
    newline = "\n" if text.endswith("\n") or not text else ""
    return edit(
        "\n".join(lines) + newline,
        wanted.interface,
        [
            f"static ip_address={wanted.cidr}",
            f"static routers={wanted.gateway}",
            # The list is one value: IPv6's name servers would go with the owner's line.
            f"static domain_name_servers={' '.join([*wanted.dns, *_ipv6(servers, wanted)])}",
        ],
    )


def _ipv6(servers: list[str], wanted: Wanted) -> list[str]:
    return [server for server in servers if family(server) == 6 and server not in wanted.dns]


def _refuse_setting(number: int, scope: str, setting: str, wanted: Wanted) -> None:
    words = setting.split()
    if words[0] == "denyinterfaces" and wanted.interface not in words[1:]:
        return
    cause = f"{CONF} line {number + 1}: `{setting}`{f' ({scope})' if scope else ''} does not go with a static address"
    raise StepError(cause, "take it out, or write `network.manage: false` into the site file")


class Dhcpcd(Stack):
    """The DHCP client of Raspberry Pi OS before bookworm, which keeps static addresses too."""

    name = "dhcpcd"

    def owns(self) -> bool:
        if not self.board.has("dhcpcd") or self.board.shell.run(["systemctl", "is-active", UNIT], timeout=15).code:
            return False
        shown = self.board.shell.run(["dhcpcd", "-U", self.interface], timeout=15)
        return not shown.code and "reason=" in shown.output

    def files(self, wanted: Wanted) -> list[File]:
        old = self.board.read(CONF) or ""
        text = takeover(old, wanted)
        block = _block(self.interface)[2]
        edited = block.sub("", text) != block.sub("", old)
        first = kept(self.board, CONF) if old and (edited or "# rpiomega: begin" not in old) else []
        return [*first, File(CONF, text), *supplicant.files(self.board, wanted)]

    def activate(self, wanted: Wanted) -> list[list[str]]:
        start = supplicant.commands(self.interface) if wanted.wifi else []
        return [*wifi.country_commands(self.board, wanted), *start, *self.restore()]

    def restore(self) -> list[list[str]]:
        return self.restart()

    def restart(self) -> list[list[str]]:
        # With `persistent`, which Debian and Raspberry Pi OS set, dhcpcd leaves its addresses behind when it ends.
        flush = ["ip", "-4", "addr", "flush", "dev", self.interface, "scope", "global"]
        return [["systemctl", "stop", UNIT], flush, ["systemctl", "start", UNIT]]
