"""The checker of histories sees each thing that must never be."""

import history
import pytest

MANAGERS = ["a", "b", "c"]


def observe(t, **changed):
    entry = {"clusters": {"a": "one", "b": "one"}, "record": {"fence": 5, "cluster_id": "one"}}
    entry |= {"managers": {"a": ["a", "b", "c"]}, "tasks": {"d": "x4"}}
    return {"t": t, "kind": "observe", **entry, **changed}


def lock(t, node, event, fence, seconds=0.0):
    return {"t": t, "kind": "lock", "node": node, "event": event, "fence": fence, "seconds": seconds}


GOOD = [
    observe(0, tasks={"d": "x1"}),
    {"t": 1, "kind": "invoke", "fault": "power", "nodes": ["d"]},
    observe(2, tasks={}),
    observe(3, tasks={"d": "x2"}),
    lock(1, "a", "held", 7),
    lock(2, "a", "written", 7, 0.5),
    lock(5, "b", "held", 9),
    lock(6, "a", "written", 7, 2.5),  # begun at 3.5, its answer came late
    {"t": 9, "kind": "converged", "seconds": 4.0},
    observe(10, tasks={"d": "x3"}, record={}),
    {"t": 11, "kind": "apply", "failures": {"d": ["Consul has no leader"]}},
    {"t": 12, "kind": "invoke", "fault": "leave", "nodes": ["d"]},
    observe(13),
    {"t": 14, "kind": "apply", "failures": {}, "healed": True},
    {"t": 15, "kind": "converged", "seconds": 1.0},
    observe(16, tasks={"d": "x3\nx4"}),  # the swarm had given d up, and not ended its first container yet
    observe(17),
]
BAD = {
    "second swarm": [observe(20, clusters={"a": "one", "b": "two"})],
    "fence fell": [observe(20, record={"fence": 4, "cluster_id": "one"})],
    "record renamed": [observe(20, record={"fence": 9, "cluster_id": "two"})],
    "one fence, two holders": [lock(20, "c", "held", 9)],
    "write after a higher fence": [lock(20, "a", "written", 7, 0.1)],
    "container lost": [observe(20), observe(21, tasks={"d": "x9"})],
    "both containers lost": [observe(20, tasks={"d": "x4\nx5"}), observe(21, tasks={"d": "x9"})],
    "container lost as a role changed": [
        {"t": 17, "kind": "invoke", "fault": "role", "nodes": ["d"]},
        observe(18, tasks={"d": "x9"}),
    ],
    "apply after healing": [{"t": 20, "kind": "apply", "failures": {"d": ["Consul has no leader"]}, "healed": True}],
    "manager demoted": [observe(20, managers={"b": ["a", "b"]})],
    "not whole": [{"t": 20, "kind": "converged", "seconds": None, "problems": ["d: swarm error"]}],
    "traceback": [{"t": 20, "kind": "apply", "failures": {"d": ["Traceback (most recent call last)"]}}],
}


def test_a_good_history_has_no_violation():
    assert history.violations(GOOD, MANAGERS) == []


@pytest.mark.parametrize("what", BAD)
def test_each_violation_is_seen(what):
    assert len(history.violations(GOOD + BAD[what], MANAGERS)) == 1
