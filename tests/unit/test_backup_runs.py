"""`rpiomega backup now` and `drill`: units of a real systemd, started and followed over a real sshd."""

import getpass
import json
import subprocess
import sys
import time

import pytest
from systemd_node import BOUND, SITE, SystemdNode

pytestmark = pytest.mark.long

GROUP = {"name": "files", "mode": "hot", "snapshot": "1a2b3c4d", "bytes_added": 2_500_000, "bytes_total": 120_000_000}
GOOD = {"ok": True, "groups": [{**GROUP, "files": 12, "paused_seconds": 0, "ok": True}], "skipped": []}
BAD = {
    "ok": False,
    "cause": "",
    "cure": "docker start db",
    "groups": [
        {**GROUP, "ok": True},
        {"name": "volume:db", "mode": "dump", "ok": False, "cause": "pg_dump: no such db"},
    ],
    "skipped": [],
}


@pytest.fixture(scope="module")
def machine(module_sshd):
    """Give a node with the units of the backups, for all tests here: its systemd takes seconds to start."""
    machine = SystemdNode(module_sshd)
    (module_sshd.folder / "no_config").write_text("")
    try:
        machine.start()
        yield machine
    finally:
        machine.stop()


@pytest.fixture
def node(machine):
    """Give that node as if nothing had been done on it."""
    yield machine
    machine.reset()


@pytest.fixture
def beside(node, tmp_path):
    """Give a function that starts `rpiomega backup ARGUMENTS`; it returns one that waits for exit code and output."""
    started = []

    def start(*arguments, bucket="home-backup"):
        values = {"user": getpass.getuser(), "port": node.server.port, "key": node.folder / "key", "folder": tmp_path}
        site = tmp_path / f"site{len(started)}.sls"
        site.write_text(SITE.format(**values, bucket=bucket))
        base = [
            "--site",
            site,
            "--log-dir",
            tmp_path / "logs",
            "--wait",
            "20",
            "--ssh-config",
            node.folder / "no_config",
        ]
        line = [sys.executable, "-m", "rpiomega", "backup", *arguments, *base]
        process = subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        started.append(process)

        def result():
            out, errors = process.communicate(timeout=BOUND)
            return subprocess.CompletedProcess(line, process.returncode, out, errors)

        return result

    yield start
    for process in started:
        process.kill()


@pytest.fixture
def backup(beside):
    """Give a function that runs `rpiomega backup ARGUMENTS` against the node: exit code, output."""
    return lambda *arguments, **values: beside(*arguments, **values)()


def log(tmp_path):
    return (tmp_path / "logs/pi-1.log").read_text()


def test_a_run_is_started_by_its_unit_and_its_result_shown(backup, node):
    node.play(GOOD)
    done = backup("now")
    assert done.returncode == 0, done.stdout
    assert "1 group, 2.5 MB added of 120 MB" in done.stdout
    assert "  files (hot): 2.5 MB added, 120 MB in 12 files" in done.stdout
    assert node.starts() == ["backup"]


def test_a_lost_connection_ends_no_run_and_is_opened_again(beside, node, tmp_path):
    result = beside("now")
    node.until("the run to begin", lambda: node.starts() and "files" in log(tmp_path))
    node.cut()
    node.until("the loss to be noticed", lambda: "connection lost" in log(tmp_path))
    node.play(GOOD)
    done = result()
    assert done.returncode == 0, done.stdout
    assert node.starts() == ["backup"]
    assert node.state()["last"]["ok"]


def test_a_second_command_follows_the_run_of_the_first(beside, node, tmp_path):
    first = beside("now")
    node.until("the run to begin", node.starts)
    second = beside("now")
    node.until("both to follow", lambda: log(tmp_path).count("waiting for the end of the backup") == 2)
    node.play(GOOD)
    first, second = first(), second()
    assert (first.returncode, second.returncode) == (0, 0), first.stdout + second.stdout
    assert node.starts() == ["backup"]
    assert "a backup was running already" in second.stdout


def test_groups_that_failed_are_named_and_a_new_run_does_not_wait_for_systemds_own(backup, node):
    node.play(BAD)
    done = backup("now")
    assert done.returncode == 1
    assert "pi-1: backup: volume:db: pg_dump: no such db\n  next: docker start db" in done.stdout
    began = time.monotonic()
    node.play(GOOD)
    again = backup("now")
    assert again.returncode == 0, again.stdout
    assert time.monotonic() - began < BOUND < 30 * 60
    assert node.starts() == ["backup", "backup"]


def test_a_run_that_was_killed_is_no_success_of_the_one_before(backup, beside, node):
    node.play(GOOD)
    assert backup("now").returncode == 0
    node.rewind()
    result = beside("now")
    node.until("the second run to begin", lambda: len(node.starts()) == 2)
    node.kill_run()
    done = result()
    assert done.returncode == 1
    assert "rpiomega-backup.service ended (signal) without a result" in done.stdout
    assert "journalctl -u rpiomega-backup.service" in done.stdout


def test_a_drill_names_its_failed_checks_and_is_not_started_beside_a_backup(backup, beside, node):
    result = beside("now")
    node.until("the run to begin", node.starts)
    refused = backup("drill")
    assert refused.returncode == 1
    assert "a backup is running on this node" in refused.stdout
    node.play(GOOD)
    assert result().returncode == 0
    node.play({"ok": False, "checks": [{"name": "canary", "ok": False, "cause": "an old snapshot"}, {"ok": True}]})
    done = backup("drill", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["errors"]["pi-1"]["cause"] == "canary: an old snapshot"
    node.play({"ok": True, "checks": [{"name": "canary", "ok": True}]})
    assert backup("drill").returncode == 0
    assert node.starts() == ["backup", "drill", "drill"]


def test_a_node_without_the_state_and_a_site_without_a_bucket_are_named_in_one_line(backup, node):
    (node.folder / "etc/rpiomega/backup/settings.json").unlink()
    done = backup("now")
    assert done.returncode == 1
    assert "next: on the master: sudo salt 'pi-1' state.apply" in done.stdout
    for command in ("now", "drill", "status", "list"):
        done = backup(command, bucket='""')
        assert (done.returncode, len(done.stderr.strip().splitlines()[-1:])) == (2, 1)
        assert "has no backups: backup.bucket is empty" in done.stderr
    assert node.starts() == []


def test_status_reads_ages_groups_and_timers_without_salt_or_b2(backup, node):
    assert backup("status").returncode == 1  # never backed up
    node.play(GOOD)
    backup("now")
    done = backup("status", "--json")
    assert done.returncode == 0, done.stdout
    found = json.loads(done.stdout)
    assert found["nodes"]["pi-1"]["age"] < BOUND
    assert found["nodes"]["pi-1"]["bytes_total"] == 120_000_000
    assert 0 < found["nodes"]["pi-1"]["next"] - time.time() <= 86400
    assert [one["check"] for one in found["findings"]] == ["drill-never"]


def test_a_timer_that_does_not_run_is_an_error_with_its_command(backup, node):
    node.play(GOOD)
    backup("now")
    (node.folder / "units").joinpath("rpiomega-backup.timer").unlink()
    node.systemctl("stop", "rpiomega-backup.timer")
    done = backup("status")
    assert done.returncode == 1
    assert "on pi-1: sudo systemctl enable --now rpiomega-backup.timer" in done.stdout
