"""Whether the site's pillar has only keys the formula knows, each of the right type. Standard library only.

`rpiomega check` says more, with lines, on the workstation. This is for the master, where pillar/site.sls may be edited
by hand; it goes by `omega.site.keys`, which is made from the same schema.
"""

from __future__ import annotations

import difflib
import ipaddress
import re
from collections.abc import Iterator
from typing import Any

from omega.core import mask
from omega.site import keys

# Exact types: for Python `True` is a number.
TYPES = {"text": str, "whole number": int, "true or false": bool}
CONTAINERS = {"section": dict, "mapping": dict, "list": list}


def problems(site: Any, top: str = "rpiomega") -> list[str]:
    """Return one line for each thing that is wrong: ``key.path: cause; what is allowed``.

    :param site: the value of the pillar's key `top`
    :return: a list of str, empty for a sound site
    """
    return list(_check(site, keys.SITE, top))


def _check(value: Any, item: dict, path: str) -> Iterator[str]:
    if value is None and item.get("null"):
        return
    kind = CONTAINERS.get(item["type"])
    if kind is None:
        yield from _scalar(value, item, path)
    elif not isinstance(value, kind):
        yield _wrong(path, value, "a list" if kind is list else "keys with values below it", item)
    elif len(value) < item.get("min_length", 0):
        yield f"{path}: empty; name at least one"
    elif item["type"] == "section":
        yield from _section(value, item, path)
    elif item["type"] == "mapping":
        for name, inner in value.items():
            yield from _scalar(name, {"type": "text", **item.get("names", {})}, f"{path}.{mask.key(name)}")
            yield from _check(inner, item["each"], f"{path}.{mask.key(name)}")
    else:
        for number, inner in enumerate(value):
            yield from _check(inner, item["each"], f"{path}.{number}")


def _section(value: dict, item: dict, path: str) -> Iterator[str]:
    known = list(item["keys"])
    for name in item["required"]:
        if name not in value:
            yield f"{path}.{name}: missing; it has no default"
    for name, inner in value.items():
        if name in item["keys"]:
            yield from _check(inner, item["keys"][name], f"{path}.{name}")
        else:
            close = difflib.get_close_matches(str(name), known, n=1)
            meant = f"did you mean {close[0]}?" if close else f"allowed: {', '.join(known)}"
            yield f"{path}.{mask.key(name)}: unknown key; {meant}"


def _scalar(value: Any, item: dict, path: str) -> Iterator[str]:
    if item["type"] == "anything":
        if not all(_fits(text, item) for text in mask.texts_in(value)):
            yield f"{path}: {_shown(value, item)} is not {item['is']}; {item['allowed']}"
        return
    allowed = item["type"].split(" or ") if item["type"] not in TYPES else [item["type"]]
    if not any(type(value) is TYPES[each] for each in allowed):
        # YAML's value says no more how it was written: 13:30 is 810, and 28.10 is 28.1.
        bare = "text" in allowed and value is not None and not isinstance(value, (str, list, dict))
        yield _wrong(path, value, f"{item['type']}{', in quotes as it stands in the file' if bare else ''}", item)
    elif "one_of" in item and value not in item["one_of"]:
        yield f"{path}: {_shown(value, item)} is not known; allowed: {', '.join(item['one_of'])}"
    elif "min" in item and not item["min"] <= value <= item["max"]:
        yield f"{path}: {value} is out of range; allowed: {item['min']} to {item['max']}"
    elif "pattern" in item and not _fits(value, item):
        yield f"{path}: {_shown(value, item)} is not {item['is']}; {item['allowed']}"


def _fits(value: str, item: dict) -> bool:
    """Return whether a text has the shape of an item (`rpiomega.site.values.Shape`)."""
    if not re.fullmatch(item["pattern"], value):
        return False
    if item.get("max_bytes") and len(value.encode("utf-8", "surrogatepass")) > item["max_bytes"]:
        return False
    if not item.get("ipv6") or ":" not in value:
        return True
    try:
        return bool(ipaddress.IPv6Address(value.partition("%")[0]))
    except ValueError:
        return False


def _wrong(path: str, value: Any, wanted: str, item: dict) -> str:
    if value is None:
        return f"{path}: empty; write {wanted}"
    return f"{path}: {_shown(value, item)} has the wrong type; write {wanted}"


def _shown(value: Any, item: dict) -> str:
    text = repr(value)
    if item.get("hidden") or mask.may_have_login(text):
        return "what is written here"
    return text if len(text) <= 40 else text[:37] + "..."
