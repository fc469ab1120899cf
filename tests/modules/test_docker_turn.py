"""Managers that restart their engines at the same moment do so one at a time, and never at the price of the quorum."""

import sys
import time
from concurrent.futures import ThreadPoolExecutor

import ailing_engine
import pytest
from dockerds import Dockerds, missing
from swarm_site import Site

from omega.consul import client as consul_client
from omega.consul import engine_turn as turn
from omega.consul import restart as consul_restart
from omega.docker import service
from omega.swarm.api import Engine

NAMES = ("pi1", "pi2", "pi3")


@pytest.fixture(scope="module")
def site(consul_server, tmp_path_factory):
    if missing():
        pytest.skip(missing())
    with Dockerds(list(NAMES)) as nodes:
        made = Site(nodes, dict.fromkeys(NAMES, "manager"), consul_server, tmp_path_factory.mktemp("site"))
        made.form()
        beat = {"Dispatcher": {"HeartbeatPeriod": 2 * 10**9}}  # a node is down after three
        Engine(nodes["pi1"].base_url).update_swarm(lambda spec: {**spec, **beat})
        yield made


def restart(site, name, act):
    consul = lambda: consul_client.connect(site.consul_url, site.tokens[name])  # noqa: E731
    return turn.in_turn(name, act, consul, site.dockerds[name].base_url, wait=300)


def reachable(daemon):
    """Names of the managers that the swarm reaches, as this daemon knows it."""
    client = daemon.client()
    try:
        nodes = [node.attrs for node in client.nodes.list(filters={"role": "manager"})]
    finally:
        client.close()
    return {node["Description"]["Hostname"] for node in nodes if node["ManagerStatus"]["Reachability"] == "reachable"}


def wait_for(condition, bound=60):
    end = time.monotonic() + bound
    while not condition():
        assert time.monotonic() < end, f"not within {bound} s"
        time.sleep(0.2)


def leader_id(site):
    client = site.dockerds["pi1"].client()
    try:
        managers = [node.attrs for node in client.nodes.list(filters={"role": "manager"})]
    finally:
        client.close()
    return next(node["ID"] for node in managers if node["ManagerStatus"].get("Leader"))


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


@pytest.mark.parametrize("consul", ["returns", "does not return"])
def test_an_engine_that_does_not_come_back_is_named_with_its_last_error(site, monkeypatch, consul):
    monkeypatch.setattr(turn, "BACK_BOUND", 1)
    last = "failed to start daemon: error initializing graphdriver"
    monkeypatch.setattr(service.Service, "last_error", lambda self: last)
    lost = "pi3 was restarted and is not back as a healthy voter"
    if consul == "does not return":  # as where Consul's server is a container of that engine
        monkeypatch.setattr(consul_restart, "in_turn", lambda client, node, act: (act() or lost, ""))
    problem = restart(site, "pi3", lambda: site.dockerds["pi3"].stop())
    site.dockerds["pi3"].restart()
    assert problem.startswith(f"the Docker Engine of pi3 does not answer ({last}); see `journalctl -u docker` on pi3.")
    assert (lost if consul == "does not return" else "pi3 restarted its engine, and is no sound manager") in problem
    assert "\n" not in problem
    wait_for(lambda: reachable(site.dockerds["pi1"]) == set(NAMES))


def test_a_manager_that_was_set_up_anew_does_not_count_twice(site, monkeypatch):
    """Its former self stays in the swarm's list, under the same name and address."""
    monkeypatch.setattr(turn, "SPARE_BOUND", 1)
    # Not the leader: without it nobody could join before the next election.
    manager, name = sorted(NAMES, key=lambda name: site.dockerds[name].info()["NodeID"] != leader_id(site))[:2]
    leader, again = site.dockerds[manager].client(timeout=60), site.dockerds[name].client(timeout=60)
    former = again.info()["Swarm"]["NodeID"]
    site.dockerds[name].wipe()
    try:
        token = leader.swarm.attrs["JoinTokens"]["Manager"]
        remote, own = site.dockerds[manager].address, site.dockerds[name].address
        again.swarm.join([f"{remote}:2377"], token, advertise_addr=own)
        end = time.monotonic() + 60
        while leader.nodes.get(former).attrs["Status"]["State"] != "down":
            assert time.monotonic() < end, f"the former {name} still counts as ready after 60 s"
            time.sleep(0.2)
        entry = next(node for node in Engine(site.dockerds[manager].base_url).nodes() if node.id == former)
        assert not entry.reachable, "it would count when a manager is about to be demoted"
        called = []
        for each in NAMES:
            problem = restart(site, each, lambda each=each: called.append(each))
            assert called == []
            assert f"would lose its quorum, because {name} cannot be reached" in problem
    finally:
        Engine(site.dockerds[manager].base_url).update_node(former, lambda spec: {**spec, "Role": "worker"})
        leader.api.remove_node(former, force=True)
        leader.close()
        again.close()


@pytest.mark.long
def test_a_manager_the_swarm_cannot_spare_is_left_alone(site, monkeypatch):
    monkeypatch.setattr(turn, "SPARE_BOUND", 3)
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
    assert turn.in_turn("pi2", lambda: called.append(1), None, site.dockerds["pi2"].base_url) is None
    assert called == [1]


def test_an_engine_that_does_not_say_what_it_is_to_the_swarm_is_left_alone():
    called = []
    with ailing_engine.serve() as url:
        problem = turn.in_turn("pi2", lambda: called.append(1), None, url)
    assert "engine of pi2 was left alone" in problem
    assert "no space left on device" in problem
    assert called == []


@pytest.mark.parametrize(
    ("swarm", "alone"),
    [
        ({"Managers": 1, "RemoteManagers": [{}]}, True),
        ({"Managers": 3, "RemoteManagers": [{}, {}, {}]}, False),
        # As the engine has it while the swarm elects a leader.
        ({"Managers": 0, "RemoteManagers": [{}, {}, {}]}, False),
        ({"RemoteManagers": None}, True),
    ],
)
def test_a_manager_without_a_leader_is_not_taken_for_the_only_one(swarm, alone):
    assert turn._alone(swarm) is alone


@pytest.fixture
def no_libraries(monkeypatch):
    """As after an update of Salt that brought another Python, or under salt-ssh, whose copy of Salt has none."""

    def consul():
        raise consul_client.ConsulError("missing", "py-consul is missing")

    monkeypatch.setitem(sys.modules, "docker", None)
    return consul


def test_without_its_libraries_a_manager_leaves_its_engine_alone_and_names_the_bootstrap(site, no_libraries):
    called, url = [], site.dockerds["pi3"].base_url
    problem = turn.in_turn("pi3", lambda: called.append(1), no_libraries, url)
    assert "run `rpiomega bootstrap pi3`" in problem
    consul = lambda: consul_client.connect(site.consul_url, site.tokens["pi3"])  # noqa: E731
    problem = turn.in_turn("pi3", lambda: called.append(1), consul, url, wait=60)
    assert "`docker` is missing" in problem
    assert "waited" not in problem, "a library does not come back by waiting"
    assert called == []


def test_without_its_libraries_a_node_of_no_swarm_minds_only_a_consul_of_its_own(site, no_libraries, monkeypatch):
    called, known = [], [("/info", {"Swarm": {"LocalNodeState": "inactive"}})]
    with ailing_engine.serve(known=known) as url:
        monkeypatch.setattr(consul_client, "DEFAULT_URL", site.consul_url)
        problem = turn.in_turn("pi3", lambda: called.append(1), no_libraries, url)
        assert "run `rpiomega bootstrap pi3`" in problem
        assert called == []
        monkeypatch.setattr(consul_client, "DEFAULT_URL", "http://127.0.0.1:9")
        assert turn.in_turn("pi3", lambda: called.append(1), no_libraries, url) is None
        assert called == [1]
    assert turn.in_turn("pi3", lambda: called.append(1), no_libraries, url) is None
    assert called == [1, 1], "where no engine is, nobody needs a turn"
