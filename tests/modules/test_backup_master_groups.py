"""The groups that only a master or a manager has, with a real Consul, a real swarm and a real restic."""

import pathlib
import subprocess

import pytest
from backup_site import Node, entry
from dockerds import Dockerds, Unsupported, missing

from omega.backup import drill, plan
from omega.consul import snapshot

pytestmark = pytest.mark.long


@pytest.fixture
def node(tmp_path):
    made = Node(tmp_path, None).init()
    yield made
    made.close()


@pytest.fixture
def master(node, consul_server, load_modules):
    """The module `backup` of a master as its minion loads it."""
    token = node.root / "management.token"
    token.write_text(f"{consul_server.token}\n")
    node.write_settings(master=True, roles=("master",), docker_url=f"unix://{node.root}/none.sock")
    names = {"settings": "etc", "state": "var", "run": "run"}
    folders = {f"backup.{key}_dir": str(node.root / name) for key, name in names.items()}
    more = {"backup.restic": node.repository.program, "backup.consul_token_file": str(token)}
    return load_modules(**folders, **more, **{"consul.url": consul_server.url})


def prove(node):
    """Return the drill's checks as {name: cause}."""
    done = drill.Drill(node.repository, node.places, node.client, parts=1, secrets=str(node.root / "none")).run()
    return {one["name"]: one["cause"] for one in done["checks"]}


def restored(node, saved, below):
    folder = node.root / "restored"
    command = [node.repository.program, "-r", node.repository.url, "--no-cache", "-p", node.repository.password_file]
    subprocess.run([*command, "restore", saved["snapshot"], "--target", folder], check=True, capture_output=True)
    return [path for path in (folder / str(below).lstrip("/")).rglob("*") if path.is_file()]


def test_a_run_saves_a_snapshot_of_consul_that_consul_takes_back(node, master, consul_server):
    client = consul_server.client()
    client.request("put", "/v1/kv/kept", data=b"value", what="test")
    report = master["backup.run"](groups="consul")
    saved = entry(report, "consul")
    assert (report["ok"], saved["files"]) == (True, 1), report
    assert not (pathlib.Path(node.places.run) / "consul").exists()
    (file,) = restored(node, saved, f"{node.places.run}/consul")
    assert file.stat().st_mode & 0o777 == 0o600
    assert snapshot.inspect(str(file))["index"] > 0
    client.request("delete", "/v1/kv/kept", what="test")
    snapshot.restore(client, str(file))
    assert client.request("get", "/v1/kv/kept", [("raw", "1")], what="test", raw=True)[1] == b"value"
    assert prove(node) == {"snapshots": "", "consul": "", "repository": ""}


def test_a_token_that_consul_refuses_fails_the_group_in_one_line(node, master):
    (node.root / "management.token").write_text("00000000-0000-4000-8000-000000000000\n")
    saved = entry(master["backup.run"](groups="consul"), "consul")
    assert not saved["ok"]
    assert "Consul's snapshot failed: " in saved["cause"]
    assert "\n" not in saved["cause"]


def test_what_a_new_master_needs_is_in_the_group_salt(node, master, monkeypatch):
    names = ["etc/salt/pki/master/master.pem", "etc/salt/master.d/own.conf", "secrets/consul/management.token"]
    names += ["srv/pillar/site.sls", "etc/salt/pki/minion/minion.pem", "etc/salt/pki/master/minions/pi2"]
    for name in names:
        (node.root / "m" / name).parent.mkdir(parents=True, exist_ok=True)
        (node.root / "m" / name).write_text(name)
    folders = tuple(str(node.root / "m" / name) for name in ("etc/salt", "secrets", "srv", "absent"))
    monkeypatch.setattr(plan, "MASTER_PATHS", folders)
    report = node.run(["salt"], master=True)
    saved = entry(report, "salt")
    assert saved["ok"], report
    assert sorted(path.read_text() for path in restored(node, saved, node.root / "m")) == sorted(names)
    assert prove(node)["salt"] == ""


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_the_swarms_state_is_saved(tmp_path):
    try:
        with Dockerds(["pi1"]) as daemons:
            node = Node(tmp_path, daemons["pi1"]).init()
            client = node.client
            client.swarm.init(advertise_addr="127.0.0.1", force_new_cluster=False)
            client.secrets.create(name="only-copy", data=b"x")
            report = node.run(["swarm"])
            saved = entry(report, "swarm")
            assert saved["ok"], report
            root = client.info()["DockerRootDir"]
            found = {path.name for path in restored(node, saved, f"{root}/swarm")}
            assert {"docker-state.json", "state.json", "swarm-node.crt"} <= found
            assert [name for name in found if name.endswith(".wal")], "the raft log, which has the secret"
            assert prove(node)["swarm"] == ""
            node.close()
    except Unsupported as lack:
        pytest.skip(str(lack))
