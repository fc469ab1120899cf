"""What the schema says, for those who cannot ask it: people, and Salt, which has no pydantic.

``python -m rpiomega.site.reference > docs/site.md`` writes the page; ``--all`` in a checkout writes everything:

- docs/site.md
- salt/rpiomega/site.yaml: the defaults, which map.jinja puts below the pillar
- _utils/omega/site/keys.py: keys and types, by which the master checks the site file it renders
"""

from __future__ import annotations

import argparse
import json
import pprint
import re
import sys
from pathlib import Path

import yaml

from rpiomega.site.describe import describe
from rpiomega.site.schema import Site

AGAIN = "python -m rpiomega.site.reference --all"
ROOT = Path(__file__).resolve().parents[3]
_HEAD = f"""\
<!-- Made by `{AGAIN}` from bootstrap/rpiomega/site/: change it there. -->
# The site file

Read this if you write the site file: each key, its type, its default.

    cp examples/site-three-nodes.sls pillar/site.sls
    rpiomega check

`pillar/site.sls` is the one file a site edits. Bootstrap and Salt read the same text: plain YAML, no Jinja, everything
below the one key `rpiomega`. Only `cluster` and `nodes` are needed; whatever is left out has the default given here.
`rpiomega check` says what is wrong with a file, with line and key. The master looks again whenever it renders the
pillar, so a mistake in its copy stops `state.apply` before anything is done.

Examples: [one node](../examples/site-one-node.sls), [three nodes](../examples/site-three-nodes.sls),
[seven mixed nodes](../examples/site-seven-mixed.sls).
"""


class _Indented(yaml.SafeDumper):
    """Lists stand deeper than their key, as yamllint wants them."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:
        return super().increase_indent(flow, False)


def files() -> dict[str, str]:
    """Return path in the checkout -> text, of every file made from the schema."""
    root = describe(Site)
    return {
        "docs/site.md": page(root),
        "salt/rpiomega/site.yaml": defaults(root),
        "_utils/omega/site/keys.py": keys(root),
    }


def page(root: dict) -> str:
    """Return the reference as Markdown."""
    loose = {name: item for name, item in root["keys"].items() if item["type"] != "section"}
    parts = [_HEAD, _table(loose, root["required"])]
    for name, item in root["keys"].items():
        parts += _section(name, item)
    return "\n".join(parts)


def defaults(root: dict) -> str:
    """Return the defaults as YAML: `site` for the file, `node` for each entry of `nodes`."""
    made = {"site": _defaults(root), "node": _defaults(root["keys"]["nodes"]["each"])}
    head = f"# The site file's defaults. Made by `{AGAIN}`: change the schema instead.\n"
    return head + yaml.dump(made, Dumper=_Indented, sort_keys=False, width=110)


def keys(root: dict) -> str:
    """Return keys and types as a Python module of plain data."""
    head = (
        f'"""Keys and types of the site file. Made by `{AGAIN}`: change the schema instead."""\n\n# ruff: noqa: E501\n'
    )
    node = _defaults(root["keys"]["nodes"]["each"])
    known = pprint.pformat(_without_words(root), width=110, sort_dicts=False)
    return f"{head}NODE_DEFAULTS: dict = {node}\n\nSITE: dict = {known}\n"


def _defaults(section: dict) -> dict:
    return {
        name: item["default"] if "default" in item else _defaults(item)
        for name, item in section["keys"].items()
        if name not in section["required"]
    }


def _without_words(item: dict) -> dict:
    """Leave out what only people read, and the defaults."""
    kept = {name: value for name, value in item.items() if name not in ("text", "default")}
    if "keys" in kept:
        kept["keys"] = {name: _without_words(value) for name, value in kept["keys"].items()}
    if "each" in kept:
        kept["each"] = _without_words(kept["each"])
    return kept


def _section(name: str, item: dict) -> list[str]:
    if item["type"] in ("mapping", "list"):
        return _section(f"{name}.NAME" if item["type"] == "mapping" else f"{name}, each", item["each"])
    if item["type"] != "section":
        return []
    heading = f"## {name}\n\n{item['text']}\n"
    parts = [heading, _table(item["keys"], item["required"])]
    for key, value in item["keys"].items():
        parts += _section(f"{name}.{key}", value)
    return parts


def _table(keys: dict, required: list[str]) -> str:
    rows = ["| key | type | default | allowed | meaning |", "|---|---|---|---|---|"]
    for name, item in keys.items():
        default = "*needed*" if name in required else _code(item.get("default"))
        cells = [f"`{name}`", _type(item), default, _allowed(item), item.get("text", "")]
        rows.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(rows) + "\n"


def _type(item: dict) -> str:
    each = item.get("each", {})
    if item["type"] == "list":
        return f"list of {_plural(each)}"
    if item["type"] == "mapping":
        return f"names, each with {'keys' if each['type'] == 'section' else each['type']}"
    return "keys" if item["type"] == "section" else item["type"]


def _plural(item: dict) -> str:
    return f"{item['type']}s"


def _allowed(item: dict) -> str:
    if item["type"] == "list":
        return _allowed(item["each"])
    if item["type"] == "mapping":
        names = item.get("names", {})
        named = ", ".join(_code(value) for value in names.get("one_of", [])) or names.get("is", "")
        return "; ".join(filter(None, [named and f"each name {named}", _allowed(item["each"])]))
    if "one_of" in item:
        return ", ".join(_code(value) for value in item["one_of"])
    if "min" in item:
        return f"{item['min']} to {item['max']}"
    return f"{item['is']}: {item['allowed']}" if "is" in item else ""


def _code(value: object) -> str:
    if value in (None, ""):
        return "empty" if value == "" else "none"
    text = json.dumps(value)
    return f"`{text if not isinstance(value, str) or re.fullmatch('[0-9.]+', value) else value}`"


def main() -> None:
    """Print the page, or write all files into the checkout."""
    parser = argparse.ArgumentParser(prog="python -m rpiomega.site.reference", description=__doc__.splitlines()[0])
    parser.add_argument("--all", action="store_true", help="write every file made from the schema into this checkout")
    if not parser.parse_args().all:
        sys.stdout.write(page(describe(Site)))
        return
    for name, text in files().items():
        (ROOT / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
