"""dhcpcd: one marked block at the end of its only file; the original is kept beside it.

Source: dhcpcd.conf(5): of several `static` lines for the same interface and option the last counts.
"""

from __future__ import annotations

import re

from rpiomega.node.files import File
from rpiomega.node.network import wifi
from rpiomega.node.network.stack import Stack, Wanted, kept

CONF = "/etc/dhcpcd.conf"
UNIT = "dhcpcd.service"


def edit(text: str, interface: str, lines: list[str]) -> str:
    """Return dhcpcd.conf with one block of ours for an interface; everything else stays as it is."""
    begin, end = f"# rpiomega: begin {interface} (from the site file)", f"# rpiomega: end {interface}"
    block = re.compile(rf"^\n?# rpiomega: begin {re.escape(interface)} .*?^{re.escape(end)}$\n?", re.M | re.S)
    rest = block.sub("", text)
    if rest and not rest.endswith("\n"):
        rest += "\n"
    return rest + "\n".join(["", begin, f"interface {interface}", *lines, end]) + "\n"


class Dhcpcd(Stack):
    """The DHCP client of Raspberry Pi OS before bookworm, which keeps static addresses too."""

    name = "dhcpcd"

    def owns(self) -> bool:
        if not self.board.has("dhcpcd") or self.board.shell.run(["systemctl", "is-active", UNIT], timeout=15).code:
            return False
        shown = self.board.shell.run(["dhcpcd", "-U", self.interface], timeout=15)
        return not shown.code and "reason=" in shown.output

    def files(self, wanted: Wanted) -> list[File]:
        lines = [
            f"static ip_address={wanted.cidr}",
            f"static routers={wanted.gateway}",
            f"static domain_name_servers={' '.join(wanted.dns)}",
        ]
        text = edit(self.board.read(CONF) or "", self.interface, lines)
        first = [] if "# rpiomega: begin" in (self.board.read(CONF) or "") else kept(self.board, CONF)
        return [*first, File(CONF, text), *([wifi.supplicant(wanted)] if wanted.wifi else [])]

    def activate(self, wanted: Wanted) -> list[list[str]]:
        start = wifi.supplicant_commands(self.interface) if wanted.wifi else []
        return [*wifi.country_commands(self.board, wanted.wifi), *start, *self.restore()]

    def restore(self) -> list[list[str]]:
        return self.restart()

    def restart(self) -> list[list[str]]:
        # With `persistent`, which Debian and Raspberry Pi OS set, dhcpcd leaves its addresses behind when it ends.
        flush = ["ip", "-4", "addr", "flush", "dev", self.interface, "scope", "global"]
        return [["systemctl", "stop", UNIT], flush, ["systemctl", "start", UNIT]]
