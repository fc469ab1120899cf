"""Files and folders restored from a real repository: everything of them equal, nothing lost in their place."""

import os
import pathlib
import time

import backup_repository
import pytest

from omega.backup import fetch, pick, restore, swap
from omega.backup.pick import RestoreError
from omega.backup.restic_errors import ResticError
from omega.backup.restore import Wanted
from omega.backup.settings import Places

pytestmark = [pytest.mark.long, pytest.mark.skipif(os.geteuid() != 0, reason="owners are set by root")]


@pytest.fixture
def repo(tmp_path):
    (tmp_path / "store").mkdir()
    return backup_repository.Repo(tmp_path / "store")


@pytest.fixture
def home(tmp_path):
    backup_repository.fill(tmp_path / "home")
    return tmp_path / "home"


@pytest.fixture
def get(repo, tmp_path):
    """Restore a path: get(path, to=..., at=..., dry_run=..., force=...)."""
    places = Places(state=str(tmp_path / "state"), run=str(tmp_path / "run"))

    def get(path, to=None, **wanted):
        return restore.restore_file(repo.repository, os.fsdecode(path), Wanted(**wanted), to and str(to), places)

    return get


def names(folder):
    return sorted(os.listdir(folder))


def test_a_folder_comes_back_with_everything_of_it(repo, home, get, tmp_path):
    repo.save(home)
    before = backup_repository.picture(home)
    report = get(str(home), tmp_path / "new/folder")
    assert backup_repository.picture(tmp_path / "new/folder/home") == before
    assert report.kept == ""
    assert names(tmp_path / "new/folder") == ["home"], "no staging folder is left"


def test_what_is_in_the_place_is_kept_whole(repo, home, get, tmp_path):
    repo.save(home)
    before = backup_repository.picture(home)
    (home / "suid").unlink()
    (home / "later").write_text("made after the snapshot")
    changed = backup_repository.picture(home)
    report = get(str(home))
    assert backup_repository.picture(home) == before
    assert backup_repository.picture(report.kept) == changed
    assert report.kept.startswith(f"{home}.before-restore-2")


def test_each_name_selects_its_file_alone(repo, home, tmp_path):
    row = repo.save(home)
    for number, name in enumerate(backup_repository.ODD):
        path = os.path.join(os.fsencode(home), name + b".d", name)
        made = fetch.into(repo.repository, row, os.fsdecode(path), str(tmp_path / str(number)))
        assert backup_repository.picture(made) == backup_repository.picture(os.fsdecode(path))
        assert os.listdir(os.fsencode(tmp_path / str(number))) == [name]


@pytest.mark.parametrize("name", [b"new\nline", b"bad\xff\xfe", b"star*[x]?"])
def test_a_file_of_any_name_comes_back(repo, home, get, name):
    repo.save(home)
    path = os.path.join(os.fsencode(home), name + b".d", name)
    before = backup_repository.picture(os.fsdecode(path))
    backup_repository.write(path, b"changed")
    report = get(path)
    assert backup_repository.picture(os.fsdecode(path)) == before
    assert pathlib.Path(report.kept).read_bytes() == b"changed"
    assert report.files == 1


def test_a_symbolic_link_comes_back_as_one(repo, home, get):
    repo.save(home)
    (home / "link").unlink()
    (home / "link").mkdir()
    get(home / "link")
    assert os.readlink(home / "link") == "/nowhere/at all"


def test_a_path_through_a_symbolic_link_is_found(repo, home, get, tmp_path):
    repo.save(home)
    (tmp_path / "short").symlink_to(home)
    (home / "acl").unlink()
    get(tmp_path / "short/acl")
    assert (home / "acl").read_bytes() == b"y"


def test_with_force_nothing_is_kept(repo, home, get):
    repo.save(home)
    (home / "acl").write_text("changed")
    there = names(home)
    get(home / "acl", force=True)
    assert (home / "acl").read_text() == "y"
    assert names(home) == there


def test_a_dry_run_says_what_is_done_and_writes_nothing(repo, home, get, tmp_path):
    repo.save(home)
    (home / "acl").write_text("changed")
    before = backup_repository.picture(tmp_path / "home")
    predicted = get(home / "acl", dry_run=True)
    assert backup_repository.picture(tmp_path / "home") == before
    done = get(home / "acl")
    strip = [line.partition(".before-restore")[0] for line in done.actions]
    assert [line.partition(".before-restore")[0] for line in predicted.actions] == strip
    assert (predicted.files, predicted.bytes, predicted.snapshot) == (done.files, done.bytes, done.snapshot)


def test_the_newest_snapshot_at_or_before_a_time(repo, home, get, tmp_path):
    for day, text in (("01", "first"), ("02", "second"), ("03", "third")):
        (home / "acl").write_text(text)
        repo.save(home, time=f"2026-01-{day} 12:00:00")

    def content(at):
        get(home / "acl", tmp_path / "out", at=at, force=True)
        return (tmp_path / "out/acl").read_text()

    assert content(None) == "third"
    assert content("2026-01-02") == "second"
    assert content("2026-01-02 12:00:00") == "second"
    assert content("2026-01-02 11:59:59") == "first"
    with pytest.raises(RestoreError, match=r"acl: the first snapshot of it is of 2026-01-01 .*give a later --at"):
        content("2026-01-01 11:00")


@pytest.mark.parametrize("at", ["yesterday", "2026-13-01", "2999-01-01", "--", "2026-01-01T25:00"])
def test_what_is_no_time_is_refused_before_anything_else(get, at):
    with pytest.raises(RestoreError, match=r"is no time|in the future") as refused:
        get("/home", at=at)
    assert refused.value.kind == "bad_request"


def test_a_path_that_no_snapshot_has(repo, home, get):
    repo.save(home)
    with pytest.raises(RestoreError, match=r"/absent: the snapshot of .* does not have it; .*backup list"):
        get(home / "absent")
    with pytest.raises(RestoreError, match="/absent/deep/er: the snapshot of"):
        get(home / "absent/deep/er")
    with pytest.raises(RestoreError, match="/srv/other: no snapshot of this node has it"):
        get("/srv/other")
    for wrong in ("relative", "/", "//", "/home/.."):
        with pytest.raises(RestoreError) as refused:
            get(wrong)
        assert refused.value.kind == "bad_request"


def test_the_last_snapshot_that_has_the_path_is_named(repo, home, get, tmp_path):
    repo.save(home, time="2026-01-01 12:00:00")
    (home / "acl").unlink()
    repo.save(home, time="2026-01-02 12:00:00")
    with pytest.raises(RestoreError, match="give --at '2026-01-01") as refused:
        get(home / "acl")
    get(home / "acl", tmp_path / "out", at=refused.value.cure.split("'")[1])
    assert (tmp_path / "out/acl").read_text() == "y"


def test_no_space_is_reported_before_anything_is_written(repo, home, get, monkeypatch):
    repo.save(home)
    monkeypatch.setattr(fetch, "MARGIN", 1 << 60)
    with pytest.raises(RestoreError, match=r"MiB are needed and \d+ MiB are free at") as refused:
        get(home)
    assert refused.value.kind == "no_space"


def test_a_disk_that_gets_full_leaves_what_was_there(repo, home, get, tmp_path, monkeypatch):
    (home / "large").write_bytes(os.urandom(6 << 20))
    repo.save(home)
    small = tmp_path / "small"
    small.mkdir()
    assert os.system(f"mount -t tmpfs -o size=2m tmpfs {small}") == 0
    try:
        (small / "large").write_text("mine")
        monkeypatch.setattr(fetch, "room", lambda *arguments: None)
        with pytest.raises(ResticError) as refused:
            get(home / "large", small)
        assert refused.value.kind == "no_space"
        assert names(small) == ["large"]
        assert (small / "large").read_text() == "mine"
    finally:
        assert os.system(f"umount {small}") == 0


def test_a_mount_point_is_left_alone(repo, tmp_path, get):
    data = tmp_path / "disk"
    data.mkdir()
    (data / "file").write_text("x")
    repo.save(data)
    assert os.system(f"mount -t tmpfs tmpfs {data}") == 0
    try:
        with pytest.raises(
            RestoreError, match="mount point, which cannot be renamed; restore its files to another folder"
        ):
            get(data)
    finally:
        assert os.system(f"umount {data}") == 0
    assert names(tmp_path) == ["disk", "store"]


def test_a_wrong_password(repo, home, get):
    repo.save(home)
    pathlib.Path(repo.repository.password_file).write_text("another\n")
    with pytest.raises(ResticError) as refused:
        get(home)
    assert refused.value.kind == "wrong_password"


def test_it_waits_for_another_run_and_then_says_so(repo, home, get, tmp_path, monkeypatch):
    repo.save(home)
    monkeypatch.setattr(restore.alone.__wrapped__, "__defaults__", (0.2,))
    with (
        restore.alone(Places(state=str(tmp_path / "state"), run=str(tmp_path / "run"))),
        pytest.raises(RestoreError, match="a backup, a restore or a drill runs on this node"),
    ):
        get(home / "acl")


@pytest.mark.parametrize("exchange", [True, False])
def test_a_swap_works_where_the_file_system_cannot_exchange(tmp_path, monkeypatch, exchange):
    if not exchange:
        monkeypatch.setattr(swap, "exchange", lambda one, other: False)
    (tmp_path / "old").mkdir()
    (tmp_path / "made").mkdir()
    (tmp_path / "made/new").touch()
    assert swap.put(str(tmp_path / "made"), str(tmp_path / "old"), str(tmp_path / "kept"))
    assert names(tmp_path) == ["kept", "old"]
    assert names(tmp_path / "old") == ["new"]


def test_times_of_restic_are_read_on_every_python():
    row = {"time": "2026-11-29T03:01:09.590162733+01:00"}
    assert pick.taken(row) == pytest.approx(
        time.mktime((2026, 11, 29, 2, 1, 9, 0, 0, 0)) - time.timezone + 0.590162, abs=1e-3
    )
    assert pick.taken({"time": "2026-11-29T03:01:09Z"}) == pick.taken({"time": "2026-11-29T03:01:09.0Z"})
