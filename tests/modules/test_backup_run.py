"""Backups of one node: a real Docker daemon, a real restic, a repository in a folder."""

import dataclasses
import fcntl
import hashlib
import json
import os
import re
import shutil
import signal
import subprocess

import backup_site
import pytest
import tiny_image
from backup_site import Node, entry
from dockerds import missing

from omega.backup import restic
from omega.backup import run as backup_run
from omega.backup.restic_errors import ResticError

pytestmark = [pytest.mark.long, pytest.mark.skipif(bool(missing()), reason=missing())]

daemon, node, bare = backup_site.daemon, backup_site.node, backup_site.bare


# -- what is saved ------------------------------------------------------------------------------------------


def test_folders_and_volumes_are_saved_with_a_manifest(node):
    volume = node.volume()
    (node.path(volume) / "data").write_text("value")
    node.container(volumes=[volume])
    report = node.run()
    assert report["ok"], report
    assert {item["name"] for item in report["groups"]} == {"files", f"volume:{volume.name}"}
    saved = entry(report, f"volume:{volume.name}")
    assert saved["mode"] == "pause"
    assert saved["files"] == 1
    assert node.dump(saved["snapshot"], str(node.path(volume) / "data")) == b"value"
    content = node.manifest(saved["snapshot"], f"volume:{volume.name}")
    assert content["version"] == 1
    assert content["node"] == "pi1"
    assert [item["name"] for item in content["volumes"]] == [volume.name]
    assert [item["sha256"] for item in content["sample"]] == [hashlib.sha256(b"value").hexdigest()]
    assert hashlib.sha256(content["canary"].encode()).hexdigest() == saved["canary"]
    tags = set(node.snapshots(f"group=volume:{volume.name}")[0]["tags"])
    assert tags == {"rpiomega", f"group=volume:{volume.name}", f"run={report['id']}", "mode=pause"}
    assert node.state()["success"] == report["ended"]


def test_a_second_run_without_a_change_adds_little(node):
    volume = node.volume()
    (node.path(volume) / "data").write_bytes(os.urandom(3_000_000))
    node.container(volumes=[volume])
    first = entry(node.run(), f"volume:{volume.name}")
    second = entry(node.run(), f"volume:{volume.name}")
    assert first["bytes_added"] > 3_000_000
    assert second["bytes_added"] < 20_000
    assert second["files"] == 1


def test_the_volumes_of_one_container_are_one_group(node):
    one, two = node.volume("alpha"), node.volume("beta")
    container = node.container(volumes=[one, two])
    report = node.run()
    saved = entry(report, "volume:alpha")
    assert "volume:beta" not in {item["name"] for item in report["groups"]}
    assert [item["name"] for item in node.manifest(saved["snapshot"], "volume:alpha")["volumes"]] == ["alpha", "beta"]
    assert node.status(container) == "running"


def test_what_is_not_saved_is_reported_with_the_reason(node):
    volume = node.volume(driver_opts={"type": "tmpfs", "device": "tmpfs"})
    refused = node.volume()
    node.container(volumes=[refused], labels={"rpiomega.backup": "no"})
    why = {item["name"]: item["why"] for item in node.run()["skipped"]}
    assert "in memory" in why[f"volume:{volume.name}"]
    assert "`no`" in why[f"volume:{refused.name}"]


# -- pause --------------------------------------------------------------------------------------------------


def invariant_holds(node, snapshot, volume):
    """Whether the journal `z` has all lines of `a` but the one that is being written."""
    lines = [node.dump(snapshot, str(node.path(volume) / name)).count(b"\n") for name in ("a", "z")]
    return lines[0] - lines[1] in (0, 1)


def test_a_writer_is_consistent_when_paused_and_not_when_copied_hot(node):
    volume = node.volume()
    for number in range(300):
        (node.path(volume) / f"m{number}").write_bytes(os.urandom(20_000))
    script = f"cd /{volume.name}; while :; do echo line >>a; echo line >>z; done"
    container = node.container(script, [volume])
    for turn in range(4):
        report = node.run(only=[f"volume:{volume.name}"])
        assert report["ok"], report
        saved = entry(report, f"volume:{volume.name}")
        assert saved["paused_seconds"] > 0
        assert invariant_holds(node, saved["snapshot"], volume), turn
        assert node.status(container) == "running"
    hot = []
    for _ in range(10):
        report = node.run(only=[f"volume:{volume.name}"], volumes={volume.name: "hot"})
        hot.append(invariant_holds(node, entry(report, f"volume:{volume.name}")["snapshot"], volume))
        if not all(hot):
            break
    assert not all(hot)


def test_much_that_changed_is_uploaded_before_the_pause(node):
    volume = node.volume()
    (node.path(volume) / "data").write_bytes(os.urandom(60_000_000))
    node.container(volumes=[volume])
    report = node.run(only=[f"volume:{volume.name}"])
    saved = entry(report, f"volume:{volume.name}")
    assert report["ok"], report
    # The second pass found everything in the repository; the first one's snapshot is gone.
    assert saved["bytes_added"] < 100_000
    assert len(node.snapshots()) == 1


def test_a_container_that_its_owner_paused_stays_paused(node):
    volume = node.volume()
    mine, other = node.container(volumes=[volume]), node.container(volumes=[volume])
    mine.pause()
    assert node.run()["ok"]
    assert node.status(mine) == "paused"
    assert node.status(other) == "running"
    assert node.release()["unpaused"] == []
    assert node.status(mine) == "paused"


def test_a_container_that_ended_between_look_and_pause_does_no_harm(node, monkeypatch):
    volume = node.volume()
    container = node.container(volumes=[volume])
    look = backup_run.look

    def looked(*arguments):
        found = look(*arguments)
        container.remove(force=True)
        return found

    monkeypatch.setattr(backup_run, "look", looked)
    report = node.run()
    assert report["ok"], report
    assert not os.path.exists(node.places.quiesced)


def test_a_container_that_was_unpaused_meanwhile_makes_the_group_fail(node, tmp_path):
    volume = node.volume()
    (node.path(volume) / "data").write_text("value")
    container = node.container(volumes=[volume])
    meddler = tmp_path / "restic"
    unpause = f"docker -H {node.daemon.base_url} unpause {container.id} >/dev/null"
    meddler.write_text(f'#!/bin/sh\ncase "$*" in *mode=pause*) {unpause};; esac\nexec {node.repository.program} "$@"\n')
    meddler.chmod(0o755)
    node.repository = dataclasses.replace(node.repository, program=str(meddler))
    saved = entry(node.run(), f"volume:{volume.name}")
    assert not saved["ok"]
    assert "unpaused by somebody else" in saved["cause"]


def wait_for(condition, bound=30.0):
    from omega.core.polling import until

    return until(condition, bound, pause=0.02)


@pytest.mark.parametrize(
    "moment", [*(pytest.param(name, marks=pytest.mark.long) for name in ("journal", "paused", "restic")), "everything"]
)
def test_after_kill_9_release_unpauses_what_the_run_had_paused(node, moment):
    volume = node.volume()
    (node.path(volume) / "data").write_bytes(os.urandom(5_000_000))
    ours, owners = node.container(volumes=[volume]), node.container(volumes=[volume])
    owners.pause()
    process = node.start_run()
    looks = {
        "journal": lambda: os.path.exists(node.places.quiesced),
        "paused": lambda: node.status(ours) == "paused",
        "restic": lambda: node.status(ours) == "paused" and _locks(node),
        "everything": lambda: node.status(ours) == "paused" and _locks(node),
    }
    try:
        wait_for(looks[moment])
    finally:
        if moment == "everything":  # as when the power fails, or the unit's control group is killed
            os.killpg(process.pid, signal.SIGKILL)
        process.kill()
        process.wait()
    released = node.release()
    assert node.status(ours) == "running"
    assert node.status(owners) == "paused"
    assert released["problems"] == []
    assert released["interrupted"]
    assert node.state()["last"]["cause"].startswith("interrupted")
    assert not node.state()["last"]["ok"]
    assert not os.path.exists(node.places.quiesced)
    # restic ended with the run, so nothing of it is in the repository; the next run succeeds.
    assert node.snapshots(f"group=volume:{volume.name}") == []
    assert node.run()["ok"]
    # Its lock may still be there: the system's first process may not have noticed yet that it ended.
    assert restic.run(node.repository, ["check", "--no-lock"])[-1]["num_errors"] == 0


def _locks(node):
    return os.listdir(os.path.join(node.repository.url, "locks"))


def test_release_unpauses_what_a_killed_run_paused_while_a_drill_has_the_lock(node):
    volume = node.volume()
    (node.path(volume) / "data").write_bytes(os.urandom(5_000_000))
    container = node.container(volumes=[volume])
    process = node.start_run()
    try:
        wait_for(lambda: node.status(container) == "paused")
    finally:
        process.kill()
        process.wait()
    with open(node.places.lock, "a", encoding="utf-8") as drill:
        fcntl.flock(drill, fcntl.LOCK_EX)
        assert node.release()["unpaused"] == [container.name]
        assert node.status(container) == "running"
        with pytest.raises(ResticError):  # nothing is left to do beside the drill
            node.release()
    assert node.release()["interrupted"]


def test_release_is_refused_while_a_run_works(node):
    volume = node.volume()
    container = node.container(volumes=[volume])
    process = node.start_run()
    try:
        wait_for(lambda: node.status(container) == "paused")
        with pytest.raises(ResticError, match="a restore or a drill of this node is running") as caught:
            node.release()
        assert caught.value.kind == "locked"
    finally:
        assert process.wait(60) == 0
    assert node.status(container) == "running"


# -- dumps --------------------------------------------------------------------------------------------------


def dumping(node, command):
    volume = node.volume()
    labels = {"rpiomega.backup": "dump", "rpiomega.backup.dump": command}
    return volume, node.container(volumes=[volume], labels=labels)


def test_a_dump_is_saved_with_its_checksum(node):
    volume, _ = dumping(node, "echo create table; echo a note >&2")
    report = node.run()
    assert report["ok"], report
    saved = entry(report, f"volume:{volume.name}")
    content = node.manifest(saved["snapshot"], f"volume:{volume.name}")
    assert node.dump(saved["snapshot"], content["dump"]["path"]) == b"create table\n"
    assert content["dump"]["sha256"] == hashlib.sha256(b"create table\n").hexdigest()
    assert not os.path.exists(content["dump"]["path"])


@pytest.mark.parametrize(
    ("command", "cause"),
    [
        ("echo half of it; echo no such table >&2; exit 3", "ended with code 3: no such table"),
        ("true", "wrote nothing"),
        ('["nosuch"]', "code 12[67]|executable file not found"),
    ],
)
def test_a_dump_that_fails_makes_no_snapshot_and_keeps_no_other_group(node, command, cause):
    volume, _ = dumping(node, command)
    report = node.run()
    saved = entry(report, f"volume:{volume.name}")
    assert not report["ok"]
    assert not saved["ok"]
    assert re.search(cause, saved["cause"])
    assert node.snapshots(f"group=volume:{volume.name}") == []
    assert entry(report, "files")["ok"]
    assert node.state()["success"] is None


def test_a_dump_of_sqlite_restores_to_the_same_rows(node, daemon, tmp_path):
    client = daemon.client()
    sqlite = shutil.which("sqlite3")
    assert sqlite, "this test needs the package sqlite3"
    tag = "rpiomega/sqlite:1"
    client.api.import_image_from_data(tiny_image.root(usr_bin_sqlite3=sqlite), repository=tag[:-2], tag="1")
    client.close()
    volume = node.volume()
    database = node.path(volume) / "app.db"
    subprocess.run([sqlite, database, "create table t(v); insert into t values (1), (2)"], check=True)
    labels = {"rpiomega.backup": "dump", "rpiomega.backup.dump": f"sqlite3 -readonly /{volume.name}/app.db .dump"}
    binds = {volume.name: {"bind": f"/{volume.name}", "mode": "rw"}}
    made = node.client.containers.run(
        tag, ["sleep", "600"], detach=True, network_mode="none", volumes=binds, labels=labels
    )
    node.made.insert(0, made)
    report = node.run()
    assert report["ok"], report
    name = f"volume:{volume.name}"
    snapshot = entry(report, name)["snapshot"]
    text = node.dump(snapshot, node.manifest(snapshot, name)["dump"]["path"])
    copy = tmp_path / "copy.db"
    subprocess.run([sqlite, copy], input=text, check=True)
    assert subprocess.run([sqlite, copy, "select sum(v) from t"], capture_output=True, check=True).stdout == b"3\n"


# -- failures, each with a cause of its own -----------------------------------------------------------------


def test_a_missing_path_fails_and_the_others_are_saved(bare):
    report = bare.run(paths=(str(bare.home), "/nowhere"))
    assert not report["ok"]
    assert entry(report, "files")["ok"]
    assert entry(report, "files:/nowhere")["cause"] == "there is no /nowhere"
    assert "there is no /nowhere" in report["cause"]


def test_a_folder_that_is_empty_since_the_last_run_fails_instead_of_being_saved_empty(bare):
    assert bare.run()["ok"]
    (bare.home / "letter.txt").unlink()
    report = bare.run()
    assert "is its disk mounted?" in entry(report, "files")["cause"]
    assert len(bare.snapshots()) == 1
    # It stays a failure: the empty state does not become the usual one.
    assert "is its disk mounted?" in entry(bare.run(), "files")["cause"]


def test_a_full_disk_is_reported_as_such(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", disk], check=True)
    try:
        node = Node(tmp_path / "node", None)
        node.repository = dataclasses.replace(node.repository, url=str(disk / "repository"))
        node.init()
        (node.home / "large").write_bytes(os.urandom(2_000_000))
        report = node.run()
        assert not report["ok"]
        assert "no space left on device" in entry(report, "files")["cause"]
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_wrong_password_is_reported_as_such_and_not_printed(bare):
    (bare.root / "etc/password").write_text("another word")
    report = bare.run()
    assert not report["ok"]
    assert "wrong password" in report["cause"]
    assert "/etc/rpiomega/secrets/backup" in report["cure"]
    assert "another word" not in json.dumps(report)
    assert bare.state()["last"] == report


def test_a_repository_that_does_not_exist_is_reported_as_such(bare):
    shutil.rmtree(bare.repository.url)
    assert "repository does not exist" in bare.run()["cause"]


def test_a_wrong_clock_is_reported_after_the_bound(bare):
    report = backup_run.run(bare.places, bare.settings, bare.repository, synchronised=lambda: False, clock_bound=0.1)
    assert "clock" in report["cause"]
    assert bare.snapshots() == []


def test_a_second_run_is_refused_while_one_works(bare):
    bare.places.make()
    with open(bare.places.lock, "a", encoding="utf-8") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ResticError, match="a restore or a drill of this node is running"):
            bare.run()
    assert bare.state()["last"] is None


def test_no_engine_where_one_belongs_is_a_failure_and_the_folders_are_saved(bare):
    report = bare.run(roles=("worker",))
    assert not report["ok"]
    assert "no Docker Engine answers" in entry(report, "volumes")["cause"]
    assert entry(report, "files")["ok"]


def test_an_unknown_group_is_refused_with_its_name(bare):
    assert "no such group: volume:typo" in bare.run(only=["volume:typo"])["cause"]


def test_the_mode_stop_is_refused_and_named(node):
    volume = node.volume()
    node.container(volumes=[volume], labels={"rpiomega.backup": "stop"})
    report = node.run()
    assert "`stop` does not exist yet" in entry(report, f"volume:{volume.name}")["cause"]
    assert entry(report, "files")["ok"]


# -- the module ---------------------------------------------------------------------------------------------


def test_the_module_plans_runs_lists_and_reports(node, load_modules):
    volume = node.volume()
    (node.path(volume) / "data").write_text("value")
    node.container(volumes=[volume], labels={"rpiomega.backup": "hot"})
    node.write_settings()
    names = {"settings": "settings_dir", "state": "state_dir", "run": "run_dir"}
    folders = {f"backup.{name}": getattr(node.places, key) for key, name in names.items()}
    salt = load_modules(**folders, **{"backup.restic": node.repository.program})
    planned = salt["backup.plan"]()
    assert {item["name"]: item["mode"] for item in planned["groups"]} == {
        "files": "hot",
        f"volume:{volume.name}": "hot",
    }
    assert salt["backup.status"]()["last"] is None
    report = salt["backup.run"]()
    assert report["ok"], report
    assert {item["group"] for item in salt["backup.list"]()} == {"files", f"volume:{volume.name}"}
    assert [item["group"] for item in salt["backup.list"](group="files")] == ["files"]
    assert salt["backup.status"]()["last"] == report
    assert salt["backup.status"]()["now"] is None
    assert salt["backup.release"]() == {"unpaused": [], "problems": [], "interrupted": False}
