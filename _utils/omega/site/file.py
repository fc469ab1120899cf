"""The site file as the master reads it itself: what Salt's renderer keeps to its log, or does not mind at all."""

import os

import yaml

from omega.site import nodes as site_nodes

NAME = "site.sls"
TOP = "rpiomega"
AGAIN = "`rpiomega bootstrap` of the master brings the workstation's"


class _Loader(yaml.SafeLoader):
    """YAML keeps the last of two equal keys: a node would be lost without a word."""

    def construct_mapping(self, node, deep=False):
        seen = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            name = key.value if isinstance(key, yaml.ScalarNode) else None
            if name in seen:
                problem = f"`{name}` is there twice (first in line {seen[name]})"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            if name is not None:
                seen[name] = line
        return super().construct_mapping(node, deep)


def read(folder):
    """Return the value of `rpiomega` in the site file of a folder.

    :param folder: the first of the base environment's pillar_roots. What Salt would take from the others is an
        example: it comes with the formula
    :return: whatever stands there, not judged
    :raises ValueError: one line that names the file, the cause and the next step
    """
    path = os.path.join(folder, NAME)
    try:
        with open(path, encoding="utf-8") as file:
            found = yaml.load(file, _Loader)  # noqa: S506 - it is a SafeLoader
    except OSError as error:
        raise ValueError(f"{path}: cannot be read: {error.strerror}; {AGAIN}") from None
    except UnicodeDecodeError:
        raise ValueError(f"{path}: cannot be read: it is not UTF-8 text; {AGAIN}") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        cause = " ".join(part for part in (error.context, error.problem) if part)
        where = f"{path}:{mark.line + 1}" if mark else path
        raise ValueError(f"{where}: not plain YAML: {cause}; correct it, or {AGAIN}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ValueError(f"{path}: not plain YAML: {' '.join(str(error).split())}; {AGAIN}") from None
    if not isinstance(found, dict) or TOP not in found:
        raise ValueError(f"{path}: the top-level key `{TOP}` is missing; {AGAIN}")
    return found[TOP]


def clashes(site, top="rpiomega"):
    """Return one line for each thing that is wrong between the nodes of a site whose keys are all sound.

    :param site: the value of `rpiomega`, in which `omega.site.check.problems` has found nothing
    :return: a list of str, empty for a sound site
    """
    found, owners = [], {}
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
