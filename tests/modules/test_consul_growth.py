"""The servers of a site change: from one to three, back to fewer, two lost for good, all lost but a snapshot."""

import functools
import json
from pathlib import Path

import ailing_engine
import pytest
import tiny_image
from consul_server import ConsulServer
from consul_site import ConsulSite, until
from dockerds import missing

from omega.consul import agent as consul_agent
from omega.consul import client as consul_client
from omega.consul import recover, snapshot
from omega.consul import servers as consul_servers
from omega.docker import engine as docker_engine

pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]
SERVERS = ("pi1", "pi2", "pi3")
MASTER, MANAGER, WORKER = ["master", "manager"], ["manager"], ["worker"]
RECORD, VALUE = "rpiomega/swarm/record", {"state": "ready", "cluster_id": "c1"}


def peers(agent):
    """{name: whether it votes} by Raft."""
    return {server.name: server.voter for server in consul_servers.read(agent)}


@pytest.mark.long
def test_one_server_grows_to_three_and_nothing_is_lost_then_shrinks_only_when_told(states):
    """All three restart at the same moment, as `state.apply` on all nodes makes them."""
    with ConsulSite({"pi1": MASTER, "pi2": WORKER, "pi3": WORKER}) as site:
        site.apply()
        management = site["pi1"].management()
        assert peers(management) == {"pi1": True}
        management.put(RECORD, VALUE)
        tokens = {agent.name: agent.secrets()["consul"]["token"] for agent in site}

        site.set_roles(pi2=MANAGER, pi3=MANAGER)
        for agent in site:  # one after the other: Salt's loader is not for threads
            assert agent.configure(states)["changes"]["files"] == grown(agent)
        turns = site.together(lambda agent: agent.in_turn())
        assert {name: problem for name, (problem, _) in turns.items()} == dict.fromkeys(SERVERS)
        site.tokens()
        consul_servers.wait_good(management, SERVERS, 60)
        assert {agent.name: agent.secrets()["consul"]["token"] for agent in site} == tokens
        for agent in site:
            until(lambda agent=agent: agent.client().get(RECORD).json() == VALUE, f"{agent.name} reads the record")
            assert agent.configure(states)["changes"] == {}
        assert consul_servers.to_spare(consul_servers.read(management)) == 1

        shrink(site, states)


def grown(agent):
    """The files that change when a site of one server gets three: new servers need another certificate, too."""
    return ["consul.json"] if agent.name == "pi1" else ["consul.json", "tls/cert.pem", "tls/key.pem"]


def shrink(site, states):
    """Three servers to one, by the site file: refused on each until it is told, and not while another is down."""
    site.set_roles(pi2=WORKER, pi3=WORKER)
    before = site["pi3"].settings()
    for test in (True, False):
        refused = site["pi3"].configure(states, test=test)
        assert refused["result"] is False
        assert "consul_retire: pi3" in refused["comment"]
        assert refused["changes"] == {}
    assert site["pi3"].settings() == before
    other = site["pi3"].configure(states, consul_retire="pi2")
    assert other["result"] is False, "the flag names another node"

    site["pi2"].stop()
    until(lambda: not _healthy(site, "pi2"), "pi2 is known to be down")
    unsure = site["pi3"].configure(states, consul_retire="pi3")
    assert unsure["result"] is False
    assert "pi2" in unsure["comment"]
    site["pi2"].start()
    consul_servers.wait_good(site["pi1"].management(), SERVERS, 60)

    for name, left in (("pi3", {"pi1": True, "pi2": True}), ("pi2", {"pi1": True})):
        done = site[name].configure(states, consul_retire=name)
        assert done["result"] is True, done
        assert "is a client now" in done["comment"]
        until(lambda left=left: peers(site["pi1"].management()) == left, f"{name} is out")
        site[name].client().wait_ready(30)
        assert site[name].configure(states)["changes"] == {}
    assert site["pi1"].client().get(RECORD).json() == VALUE
    assert not site["pi3"].settings()["server"]


def _healthy(site, name):
    return consul_servers.find(consul_servers.read(site["pi1"].management()), name).healthy


@pytest.mark.long
def test_two_servers_lost_for_good_and_the_third_goes_on_with_all_it_has():
    """F10: peers.json on the one that is left; the others come back empty, as voters."""
    with ConsulSite({"pi1": MASTER, "pi2": MANAGER, "pi3": MANAGER}) as site:
        site.apply()
        consul_servers.wait_good(site["pi1"].management(), SERVERS, 60)
        site["pi1"].management().put(RECORD, VALUE)
        survivor = site["pi2"]
        until(lambda: survivor.client().get(RECORD, stale=True), "the survivor has it")
        with pytest.raises(consul_client.ConsulError) as caught:
            recover.check_lost(survivor.client(), "pi2", lambda: None)
        assert caught.value.kind == "conflict"

        for name in ("pi1", "pi3"):
            site[name].stop(kill=True)
            site[name].wipe()
        until(lambda: survivor.client().leader() is None, "the survivor knows that there is no leader")
        recover.check_lost(survivor.client(), "pi2", lambda: None)

        survivor.stop()
        site["pi1"].start()  # the master, alone and empty: it must not start a cluster of its own
        log = site["pi1"].folder / "log"
        until(lambda: "no known peers, aborting election" in log.read_text(), "the master waits for the others")
        assert site["pi1"].client().leader() is None
        site["pi1"].stop()
        path = recover.write(str(survivor.data), survivor.address)
        assert json.loads(Path(path).read_text())[0]["address"] == f"{survivor.address}:8300"
        survivor.start()
        recover.wait_leader(survivor.client(), "pi2", 60)
        assert peers(survivor.client()) == {"pi2": True}
        for name in ("pi1", "pi3"):
            site[name].start()
        consul_servers.wait_good(site["pi2"].client(), SERVERS, 90)
        for agent in site:
            until(lambda agent=agent: agent.client().get(RECORD).json() == VALUE, f"{agent.name} reads the record")


def test_peers_are_written_beside_real_data_only(tmp_path):
    with pytest.raises(consul_client.ConsulError) as caught:
        recover.write(str(tmp_path), "10.0.0.1")
    assert str(tmp_path) in str(caught.value)
    assert not list(tmp_path.iterdir())


LOGS = ("raft/raft.db", "raft/wal/wal-meta.db")  # where a server keeps its log, in older releases and today


def server_data(folder, *logs):
    """What tells a Consul server's data from a client's or a mere folder."""
    for file, text in (("consul.json", '{"bind_addr": "10.0.0.1"}'), ("node-id", "abc"), *((log, "") for log in logs)):
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text(text)


@pytest.mark.parametrize("logs", [LOGS[:1], LOGS[1:], LOGS])
def test_peers_are_written_whichever_log_the_server_has(tmp_path, logs):
    server_data(tmp_path, *logs)
    path = recover.write(str(tmp_path), "10.0.0.1")
    assert json.loads(Path(path).read_text()) == [{"id": "abc", "address": "10.0.0.1:8300", "non_voter": False}]


def test_a_log_that_was_never_begun_is_no_data(tmp_path):
    server_data(tmp_path)
    (tmp_path / "raft/wal").mkdir(parents=True)
    with pytest.raises(consul_client.ConsulError, match="wal-meta.db"):
        recover.write(str(tmp_path), "10.0.0.1")
    assert not (tmp_path / "raft/peers.json").exists()


@pytest.fixture(params=LOGS)
def survivor(request, load_modules, tmp_path, monkeypatch):
    """recover(): `consul.recover_peers` beside a server without a leader; its data and configuration: tmp_path."""
    server_data(tmp_path, request.param)
    monkeypatch.setattr(recover, "PAUSE", 0)
    with ConsulServer(servers=3).leaderless() as server:
        modules = load_modules(**{"consul.url": server.url})
        yield functools.partial(modules["consul.recover_peers"], confirm="pi1")


@pytest.mark.parametrize("known", [True, False])
def test_an_engine_that_fails_a_recovery_is_one_line_and_nothing_is_written(survivor, tmp_path, monkeypatch, known):
    places = (consul_agent.CONFIG_DIR, consul_agent.DATA_DIR)
    mounts = [{"Destination": place, "Source": str(tmp_path)} for place in places]
    answers = {"/containers/rpiomega-consul/json": {"Id": "a1", "Mounts": mounts}} if known else {}
    with ailing_engine.serve(known=answers) as url:
        monkeypatch.setattr(docker_engine, "connect", functools.partial(docker_engine.connect, url))
        answer = survivor()
    assert (answer["res"], answer["success"]) == (False, False)
    assert "no space left on device" in answer["message"]
    assert "container rpiomega-consul" in answer["message"]
    assert not (tmp_path / "raft/peers.json").exists()


def test_a_recovery_that_cannot_be_written_leaves_the_agent_running(survivor, tmp_path):
    (tmp_path / "raft/peers.json").mkdir()  # in the file's place
    engine = docker_engine.connect()
    places = (consul_agent.CONFIG_DIR, consul_agent.DATA_DIR)
    volumes = [f"{tmp_path}:{place}" for place in places]
    with tiny_image.on_host(engine) as image:
        agent = engine.containers.run(
            image, entrypoint=["sleep", "600"], volumes=volumes, stop_signal="KILL", detach=True
        )
        try:
            before = agent.attrs["State"]["StartedAt"]
            answer = survivor(container=agent.name)
            agent.reload()
        finally:
            agent.remove(force=True)
    assert (answer["res"], answer["success"]) == (False, False)
    assert f"{tmp_path}/raft/peers.json" in answer["message"]
    assert agent.status == "running"
    assert agent.attrs["State"]["StartedAt"] != before


@pytest.mark.long
def test_everything_lost_but_a_snapshot_and_record_and_tokens_are_back():
    """All data folders gone; the secrets on the master are not. Restored: keys, policies and the nodes' tokens."""
    with ConsulSite({"pi1": MASTER, "pi2": WORKER}) as site:
        site.apply()
        site["pi1"].management().put(RECORD, VALUE)
        info = snapshot.rotate(site["pi1"].management(), str(site.root / "snapshots"), keep=2)
        for agent in site:
            agent.stop(kill=True)
            agent.wipe()
        (site.root / "marker").unlink()  # docs/consul.md: the operator says that there is no cluster any more
        site["pi1"].write()
        site["pi1"].start()
        site["pi2"].start()
        management = site["pi1"].management()
        management.wait_ready(60)
        assert management.get(RECORD) is None
        snapshot.restore(management, info["path"])
        until(lambda: management.get(RECORD).json() == VALUE, "the record is back")
        for agent in site:
            agent.client().wait_ready(30)
            until(lambda agent=agent: agent.client().get(RECORD).json() == VALUE, f"{agent.name} reads the record")


def test_only_whole_snapshots_push_old_ones_out(consul_server, tmp_path, monkeypatch):
    client, folder = consul_server.client(), tmp_path / "snapshots"
    names = []
    for second in range(3):
        monkeypatch.setattr(snapshot, "NAMES", f"consul-20260101T00000{second}Z.snap")
        answer = snapshot.rotate(client, str(folder), keep=2)
        names.append(answer["path"])
    (folder / "mine.snap").write_text("somebody's own")
    assert answer["removed"] == ["consul-20260101T000000Z.snap"]
    assert [row["path"] for row in snapshot.found(str(folder))] == names[1:]
    assert folder.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in folder.glob("consul-*")} == {0o600}
    monkeypatch.setattr(snapshot, "NAMES", "consul-20260101T000009Z.snap")
    with pytest.raises(consul_client.ConsulError), consul_server.frozen():
        snapshot.rotate(client, str(folder), keep=1, timeout=1)
    assert [row["path"] for row in snapshot.found(str(folder))] == names[1:], "nothing was deleted"
    for keep, token_file in ((0, None), (1, str(tmp_path / "no token"))):
        with pytest.raises(consul_client.ConsulError) as caught:
            snapshot.rotate(client, str(folder), keep, token_file)
        assert caught.value.kind == "bad_request"
    (folder / "consul-20260101T000002Z.snap").write_bytes(b"cut off")
    assert "damaged" in snapshot.found(str(folder))[-1]["message"]
