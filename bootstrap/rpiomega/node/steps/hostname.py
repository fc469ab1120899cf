"""The host name, in every place that would otherwise bring the old one back."""

from __future__ import annotations

import os
import re
import socket

from rpiomega.node import mark
from rpiomega.node.files import File
from rpiomega.node.step import Diff, Step, StepError
from rpiomega.node.steps.machineid import in_swarm
from rpiomega.node.steps.minion import CONF as MINION_CONF

BEGIN = "# rpiomega: begin (nodes of the cluster, written by the bootstrap)"
END = "# rpiomega: end"
# Only what the bootstrap writes may stand between the marks: a lost mark must not cost anybody's lines.
_BLOCK = re.compile(r"^# rpiomega: begin.*\n(?:[\d.]+\t\S+\n)*# rpiomega: end.*\n?", re.MULTILINE)
_MINION_ID = re.compile(r"^id: '?([^'\n]+)", re.MULTILINE)
_STRAY = re.compile(r"^# rpiomega: (?:begin|end).*\n?", re.MULTILINE)
# Raspberry Pi Imager asks cloud-init to write /etc/hosts from the old name at every boot.
_MANAGES_HOSTS = re.compile(r"^\s*manage_etc_hosts:\s*[\"']?(true|template|yes|on)\b", re.MULTILINE | re.IGNORECASE)
_USER_DATA = ("/boot/firmware/user-data", "/boot/user-data", "/var/lib/cloud/instance/user-data.txt")
CLOUD = """# Written by rpiomega: without this, cloud-init restores the first boot's name at every boot.
preserve_hostname: true
manage_etc_hosts: false
"""


def edit_hosts(text: str, name: str, old: str, others: dict[str, str]) -> str:
    """Return hosts(5) text with `name` at 127.0.1.1 in the place of `old`, and the cluster's `others` in one block.

    `others` is name -> address. All other lines and aliases stay as they are.
    """
    text = _STRAY.sub("", _BLOCK.sub("", text))
    lines, placed = [], False
    for line in text.splitlines():
        words = line.partition("#")[0].split()
        if words and words[0] == "127.0.1.1":
            if placed:
                rest = [word for word in words[1:] if word not in (name, old)]
                if not rest:
                    continue
                line = _replaced(line, ["127.0.1.1", *rest])
            else:
                aliases = [word for word in words[1:] if word not in (name, old)]
                wanted = ["127.0.1.1", name, *aliases]
                line = line if words == wanted else _replaced(line, wanted)
                placed = True
        lines.append(line)
    if not placed:
        after = next((i for i, line in enumerate(lines) if line.split()[:1] == ["127.0.0.1"]), -1) + 1
        lines.insert(after, f"127.0.1.1\t{name}")
    if others:
        lines += [BEGIN, *(f"{address}\t{other}" for other, address in others.items()), END]
    return "\n".join(lines) + "\n"


def _replaced(line: str, words: list[str]) -> str:
    comment = line.partition("#")[2]
    return f"{words[0]}\t{' '.join(words[1:])}" + (f" #{comment}" if comment else "")


class Hostname(Step):
    """Arguments: `name`; `cluster`: written down with the name as the board's mark; `nodes` (name -> address of the
    whole cluster); `renew`: also on a copy of a member's card.
    """

    name = "hostname"

    def check(self) -> Diff:
        self._refuse_renamed()
        diff = Diff()
        for file in self._files():
            diff += file.diff(self.board)
        if self.board.live and self._effective() != self.args["name"]:
            diff.add(f"host name {self._effective()} -> {self.args['name']}")
        return diff

    def apply(self) -> None:
        for file in self._files():
            file.apply(self.board)
        if not self.board.live or self._effective() == self.args["name"]:
            return
        try:
            socket.sethostname(self.args["name"])
        except OSError as error:
            cure = f"run `hostnamectl set-hostname {self.args['name']}` on the board and see what it says"
            raise StepError(f"the kernel refuses the name: {error.strerror}", cure) from None
        if self.board.has("avahi-daemon"):
            # avahi asks for the name only at its start; NAME.local would go on answering to the old one.
            self.board.shell.run(["systemctl", "try-restart", "avahi-daemon"], timeout=30)

    def _refuse_renamed(self) -> None:
        """Consul, the swarm and Salt know a member by its name: with another one it would be in none of them."""
        found = _MINION_ID.search(self.board.read(MINION_CONF) or "")
        known, name = found[1] if found else "", self.args["name"]
        if known in ("", name) or self.args.get("renew") or not in_swarm(self.board):
            return
        cause = f"this board is {known}, a member of the swarm, and cannot become {name} while it is one"
        cure = (
            f"name it {known} in the site file again; to rename it, `rpiomega remove {known}` first; if its card is a "
            f"copy of {known}'s, --renew-identity"
        )
        raise StepError(cause, cure)

    def _effective(self) -> str:
        return os.uname().nodename

    def _files(self) -> list[File]:
        name, nodes = self.args["name"], self.args.get("nodes", {})
        old = (self.board.read("/etc/hostname") or "").strip()
        others = {other: address for other, address in nodes.items() if other != name}
        hosts = edit_hosts(self.board.read("/etc/hosts") or "127.0.0.1\tlocalhost\n", name, old, others)
        wanted = [File("/etc/hosts", hosts), File("/etc/hostname", f"{name}\n")]
        if self.args.get("cluster"):
            wanted.append(File(mark.PATH, mark.text(self.args["cluster"], name), 0o644))
        if self.board.exists("/etc/cloud"):
            wanted.append(File("/etc/cloud/cloud.cfg.d/99-rpiomega-hostname.cfg", CLOUD))
            if any(_MANAGES_HOSTS.search(self.board.read(path) or "") for path in _USER_DATA):
                # User data outranks cloud.cfg.d, so let cloud-init write the very text we want.
                template = "## template:jinja\n" + hosts
                wanted.append(File("/etc/cloud/templates/hosts.debian.tmpl", template))
        return wanted
