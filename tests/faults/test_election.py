"""Faults around the election's lock, with the product's own lock held on the nodes."""

import time

from cluster import HEAL_BOUND
from nodes import Failed
from test_consul import KEY, events, tidy

DELAY = 15  # the lock-delay that Injector.holder asks for, s
LOOK = 2  # from the end of a session until a look sees it, s


def contenders(fault, cluster, first):
    """Have `first` hold the lock and the other managers contend for it; returns {node: Job}."""
    tidy(fault, cluster)
    jobs = {first: fault.holder(first, KEY)}
    cluster.wait(f"{first} to hold the lock", 60, lambda: events(jobs[first], "written"))
    for node in cluster.managers:
        if node != first:
            jobs[node] = fault.holder(node, KEY)
    return jobs


def successor(jobs, first):
    """The first `held` line of another node than `first`, with its node; None while there is none."""
    held = [(line, node) for node, job in jobs.items() if node != first for line in events(job, "held")]
    return min(held, key=lambda pair: pair[0]["at"]) if held else None


def follow(fault, cluster, first, jobs, began):
    """Wait for the next holder; its fence must be higher. Seconds are by the clock all nodes share."""
    old = events(jobs[first], "held")[0]["fence"] if cluster.is_on(first) else fault.measured.pop("_fence")
    line, node = fault.recovers("another holder", lambda: successor(jobs, first))
    fault.seconds = round(line["at"] - began, 1)
    assert line["fence"] > old
    fault.measured["next holder"] = node
    return line


def test_f06_the_holders_node_loses_power(fault, cluster):
    leader = cluster.consul_leader()
    first = next(name for name in cluster.managers[1:] if name != leader)
    jobs = contenders(fault, cluster, first)
    fault.measured["_fence"] = events(jobs[first], "held")[0]["fence"]
    fault.begins(f"power of {first}, which holds the lock, cut")
    began = time.time()
    fault.power_off(first)
    follow(fault, cluster, first, jobs, began)


def test_f07_the_holders_node_leads_consul_too(fault, cluster):
    first = cluster.consul_leader()
    jobs = contenders(fault, cluster, first)
    fault.measured["_fence"] = events(jobs[first], "held")[0]["fence"]
    fault.begins(f"power of {first} cut, which holds the lock and leads Consul")
    began = time.time()
    fault.power_off(first)
    follow(fault, cluster, first, jobs, began)


def answer(cluster, node, verb, key, body):
    """Status of a write by a node; one that met a connection to a server that is gone (500) is sent again."""
    path = f"/v1/kv/{key}"
    return cluster.wait(
        "an answer that is not 500",
        20,
        lambda: (s := cluster.ask(node, ["consul", verb, path, body])[0][0]) != 500 and s,
    )


def test_f13_a_stray_write_on_the_lock(fault, cluster):
    first, other, _ = cluster.managers
    worker = cluster.workers[0]
    tidy(fault, cluster)
    for verb, body in (("PUT", "stray"), ("DELETE", None)):
        for key in (KEY, "rpiomega/swarm/lock", "rpiomega/swarm/record"):
            assert answer(cluster, worker, verb, key, body) == 403, (verb, key)
    slowest = 0
    for verb, body in (("PUT", "stray"), ("DELETE", None)):
        job = fault.holder(first, KEY)
        cluster.wait("the lock to be held", 90, lambda job=job: events(job, "written"))
        fault.begins(f"{verb} on the lock's key with the management token, as an operator may")
        cluster.consul(cluster.master, verb, f"/v1/kv/{KEY}", body, token="management")
        fault.recovers("the holder to give up", lambda job=job: events(job, "lost"))
        slowest = max(slowest, fault.seconds)
        fence = events(job, "held")[0]["fence"]
        following = fault.holder(other, KEY, hold=1)
        cluster.wait("the next holder", 90, lambda job=following: events(job, "released"))
        assert events(following, "held")[0]["fence"] > fence
    fault.seconds = slowest


def gone(cluster, node, session):
    """When it was asked, in seconds since the epoch, if a session is no more; None if it is, or nobody can say."""
    asked = time.time()
    status, answer = cluster.ask(node, ["consul", "GET", f"/v1/session/info/{session}"])[0]
    if status != 200:
        raise Failed(f"{node}: {status}: {answer}")
    return None if answer else asked


def test_f17_the_holder_is_cut_off_and_gives_up_before_another_may_start(fault, cluster):
    first, *others = cluster.managers
    jobs = contenders(fault, cluster, first)
    fault.begins(f"{first}, which holds the lock, cut off from {' and '.join(others)} for 30 s")
    began = time.time()
    session = events(jobs[first], "held")[0]["session"]
    fault.partition(first, others)
    ended = cluster.wait("the holder's session to end", fault.bound - DELAY, lambda: gone(cluster, others[0], session))
    fault.recovers("the holder to give up", lambda: events(jobs[first], "lost"))
    lost = events(jobs[first], "lost")[0]["at"]
    fault.measured["holder gave up after, s"] = round(lost - began, 1)
    assert lost - began <= 30
    line = follow(fault, cluster, first, jobs, began)
    assert lost < line["at"], "two holders at the same time"
    fault.measured["lock-delay, s"] = round(line["at"] - ended, 1)
    assert line["at"] - ended > DELAY - LOOK, "nobody waited for the lock-delay"
    assert not [one for one in events(jobs[first], "written") if one["at"] > line["at"]]
    fault.join_network_again()
    cluster.wait_healthy(HEAL_BOUND)
    fault.measured["whole again, s"] = round(time.time() - began, 1)
    again = cluster.member(first)
    assert again["result"] is True, again["comment"]
