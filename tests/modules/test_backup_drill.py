"""The drill is green for a whole backup, and red with its own cause for each way in which one can be broken."""

import json
import os
import pathlib
import shutil
import sqlite3
import stat
import time
import uuid

import backup_repository
import pytest

from omega.backup import check, compare, drill, fetch, manifest, restic, state
from omega.backup.settings import Places
from omega.core import recovery_kit

pytestmark = [pytest.mark.long, pytest.mark.skipif(os.geteuid() != 0, reason="owners are set by root")]

client, image = backup_repository.client, backup_repository.image


class Node:
    """A node with a group of files and one of a volume, saved as a run saves them."""

    def __init__(self, folder, image):
        self.folder = folder
        self.places = Places(settings=str(folder), state=str(folder / "state"), run=str(folder / "run"))
        self.repo = backup_repository.Repo(folder)
        backup_repository.fill(folder / "home")
        self.volume = folder / "volumes/db/_data"
        self.volume.mkdir(parents=True)
        (self.volume / "rows").write_bytes(os.urandom(1 << 20))
        with sqlite3.connect(self.volume / "one.sqlite") as database:
            database.execute("create table t (x)")
            database.executemany("insert into t values (?)", [(str(number) * 50,) for number in range(2000)])
        self.image = image
        self.command = "[ -s $RPIOMEGA_RESTORED/db/rows ]"
        self.saved = {}

    def save(self, group="volume:db", tell=True, time=None):
        mode, path = ("pause", self.volume) if group == "volume:db" else ("hot", self.folder / "home")
        survey = manifest.survey([str(path)])
        labels = {"rpiomega.backup.check": self.command}
        service = {"name": "db.1", "image": self.image, "image_id": "", "labels": labels}
        volumes = [{"name": "db", "driver": "local", "options": {}, "path": str(self.volume), "containers": [service]}]
        head = {"group": group, "mode": mode, "volumes": volumes if mode == "pause" else []}
        at = manifest.path(self.places.run, group)
        canary = manifest.write(at, head, survey["sample"], survey["counts"])
        row = self.repo.save(path, at, group=group, mode=mode, time=time)
        if tell:
            self.saved[group] = {"name": group, "ok": True, "snapshot": row["id"], "canary": canary}
            state.update(self.places.report, last={"groups": list(self.saved.values())})
        return row

    def drill(self, client=None, **more):
        more = {"parts": 1, "secrets": str(self.folder / "secrets"), **more}
        report = drill.Drill(self.repo.repository, self.places, client, **more).run()
        assert state.read(self.places.report)["drill"] == report
        self.nothing_left(client)
        return report

    def nothing_left(self, client):
        left = [name for base in (self.places.run, self.places.state) for name in os.listdir(base)]
        assert [name for name in left if name.startswith("drill-")] == []
        assert client is None or client.containers.list(all=True, filters={"label": check.MARK}) == []


@pytest.fixture(scope="module")
def whole(image, tmp_path_factory):
    """A node that is whole; tests copy what they break."""
    node = Node(tmp_path_factory.mktemp("node"), image)
    node.save("files")
    node.save()
    return node


@pytest.fixture
def node(whole):
    """The node; repository and state are as they were afterwards."""
    for name in ("repo", "state"):
        shutil.rmtree(whole.folder / f"{name}.before", ignore_errors=True)
        shutil.copytree(whole.folder / name, whole.folder / f"{name}.before")
    saved, command = dict(whole.saved), whole.command
    yield whole
    whole.saved, whole.command = saved, command
    for name in ("repo", "state"):
        shutil.rmtree(whole.folder / name)
        shutil.copytree(whole.folder / f"{name}.before", whole.folder / name)
    shutil.rmtree(whole.folder / "cache", ignore_errors=True)


def failed(report):
    assert report["ok"] is False
    assert "\n" not in report["cause"]
    return {one["name"]: one["cause"] for one in report["checks"] if not one["ok"]}


def test_a_whole_backup_is_proven_with_evidence(node, client):
    report = node.drill(client)
    assert report["cause"] == ""
    assert [one["name"] for one in report["checks"]] == ["snapshots", "files", "volume:db", "repository"]
    assert state.read(node.places.report)["proven"] == report["ended"]
    (evidence,) = pathlib.Path(node.places.state, "drills").iterdir()
    assert stat.S_IMODE(evidence.stat().st_mode) == 0o600
    notes = {one["name"]: one["notes"] for one in json.loads(evidence.read_text())["checks"]}
    assert notes["volume:db"]["commands"] == [f"db.1: {node.command}"]
    assert notes["volume:db"]["compared"] == 2
    assert notes["volume:db"]["canary"] == notes["files"]["canary"] == "equal"
    assert notes["files"]["restored"] == "all"
    assert notes["repository"]["part"] == "1/1"
    assert "proven" in state.read(node.places.report)


def test_a_flipped_byte_in_a_pack(node, client):
    pack = node.repo.packs()[0]
    content = bytearray(pack.read_bytes())
    content[len(content) // 3] ^= 1
    pack.chmod(0o600)
    pack.write_bytes(content)
    causes = failed(node.drill(client))
    assert causes["repository"] == f"pack {pack.name[:8]} is damaged"
    assert state.read(node.places.report)["proven"] is None


def test_a_missing_pack(node, client):
    pack = node.repo.packs()[0]
    pack.unlink()
    assert failed(node.drill(client))["repository"] == f"pack {pack.name[:8]} is missing"


def test_an_old_snapshot_passed_off_as_new(node, client):
    old = node.save(tell=False, time="2030-01-01 00:00:00")
    causes = failed(node.drill(client))
    assert causes == {
        "volume:db": f"snapshot {old['id'][:8]} is not the one that the last run made: its canary differs"
    }


def test_a_snapshot_that_is_gone(node, client):
    restic.run(node.repo.repository, ["forget", node.saved["volume:db"]["snapshot"]])
    assert failed(node.drill(client)) == {
        "last run": "the snapshot that the last run made is not in the repository: volume:db"
    }


def test_a_check_command_that_fails(node, client):
    node.command = "echo the table is missing >&2; exit 7"
    node.save()
    causes = failed(node.drill(client))
    assert causes == {"volume:db": "the check of db.1: its command ended with code 7: the table is missing"}


def test_a_check_has_no_network_and_a_copy_that_it_may_write_to(node, client):
    node.command = "[ ! -e /sys/class/net/eth0 ] && echo x >$RPIOMEGA_RESTORED/db/written"
    node.save()
    assert node.drill(client)["cause"] == ""
    assert not (node.volume / "written").exists()


def test_a_check_that_does_not_end(node, client, monkeypatch):
    monkeypatch.setattr(check, "BOUND", 1)
    node.command = "sleep 600"
    node.save()
    assert failed(node.drill(client)) == {"volume:db": "the check of db.1: its command had not ended after 1 s"}


def test_a_check_without_its_image_or_its_engine(node, client):
    assert failed(node.drill(None)) == {"volume:db": "no engine answers for the check of db.1"}
    node.image, before = f"rpiomega/none:{uuid.uuid4().hex[:8]}", node.image
    node.save()
    assert failed(node.drill(client)) == {"volume:db": f"image {node.image} is not on this node"}
    node.image = before


def test_files_that_are_not_what_the_manifest_says(node, client):
    survey = manifest.survey

    def wrong(*arguments, **keywords):
        found = survey(*arguments, **keywords)
        found["sample"][0]["sha256"] = "0" * 64
        return found

    manifest.survey = wrong
    try:
        node.save()
    finally:
        manifest.survey = survey
    (cause,) = failed(node.drill(client)).values()
    assert cause.endswith("one.sqlite has another content than the manifest says")


def test_a_damaged_database_in_a_volume(node, client):
    path, good = node.volume / "one.sqlite", (node.volume / "one.sqlite").read_bytes()
    path.write_bytes(good[:8192] + os.urandom(4096) + good[12288:])
    try:
        node.save()
        causes = failed(node.drill(client))
    finally:
        path.write_bytes(good)
    assert causes["volume:db"].startswith(f"{path}: the SQLite database is damaged: ")


def test_a_source_that_was_empty_is_not_proven(node, client):
    good = manifest.survey([str(node.volume)])["counts"]
    at = manifest.path(node.places.run, "volume:db")
    empty = node.folder / "volumes/empty"
    empty.mkdir(exist_ok=True)
    manifest.write(at, {"group": "volume:db", "mode": "hot", "volumes": []}, [], good)
    node.repo.save(empty, at, group="volume:db")
    node.saved.pop("volume:db")
    state.update(node.places.report, last={"groups": list(node.saved.values())})
    assert failed(node.drill(client)) == {"volume:db": "0 files were restored, the manifest has 2 (and 1 more)"}


def test_a_group_larger_than_the_free_space_is_proven_by_its_sample(node, client, monkeypatch):
    monkeypatch.setattr(drill, "SHARE", 0.0)
    assert node.drill(client)["cause"] == ""
    evidence = sorted(pathlib.Path(node.places.state, "drills").iterdir())[-1]
    notes = {one["name"]: one["notes"] for one in json.loads(evidence.read_text())["checks"]}
    assert notes["volume:db"]["restored"] == "sample"
    assert notes["volume:db"]["compared"] == 2
    assert "larger than the free space" in notes["volume:db"]["check"]


def test_all_parts_of_the_repository_are_read_in_as_many_weeks(node, monkeypatch):
    asked = []
    monkeypatch.setattr(restic, "run", lambda repository, arguments, **_: asked.append(arguments) or [])
    monkeypatch.setattr(restic, "snapshots", lambda *arguments: [])
    for week in range(drill.PARTS):
        drill.Drill(node.repo.repository, node.places, now=1.8e9 + week * 7 * 86400, secrets="/none").run()
    asked = [arguments[-1] for arguments in asked if arguments[0] == "check"]
    assert sorted(asked) == [f"--read-data-subset={part}/{drill.PARTS}" for part in range(1, drill.PARTS + 1)]


def test_a_stale_kit(node, client):
    secrets = node.folder / "secrets"
    (secrets / "nodes/pi1").mkdir(parents=True)
    try:
        bucket = {
            "cluster": "home",
            "bucket": "home-1",
            "endpoint": "https://s3.example",
            "region": "x",
            "bucket_id": "b",
        }
        (secrets / "bucket.json").write_text(json.dumps(bucket))
        (secrets / "reader").write_text("key_id: 001\nkey: 'K001'\n")
        (secrets / "recovery").write_text("eight words\n")
        (secrets / "nodes/pi1/key").write_text("key_id: 1\nkey: 2\n")
        assert kit_of(node.drill(client)) == "", "a kit that was never checked is the status' finding"
        now = {"hash": recovery_kit.digest(recovery_kit.fields(str(secrets))), "checked": int(time.time())}
        (secrets / "kit.json").write_text(json.dumps({"version": 1, **now}))
        assert kit_of(node.drill(client)) == ""
        (secrets / "recovery").write_text("eight other words\n")
        report = node.drill(client)
        assert set(failed(report)) == {"kit"}
        assert kit_of(report).startswith("the recovery kit is stale: a key, the passphrase or the nodes have changed")
        (secrets / "reader").unlink()
        assert "is missing or damaged" in kit_of(node.drill(client))
    finally:
        shutil.rmtree(secrets)


def kit_of(report):
    return next(one["cause"] for one in report["checks"] if one["name"] == "kit")


def test_a_wrong_password_is_one_cause(node):
    before = pathlib.Path(node.repo.repository.password_file).read_text()
    pathlib.Path(node.repo.repository.password_file).write_text("another\n")
    try:
        assert "wrong password" in failed(node.drill())["snapshots"]
    finally:
        pathlib.Path(node.repo.repository.password_file).write_text(before)


def test_what_a_killed_drill_left_is_removed(node, client):
    os.makedirs(f"{node.places.state}/drill-killed/files")
    client.containers.create(node.image, ["sh"], labels={check.MARK: "x"})
    assert node.drill(client)["ok"] is True  # and nothing_left


def test_changed_files_of_mode_hot_are_no_problem_and_those_at_rest_are(tmp_path):
    (tmp_path / "data").mkdir()
    for number in range(10):
        (tmp_path / f"data/{number}").write_text(str(number))
    survey = manifest.survey([str(tmp_path / "data")])
    (tmp_path / "data/3").write_text("changed later")
    (tmp_path / "data/4").unlink()
    for mode, problems in (("hot", 0), ("pause", 2)):
        found = compare.tree({"mode": mode, **survey}, "", paths=[str(tmp_path / "data")])
        assert len(found.problems) == problems
        assert (found.same, found.changed) == (8, 2)
    for number in (5, 6, 7, 8):
        (tmp_path / f"data/{number}").unlink()
    (problem,) = compare.tree({"mode": "hot", **survey}, "", paths=[str(tmp_path / "data")]).problems
    assert problem == "only 4 of 10 files of the sample are as the manifest says"


def swarm(folder, *, wal=True, key=True):
    root = folder / "var/lib/docker/swarm"
    for name in ("raft/wal-v3-encrypted", "certificates"):
        (root / name).mkdir(parents=True)
    for name in ("raft/wal-v3-encrypted/0.wal",) * wal + ("certificates/swarm-node.crt",):
        (root / name).write_text("x")
    (root / "certificates/swarm-node.key").write_text("x" * key)


def test_the_state_of_a_swarm_manager_and_the_snapshot_of_consul_are_looked_at(tmp_path):
    paths = ["/var/lib/docker/swarm"]
    swarm(tmp_path / "good")
    check.files("swarm", str(tmp_path / "good"), paths)
    swarm(tmp_path / "wal", wal=False)
    swarm(tmp_path / "key", key=False)
    for name, said in (("wal", "raft/wal-v3-encrypted is missing or empty"), ("key", "swarm-node.key is missing or")):
        with pytest.raises(check.RestoreError, match=said):
            check.files("swarm", str(tmp_path / name), paths)
    (tmp_path / "consul/run").mkdir(parents=True)
    with pytest.raises(check.RestoreError, match="no snapshot of Consul was restored"):
        check.files("consul", str(tmp_path / "consul"), ["/run"])
    (tmp_path / "consul/run/consul-20260101T000000Z.snap").write_text("no archive")
    with pytest.raises(check.RestoreError, match=r"Consul snapshot /run/consul-.*: damaged or none"):
        check.files("consul", str(tmp_path / "consul"), ["/run"])


def test_patterns_of_restic_name_one_file():
    assert fetch.escaped("a*b?[c]\\") == "a\\*b\\?\\[c]\\\\"
