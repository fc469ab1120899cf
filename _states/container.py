"""Images and containers of a node, through the Docker Engine's API.

Salt 3008 has no Docker states of its own, and the former ones could not say under ``test=True`` what they would do.
"""

import os

from omega.docker import containers, engine


def image_present(name, archive=None):
    """Have an image on the node, from an archive or a registry.

    :param name: the image's name with its tag
    :param archive: source of a ``docker save`` tarball (``salt://…``); without it the image is pulled
    :return: Salt's state return

    .. code-block:: yaml

        consul.image:
          container.image_present:
            - name: hashicorp/consul:1.22.7
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{name} is present"}
    try:
        client = engine.connect(timeout=600)
    except engine.EngineError as error:
        return containers.no_engine(name, error, {name: "load" if archive else "pull"}, __opts__["test"])
    how = "loaded" if archive else "pulled"
    try:
        if containers.image(client, name):
            return ret
        if __opts__["test"]:
            comment = f"{name} would be {how}" + (f" from {archive}" if archive else "")
            return {**ret, "result": None, "changes": {name: how}, "comment": comment}
        problem = _load(client, name, archive) if archive else _pull(client, name)
    except engine.EngineError as error:
        problem = str(error)
    if problem:
        return {**ret, "result": False, "comment": problem}
    return {**ret, "changes": {name: how}, "comment": f"{name} {how}"}


def running(
    name,
    image,
    command=None,
    entrypoint=None,
    network_mode="bridge",
    user="",
    cap_drop=None,
    volumes=None,
    restart="always",
    config=None,
    stop_timeout=20,
):
    """Have one container running with exactly these settings; it is re-created when any of them changed.

    Named volumes and bound folders stay; so does a container of that name that others made, and the state fails.

    :param name: the container's name
    :param image: its image, present on the node
    :param command: list of arguments
    :param entrypoint: list; the program
    :param network_mode: ``bridge``, ``host`` or a network's name
    :param user: user inside the container
    :param cap_drop: capabilities to take away
    :param volumes: list of ``source:target[:ro]``; a source without a slash is a named volume
    :param restart: restart policy
    :param config: files or folders read only at start: a change there makes a new container
    :param stop_timeout: seconds a container may take to end before it is killed and replaced
    :return: Salt's state return
    """
    spec = containers.spec_of(image, entrypoint, command, network_mode, user, cap_drop or [], volumes or [], restart)
    try:
        client = engine.connect()
    except engine.EngineError as error:
        return containers.no_engine(name, error, {name: "create"}, __opts__["test"])
    return containers.running(client, name, spec, config or [], stop_timeout, __opts__["test"])


def absent(name, stop_timeout=20):
    """Have no container of this name that `running` made. Another one of that name, and named volumes, stay.

    :param name: the container's name
    :param stop_timeout: seconds it may take to end before it is killed
    :return: Salt's state return

    .. code-block:: yaml

        registry.container.removed:
          container.absent:
            - name: rpiomega-registry
    """
    try:
        client = engine.connect()
    except engine.EngineError as error:
        return containers.no_engine(name, error, {}, __opts__["test"])
    return containers.absent(client, name, stop_timeout, __opts__["test"])


def _load(client, name, archive):
    path = __salt__["cp.cache_file"](archive)
    if not path or not os.path.exists(path):
        return f"{name}: {archive} is not among the master's files: run `rpiomega bootstrap` for the master again"
    cure = "make that archive again with `docker save`, and see `df` on this node"
    with engine.asking(f"{name}: {archive} cannot be loaded", cure), open(path, "rb") as file:
        client.images.load(file)
    if not containers.image(client, name):
        return f"{name}: {archive} holds another image: check consul.image and consul.archive in the site file"
    return None


def _pull(client, name):
    cure = "check this node's DNS and clock, or give the site file an image archive"
    with engine.asking(f"{name} cannot be pulled", cure):
        client.images.pull(name)
