"""What must hold after every fault: I1 to I8 of faults.yaml, checked from all nodes.

After each row: I1, I4, I6, I7, I8, and I2 (leaks.py) in a few folders of the workers. After the last row of a run: I2
everywhere, I3 and I5. A row can ask for those itself: `fault.thoroughly = True`.
"""

from __future__ import annotations

import json
import re
import time
from dataclasses import dataclass, field

import engine_log
import entries
import leaks
from cluster import Cluster, changes, failures
from comments import unclear
from nodes import FOLDER, Failed

# POST requests that change nothing.
HARMLESS = re.compile(r"/(auth|build/prune-preview)$")
# An agent's own request log; sessions and keys are written by PUT and DELETE. The health service reports all the time.
CONSUL_WRITE = re.compile(r"method=(PUT|POST|DELETE) url=((?!/v1/agent/check/update/)\S+)")


@dataclass
class Baseline:
    """The cluster before a fault."""

    since: float = 0.0  # the clock of this machine, which is the nodes' too
    tasks: dict[str, str] = field(default_factory=dict)
    cluster_id: str = ""


def baseline(cluster: Cluster) -> Baseline:
    """Note what has to be the same afterwards."""
    cluster.applied.clear()
    leaks.note(cluster)
    return Baseline(time.time(), cluster.tasks(), cluster.record().get("cluster_id") or "")


def check(cluster: Cluster, before: Baseline, touched: set[str], operator: bool, bound: float) -> list[str]:
    """Check what is checked after every row; return what does not hold, each with its number."""
    found = one_cluster(cluster, before, operator) + seats(cluster) + returns(cluster, bound)
    found += [] if operator else nothing_forced(cluster, before)
    found += [] if operator else untouched(cluster, before, touched)
    return found + leaks.on_disks(cluster, cluster.workers, thorough=False)


def check_group(cluster: Cluster) -> list[str]:
    """Check what is checked once after a group of rows; secrets last, when something has been applied in any case."""
    return nothing_left_to_do(cluster) + test_writes_nothing(cluster) + leaks.everywhere(cluster)


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


def logged(cluster: Cluster, node: str, since: float) -> str:
    """The engine's log since a moment; its daemon.json has `debug`."""
    command = f"journalctl -u docker --no-pager -o cat --since @{since:.0f}"
    return cluster.run(node, command, 60, check=False).out


def nothing_forced(cluster: Cluster, before: Baseline) -> list[str]:
    """I4: no engine got a request that forces something, by its own request log."""
    found = []
    for node in cluster.on():
        text = logged(cluster, node, before.since)
        try:
            found += [f"I4: {node}: {line[:200]}" for line in engine_log.forced(text)]
        except engine_log.NoRequests as error:
            found.append(f"I4: {node}: {error}")
    return found


def test_writes_nothing(cluster: Cluster) -> list[str]:
    """I5: an apply with test=True sends no write to an engine or an agent, by the logs of both."""
    since = time.time() + 1
    monitors = {node: monitor(cluster, node) for node in cluster.names}
    time.sleep(1)  # the journal is asked for whole seconds
    returned = cluster.apply(test=True)
    found = [f"I5: {node}: {text}" for node, text in failures(returned, (True, None)).items()]
    for node, job in monitors.items():
        try:
            wrote = engine_log.writes(logged(cluster, node, since))
            found += [f"I5: {node}: dockerd got {o.verb} {o.path}" for o in wrote if not HARMLESS.search(o.path)]
        except engine_log.NoRequests as error:
            found.append(f"I5: {node}: {error}")
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
                if one.get("result") is False and (why := unclear(key, comment, cluster.names)):
                    found.append(f"I6: {node}: {key}: {why}: {comment[:300]}")
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
        seen = entries.seats(cluster.nodes_seen())
    except Failed as error:
        return [f"I8: {error}"]
    wanted = sorted((name, True) for name in cluster.managers)
    found = [] if seen == wanted else [f"I8: managers {seen}, wanted {wanted}"]
    return found if len(seen) % 2 else [*found, f"I8: {len(seen)} managers is no odd number"]
