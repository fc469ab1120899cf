"""Whether the settings of one of our drop-ins are in force, read back from the program that uses them.

A drop-in is one file of several: a later (sshd: an earlier) one may set the same key. Each kind of file has one row in
KINDS. The board's steps and the states use this file.
"""

from __future__ import annotations

import glob
import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass

# Settings that collect the values of all files; an empty value begins the list again (systemd.syntax(7)).
_LISTS = {"NTP", "DNS", "Domains", "Wants", "After", "RequiresMountsFor", "AssertPathIsMountPoint"}
_APT_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
_NO_FILES = 'Dir::Etc::parts "/nonexistent";\nDir::Etc::main "/nonexistent";\n'


@dataclass(frozen=True)
class Lost:
    """A setting of our file that is not in force: `key` has `value`, which `file` sets (empty: no file does)."""

    key: str
    ours: str
    value: str
    file: str

    def cause(self, path: str) -> str:
        """Return the sentence for an error; `path` is our file."""
        by = f"{self.file} sets it" if self.file else "no file sets it"
        return f"{self.key} of {path} is not in force: it is {self.value or 'unset'} instead of {self.ours} ({by})"

    def cure(self, path: str) -> str:
        """Return what to do next."""
        if not self.file:
            return f"see that the program reads {path}"
        return f"take {self.key} out of {self.file}{', or move that file away' if '.d/' in self.file else ''}"


def lost(path: str, run: Callable, root: str = "/") -> list[Lost]:
    """Return the settings of the file `path` that are not in force.

    :param path: our file, absolute on the board; nothing is lost if it does not exist, or no row of KINDS fits it
    :param run: function of (argv, env) that returns (exit code, standard output with or without errors)
    :param root: folder that is the board's root
    :raises ValueError: the program cannot read its settings; with its last line
    """
    for pattern, read in KINDS:
        found = re.search(pattern, path)
        if found and os.path.exists(_below(root, path)):
            return read(path, found, run, root)
    return []


def _below(root: str, path: str) -> str:
    return path if root == "/" else os.path.join(root, path.lstrip("/"))


def _text(root: str, path: str) -> str:
    with open(_below(root, path), encoding="utf-8", errors="replace") as handle:
        return handle.read()


# -- systemd's configuration files and units ---------------------------------------------------------------


def settings(text: str) -> list[tuple[str, str]]:
    """Return ("Section.Key", value) of each assignment in order, by systemd.syntax(7)."""
    found, section = [], ""
    for line in re.sub(r"\\\n[ \t]*(?:[#;][^\n]*\n[ \t]*)*", " ", text).splitlines():
        line = line.strip()
        if line.startswith("[") and line.endswith("]"):
            section = line[1:-1]
        elif line[:1] not in ("", "#", ";") and "=" in line:
            key, _, value = line.partition("=")
            found.append((f"{section}.{key.strip()}", value.strip()))
    return found


def _systemd_file(path: str, found: re.Match, run: Callable, root: str) -> list[Lost]:
    """Files that `systemd-analyze cat-config` knows the order of, rpi-swap's (swap.conf(5)) too."""
    where = [] if root == "/" else [f"--root={root}"]
    return _systemd(path, found[1], root, run(["systemd-analyze", *where, "cat-config", found[1]], {}))


def _systemd_unit(path: str, found: re.Match, run: Callable, root: str) -> list[Lost]:
    if root != "/" or not os.path.isdir("/run/systemd/system"):
        return []  # `systemctl cat` asks the running systemd (sd_booted(3))
    return _systemd(path, found[1], root, run(["systemctl", "cat", "--no-pager", found[1]], {}))


def _systemd(path: str, found: str, root: str, asked: tuple[int, str]) -> list[Lost]:
    code, output = asked
    if code:
        raise ValueError(_last(output, code))
    # One heading for each file, in the order that they are read; a comment of a file may look like one.
    name = re.escape(os.path.basename(found))
    parts = re.split(rf"^# (/\S*/(?:{name}|[^/\s]+\.d/[^/\s]+\.conf))$", output, flags=re.MULTILINE)
    cut = len(root) if root != "/" else 0
    read = [(file[cut:], settings(text)) for file, text in zip(parts[1::2], parts[2::2])]
    ours = dict(settings(_text(root, path)))
    return [item for key, value in ours.items() for item in _judged(path, key, value, read)]


def _judged(path: str, key: str, value: str, read: list) -> list[Lost]:
    name = key.partition(".")[2]
    force, by = list[str](), ""
    for file, assigned in read:
        for other, new in assigned:
            if other != key:
                continue
            force = [*force, new] if new and name in _LISTS else [new] if new else []
            by = by if name in _LISTS and file == path else file
    kept = value in force if name in _LISTS else value == (force[-1] if force else "")
    # A list that another file began again after ours: that file is the last one to empty it.
    return [] if kept else [Lost(name, value, " ".join(force), by if by != path else "")]


# -- apt ---------------------------------------------------------------------------------------------------


def _apt(path: str, found: re.Match, run: Callable, root: str) -> list[Lost]:
    """Use apt's own parser for all files together, and for each alone (apt.conf(5): the parts, then apt.conf)."""
    base = f'Dir "{root}";\n' if root != "/" else ""
    force = _apt_dump(run, base)
    empty = _apt_dump(run, _NO_FILES)

    def alone(file: str) -> list:
        return [item for item in _apt_dump(run, _NO_FILES, _below(root, file)) if item not in empty and item[1]]

    wanted, lacking = alone(path), []
    for key, value in wanted:
        if (key, value) not in force:
            later = [file for file in _apt_files(root) if file != path]
            if key.endswith("::"):  # a list: files add to it, unless one clears it
                others = [file for file in later if "#clear" in _text(root, file)]
            else:
                others = [file for file in later if key in {name for name, _ in alone(file)}]
            now = [given for name, given in force if name == key]
            lacking.append(Lost(key, value, " ".join(now), others[-1] if others else ""))
    return lacking


def _apt_dump(run: Callable, config: str, file: str = "") -> list[tuple[str, str]]:
    with tempfile.NamedTemporaryFile("w", suffix=".conf") as handle:
        handle.write(config)
        handle.flush()
        code, output = run(["apt-config", *(["-c", file] if file else []), "dump"], {"APT_CONFIG": handle.name})
    if code:
        raise ValueError(_last(output, code))
    found = re.findall(r'^(\S+) "(.*)";$', output, re.MULTILINE)
    return [(key, value) for key, value in found if not key.startswith("CommandLine")]


def _apt_files(root: str) -> list[str]:
    folder = _below(root, "/etc/apt/apt.conf.d")
    names = sorted(os.listdir(folder)) if os.path.isdir(folder) else []
    read = [name for name in names if _APT_NAME.fullmatch(name) and os.path.splitext(name)[1] in ("", ".conf")]
    files = [f"/etc/apt/apt.conf.d/{name}" for name in read]
    return [*files, "/etc/apt/apt.conf"] if os.path.exists(_below(root, "/etc/apt/apt.conf")) else files


# -- chrony ------------------------------------------------------------------------------------------------


def _chrony(path: str, found: re.Match, run: Callable, root: str) -> list[Lost]:
    """A folder of time servers counts only where chrony.conf names it (chrony.conf(5): sourcedir)."""
    folder = os.path.dirname(path)
    main = "/etc/chrony/chrony.conf"
    files = [_below(root, main), *sorted(glob.glob(_below(root, "/etc/chrony/conf.d/*.conf")))]
    # Directives have any case and may have blanks before them.
    words = [line.split() for file in files if os.path.exists(file) for line in _text("/", file).splitlines()]
    named = any(word[:1] and word[0].lower() == "sourcedir" and folder in word[1:] for word in words)
    return [] if named else [Lost(f"sourcedir {folder}", "set", "", main)]


def _last(output: str, code: int) -> str:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    return lines[-1] if lines else f"exit code {code}, no output"


# Pattern of our file's path -> how it is read back. sshd's and Salt's are in dropin_sshd.py and dropin_salt.py.
KINDS = (
    (r"^/etc/(systemd/(?:journald|timesyncd|resolved)\.conf|rpi/swap\.conf)\.d/[^/]+\.conf$", _systemd_file),
    (r"^/etc/(systemd/zram-generator\.conf)$", _systemd_file),
    (r"^/etc/systemd/system/([^/]+)\.d/[^/]+\.conf$", _systemd_unit),
    (r"^/etc/systemd/system/([^/]+\.(?:service|timer))$", _systemd_unit),
    (r"^/etc/apt/apt\.conf\.d/[^/]+$", _apt),
    (r"^/etc/chrony/sources\.d/[^/]+\.sources$", _chrony),
)
