"""`rpiomega restore`: a unit of a real systemd runs the formula's functions with a real restic, over a real sshd."""

import getpass
import json
import os
import pathlib
import shutil
import subprocess
import sys

import pytest
import restic_program
from click.testing import CliRunner
from systemd_node import BOUND, SITE, SystemdNode

from omega.backup import pick, requests
from omega.backup.pick import RestoreError
from omega.backup.settings import Places
from rpiomega import cli
from rpiomega.backup import restore
from rpiomega.node.board import Board
from rpiomega.node.step import StepError
from rpiomega.node.steps.restore import RestoreStart

pytestmark = pytest.mark.long

NAME = "no\nte: {x} \udcff"  # a line break, what YAML reads as a mapping, and a byte that is no text
ROOT = pathlib.Path(__file__).resolve().parents[2]
MINION = """
id: pi-1
file_client: local
root_dir: {folder}/salt
module_dirs: [{root}]
utils_dirs: [{root}/_utils]
"""
# The board's commands have a fixed PATH; /usr/local is the node's own here.
PROGRAM = """#!/bin/sh
export XDG_RUNTIME_DIR=/run/user/0 PATH=/usr/local/bin:/usr/bin:/bin
exec {command} "$@"
"""


class RestoreNode(SystemdNode):
    """A node with Salt's minion, restic and a repository with one snapshot of `data`."""

    def start(self):
        folder = self.folder
        self.data = folder / "data"
        self.data.mkdir()
        (self.data / NAME).write_text("as it was saved")
        backup = folder / "backup"
        backup.mkdir()
        (backup / "password").write_text("for tests only")
        (backup / "repository").write_text(str(folder / "repo"))
        (backup / "settings.json").write_text(json.dumps({"node": "pi-1"}))
        command = [restic_program.path(), "-r", str(folder / "repo"), "-p", str(backup / "password"), "--no-cache"]
        subprocess.run([*command, "init"], check=True, capture_output=True, timeout=BOUND)
        tags = "rpiomega,group=files,run=1,mode=hot"
        saved = [*command, "backup", "--tag", tags, "--host", "pi-1", "--time", "2026-01-02 12:00:00", str(self.data)]
        subprocess.run(saved, check=True, capture_output=True, timeout=BOUND)
        super().start()
        etc, local = folder / "etc", folder / "local/bin"
        shutil.copytree(backup, etc / "rpiomega/backup", dirs_exist_ok=True)
        (etc / "salt").mkdir(exist_ok=True)
        (etc / "salt/minion").write_text(MINION.format(folder=folder, root=ROOT))
        local.mkdir(parents=True)
        salt = f"{sys.executable} -P {pathlib.Path(sys.executable).parent / 'salt-call'}"
        for name, program in (
            ("salt-call", salt),
            ("systemd-run", f"{folder}/real-run --user"),
            ("restic", command[0]),
        ):
            (local / name).write_text(PROGRAM.format(command=program))
            (local / name).chmod(0o755)
        shutil.copy("/usr/bin/systemd-run", folder / "real-run")
        self.inside("mount", "--bind", str(folder / "local"), "/usr/local")
        self.inside("mount", "--bind", str(local / "systemd-run"), "/usr/bin/systemd-run")
        self.inside("systemctl", "set-environment", "PATH=/usr/local/bin:/usr/bin:/bin")

    def inside(self, *words):
        """Run a command on the node."""
        import psutil

        children = psutil.Process(self.process.pid).children(recursive=True)
        inside = next(child.pid for child in children if child.name() == "sshd")
        line = ["nsenter", "--mount", "--pid", f"--target={inside}", *words]
        return subprocess.run(line, check=True, capture_output=True, text=True, timeout=BOUND).stdout


@pytest.fixture
def node(sshd):
    node = RestoreNode(sshd)
    (sshd.folder / "no_config").write_text("")
    node.start()
    yield node
    node.stop()


@pytest.fixture
def line(tmp_path):
    """Give a function that returns the words after `rpiomega`."""

    def line(*arguments, bucket="home-backup", port=9):
        values = {"user": getpass.getuser(), "port": port, "key": tmp_path / "key", "folder": tmp_path}
        (tmp_path / "site.sls").write_text(SITE.format(**values, bucket=bucket))
        (tmp_path / "no_config").write_text("")
        (tmp_path / "key").touch()
        base = ["--site", tmp_path / "site.sls", "--log-dir", tmp_path / "logs", "--wait", "20"]
        return ["restore", *arguments, *map(str, base), "--ssh-config", str(tmp_path / "no_config")]

    return line


@pytest.fixture
def run(node, line):
    """Run `rpiomega restore ARGUMENTS`: exit code, output."""

    def run(*arguments):
        command = [sys.executable, "-m", "rpiomega", *line(*arguments, port=node.server.port)]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL
        )

    return run


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces are made by root")
def test_a_file_is_restored_on_its_node_and_what_was_there_is_kept(run, node):
    notes = node.data / NAME
    notes.write_text("changed since")
    shown = run("file", f"pi-1:{notes}", "--dry-run")
    assert shown.returncode == 0, shown.stderr
    assert f"restore {node.data}/no\\nte: {{x}} \\udcff" in shown.stdout
    assert notes.read_text() == "changed since"
    done = run("file", f"pi-1:{notes}", "--yes", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)["result"]
    assert notes.read_text() == "as it was saved"
    assert pathlib.Path(result["kept"]).read_text() == "changed since"
    absent = run("file", f"pi-1:{node.data}/absent", "--yes")
    assert absent.returncode == 1
    assert "absent: the snapshot of 2026-01-02" in absent.stdout + absent.stderr
    left = node.inside("find", "/run/rpiomega/backup/requests", "-type", "f", "!", "-name", "*.result")
    assert left == "", "a request is removed when it is read"


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces are made by root")
def test_the_drill_of_the_timer_runs_without_a_master_and_fails_by_its_exit_code(node):
    command = "/usr/local/bin/salt-call --local --retcode-passthrough --out=json backup_restore.drill; echo $?"
    said = node.inside("sh", "-c", command)
    report = json.loads(said[: said.rindex("}") + 1])["local"]
    assert said.split()[-1] == "1"
    causes = {one["name"]: one["cause"] for one in report["checks"]}
    assert causes == {"snapshots": "", "files": "the snapshot has no rpiomega-manifest.json", "repository": ""}
    assert node.state()["drill"] == report


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["file", "/home/pi/notes", "--yes"], "is no NODE:PATH"),
        (["file", "pi-1:notes", "--yes"], "is no NODE:PATH"),
        (["file", "pi-9:/home", "--yes"], "pi-9"),
        (["file", "pi-1:/", "--yes"], "name a folder below it"),
        (["file", "pi-1:/home", "--yes", "--to", "here"], "is no absolute path"),
        (["file", "pi-1:/home", "--yes", "--at", "yesterday"], "is no time"),
        (["file", "pi-1:/home", "--yes", "--at", "2999-01-01"], "is in the future"),
        (["file", "pi-1:/home"], "nobody can be asked here"),
        (["volume", "db", "--json"], "nobody can be asked here"),
        (["volume", "db", "--node", "pi-9", "--yes"], "pi-9"),
    ],
)
def test_bad_input_ends_with_2_before_any_node_is_asked(line, arguments, said):
    done = CliRunner().invoke(cli.main, line(*arguments))
    assert done.exit_code == 2, done.stderr
    assert said in done.stderr


def test_a_site_without_backups(line):
    done = CliRunner().invoke(cli.main, line("file", "pi-1:/home", "--yes", bucket="''"))
    assert done.exit_code == 2
    assert "has no backups" in done.stderr


def test_the_node_of_a_volume_is_the_one_that_saved_it():
    states = {name: {"last": {"groups": [{"name": f"volume:{volume}"}]}} for name, volume in (("a", "x"), ("b", "y"))}
    assert restore.node_of("y", states) == "b"
    with pytest.raises(ValueError, match="no node's last backup has a volume z"):
        restore.node_of("z", states)
    with pytest.raises(ValueError, match="is saved on a, b: say which with --node"):
        restore.node_of("x", {**states, "b": states["a"]})


def test_a_volume_in_use_is_refused_before_the_question():
    preview = {"in_use": ["web"], "target": "/var/lib/docker/volumes/x/_data"}
    refused = restore.refusal(restore.Wanted("volume", "x"), preview)
    assert "used by web" in str(refused)
    assert "--force" in refused.cure
    assert restore.refusal(restore.Wanted("volume", "x", force=True), preview) is None
    assert restore.refusal(restore.Wanted("volume", "x"), {**preview, "target": "container web"}) is None


def test_what_a_restore_without_a_result_means():
    with pytest.raises(restore.NodeError, match="ended without a result: Killed"):
        restore.judged("pi-1", "1", {"result": None, "journal": "Killed"})
    with pytest.raises(restore.BadInput):
        restore.judged("pi-1", "1", {"result": {"ok": False, "kind": "bad_request", "cause": "x"}, "journal": ""})


@pytest.mark.parametrize("path", ["/a b", "/new\nline", "/bad\udcff\udcfe", "/ä: {x}", "/2026-01-01", "/'\"$(x)"])
def test_a_request_brings_a_path_of_any_characters(tmp_path, path):
    places = Places(settings=str(tmp_path), state=str(tmp_path), run=str(tmp_path))
    step = RestoreStart(Board(str(tmp_path)), {"name": "one", "what": "file", "path": path, "at": 5.0, "force": True})
    (tmp_path / "requests").mkdir()
    (tmp_path / "requests/one").write_text(json.dumps(json.loads(json.dumps(step.request()))))
    assert requests.read(places, "one") == {"what": "file", "path": path, "at": 5.0, "dry_run": False, "force": True}
    with pytest.raises(RestoreError, match="there is no such request"):
        requests.read(places, "one")
    with pytest.raises(RestoreError, match="no name of a request"):
        requests.read(places, "../one")


def test_results_that_nobody_reads_are_removed_after_a_day(tmp_path):
    places = Places(settings=str(tmp_path), state=str(tmp_path), run=str(tmp_path))
    requests.answer(places, "one", {"ok": True})
    requests.answer(places, "two", {"ok": True})
    os.utime(tmp_path / "requests/one.result", (1, 1))
    requests.answer(places, "three", {"ok": True})
    assert sorted(os.listdir(tmp_path / "requests")) == ["three.result", "two.result"]


def test_a_node_without_backups_says_so(tmp_path):
    with pytest.raises(StepError, match="the node has no backups yet"):
        RestoreStart(Board(str(tmp_path)), {"name": "one", "what": "file", "path": "/x"}).check()


def test_both_sides_read_a_time_alike():
    now = 1_800_000_000.0
    for text in ("2026-11-28", "2026-11-28 14:30", "2026-11-28T14:30:00Z", "2026-11-28T14:30:00+02:00"):
        assert restore.moment(text, now) == pytest.approx(pick.moment(text, now), abs=1)


@pytest.mark.skipif(os.geteuid() != 0, reason="namespaces are made by root")
def test_a_node_is_restored_and_what_is_not_is_listed(run, node):
    notes = node.data / NAME
    notes.write_text("changed since")
    shown = run("node", "pi-1", "--dry-run")
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert notes.read_text() == "changed since"
    done = run("node", "pi-1", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pi-1: node pi-1: snapshot " in done.stdout
    assert notes.read_text() == "as it was saved"
    again = json.loads(run("node", "pi-1", "--yes", "--json").stdout)["result"]
    assert [line.split()[0] for line in again["actions"]] == ["leave"]


@pytest.mark.parametrize("text", ["0001-01-01", "yesterday", "2026-13-01", "\x1b[2J", "2026-11-28T25:00", "1764345600"])
def test_what_is_no_time_is_named_by_each_command_with_exit_code_2(tmp_path, text):
    for line in (
        ["backup", "list"],
        ["restore", "file", "pi1:/etc"],
        ["backup", "past", "pi1", "--into", str(tmp_path)],
    ):
        done = CliRunner().invoke(cli.main, [*line, "--at", text])
        assert done.exit_code == 2, (line, done.output, done.exception)
        assert "is no time: write 2026-11-28 or" in done.output, done.output
        assert "\x1b" not in done.output
