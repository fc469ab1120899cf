"""The download cache that all labs of this machine share, so that N nodes fetch a file once.

One container with apt-cacher-ng and proxpi; it joins the network of every lab, its data stays when they go.
"""

from __future__ import annotations

import contextlib

import docker
import docker.errors

from rpiomega.lab import engine
from rpiomega.lab.state import Lab

NAME = "rpiomega-cache"
APT_PORT, PIP_PORT = 3142, 5000


def ensure(client: docker.DockerClient, lab: Lab, image: str) -> dict[str, str]:
    """Start the cache and join it to the lab's network.

    Returns the `sources` of the lab's site file: the addresses at which its nodes find the cache.
    """
    with engine.explained(f"cannot start {NAME}"):
        container = _container(client, image)
        network = client.networks.get(lab.network)
        if lab.network not in container.attrs["NetworkSettings"]["Networks"]:
            network.connect(container, ipv4_address=lab.address(3))
        container.start()
    return sources(lab)


def sources(lab: Lab) -> dict[str, str]:
    """Return where the lab's nodes find the cache."""
    return {
        "apt_proxy": f"http://{lab.address(3)}:{APT_PORT}",
        "pip_index": f"http://{lab.address(3)}:{PIP_PORT}/index/",
    }


def leave(client: docker.DockerClient, lab_network: str) -> None:
    """Take the cache off a lab's network, and stop it if that was its last lab."""
    try:
        container = client.containers.get(NAME)
    except docker.errors.NotFound:
        return
    with engine.explained(f"cannot take {NAME} off {lab_network}"):
        if lab_network in container.attrs["NetworkSettings"]["Networks"]:
            client.networks.get(lab_network).disconnect(container, force=True)
            container.reload()
        if not _labs(container):
            container.remove(force=True)


def purge(client: docker.DockerClient) -> None:
    """Remove the cache with all it holds; the labs that use it fetch from the net from then on."""
    with engine.explained(f"cannot remove {NAME}"):
        with contextlib.suppress(docker.errors.NotFound):
            client.containers.get(NAME).remove(force=True)
        with contextlib.suppress(docker.errors.NotFound):
            client.volumes.get(NAME).remove()


def _container(client, image: str):
    try:
        container = client.containers.get(NAME)
        # Another release's image serves as well; a change of it must not cut off labs that are using the cache.
        if image in container.image.tags or _labs(container):
            return container
        container.remove(force=True)
    except docker.errors.NotFound:
        pass
    return client.containers.create(
        image,
        ["/usr/local/sbin/cache-init"],
        name=NAME,
        environment=engine.settings_to_pass_on(*engine.PROXY_VARIABLES, *engine.PIP_VARIABLES),
        volumes={NAME: {"bind": "/data", "mode": "rw"}},
        labels={engine.LABEL: "cache"},
        restart_policy={"Name": "unless-stopped"},
    )


def _labs(container) -> list[str]:
    """Return the lab networks that the cache has joined."""
    return [name for name in container.attrs["NetworkSettings"]["Networks"] if name.startswith("rpiomega-")]
