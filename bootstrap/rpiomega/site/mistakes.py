"""Which mistake in a text keeps it from being YAML: the parser often names a later line, in terms of its own."""

from __future__ import annotations

import re

import yaml

from omega.core import mask

_ODD_SPACE = re.compile(r"[\u00a0\u2000-\u200b\u202f\u3000\ufeff]")
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
_NO_SPACE = re.compile(r"\s*(?:- )?([A-Za-z_][\w-]*):([^\s/].*)")
_NO_COLON = re.compile(r"\s*(?:- )?([A-Za-z_][\w-]*)(?: [^:'\"\[{]*)?")
_OPEN = {"while parsing a flow mapping": "{", "while parsing a flow sequence": "["}
_CURE = "check indentation, colons and quotes here"


def explain(text: str, error: Exception) -> tuple[int | None, str, str]:
    """Given a text and what the parser raised, return the line (from 1; None if unknown), cause and cure."""
    lines = re.split(r"\r\n|\n|\r", text)
    for number, words in enumerate(lines, 1):
        if _CONTROL.search(words):
            return number, "a control character", "delete it, or type the line again"
    if not isinstance(error, yaml.MarkedYAMLError):
        return None, " ".join(str(error).split()), ""
    mark = error.problem_mark or error.context_mark
    line = mark.line + 1 if mark else len(lines)
    opened = error.context_mark.line + 1 if error.context_mark else line
    if error.problem == "found unexpected end of stream":
        return opened, "the quote that begins here does not end", "close it"
    if error.context in _OPEN:
        return opened, f"the `{_OPEN[error.context]}` that opens here is not closed, or a comma is missing", _CURE
    # A wrong indentation or colon is noticed where the next thing begins.
    before = next((number for number in range(line - 1, 0, -1) if _said(lines[number - 1]).strip(" ")), 0)
    for number in filter(None, (min(line, len(lines)), before)):
        found = _slip(_said(lines[number - 1]), number == before)
        if found:
            return (number, *found)
    if "block mapping" in (error.context or "") or error.problem == "mapping values are not allowed here":
        return line, "it is indented like none of the lines above", "put keys that belong together below each other"
    return line, " ".join(part for part in (error.context, error.problem) if part), _CURE


def _said(words: str) -> str:
    """Return a line without its comment."""
    return re.split(r"(?:^|\s)#", words, maxsplit=1)[0]


def _slip(words: str, before: bool) -> tuple[str, str] | None:
    if "\t" in words and not before:
        return "a tab", "YAML takes spaces only"
    if _ODD_SPACE.search(words):
        return "a space that is not the plain one, as copied from a web page", "type the spaces of this line again"
    joined = _NO_SPACE.fullmatch(words)
    if joined:
        return f"no space after `{joined[1]}:`", f"write `{joined[1]}: {mask.key(joined[2])}`"
    bare = _NO_COLON.fullmatch(words.rstrip())
    if bare and before:
        return f"no colon after `{bare[1]}`", f"write `{bare[1]}:`"
    return None
