"""The host name, in every place that would otherwise bring the old one back."""

from __future__ import annotations

import os
import re
import socket

from rpiomega.node import job_steps, mark
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

    `others` is name -> address. The first name of a line is the canonical one (`hostname -f`): order, domains, aliases
    and remarks stay as they are, and so do all other lines. The block goes before the first line that gives one of
    `others` another address: of several lines with a name the first counts.
    """
    old, _, domain = old.partition(".")
    old = "" if old.lower() in ("localhost", name) else old.lower()
    lines = [_renamed(line, old, name) for line in _STRAY.sub("", _BLOCK.sub("", text)).splitlines()]
    own = next((i for i, line in enumerate(lines) if _own(line, name)), None)
    if own is None:
        after = next((i for i, line in enumerate(lines) if line.split()[:1] == ["127.0.0.1"]), -1) + 1
        lines.insert(after, f"127.0.1.1\t{' '.join([*_full_names(lines, name, domain), name])}")
        own = after
    elif name not in _lower(lines[own]):
        lines[own] = _line([*_words(lines[own]), name], lines[own])  # the full name alone
    rest = [_without(line, name) for line in lines[own + 1 :]]
    lines = [*lines[: own + 1], *(line for line in rest if line is not None)]
    if others:
        at = next((i for i, line in enumerate(lines) if _contradicts(line, others)), len(lines))
        lines[at:at] = [BEGIN, *(f"{address}\t{other}" for other, address in others.items()), END]
    return "\n".join(lines) + "\n"


def _words(line: str) -> list[str]:
    return line.partition("#")[0].split()


def _lower(line: str) -> list[str]:
    return [word.lower() for word in _words(line)]


def _own(line: str, name: str) -> bool:
    words = _lower(line)
    return words[:1] == ["127.0.1.1"] and any(word == name or word.startswith(f"{name}.") for word in words[1:])


def _contradicts(line: str, others: dict[str, str]) -> bool:
    words = _lower(line)
    return bool(words) and ":" not in words[0] and any(others.get(word, words[0]) != words[0] for word in words[1:])


def _full_names(lines: list[str], name: str, domain: str) -> list[str]:
    """Return the name with its domain, as the lines of this machine or its old host name have it; or nothing."""
    found = [word for line in lines if _loopback(line) for word in _words(line)[1:]]
    return next(([word] for word in found if word.lower().startswith(f"{name}.")), [f"{name}.{domain}"] * bool(domain))


def _loopback(line: str) -> bool:
    address = (_words(line) or [""])[0]
    return address.startswith("127.") or address == "::1"


def _renamed(line: str, old: str, name: str) -> str:
    """Return a line of this machine with its new name in the place of the old one, with the same domain."""
    words = _words(line)
    if not old or not _loopback(line) or not any(word.partition(".")[0].lower() == old for word in words[1:]):
        return line
    new = [name + word[len(old) :] if word.partition(".")[0].lower() == old else word for word in words[1:]]
    return _line([words[0], *dict.fromkeys(new)], line)


def _without(line: str, name: str) -> str | None:
    """Return a later line of 127.0.1.1 without the name, None if nothing is left of it."""
    words = _words(line)
    if words[:1] != ["127.0.1.1"] or name not in _lower(line):
        return line
    rest = [word for word in words[1:] if word.lower() != name]
    return _line([words[0], *rest], line) if rest else None


def _line(words: list[str], line: str) -> str:
    """Return a line of these words, with the gap after the address and the remark of `line`."""
    body, mark, comment = line.partition("#")
    gap = re.match(r"\s*\S+(\s+)", body)
    return f"{words[0]}{gap[1] if gap else chr(9)}{' '.join(words[1:])}" + (f" #{comment}" if mark else "")


class Hostname(Step):
    """The board's name, its mark, and the names of all nodes in /etc/hosts."""

    name = job_steps.Hostname.step
    args: job_steps.Hostname

    def check(self) -> Diff:
        self._refuse_renamed()
        diff = Diff()
        for file in self._files():
            diff += file.diff(self.board)
        if self.board.live and self._effective() != self.args.name:
            diff.add(f"host name {self._effective()} -> {self.args.name}")
        return diff

    def apply(self) -> None:
        for file in self._files():
            file.apply(self.board)
        if not self.board.live or self._effective() == self.args.name:
            return
        try:
            socket.sethostname(self.args.name)
        except OSError as error:
            cure = f"run `hostnamectl set-hostname {self.args.name}` on the board and see what it says"
            raise StepError(f"the kernel refuses the name: {error.strerror}", cure) from None
        if self.board.has("avahi-daemon"):
            # avahi asks for the name only at its start; NAME.local would go on answering to the old one.
            self.board.shell.run(["systemctl", "try-restart", "avahi-daemon"], timeout=30)

    def _refuse_renamed(self) -> None:
        """Consul, the swarm and Salt know a member by its name: with another one it would be in none of them."""
        found = _MINION_ID.search(self.board.read(MINION_CONF) or "")
        known, name = found[1] if found else "", self.args.name
        if known in ("", name) or self.args.renew or not in_swarm(self.board):
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
        name, nodes = self.args.name, self.args.nodes
        lines = (line.strip() for line in (self.board.read("/etc/hostname") or "").splitlines())
        old = next((line for line in lines if line and not line.startswith("#")), "")  # hostname(5)
        others = {other: address for other, address in nodes.items() if other != name}
        hosts = edit_hosts(self.board.read("/etc/hosts") or "127.0.0.1\tlocalhost\n", name, old, others)
        wanted = [File("/etc/hosts", hosts), File("/etc/hostname", f"{name}\n")]
        if self.args.cluster:
            wanted.append(File(mark.PATH, mark.text(self.args.cluster, name), 0o644))
        if self.board.exists("/etc/cloud"):
            wanted.append(File("/etc/cloud/cloud.cfg.d/99-rpiomega-hostname.cfg", CLOUD))
            if any(_MANAGES_HOSTS.search(self.board.read(path) or "") for path in _USER_DATA):
                # User data outranks cloud.cfg.d, so let cloud-init write the very text we want.
                template = "## template:jinja\n" + hosts
                wanted.append(File("/etc/cloud/templates/hosts.debian.tmpl", template))
        return wanted
