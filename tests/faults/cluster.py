"""The one lab that all faults share: made by the product's own commands, reused over tests and runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import entries
import health
import results
import yaml
from nodes import FOLDER, SALT_PYTHON, Failed, Nodes

from rpiomega.lab import archives, engine, lifecycle, pi, remote, state

NAME = os.environ.get("RPIOMEGA_FAULTS_LAB", "faults")
COUNT = 4  # three managers, one worker
APPLY_BOUND = 600
HEAL_BOUND = 240
SERVICE = "faults-steady"
MEMBER = "swarm_|-swarm.member_|-"


class Cluster(Nodes):
    """The lab's nodes, and what the cluster on them says of itself."""

    def __init__(self, say=print) -> None:
        """`say` gets a line for what takes minutes, such as a lab that is made."""
        self.say = say
        lab = state.load(NAME) or state.Lab(NAME, os.environ.get("RPIOMEGA_RELEASE", "trixie"), COUNT)
        super().__init__(lab)
        self.applied: list[dict] = []  # every state run of the present row, for the invariants
        # Since the tests began: all that states, functions and commands have returned, and each secret's values.
        self.said: list[str] = []
        self.secrets: dict[str, set[str]] = {}

    # -- making it -----------------------------------------------------------------------------------------

    @property
    def master(self) -> str:
        """The node with the master."""
        return self.names[0]

    @property
    def managers(self) -> list[str]:
        """Nodes that the site calls managers."""
        return [name for name, node in self.site["nodes"].items() if "manager" in node["roles"]]

    @property
    def workers(self) -> list[str]:
        """Nodes that the site calls workers."""
        return [name for name in self.names if name not in self.managers]

    @property
    def site(self) -> dict:
        """The site file."""
        return yaml.safe_load(self.lab.site_file.read_text())["rpiomega"]

    def address(self, node: str) -> str:
        """A node's address by the site file."""
        return self.site["nodes"][node]["address"]

    def ensure(self) -> None:
        """Make what is missing of the lab and its cluster; a second call costs only a look."""
        if not self._all_on():
            self.say(f"lab {NAME}: its nodes are made or started")
            self._thaw()
            known = self.lab.site_file.read_text() if self.lab.site_file.exists() else ""
            lifecycle.up(engine.connect(), self.lab, self.say)
            if known:
                self.lab.site_file.write_text(known)  # `lab up` writes its own again
        for node in self.names:
            self.equip(node)
        wrong = self.problems()
        if (has := self.commit()) != results.commit():
            wrong.append(f"the master has {has and f'commit {has}' or 'no states'}, the checkout {results.commit()}")
        if wrong:
            self.say(f"lab {NAME}: the checkout's commit is brought and applied, because: {'; '.join(wrong)}")
            self.build()
        self.steady()

    def _all_on(self) -> bool:
        try:
            return all(self.is_on(name) for name in self.names)
        except engine.LabError:
            return False

    def _thaw(self) -> None:
        """A run that was cut short leaves frozen nodes, which cannot be started."""
        for node in self.names:
            try:
                found = self.container(node)
            except engine.LabError:
                continue  # it is not made yet
            if found.status == "paused":
                found.unpause()

    def build(self) -> None:
        """Bring the checkout's HEAD to the nodes and apply all states, with an engine that logs every request."""
        self.change_site(lambda site: site["docker"].update(daemon={"debug": True}))
        self.rpiomega("accept")
        self.wait_salt(self.names)
        self.must_apply()
        self.wait_healthy(120)

    def commit(self) -> str:
        """The commit whose states the master has, abbreviated."""
        return self.run(self.master, "git -C /srv/rpiomega/formula rev-parse --short=7 HEAD", check=False).out

    def rebuild(self) -> None:
        """Remove the lab and make it again; its results are kept elsewhere (results.py)."""
        lifecycle.down(engine.connect(), NAME)
        self.lab = state.Lab(NAME, self.lab.release, COUNT)
        self.ensure()

    def change_site(self, change) -> None:
        """Edit the site file and bring it, with the checkout's HEAD, to the master: `change(site)`."""
        document = yaml.safe_load(self.lab.site_file.read_text())
        change(document["rpiomega"])
        self.lab.site_file.write_text(yaml.safe_dump(document, sort_keys=False))
        self.rpiomega("bootstrap")

    def rpiomega(self, *arguments: str, bound: float = 900, check: bool = True) -> subprocess.CompletedProcess:
        """Run the product's command with the lab's site file."""
        command = [sys.executable, "-m", "rpiomega", *arguments, "--site", str(self.lab.site_file)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=bound, check=False)
        self.said.append(done.stdout + done.stderr)
        if check and done.returncode:
            raise Failed(f"rpiomega {arguments[0]}: {done.returncode}: {(done.stdout + done.stderr)[-600:]}")
        return done

    def steady(self) -> None:
        """Have a service with one task on every node: what must not be touched by a fault elsewhere."""
        if self.ask(self.leading(), ["docker", "GET", f"/services/{SERVICE}"])[0][0] == 200:
            return
        archive = next(self.lab.folder.glob(f"{archives.SMOKE.replace('/', '-').replace(':', '-')}-*"))
        for node in self.names:
            remote.send(self.lab, node, archive, "/tmp/faults-image.tar.gz")
            self.run(node, "docker load -q -i /tmp/faults-image.tar.gz && rm /tmp/faults-image.tar.gz")
        self.run(
            self.leading(),
            f"docker service create --quiet --detach --name {SERVICE} --mode global --no-resolve-image "
            f"--stop-grace-period 1s {archives.SMOKE} sleep 1000000",
        )
        self.wait("one task of the steady service on each node", 60, lambda: len(self.tasks()) == len(self.names))

    def tasks(self, service: str = SERVICE) -> dict[str, str]:
        """Node -> ID of the container that runs the service there."""
        command = f"docker ps -q --no-trunc --filter label=com.docker.swarm.service.name={service}"
        found = {node: self.run(node, command, 20, check=False).out for node in self.on()}
        return {node: text for node, text in found.items() if text}

    def image(self) -> str:
        """The steady service's image, which every node has."""
        wanted = "{{.Spec.TaskTemplate.ContainerSpec.Image}}"
        return self.run(self.leading(), f"docker service inspect -f '{wanted}' {SERVICE}").out

    # -- what it says --------------------------------------------------------------------------------------

    def look(self, nodes: list[str] | None = None) -> dict[str, dict]:
        """Ask nodes side by side: node -> state, control, cluster_id, node_id, error, leader, servers, members..."""
        chosen = self.on() if nodes is None else nodes
        with ThreadPoolExecutor(max(1, len(chosen))) as pool:
            return dict(zip(chosen, pool.map(self._look, chosen), strict=True))

    def _look(self, node: str) -> dict:
        info, members, leader, record = self.ask(
            node,
            ["docker", "GET", "/info"],
            ["consul", "GET", "/v1/agent/members"],
            ["consul", "GET", "/v1/status/leader"],
            ["consul", "GET", "/v1/kv/rpiomega/swarm/record?raw&stale"],
        )
        swarm = (info[1].get("Swarm") or {}) if info[0] == 200 else {}
        return {
            "state": swarm.get("LocalNodeState", ""),
            "control": bool(swarm.get("ControlAvailable")),
            "cluster_id": (swarm.get("Cluster") or {}).get("ID", ""),
            "node_id": swarm.get("NodeID", ""),
            "error": swarm.get("Error", "") if info[0] == 200 else str(info[1]),
            "alive": sorted(m["Name"] for m in members[1] if m["Status"] == 1) if members[0] == 200 else [],
            "leader": leader[1].rsplit(":", 1)[0] if leader[0] == 200 and isinstance(leader[1], str) else "",
            "record": record[1] if record[0] == 200 and isinstance(record[1], dict) else {},
        }

    def nodes_seen(self, node: str | None = None) -> list[dict]:
        """The swarm's list of nodes by a manager: id, name, role, state, availability, reachable, leader."""
        return [entries.seen(item) for item in self.docker(node or self.leading(), "GET", "/nodes")]

    def leading(self) -> str:
        """Return a node that has power and lists the swarm's nodes; the leader if there is one."""
        for node in self.managers:
            status, answer = self.ask(node, ["docker", "GET", "/nodes"])[0] if self.is_on(node) else (0, "")
            if status == 200:
                leader = entries.leader([entries.seen(item) for item in answer])
                # A leader that was renamed by hand is no node by that name.
                return leader if leader in self.names and self.is_on(leader) else node
        raise Failed("no manager of the swarm answers")

    def consul_leader(self) -> str:
        """Return the node that leads Consul, empty if none does."""
        addresses = {self.address(name): name for name in self.names}
        leaders = [fact["leader"] for fact in self.look().values() if fact["leader"]]
        return addresses.get(max(leaders, key=leaders.count), "") if leaders else ""

    def record(self) -> dict:
        """The swarm's record in Consul, read consistently."""
        for node in self.on():
            status, answer = self.ask(node, ["consul", "GET", "/v1/kv/rpiomega/swarm/record?raw&consistent"])[0]
            if status == 200:
                return answer
        return {}

    def problems(self, but=()) -> list[str]:
        """What keeps the cluster from being whole; empty if nothing does. `but`: see health.py."""
        return health.problems(self, but)

    def wait(self, what: str, bound: float, look):
        """Poll `look()` until it is true; Failed after `bound` seconds with what was seen last."""
        end = time.monotonic() + bound
        while True:
            try:
                seen = look()
            except Failed as error:
                seen, problem = None, str(error)
            else:
                problem = repr(seen)
            if seen:
                return seen
            if time.monotonic() > end:
                raise Failed(f"waited {bound:g} s in vain for {what}; last seen: {problem[-600:]}")
            time.sleep(0.5)

    def wait_healthy(self, bound: float) -> float:
        """Wait until nothing is wrong; return the seconds it took."""
        began, seen = time.monotonic(), [""]
        while seen := self.problems():
            if time.monotonic() - began > bound:
                raise Failed(f"the cluster is not whole after {bound:g} s: {'; '.join(seen)}")
            time.sleep(0.5)
        return time.monotonic() - began

    # -- Salt ----------------------------------------------------------------------------------------------

    def wait_salt(self, nodes: list[str], bound: float = 120) -> None:
        """Wait until these nodes' minions answer the master."""

        def silent():
            command = f"salt --out=json --static --timeout=5 -L {','.join(nodes)} test.ping"
            answers = documents(self.run(self.master, command, 60, check=False).out)
            return sorted(name for name in nodes if answers.get(name) is not True)

        self.wait(f"the minions of {', '.join(nodes)}", bound, lambda: not silent())

    def apply(self, *nodes: str, sls: str = "", test: bool = False, bound: float = APPLY_BOUND, pillar=None) -> dict:
        """Apply states from the master on `nodes` (all), at once; return node -> state ID -> return, or why not."""
        chosen = nodes or tuple(self.names)
        words = [sls] if sls else []
        words += ["test=True"] if test else []
        words += [f"pillar='{json.dumps(pillar)}'"] if pillar else []
        began = time.monotonic()
        command = f"salt --out=json --hide-timeout -L {','.join(chosen)} state.apply {' '.join(words)}"
        done = self.run(self.master, command, bound, check=False)
        returned = documents(done.out)
        self.said.append(done.out + done.err)
        self._ran(test, began, returned)
        return {node: returned.get(node, "no answer") for node in chosen}

    def must_apply(self, *nodes: str, **options) -> dict:
        """`apply`; Failed unless every state succeeded."""
        returned = self.apply(*nodes, **options)
        if wrong := failures(returned):
            raise Failed(f"state.apply: {json.dumps(wrong)[:1500]}")
        return returned

    def call(self, node: str, *arguments: str, patch: str = "", bound: float = APPLY_BOUND, check: bool = True) -> dict:
        """Run salt-call on a node; return what it returned. `patch`: see `call_later`."""
        done = self.run(node, self._call(arguments, patch), bound, check=False)
        self.said.append(done.out + done.err)
        return returned_by(done, check)

    def call_later(self, node: str, *arguments: str, patch: str = ""):
        """Start salt-call on a node and return its Job.

        :param patch: Python that runs in its process first, with the product's utils importable as the node has them:
            where a fault has to hit at an exact place of a real run
        """
        return self.later(node, self._call(arguments, patch))

    def _call(self, arguments: tuple[str, ...], patch: str) -> str:
        words = " ".join(f'"{word}"' for word in arguments)
        if not patch:
            return f"salt-call --out=json --no-color {words}"
        main = "import sys; sys.path.insert(0, '/var/cache/salt/minion/extmods/utils')\n" + patch
        main += "\nfrom salt.scripts import salt_call\nsalt_call()\n"
        path = f"{FOLDER}/patched.py"
        return f"cat >{path} <<'PATCH'\n{main}PATCH\n{SALT_PYTHON} {path} --out=json --no-color {words}"

    def member(self, node: str, *arguments: str, **options) -> dict:
        """Apply `swarm.member` alone on a node by salt-call; return the state's return."""
        return self.single(node, "swarm.member", *arguments, **options)

    def single(self, node: str, state: str, *arguments: str, **options) -> dict:
        """Apply one state on a node by salt-call; return its return."""
        began = time.monotonic()
        local = self.call(node, "state.single", state, NAME, *arguments, check=False, **options)
        self._ran(False, began, {node: local})
        return next(iter(local.values())) if isinstance(local, dict) and local else {"result": None, "comment": local}

    def _ran(self, test: bool, began: float, returned: dict) -> None:
        self.applied.append({"test": test, "seconds": time.monotonic() - began, "returned": returned})


def returned_by(done, check: bool = True):
    """Return what a finished salt-call returned; Failed if it is not JSON and `check` is true."""
    try:
        return json.loads(done.out[done.out.index("{") :])["local"]
    except (ValueError, KeyError):
        if check:
            raise Failed(f"salt-call ended with {done.code}: {(done.err or done.out)[-500:]}") from None
        return done.err or done.out


def documents(text: str) -> dict:
    """Merge the JSON documents that salt prints, one per minion as each returns; words between them are left out."""
    merged, decoder, rest = {}, json.JSONDecoder(), text
    while (start := rest.find("{")) >= 0:
        try:
            document, end = decoder.raw_decode(rest[start:])
        except ValueError:
            break
        merged.update(document)
        rest = rest[start + end :]
    return merged


def failures(returned: dict, allowed=(True,)) -> dict:
    """Node -> comments of the states without success; a node that gave no states, whole."""
    found = {}
    for node, states in returned.items():
        if not isinstance(states, dict) or not states:
            found[node] = states
            continue
        wrong = [f"{key}: {one.get('comment')}" for key, one in states.items() if one.get("result") not in allowed]
        found |= {node: wrong} if wrong else {}
    return found


def changes(returned: dict) -> dict:
    """Node -> what states changed there; empty if nothing changed anywhere."""
    found = {}
    for node, states in returned.items():
        made = {k: one["changes"] for k, one in states.items() if one.get("changes")} if isinstance(states, dict) else 1
        found |= {node: made} if made else {}
    return found


def power(cluster: Cluster, node: str) -> None:
    """Give a node power and wait until it has booted."""
    container = cluster.container(node)
    container.start()
    pi.wait_booted(cluster.lab, node, container)
