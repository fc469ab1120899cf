"""Sections of `key=value` lines, edited where need be and otherwise kept as they are: keyfiles, systemd's files."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Section:
    """A section's name, and its items: (key, value, lines as written); comments and empty lines have an empty key."""

    name: str
    header: str = ""
    items: list[tuple[str, str, list[str]]] = field(default_factory=list)

    def values(self, key: str) -> list[str]:
        """Return the values of all lines with a key."""
        return [value for name, value, _ in self.items if name == key]

    def drop(self, *keys: str) -> None:
        """Remove all lines with one of the keys."""
        self.items = [item for item in self.items if item[0] not in keys]

    def add(self, key: str, value: str) -> None:
        """Add a line after the last one that is not empty."""
        at = max((number for number, item in enumerate(self.items, 1) if item[0] or item[2][0].strip()), default=0)
        self.items.insert(at, (key, value, [f"{key}={value}"]))


def parse(text: str, continued: bool = False) -> list[Section]:
    """Return the sections of a text; the first one, without a name, is what comes before all others.

    `continued`: a backslash at a line's end joins the next one (systemd.syntax(7)).
    """
    found = [Section("")]
    lines = text.splitlines()
    while lines:
        line = lines.pop(0)
        bare = line.strip()
        if bare.startswith("[") and bare.endswith("]"):
            found.append(Section(bare[1:-1], line))
            continue
        if not bare or bare[0] in "#;" or "=" not in bare:
            found[-1].items.append(("", "", [line]))
            continue
        raw = [line]
        while continued and raw[-1].rstrip().endswith("\\") and lines:
            raw.append(lines.pop(0))
        whole = " ".join(part.rstrip().rstrip("\\").strip() for part in raw) if len(raw) > 1 else bare
        key, _, value = whole.partition("=")
        found[-1].items.append((key.strip(), value.strip(), raw))
    return found


def render(sections: list[Section]) -> str:
    """Return the text of sections, one empty line between them."""
    blocks = []
    for section in sections:
        lines = ([section.header or f"[{section.name}]"] if section.name else []) + [
            line for _, _, raw in section.items for line in raw
        ]
        text = "\n".join(lines).strip("\n")
        if text:
            blocks.append(text)
    return "\n\n".join(blocks) + "\n"


def last(sections: list[Section], name: str, key: str) -> str:
    """Return the value that counts of a key that may be given once: the last one, empty if there is none."""
    return next((section.values(key)[-1] for section in reversed(sections)
                 if section.name == name and section.values(key)), "")  # fmt: skip


def only(sections: list[Section], name: str) -> Section:
    """Return the section `name`, all of that name joined into the first one; a new one if there is none."""
    same = [section for section in sections if section.name == name]
    if not same:
        sections.append(Section(name))
        return sections[-1]
    for other in same[1:]:
        same[0].items += other.items
        sections.remove(other)
    return same[0]


def true(value: str) -> bool:
    """Return whether a value means yes, for NetworkManager and systemd alike."""
    return value.lower() in ("1", "yes", "y", "true", "t", "on")
