"""Containers by specification: what should run, hashed into a label, compared with what does run."""

import hashlib
import json
import os

from omega.docker import engine

LABEL = "rpiomega.spec"


def fingerprint(spec, image_id, config):
    """Return a hash of everything that, changed, needs a new container.

    :param spec: dict of the container's settings
    :param image_id: the ID of the image it shall run
    :param config: paths of files or folders it reads only at its start
    """
    digest = hashlib.sha256()
    digest.update(json.dumps([spec, image_id], sort_keys=True).encode())
    for path in sorted(_files(config)):
        digest.update(path.encode())
        with open(path, "rb") as file:
            digest.update(hashlib.sha256(file.read()).digest())
    return digest.hexdigest()


def _files(paths):
    for path in paths:
        if os.path.isdir(path):
            yield from (os.path.join(path, name) for name in os.listdir(path) if not name.startswith("."))
        elif os.path.exists(path):
            yield path


def spec_of(image, entrypoint, command, network_mode, user, cap_drop, volumes, restart):
    """Return the SDK's arguments of a container, all but its name and labels."""
    return {
        "image": image,
        "entrypoint": entrypoint,
        "command": command,
        "network_mode": network_mode,
        "user": user,
        "cap_drop": cap_drop,
        "volumes": volumes,
        "restart_policy": {"Name": restart},
    }


def running(client, name, spec, config=(), stop_timeout=20, test=False, around=None):
    """Have one container running with exactly these settings, and return Salt's state return.

    One of that name that others made is left alone, with the reason.

    :param client: Docker SDK client
    :param spec: of `spec_of`
    :param config: paths whose change makes a new container
    :param stop_timeout: seconds the old one may take to end
    :param test: say what would be done, do nothing
    :param around: called with a function that replaces a running container; it calls that when it may, and returns
        what went wrong or None, and a remark
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{name} is running"}
    try:
        return _running(client, ret, spec, config, stop_timeout, test, around)
    except engine.EngineError as error:
        return {**ret, "result": False, "comment": str(error)}


def _running(client, ret, spec, config, stop_timeout, test, around):
    name = ret["name"]
    found, present = image(client, spec["image"]), container(client, name)
    if present is not None and LABEL not in present.labels:
        cure = f"remove or rename it (`docker rename {name} {name}-old`), then apply again"
        return {**ret, "result": False, "comment": f"{name}: a container of that name was made by others; {cure}"}
    if not found:
        if test:
            act = "replace" if present else "create"
            return {**ret, "result": None, "changes": {name: act}, "comment": f"{name}: would {act} the container"}
        return {**ret, "result": False, "comment": f"{name}: image {spec['image']} is not on this node"}
    wanted = fingerprint(spec, found.id, config)
    same = present is not None and present.labels.get(LABEL) == wanted
    if same and present.status == "running":
        return ret
    act = "start" if same else "replace" if present else "create"
    ret = {**ret, "changes": {name: act}}
    if test:
        return {**ret, "result": None, "comment": f"{name}: would {act} the container"}

    def perform():
        return _act(client, act, name, spec, wanted, present, stop_timeout)

    guarded = around and act == "replace" and present.status == "running"
    problem, remark = around(perform) if guarded else (perform(), "")
    if problem:
        return {**ret, "result": False, "changes": {}, "comment": problem}
    return {**ret, "comment": f"{name}: did {act} the container" + (f"; {remark}" if remark else "")}


def _act(client, act, name, spec, wanted, present, stop_timeout):
    try:
        with engine.asking(f"{name}: the engine did not {act} the container"):
            if act == "start":
                # One that ends again and again counts as started; the engine waits longer each time.
                present.restart(timeout=stop_timeout) if present.status == "restarting" else present.start()
                return None
            if present:
                present.stop(timeout=stop_timeout)
                present.remove()
            client.containers.run(name=name, detach=True, labels={LABEL: wanted}, **spec)
    except engine.EngineError as error:
        return str(error)
    return None


def absent(client, name, stop_timeout=20, test=False):
    """Have no container of this name that `running` made, and return Salt's state return.

    :param client: Docker SDK client
    :param stop_timeout: seconds it may take to end
    :param test: say what would be done, do nothing
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": f"there is no container {name}"}
    try:
        present = container(client, name)
        if present is None:
            return ret
        if LABEL not in present.labels:
            return {**ret, "comment": f"the container {name} was not made by these states and stays"}
        if test:
            comment = f"{name}: would remove the container"
            return {**ret, "result": None, "changes": {name: "remove"}, "comment": comment}
        with engine.asking(f"{name}: the engine did not remove the container"):
            present.stop(timeout=stop_timeout)
            present.remove()
    except engine.EngineError as error:
        return {**ret, "result": False, "comment": str(error)}
    return {**ret, "changes": {name: "remove"}, "comment": f"{name}: did remove the container"}


def image(client, name):
    """Return the image of this name, or None.

    :raises omega.docker.engine.EngineError: the engine does not say
    """
    return _get(client.images, f"image {name}", name)


def container(client, name):
    """Return the container of this name, or None.

    :raises omega.docker.engine.EngineError: the engine does not say
    """
    return _get(client.containers, f"container {name}", name)


def _get(collection, what, name):
    import docker

    with engine.asking(f"{what}: the engine does not say whether it is there"):
        try:
            return collection.get(name)
        except docker.errors.NotFound:
            return None


def no_engine(name, error, would, test):
    """Return the state return of a node whose engine does not answer.

    Before the first run there is none: the truth under ``test=True`` is that everything would be done.
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    if test:
        return {**ret, "result": None, "changes": would, "comment": f"once Docker runs ({error})"}
    return {**ret, "result": False, "comment": str(error)}
