"""I2: no secret where it has no business, searched by value: every value it has had since the tests began."""

from __future__ import annotations

import json
import threading
import time

import engine_log
from cluster import MEMBER, Cluster
from nodes import FOLDER, HERE, TROUBLE

SAVED = "/var/cache/salt/master/jobs"
EVENTS = f"{FOLDER}/events.log"
FILES = ("/etc", "/srv", "/root", "/run", "/tmp", "/home", "/opt/rpiomega/incoming", "/usr/local", "/var/log")
DATA = ("/var/cache", "/var/lib", "/var/spool", "/var/tmp", "/var/lib/docker", "/var/lib/containerd")
QUICKLY = ("/etc", "/root", "/run", "/tmp")

SWARMS = ("manager token", "worker token", "unlock key")
REQUESTS = (["docker", "GET", "/swarm"], ["docker", "GET", "/swarm/unlockkey"])
PERIOD = 4.0  # seconds between two looks at the swarm's secrets

# Where a secret may be, where not everybody can read it; anywhere else it is a leak.
AGENT = "/etc/rpiomega/consul/"  # an agent's own token and TLS key, and the key that all agents share
STORE = "/var/lib/docker/volumes/rpiomega-consul/"  # a Consul server's data: all tokens, and the swarm's worker token
UNLOCK = "/etc/rpiomega/secrets/swarm/"  # managers keep the unlock key
# The master has made Consul's, gives each node its own by pillar, and keeps that in a cache that only root can enter.
MADE = ("/etc/rpiomega/secrets/consul/", "/var/cache/salt/master/pillar/", AGENT)

# Without these where they belong a search has not looked: a state's return, a request to the engine, a process.
REQUEST = engine_log.ANY_REQUEST
CONTROLS = {"a return": [MEMBER], "a request": REQUEST, "a process": ["PATH="], "an event": ["salt/job/"]}


def current(cluster: Cluster, bound: float = 60) -> dict[str, str]:
    """Every secret of now by its name: the swarm's, Consul's, and each node's own."""

    def ask(path):
        # After bad weather a leader may go once more.
        return cluster.wait(f"{path} of the swarm", bound, lambda: cluster.docker(cluster.leading(), "GET", path))

    found = _of_swarm(ask("/swarm"), ask("/swarm/unlockkey"))
    script = (
        "import json, pathlib; top = pathlib.Path('/etc/rpiomega/secrets/consul'); "
        "print(json.dumps({str(p.relative_to(top)): p.read_text().strip() for p in top.rglob('*') if p.is_file()}))"
    )
    for name, text in json.loads(cluster.run(cluster.master, f'python3 -c "{script}"').out).items():
        if name == "management.token":
            found["management token"] = text
        elif name == "ca-key.pem":
            found["CA key"] = text.splitlines()[1]
        elif name == "gossip.key":
            found["gossip key"] = text
        elif name.endswith("/token"):
            found[f"Consul token of {name.split('/')[1]}"] = text
        elif name.endswith("/key.pem"):
            found[f"TLS key of {name.split('/')[1]}"] = text.splitlines()[1]
    return found


def note(cluster: Cluster, bound: float = 60) -> dict[str, str]:
    """Remember the secrets of now (`Cluster.secrets`); return them."""
    found = current(cluster, bound)
    _keep(cluster, found)
    return found


def _of_swarm(swarm: dict, unlock: dict) -> dict[str, str]:
    values = (swarm["JoinTokens"]["Manager"], swarm["JoinTokens"]["Worker"], unlock.get("UnlockKey"))
    return {name: value for name, value in zip(SWARMS, values, strict=True) if value}


def _keep(cluster: Cluster, found: dict[str, str]) -> None:
    for name, value in found.items():
        cluster.secrets.setdefault(name, set()).add(value)


def follow(cluster: Cluster) -> None:
    """Remember the join tokens and the unlock key from now on, whenever they change: applies change tokens."""

    def look() -> None:
        while True:
            for node in cluster.managers:
                time.sleep(PERIOD)
                try:
                    swarm, unlock = cluster.ask(node, *REQUESTS)
                except TROUBLE:
                    continue  # no power
                if swarm[0] == 200 == unlock[0]:
                    _keep(cluster, _of_swarm(swarm[1], unlock[1]))

    threading.Thread(target=look, daemon=True).start()


def search(cluster: Cluster, node: str, wanted: dict, places, bound: float = 600) -> list[list[str]]:
    """Look for secrets by value on a node; return [name, where, whether everybody can read it] of each hit.

    The values reach no argument list.
    """
    cluster.put(node, f"{FOLDER}/secrets_search.py", (HERE / "secrets_search.py").read_text())
    path = f"{FOLDER}/wanted.json"
    values = {name: sorted(found) for name, found in wanted.items()}
    cluster.put(node, path, json.dumps(values), 0o600)
    try:
        command = f"exec 3<{path}; rm {path}; nice python3 {FOLDER}/secrets_search.py {' '.join(places)} <&3"
        return json.loads(cluster.run(node, command, bound).out)
    finally:
        cluster.run(node, f"rm -f {path}", check=False)


def foreign(node: str, name: str) -> bool:
    """Whether a secret is none of a node's own and not the key that all agents share."""
    return name not in (f"Consul token of {node}", f"TLS key of {node}", "gossip key")


def allowed(cluster: Cluster, node: str, name: str) -> tuple[str, ...]:
    """Where on a node a secret may be, as beginnings of paths."""
    places = [] if foreign(node, name) else [AGENT]
    if node in cluster.managers:
        places += [STORE, *([UNLOCK] if name == "unlock key" else [])]
    elif name == "gossip key":
        places += [STORE]  # every agent keeps its keyring there
    return (*places, *(MADE if node == cluster.master and name not in SWARMS else []))


def on_disks(cluster: Cluster, nodes: list[str], thorough: bool) -> list[str]:
    """Search nodes: a few folders; if `thorough` all files, environments, arguments and the journal."""
    note(cluster)
    found = []
    for node in nodes:
        places = [*FILES, *DATA, "environ", "journal"] if thorough else QUICKLY
        hits = search(cluster, node, cluster.secrets, places)
        wrong = [hit for hit in hits if hit[2] or not hit[1].startswith(allowed(cluster, node, hit[0]))]
        found += [f"I2: {node}: {name} in {where}" + ", open to all" * is_open for name, where, is_open in wrong]
        if [f"Consul token of {node}", f"{AGENT}consul.json", False] not in hits:
            found.append(f"I2: {node}: the search does not even find the node's own token, so it proves nothing")
    return found


def everywhere(cluster: Cluster) -> list[str]:
    """Search all files of all nodes, mine, grains, event bus, and all that states and commands have returned."""
    found = on_disks(cluster, cluster.names, thorough=True)
    said = {
        "mine": cluster.run(cluster.master, "salt --out=json '*' mine.get '*' '*'", 120, check=False).out,
        "grains": cluster.run(cluster.master, "salt --out=json '*' grains.items", 120, check=False).out,
        "state returns": "\n".join(cluster.said),
    }
    for where, text in said.items():
        found += [f"I2: {name} in {where}" for name, values in cluster.secrets.items() if any(map(text.count, values))]
    return found + controls(cluster, said)


def controls(cluster: Cluster, said: dict[str, str]) -> list[str]:
    """What must be in job cache, event bus, journals, environments and returns, or nothing has been looked at."""
    hits = search(cluster, cluster.master, CONTROLS, [SAVED, FOLDER, "environ", "journal"])
    seen = {(name, where) for name, where, _ in hits}
    wanted = {
        "job cache": any(name == "a return" and where.startswith(SAVED) for name, where in seen),
        "event bus": {("an event", EVENTS), ("a return", EVENTS)} <= seen,
        "journal": ("a request", "journal") in seen,
        "environments": any(name == "a process" and where.startswith("/proc") for name, where in seen),
        "state returns": MEMBER in said["state returns"],
        "grains": all(f'"{node}"' in said["grains"] for node in cluster.names),
    }
    empty = sorted(place for place, there in wanted.items() if not there)
    return [f"I2: {place}: what has to be there was not found, so it proves nothing" for place in empty]


def watch_events(cluster: Cluster) -> None:
    """Have the master's event bus written to a file from now on, also after a loss of power."""
    name = "faults-events.service"
    unit = (
        "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always\nRestartSec=1\n"
        f"ExecStart=/bin/sh -c 'exec salt-run state.event pretty=True >>{EVENTS} 2>/dev/null'\n"
        "[Install]\nWantedBy=multi-user.target\n"
    )
    cluster.put(cluster.master, f"/etc/systemd/system/{name}", unit)
    command = f"systemctl stop {name}; rm -f {EVENTS}; systemctl daemon-reload; systemctl enable -q --now {name}"
    cluster.run(cluster.master, command)
