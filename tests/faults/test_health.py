"""A cluster is whole if every node of the site has its place and takes tasks; nodes that were moved can be left out."""

import health
import pytest

MANAGERS = ["pi1", "pi2", "pi3"]
NAMES = [*MANAGERS, "pi4"]


class Seen:
    """A cluster as its nodes describe it, whole but for `changed`: what a node's engine or its entry says instead."""

    names, managers, master = NAMES, MANAGERS, "pi1"

    def __init__(self, facts=None, listed=None, voters=MANAGERS, site=None):
        self.facts, self.listed, self.voters = facts or {}, listed or {}, voters
        self.site = {"nodes": {name: (site or {}).get(name, {}) for name in NAMES}}

    def is_on(self, node):
        return True

    def look(self):
        fact = {"state": "active", "error": "", "alive": NAMES, "leader": "10.0.0.1"}
        return {n: {**fact, "control": n in MANAGERS, **self.facts.get(n, {})} for n in NAMES}

    def nodes_seen(self):
        entry = {"id": "i", "state": "ready", "availability": "active", "reachable": True}
        roles = {name: "manager" if name in MANAGERS else "worker" for name in NAMES}
        found = [{**entry, "name": n, "role": roles[n], **self.listed.get(n, {})} for n in NAMES]
        return [one for one in found if one["role"]]

    def ask(self, node, request):
        return [[200, {"Servers": [{"Node": name, "Voter": True} for name in self.voters]}]]


GONE, DRAINED = {"role": ""}, {"pi4": {"availability": "drain"}}


@pytest.mark.parametrize(
    ("cluster", "found"),
    [
        (Seen(), ""),
        (Seen(listed={"pi4": {"availability": "pause"}}), "pi4: availability pause"),
        (Seen(listed={"pi4": {"availability": "drain"}}, site={"pi4": {"availability": "drain"}}), ""),
        (
            Seen(listed={"pi4": {"availability": "active"}}, site={"pi4": {"availability": "drain"}}),
            "availability active",
        ),
        (Seen(listed={"pi4": GONE}), "ready in the swarm"),
        (Seen(listed={"pi4": {"name": ""}}), "ready in the swarm"),
        (Seen(facts={"pi4": {"state": "error", "error": "x"}}), "pi4: swarm error"),
        (Seen(facts={"pi3": {"control": False}}), "pi3: no manager"),
        (Seen(listed={"pi2": {"reachable": False}}), "managers reachable"),
        (Seen(voters=NAMES), "Consul's voters"),
    ],
)
def test_what_is_not_whole_is_named(cluster, found):
    seen = health.problems(cluster)
    assert (len(seen) == 1 and found in seen[0]) if found else seen == [], seen


@pytest.mark.parametrize(
    ("moved", "cluster"),
    [
        ("pi4", Seen(listed={"pi4": GONE})),
        ("pi4", Seen(facts={"pi4": {"state": "inactive", "control": True}}, voters=NAMES)),
        ("pi3", Seen(facts={"pi3": {"control": False}}, listed={"pi3": {"role": "worker"}}, voters=MANAGERS[:2])),
        ("pi4", Seen(listed={"pi4": {"name": "kitchen"}})),
    ],
)
def test_a_moved_node_can_be_left_out(moved, cluster):
    assert health.problems(cluster)
    assert health.problems(cluster, {moved}) == []
