"""The package sources of a system, in both formats of sources.list(5): read, and one repository's entries replaced.

apt refuses to read any source as soon as two entries of a repository name different keys (`Signed-By`). So an entry of
this project takes the place of all others for the same packages; a file that loses one is kept as a copy.
Standard library only: states and the bootstrap's part on the board share it.
"""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from urllib.parse import unquote, urlsplit

from omega.core import files, mask

MAIN = "/etc/apt/sources.list"
PARTS = "/etc/apt/sources.list.d"
# A name that apt passes over without a notice (`apt-config dump Dir::Ignore-Files-Silently`).
COPY = ".before-rpiomega{}.save"
_PORTS = {"http": 80, "https": 443}
_OFF = ("no", "false", "without", "off", "disable", "0")
_LINE = re.compile(r'\s*(deb|deb-src)\s+(?:\[([^\]]*)\]\s*)?("[^"]*"|[^\s"#]+)\s+("[^"]*"|[^\s"#]+)(.*)')
_FIELD = re.compile(r"([^\s:#]+)[ \t]*:(.*)")


@dataclass
class Entry:
    """A line, or a stanza, of a file: `first` and `end` are its lines; `fields` have lower-case names."""

    first: int
    end: int
    types: list[str]
    uris: list[str]
    suites: list[str]
    fields: dict[str, str] = field(default_factory=dict)
    enabled: bool = True


@dataclass
class Change:
    """What has to be written: ``{path: text, or None where the file goes}``, and a remark on each entry that goes.

    `copies`: ``{path of a copy: path of the file it is of}``; a copy gets that file's permissions.
    """

    files: dict[str, str | None] = field(default_factory=dict)
    remarks: list[str] = field(default_factory=list)
    copies: dict[str, str] = field(default_factory=dict)

    def modes(self, paths: Iterable[str], root: str = "/") -> dict[str, int]:
        """Return ``{path: permission bits}``: a list keeps its own, a copy has its list's, all else 0644."""
        lists = {path: f"{root.rstrip('/')}{self.copies.get(path, path)}" for path in paths if path in self.files}
        return {path: path in lists and files.mode_of(lists[path]) or 0o644 for path in paths}


def read(root: str = "/") -> dict[str, str]:
    """Return ``{path: text}`` of the files that apt reads below `root`; bytes that are no text survive a round trip.

    :raises OSError: one of them cannot be read
    """
    found = {}
    for path in (MAIN, *(f"{PARTS}/{name}" for name in _names(f"{root.rstrip('/')}{PARTS}"))):
        if os.path.isfile(f"{root.rstrip('/')}{path}"):
            with open(f"{root.rstrip('/')}{path}", encoding="utf-8", errors="surrogateescape", newline="") as file:
                found[path] = file.read()
    return found


def _names(folder: str) -> list[str]:
    """Return the files of a folder that apt reads (apt.conf(5), sources.list(5))."""
    names = sorted(os.path.basename(path) for path in glob.glob(f"{folder}/*"))
    return [name for name in names if re.fullmatch(r"[A-Za-z0-9_.-]+\.(list|sources)", name)]


def entries(path: str, text: str) -> list[Entry]:
    """Return the Entry of each line or stanza of a file, the disabled ones too; what is no entry is left out."""
    return _stanzas(text) if path.endswith(".sources") else _lines(text)


def _lines(text: str) -> list[Entry]:
    found = []
    for number, line in enumerate(text.splitlines(keepends=True)):
        match = _LINE.match(line)
        if match:
            kind, options, uri, suite, _ = match.groups()
            pairs = (word.partition("=") for word in (options or "").split())
            fields = {name.rstrip("+-").lower(): value for name, _, value in pairs}
            found.append(Entry(number, number + 1, [kind], [_bare(uri)], [_bare(suite)], fields))
    return found


def _bare(word: str) -> str:
    return unquote(word.strip('"')) if word.startswith('"') else word


def _stanzas(text: str) -> list[Entry]:
    found, fields, name, first = list[Entry](), dict[str, str](), "", 0
    lines = text.splitlines(keepends=True)
    for number, line in enumerate([*lines, "\n"]):
        if not line.strip("\r\n"):
            if fields:
                found.append(_stanza(first, number, fields))
            fields, name, first = {}, "", number + 1
        elif not line.startswith("#"):
            match = _FIELD.match(line)
            if line[0] in " \t" and name:
                fields[name] = f"{fields.get(name, '')} {line.strip()}"
            elif match:
                name = match[1].lower()
                fields[name] = match[2].strip()
    return found


def _stanza(first: int, end: int, fields: dict[str, str]) -> Entry:
    split = {name: fields.get(name, "").split() for name in ("types", "uris", "suites")}
    enabled = fields.get("enabled", "yes").lower() not in _OFF
    return Entry(first, end, split["types"], split["uris"], split["suites"], fields, enabled)


def normal(uri: str) -> str:
    """Return what all addresses of one repository have in common: ``host/path``, the path alone for ``file:``."""
    try:
        parts = urlsplit(re.sub(r"^(?:mirror\+|tor\+)+", "", uri.strip(), flags=re.IGNORECASE))
        port = parts.port
    except ValueError:
        return uri.strip()  # apt refuses it as well
    path = re.sub(r"/+", "/", unquote(parts.path)).rstrip("/")
    host = (parts.hostname or "").rstrip(".")
    return f"{host}{f':{port}' if port not in (None, _PORTS.get(parts.scheme)) else ''}{path}"


def same(uri: str, other: str) -> bool:
    """Tell whether two addresses lead to one repository, whatever the scheme, the case of the host, the last slash."""
    return normal(uri) == normal(other)


def replace(
    files: dict[str, str],
    path: str,
    stanza: str | None,
    uris: list[str],
    key_file: str,
    also: Iterable[str] = (),
    exists: Callable[[str], bool] = os.path.exists,
) -> Change:
    """Return the Change that makes `stanza` the only enabled entry for its packages.

    :param files: ``{path: text}`` of all sources, as `read` gives them
    :param path: the file of this project's entry, a ``*.sources``
    :param stanza: its text, or None: the entry goes as well, those of others stay
    :param uris: addresses of the repository
    :param key_file: what the project's entry names as `Signed-By`
    :param also: ``host/path`` below which the same packages are offered, such as a vendor's former address
    :param exists: tells whether there is a file at a path, so that no earlier copy is overwritten
    """
    change = Change()
    below = tuple(f"{normal(f'https://{place}')}/" for place in also)
    known = {normal(uri) for uri in uris}

    def theirs(uri: str) -> bool:
        return normal(uri) in known or f"{normal(uri)}/".startswith(below)

    for name, text in sorted(files.items()):
        own = name == path
        if own or stanza is not None:
            _edit(change, name, text, theirs if stanza is not None else None, key_file if own else None, stanza, exists)
    if stanza is not None:
        have = change.files.get(path, files.get(path)) or ""
        change.files[path] = f"{have.rstrip()}\n\n{stanza}" if have.strip() else stanza
    change.files = {name: text for name, text in change.files.items() if text != files.get(name)}
    return change


def _edit(
    change: Change,
    name: str,
    text: str,
    theirs: Callable[[str], bool] | None,
    own_key: str | None,
    stanza: str | None,
    exists: Callable[[str], bool],
) -> None:
    """Take the entries that `theirs` matches, or that are this project's, out of one file."""
    lines: list[str | None] = [*text.splitlines(keepends=True)]
    gone, foreign = False, []
    for entry in entries(name, text):
        ours = own_key is not None and entry.fields.get("signed-by") == own_key
        match = [uri for uri in entry.uris if theirs is not None and theirs(uri)] if entry.enabled else []
        if ours or (match and len(match) == len(entry.uris)):
            lines[entry.first : entry.end] = [None] * (entry.end - entry.first)
        elif match:
            lines[entry.first : entry.end] = _without(text.splitlines(keepends=True)[entry.first : entry.end], match)
        else:
            continue
        gone = True
        if not (ours and _as_written(entry, stanza)):
            foreign.append((entry, match or entry.uris))
    if not gone:
        return
    rest = "".join(line for line in lines if line is not None)
    # Comments alone are not worth a file; the copy has them.
    keep = name == MAIN or any(line.strip() and not line.startswith("#") for line in rest.splitlines())
    change.files[name] = re.sub(r"\n{3,}", "\n\n", rest) if keep else None
    if foreign:
        copy = next(
            name + COPY.format(number) for number in ("", *range(2, 1000)) if not exists(name + COPY.format(number))
        )
        change.files[copy], change.copies[copy] = text, name
        for entry, uris in foreign:
            what = mask.masked(f"{' '.join(uris)} {' '.join(entry.suites)}".strip())
            change.remarks.append(f"the entry of {name} for {what} is retired, a copy of the file is {copy}")


def _as_written(entry: Entry, stanza: str | None) -> bool:
    """Tell whether an entry has the fields of this project's, and nothing that the owner has added."""
    if not stanza:
        return True
    (wanted,) = _stanzas(stanza)
    return set(entry.fields) == set(wanted.fields) and entry.fields.get("components") == wanted.fields.get("components")


def _without(lines: list[str], uris: list[str]) -> list[str | None]:
    """Return the lines of a stanza without these addresses in its field URIs; None for a line that goes."""
    inside = False
    made: list[str | None] = []
    for line in lines:
        match = _FIELD.match(line) if line[0] not in " \t#" else None
        inside = match[1].lower() == "uris" if match else inside
        if inside and not line.startswith("#"):
            head, value = (f"{match[1]}:", match[2]) if match else ("", line)
            words = [word for word in value.split() if word not in uris]
            made.append(f"{head} {' '.join(words)}".rstrip() + "\n" if match or words else None)
        else:
            made.append(line)
    return made
