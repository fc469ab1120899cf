"""
Real Consul servers on loopback, one process each, on free ports.

>>> with ConsulServer(acl=True) as server:          # one server; server.token is the management token
...     client = server.client()
>>> with ConsulCluster(3, acl=True) as cluster:     # three; cluster.leader() is the ConsulServer that leads
...     cluster.leader().kill()
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import uuid

import claims

from omega.consul import client as consul_client

BOOTSTRAP = pathlib.Path(__file__).resolve().parents[2] / "bootstrap"
READY_BOUND = 60
PORTS = ("http", "server", "serf_lan")
MEMORY, ROOM = "/dev/shm", 1 << 30


@functools.cache
def binary():
    """Path of a Consul program: RPIOMEGA_CONSUL, or the one the lab keeps."""
    environment = {**os.environ, "PYTHONPATH": str(BOOTSTRAP)}
    command = [sys.executable, "-m", "rpiomega.lab.consul", "binary"]
    done = subprocess.run(command, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@functools.cache
def version():
    """Version of the program as a tuple, (1, 8, 7)."""
    line = subprocess.run([binary(), "version"], check=True, stdout=subprocess.PIPE, text=True).stdout
    return tuple(int(part) for part in line.split()[1].lstrip("v").split("+")[0].split("-")[0].split("."))


def new_folder(prefix):
    """A new folder, in memory where there is room for it: Raft waits for the disk, which may be busy."""
    roomy = os.path.isdir(MEMORY) and shutil.disk_usage(MEMORY).free > ROOM
    return pathlib.Path(tempfile.mkdtemp(prefix=prefix, dir=MEMORY if roomy else None))


class ConsulServer:
    """
    :param name: node name
    :param acl: default-deny, with a management token in `token`; otherwise ACLs are off and `token` is None
    :param servers: size of the cluster it belongs to
    :param join: other servers' `serf_lan` addresses
    :param address: this host's address that takes requests
    """

    def __init__(self, name="server1", acl=False, servers=1, token=None, ports=None, join=(), address="127.0.0.1"):
        self.name, self.servers, self.join = name, servers, list(join)
        self.token = (token or str(uuid.uuid4())) if acl else None
        self.ports = ports or {name: claims.free_port() for name in PORTS}
        self.address, self.url = address, f"http://{address}:{self.ports['http']}"
        self.folder = new_folder("consul-")
        self.process = None

    def configuration(self):
        """Consul's own configuration; the management token was called `master` before 1.11."""
        config = {
            "server": True,
            "bootstrap_expect": self.servers,
            "node_name": self.name,
            "data_dir": str(self.folder / "data"),
            "bind_addr": "127.0.0.1",
            "client_addr": self.address,
            "retry_join": self.join,
            "retry_interval": "1s",
            "performance": {"raft_multiplier": 1},
            "ports": {**self.ports, "dns": -1, "serf_wan": -1, "grpc": -1},
            "log_level": "WARN",
            "disable_update_check": True,
            "enable_script_checks": True,
        }
        if version() >= (1, 14):
            config["ports"]["grpc_tls"] = -1
        if self.token:
            management = "master" if version() < (1, 11) else "initial_management"
            config["acl"] = {"enabled": True, "default_policy": "deny", "tokens": {management: self.token}}
            config["acl"]["tokens"]["agent"] = self.token
        return config

    def start(self):
        """Start the process; the data folder is kept between starts."""
        (self.folder / "consul.json").write_text(json.dumps(self.configuration()))
        command = [binary(), "agent", "-config-file", str(self.folder / "consul.json")]
        if shutil.which("setpriv"):  # a test run that is killed leaves no server behind
            command = ["setpriv", "--pdeathsig", "KILL", *command]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        return self

    def client(self, token=None, timeout=3.0):
        """Client with the management token, or another."""
        return consul_client.connect(self.url, token or self.token, timeout)

    def wait_ready(self):
        """Until it answers with a leader; the end of its log otherwise."""
        try:
            self.client().wait_ready(READY_BOUND)
        except consul_client.ConsulError as error:
            log = (self.folder / "log").read_text(errors="replace")[-2000:]
            raise AssertionError(f"{self.name} did not become ready: {error}\n{log}") from None
        return self

    @contextlib.contextmanager
    def leaderless(self):
        """One of several, alone while the block runs: it answers and there never is a leader."""
        try:
            self.start()
            deadline = time.monotonic() + READY_BOUND
            while True:
                try:
                    assert self.client().leader() is None
                    break
                except consul_client.ConsulError:
                    assert time.monotonic() < deadline, f"{self.name} does not answer after {READY_BOUND} s"
                time.sleep(0.1)
            yield self
        finally:
            self.__exit__()

    def signal(self, number):
        self.process.send_signal(number)

    def _stopped(self):
        """Whether every thread stands still (proc(5), /proc/PID/task/TID/stat: the state follows the name)."""
        states = []
        for path in pathlib.Path(f"/proc/{self.process.pid}/task").glob("*/stat"):
            with contextlib.suppress(OSError):
                states.append(path.read_text().rpartition(")")[2].split()[0])
        return set(states) == {"T"}

    def kill(self):
        """SIGKILL, as if the power went."""
        if self.process:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(60)
            self.process = None

    @contextlib.contextmanager
    def frozen(self):
        """SIGSTOP while the block runs: it accepts connections and never answers."""
        self.signal(signal.SIGSTOP)
        deadline = time.monotonic() + 30
        while not self._stopped():  # a busy machine still lets threads end what they are at
            assert time.monotonic() < deadline, f"{self.name} does not stop"
            time.sleep(0.01)
        try:
            yield self
        finally:
            self.signal(signal.SIGCONT)

    def __enter__(self):
        try:
            return self.start().wait_ready()
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


class ConsulCluster:
    """`size` servers of one cluster that know each other."""

    def __init__(self, size=3, acl=False):
        token = str(uuid.uuid4())
        ports = [{name: claims.free_port() for name in PORTS} for _ in range(size)]
        join = [f"127.0.0.1:{port['serf_lan']}" for port in ports]
        self.servers = [
            ConsulServer(f"server{n}", acl, size, token, port, join) for n, port in enumerate(ports, start=1)
        ]
        self.token = self.servers[0].token

    def leader(self):
        """The ConsulServer that all running servers take for their leader; AssertionError after the bound."""
        deadline, seen = time.monotonic() + READY_BOUND, None
        while time.monotonic() < deadline:
            seen = set()
            for server in self.running():
                with contextlib.suppress(consul_client.ConsulError):
                    seen.add(server.client().leader())
            if len(seen) == 1 and None not in seen:
                port = int(seen.pop().rpartition(":")[2])
                found = [server for server in self.running() if server.ports["server"] == port]
                if found:
                    return found[0]
            time.sleep(0.1)
        raise AssertionError(f"no leader within {READY_BOUND} s, last seen {seen}")

    def running(self):
        return [server for server in self.servers if server.process]

    def followers(self):
        leader = self.leader()
        return [server for server in self.running() if server is not leader]

    def __enter__(self):
        try:
            for server in self.servers:
                server.start()
            for server in self.servers:
                server.wait_ready()
            return self
        except BaseException:
            self.__exit__()
            raise

    def __exit__(self, *_):
        for server in self.servers:
            server.__exit__()


def eventually(read, wanted, bound=60):
    """Wait until `read()` gives what is wanted: the catalog follows the agent's registrations."""
    deadline = time.monotonic() + bound
    while True:
        seen = read()
        if wanted(seen):
            return seen
        assert time.monotonic() < deadline, f"last seen: {seen}"
        time.sleep(0.05)
