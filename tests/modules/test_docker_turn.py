"""Managers that restart their engines at the same moment do so one at a time, and never at the price of the quorum."""

import time
from concurrent.futures import ThreadPoolExecutor

import omega_consul
import omega_docker_turn
import pytest
from dockerds import Dockerds, missing
from swarm_site import Site

NAMES = ("pi1", "pi2", "pi3")


@pytest.fixture(scope="module")
def site(consul_server, tmp_path_factory):
    if missing():
        pytest.skip(missing())
    with Dockerds(list(NAMES)) as nodes:
        made = Site(nodes, dict.fromkeys(NAMES, "manager"), consul_server, tmp_path_factory.mktemp("site"))
        made.form()
        yield made


def restart(site, name, act):
    consul = lambda: omega_consul.connect(site.consul_url, site.tokens[name])  # noqa: E731
    return omega_docker_turn.in_turn(name, act, consul, site.dockerds[name].base_url, wait=120)


def reachable(daemon):
    """Names of the managers that the swarm reaches, as this daemon knows it."""
    client = daemon.client()
    try:
        nodes = [node.attrs for node in client.nodes.list(filters={"role": "manager"})]
    finally:
        client.close()
    return {node["Description"]["Hostname"] for node in nodes if node["ManagerStatus"]["Reachability"] == "reachable"}


def test_all_at_once_restart_one_after_the_other(site):
    down, seen = set(), {}

    def act(name):
        down.add(name)
        # The swarm notices late that a manager is gone: who is restarting now counts, too.
        seen[name] = reachable(site.dockerds[name]) - down | {name}
        site.dockerds[name].restart()
        down.remove(name)

    with ThreadPoolExecutor(len(NAMES)) as pool:
        problems = list(pool.map(lambda name: restart(site, name, lambda: act(name)), NAMES))
    assert problems == [None] * 3
    assert seen == dict.fromkeys(NAMES, set(NAMES)), "somebody restarted while another was away"


@pytest.mark.long
def test_a_manager_the_swarm_cannot_spare_is_left_alone(site, monkeypatch):
    monkeypatch.setattr(omega_docker_turn, "SPARE_BOUND", 3)
    site.dockerds["pi3"].stop()
    # Only a leader that has missed its heartbeats calls it unreachable.
    end = time.monotonic() + 30
    while "pi3" in site.roles_now("pi1"):
        assert time.monotonic() < end, "pi3 still counts as ready after 30 s"
        time.sleep(0.2)
    called = []
    try:
        problem = restart(site, "pi1", lambda: called.append("pi1"))
    finally:
        site.dockerds["pi3"].start()
    assert "would lose its quorum, because pi3 cannot be reached" in problem
    assert called == []


def test_an_engine_that_is_off_needs_no_turn(site):
    site.dockerds["pi2"].stop()
    called = []
    assert omega_docker_turn.in_turn("pi2", lambda: called.append(1), None, site.dockerds["pi2"].base_url) is None
    assert called == [1]
