"""Runs of a node that are ended, that save nothing, or that find damaged files: none of them is a success."""

import json

import pytest
from backup_site import Node

from omega.backup import dump, progress, save, state
from omega.backup import run as backup_run


@pytest.fixture
def bare(tmp_path):
    """A node without an engine."""
    made = Node(tmp_path, None).init()
    yield made
    made.close()


# -- ended in the middle ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ended", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_a_run_that_is_ended_after_its_first_group_is_no_success(bare, monkeypatch, ended):
    def group(context, item):
        if item.name == "files":
            return {"name": "files", "mode": "hot", "snapshot": "a", "files": 1, "ok": True, "cause": ""}
        raise ended("enough")

    monkeypatch.setattr(save, "group", group)
    monkeypatch.setattr(backup_run.plan, "plan", lambda *_: two_groups())
    with pytest.raises(ended):
        bare.run()
    found = bare.state()
    assert (found["success"], found["last"]["ok"]) == (None, False)
    assert ended.__name__ in found["last"]["cause"]


def two_groups():
    names = ("files", "volume:db")
    return backup_run.plan.Plan(tuple(backup_run.plan.Group(name, "hot") for name in names))


# -- nothing saved ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", ["/**", "HOME", "*.txt"])
def test_patterns_that_leave_out_everything_are_a_failure(bare, pattern):
    report = bare.run(exclude=(pattern.replace("HOME", str(bare.home)),))
    assert not report["ok"], report
    assert "backup.exclude leaves out" in report["cause"], report
    assert bare.state()["success"] is None


def test_an_empty_folder_with_patterns_is_no_failure(bare):
    (bare.home / "letter.txt").unlink()
    assert bare.run(exclude=("*.iso", "[z-a]", "!letter.txt"))["ok"]


# -- damaged files ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", "\udcff\udc80", '{"last": "x", "files": [], "current": 7, "success": "now"}']
)
def test_a_damaged_state_file_is_read_as_empty_and_replaced(tmp_path, text):
    path = tmp_path / "state.json"
    path.write_bytes(text.encode(errors="surrogateescape"))
    found = state.read(str(path))
    assert (found["last"], found["success"], found.get("files"), found.get("current")) == (None, None, None, None)
    assert not state.interrupted(str(path))
    state.begin(str(path), "one")
    assert state.interrupted(str(path))
    assert json.loads(path.read_text())["last"]["cause"] == state.INTERRUPTED
    kept = tmp_path / "state.json.damaged"
    assert not kept.exists() or kept.read_bytes() == text.encode(errors="surrogateescape")
    assert kept.exists() or text.startswith('{"')


def test_what_a_newer_release_wrote_stays(tmp_path):
    path = tmp_path / "state.json"
    path.write_text('{"version": 2, "more": [1], "success": 5, "last": {"groups": [], "new": 1}}')
    found = state.update(str(path), proven=6)
    assert (found["version"], found["more"], found["success"], found["proven"]) == (2, [1], 5, 6)


def test_a_run_that_cannot_show_its_progress_goes_on(tmp_path):
    (tmp_path / "file").write_text("")
    progress.Progress(str(tmp_path / "file/progress.json"), "one").at("survey")


def test_a_success_in_another_bucket_is_none_in_this_one(tmp_path):
    path = str(tmp_path / "state.json")
    state.update(path, success=5, proven=6, files={"files": 7})  # of a release that did not record the repository
    state.begin(path, "one", "s3:https://a/first/hosts/pi1")
    assert (state.read(path)["success"], state.read(path)["proven"]) == (5, 6)
    state.begin(path, "two", "s3:https://a/first/hosts/pi1")
    assert state.read(path)["success"] == 5
    state.begin(path, "three", "s3:https://a/second/hosts/pi1")
    assert (state.read(path)["success"], state.read(path)["proven"], state.read(path)["files"]) == (None, None, {})


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        (b"", ""),
        (b"first\nlast\n", ": last"),
        (b"cannot reach postgres://app:hunter@2@db/x", ": cannot reach postgres://app:***@db/x"),
        (b"FATAL: password=hunter2 of user app", ": FATAL: password=*** of user app"),
        (b"PGPASSWORD: 'hunter 2'", ": PGPASSWORD: ***"),
        (b'password authentication failed for user "app"', ': password authentication failed for user "app"'),
        (b"\x1b[2J\x07\xff", ": [2J  \ufffd".replace(": [", ":  [")),
        (b"x" * 5000, ": " + "x" * 300),
    ],
)
def test_what_a_command_of_the_owner_prints_is_one_line_without_a_password(said, shown):
    found = dump.because(said)
    assert "hunter" not in found
    assert found.isprintable()
    assert shown is None or found.replace("  ", " ") == shown.replace("  ", " ")
