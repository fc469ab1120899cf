"""The site file as the master reads it itself: what Salt's renderer keeps to its log, or does not mind at all."""

from __future__ import annotations

import os
from typing import Any

import yaml

from omega.core import mask, plain_yaml
from omega.site import nodes as site_nodes

NAME = "site.sls"
TOP = "rpiomega"
AGAIN = "`rpiomega bootstrap` of the master brings the workstation's"


TEXT = "tag:yaml.org,2002:str"
KEYS = (TEXT, "tag:yaml.org,2002:merge")
NUMBERS = ("int", "float", "timestamp")


def _load(text: str) -> Any:
    """Return the data of a YAML text; raise MarkedYAMLError for what `rpiomega check` refuses on the workstation."""
    line = plain_yaml.jinja(text)
    if line:
        problem = "Jinja is written here, and the bootstrap reads the file too"
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=yaml.Mark(NAME, 0, line - 1, 0, None, 0))
    loader = yaml.SafeLoader(text)
    node = loader.get_single_node()
    if node is None:
        return None
    _walk(node, ())
    return loader.construct_document(node)


def _walk(node: yaml.Node, parents: tuple[yaml.Node, ...]) -> None:
    if any(node is parent for parent in parents):
        raise _error("an alias contains itself", node)
    parents = (*parents, node)
    problem = plain_yaml.unusable(node)
    if problem:
        raise _error("; ".join(problem), node)
    if isinstance(node, yaml.MappingNode):
        _keys(node)
        for _, value in node.value:
            _walk(value, parents)
    elif isinstance(node, yaml.SequenceNode):
        for value in node.value:
            _walk(value, parents)
    elif isinstance(node, yaml.ScalarNode) and node.style is None and node.tag.rpartition(":")[2] in NUMBERS:
        # 010 is 8, 1:30 is 90: see `rpiomega.site.document.reading`.
        try:
            read_as = str(yaml.SafeLoader("").construct_object(node))
        except ValueError:
            read_as = plain_yaml.UNREADABLE[node.tag.endswith("timestamp")]
        if read_as != node.value or node.tag.endswith("timestamp"):
            value = node.value if len(node.value) <= 40 else f"{node.value[:37]}..."
            raise _error(f'`{value}` without quotes is {read_as} to YAML; put it in quotes: "{value}"', node)


def _keys(node: yaml.MappingNode) -> None:
    """YAML keeps the last of two equal keys: a node would be lost without a word."""
    seen: dict[str, int] = {}
    for key, _ in node.value:
        if not isinstance(key, yaml.ScalarNode):
            raise _error("a key must be a plain word", key)
        if key.tag not in KEYS:
            raise _error(f'`{key.value}` is no text to YAML; put it in quotes: "{key.value}"', key)
        if key.value in seen:
            raise _error(f"`{mask.key(key.value)}` is there twice (first in line {seen[key.value]})", key)
        seen[key.value] = key.start_mark.line + 1


def _error(problem: str, node: yaml.Node) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)


def read(folder: str) -> Any:
    """Return the value of `rpiomega` in the site file of a folder.

    :param folder: the first of the base environment's pillar_roots. What Salt would take from the others is an
        example: it comes with the formula
    :return: whatever stands there, not judged
    :raises ValueError: one line that names the file, the cause and the next step
    """
    path = os.path.join(folder, NAME)
    try:
        with open(path, encoding="utf-8") as file:
            found = _load(file.read())
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}; {AGAIN}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: cannot be read: it is not UTF-8 text; {AGAIN}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        cause = " ".join(part for part in (error.context, error.problem) if part)
        where = f"{path}:{mark.line + 1}" if mark else path
        raise ValueError(f"{where}: not plain YAML: {cause}; correct it, or {AGAIN}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: not plain YAML: {' '.join(str(error).split())}; {AGAIN}") from None
    if not isinstance(found, dict) or TOP not in found:
        raise ValueError(f"{path}: the top-level key `{TOP}` is missing; {AGAIN}")
    return found[TOP]


def clashes(site: dict, top: str = "rpiomega") -> list[str]:
    """Return one line for each thing that is wrong between the nodes of a site whose keys are all sound.

    :param site: the value of `rpiomega`, in which `omega.site.check.problems` has found nothing
    :return: a list of str, empty for a sound site
    """
    found, owners = list[str](), dict[str, str]()
    masters = site_nodes.with_role(site, "master")
    if not masters:
        found.append(f"{top}.nodes: no node has the role master; give it to exactly one node")
    for name in masters[1:]:
        found.append(f"{top}.nodes.{name}.roles: a second master ({masters[0]} is one already); give it to one node")
    if not site_nodes.with_role(site, "manager"):
        found.append(f"{top}.nodes: no node has the role manager; a swarm needs one, better three")
    for name in site_nodes.nodes(site):
        if len({"manager", "worker"} & set(site_nodes.roles(site, name))) != 1:
            found.append(f"{top}.nodes.{name}.roles: either manager or worker; write one of them")
        address = site_nodes.address(site, name)
        if address in owners:
            found.append(f"{top}.nodes.{name}.address: {address} is the address of {owners[address]} too; give its own")
        owners.setdefault(address, name)
    return found
