"""Docker Engine on a node: where its packages come from, and how it is set.

What stops an engine waits until the swarm can do without this node, and lets the next manager go on only when this one
is reachable again: applied to all nodes at once, one manager restarts at a time.
"""

import json
import os

from omega.consul import client
from omega.consul import engine_turn as turn
from omega.core import apt, apt_rules, files
from omega.docker import config, data
from omega.docker import engine as docker_engine
from omega.docker import packages as docker_packages
from omega.docker import settings as docker_settings
from omega.docker.service import Service

HELD = "/var/lib/rpiomega/docker-held.json"
ANSWER_BOUND = 120


def __virtual__():
    return os.path.isdir("/etc/apt") or (False, "docker_engine: this system has no apt")


@files.disk_errors_returned
def installed(name, packages, conflicting, version="", allow_downgrade=False, runtime=()):
    """Have Docker's packages of one source, and none of the other's.

    Everything is fetched before the engine stops; then one transaction of apt replaces the packages. Data, containers
    and membership of a swarm stay. With a version, the packages are held at it; another version moves the hold.
    What is below the engine (`runtime`) is upgraded along with it, and within its major version whenever the package
    lists offer that.

    :param name: a label, for the reader
    :param packages: list of names; the first is the engine
    :param conflicting: list of names that cannot stay beside them
    :param version: ``28.5.1``, ``28`` for the newest of 28, the whole version as apt shows it, or empty: any, not held
    :param allow_downgrade: whether an older engine may replace a newer one
    :param runtime: list of names that have releases of their own, such as containerd.io
    :return: Salt's state return

    .. code-block:: yaml

        docker.install:
          docker_engine.installed:
            - name: vendor
            - packages: [docker-ce, docker-ce-cli, containerd.io]
            - conflicting: [docker.io, containerd, runc]
            - version: '28.5'
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "Docker is installed"}
    own = json.loads(files.read(HELD) or "[]")
    names = list(dict.fromkeys([*packages, *conflicting, *runtime]))
    try:
        state = docker_packages.look(names)
        if not docker_packages.known(packages[0], version, state):
            # The repository may have moved on since the lists were fetched, or comes with this very run.
            if __opts__["test"]:
                comment = "Docker's packages would change, if the lists offer this once they are fetched"
                changes = _hoped(packages, conflicting, version, state["installed"])
                return {**ret, "result": None, "changes": changes, "comment": comment}
            problem = _refresh()
            state = docker_packages.look(names)
            if problem and not docker_packages.known(packages[0], version, state):
                raise docker_packages.PackageError(problem)
        first = not any(engine in state["installed"] for engine in docker_packages.ENGINES)
        docker_packages.offered(packages[0], state, __grains__["oscodename"], __grains__["osarch"])
        made = docker_packages.plan(packages, conflicting, version, state, allow_downgrade, own, runtime)
        if made.touches and not first or made.remove:
            docker_packages.predict(made)
        ret["changes"] = made.changes
        if __opts__["test"] or not made.changes:
            return {**ret, "result": None, "comment": "Docker's packages would change"} if made.changes else ret
        if made.touches:
            _fetch(made)
    except apt.AptError as error:
        return {**ret, "result": False, "changes": {}, "comment": str(error)}
    problem = _stopping(lambda: _install(made)) if made.touches else None
    problem = problem or docker_packages.mark(made)
    if problem:
        changes = _happened(names, state["installed"])
        return {**ret, "result": False, "changes": changes, "comment": problem}
    files.write(HELD, json.dumps(sorted(packages) if version else []) + "\n")
    return {**ret, "comment": "Docker's packages are as the site wants them"}


@files.disk_errors_returned
def configured(
    name,
    settings=None,
    mirrors=None,
    insecure_registries=None,
    data_root="",
    move_data=False,
    defaults=None,
    swarm=None,
    base_url=docker_engine.SOCKET,
):
    """Have the engine run with these settings, beside those that its owner wrote into its file.

    The site's settings come first, then the owner's in that file and in the unit's command line, then the defaults.
    Settings that depend on each other, such as log driver and log options, are decided together. The engine itself
    judges the merged settings first; nothing is replaced or restarted if it refuses them. It is
    restarted only for settings that it cannot reload, and gets the former ones back if it does not start.

    :param name: path of daemon.json
    :param settings: mapping; mappings in it join those in the file, everything else replaces; null: the owner's choice
    :param mirrors: list of registry mirrors
    :param insecure_registries: list of registries without a trusted certificate
    :param data_root: folder on a disk of its own; empty: as the file says, or /var/lib/docker
    :param move_data: whether the data of a former data root is copied there; without it that is an error
    :param defaults: mapping; settings for where neither site nor owner names a key or one that it depends on
    :param swarm: whether this node is to be in a swarm: settings that exclude it are refused. None: nothing is refused
    :param base_url: the engine's socket
    :return: Salt's state return
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "the engine runs with these settings"}
    ours = dict(settings or {})
    ours.update({"registry-mirrors": mirrors} if mirrors else {})
    ours.update({"insecure-registries": insecure_registries} if insecure_registries else {})
    ours.update({"data-root": data_root} if data_root else {})
    try:
        info = _info(base_url) if data_root else None
        wanted = docker_settings.Settings(name, ours, Service(), move_data, defaults=defaults, swarm=swarm, info=info)
        if __opts__["test"] and wanted.program is None:
            return {**ret, "result": None, "changes": wanted.changes, "comment": "once Docker is installed"}
        due = wanted.check()
    except (config.ConfigError, data.DataError) as error:
        return {**ret, "result": False, "comment": str(error)}
    ret["changes"] = {
        **wanted.changes,
        **({"engine": wanted.pending} if wanted.pending and wanted.service.active() else {}),
    }
    ret["comment"] += wanted.remark
    if not due:
        return ret
    if __opts__["test"]:
        return {**ret, "result": None, "comment": "the settings would change"} if ret["changes"] else ret
    try:
        if wanted.pending == "restart" and (wanted.service.active() or wanted.copies):
            problem = _stopping(lambda: wanted.write() and wanted.restart(), base_url)
        else:
            problem = wanted.reload(base_url) if wanted.write() else None
    except config.ConfigError as error:
        problem = str(error)
    if problem:
        return {**ret, "result": False, "changes": {}, "comment": problem}
    return {**ret, "comment": f"the engine runs with the new settings{wanted.remark}"} if ret["changes"] else ret


def _info(base_url):
    """Return what the engine says of itself, or None if none answers."""
    try:
        return docker_engine.info(base_url)
    except docker_engine.EngineError:
        return None


def _hoped(packages, conflicting, version, installed):
    """Return the changes that nobody can be sure of before the package lists are fetched."""
    new = [name for name in packages if name not in installed or name.startswith(packages[0])]
    gone = [name for name in conflicting if name in installed]
    changes = {name: {"old": installed.get(name, ""), "new": version or "the newest"} for name in new}
    return {**changes, **{name: {"old": installed[name], "new": ""} for name in gone}}


def _happened(names, before):
    """Return what did change of these packages, however far apt came."""
    try:
        now = docker_packages.look(names)["installed"]
    except apt.AptError:
        return {}
    pairs = {name: {"old": before.get(name, ""), "new": now.get(name, "")} for name in names}
    return {name: pair for name, pair in pairs.items() if pair["old"] != pair["new"]}


def _fetch(made):
    try:
        docker_packages.fetch(made)
    except apt.AptError:
        # The mirror may have moved on since the lists were fetched.
        _refresh()
        docker_packages.fetch(made)


def _refresh():
    """Fetch the package lists; return what went wrong in words, or None."""
    try:
        output = apt.update()
    except apt.AptError as error:
        return f"the package lists cannot be fetched: {error}"
    if not output:
        return None
    known = apt_rules.explain(output)
    cause = "; ".join(known) if known else f"{apt_rules.errors(output)[0]}; see `apt-get update`"
    return f"the package lists cannot be fetched: {cause}"


def _install(made):
    return docker_packages.carry_out(made) or docker_engine.wait(_answers, ANSWER_BOUND)


def _answers():
    docker_engine.info()


def _stopping(act, base_url=docker_engine.SOCKET):
    return turn.in_turn(__opts__["id"], act, lambda: client.from_salt(__opts__, __pillar__), base_url)
