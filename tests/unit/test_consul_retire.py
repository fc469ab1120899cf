"""Which commands bring Consul's servers to the site file, and when one may leave. On agents: test_consul_roles.py."""

import pytest

from omega.consul import policies, retire
from omega.consul.servers import Server

LAST = "sudo salt '*' state.apply"


def site(**roles):
    return {"nodes": {name: {"roles": own.split()} for name, own in roles.items()}}


def peers(*names, bad=()):
    return [Server(name, f"{name}:8300", True, name == "m", name not in bad, 1) for name in names]


def gone(name):
    return f"sudo salt {name} state.apply pillar='{{consul_retire: {name}}}'"


@pytest.mark.parametrize(
    ("roles", "now", "commands"),
    [
        ({"m": "master manager", "a": "manager", "b": "manager"}, "mab", []),
        ({"m": "master manager", "a": "worker", "b": "worker"}, "mab", [gone("b"), gone("a"), LAST]),
        ({"m": "master manager", "a": "manager", "b": "worker"}, "mab", [gone("b"), gone("a"), LAST]),
        (
            {"m": "master manager", "a": "manager", "b": "worker", "c": "manager"},
            "mab",
            ["sudo salt c state.apply", gone("b"), LAST],
        ),
        ({"m": "master manager", "a": "manager", "b": "worker", "c": "manager"}, "mabc", [gone("b"), LAST]),
        ({"m": "master worker", "a": "worker", "b": "manager"}, "mab", [gone("b"), gone("a"), LAST]),
        ({"m": "master manager", "a": "manager", "b": "manager"}, "mabx", []),  # x: `rpiomega remove`
    ],
)
def test_new_servers_come_first_then_one_leaves_after_the_other(roles, now, commands):
    assert retire.commands(site(**roles), peers(*now)) == commands


SWAP = {"m": "master manager", "a": "manager", "b": "worker", "c": "manager"}


@pytest.mark.parametrize(
    ("now", "bad", "said"),
    [
        ("mabc", "", None),
        ("mabc", "b", None),  # its own health does not matter to the others
        ("mab", "", "until c joined Consul's servers: first `sudo salt c state.apply`, then again `sudo salt b"),
        ("mabc", "a", "(a is a voter, not healthy): bring a back, then again `sudo salt b"),
        ("mabcx", "x", "(x is a voter, not healthy): `rpiomega remove x`, then again `sudo salt b"),
    ],
)
def test_a_server_leaves_only_while_the_others_are_whole(now, bad, said):
    problem = retire.blocked(site(**SWAP), peers(*now, bad=bad), "b")
    assert problem is None if said is None else said in problem


def test_an_even_number_of_managers_is_one_clause():
    assert retire.uneven(site(m="master manager", a="manager", b="manager")) == ""
    assert "2 managers survive no more failures than 1" in retire.uneven(site(m="master manager", a="manager"))


def test_a_raft_peer_keeps_a_servers_rights_in_the_site_and_out_of_it():
    for name in ("b", "former"):
        for peer in (True, False):
            rules = policies.rules(site(**SWAP), name, peer)
            assert ('operator = "read"' in rules, policies.RESTART_LOCK in rules) == (peer, peer)
