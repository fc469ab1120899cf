"""What must hold after every fault: I1 to I8 of faults.yaml, checked from all nodes.

After each row: I1, I4, I6, I7, I8, and I2 on the workers' disks for the secrets of the managers. After the last row
of a run: I2 everywhere, I3 and I5. A row can ask for those itself: `fault.thoroughly = True`.
"""

from __future__ import annotations

import json
import re
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from cluster import Cluster, changes, failures
from nodes import FOLDER, HERE, Failed

# What dockerd logs of each request at debug level, and the words by which a request forces something.
CALL = re.compile(r'Calling (POST|PUT|DELETE) ([^ "]+)')
FORCED = re.compile(r"(swarm/leave\?[^ ]*force=(1|true)|/nodes/[^ ]*force=(1|true)|ForceNewCluster\W{1,4}true)")
# POST requests that change nothing.
HARMLESS = re.compile(r"/(auth|build/prune-preview)$")
# An agent's own request log; sessions and keys are written by PUT and DELETE. The health service reports all the time.
CONSUL_WRITE = re.compile(r"method=(PUT|POST|DELETE) url=((?!/v1/agent/check/update/)\S+)")
SAVED = "/var/cache/salt/master/jobs"
WORKER_DISK = ("/etc", "/srv", "/root", "/run", "/tmp", "/home", "/opt/rpiomega/incoming", "/usr/local", "/var/log")
WORKER_DATA = ("/var/cache", "/var/lib", "/var/spool", "/var/tmp", "/var/lib/docker", "/var/lib/containerd")


@dataclass
class Baseline:
    """The cluster before a fault."""

    since: float = 0.0  # the clock of this machine, which is the nodes' too
    tasks: dict[str, str] = field(default_factory=dict)
    cluster_id: str = ""


def baseline(cluster: Cluster) -> Baseline:
    """Note what has to be the same afterwards."""
    cluster.applied.clear()
    return Baseline(time.time(), cluster.tasks(), cluster.record().get("cluster_id") or "")


def check(cluster: Cluster, before: Baseline, touched: set[str], operator: bool, bound: float) -> list[str]:
    """Check what is checked after every row; return what does not hold, each with its number."""
    found = one_cluster(cluster, before, operator) + seats(cluster) + returns(cluster, bound)
    found += [] if operator else nothing_forced(cluster, before)
    found += [] if operator else untouched(cluster, before, touched)
    return found + secrets_on_workers(cluster, thorough=False)


def check_group(cluster: Cluster) -> list[str]:
    """Check what is checked once after a group of rows."""
    return secrets_everywhere(cluster) + nothing_left_to_do(cluster) + test_writes_nothing(cluster)


def one_cluster(cluster: Cluster, before: Baseline, operator: bool = False) -> list[str]:
    """I1."""
    facts, record = cluster.look(), cluster.record()
    ids = {fact["cluster_id"] for fact in facts.values() if fact["state"] == "active" and fact["cluster_id"]}
    recorded = record.get("cluster_id")
    found = [] if ids == {recorded} else [f"I1: ClusterIDs {sorted(ids)}, recorded is {recorded}"]
    if before.cluster_id and recorded != before.cluster_id and not operator:
        found.append(f"I1: the swarm was {before.cluster_id} before the fault, now {recorded} is recorded")
    return found


def nothing_left_to_do(cluster: Cluster) -> list[str]:
    """I3: two highstates, of which the second changes nothing."""
    found = []
    for number in (1, 2):
        returned = cluster.apply()
        found += [f"I3: highstate {number}: {node}: {text}" for node, text in failures(returned).items()]
        if number == 2 and (made := changes(returned)):
            found.append(f"I3: the second highstate changed {json.dumps(made)[:600]}")
    return found


def requests(cluster: Cluster, node: str, since: float) -> list[str]:
    """Lines of the engine's log since a moment; its daemon.json has `debug`."""
    command = f"journalctl -u docker --no-pager -o cat --since @{since:.0f}"
    return cluster.run(node, command, 60, check=False).out.splitlines()


def nothing_forced(cluster: Cluster, before: Baseline) -> list[str]:
    """I4: no engine got a request that forces something, by its own request log."""
    found = []
    for node in cluster.on():
        lines = requests(cluster, node, before.since)
        found += [f"I4: {node}: {line[:200]}" for line in lines if FORCED.search(line)]
    return found


def test_writes_nothing(cluster: Cluster) -> list[str]:
    """I5: an apply with test=True sends no write to an engine or an agent, by the logs of both."""
    since = time.time() + 1
    monitors = {node: monitor(cluster, node) for node in cluster.names}
    time.sleep(1)  # the journal is asked for whole seconds
    returned = cluster.apply(test=True)
    found = [f"I5: {node}: {text}" for node, text in failures(returned, (True, None)).items()]
    for node, job in monitors.items():
        wrote = [line for line in requests(cluster, node, since) if CALL.search(line)]
        calls = [CALL.search(line).groups() for line in wrote]
        found += [f"I5: {node}: dockerd got {verb} {path}" for verb, path in calls if not HARMLESS.search(path)]
        text = job.read()
        job.signal("TERM")
        if "method=GET" not in text:
            found.append(f"I5: {node}: the agent's request log shows nothing, so it proves nothing: {text[-200:]}")
        found += [f"I5: {node}: Consul got {verb} {path}" for verb, path in CONSUL_WRITE.findall(text)]
    return found


def monitor(cluster: Cluster, node: str):
    """Follow an agent's log at debug level, with every HTTP request in it; returns its Job, already listening."""
    job = cluster.later(node, f"exec python3 {FOLDER}/probe.py monitor")

    def listening():
        cluster.ask(node, ["consul", "GET", "/v1/status/leader"])
        return "url=/v1/status/leader" in job.read()

    cluster.wait(f"the request log of Consul on {node}", 20, listening)
    return job


def returns(cluster: Cluster, bound: float) -> list[str]:
    """I6: of all state runs of the row, each failure was a clear one, in time."""
    found = []
    for run in cluster.applied:
        allowed = (True, None, False) if run["test"] else (True, False)
        for node, states in run["returned"].items():
            if not isinstance(states, dict):
                continue  # no answer at all, or no states rendered: the row says whether that is right
            for key, one in states.items():
                if one.get("result") not in allowed:
                    found.append(f"I6: {node}: {key} returned {one.get('result')!r}")
                comment = str(one.get("comment") or "")
                if one.get("result") is False and ("Traceback" in comment or len(comment) < 20):
                    found.append(f"I6: {node}: {key}: no clear comment: {comment[:300]}")
                if one.get("result") is False and (one.get("duration") or 0) / 1000 > bound:
                    found.append(f"I6: {node}: {key} took {one['duration'] / 1000:.0f} s of {bound:g} s")
    return found


def untouched(cluster: Cluster, before: Baseline, touched: set[str]) -> list[str]:
    """I7: where the fault was not, the service's containers are those from before."""
    now = cluster.tasks()
    kept = [node for node in before.tasks if node not in touched]
    return [
        f"I7: {node}: the service ran in {before.tasks[node][:12]}, now in {now.get(node, 'none')[:12]}"
        for node in kept
        if now.get(node) != before.tasks[node]
    ]


def seats(cluster: Cluster) -> list[str]:
    """I8: the managers of the site, an odd number, are the swarm's, and all of them are reachable."""
    try:
        seen = {node["name"]: node["reachable"] for node in cluster.nodes_seen() if node["role"] == "manager"}
    except Failed as error:
        return [f"I8: {error}"]
    wanted = dict.fromkeys(cluster.managers, True)
    found = [] if seen == wanted else [f"I8: managers {seen}, wanted {wanted}"]
    return found if len(seen) % 2 else [*found, f"I8: {len(seen)} managers is no odd number"]


# -- secrets ------------------------------------------------------------------------------------------------


def secrets(cluster: Cluster) -> dict[str, str]:
    """Every secret by its name: what managers and the master alone may have, and each node's own."""

    def ask(path):
        # After bad weather a leader may go once more.
        return cluster.wait(f"{path} of the swarm", 60, lambda: cluster.docker(cluster.leading(), "GET", path))

    found = {"manager token": ask("/swarm")["JoinTokens"]["Manager"]}
    unlock = ask("/swarm/unlockkey").get("UnlockKey")
    if unlock:
        found["unlock key"] = unlock
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


def search(cluster: Cluster, node: str, wanted: dict[str, str], places, bound: float = 300) -> list[list[str]]:
    """Look for secrets by value on a node; return [name, where] of each hit. The values reach no argument list."""
    cluster.put(node, f"{FOLDER}/secrets_search.py", (HERE / "secrets_search.py").read_text())
    path = f"{FOLDER}/wanted.json"
    cluster.put(node, path, json.dumps(wanted), 0o600)
    try:
        command = f"exec 3<{path}; rm {path}; nice python3 {FOLDER}/secrets_search.py {' '.join(places)} <&3"
        return json.loads(cluster.run(node, command, bound).out)
    finally:
        cluster.run(node, f"rm -f {path}", check=False)


def _others(cluster: Cluster, node: str, known: dict[str, str]) -> dict[str, str]:
    """Those secrets that have no business on a worker: not its own, not the key that all agents share."""
    own = {f"Consul token of {node}", f"TLS key of {node}", "gossip key"}
    return {name: value for name, value in known.items() if name not in own}


def secrets_on_workers(cluster: Cluster, thorough: bool) -> list[str]:
    """I2 on the workers: disk, and if `thorough` all data, environments and journal too."""
    known, found = secrets(cluster), []
    places = [*WORKER_DISK, *WORKER_DATA, "environ", "journal"] if thorough else ["/etc", "/root", "/run", "/tmp"]
    for node in cluster.workers:
        hits = search(cluster, node, _others(cluster, node, known), places)
        found += [f"I2: {node}: {name} in {where}" for name, where in hits]
    return found


def secrets_everywhere(cluster: Cluster) -> list[str]:
    """I2: workers thoroughly; managers' logs and environments; job cache, mine, grains and returns on the master."""
    found = secrets_on_workers(cluster, thorough=True)
    known = secrets(cluster)
    for node in cluster.managers:
        hits = search(cluster, node, known, ["/var/log", "/run/log", "environ", "journal"])
        found += [f"I2: {node}: {name} in {where}" for name, where in hits]
    hits = search(cluster, cluster.master, known, [SAVED, "/var/cache/salt/minion"])
    found += [f"I2: {cluster.master}: {name} in {where}" for name, where in hits]
    said = {
        "mine": cluster.run(cluster.master, "salt --out=json '*' mine.get '*' '*'", 120, check=False).out,
        "grains": cluster.run(cluster.master, "salt --out=json '*' grains.items", 120, check=False).out,
        "state returns": json.dumps(cluster.applied),
        "event bus": events_seen(cluster),
    }
    found += [f"I2: {name} in {where}" for where, text in said.items() for name in known if known[name] in text]
    return found


def events_seen(cluster: Cluster) -> str:
    """Everything that went over the master's event bus while the tests ran (`watch_events`)."""
    return cluster.run(cluster.master, f"cat {FOLDER}/events.log", check=False).out


def watch_events(cluster: Cluster) -> None:
    """Have the master's event bus written to a file, also after a restart of the master."""
    unit = f"salt-run state.event pretty=True >>{FOLDER}/events.log 2>/dev/null"
    command = "systemctl is-active -q faults-events || systemd-run -q --unit faults-events -p Restart=always "
    cluster.run(cluster.master, f"{command} -p RestartSec=2 sh -c '{unit}'")


def side_by_side(act, nodes: list[str]) -> dict:
    """Call `act(node)` on all nodes at the same time; return node -> what it gave."""
    with ThreadPoolExecutor(max(1, len(nodes))) as pool:
        return dict(zip(nodes, pool.map(act, nodes), strict=True))
