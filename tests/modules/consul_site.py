"""A site's Consul agents as the states configure them, each in a network namespace with an address of its own.

>>> with ConsulSite({"pi1": ["master", "manager"], "pi2": ["worker"]}) as site:
...     site.apply()                        # configuration, start, tokens: what `state.apply consul` does
...     site["pi2"].client().alive()

The configuration is the product's (site -> secrets -> `consul_agent.configured`), the program a real one; Docker's
part, to start it and to start it again whenever it ends, is played by `Agent`. Paths and the address of the HTTP API
are the only settings the tests change.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import consul_server
from dockerds import Keeper, _die_with_parent, _free_subnet, _run

from omega.consul import agent as consul_agent
from omega.consul import client as consul_client
from omega.consul import restart as consul_restart
from omega.consul import tokens as consul_tokens
from omega.core import files as core_files
from omega.core import polling
from omega.secrets import store as secrets_store

OPEN = "echo ready && exec sleep infinity"
IMAGE = "consul:" + ".".join(map(str, consul_server.version()[:3]))


class Agent:
    """A node: a network namespace and the agent in it. Like Docker with `restart: always` it starts it again."""

    def __init__(self, site, name, address):
        self.site, self.name, self.address = site, name, address
        self.folder = site.root / name
        self.config, self.data = self.folder / "config", self.folder / "data"
        self.config.mkdir(parents=True)
        self.keeper = Keeper(name, ("--net",), OPEN)
        self.process, self.wanted, self.starts = None, False, 0
        self.down_with = None  # who was down as `restart` had stopped this one
        self._lock = threading.Lock()

    def client(self, token=None, timeout=3.0):
        """With this node's token; `token=False` for none."""
        own = None if token is False else token or self.secrets()["consul"]["token"]
        return consul_client.connect(f"http://{self.address}:8500", own, timeout)

    def management(self):
        return self.client(self.site.management())

    def secrets(self):
        """What the ext_pillar gives this node."""
        found = {"consul": self.site.store.consul_for(self.site.site, self.name)}
        if self.name == self.site.master:
            found.update(self.site.store.consul_management(self.site.site))
        return found

    def pillar(self, **more):
        return {"rpiomega": self.site.site, "rpiomega_secrets": self.secrets(), **more}

    def configure(self, states, test=False, multiplier=1, **pillar):
        """State `consul_agent.configured`, in a loader of its own."""
        pillar = {**self.pillar(**pillar), "consul.url": f"http://{self.address}:8500"}
        with states(test=test, pillar=pillar, minion_id=self.name) as loaded:
            return loaded["consul_agent.configured"](
                str(self.config), IMAGE, str(self.site.root / "marker"), raft_multiplier=multiplier
            )

    def write(self):
        """The same without a loader, for tests whose subject comes after it."""
        config = consul_agent.build(
            self.site.site,
            self.name,
            IMAGE,
            self.secrets()["consul"],
            self.secrets().get("management_token"),
            raft_multiplier=1,
        )
        starter = self.name == self.site.master and not (self.site.root / "marker").exists()
        for file, text in consul_agent.files(config, self.secrets()["consul"], starter).items():
            core_files.write(str(self.config / file), text, 0o600)

    def start(self):
        """Have it started; the process is there when this returns, no more."""
        files = {"ca": consul_agent.CA, "cert": consul_agent.CERT, "key": consul_agent.KEY}
        paths = {f"{kind}_file": str(self.config / file) for kind, file in files.items()}
        own = {"data_dir": str(self.data), "addresses": {"http": f"127.0.0.1 {self.address}"}}
        # New servers vote after 1 s, not 10: what is tested does not hang on that time.
        own["autopilot"] = {"server_stabilization_time": "1s"}
        own.update({"tls": {"defaults": paths}} if "tls" in self.settings() else paths)
        (self.config / "zz-test.json").write_text(json.dumps(own))
        self.wanted = True
        until(lambda: self.process, f"{self.name} starts")

    def revive(self):
        """
        What Docker and its restart policy do. Called by one thread as long as the site lives: the kernel kills a
        process with PR_SET_PDEATHSIG when the thread that started it ends.
        """
        with self._lock:
            if not self.wanted or (self.process and self.process.poll() is None):
                return
            self.starts += 1
            with (self.folder / "log").open("ab") as log:
                self.process = subprocess.Popen(
                    [*self.keeper.enter("net"), consul_server.binary(), "agent", f"-config-dir={self.config}"],
                    stdout=log,
                    stderr=log,
                    preexec_fn=_die_with_parent,
                )

    def settings(self):
        return json.loads((self.config / "consul.json").read_text())

    def stop(self, kill=False):
        """As `docker stop` does, or as a power cut."""
        with self._lock:
            self.wanted = False
            if self.process:
                (self.process.kill if kill else self.process.terminate)()
                self.process.wait(60)
                self.process = None

    def restart(self):
        """What `container.running` does to a container whose configuration changed; None, as nothing went wrong."""
        self.stop()
        self.down_with = [agent.name for agent in self.site if not agent.process]
        self.start()

    def wipe(self):
        shutil.rmtree(self.data, ignore_errors=True)

    def in_turn(self, bound=180.0):
        """Restart as state `consul_agent.running` does."""
        client = self.management() if self.name == self.site.master else self.client()
        return consul_restart.in_turn(client, self.name, self.restart, bound)

    def run(self, *argv):
        return _run(*self.keeper.enter("net"), *argv)


class ConsulSite:
    """:param roles: {name: roles} in the order of the site file"""

    def __init__(self, roles):
        self.root = consul_server.new_folder("consul-site-")
        self.store = secrets_store.Store(self.root / "secrets")
        self.subnet = _free_subnet()
        places = enumerate(roles.items(), 11)
        nodes = {name: {"address": f"{self.subnet}.{at}", "roles": own} for at, (name, own) in places}
        self.site = {"cluster": "omega", "nodes": nodes}
        self.master = next(name for name, own in roles.items() if "master" in own)
        self.agents, self._done = {}, threading.Event()
        self._wire()
        self._docker = threading.Thread(target=self._revive, daemon=True)
        self._docker.start()

    def _wire(self):
        self.fabric = Keeper("fabric", ("--net",), OPEN)
        inside, leg = self.fabric.enter("net"), f"cs{self.fabric.pid}"
        _run("ip", "link", "add", leg, "type", "veth", "peer", "name", "host", "netns", str(self.fabric.pid))
        _run("ip", "address", "add", f"{self.subnet}.1/24", "dev", leg)
        _run("ip", "link", "set", leg, "up")
        _run(*inside, "ip", "link", "add", "bridge", "type", "bridge")
        _run(*inside, "ip", "link", "set", "host", "master", "bridge", "up")
        _run(*inside, "ip", "link", "set", "bridge", "up")
        for at, (name, node) in enumerate(self.site["nodes"].items()):
            agent = self.agents[name] = Agent(self, name, node["address"])
            port, peer = f"port{at}", str(agent.keeper.pid)
            _run(*inside, "ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", peer)
            _run(*inside, "ip", "link", "set", port, "master", "bridge", "up")
            agent.run("ip", "address", "add", f"{agent.address}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                agent.run("ip", "link", "set", link, "up")
            agent.run("ip", "route", "add", "default", "via", f"{self.subnet}.1")

    def _revive(self):
        while not self._done.wait(0.05):
            for agent in self.agents.values():
                agent.revive()

    def management(self):
        return self.store.consul_management(self.site)["management_token"]

    def set_roles(self, **roles):
        for name, own in roles.items():
            self.site["nodes"][name]["roles"] = own

    def apply(self, *names):
        """Configure and start all nodes, then the master's tokens; wait until each is ready."""
        for name in names or self.agents:
            self.agents[name].write()
            self.agents[name].start()
        self.tokens()
        for name in names or self.agents:
            self.agents[name].client().wait_ready(120)

    def logs(self):
        """The end of every agent's log."""
        return "\n".join(f"{agent.name}: {(agent.folder / 'log').read_text()[-2000:]}" for agent in self)

    def tokens(self):
        """What state `consul_acl.cluster_tokens` does."""
        client = self.agents[self.master].management()
        try:
            client.wait_ready(120)
        except consul_client.ConsulError as error:
            raise AssertionError(f"{error}\n{self.logs()}") from None
        secrets = self.store.consul_management(self.site)["node_tokens"]
        consul_tokens.tokens(client, self.site, secrets)
        (self.root / "marker").touch()
        (self.agents[self.master].config / consul_agent.BOOTSTRAP).unlink(missing_ok=True)

    def together(self, act, *names):
        """{name: act(agent)}, all at the same moment."""
        chosen = [self.agents[name] for name in names or self.agents]
        with ThreadPoolExecutor(len(chosen)) as pool:
            return dict(zip([agent.name for agent in chosen], pool.map(act, chosen)))

    def __getitem__(self, name):
        return self.agents[name]

    def __iter__(self):
        return iter(self.agents.values())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._done.set()
        self._docker.join(5)
        for agent in self.agents.values():
            with contextlib.suppress(Exception):
                agent.stop(kill=True)
            agent.keeper.close()
        self.fabric.close()
        shutil.rmtree(self.root, ignore_errors=True)


def until(condition, what, bound=60.0):
    """Wait until `condition()` is true and return that; an error of Consul is waited out."""
    return polling.until(condition, bound, what, passing=consul_client.ConsulError, pause=0.1)


def refusal(call, bound=60.0):
    """Return the ConsulError with which `call()` fails for good; AssertionError if it succeeds.

    A client's agent passes each call to one of the servers, also to one that is just starting (autopilot calls that one
    healthy for some seconds yet): "rpc error ... connection refused", which is no verdict on the caller's token.
    """

    def verdict():
        try:
            call()
        except consul_client.ConsulError as error:
            if error.transient:
                raise
            return error
        raise AssertionError("it was allowed")

    return until(verdict, "Consul's verdict", bound)
