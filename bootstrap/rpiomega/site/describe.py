"""A model of the schema -> plain data: what keys there are, of which type, and what is allowed.

Not pydantic's own JSON Schema: that knows nothing of our `Shape`s, and differs from release to release.
"""

from __future__ import annotations

import types
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, BaseModel
from pydantic.fields import FieldInfo

from rpiomega.site.values import Shape

_SCALARS = {str: "text", int: "whole number", bool: "true or false", Any: "anything"}


def describe(model: type[BaseModel]) -> dict:
    """Return a section: ``{"type": "section", "text", "keys": {name: description}, "required": [names]}``.

    A description has a `type` ("text", "whole number", "true or false", "anything", "list", "mapping" or "section"),
    `each` for what a list or mapping holds, and where they apply: `names` (a mapping's keys), `null`, `one_of`, `min`,
    `max`, `min_length`, `pattern` with `is`, `allowed` and `hidden`, `default`, and `text`, its meaning.
    """
    hints = get_type_hints(model, include_extras=True)
    found = {}
    for name, field in model.model_fields.items():
        if _is_key(name, field):
            continue
        item = _type(hints[name])
        item.update(_bounds(field.metadata))
        if not field.is_required() and (item["type"] != "section" or item.get("null")):
            item["default"] = field.get_default()
        if field.description:
            item["text"] = " ".join(field.description.split())
        found[name] = item
    required = [name for name, field in model.model_fields.items() if field.is_required()]
    return {"type": "section", "text": " ".join((model.__doc__ or "").split()), "keys": found, "required": required}


def _type(hint: Any) -> dict:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return {**_type(arguments[0]), **_bounds(arguments[1:])}
    if origin in (Union, types.UnionType):
        kinds = [_type(each) for each in arguments if each is not type(None)]
        joined = kinds[0] if len(kinds) == 1 else {"type": " or ".join(kind["type"] for kind in kinds)}
        return {**joined, "null": True} if len(kinds) < len(arguments) else joined
    if origin is Literal:
        return {"type": "text", "one_of": list(arguments)}
    if origin is list:
        return {"type": "list", "each": _type(arguments[0])}
    if origin is dict:
        names = {key: value for key, value in (_own_name(arguments[1]) or _type(arguments[0])).items() if key != "type"}
        return {"type": "mapping", **({"names": names} if names else {}), "each": _type(arguments[1])}
    return {"type": _SCALARS[hint]} if hint in _SCALARS else describe(hint)


def _is_key(name: str, field: FieldInfo) -> bool:
    """Tell whether a field is its section's key in the file, copied into it as a node's is."""
    return name == "name" and not field.description


def _own_name(hint: Any) -> dict | None:
    fields = getattr(hint, "model_fields", {})
    if "name" in fields and _is_key("name", fields["name"]):
        return _type(get_type_hints(hint, include_extras=True)["name"])
    return None


def _bounds(metadata: Any) -> dict:
    found: dict[str, Any] = {}
    for item in metadata:
        if isinstance(item, AfterValidator) and isinstance(item.func, Shape):
            found |= {"pattern": item.func.pattern, "is": item.func.what, "allowed": item.func.allowed}
            found |= {"hidden": True} if item.func.hidden else {}
            found |= {"max_bytes": item.func.max_bytes} if item.func.max_bytes else {}
            found |= {"ipv6": True} if item.func.ipv6 else {}
        for ours, theirs in (("min", "ge"), ("max", "le"), ("min_length", "min_length")):
            if getattr(item, theirs, None) is not None:
                found[ours] = getattr(item, theirs)
    return found
