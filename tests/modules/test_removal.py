"""Removal of a dead node from Consul and from the master's secrets, on three real servers."""

import inspect
import uuid

import ailing_engine
import pytest
import tiny_image
from consul_server import ConsulCluster

from omega.consul import acl, policies, servers
from omega.consul import client as consul_client
from omega.consul.client import ConsulError
from omega.core.polling import until
from omega.docker import engine as docker_engine
from omega.removal import node


@pytest.fixture(scope="module")
def cluster():
    with ConsulCluster(3, acl=True) as cluster:
        client = cluster.leader().client()
        servers.wait_good(client)
        for server in cluster.servers:
            acl.ensure_policy(client, policies.policy_name(server.name), 'node_prefix "" { policy = "read" }')
            acl.create_token(client, f"rpiomega node {server.name}", [policies.policy_name(server.name)])
        yield cluster


def test_f30_a_dead_server_goes_and_one_that_the_quorum_needs_stays(cluster, tmp_path):
    dead, living = cluster.followers()[0], cluster.leader()
    other = next(server for server in cluster.followers() if server is not dead)
    client = living.client()
    for name in (dead.name, other.name):
        (tmp_path / "consul/nodes" / name).mkdir(parents=True)
        (tmp_path / "consul/nodes" / name / "token").write_text("secret")
    with pytest.raises(ConsulError, match=f"sees {dead.name} as alive"):
        node.forget(client, dead.name, tmp_path)
    dead.kill()
    until(lambda: node.state(client, dead.name) == "failed", 60, f"{dead.name} to be seen as failed")
    until(lambda: not servers.find(servers.read(client), dead.name).healthy, 60, f"{dead.name} to be unhealthy")

    assert "of the others only 1 are healthy voters" in node.look(client, {}, other.name, tmp_path)["refused"]
    seen = node.look(client, {}, dead.name, tmp_path)
    assert seen == {
        "in_site": False,
        "consul": "failed",
        "refused": "",
        "token": True,
        "policy": True,
        "secrets": True,
    }
    done = node.forget(client, dead.name, tmp_path)
    assert done == [
        "taken out of Consul, where it was failed",
        "Consul token revoked",
        "Consul policy deleted",
        "its secrets on the master deleted",
    ]
    assert sorted(server.name for server in servers.read(client)) == sorted([living.name, other.name])
    assert sorted(path.name for path in (tmp_path / "consul/nodes").iterdir()) == [other.name]
    assert node.tokens(client, other.name)
    until(lambda: node.state(client, dead.name) == "absent", 60, f"{dead.name} to be forgotten")
    assert node.forget(client, dead.name, tmp_path) == []
    password = tmp_path / f"backup/nodes/{dead.name}/password"
    password.parent.mkdir(parents=True)
    password.write_text("opens-it")
    (stays,) = node.forget(client, dead.name, tmp_path)
    assert (
        stays
        == f"its backups stay in the bucket, below hosts/{dead.name}, and {password} on the master, which opens them"
    )
    assert password.read_text() == "opens-it"
    assert not any(node.look(client, {}, dead.name, tmp_path)[key] for key in ("token", "policy", "secrets"))


@pytest.mark.parametrize("name", ["", "pi4/", "..", ".", "a/../b", "pi4\n", None])
def test_only_a_nodes_name_leads_to_secrets(cluster, tmp_path, name):
    kept = [tmp_path / "consul" / path for path in ("ca-key.pem", "nodes/pi4/token", "nodes/pi5/token")]
    for path in kept:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("secret")
    for call in (lambda: node.forget(cluster.leader().client(), name, tmp_path),
                 lambda: node.look(cluster.leader().client(), {}, name, tmp_path)):  # fmt: skip
        with pytest.raises(ConsulError, match="is not a node's name") as caught:
            call()
        assert caught.value.kind == "bad_request"
    assert all(path.exists() for path in kept)


def peer(name, good=True):
    return servers.Server(name, "", True, False, good, 0)


def test_f30_a_server_may_go_if_a_majority_can_say_so_and_the_rest_is_one():
    two, three = [peer("a"), peer("b")], [peer("a"), peer("b"), peer("c")]
    assert node.refused(two, "b") == node.refused(three, "c") == ""
    assert node.refused(three, "no server") == ""
    assert node.refused([peer("a"), peer("b", False)], "b")  # nobody could write it down
    assert node.refused([peer("a")], "a")


def test_a_node_without_secrets_in_its_pillar_uses_its_agents_token(tmp_path):
    config = tmp_path / "consul.json"
    config.write_text('{"acl": {"tokens": {"agent": "of the agent"}}}')
    given = {"rpiomega_secrets": {"consul": {"token": "of the pillar"}}}
    assert node.own_token(given, config) == "of the pillar"
    assert node.own_token({}, config) == "of the agent"
    assert node.own_token({}, tmp_path / "none") is None
    with pytest.raises(ConsulError, match="only the site's master has the management token"):
        node.clients({}, given, management=True)


@pytest.fixture
def agent():
    """A container that takes the agent's place, on this machine's engine."""
    engine = docker_engine.connect()
    name = f"rpiomega-test-{uuid.uuid4().hex[:8]}"
    policy = {"Name": "always"}
    with tiny_image.on_host(engine) as image:
        agent = engine.containers.run(
            image, name=name, entrypoint=["sleep"], command=["60"], detach=True, restart_policy=policy
        )
        yield agent
        agent.remove(force=True)


def test_an_agent_that_could_not_leave_is_still_started_after_a_reboot(agent):
    nobody = consul_client.connect("http://127.0.0.1:9")
    with pytest.raises(ConsulError) as caught:
        node.leave_consul(nobody, agent.name)
    assert caught.value.kind == "unreachable"
    agent.reload()
    assert agent.attrs["HostConfig"]["RestartPolicy"]["Name"] == "always"


@pytest.mark.parametrize("found", [True, False])
def test_an_engine_that_fails_while_a_node_leaves_is_one_line(found):
    running = {"Id": "0123456789ab", "State": {"Status": "running"}}
    known = {"/containers/rpiomega-consul/json": running, "/containers/0123456789ab/json": running} if found else {}
    with ailing_engine.serve(known=known) as url, pytest.raises(docker_engine.EngineError) as caught:
        node.leave_consul(consul_client.connect("http://127.0.0.1:9"), "rpiomega-consul", url)
    assert "no space left on device" in str(caught.value)
    assert "container rpiomega-consul" in str(caught.value)


def test_a_removed_node_waits_for_no_clock_and_without_a_bound_for_none(tmp_path):
    ours = [tmp_path / "docker.service.d/rpiomega-clock.conf", tmp_path / "chrony-wait.service.d/rpiomega.conf"]
    owners = tmp_path / "docker.service.d/override.conf"
    for path in [*ours, owners]:
        path.parent.mkdir(exist_ok=True)
        path.write_text("[Unit]\n")
    assert node.leave_clock(str(tmp_path)) == ([str(path) for path in ours], ["chrony-wait"])
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [owners]
    assert node.leave_clock(str(tmp_path)) == ([], [])


def test_a_removed_node_saves_no_more_and_keeps_no_key(tmp_path):
    units, folder = tmp_path / "units", tmp_path / "etc"
    ours = [units / f"rpiomega-backup{part}" for part in (".timer", ".service", "-drill.timer", "-drill.service")]
    secrets = [folder / name for name in ("password", "aws", "maintenance/nodes/pi4/password")]
    owners = [units / "backup-of-mine.timer", folder / "notes"]
    for path in [*ours, *secrets, *owners]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    assert node.backup_timers(str(units)) == ["rpiomega-backup.timer", "rpiomega-backup-drill.timer"]
    removed = node.leave_backup(str(units), str(folder))
    assert sorted(path for path in removed if path != str(folder)) == sorted(map(str, [*ours, *secrets]))
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(owners)
    node.leave_backup(str(units), str(folder))
    (folder / "notes").unlink()
    node.leave_backup(str(units), str(folder))
    assert node.leave_backup(str(units), str(folder)) == []


def test_every_function_of_the_module_is_documented(load_modules):
    modules = load_modules()
    for name in ("removal", "forget", "leave_consul"):
        function = modules[f"rpiomega.{name}"]
        own = [f":param {parameter}:" for parameter in inspect.signature(function).parameters]
        wanted = (*own, ":return:", ":raises CommandExecutionError:", "CLI Example:")
        assert [text for text in wanted if text not in function.__doc__] == [], name
