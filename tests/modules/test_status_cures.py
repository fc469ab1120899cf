"""What `rpiomega status` advises about the swarm, done as it says on real daemons in the situation that prints it."""

import re
import subprocess

import ghost
import pytest
from dockerds import Dockerds, missing
from swarm_site import until

from rpiomega.node.steps import cluster
from rpiomega.site.schema import Site
from rpiomega.status import judge, picture

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "runs")
NAMES = ("pi1", "pi2", "pi3")


@pytest.fixture(scope="module")
def dockerds():
    with Dockerds(list(NAMES)) as started:
        yield started


@pytest.fixture
def formed(dockerds):
    """A swarm of three managers."""
    dockerds.forget_swarm()
    init(dockerds["pi1"])
    token = dockerds["pi1"].client().swarm.attrs["JoinTokens"]["Manager"]
    for name in NAMES[1:]:
        dockerds[name].client(60).swarm.join([dockerds["pi1"].address], token, advertise_addr=dockerds[name].address)
    until(lambda: len(reachable(dockerds)) == 3, 60, "three managers")
    return dockerds


def init(daemon):
    """Make a swarm of one manager, whose heartbeats end soon."""
    daemon.client(60).swarm.init(advertise_addr=daemon.address, dispatcher_heartbeat_period=1_000_000_000)


def listed(dockerds):
    """The swarm's nodes, as `status` reads them on pi1."""
    return [cluster._node(node) for node in dockerds["pi1"].client().api.nodes()]


def reachable(dockerds):
    return [node for node in listed(dockerds) if node["reachable"]]


def looked(dockerds, names=NAMES, **changed):
    """Give check -> finding of `status` with these nodes in the site; `changed` are swarm facts of one node."""
    consul = {"error": "", "members": {}, "leader": "", "peers": [], "record": {}}
    facts = {}
    for name in names:
        info = {"Swarm": {"LocalNodeState": "inactive"}}
        if dockerds[name].dockerd.poll() is None:
            info = dockerds[name].client().info()
        swarm = {**cluster._swarm(info, ""), **changed.get(name, {})}
        nodes = listed(dockerds) if name == "pi1" else []
        services = {"salt-minion": True, "salt-master": True}
        facts[name] = {"swarm": swarm, "nodes": nodes, "consul": consul, "services": services, "b2": ""}
    facts["pi1"]["consul"] = {**consul, "record": {"state": "ready", "cluster_id": facts["pi1"]["swarm"]["cluster_id"]}}
    roles = {name: ["manager", *(["master"] if name == "pi1" else [])] for name in names}
    nodes = {name: {"name": name, "address": dockerds[name].address, "roles": roles[name]} for name in names}
    site = Site.model_validate({"cluster": "omega", "nodes": nodes})
    # No agent of Consul runs here.
    return {found.check: found for found in judge.judge(picture.compose(site, facts, {})) if found.check != "consul"}


def do(daemon, cure, pattern):
    """Run the docker command of a cure that `pattern` finds, on a daemon; it has to be accepted."""
    command = re.search(pattern, cure)[0].replace("sudo ", "").replace("docker ", f"docker -H {daemon.base_url} ")
    done = subprocess.run(["sh", "-ec", command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, f"{command}: {done.stderr}"


REMOVE = r"(docker node demote \S+ && )?docker node rm [a-z0-9]+"
DRAIN = r"docker node update --availability drain [a-z0-9]+"


def test_a_manager_of_another_swarm_leaves_it(dockerds):
    dockerds.forget_swarm()
    for name in ("pi1", "pi2"):
        init(dockerds[name])
    found = looked(dockerds, ("pi1", "pi2"))["one-swarm"]
    assert found.node == "pi2"
    do(dockerds["pi2"], found.cure, r"sudo docker swarm leave [a-z-]+")
    assert dockerds["pi2"].info()["LocalNodeState"] == "inactive"
    assert "one-swarm" not in looked(dockerds, ("pi1", "pi2"))


def test_an_old_entry_of_a_manager_is_removed(formed):
    formed["pi3"].wipe()
    until(lambda: any(node["state"] == "down" for node in listed(formed)), 60, "the old entry to be down")
    do(formed["pi1"], looked(formed)["old-entry"].cure, REMOVE)
    assert {node["name"] for node in listed(formed)} == {"pi1", "pi2"}


def test_a_second_node_of_a_name_is_drained_and_removed_once_it_is_off(formed):
    found = looked(formed, pi3={"node_id": "another"})["twin"]
    do(formed["pi1"], found.cure, DRAIN)
    assert [node["name"] for node in listed(formed) if node["availability"] == "drain"] == ["pi3"]
    formed["pi3"].stop()
    until(lambda: any(node["state"] == "down" for node in listed(formed)), 60, "it to be down")
    do(formed["pi1"], found.cure, REMOVE)
    assert {node["name"] for node in listed(formed)} == {"pi1", "pi2"}


def test_a_node_that_the_site_does_not_know_is_drained(formed):
    do(formed["pi1"], looked(formed, ("pi1", "pi2"))["unknown-node"].cure, DRAIN)
    assert [node["name"] for node in listed(formed) if node["availability"] == "drain"] == ["pi3"]


def test_entries_that_broken_joins_left_are_removed(formed):
    token = formed["pi1"].client().swarm.attrs["JoinTokens"]
    for role in ("Worker", "Manager"):
        ghost.leave_one(formed["pi1"].address, token[role])
    until(lambda: len(listed(formed)) == 5, 20, "two entries more")
    found = looked(formed)
    assert set(found) == {"unfinished-join"}
    do(formed["pi1"], found["unfinished-join"].cure, r"docker node rm( [a-z0-9]+){2}")
    assert looked(formed) == {}


def test_a_node_under_another_hostname_gets_its_own_back(formed):
    formed["pi3"].run("hostname", "kitchen")
    try:
        until(lambda: "hostname" in looked(formed), 60, "the swarm to see it")
        found = looked(formed)
        assert set(found) == {"hostname"}
        name = re.search(r"hostnamectl set-hostname (\S+)", found["hostname"].cure)[1]
    finally:
        formed["pi3"].run("hostname", name if "name" in locals() else "pi3")
    until(lambda: looked(formed) == {}, 60, "the swarm to see the old one again")


def test_a_node_that_was_removed_by_force_is_told_from_one_in_order(formed):
    engine = formed["pi1"].client().api
    node_id = formed["pi3"].info()["NodeID"]
    node = engine.inspect_node(node_id)
    engine.update_node(node_id, node["Version"]["Index"], {**node["Spec"], "Role": "worker"})
    until(lambda: not engine.inspect_node(node_id).get("ManagerStatus"), 60, "pi3 to be out of Raft")
    until(lambda: not formed["pi3"].info()["ControlAvailable"], 60, "pi3 to be a worker")
    engine.remove_node(node_id, force=True)
    found = looked(formed)
    assert (found["unlisted"].node, found["unlisted"].severity) == ("pi3", "error")
    assert node_id in found["unlisted"].what
