"""sshd's settings as sshd itself answers them, in general and inside each Match block.

`sshd -T` shows the values without a connection; those of a Match block need one in `-C` (sshd(8)). For a keyword the
first value counts, and a Match block that fits goes before the general part (sshd_config(5)).
"""

from __future__ import annotations

import fnmatch
import glob
import grp
import ipaddress
import os
import pwd
import re
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from omega.core.dropin import Lost

FOLDER = "/etc/ssh"
_ALIASES = {
    "challengeresponseauthentication": "kbdinteractiveauthentication",
    "skeyauthentication": "kbdinteractiveauthentication",
}
_SAME = {"without-password": "prohibit-password"}
_DEPTH = 16  # as sshd, which ends there


@dataclass(frozen=True)
class Line:
    """One setting: where it is, its keyword in small letters, its value, and the Match line above it (or empty)."""

    file: str
    number: int
    keyword: str
    value: str
    match: str = ""

    @property
    def place(self) -> str:
        """Return where it is, for a person."""
        inside = f" (Match {self.match})" if self.match else ""
        return f"{self.file} line {self.number}{inside}"


def lines(path: str, match: str = "", depth: int = 0) -> Iterator[Line]:
    """Yield the settings of a file in sshd's order, included files where they are included."""
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            text = handle.read()
    except OSError:
        return
    for number, line in enumerate(text.splitlines(), 1):
        # `Key value`, `Key=value`; any case; blanks before it.
        found = re.match(r"\s*([A-Za-z]+)(?:\s*=\s*|\s+)(.*)", line)
        if not found:
            continue
        keyword, value = found[1].lower(), found[2].strip()
        if keyword == "match":
            match = value
        elif keyword == "include" and depth < _DEPTH:
            for pattern in _words(value):
                for file in sorted(glob.glob(os.path.join(FOLDER, pattern))):
                    # What a Match of an included file began ends with that file.
                    yield from lines(file, match, depth + 1)
        else:
            value = " ".join(_words(value))
            yield Line(path, number, _ALIASES.get(keyword, keyword), value, match)


def includes(path: str, folder: str) -> bool:
    """Return whether a file includes the settings of `folder` for all connections (not inside of a Match block)."""
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            text = re.split(r"^\s*match\b", handle.read(), maxsplit=1, flags=re.MULTILINE | re.IGNORECASE)[0]
    except OSError:
        return False
    values = re.findall(r"^\s*include(?:\s*=\s*|\s+)(.*)$", text, re.MULTILINE | re.IGNORECASE)
    return any(os.path.dirname(os.path.join(FOLDER, word)) == folder for value in values for word in _words(value))


def lost(main: str, ours: str, run: Callable, user: str, wanted: dict[str, str]) -> list[Lost]:
    """Return the settings of our file that are not in force for every connection.

    :param main: sshd's configuration file; `ours`: our file
    :param run: function of (argv, env) that returns (exit code, output)
    :param user: a user who logs in; root is tried as well
    :param wanted: keyword as written in our file -> value
    :raises ValueError: sshd refuses its configuration; with its last line
    """
    every, keys = list(lines(main)), {key.lower(): key for key in wanted}
    blocks = {line.match for line in every if line.match and line.keyword in keys}
    tries = [(block, found) for block in sorted(blocks) for found in [_of(block, user)] if found]
    # Last: if these fit a block as well, it has been named.
    tries += [("", _connection(user=user)), ("", _connection(user="root"))]
    lacking: dict[tuple, Lost] = {}
    for block, connection in tries:
        code, output = run(["sshd", "-T", "-f", main, "-C", connection], {})
        if code:
            raise ValueError((output.strip().splitlines() or [f"exit code {code}"])[-1])
        shown = dict(line.lower().partition(" ")[::2] for line in output.splitlines())
        for keyword, key in keys.items():
            now = _SAME.get(shown.get(keyword, ""), shown.get(keyword, ""))
            if now != wanted[key]:
                by = _winner(every, keyword, block, ours)
                if not by and any(named == key for named, _ in lacking):
                    continue
                lacking.setdefault((key, by), Lost(key, wanted[key], now or "", by))
    return list(lacking.values())


def _winner(every: list[Line], keyword: str, block: str, ours: str) -> str:
    found = [line for line in every if line.keyword == keyword and line.match in ("", block)]
    inside = [line for line in found if line.match]
    first = (inside or [line for line in found if line.match == ""])[:1]
    return first[0].place if first and first[0].file != ours else ""


def _connection(
    user: str, host: str = "client.invalid", addr: str = "192.0.2.1", laddr: str = "192.0.2.2", lport: str = "22"
) -> str:
    return f"user={user},host={host},addr={addr},laddr={laddr},lport={lport}"


def _of(block: str, user: str) -> str:
    """Return a connection that a Match line fits, an empty string if this board can have none."""
    words, given = _words(block), {"user": user}
    names = {"user": "user", "host": "host", "address": "addr", "localaddress": "laddr", "localport": "lport"}
    if [word.lower() for word in words] == ["all"]:
        return _connection(**given)
    pairs = [word for item in words for word in (item.split("=", 1) if "=" in item else [item])]
    for criterion, patterns in zip(pairs[::2], pairs[1::2]):
        positive = next((pattern for pattern in patterns.split(",") if not pattern.startswith("!")), "")
        if criterion.lower() == "group":
            given["user"] = _member(patterns.split(","))
        elif criterion.lower() in names and positive:
            given[names[criterion.lower()]] = _example(positive)
    return _connection(**given) if given["user"] else ""


def _member(patterns: list[str]) -> str:
    for group in grp.getgrall():
        if any(fnmatch.fnmatch(group.gr_name, pattern) for pattern in patterns if not pattern.startswith("!")):
            members = [*group.gr_mem, *(one.pw_name for one in pwd.getpwall() if one.pw_gid == group.gr_gid)]
            if members:
                return members[0]
    return ""


def _example(pattern: str) -> str:
    try:
        network = ipaddress.ip_network(pattern, strict=False)
        return str(next(network.hosts(), network.network_address))
    except ValueError:
        return pattern.replace("*", "1").replace("?", "1")


def _words(text: str) -> list[str]:
    try:
        return shlex.split(text, comments=True)
    except ValueError:
        return text.split()
