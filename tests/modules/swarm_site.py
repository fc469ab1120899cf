"""A site whose nodes are real Docker daemons: each applies states by a salt-call of its own, side by side."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml
from consul_server import ConsulServer
from dockerds import Daemon, Dockerds

from omega.consul import client as consul_client
from omega.consul import policies
from omega.core import polling
from omega.swarm.api import Engine
from omega.swarm.member import loop
from omega.swarm.member import run as member_run
from omega.swarm.record import PREFIX, Store

ROOT = Path(__file__).resolve().parents[2]
LEAST = 60.0  # seconds that `until` waits at least: on a busy machine its bounds say nothing of the product
CALL_BOUND = 900.0  # seconds; above every bound of the states that tests use
_MAIN = "import sys; sys.path.insert(0, {utils!r}); {patch}; from salt.scripts import salt_call; salt_call()"


def until(condition, bound: float, what: str) -> None:
    """Wait until `condition()` is true; what fails in the middle of an election, or the like, is not so yet."""
    polling.until(condition, max(bound, LEAST), what, pause=0.1)


class Run:
    """A state run under way on one node."""

    def __init__(self, process: subprocess.Popen) -> None:
        self.process = process

    def result(self, bound: float = CALL_BOUND) -> dict:
        """The first state's return (or a function's); `seconds` are the state's own, without the start of Salt."""
        out, err = self.process.communicate(timeout=bound)
        try:
            local = json.loads(out)["local"]
        except (ValueError, KeyError):
            raise AssertionError(f"salt-call exited {self.process.returncode}: {out}\n{err}") from None
        if isinstance(local, dict) and len(local) == 1 and "result" in next(iter(local.values())):
            local = next(iter(local.values()))
        if not isinstance(local, dict):
            return {"value": local}
        return {**local, "seconds": local.get("duration", 0) / 1000, "output": out + err}

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


class Site:
    """
    :param dockerds: started Dockerds
    :param roles: {name: role} in the order of the site file
    :param consul: started ConsulServer with ACLs; each node gets a token with the least policy of its role
    :param inside: salt-call runs in the node's own network and hostname, as on a board; Consul must be reachable there
    """

    def __init__(self, dockerds: Dockerds, roles: dict[str, str], consul, root: Path, inside: bool = False) -> None:
        self.dockerds, self.roles, self.root, self.inside = dockerds, roles, root, inside
        self.pillar = {
            "rpiomega": {
                "cluster": "omega",
                "nodes": {name: {"address": dockerds[name].address, "roles": [role]} for name, role in roles.items()},
            }
        }
        consul.client().delete(PREFIX, recurse=True)  # what other tests left in the server that all share
        self.tokens = {name: self._token(consul, name) for name in roles}
        self.consul_url = consul.url
        for name in roles:
            self._configure(dockerds[name], consul.url, self.tokens[name])

    def _token(self, consul, name: str) -> str:
        """A new token of the node. The agent asked, to which sessions belong, is the one server for all here."""
        own = f'session "{consul.name}" {{ policy = "write" }}\nagent "{consul.name}" {{ policy = "read" }}\n'
        rules = policies.rules(self.pillar["rpiomega"], name) + own
        client, policy = consul.client(), f"{policies.policy_name(name)}-{uuid.uuid4().hex[:8]}"
        client.request("put", "/v1/acl/policy", data={"Name": policy, "Rules": rules})
        return client.request("put", "/v1/acl/token", data={"Policies": [{"Name": policy}]})[1]["SecretID"]

    def _configure(self, daemon: Daemon, consul_url: str, token: str) -> None:
        base = self.root / daemon.name
        for folder in ("pillar", "states"):
            (base / folder).mkdir(parents=True, exist_ok=True)
        minion = {
            "id": daemon.name,
            "file_client": "local",
            "root_dir": str(base / "root"),
            "file_roots": {"base": [str(base / "states")]},
            "pillar_roots": {"base": [str(base / "pillar")]},
            "module_dirs": [str(ROOT)],
            "grains_cache": True,
            "disable_grains": ["esxi", "napalm", "opts", "mdata", "fibre_channel", "nvme", "iscsi", "zfs", "metadata"],
            "enable_fqdns_grains": False,
            "enable_gpu_grains": False,
            "log_level": "info",
            "log_level_logfile": "debug",
            "consul.url": consul_url,
            "consul.token": token,
            "swarm.docker_url": daemon.base_url,
        }
        (base / "minion").write_text(yaml.safe_dump(minion))
        (base / "pillar" / "top.sls").write_text(yaml.safe_dump({"base": {"*": ["site"]}}))
        (base / "pillar" / "site.sls").write_text(yaml.safe_dump(self.pillar))

    def ask_consul_at(self, url: str, name: str) -> None:
        """Have a node's salt-call ask another agent."""
        self._configure(self.dockerds[name], url, self.tokens[name])

    def call(self, name: str, function: str, *args: str, patch: str = "pass", **kwargs) -> Run:
        """
        Start salt-call on a node.

        :param patch: Python run in its process before Salt, with this project's utils importable: where a test
            has to stop a real run at an exact place
        """
        config = self.root / name
        main = _MAIN.format(utils=str(ROOT / "_utils"), patch=patch)
        argv = [sys.executable, "-c", main, "--config-dir", str(config), "--out", "json", "--local", function, *args]
        argv += [f"{key}={json.dumps(value)}" for key, value in kwargs.items()]
        if self.inside:
            argv = [*self.dockerds[name].keeper.enter("net", "uts"), *argv]
        return Run(subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))

    def member(self, name: str, patch: str = "pass", **kwargs) -> Run:
        return self.call(name, "state.single", "swarm.member", "omega", patch=patch, **kwargs)

    def apply(self, *names: str, **kwargs) -> dict[str, dict]:
        """swarm.member on these nodes (all by default) at the same moment; returns their results."""
        runs = {name: self.member(name, **kwargs) for name in names or self.roles}
        return {name: run.result() for name, run in runs.items()}

    def form(self, **settings) -> None:
        """
        What `apply` does on all nodes, without a salt-call: for tests whose subject comes after it.

        :param settings: for `swarm init`
        """
        with ThreadPoolExecutor(len(self.roles)) as pool:
            for done, comment in pool.map(lambda name: self._form(name, settings), self.roles):
                assert done, comment

    def _form(self, name: str, settings: dict) -> tuple[bool, str]:
        store = Store(consul_client.connect(self.consul_url, self.tokens[name]), name)
        want = member_run.wanted(self.pillar["rpiomega"], name, swarm=settings)
        return loop.apply(member_run.Run(Engine(self.dockerds[name].base_url), store, want))

    def sockets(self) -> dict[str, str]:
        return {name: self.dockerds[name].base_url for name in self.roles}

    def set_role(self, name: str, role: str) -> None:
        """Change a node's role in the site file of every node."""
        self.set_node(name, roles=[role])

    def set_node(self, name: str, **keys) -> None:
        """Change keys of a node in the site file of every node; None takes a key out."""
        entry = {**self.pillar["rpiomega"]["nodes"].get(name, {}), **keys}
        self.pillar["rpiomega"]["nodes"][name] = {key: value for key, value in entry.items() if value is not None}
        self.write_pillar()

    def write_pillar(self) -> None:
        """Bring the site file, as it is in `pillar`, to every node."""
        for node in self.roles:
            (self.root / node / "pillar" / "site.sls").write_text(yaml.safe_dump(self.pillar))

    def restore(self) -> None:
        """Every daemon out of any swarm, as newly installed; the site file as it was."""
        for name, role in self.roles.items():
            self.set_role(name, role)
        self.dockerds.forget_swarm()

    def logs(self) -> str:
        """All that Salt has logged on all nodes."""
        return "".join(path.read_text(errors="replace") for path in self.root.glob("*/root/var/log/salt/*"))

    def clusters(self) -> set[str]:
        """ClusterIDs of all swarms there are, by what the daemons say."""
        return {Engine(url).local().cluster_id for url in self.sockets().values()} - {""}

    def roles_now(self, seen_by: str) -> dict[str, str]:
        """{hostname: role} in the swarm's node list, only of nodes that are ready."""
        nodes = Engine(self.dockerds[seen_by].base_url).nodes()
        return {node.hostname: node.role for node in nodes if node.ready}

    def close(self) -> None:
        shutil.rmtree(self.root, ignore_errors=True)


@pytest.fixture(scope="module")
def consul():
    """A Consul server with ACLs, of a test file's own."""
    with ConsulServer(acl=True) as server:
        yield server


@pytest.fixture(scope="module")
def kv(consul):
    """A client with that server's management token."""
    return consul.client()


def own_ca(folder: Path) -> tuple[Path, Path]:
    """Return (certificate, key) of a new authority that a swarm takes for its own."""
    cert, key = folder / "ca.pem", folder / "ca-key.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
         "-keyout", key, "-out", cert, "-subj", "/CN=own", "-days", "3650",
         "-addext", "keyUsage=critical,keyCertSign,cRLSign"],
        check=True, capture_output=True,
    )  # fmt: skip
    return cert, key
