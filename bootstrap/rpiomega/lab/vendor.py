"""Apt repositories in the place of Docker's and Salt's own, which a lab may not reach.

Names, versions, paths and signatures are as the vendors have them, so that key, source file, pin, hold and upgrade run
for real; the programs inside are Debian's (Docker) and the Python package index's (Salt). One container per lab serves
them.
"""

from __future__ import annotations

import json

import docker

from rpiomega.lab import engine, network
from rpiomega.lab.engine import LabError
from rpiomega.lab.state import Lab

HOST = 4
# Where a repository is below the build's own path, and its key.
PLACES = {
    "docker": {"root": "docker/linux/debian", "uri": "docker/linux", "key": "docker/linux/debian/gpg"},
    "salt": {"root": "salt/saltproject-deb", "uri": "salt/saltproject-deb/", "key": "salt/public"},
}


def container_name(lab: Lab) -> str:
    """Return the name of the container that serves a lab's repositories."""
    return f"{lab.network}-vendor"


def ensure(client: docker.DockerClient, lab: Lab, image: str) -> None:
    """Start the lab's repositories, unless they run."""
    command = ["python3", "-m", "http.server", "80", "--directory", "/srv/www"]
    network.start_service(client, lab, container_name(lab), image, command, lab.address(HOST))


def repositories(client: docker.DockerClient, lab: Lab) -> dict[str, dict]:
    """Return what a lab's repositories are: part -> `repository` (as in the site file), `versions`, oldest first."""
    with engine.explained(f"no repositories in lab {lab.name}"):
        container = client.containers.get(container_name(lab))
    build = engine.run(container, ["ls", "/srv/www"])
    found = {}
    for part in engine.run(container, ["ls", f"/srv/www/{build}"]).split():
        place, top = PLACES[part], f"http://{lab.address(HOST)}/{build}"
        try:
            about = json.loads(engine.run(container, ["cat", f"/srv/www/{build}/{place['root']}/about.json"]))
        except ValueError as err:
            raise LabError(f"{container.name} serves a broken {part} repository: `rpiomega lab down --purge`") from err
        repository = {"uri": f"{top}/{place['uri']}", "key_url": f"{top}/{place['key']}"}
        found[part] = {
            "repository": {**repository, "fingerprint": about["fingerprint"]},
            "versions": about["versions"],
        }
    return found
