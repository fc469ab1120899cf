"""YAML text -> plain data plus the line of every key, so that an error can point at the right place."""

from __future__ import annotations

import yaml

from omega.core import mask, plain_yaml
from rpiomega.site import mistakes
from rpiomega.site.errors import Problem

TOP = "rpiomega"
_TEXT = "tag:yaml.org,2002:str"
_KEYS = {_TEXT, "tag:yaml.org,2002:merge"}


def reading(node: yaml.ScalarNode) -> object:
    """Return what YAML makes of a value without quotes, if it is a date or another number; None if it is as it seems.

    `omega.site.file` decides the same on the master. Source: yaml.org/type/int.html, float.html, timestamp.html.
    """
    kind = node.tag.rpartition(":")[2]
    if node.style is not None or kind not in ("int", "float", "timestamp"):
        return None
    try:
        value = yaml.SafeLoader("").construct_object(node)
    except ValueError:
        return plain_yaml.UNREADABLE[kind == "timestamp"]
    return value if kind == "timestamp" or str(value) != node.value else None


class Document:
    """A parsed YAML file: `data` (plain objects), `lines` (key path -> line number), `problems`.

    `plain` maps a key path to the text of its value, where that stands there without quotes; `odd` are problems of
    values that YAML reads as something else than they seem (010 is 8, 1:30 is 90).
    """

    def __init__(self, text: str):
        self.data: object = None
        self.lines: dict[tuple, int] = {}
        self.plain: dict[tuple, str] = {}
        self.problems: list[Problem] = []
        self.odd: list[Problem] = []
        self._parse(text)

    def line(self, key: tuple) -> int | None:
        """Return the line of `key`, or of the nearest parent that is in the file."""
        for length in range(len(key), -1, -1):
            if key[:length] in self.lines:
                return self.lines[key[:length]]
        return None

    def _parse(self, text: str) -> None:
        found = plain_yaml.jinja(text)
        if found:
            allowed = "it is plain YAML, because the bootstrap reads it too"
            self.problems.append(Problem((), "Jinja in the site file", allowed, found))
            return
        try:
            loader = yaml.SafeLoader(text)
            node = loader.get_single_node()
            if node is not None:
                self._walk(node, (), set())
                self.data = loader.construct_document(node)
            if self.data is None:
                self.problems.append(Problem((), "the file is empty", f"it needs the top-level key `{TOP}`"))
        except (yaml.YAMLError, ValueError, RecursionError) as error:
            self.data = None
            if isinstance(error, ValueError) and self.odd:
                self.problems += self.odd  # they have the line
                return
            place, cause, cure = mistakes.explain(text, error)
            self.problems.append(Problem((), f"not YAML: {cause}", cure, place))

    def _walk(self, node: yaml.Node, path: tuple, parents: set[int]) -> None:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if id(node) in parents:  # an alias that contains itself
            raise yaml.MarkedYAMLError(problem="an alias contains itself", problem_mark=node.start_mark)
        parents = parents | {id(node)}
        problem = plain_yaml.unusable(node)
        if problem:
            self.problems.append(Problem(path, *problem, node.start_mark.line + 1))
            node.tag = _TEXT if isinstance(node, yaml.ScalarNode) else node.tag
        if isinstance(node, yaml.ScalarNode) and node.style is None:
            self.plain[path] = node.value
            value = reading(node)
            if value is not None:
                shown = node.value if len(node.value) <= 40 else f"{node.value[:37]}..."
                cure = f'put it in quotes: "{shown}"'
                cure = f"write {value}, or {cure}" if isinstance(value, int) else cure
                line = node.start_mark.line + 1
                self.odd.append(Problem(path, f"`{shown}` without quotes is {value} to YAML", cure, line))
        elif isinstance(node, yaml.SequenceNode):
            for index, item in enumerate(node.value):
                self._walk(item, (*path, index), parents)
        elif isinstance(node, yaml.MappingNode):
            self._walk_mapping(node, path, parents)

    def _walk_mapping(self, node: yaml.MappingNode, path: tuple, parents: set[int]) -> None:
        seen: dict[str, int] = {}
        for key_node, value in node.value:
            line = key_node.start_mark.line + 1
            if not isinstance(key_node, yaml.ScalarNode):
                raise yaml.MarkedYAMLError(problem="a key must be a plain word", problem_mark=key_node.start_mark)
            name = key_node.value
            key = (*path, name)
            if key_node.tag not in _KEYS:
                self.problems.append(Problem(key, f"`{name}` is no text to YAML", f'put it in quotes: "{name}"', line))
                key_node.tag = _TEXT
            if name in seen:
                # YAML would silently keep the last one: a node would be lost without a word.
                cause = f"`{mask.key(name)}` is there twice (first in line {seen[name]})"
                self.problems.append(Problem(key, cause, "keep one of them", line))
            seen.setdefault(name, line)
            self.lines[key] = line
            self._walk(value, key, parents)
