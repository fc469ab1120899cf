"""A node on a new board: what a real run saved of the old one comes back, and what does not is listed."""

import os
import shutil

import backup_site
import pytest
from backup_repository import picture
from dockerds import missing

from omega.backup import restore_node
from omega.backup.pick import RestoreError
from omega.backup.restore import Wanted

pytestmark = pytest.mark.long

daemon, node, bare = backup_site.daemon, backup_site.node, backup_site.bare


def restored(node, at=None, **options):
    wanted = Wanted(at, **options)
    return restore_node.Restore(node.repository, node.client, "pi1", wanted, node.places, "no engine").run()


def new_card(node):
    """Take away what the old card had: homes and state."""
    shutil.rmtree(node.home)
    node.home.mkdir()
    shutil.rmtree(node.places.state)


def homes(node):
    login = node.home / "pi/.ssh/authorized_keys"
    login.parent.mkdir(parents=True)
    login.write_text("ssh-ed25519 OLD pi\n")
    (node.home / "pi/notes").write_text("old notes")
    os.chown(node.home / "pi/notes", 1000, 1000)
    return login


def left(report):
    return {one["name"]: one["failed"] for one in report["left"]}


@pytest.mark.skipif(bool(missing()), reason=missing())
def test_folders_and_volumes_come_back_on_a_new_board(node):
    login = homes(node)
    one, two, used = node.volume(), node.volume(), node.volume()
    for volume in (one, two, used):
        (node.path(volume) / "data").write_text(volume.name)
    saved = {volume.name: picture(node.path(volume)) for volume in (one, two, used)}
    notes = picture(node.home / "pi/notes")
    assert node.run()["ok"]

    new_card(node)
    login.parent.mkdir(parents=True)
    login.write_text("ssh-ed25519 NEW pi\n")
    (node.home / "other").mkdir()
    one.remove(force=True)
    for volume in (two, used):
        (node.path(volume) / "data").write_text("of the new board")
    service = node.container(volumes=[used])
    # The timer of the new board was faster than its owner.
    assert node.run()["ok"]

    preview = restored(node, dry_run=True)
    assert left(preview) == {f"volume {used.name}": True}
    assert not (node.home / "pi/notes").exists()
    report = restored(node)
    assert preview["run"] == report["run"]
    assert left(report) == {f"volume {used.name}": True}, report
    assert "--force" in report["left"][0]["cure"]
    assert picture(node.home / "pi/notes") == notes
    assert login.read_text() == "ssh-ed25519 OLD pi\nssh-ed25519 NEW pi\n"
    assert (node.home / "other").is_dir()
    assert any(path.startswith(f"{node.home}/pi.before-restore-") for path in report["kept"]), report
    for volume in (one, two):
        assert picture(node.path(volume)) == saved[volume.name]
    assert (node.path(used) / "data").read_text() == "of the new board"

    service.remove(force=True)
    rest = restored(node)
    assert rest["left"] == []
    assert [line.split(": ")[0] for line in rest["actions"] if not line.startswith("leave")][0] == f"volume {used.name}"
    assert picture(node.path(used)) == saved[used.name]
    again = restored(node)
    assert (again["kept"], again["files"], left(again)) == ([], 0, {}), again
    assert all(line.startswith("leave ") for line in again["actions"]), again


def test_another_run_is_taken_by_its_time_and_the_own_one_where_there_is_no_older(bare):
    homes(bare)
    first = bare.run()
    assert first["ok"]
    assert restored(bare, dry_run=True)["run"] == first["id"], "the same card: its newest run"
    (bare.home / "pi/notes").write_text("newer")
    second = bare.run()
    assert restored(bare, dry_run=True)["run"] == second["id"]
    assert restored(bare, at=first["ended"] + 1, dry_run=True)["run"] == first["id"]
    with pytest.raises(RestoreError, match="the first run is of"):
        restored(bare, at=1_000_000_000, dry_run=True)


def test_what_belongs_to_the_board_and_to_the_cluster_is_listed_and_stays(bare, monkeypatch):
    homes(bare)
    own = bare.root / "board/etc"
    own.mkdir(parents=True)
    (own / "hostname").write_text("old")
    monkeypatch.setattr(restore_node, "OF_BOARD", (str(own),))
    report = bare.run(paths=(str(bare.home), str(own)))
    assert report["ok"]
    (own / "hostname").write_text("new")
    done = restored(bare)
    assert left(done) == {str(own): False}
    assert (own / "hostname").read_text() == "new"


def rows(*items):
    return [
        {"id": f"{n}", "time": f"2026-01-{day:02}T02:00:0{n}Z", "tags": [f"run={run}", f"group={group}"], "paths": []}
        for n, (run, day, group) in enumerate(items)
    ]


def test_a_run_of_some_groups_only_does_not_count_before_a_whole_one():
    found = rows(("a", 1, "files"), ("a", 1, "volume:x"), ("b", 2, "volume:x"))
    name, groups = restore_node.newest_run(found, None, None)
    assert (name, set(groups)) == ("a", {"files", "volume:x"})
    with pytest.raises(RestoreError, match="has no run"):
        restore_node.newest_run([], None, None)


def test_a_link_in_a_home_leads_to_no_file_of_others(tmp_path):
    (tmp_path / "secret").write_text("root only\n")
    for name in ("kept", "place"):
        (tmp_path / name / ".ssh").mkdir(parents=True)
    (tmp_path / "kept/.ssh/authorized_keys").symlink_to(tmp_path / "secret")
    (tmp_path / "place/.ssh/authorized_keys").write_text("mine\n")
    assert restore_node.keep_logins(str(tmp_path / "kept"), str(tmp_path / "place")) == 0
    assert (tmp_path / "place/.ssh/authorized_keys").read_text() == "mine\n"
