"""Faults while the swarm is made: the whole election, from nodes in no swarm and a Consul without its keys."""

import os

from cluster import APPLY_BOUND, documents, failures, returned_by

REPEAT = int(os.environ.get("RPIOMEGA_FAULTS_REPEAT", "20"))
KEYS = "/v1/kv/rpiomega/swarm?recurse"


def unmade(fault, cluster):
    """Undo the swarm, by force, as no part of the product does; the next apply makes it again."""
    fault.operator = True
    fault.touched.update(cluster.names)
    if "again" not in [what for what, _ in fault._undo]:
        fault.undo_later("the steady service", cluster.steady)
        fault.undo_later("again", lambda: cluster.problems() and cluster.apply(sls="swarm"))
    for node in reversed(cluster.names):
        cluster.run(node, "docker swarm leave --force", 60, check=False)
    cluster.wait("every node to be in no swarm", 30, lambda: states(cluster) == {"inactive"})
    cluster.consul(cluster.master, "DELETE", KEYS, token="management")


def states(cluster):
    """States of all engines."""
    return {fact["state"] for fact in cluster.look().values()}


def ids(cluster):
    """ClusterIDs of all swarms there are."""
    return {fact["cluster_id"] for fact in cluster.look().values() if fact["cluster_id"]}


def test_f02_the_holder_is_killed_before_its_intent(fault, cluster):
    unmade(fault, cluster)
    first, *others = cluster.managers[1:] + cluster.managers[:1]
    pause = fault.pause_at(first, "omega.swarm.record.Store.write_record")
    cluster.call_later(first, "state.single", "swarm.member", "faults", patch=pause.patch)
    pause.wait()
    held = cluster.ask(first, ["consul", "GET", "/v1/kv/rpiomega/swarm/lock"])[0][1][0]
    fault.begins(f"the job of {first} killed with the lock, before it wrote its intent")
    pause.kill()
    runs = cluster.later(cluster.master, f"salt --out=json --hide-timeout -L {','.join(others)} state.apply swarm")
    fault.recovers("another manager's swarm on record", lambda: cluster.record().get("state") == "ready")
    returned = documents(runs.result(APPLY_BOUND).out)
    assert failures(returned) == {}, failures(returned)
    cluster.must_apply(*cluster.workers, sls="swarm")
    record = cluster.record()
    assert (record["state"], record["by"] in others) == ("ready", True), record
    assert record["fence"] > held["ModifyIndex"]
    assert ids(cluster) == {record["cluster_id"]}
    assert cluster.must_apply(first, sls="swarm")


def test_f03_the_holder_dies_between_init_and_ready(fault, cluster):
    """F03 and F04 are one course of events; each row measures its part of it."""
    both(fault, cluster)


def test_f04_the_holder_that_died_returns_and_completes_its_record(fault, cluster):
    both(fault, cluster)


def both(fault, cluster):
    """Kill the first manager after init and before ready; look at the others; bring it back."""
    unmade(fault, cluster)
    first, *others = cluster.managers[1:] + cluster.managers[:1]
    pause = fault.pause_at(first, "omega.swarm.api.Engine.init", after=True)
    cluster.call_later(first, "state.single", "swarm.member", "faults", patch=pause.patch)
    pause.wait()
    made = ids(cluster)
    assert len(made) == 1
    fault.begins(f"the job of {first} killed after its swarm init, before the record says ready; then its power cut")
    pause.kill()
    fault.power_off(first)
    returned = cluster.apply(*others, *cluster.workers, sls="swarm", bound=240)
    told = round(fault.since(), 1)
    for node, wrong in failures(returned).items():
        text = " ".join(wrong)
        assert f"{first} may hold a swarm" in text, (node, text)
        assert f"swarm.bootstrap_takeover {first}" in text, (node, text)
    assert set(failures(returned)) == {*others, *cluster.workers}
    assert states(cluster) == {"inactive"}
    fault.measured["the others refuse after, s"] = told
    fault.begins(f"{first} killed between init and ready, power cut, and given back")
    fault.power_on(first)
    cluster.wait_salt(cluster.names)
    returned = cluster.apply(sls="swarm")
    assert failures(returned) == {}, failures(returned)
    fault.recovers("all nodes in the one swarm", lambda: not cluster.problems())
    assert ids(cluster) == made == {cluster.record()["cluster_id"]}
    fault.seconds = told if fault.row["id"] == "F03" else fault.seconds


def test_f01_all_managers_begin_in_the_same_second(fault, cluster):
    seconds = []
    for number in range(REPEAT):
        unmade(fault, cluster)
        fault.begins(f"`state.apply swarm` on all nodes at once, {REPEAT} times from nothing")
        returned = cluster.apply(sls="swarm")
        assert failures(returned) == {}, (number, failures(returned))
        fault.recovers("one swarm of three managers", lambda: not cluster.problems())
        assert ids(cluster) == {cluster.record()["cluster_id"]}
        seconds.append(fault.seconds)
    fault.seconds = max(seconds)
    fault.measured |= {"repetitions": f"{len(seconds)} of {REPEAT}", "median, s": sorted(seconds)[len(seconds) // 2]}


def test_g01_the_managers_are_silent_while_a_node_joins(fault, cluster):
    unmade(fault, cluster)
    node = cluster.workers[0]
    cluster.must_apply(*cluster.managers, sls="swarm")
    pause = fault.pause_at(node, "omega.swarm.api.Engine.join")
    run = cluster.call_later(node, "state.single", "swarm.member", "faults", patch=pause.patch)
    pause.wait()
    fault.begins(f"2377/tcp of all managers silent for 60 s, from the request of {node} to join")
    for manager in cluster.managers:
        fault.block(manager, "tcp", 2377)
    pause.go()
    cluster.wait("60 s to pass", 90, lambda: fault.since() >= 60)
    fault.join_network_again()
    result = next(iter(returned_by(run.result(APPLY_BOUND)).values()))
    fault.measured["the run that met it"] = "joined" if result["result"] else "failed"
    assert "docker swarm leave" not in result["comment"], result["comment"]
    cluster.must_apply(sls="swarm")
    fault.recovers("all nodes in the one swarm", lambda: not cluster.problems())


def test_g04_the_worker_token_is_rotated_by_hand_while_nodes_join(fault, cluster):
    unmade(fault, cluster)
    run = cluster.later(cluster.master, "salt --out=json --hide-timeout '*' state.apply swarm")
    record = cluster.wait(
        "the swarm on record", 120, lambda: cluster.record().get("state") == "ready" and cluster.record()
    )
    cluster.run(record["by"], "docker swarm join-token --quiet --rotate worker >/dev/null", 60)
    fault.begins(f"`docker swarm join-token --rotate worker` by hand on {record['by']}, which has just made the swarm")
    returned = documents(run.result(APPLY_BOUND).out)
    assert failures(returned) == {}, failures(returned)
    fault.recovers("all nodes in the one swarm", lambda: not cluster.problems())
