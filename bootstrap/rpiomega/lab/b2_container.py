"""The stand-in for Backblaze B2 (`rpiomega.lab.b2`) as a container of a lab, at an address that its nodes reach."""

from __future__ import annotations

import os
from pathlib import Path

import docker

import rpiomega
from omega.core.polling import until
from rpiomega.lab import engine, network
from rpiomega.lab.engine import LabError
from rpiomega.lab.state import Lab

HOST = 5
BOUND = 60.0
_KEY = "/root/b2-admin"
_TOP = "srv/b2/rpiomega"


def container_name(lab: Lab) -> str:
    """Return the name of the container with a lab's stand-in for B2."""
    return f"{lab.network}-b2"


def endpoint(lab: Lab) -> str:
    """Return the address of the stand-in: `b2.endpoint` of the site file, and the S3 endpoint of its buckets."""
    return f"http://{lab.address(HOST)}"


def ensure(client: docker.DockerClient, lab: Lab, image: str) -> Path:
    """Start the lab's stand-in for B2 unless it runs; return the file of its account's key, mode 0600.

    All buckets and keys are in its memory: they are gone when the container restarts.
    """
    command = ["/opt/b2/bin/python", "-m", "rpiomega.lab.b2", "--address", "0.0.0.0", "--port", "80"]
    command += ["--url", endpoint(lab), "--admin-key-file", _KEY]
    files = sources()
    name = container_name(lab)
    network.start_service(client, lab, name, image, command, lab.address(HOST), files=files, working_dir="/srv/b2")
    container = client.containers.get(name)

    def text() -> str:
        found = engine.run(container, ["cat", _KEY], check=False)
        return found if found.startswith("key_id:") and "\nkey:" in found else ""

    late = LabError(f"{name} does not serve: see `docker logs {name}`, then `rpiomega lab down --name {lab.name}`")
    key = until(text, BOUND, f"the account of {name}", pause=0.2, failure=late)
    path = lab.folder / "b2-admin"
    path.unlink(missing_ok=True)
    with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(key + "\n")
    return path


def sources() -> dict[str, bytes]:
    """Return the stand-in's program, path -> content: of this package, only what it imports."""
    top = Path(rpiomega.__file__).parent
    found = {f"{_TOP}/__init__.py": b"", f"{_TOP}/lab/__init__.py": b""}
    found |= {f"{_TOP}/lab/b2/{path.name}": path.read_bytes() for path in sorted((top / "lab" / "b2").glob("*.py"))}
    return found
