"""The compose files of a stack: where they come from, and what they refer to."""

import os
import re

import yaml

from omega.swarm.api import SwarmError

SALT = "salt://"
# What stacks are called: also the first part of each service's name, which is a DNS name.
_NAME = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?")


def check_name(name):
    """:raises SwarmError: "refused" if a stack cannot be called so"""
    if not _NAME.fullmatch(str(name)):
        raise SwarmError("refused", f"stack {name!r}: its name must be small letters, digits, - and _, up to 63")


def prepare(compose, folder, cache):
    """
    Return paths of compose files for the docker CLI, in order.

    :param compose: list; each a mapping (the content itself), an absolute path, or a file of the master: `salt://a/b.yml`
        or `a/b.yml`. Files it refers to (`configs`, `env_file`) come along from beside it
    :param folder: where contents are written, readable by root only
    :param cache: function that takes a salt:// address and returns the path of a local copy, or False
    :raises SwarmError: "refused" naming the file
    """
    items = compose if isinstance(compose, (list, tuple)) else [compose]
    if not items or not all(items):
        raise SwarmError("refused", "compose: name a compose file, or give its content")
    return [_one(item, number, folder, cache) for number, item in enumerate(items)]


def _one(item, number, folder, cache):
    if isinstance(item, dict):
        path = os.path.join(folder, f"compose-{number}.yml")
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            # By way of plain dicts: Salt hands over ordered ones.
            yaml.safe_dump(_plain(item), file, sort_keys=False)
        return path
    if not isinstance(item, str):
        raise SwarmError("refused", f"compose {item!r}: must be a file or a mapping")
    if item.startswith("/"):
        _document(item, item)
        return item
    source = item if item.startswith(SALT) else SALT + item
    path = _cached(source, cache, "compose file")
    base = source[: source.rindex("/") + 1]
    for reference in _references(_document(path, source), source):
        _cached(base + reference, cache, f"named in {source}")
    return path


def _plain(value):
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def _cached(source, cache, what):
    path = cache(source)
    if not path:
        raise SwarmError("refused", f"{source} ({what}): the master has no such file; put it into /srv/rpiomega/files")
    return path


def _document(path, shown):
    try:
        with open(path, encoding="utf-8") as file:
            found = yaml.safe_load(file)
    except OSError as error:
        raise SwarmError("refused", f"compose file {shown}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise SwarmError("refused", f"compose file {shown}: not UTF-8 text: save it so") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        raise SwarmError("refused", f"compose file {shown}: not YAML{where}") from None
    if not isinstance(found, dict) or not isinstance(found.get("services"), (dict, type(None))):
        raise SwarmError("refused", f"compose file {shown}: no mapping with `services`")
    return found


def _mappings(section):
    """{name: entry} of a section of a compose file; what is something else there is for the CLI to refuse."""
    found = section.items() if isinstance(section, dict) else ()
    return {name: entry for name, entry in found if isinstance(entry, dict)}


def _references(document, source):
    """Relative files that the document needs beside it."""
    found = []
    for kind in ("configs", "secrets"):
        for name, entry in _mappings(document.get(kind)).items():
            path = entry.get("file")
            if not path or str(path).startswith("/") or "$" in str(path):  # the CLI knows what a `${NAME}` is
                continue
            if kind == "secrets":
                raise SwarmError(
                    "refused",
                    f"{source}: secret {name} is a file of the master, which every node may read; give it an absolute "
                    "path on the managers, or make it with `docker secret create` and say `external: true`",
                )
            found.append(str(path))
    for service in _mappings(document.get("services")).values():
        files = service.get("env_file") or []
        found += [item for item in ([files] if isinstance(files, str) else files) if isinstance(item, str)]
    return [path[2:] if path.startswith("./") else path for path in found if path[:1] != "/" and "$" not in path]
