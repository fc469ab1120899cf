"""What a YAML file for the bootstrap and for Salt may contain. Standard library only: it looks at PyYAML's nodes."""

from __future__ import annotations

import re
from typing import Any

# What `construct_object` cannot make a value of: more digits than Python reads, or a day that no calendar has.
UNREADABLE = ("too long a number", "no date")
_TAGS = ("str", "int", "float", "bool", "null", "timestamp", "map", "seq")
JINJA = re.compile(r"\{\{|\{%|\{#")


def jinja(text: str) -> int | None:
    """Return the first line (from 1) with Jinja outside of a comment's line; None if there is none."""
    lines = enumerate(text.splitlines(), 1)
    return next((at for at, line in lines if not line.lstrip().startswith("#") and JINJA.search(line)), None)


def unusable(node: Any) -> tuple[str, str] | None:
    """Return (cause, cure) for a value that is of no type JSON has, or no text in UTF-8; None if it is usable.

    :param node: of PyYAML
    """
    kind = node.tag.rpartition(":")[2]
    if node.tag != f"tag:yaml.org,2002:{kind}" or kind not in _TAGS:
        if isinstance(node.value, str) and kind in ("value", "merge"):
            return f"`{node.value}` without quotes means something else to YAML", f'put it in quotes: "{node.value}"'
        tag = f"!!{kind}" if node.tag.startswith("tag:yaml.org") else node.tag
        return f"the tag {tag} is written here", "delete it, and write text, numbers, lists or keys"
    if isinstance(node.value, str) and re.search("[\ud800-\udfff]", node.value):
        return "half of a character is written here (\\ud800 to \\udfff)", "write the character itself"
    return None
