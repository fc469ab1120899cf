"""Backups of a node as its files have them -> the columns of status, and what is called wrong with which cure."""

import fcntl
import io
import json
import os
import re
import time
from pathlib import Path

import pytest
from rich.console import Console

from omega.core import rfc3339
from rpiomega.backup import render, snapshots
from rpiomega.doctor import backup as findings
from rpiomega.node import backup, backup_kit
from rpiomega.node.board import Board
from rpiomega.report import age, size
from rpiomega.site import Site

HOUR, DAY = 3600, 86400
NOW = time.time()
GROUP = {"name": "files", "mode": "hot", "bytes_added": 1000, "bytes_total": 5_000_000, "files": 3, "ok": True}
GOOD = {"id": "1", "started": NOW - 60, "ended": NOW, "ok": True, "cause": "", "cure": "", "groups": [GROUP]}
BROKEN = {"name": "volume:db", "mode": "dump", "ok": False, "cause": "pg_dump: no such db", "cure": "docker start db"}
FAILED = {**GOOD, "ok": False, "groups": [GROUP, BROKEN]}
UNIT = {"load": "loaded", "active": "active", "sub": "waiting", "result": "success", "busy": False, "next": NOW + DAY}
TIMERS = dict.fromkeys(findings.TIMERS, UNIT)


def site(**backups):
    nodes = {
        "m": {"name": "m", "address": "10.0.0.1", "roles": ["master", "manager"]},
        "w": {"name": "w", "address": "10.0.0.2", "roles": ["worker"]},
    }
    return Site.model_validate({"cluster": "home", "nodes": nodes, "backup": {"bucket": "home-backup", **backups}})


@pytest.fixture
def board(tmp_path):
    """Give a node's files: settings are there, nothing was saved yet."""
    for path in (backup.SETTINGS, backup.STATE, backup.PROGRESS):
        (tmp_path / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / backup.SETTINGS.lstrip("/")).write_text("{}")
    return Board(str(tmp_path))


def put(board, path, content):
    text = content if isinstance(content, str) else json.dumps(content)
    with open(board.path(path), "w", encoding="utf-8") as file:
        file.write(text)


def found(board, name="w", made=None, **changes):
    """Return check -> finding for what the files say, with all timers running unless `changes` say otherwise."""
    facts = {**backup.read(board, {}), "units": TIMERS, **changes}
    return {one.check: one for one in findings.check(name, facts, made or site())}


def state(board, last=GOOD, saved=HOUR, proven=DAY, drill=None):
    """Write a state: ages in seconds, None for never."""
    ages = {"success": saved, "proven": proven}
    stamps = {key: None if seconds is None else NOW - seconds for key, seconds in ages.items()}
    put(board, backup.STATE, {"version": 1, "last": last, "drill": drill or {"ok": True}, **stamps})


def test_a_node_in_order_has_no_findings_and_its_ages(board):
    state(board, saved=7 * HOUR, proven=3 * DAY)
    assert found(board) == {}
    assert render.cells(backup.read(board, {})) == ("7 h", "3 d")


@pytest.mark.parametrize(
    ("last", "saved", "check", "severity", "words", "cure"),
    [
        (None, None, "backup-never", "error", "never backed up", "rpiomega backup now w"),
        (FAILED, None, "backup-never", "error", "no such db", "docker start db; then rpiomega backup now w"),
        (GOOD, 37 * HOUR, "backup-age", "error", "is 37 h old", "rpiomega backup now w"),
        (FAILED, 60 * HOUR, "backup-age", "error", "volume:db: pg_dump: no such db", "docker start db; then"),
        (FAILED, 30 * HOUR, "backup-failed", "warning", "volume:db: pg_dump: no such db", "docker start db; then"),
        (
            {**FAILED, "cause": "B2 is down", "cure": "wait"},
            HOUR,
            "backup-failed",
            "warning",
            "B2 is down",
            "wait; then",
        ),
    ],
)
def test_a_backup_that_is_missing_old_or_failed_is_named_with_cause_and_cure(
    board, last, saved, check, severity, words, cure
):
    state(board, last, saved)
    one = found(board)[check]
    assert (one.severity, words in one.what) == (severity, True), one.what
    assert one.cure.startswith(cure)
    assert "\n" not in one.what + one.why + one.cure


def test_the_first_backup_that_runs_is_no_error_yet(board):
    assert found(board, running="backup")["backup-running"].severity == "note"
    assert render.cells({**backup.read(board, {}), "running": "backup"})[0] == "never, running"


@pytest.mark.parametrize(
    ("every", "proven", "drill", "check", "severity"),
    [
        ("weekly", None, None, "drill-never", "warning"),
        ("weekly", 15 * DAY, None, "drill-age", "warning"),
        ("monthly", 15 * DAY, None, None, ""),
        ("monthly", 63 * DAY, None, "drill-age", "warning"),
        ("off", None, None, None, ""),
        ("off", 90 * DAY, {"ok": False, "cause": "canary"}, "drill-failed", "error"),
        ("weekly", DAY, {"ok": False, "checks": [{"name": "repository", "ok": False}]}, "drill-failed", "error"),
    ],
)
def test_a_proof_that_is_missing_old_or_failed_is_named(board, every, proven, drill, check, severity):
    state(board, proven=proven, drill=drill)
    seen = found(board, made=site(drill={"every": every}))
    assert list(seen) == ([check] if check else [])
    if check:
        assert seen[check].severity == severity
        assert "rpiomega backup drill w" in seen[check].cure


@pytest.mark.parametrize(
    ("timer", "name", "every", "reported"),
    [
        ("rpiomega-backup.timer", "w", "weekly", True),
        ("rpiomega-backup-drill.timer", "w", "weekly", True),
        ("rpiomega-backup-drill.timer", "w", "off", False),
        ("rpiomega-backup-forget.timer", "m", "weekly", True),
        ("rpiomega-backup-forget.timer", "w", "weekly", False),
    ],
)
def test_timers_that_a_node_needs_are_missed(board, timer, name, every, reported):
    state(board)
    for unit, cure in (({"active": "inactive"}, f"enable --now {timer}"), ({"load": "not-found"}, "state.apply")):
        units = {**TIMERS, timer: {**UNIT, "active": "inactive", **unit}}
        seen = found(board, name, site(drill={"every": every}), units=units)
        assert [one.cure.endswith(cure) for one in seen.values()] == [True] * reported


def test_a_damaged_state_is_no_success(board):
    put(board, backup.STATE, '{"success": 17')
    seen = found(board)["backup"]
    assert seen.severity == "error"
    assert f"{backup.STATE} is damaged" in seen.what


def test_a_node_without_settings_is_not_set_up_and_a_site_without_a_bucket_is_silent(board):
    os.unlink(board.path(backup.SETTINGS))
    assert found(board)["backup"].cure == "on the master: sudo salt 'w' state.apply"
    assert found(board, made=site(bucket="")) == {}


def test_what_was_saved_and_what_was_not_is_shown_with_its_reason():
    last = {**FAILED, "skipped": [{"name": "volume:cache", "why": "label rpiomega.backup=no"}]}
    out = io.StringIO()
    facts = {**backup.read(Board("/nowhere"), {}), "state": {"last": last, "success": NOW}, "units": TIMERS}
    render.status(Console(file=out, width=200), ["w", "x"], {"w": facts}, [])
    assert "w: files (hot): 1.0 kB added, 5.0 MB in 3 files\n" in out.getvalue()
    assert "w: volume:db FAILED: pg_dump: no such db; next: docker start db\n" in out.getvalue()
    assert "w: volume:cache is not saved: label rpiomega.backup=no\n" in out.getvalue()
    assert json.loads(render.as_json(["w", "x"], {"w": facts}, []))["nodes"]["x"]["known"] is False


def test_a_lock_of_another_process_is_a_run_and_looking_does_not_take_it(board):

    assert backup.read(board, {})["running"] == ""
    with open(board.path(backup.LOCK), "w", encoding="ascii") as lock:
        assert backup.read(board, {})["running"] == ""
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert backup.read(board, {})["running"] == "restore"
        put(board, backup.PROGRESS, {"id": "1", "what": "save", "group": "files"})
        assert backup.read(board, {})["running"] == "backup"
        for what in ("drill", "restore"):  # by hand: no unit says so
            put(board, backup.PROGRESS, {"id": "1", "what": what, "group": "files"})
            assert backup.read(board, {})["running"] == what


KIT = {
    "bucket.json": {"cluster": "home", "bucket": "b", "endpoint": "https://s3.x.backblazeb2.com", "region": "x"},
    "reader": 'key_id: "1"\nkey: "k"\n',
    "recovery": "eight words of a phrase\n",
}


@pytest.mark.parametrize(
    ("checked", "changed", "words", "severity"),
    [
        (False, "", "was never checked", "warning"),
        (True, "", "", ""),
        (True, "recovery", "is stale", "warning"),
        (True, "nodes", "is stale", "warning"),
        (True, "bucket.json", "bucket.json, or the key or the passphrase", "error"),
    ],
)
def test_a_kit_that_was_not_checked_since_it_changed_is_named(board, checked, changed, words, severity):
    state(board)
    folder = Path(board.path(backup_kit.FOLDER))
    folder.mkdir(parents=True)
    for name, content in KIT.items():
        put(board, f"{backup_kit.FOLDER}/{name}", content)
    if checked:
        known = backup_kit.digest(backup_kit.fields(board))
        put(board, backup_kit.MARK, {"version": 1, "hash": known, "checked": int(NOW)})
    if changed == "nodes":
        (folder / "nodes/w").mkdir(parents=True)
        (folder / "nodes/w/key").write_text(KIT["reader"])
    elif changed:
        put(board, f"{backup_kit.FOLDER}/{changed}", "another")
    seen = found(board, "m")
    assert [(one.check, one.severity, words in one.what) for one in seen.values()] == (
        [("backup-kit", severity, True)] if words else []
    )
    assert KIT["recovery"].strip() not in str(seen)


LISTED = [
    {"id": "a", "time": "2026-11-27T02:00:00.123456789+01:00", "group": "files", "mode": "hot", "run": "1"},
    {"id": "b", "time": "2026-11-28T02:00:00Z", "group": "files", "mode": "hot", "run": "2"},
    {"id": "c", "time": "2026-11-27T02:00:05Z", "group": "volume:db", "paths": ["/x/volumes/db", "/x/volumes/db_log"]},
]


@pytest.mark.parametrize(
    ("volume", "until", "ids"),
    [
        ("", None, "acb"),
        ("", "2026-11-27T23:59:59Z", "ac"),
        ("", "2026-11-29T00:00:00Z", "cb"),
        ("db", None, "c"),
        ("db_log", None, "c"),
        ("other", None, ""),
    ],
)
def test_snapshots_are_chosen_by_volume_and_time(volume, until, ids):
    chosen = snapshots.chosen(LISTED, volume, rfc3339.seconds(until) if until else None)
    assert "".join(one["id"] for one in chosen) == ids


@pytest.mark.parametrize(
    ("seconds", "text"), [(-5, "0 min"), (300, "5 min"), (7 * HOUR, "7 h"), (47 * HOUR, "47 h"), (3 * DAY, "3 d")]
)
def test_ages_are_short(seconds, text):
    assert age(seconds) == text


@pytest.mark.parametrize(("number", "text"), [(12, "12 B"), (1500, "1.5 kB"), (120e6, "120 MB"), (2e15, "2000 TB")])
def test_sizes_are_short(number, text):
    assert size(number) == text


# -- bad luck and hostile text ------------------------------------------------------------------------------

HOSTILE = "a\x1b]0;title\x07\x1b[2Jb\n[bold]c[/bold]\u202e"


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"success": "yesterday"}, "success"),
        ({"proven": True}, "proven"),
        ({"last": "none"}, "last"),
        ({"last": {"groups": ["files"]}}, "last"),
        ({"last": {"groups": [{"ok": True}]}}, "last"),
        ({"drill": {"checks": {"a": 1}}}, "drill"),
        ({"drill": 7}, "drill"),
    ],
)
def test_a_state_whose_values_have_other_types_is_damaged_and_breaks_nothing(board, changes, key):
    put(board, backup.STATE, {"version": 1, "last": GOOD, "success": NOW, **changes})
    assert f"`{key}` has another type" in found(board)["backup"].what
    facts = {"w": backup.read(board, {})}
    assert json.loads(render.as_json(["w"], facts, []))
    render.status(Console(file=io.StringIO()), ["w"], facts, [])


def test_the_state_of_a_newer_release_is_read(board):
    put(board, backup.STATE, {"version": 2, "last": {**GOOD, "new": 1}, "success": NOW, "proven": NOW, "more": [1]})
    assert found(board) == {}


def test_a_backup_and_a_proof_of_the_future_are_errors(board):
    state(board, saved=-DAY, proven=-DAY)
    seen = found(board)
    assert {one.severity for one in seen.values()} == {"error"}
    assert "dated in the future" in seen["backup-age"].what
    assert "dated in the future" in seen["drill-age"].what
    assert render.cells(backup.read(board, {})) == ("in the future", "in the future")


def test_no_text_of_a_node_or_of_a_bucket_reaches_the_terminal_as_code(board):
    broken = {"name": f"volume:{HOSTILE}", "ok": False, "cause": HOSTILE, "cure": HOSTILE}
    last = {**GOOD, "ok": False, "groups": [broken], "skipped": [{"name": HOSTILE, "why": HOSTILE}]}
    state(board, last, saved=None, drill={"ok": False, "cause": HOSTILE})
    facts, out = {"w": backup.read(board, {})}, io.StringIO()
    console = Console(file=out, width=4000, force_terminal=True, color_system=None)
    render.status(console, ["w"], facts, list(found(board).values()))
    rows = [{"id": HOSTILE, "time": "2026-11-28T14:30:00Z", "group": HOSTILE, "mode": HOSTILE, "run": HOSTILE}]
    render.snapshots(console, {"w": snapshots.chosen(rows)})
    shown = out.getvalue()
    # What is left are rich's own attributes of text (bold, reset).
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert all(char.isprintable() or char == "\n" for char in plain)
    assert "[bold]c[/bold]" in plain
    assert json.loads(render.as_json(["w"], facts, []))["nodes"]["w"]["last"]["groups"][0]["cause"] == HOSTILE
