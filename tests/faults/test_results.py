"""Results are kept by row, whatever letter the row's ID begins with."""

import json
import os
import subprocess
import sys

import pytest
import report
import results

from rpiomega.lab import state

ROW = {"fault": "a fault", "test": "test_any.py", "bound_s": 10}
ENTRY = {"outcome": results.PASSED, "seconds": 1.0, "bound": 10, "injected": "it", "lost": "nothing", "measured": {}}


def same(*commits):
    """No product file differs between any two commits."""
    return []


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Results in a folder of the test's own."""
    monkeypatch.setattr(state, "ROOT", tmp_path)
    monkeypatch.delenv("RPIOMEGA_FAULTS_LAB", raising=False)
    return results


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("test_f21_leader_killed", "F21"),
        ("test_g01_join_fails", "G01"),
        ("test_x7_other", "X7"),
        ("test_every_row_has_a_test_in_its_file", ""),
        ("test_group_of_rows", ""),
    ],
)
def test_a_test_is_for_the_row_that_its_name_begins_with(name, row):
    assert results.row_of(name) == row


def test_rows_of_every_letter_are_in_the_report(kept, monkeypatch):
    monkeypatch.setattr(results, "table", lambda: {"F21": {"id": "F21", **ROW}, "G01": {"id": "G01", **ROW}})
    results.save("test_f21_a", {"row": "F21", **ENTRY}, "1111111")
    results.save("test_g01_a", {"row": "G01", **ENTRY}, "1111111")
    results.save("test_g01_gone", {"row": "G01", **ENTRY}, "1111111")
    results.prune({"test_g01_a"})
    assert set(results.load()) == {"test_f21_a", "test_g01_a"}
    assert [line[:7] for line in report.lines(results.load(), same)] == ["| F21 |", "| G01 |"]
    assert report.summary(results.load(), same).startswith("2 of 2 rows passed")


def test_chosen_rows_are_those_of_the_table(kept):
    assert results.chosen("f21, G01 F22", ["F21", "F22", "G01"]) == {"F21", "F22", "G01"}
    assert results.chosen("", ["F21"]) == set()


def test_a_row_that_is_not_there_is_refused_with_those_that_are(kept):
    with pytest.raises(ValueError, match=r"no row G99.*F21.*G01"):
        results.chosen("G99", ["F21", "G01"])


def test_results_and_histories_outlive_the_lab(kept, tmp_path, monkeypatch):
    # A lab of no nodes, taken down by the real command: the engine is asked for what is there of it.
    name = "keptresults"
    monkeypatch.setenv("RPIOMEGA_FAULTS_LAB", name)
    lab = state.Lab(name)
    lab.save()
    # Where an earlier version kept them.
    (lab.folder / "results.json").write_text(json.dumps({"test_f21_a": {"row": "F21", "outcome": "passed"}}))
    (lab.folder / "nemesis-7.jsonl").write_text("{}\n")
    results.save("test_g01_a", {"row": "G01", **ENTRY}, "1111111")
    environment = os.environ | {"RPIOMEGA_LAB_DIR": str(tmp_path), "RPIOMEGA_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "rpiomega", "lab", "down", "--name", name]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=120)
    if "no Docker daemon" in done.stderr:
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    assert not lab.folder.exists()
    assert f"kept: {lab.results}" in done.stdout
    assert set(results.load()) == {"test_f21_a", "test_g01_a"}
    assert (results.folder() / "nemesis-7.jsonl").read_text() == "{}\n"


@pytest.fixture
def checkout(tmp_path):
    """A repository with a product, tests and a lab: `commit(path, text)` changes one file and returns the commit."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b.c"]

    def commit(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
        subprocess.run([*git, "add", "-A"], check=True)
        subprocess.run([*git, "commit", "-qm", path], check=True)
        done = subprocess.run([*git, "rev-parse", "--short=7", "HEAD"], capture_output=True, text=True, check=True)
        return done.stdout.strip()

    subprocess.run([*git, "init", "-q"], check=True)
    commit("salt/top.sls", "{}")
    return commit


@pytest.mark.parametrize(
    ("path", "product"),
    [
        ("_states/swarm.py", True),
        ("_utils/omega/core/files.py", True),
        ("_modules/swarm.py", True),
        ("_pillar/rpiomega.py", True),
        ("salt/swarm/init.sls", True),
        ("bootstrap/rpiomega/node/agent.py", True),
        ("bootstrap/rpiomega/lab/demo.py", False),
        ("bootstrap/rpiomega/verify/suite/test_b2.py", False),
        ("tests/faults/conftest.py", False),
        ("docs/reliability.md", False),
        ("salted/other.sls", False),
    ],
)
def test_a_result_stands_until_the_product_changes(checkout, tmp_path, path, product):
    first = checkout("docs/readme.md", "1")
    last = checkout(path, "2")
    known = {"test_g01_a": {"row": "G01", **ENTRY, "commit": first}, "test_f01_a": {**ENTRY, "commit": last}}
    known["test_f02_a"] = {"outcome": results.FAILED, "commit": last}

    def differ(since, until="HEAD"):
        return results.changed(since, until, tmp_path)

    assert differ(first) == ([path] if product else [])
    again = {"test_g01_a": first} if product else {}
    assert results.standing(known, differ) == ({"test_g01_a", "test_f01_a"} - set(again), again)


def test_a_result_of_a_commit_that_is_not_here_does_not_stand(checkout, tmp_path):
    found = results.changed("1234567", "HEAD", tmp_path)
    assert "1234567" in found[0]


def test_the_report_says_which_rows_passed_with_another_product(kept, monkeypatch):
    monkeypatch.setattr(results, "table", lambda: {key: {"id": key, **ROW} for key in ("F21", "F22", "G01")})
    at = {"1111111": "2026-01-01T00:00:00Z", "2222222": "2026-01-02T00:00:00Z", "3333333": "2026-01-03T00:00:00Z"}
    of = {"F21": "1111111", "F22": "2222222", "G01": "3333333"}
    known = {f"test_{key}": {"row": key, **ENTRY, "commit": one, "at": at[one]} for key, one in of.items()}

    def differ(since, until):
        assert until == "3333333"
        return ["salt/top.sls"] if since == "1111111" else []

    first, second, third = report.lines(known, differ)
    assert "passed at 1111111, product changed since |" in first
    assert "passed at 2222222 |" in second
    assert "passed |" in third
    assert "than that commit's: F21." in report.summary(known, differ)
    known["after F21"] = {"outcome": results.PASSED, "took": 9, "commit": "1111111", "at": at["1111111"]}
    (line,) = report.others(known, differ)
    assert "passed at 1111111, product changed since" in line
