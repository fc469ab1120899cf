"""Passwords taken out of what a state returns: Salt keeps returns in its job cache. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

HIDDEN = "[hidden]"
# By the name before them, in arguments, labels and options: `--db-password=..`, `o: password=..`.
_NAMED = re.compile(r"(?i)((?:pass\w*|pwd|secret|token|api[_-]?key)=)[^,\s]+")
_NAME = re.compile(r"(?i)pass(word|wd)?$|secret$|token$|basicauth|api[_-]?key$")
# Of an address: `https://user:password@host`.
_LOGIN = re.compile(r"(://[^\s/@:]*:)[^\s/]+(?=@)")
_USER = re.compile(r"([^\s:]*:).+")
# As `_LOGIN`, in any spelling: without a scheme, cut into wrong parts by a character of the password.
_MAY_BE_LOGIN = re.compile(r"(?s)(?://|:).*[@\uff20]|%40")


def may_have_login(text: str) -> bool:
    """Return whether a text may be an address with a login: an error message then does not show it."""
    return _MAY_BE_LOGIN.search(text) is not None


def key(text: Any) -> str:
    """Return a key of a file as an error message shows it: "..." if it may be an address with a login."""
    return "..." if may_have_login(str(text)) else str(text)


def texts_in(value: Any) -> Iterator[str]:
    """Yield each text in what JSON has, besides the keys."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, (dict, list)):
        for item in value.values() if isinstance(value, dict) else value:
            yield from texts_in(item)


def masked(value: Any, name: str = "") -> Any:
    """
    Return `value` with HIDDEN in place of each password that can be recognised.

    :param value: what JSON has
    :param name: the key or option that `value` belongs to
    """
    if isinstance(value, dict):
        return {key: masked(item, key) for key, item in value.items()}
    if isinstance(value, list):
        return [_argument(item, before) for item, before in zip(value, ["", *value])]
    if not isinstance(value, str):
        return value
    if _NAME.search(name):
        return HIDDEN
    return _LOGIN.sub(rf"\1{HIDDEN}", _NAMED.sub(rf"\1{HIDDEN}", value))


def _argument(item: Any, before: Any) -> Any:
    """Return an item of a list, which may be the value of the option before it: `--password X`, `-u NAME:X`."""
    if not isinstance(item, str) or not isinstance(before, str) or not before.startswith("-"):
        return masked(item)
    if before in ("-u", "--user"):
        return _USER.sub(rf"\1{HIDDEN}", item)
    return masked(item, before if "=" not in before else "")
