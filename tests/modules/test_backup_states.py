"""States of backups through Salt's loader, with a real restic on repositories in local folders."""

import datetime
import functools
import json
import logging
import os
import pathlib
import shutil
import subprocess

import pytest
import restic_program
import restic_repository
from backup_pillar import SECRETS, SETTINGS, SITE, pillar_of, restic, save, snapshots
from salt.exceptions import CommandExecutionError

from omega.backup import restic as restic_module
from omega.backup import restic_errors
from omega.core import polling

pytestmark = pytest.mark.long

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def program():
    return restic_program.path()


@pytest.fixture
def site(tmp_path):
    """The folders of one node: `etc`, and `store` with the repositories."""
    (tmp_path / "store").mkdir()
    return tmp_path


@pytest.fixture
def apply(states, site, caplog, capfd):
    """apply("configured", node="pi1", test=True, ...): runs a state; no secret is in its return or in the log."""
    caplog.set_level(logging.DEBUG)

    def apply(state, node="pi1", test=False, name=None, pillar=None, **arguments):
        pillar = pillar_of(node, site / "store") if pillar is None else pillar
        with states(test=test, pillar=pillar, minion_id=node) as loaded:
            answer = loaded[f"backup.{state}"](name or str(site / "etc"), **arguments)
        told = str(answer) + caplog.text + "".join(capfd.readouterr())
        assert not [key for key, secret in SECRETS.items() if secret in told]
        return answer

    return apply


def tree(folder):
    """Return {path: (mode, content)} of all below a folder."""
    return {
        str(path.relative_to(folder)): (path.stat().st_mode & 0o7777, path.read_text() if path.is_file() else None)
        for path in [folder, *sorted(folder.rglob("*"))]
    }


# -- the files ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("node", ["pi1", "pi2"])
def test_a_nodes_files_are_roots_alone_and_written_once(apply, site, node):
    etc = site / "etc"
    foreseen = apply("configured", node, test=True, settings=SETTINGS)
    assert foreseen["result"] is None
    assert not etc.exists()
    made = apply("configured", node, settings=SETTINGS)
    assert made["result"] is True
    assert made["changes"] == foreseen["changes"]
    files = {"repository", "password", "aws", "settings.json"}
    if node == "pi1":
        files |= {"maintenance/aws", "maintenance/recovery"}
        files |= {f"maintenance/nodes/{name}/{file}" for name in SITE["nodes"] for file in ("password", "repository")}
    found = tree(etc)
    assert {path for path, (_, text) in found.items() if text is not None} == files
    assert {mode for mode, text in found.values() if text is not None} == {0o600}
    assert {mode for mode, text in found.values() if text is None} == {0o700}
    assert found["password"][1] == SECRETS[node] + "\n"
    settings = json.loads(found["settings.json"][1])
    assert {key: settings[key] for key in ("node", "cluster", "region", "master", "keep")} == {
        "node": node,
        "cluster": "omega",
        "region": "us-west-004",
        "master": node == "pi1",
        "keep": SETTINGS["keep"],
    }
    assert settings["roles"] == SITE["nodes"][node]["roles"]
    assert apply("configured", node, settings=SETTINGS)["changes"] == {}
    assert tree(etc) == found


def test_only_what_differs_is_written_and_what_is_of_no_node_goes(apply, site):
    etc = site / "etc"
    apply("configured", settings=SETTINGS)
    before = tree(etc)
    (etc / "password").chmod(0o644)
    (etc / "aws").write_text("[default]\n")
    (etc / "maintenance").chmod(0o755)
    (etc / "maintenance/nodes/pi9").mkdir()
    (etc / "maintenance/nodes/pi9/password").write_text("of a node that was removed")
    (etc / "notes-of-mine").write_text("mine")
    wanted = {
        str(etc / "maintenance"): "mode",
        str(etc / "password"): "mode",
        str(etc / "aws"): "written",
        str(etc / "maintenance/nodes/pi9/password"): "removed",
    }
    assert apply("configured", test=True, settings=SETTINGS)["changes"] == wanted
    assert apply("configured", settings=SETTINGS)["changes"] == wanted
    assert (etc / "notes-of-mine").read_text() == "mine"
    (etc / "notes-of-mine").unlink()
    assert tree(etc) == before


def test_a_master_that_became_a_worker_keeps_no_secrets_of_others(apply, site):
    apply("configured", "pi1", settings=SETTINGS)
    pillar = pillar_of("pi2", site / "store")
    apply("configured", "pi2", settings=SETTINGS, pillar=pillar)
    assert {path.name for path in (site / "etc").iterdir()} == {"repository", "password", "aws", "settings.json"}


@pytest.mark.parametrize(
    ("secrets", "said"),
    [
        ({}, "the pillar of pi1 has no secrets of backups; `salt-call saltutil.refresh_pillar`"),
        ({"backup": {"problem": "on the master, x is missing; run y"}}, "on the master, x is missing; run y"),
    ],
)
def test_without_secrets_nothing_is_written_and_what_is_there_stays(apply, site, secrets, said):
    apply("configured", settings=SETTINGS)
    before = tree(site / "etc")
    pillar = {"rpiomega": SITE, "rpiomega_secrets": secrets}
    answer = apply("configured", settings=SETTINGS, pillar=pillar)
    assert answer["result"] is False
    assert said in answer["comment"]
    assert tree(site / "etc") == before


def test_a_site_without_a_bucket_leaves_no_secret_on_the_node(apply, site):
    apply("configured", settings=SETTINGS)
    (site / "etc/notes-of-mine").write_text("mine")
    foreseen = apply("unconfigured", test=True, pillar={})
    assert foreseen["result"] is None
    assert (site / "etc/password").exists()
    gone = apply("unconfigured", pillar={})
    assert gone["changes"] == foreseen["changes"]
    assert "the repository stays in the bucket" in gone["comment"]
    assert [path.name for path in (site / "etc").iterdir()] == ["notes-of-mine"]
    (site / "etc/notes-of-mine").unlink()
    apply("unconfigured", pillar={})
    assert apply("unconfigured", pillar={})["changes"] == {}


# -- the repositories ---------------------------------------------------------------------------------------


@pytest.fixture
def present(apply, program):
    apply("configured", settings=SETTINGS)
    return lambda **arguments: apply("repositories_present", program=program, **arguments)


def test_repositories_are_made_once_and_open_with_either_password(present, site):
    wanted = dict.fromkeys(("pi1", "pi2"), "repository made, recovery key added")
    foreseen = present(test=True)
    assert (foreseen["result"], foreseen["changes"]) == (None, wanted)
    assert not list((site / "store").iterdir())
    made = present()
    assert (made["result"], made["changes"]) == (True, wanted)
    ids = {}
    for node in wanted:
        for password in (SECRETS[node], SECRETS["recovery"]):
            done = restic(site / "store" / node, password, "cat", "config")
            assert done.returncode == 0, done.stderr
            ids.setdefault(node, set()).add(json.loads(done.stdout)["id"])
        keys = json.loads(restic(site / "store" / node, SECRETS[node], "key", "list", "--json").stdout)
        assert sorted((key["userName"], key["hostName"]) for key in keys)[-1] == ("rpiomega", "recovery")
        assert len(keys) == 2
    assert all(len(found) == 1 for found in ids.values())
    before = sorted(path for path in (site / "store").rglob("*"))
    for test in (True, False):
        again = present(test=test)
        assert (again["result"], again["changes"]) == (True, {})
    assert sorted(path for path in (site / "store").rglob("*")) == before


def test_a_new_recovery_passphrase_is_added_and_the_old_kit_still_opens(present, site):
    for name in SITE["nodes"]:
        restic_repository.make(site / "store" / name, SECRETS[name], SECRETS["recovery"])
    assert present()["changes"] == {}
    (site / "etc/maintenance/recovery").write_text("another secret phrase\n")
    assert present(test=True)["changes"] == {"pi1": "recovery key added", "pi2": "recovery key added"}
    assert present()["changes"] == {"pi1": "recovery key added", "pi2": "recovery key added"}
    for password in ("another secret phrase", SECRETS["recovery"], SECRETS["pi2"]):
        assert restic(site / "store/pi2", password, "cat", "config").returncode == 0


def test_a_repository_of_another_cluster_is_named_and_left_as_it_is(present, site):
    restic_repository.make(site / "store/pi2", "of another cluster")
    restic_repository.make(site / "store/pi1", SECRETS["pi1"])
    before = sorted(path for path in (site / "store/pi2").rglob("*"))
    for test in (True, False):
        answer = present(test=test)
        assert answer["result"] is False
        (line,) = answer["comment"].splitlines()
        assert line.startswith(f"pi2: {site}/store/pi2 opens with another password than this cluster's, and was left")
        assert "put the file backup/nodes/pi2/password of its time back" in line
    assert answer["changes"] == {"pi1": "recovery key added"}  # the others are done
    assert sorted(path for path in (site / "store/pi2").rglob("*")) == before
    assert restic(site / "store/pi2", "of another cluster", "cat", "config").returncode == 0


def test_a_repository_that_was_there_and_is_gone_is_not_made_again_unasked(present, site):
    present()
    shutil.rmtree(site / "store/pi2")
    for test in (True, False):
        answer = present(test=test)
        assert (answer["result"], answer["changes"]) == (False, {})
        (line,) = answer["comment"].splitlines()
        assert "store/pi2 was there and is gone" in line
        assert "rpiomega backup past pi2 --at TIME" in line
    assert not (site / "store/pi2").exists()
    (site / "etc/repositories.json").unlink()
    assert present()["changes"] == {"pi2": "repository made, recovery key added"}


def test_a_store_that_does_not_answer_is_asked_once_and_is_no_missing_repository(present, site, monkeypatch):
    monkeypatch.setattr(restic_module, "PATIENCE", functools.partial(restic_errors.Patience, 1, 2))
    for node in SITE["nodes"]:
        (site / f"etc/maintenance/nodes/{node}/repository").write_text(f"s3:http://127.0.0.1:9/omega-backup/{node}\n")
    (site / "etc/maintenance/aws").write_text("[default]\naws_access_key_id = a\naws_secret_access_key = b\n")
    for test in (True, False):
        answer = present(test=test)
        assert (answer["result"], answer["changes"]) == (False, {})
        (line,) = answer["comment"].splitlines()
        assert line.startswith("pi1: ")
        assert "connection refused" in line
        assert "check this node's network and name servers" in line


def test_before_restic_and_the_files_are_there_test_true_says_so(apply, site, program):
    absent = apply("repositories_present", test=True, program=str(site / "no-restic"))
    assert absent["result"] is None
    assert "once restic and its files are there" in absent["comment"]
    assert apply("repositories_present", test=True, program=program)["result"] is None
    failed = apply("repositories_present", program=program)
    assert failed["result"] is False
    assert "apply the state `backup` on the master" in failed["comment"]


# -- the upkeep ---------------------------------------------------------------------------------------------


@pytest.fixture
def forget(load_modules, present, site, program, caplog):
    """The function that the timer calls, on repositories that are there."""
    for name in SITE["nodes"]:
        restic_repository.make(site / "store" / name, SECRETS[name], SECRETS["recovery"])
    modules = load_modules()

    def forget():
        arguments = {"folder": str(site / "etc"), "record": str(site / "var/forget.json"), "program": program}
        try:
            return modules["backup_upkeep.forget"](**arguments)
        finally:
            assert not [key for key, secret in SECRETS.items() if secret in caplog.text]

    return forget


def test_a_snapshot_dated_in_the_future_keeps_all_others(forget, site):
    store = site / "store/pi2"
    for day in (1, 2, 3):
        save(store, SECRETS["pi2"], f"2026-01-0{day} 02:00:00")
    save(store, SECRETS["pi2"], "2099-01-01 02:00:00")
    save(site / "store/pi1", SECRETS["pi1"], "2026-01-01 02:00:00", host="pi1")
    late = max(snapshots(store, SECRETS["pi2"]), key=lambda snapshot: snapshot["time"])
    with pytest.raises(CommandExecutionError) as caught:
        forget()
    assert f"pi2: snapshot {late['short_id']} of pi2 is dated 2099-01-01T02:00" in str(caught.value)
    assert f"`restic forget {late['short_id']}`" in str(caught.value)
    assert len(snapshots(store, SECRETS["pi2"])) == 4
    record = json.loads((site / "var/forget.json").read_text())
    assert record["nodes"]["pi1"] == {"ok": True, "kept": 1, "removed": 0}
    assert record["nodes"]["pi2"]["kind"] == "future"
    assert (site / "var/forget.json").stat().st_mode & 0o777 == 0o600


def test_the_lock_and_the_first_snapshot_of_a_run_that_was_killed_do_not_stay(forget, site, program):
    store, password = site / "store/pi2", SECRETS["pi2"]
    old = f"{datetime.date.today() - datetime.timedelta(days=3)} 02:00:00"
    save(store, password, old, program_tag="rpiomega-warm")
    save(store, password, old)
    save(store, password, f"{datetime.date.today()} 00:00:00", program_tag="rpiomega-warm")  # a run may still need it
    command = [program, "--no-cache", "-r", store, "backup", "--stdin"]
    killed = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, env={**os.environ, "RESTIC_PASSWORD": password}
    )
    polling.until(lambda: list((store / "locks").iterdir()), 60, "the lock")
    killed.kill()
    killed.communicate()
    assert list((store / "locks").iterdir())
    assert forget()["pi2"] == {"kept": 2, "removed": 1}
    assert not list((store / "locks").iterdir())


@pytest.mark.long
def test_two_months_leave_what_the_policy_says_of_each_group(forget, site):
    store, password = site / "store/pi2", SECRETS["pi2"]
    newest = datetime.date.today() - datetime.timedelta(days=1)
    days = [newest - datetime.timedelta(days=number) for number in range(62)]
    for day in reversed(days):
        save(store, password, f"{day} 02:00:00", content=str(day))
    for day in (days[50], days[51]):  # a volume that is not saved any more
        save(store, password, f"{day} 02:00:00", group="volume:old", content=str(day))
    save(store, password, "2020-01-01 02:00:00", program_tag="of-the-owner")
    found = forget()["pi2"]
    left = snapshots(store, password)
    assert found == {"kept": len(left), "removed": 65 - len(left)}
    kept = [datetime.date.fromisoformat(item["time"][:10]) for item in left if "group=files" in item["tags"]]
    own = [item for item in left if "of-the-owner" in item["tags"]]
    assert len(own) == 1
    assert [item["time"][:10] for item in left if "group=volume:old" in item["tags"]] == [
        str(days[51]),
        str(days[50]),
    ]
    ours = [day for day in kept if day.year != 2020]
    assert set(days[:7]) <= set(ours)
    weeks = {day.isocalendar()[:2] for day in days[:28]}
    assert weeks <= {day.isocalendar()[:2] for day in ours}
    assert {(day.year, day.month) for day in days} <= {(day.year, day.month) for day in ours}
    assert len(ours) <= 7 + 5 + 3
    assert forget()["pi2"]["removed"] == 0
    assert restic(store, password, "check", "--read-data").returncode == 0


def test_a_node_that_is_not_the_master_says_so(load_modules, apply, site, program):
    apply("configured", "pi2", settings=SETTINGS)
    with pytest.raises(CommandExecutionError, match="maintenance/nodes cannot be read"):
        load_modules()["backup_upkeep.forget"](folder=str(site / "etc"), record=str(site / "r"), program=program)
    assert not os.path.exists(site / "r")
