"""The files of a node's backups in /etc/rpiomega/backup: what they contain, as a pure function of the pillar.

A timer's run needs no Salt master: it reads only these. On the master the folder ``maintenance`` has what the upkeep
of all repositories needs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from omega.core import files
from omega.core.errors import Failure
from omega.site import nodes as site_nodes

MAINTENANCE = "maintenance"


class NoSecretsError(Failure):
    """The pillar has no secrets of backups for this node, or says what is wrong with them."""


def contents(name: str, site: dict[str, Any], secrets: Mapping[str, Any], settings: Mapping[str, Any]) -> dict:
    """Return {path below the folder: text} of node `name`.

    :param site: the site file's content
    :param secrets: the pillar's ``rpiomega_secrets`` of this node
    :param settings: the site's section ``backup`` over the defaults
    :raises NoSecretsError: there are none, or the master found a problem
    """
    given = secrets.get("backup") or {}
    if not given:
        cause = f"the pillar of {name} has no secrets of backups"
        raise NoSecretsError(cause, "`salt-call saltutil.refresh_pillar`, and see the master's log")
    if "problem" in given:
        raise NoSecretsError(given["problem"])
    master = "maintenance" in given
    known = {
        **settings,
        "node": name,
        "cluster": site.get("cluster", ""),
        "roles": site_nodes.roles(site, name),
        "region": given["region"],
        "master": master,
    }
    found = {
        "repository": given["repository"] + "\n",
        "password": given["password"] + "\n",
        "aws": _aws(given),
        "settings.json": json.dumps(known, indent=1, sort_keys=True) + "\n",
    }
    if master:
        found[f"{MAINTENANCE}/aws"] = _aws(given["maintenance"])
        found[f"{MAINTENANCE}/recovery"] = given["recovery"] + "\n"
        for node, password in given["passwords"].items():
            found[f"{MAINTENANCE}/nodes/{node}/password"] = password + "\n"
            found[f"{MAINTENANCE}/nodes/{node}/repository"] = given["urls"][node] + "\n"
    return found


def differences(folder: str, wanted: Mapping[str, str]) -> dict[str, str]:
    """Return {path: "written", "mode" or "removed"} of what has to change below `folder`. Writes nothing.

    A file of another name in `folder` itself is its owner's and stays; ``maintenance`` is ours alone.
    """
    found = {}
    for place in sorted({os.path.dirname(os.path.join(folder, path)) for path in wanted} | {folder}):
        if files.mode_of(place) not in (None, 0o700):
            found[place] = "mode"
    for path, text in wanted.items():
        whole = os.path.join(folder, path)
        if files.read(whole) != text:
            found[whole] = "written"
        elif files.mode_of(whole) != 0o600:
            found[whole] = "mode"
    for whole in _present(folder):
        if os.path.relpath(whole, folder) not in wanted and _ours(os.path.relpath(whole, folder)):
            found[whole] = "removed"
    return found


def apply(folder: str, wanted: Mapping[str, str], changes: Mapping[str, str]) -> None:
    """Carry `differences` out: folders of mode 0700, files of mode 0600, each whole."""
    for path in wanted:
        _folder(os.path.dirname(os.path.join(folder, path)), folder)
    for path, what in changes.items():
        if what == "written":
            files.write(path, wanted[os.path.relpath(path, folder)], 0o600)
        elif what == "removed":
            files.remove(path)
        else:
            os.chmod(path, 0o700 if os.path.isdir(path) else 0o600)
    _prune(folder)


def _aws(key: Mapping[str, str]) -> str:
    return f"[default]\naws_access_key_id = {key['key_id']}\naws_secret_access_key = {key['key']}\n"


def _ours(path: str) -> bool:
    return path in ("repository", "password", "aws", "settings.json") or path.startswith(f"{MAINTENANCE}/")


def _present(folder: str) -> list[str]:
    return [os.path.join(place, name) for place, _, names in os.walk(folder) for name in sorted(names)]


def _folder(path: str, top: str) -> None:
    if path != top:
        _folder(os.path.dirname(path), top)
    if not os.path.isdir(path):
        os.makedirs(path, mode=0o700)


def _prune(folder: str) -> None:
    """Remove empty folders, the deepest first, and `folder` itself if nothing is in it."""
    for place, _, _ in os.walk(folder, topdown=False):
        if not os.listdir(place):
            os.rmdir(place)
