"""A site of two managers whose engines run containers of a tiny image, for stacks; and their compose files."""

import contextlib
import os
import shutil
import subprocess

import pytest
import tiny_image
from consul_server import ConsulServer
from dockerds import Dockerds
from swarm_minion import Minion
from swarm_site import Site

from omega.swarm.api import Engine

COMMANDS = sorted({os.path.realpath(path) for path in ("/usr/bin/docker", shutil.which("docker") or "") if path})


def _has_config(command):
    said = subprocess.run([command, "stack", "config", "--help"], capture_output=True, text=True, check=False).stdout
    return "docker stack config" in said


# A command that says what it takes, and knows jobs: both came with release 23.
JUDGE = next(filter(_has_config, COMMANDS), "")

MANAGERS = ["pi1", "pi2"]
ROLES = dict.fromkeys(MANAGERS, "manager")
# A registry that refuses at once: the engine asks it before it takes the image it has.
REPOSITORY = "127.0.0.1:1/tiny"
IMAGE = f"{REPOSITORY}:1"
SLEEP = ["/bin/sleep", "1000"]


@contextlib.contextmanager
def running(folder):
    """Yield a swarm_site.Site of MANAGERS, whose engines have IMAGE."""
    with ConsulServer(acl=True) as consul, Dockerds(MANAGERS) as dockerds:
        site = Site(dockerds, ROLES, consul, folder)
        for name in MANAGERS:
            check = {"CheckID": "serfHealth", "Name": "Serf Health Status", "Status": "passing"}
            body = {"Node": name, "Address": dockerds[name].address, "Check": check}
            consul.client().request("put", "/v1/catalog/register", data=body)
            client = dockerds[name].client(timeout=60)
            client.api.tag(tiny_image.build(client), REPOSITORY, "1")
        site.form()
        yield site


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    """A site of the module's own; a test file takes these fixtures by an assignment."""
    with running(tmp_path_factory.mktemp("site")) as site:
        yield site


@pytest.fixture(scope="module")
def minion(site):
    """A minion on the first manager."""
    return Minion(site, MANAGERS[0])


@pytest.fixture(scope="module")
def engine(site):
    """The first manager's engine."""
    return Engine(site.dockerds[MANAGERS[0]].base_url)


def small(**service):
    """A stack of one service in the host's network: the engine needs seconds to make any other."""
    made = {"image": IMAGE, "command": SLEEP, "stop_grace_period": "1s", "networks": ["outside"], **service}
    outside = {"outside": {"external": True, "name": "host"}}
    return {"version": "3.8", "services": {"app": made}, "networks": outside}


def deploy(minion, name="small", compose=None, **kwargs):
    given = {"resolve_image": "never", "timeout": 180, **kwargs}
    return minion.state("swarm.stack", name, compose=compose or small(), **given)


def writes(site):
    return {name: site.dockerds[name].writes() for name in MANAGERS}
