"""The master's card is lost: its backup is read with the kit alone, and written to a blank board.

A real restic, the stand-in for B2 with the very keys of `init`, and the board's real program on a folder.
"""

import dataclasses
import json
import os
import pathlib
import shutil
import subprocess
import sys

import backup_master
import pytest
import restic_program
from click.testing import CliRunner

from omega.backup import restic
from rpiomega import agent, cli
from rpiomega.backup import kit as kits
from rpiomega.backup import master
from rpiomega.backup.reading import Reader
from rpiomega.errors import NodeError
from rpiomega.lab.b2 import server
from rpiomega.node import job_steps

pytestmark = pytest.mark.long

ROOT = pathlib.Path(__file__).resolve().parents[2]
KEYS = "etc/salt/pki/master"
FILES = {
    f"{KEYS}/master.pem": "the master's own key",
    f"{KEYS}/master.pub": "its public one",
    f"{KEYS}/minions/pi1": "key of pi1",
    f"{KEYS}/minions/pi2": "key of pi2",
    "etc/salt/pki/minion/minion.pem": "key of the master's minion",
    "etc/salt/master.d/own.conf": "worker_threads: 2",
    "etc/salt/master.d/rpiomega.conf": "of the bootstrap",
    "etc/salt/master": "of Salt's package",
    "etc/rpiomega/secrets/consul/management.token": "token of tests 7f31",
    "etc/rpiomega/secrets/consul/ca.key": "key of tests 9b12",
    "srv/rpiomega/formula/salt/top.sls": "of the formula",
}


SAVE = """
import json, os, sys
from omega.backup import plan, restic, save, settings
from omega.backup.progress import Progress
given = json.loads(sys.argv[1])
root, cluster, node = (given.pop(name) for name in ("root", "cluster", "node"))
places = settings.Places(*(f"{root}/{name}" for name in ("etc", "var", "run")))
places.make()
own = settings.Settings(node=node, cluster=cluster, master=True)
context = save.Context("1", own, places, restic.Repository(**given), Progress(places.progress, "1"))
paths = tuple(path for path in plan.MASTER_PATHS if os.path.exists(path))
print(json.dumps(save.group(context, plan.Group("salt", "hot", paths, exclude=plan.NEVER))))
"""


class Lost:
    """A master `pi1` whose group `salt` was saved; then there are `kit`, and in `blank` a board without anything."""

    def __init__(self, service, tmp_path):
        self.service, self.tmp_path = service, tmp_path
        self.board = backup_master.Board(tmp_path / "root")
        backup_master.init(service, self.board)
        self.site = backup_master.text(service)
        for name, text in {**FILES, "srv/rpiomega/pillar/site.sls": self.site}.items():
            path = self.board.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            path.chmod(0o600)
        os.chown(self.board.root / "etc/rpiomega/secrets/consul/ca.key", 2, 2)  # bin, which every board has
        (self.board.root / KEYS / "minions").chmod(0o750)
        self._repository()
        self.saved = self.save()
        self.kit = kits.fields(self.board)
        self.kit["nodes"] = ["pi1", "pi2"]
        self.reader = Reader(self.kit, restic_program.path())

    def _repository(self):
        found, folder = self.board.bucket(), self.tmp_path / "own"
        folder.mkdir()
        (folder / "password").write_text("of the node")
        for node in ("pi1", "pi2"):
            key_id, key = self.board.key(f"nodes/{node}/key")
            (folder / node).write_text(f"[default]\naws_access_key_id = {key_id}\naws_secret_access_key = {key}\n")
            url = f"s3:{found['endpoint']}/{found['bucket']}/hosts/{node}"
            own = restic.Repository(
                url,
                str(folder / "password"),
                str(folder / node),
                found["region"],
                str(folder / "c"),
                restic_program.path(),
            )
            restic.run(own, ["init"])
            phrase = str(self.board.folder / "recovery")
            restic.run(own, ["key", "add", "--user", "rpiomega", "--host", "recovery", "--new-password-file", phrase])
            if node == "pi1":
                self.repository = own

    def save(self, cluster="omega", node="pi1"):
        """Save the group as a run does, in a process for which the board's folder is /etc and /srv."""
        given = {"root": str(self.tmp_path), "cluster": cluster, "node": node, **vars(self.repository)}
        own = self.board.root
        mounts = f"mount -t overlay -o lowerdir={own}/etc:/etc none /etc && mount --bind {own}/srv /srv"
        command = ["unshare", "--mount", "sh", "-c", f'{mounts} && exec "$@"', "sh", sys.executable, "-c", SAVE]
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "_utils")}
        done = subprocess.run(
            [*command, json.dumps(given)], env=environment, capture_output=True, text=True, check=False, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)["snapshot"]

    def write(self, found, force=False, dry_run=False):
        step = job_steps.MasterRestore(found.files, force)
        return agent.run(self.blank, [step], lambda event: None, dry_run)["master_restore"]

    def there(self, name):
        return self.blank.root / name


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    with server.running() as found:
        yield Lost(found, tmp_path_factory.mktemp("lost"))


@pytest.fixture
def lost(made, tmp_path):
    """The lost master with its one snapshot, and a new blank board."""
    made.blank = backup_master.Board(tmp_path / "blank")
    shutil.rmtree(tmp_path / "blank/etc")
    yield made
    later = [row["id"] for row in restic.snapshots(made.repository) if row["id"] != made.saved]
    if later:
        restic.run(made.repository, ["forget", *later])


def test_a_blank_board_gets_secrets_keys_and_site_file_with_the_kit_alone(lost):
    found = master.find(lost.reader, "", 0)
    assert (found.name, found.cluster, found.row["id"]) == ("pi1", "omega", lost.saved)
    assert found.checked >= 8
    shown = lost.write(found, dry_run=True)
    assert shown["status"] == "would change"
    assert not (lost.blank.root / "etc").exists()
    done = lost.write(found)
    assert done["status"] == "changed"
    for name, text in FILES.items():
        brought = not name.startswith("srv/rpiomega/formula") and name not in (
            "etc/salt/master.d/rpiomega.conf",
            "etc/salt/master",
        )
        assert lost.there(name).exists() == brought, name
        if brought:
            assert lost.there(name).read_text() == text
            assert lost.there(name).stat().st_mode & 0o777 == 0o600
    assert lost.there("srv/rpiomega/pillar/site.sls").read_text() == lost.site
    assert lost.there("etc/rpiomega/secrets/backup/recovery").read_text() == f"{lost.kit['recovery']}\n"
    assert {lost.there(name).stat().st_mode & 0o777 for name in ("etc", "etc/salt", "srv/rpiomega/pillar")} == {0o755}
    assert lost.there("etc/rpiomega/secrets").stat().st_mode & 0o777 == 0o700
    assert lost.there(f"{KEYS}/minions").stat().st_mode & 0o777 == 0o750
    owner = lost.there("etc/rpiomega/secrets/consul/ca.key").stat()
    assert (owner.st_uid, owner.st_gid) == (2, 2)
    for text in FILES.values():
        assert text not in json.dumps([shown, done])
    assert lost.write(found)["status"] == "ok", "a second run writes nothing"


def test_what_is_there_is_not_overwritten_and_with_force_is_kept(lost):
    found = master.find(lost.reader, "pi1", 0)
    lost.there(KEYS).mkdir(parents=True)
    lost.there(f"{KEYS}/master.pem").write_text("of a new master")
    lost.there(f"{KEYS}/other").write_text("stays")
    with pytest.raises(NodeError, match="master.pem is there with other content"):
        lost.write(found)
    assert not lost.there("srv").exists()
    done = lost.write(found, force=True)["data"]
    assert lost.there(f"{KEYS}/master.pem").read_text() == FILES[f"{KEYS}/master.pem"]
    assert lost.there(f"{KEYS}/other").read_text() == "stays"
    kept = lost.blank.root / done["kept"].lstrip("/")
    assert (kept / f"{KEYS}/master.pem").read_text() == "of a new master"
    assert kept.stat().st_mode & 0o777 == 0o700
    assert done["old"] == [f"/{KEYS}/master.pem"]


def test_a_snapshot_of_another_cluster_or_node_is_refused(lost):
    for given, said in (
        ({"cluster": "other"}, "is of the cluster other, not omega"),
        ({"node": "pi2"}, "is of the node pi2, not pi1"),
    ):
        lost.save(**given)
        with pytest.raises(NodeError, match=said):
            master.find(lost.reader, "pi1", 0)
    with pytest.raises(NodeError, match="hosts/pi2 has no snapshot of a master"):
        master.find(lost.reader, "pi2", 0)
    with pytest.raises(NodeError, match="the kit has no node pi9"):
        master.find(lost.reader, "pi9", 0)
    with pytest.raises(NodeError, match="of then or before"):
        master.find(lost.reader, "", 1_000_000_000)
    wrong = dataclasses.replace(lost.reader, kit={**lost.kit, "recovery": "these are other words"})
    with pytest.raises(NodeError, match="the recovery phrase does not open it"):
        master.find(wrong, "pi1", 0)


def test_secrets_of_another_bucket_are_refused(lost):
    path = lost.board.folder / "bucket.json"
    before = path.read_text()
    path.write_text(json.dumps({**lost.board.bucket(), "bucket": "other-backup"}))
    lost.save()
    path.write_text(before)
    with pytest.raises(NodeError, match="are of cluster omega, bucket other-backup"):
        master.find(lost.reader, "pi1", 0)


def test_the_command_writes_a_missing_site_file_and_no_board_in_a_dry_run(lost, tmp_path, monkeypatch):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/restic").symlink_to(restic_program.path())
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    kit = tmp_path / "kit.txt"
    kit.write_text(kits.page(lost.kit, 0))
    site = tmp_path / "new/site.sls"
    line = ["restore", "master", "--kit", str(kit), "--site", str(site), "--log-dir", str(tmp_path / "logs")]
    shown = CliRunner().invoke(cli.main, [*line, "--dry-run"])
    assert shown.exit_code == 0, shown.output
    assert "pi1: snapshot " in shown.output
    assert "2 below /etc/salt/pki/minion" in shown.output
    assert not site.exists()
    for secret in (lost.kit["key"], lost.kit["recovery"], *FILES.values()):
        assert secret not in shown.output
    site.parent.mkdir()
    site.write_text(backup_master.text(lost.service, cluster="other"))
    refused = CliRunner().invoke(cli.main, [*line, "--dry-run"])
    assert (refused.exit_code, "the kit is of cluster omega" in refused.output) == (1, True), refused.output
