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
    # An operator demotes a manager, removes the worker's entry, renames it, has the states put it right.
    {"t": 17.1, "kind": "invoke", "fault": "demote", "nodes": ["c"]},
    {"t": 17.2, "kind": "invoke", "fault": "node rm", "nodes": ["d"]},
    {"t": 17.3, "kind": "invoke", "fault": "rename", "nodes": ["d"]},
    {"t": 17.4, "kind": "invoke", "fault": "rotate", "nodes": ["b"]},
    observe(17.5, managers={"a": ["a", "b"]}, tasks={"d": "x6"}),
    {"t": 17.6, "kind": "apply", "failures": {"d": ["d was removed"]}, "moved": ["c", "d"], "whole": False},
    {"t": 17.7, "kind": "cure", "command": "docker swarm leave", "node": "d", "why": ""},
    {"t": 17.8, "kind": "apply", "failures": {}, "healed": True},
    {"t": 17.9, "kind": "converged", "seconds": 1.0},
    # Roles are swapped in the site file, and back.
    {"t": 18, "kind": "invoke", "fault": "swap", "nodes": ["d", "c"]},
    observe(18.1, managers={"a": ["a", "b", "d"]}),
    {"t": 18.2, "kind": "apply", "failures": {}, "moved": ["c", "d"], "whole": True},
    {"t": 18.3, "kind": "converged", "seconds": 1.0},
    observe(18.4),
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
        {"t": 20, "kind": "invoke", "fault": "role", "nodes": ["d"]},
        observe(21, tasks={"d": "x9"}),
    ],
    "apply after healing": [{"t": 20, "kind": "apply", "failures": {"d": ["Consul has no leader"]}, "healed": True}],
    "manager demoted": [observe(20, managers={"b": ["a", "b"]})],
    "another than the demoted manager": [
        {"t": 20, "kind": "invoke", "fault": "demote", "nodes": ["c"]},
        observe(21, managers={"a": ["a", "c"]}),
    ],
    "still demoted after all was put right": [
        {"t": 20, "kind": "invoke", "fault": "swap", "nodes": ["d", "c"]},
        {"t": 21, "kind": "converged", "seconds": 1.0},
        observe(22, managers={"a": ["a", "b", "d"]}),
    ],
    "container lost as tokens were rotated": [
        {"t": 20, "kind": "invoke", "fault": "rotate", "nodes": ["d"]},
        observe(21, tasks={"d": "x9"}),
    ],
    "success beside a removed node": [{"t": 20, "kind": "apply", "failures": {}, "moved": ["d"], "whole": False}],
    "printed command failed": [{"t": 20, "kind": "cure", "command": "docker swarm leave", "node": "d", "why": "no"}],
    "not whole": [{"t": 20, "kind": "converged", "seconds": None, "problems": ["d: swarm error"]}],
    "traceback": [{"t": 20, "kind": "apply", "failures": {"d": ["Traceback (most recent call last)"]}}],
}


def test_a_good_history_has_no_violation():
    assert history.violations(GOOD, MANAGERS) == []


@pytest.mark.parametrize("what", BAD)
def test_each_violation_is_seen(what):
    assert len(history.violations(GOOD + BAD[what], MANAGERS)) == 1
