"""Faults of Consul: its leader, its quorum, a hanging agent, a token that is no longer good."""

import json
import re
import time

import engine_log
from invariants import logged
from test_host import back_home
from test_swarm import leave

KEY = "rpiomega/swarm/faults/lock"
OF_SWARM = re.compile(r"/(swarm|nodes)\b")


def tidy(fault, cluster):
    """Remove the lock's keys as the fault is healed."""

    def remove():
        # The master's own server may be the one that was killed.
        path = "/v1/kv/rpiomega/swarm/faults?recurse"
        request = (cluster.master, "DELETE", path, None, "management")
        cluster.wait("Consul of the master to remove them", 90, lambda: cluster.consul(*request))

    fault.undo_later("keys of the lock", remove)


def events(job, name):
    """Lines of a holder of one kind."""
    return [line for line in job.lines() if line["event"] == name]


def test_f08_the_raft_leader_dies_and_the_holder_keeps_its_lock(fault, cluster):
    """It writes on under the same fence; or Consul took longer than its fence allows, and it gave up, not earlier."""
    tidy(fault, cluster)
    leader = cluster.consul_leader()
    node = next(name for name in cluster.managers if name != leader)
    holder = fault.holder(node, KEY)
    cluster.wait("the holder to write", 60, lambda: events(holder, "written"))
    fault.begins(f"Consul of {leader}, the Raft leader, killed; the lock is held on {node}")
    fault.stop_consul(leader)
    killed = time.time()

    def outcome():
        after = [line for line in events(holder, "written") if line["at"] > killed + 3]
        return after[1:] or events(holder, "lost")

    seen = fault.recovers("two more writes under the lock, or a clean end", outcome)[0]
    if seen["event"] == "lost":
        age = float(re.search(r"no renewal for ([0-9.]+) s", seen["text"])[1])
        assert 12 <= age < 14, seen
        fault.measured["gave up, last renewal ago, s"] = age
    else:
        fault.measured["longest write, s"] = max(line["seconds"] for line in events(holder, "written"))
    assert {line["fence"] for line in events(holder, "written")} == {events(holder, "held")[0]["fence"]}
    cluster.wait("Consul to have another leader", fault.bound, lambda: cluster.consul_leader() not in ("", leader))
    fault.measured["another leader, s"] = round(time.time() - killed, 1)


def test_f09_without_quorum_everything_that_decides_fails_closed(fault, cluster):
    survivor, *lost = cluster.managers
    worker = cluster.workers[0]
    back_home(fault, cluster, worker)
    before = cluster.docker(survivor, "GET", "/swarm")
    fault.begins(f"Consul of {' and '.join(lost)} killed")
    began = time.time()
    fault.stop_consul(*lost)
    cluster.wait("no leader", 30, lambda: not cluster.look([survivor])[survivor]["leader"])
    refused = str(cluster.call(survivor, "swarm.promote_waiting", check=False))
    assert "no leader" in refused, refused
    put = cluster.call(survivor, "consul.put", "key=rpiomega/swarm/faults/x", "value=1", check=False)
    assert (put["res"], put["kind"]) == (False, "no_leader"), put
    refused = str(cluster.call(survivor, "swarm.rotate_tokens", "worker", check=False))
    assert "no leader" in refused, refused
    cluster.single(survivor, "swarm.nodes_managed")  # whatever it says: below, what it wrote
    result = cluster.member(worker)
    assert "stale" in result["comment"], result["comment"]
    fault.measured["state on a worker, s"] = round(result["duration"] / 1000, 1)
    said = json.loads(cluster.rpiomega("status", "--json", check=False).stdout)
    assert (said["consul"]["stale"], said["consul"]["quorum"], said["swarm"]["quorum"]) == (True, False, True), said
    assert not cluster._seats(), "the swarm does not need Consul"
    leave(fault, cluster, worker)
    for role in ("worker", "manager"):
        alone = cluster.member(worker, f"role={role}")
        assert alone["result"] is False
        assert "no leader" in alone["comment"], alone["comment"]
    assert cluster.look([worker])[worker]["state"] == "inactive", "it made or joined a swarm by itself"
    assert cluster.docker(survivor, "GET", "/swarm") == before
    wrote = engine_log.writes("\n".join(logged(cluster, node, began) for node in cluster.managers))
    assert [one for one in wrote if OF_SWARM.search(one.path)] == []
    fault.begins(f"Consul of {' and '.join(lost)} killed, then of {lost[0]} started")
    fault.start_consul(lost[0])
    fault.recovers("a leader", cluster.consul_leader)


def test_f11_a_second_server_dies_as_the_first_one_is_back(fault, cluster):
    leader = cluster.consul_leader()
    first = next(name for name in cluster.managers if name != leader)
    observer = next(name for name in cluster.managers if name not in (leader, first))
    tidy(fault, cluster)  # the last to be undone: by then every Consul is back
    fault.undo_later(f"Consul of {first}", lambda: cluster.run(first, "docker start rpiomega-consul"))
    cluster.run(first, "docker kill rpiomega-consul")
    cluster.wait(f"{first} to be missed", 60, lambda: first not in cluster.look([observer])[observer]["alive"])
    cluster.run(first, "docker start rpiomega-consul")
    cluster.wait(f"{first} to be alive", 60, lambda: first in cluster.look([observer])[observer]["alive"])
    fault.begins(f"Consul of {first} restarted, that of the leader {leader} killed as soon as {first} is alive again")
    fault.stop_consul(leader)

    def writable():
        path = "/v1/kv/rpiomega/swarm/faults/alive"
        new = cluster.consul_leader()
        return new not in ("", leader) and cluster.ask(observer, ["consul", "PUT", path, "x"])[0][0] == 200

    fault.recovers("writes to succeed", writable)


def test_f14_a_hanging_agent_holds_up_nobody(fault, cluster):
    node = cluster.workers[0]
    fault.begins(f"Consul of {node} stopped by SIGSTOP")
    fault.freeze_consul(node)
    result = cluster.member(node)
    fault.seconds = round(result["duration"] / 1000, 1)
    assert result["result"] is False
    assert "Consul" in result["comment"], result["comment"]
    assert fault.seconds < fault.bound
    one = cluster.call(node, "consul.get", "key=rpiomega/swarm/record", check=False)
    assert (one["res"], one["kind"]) == (False, "timeout"), one


def test_f16_a_revoked_token_is_told_as_a_matter_of_permission(fault, cluster):
    node = cluster.workers[0]
    tokens = cluster.consul(cluster.master, "GET", "/v1/acl/tokens", token="management")
    policy = f"rpiomega-node-{node}"
    own = next(one["AccessorID"] for one in tokens if any(p["Name"] == policy for p in one.get("Policies") or []))
    fault.undo_later("token of the node", lambda: cluster.must_apply(cluster.master, sls="consul"))
    fault.begins(f"Consul token of {node} deleted")
    cluster.consul(cluster.master, "DELETE", f"/v1/acl/token/{own}", token="management")
    cluster.wait("the token to be refused", 60, lambda: cluster.ask(node, ["consul", "GET", "/v1/kv/x"])[0][0] == 403)
    result = cluster.member(node)
    fault.seconds = round(result["duration"] / 1000, 1)
    assert result["result"] is False
    assert "token" in result["comment"] or "permission" in result["comment"].lower(), result["comment"]
    assert not any(words in result["comment"] for words in ("no swarm", "lock", "waiting for bootstrap"))
    assert fault.seconds < fault.bound


PRINTED = re.compile(r"`sudo salt ('\*'|[\w-]+) state\.apply(?: pillar='\{consul_retire: ([\w-]+)\}')?`")


def swap(cluster, manager, worker):
    """Swap two nodes' roles in the site file, apply to all, and run what the states print; return those commands."""

    def edit(site):
        site["nodes"][manager]["roles"], site["nodes"][worker]["roles"] = ["worker"], ["manager"]

    cluster.change_site(edit)
    first = cluster.apply()
    config = next(one for key, one in first[manager].items() if key.startswith("consul_agent_|-consul.config_|-"))
    assert config["result"] is False, config
    commands = PRINTED.findall(config["comment"])
    assert [target for target, retired in commands if retired] == [manager], config["comment"]
    for target, retired in commands:
        nodes = [] if target == "'*'" else [target]
        cluster.must_apply(*nodes, pillar={"consul_retire": retired} if retired else None)
    return commands


def test_g02_a_manager_and_a_worker_swap_their_roles(fault, cluster):
    """And back, for the rows that come later. `Cluster.problems` compares voters and managers with the site file."""
    former, successor = cluster.managers[-1], cluster.workers[0]

    def back():
        if former in cluster.workers:
            swap(cluster, successor, former)

    fault.undo_later("roles in the site file", back)
    fault.begins(f"{former} becomes worker and {successor} manager in one edit of the site file")
    commands = swap(cluster, former, successor)
    fault.recovers("Consul's voters and the swarm's managers to be the site file's", lambda: not cluster.problems())
    fault.measured["commands printed"] = len(commands)
    assert successor in cluster.managers and former in cluster.workers
