"""Site file -> Site, or one SiteError with every problem in it."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from omega.core import mask
from rpiomega.site import checks
from rpiomega.site.describe import describe
from rpiomega.site.document import TOP, Document
from rpiomega.site.errors import Problem, SiteError
from rpiomega.site.schema import Site

_PLAIN = {
    "string_type": "write text here",
    "int_type": "write a whole number",
    "bool_type": "write true or false",
    "list_type": "write a list: [one, two]",
    "dict_type": "write keys with values below it",
    "model_type": "write keys with values below it",
}


def load(path: Path) -> Site:
    """Given the path of a site file, return the validated Site.

    Raise SiteError with all problems (file, line, key path, cause, what is allowed) if it cannot be used.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except OSError as error:
        cure = "run this in the checkout, or give the file with --site FILE"
        raise SiteError(path, [Problem((), f"cannot be read: {error.strerror}", cure)]) from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        problem = Problem((), "cannot be read: it is not UTF-8 text", "save it as UTF-8 in your editor", line)
        raise SiteError(path, [problem]) from None
    document = Document(text)
    found = list(document.problems)
    site = None
    if document.data is not None:
        site, more = _validate(document.data, document.plain)
        said = {problem.key for problem in found}
        found += [problem for problem in more if problem.key not in said]
        # Where the schema has refused the value, it has said so in the key's own terms.
        said = {problem.key for problem in found}
        found += [_number(problem) for problem in document.odd if _merged(problem.key) not in said]
    if site and not found:
        found += [_below_top(problem) for problem in checks.problems(site, path.parent)]
    if found or site is None:
        raise SiteError(path, [_with_line(problem, document) for problem in found])
    return site


def _validate(data: object, plain: dict[tuple, str]) -> tuple[Site | None, list[Problem]]:
    if not isinstance(data, dict) or TOP not in data:
        return None, [Problem((), f"the top-level key `{TOP}` is missing", _top(data))]
    extra = [Problem((str(key),), "not known here", f"all settings stand below `{TOP}`") for key in data if key != TOP]
    body, renamed = _named(data[TOP])
    extra += renamed
    try:
        return Site.model_validate(body), extra
    except ValidationError as error:
        details = _joined([{**item} for item in error.errors(include_url=False)])
        return None, extra + [_below_top(_translate(item, plain.get((TOP, *item["loc"])))) for item in details]


def _number(problem: Problem) -> Problem:
    """Return the problem without the advice to quote, where the key takes a number only."""
    if _item_at(_merged(problem.key)[1:]).get("type") != "whole number":
        return problem
    return Problem(problem.key, problem.cause, "write the number you mean in plain digits, as 24", problem.line)


def _merged(key: tuple) -> tuple:
    """Return the key path that a value below a merge key (`<<`) gets."""
    return tuple(part for part in key if part != "<<")


def _top(data: object) -> str:
    keys = [str(key) for key in data] if isinstance(data, dict) else []
    if "nodes" in keys or "cluster" in keys:
        return f"start the file with `{TOP}:`, and indent everything below it"
    close = difflib.get_close_matches(TOP, keys, n=1) + [key for key in keys if key.lower() == TOP]
    return f"`{close[0]}` is none: write `{TOP}:`" if close else f"start the file with `{TOP}:`"


def _named(body: object) -> tuple[object, list[Problem]]:
    """Copy each node's key into it as `name`; whatever has another shape is left to the schema's errors."""
    nodes = body.get("nodes") if isinstance(body, dict) else None
    if not isinstance(body, dict) or not isinstance(nodes, dict):
        return body, []
    renamed = [
        Problem((TOP, "nodes", key, "name"), "unknown key", f"the node's name is its key, `{key}`")
        for key, value in nodes.items()
        if isinstance(value, dict) and "name" in value
    ]
    named = {key: {**value, "name": str(key)} if isinstance(value, dict) else value for key, value in nodes.items()}
    return {**body, "nodes": named}, renamed


def _joined(details: list[dict]) -> list[dict]:
    """Return the errors with one for each value: a value that may be text or a number has one for either."""
    texts = {item["loc"][:-1] for item in details if item["loc"] and item["loc"][-1] == "str"}
    kept = [item for item in details if item["loc"][:-1] not in texts or item["loc"][-1] == "str"]
    return [{**item, "loc": item["loc"][:-1], "either": True} if item["loc"][:-1] in texts else item for item in kept]


def _below_top(problem: Problem) -> Problem:
    return Problem((TOP, *problem.key), problem.cause, problem.allowed, problem.line)


def _with_line(problem: Problem, document: Document) -> Problem:
    key = problem.key
    # A node's name is its key, not a value below it.
    if len(key) == 4 and key[1] == "nodes" and key[3] == "name" and problem.cause != "unknown key":
        key = key[:3]
    return Problem(key, problem.cause, problem.allowed, problem.line or document.line(key))


def _translate(item: dict, plain: str | None) -> Problem:
    key, kind, value = tuple(item["loc"]), item["type"], item["input"]
    context = item.get("ctx", {})
    if kind == "extra_forbidden":
        word, _, joined = str(key[-1]).partition(":")
        known = _keys_at(key[:-1])
        if joined and word in known:
            return Problem(key, f"no space after `{word}:`", f"write `{word}: {mask.key(joined)}`")
        return Problem(key, "unknown key", _meant(str(key[-1]), known))
    if kind == "missing":
        return Problem(key, "missing", _expected(key))
    if kind == "value_error":
        cause, _, allowed = str(context["error"]).partition("|")
        return Problem(key, cause, allowed)
    if kind == "literal_error":
        meant = _quoted(value, plain) if f"'{plain}'" in context["expected"] else ""  # off is False
        return Problem(key, f"{_shown(value)} is not known", f"allowed: {context['expected']}{meant}")
    if kind in ("dict_type", "model_type") and isinstance(value, list):
        named = "NAME: {address: ...}" if key == ("nodes",) else "KEY: VALUE"
        return Problem(key, "a list is written here", f"write `{named}` in each line, without a hyphen or brackets")
    if kind in ("too_short", "dict_type", "model_type") and key == ("nodes",):
        return Problem(key, "no nodes", "name each board: its address and its roles")
    if kind == "too_short":
        return Problem(key, "empty", "name at least one")
    if kind in _PLAIN:
        allowed = "write text or a whole number" if item.get("either") else _PLAIN[kind]
        quotes = _quoted(value, plain) if kind == "string_type" else ""
        cause = "empty" if value is None else f"{_shown(value, key)} has the wrong type"
        return Problem(key, cause, f"{allowed}{quotes}")
    return Problem(key, f"{_shown(value)}: {item['msg'][0].lower()}{item['msg'][1:]}")


def _quoted(value: object, plain: str | None) -> str:
    """Return the advice to quote a value that YAML took for a number, a date or the like: 13:30 became 810."""
    if value is None or isinstance(value, (str, list, dict)):
        return ""
    return f'; put it in quotes: "{plain}"' if plain else "; put it in quotes as it stands there"


def _shown(value: object, key: tuple = ()) -> str:
    text = repr(value)
    if _item_at(key).get("hidden") or mask.may_have_login(text):
        return "what is written here"
    return text if len(text) < 40 else text[:37] + "..."


def _expected(key: tuple) -> str:
    if key == ("cluster",):
        return "give the cluster a short name"
    return "every node needs an address" if key[-1] == "address" else "it has no default"


def _meant(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"did you mean `{close[0]}`?" if close else f"allowed: {', '.join(known)}"


def _item_at(path: tuple) -> dict:
    """Return the description of what stands at a path of the schema, an empty dict where it has none."""
    item = describe(Site)
    for part in path:
        item = item.get("each") or item.get("keys", {}).get(part, {})
    return item


def _keys_at(path: tuple) -> list[str]:
    return list(_item_at(path)["keys"])


def unknown_node(site: Site, names: Iterable[str]) -> str:
    """Return one line naming the first of `names` that the site does not have, or an empty string."""
    for name in names:
        if name not in site.nodes:
            return f"{name} is not a node of this site: {_meant(name, list(site.nodes))}"
    return ""
