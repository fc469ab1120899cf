"""fstab(5) by its fields, as getmntent(3) and systemd-fstab-generator(8) read it; edits keep all else to the byte."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

OFF = "# off (rpiomega): "


@dataclass(frozen=True)
class Entry:
    """One line: `device` (a path, LABEL=, UUID=, ...), `folder`, `kind` of file system, `options`."""

    device: str
    folder: str
    kind: str
    options: tuple[str, ...] = ()


def decode(text: str) -> str:
    """Return text with its octal escapes (``\\040`` for a blank) replaced; /proc/swaps has the same ones."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def parse(line: str) -> Entry | None:
    """Return a line's entry; None for a comment, an empty line, or one with less than three fields."""
    words = [decode(word) for word in line.split()]
    if len(words) < 3 or words[0].startswith("#"):
        return None
    return Entry(words[0], words[1], words[2], tuple(words[3].split(",")) if len(words) > 3 else ())


def without(text: str, unwanted: Callable[[Entry], bool]) -> str:
    """Return fstab's text with the lines of all `unwanted` entries as comments."""
    lines = []
    for line in re.split(r"(?<=\n)", text):
        entry = parse(line)
        lines.append(f"{OFF}{line}" if entry and unwanted(entry) else line)
    return "".join(lines)
