"""What an attacker with a node's or the master's keys can do to backups, and the recovery kit: with the real restic."""

import contextlib
import datetime
import functools
import hashlib
import json
import os
import pathlib
import subprocess
import time

import backup_master
import pytest
import restic_program
from backup_master import client, init
from click.testing import CliRunner

from omega.backup import restic, restic_errors
from omega.core.errors import Failure
from rpiomega import cli
from rpiomega.backup import kit, opening, phrase
from rpiomega.commands import backup_keys
from rpiomega.lab.b2 import server
from rpiomega.node import backup_kit

pytestmark = pytest.mark.long

BUCKET = "omega-backup"


@pytest.fixture(scope="module")
def service():
    with server.running() as found:
        yield found


class Cluster:
    """A master's secrets, and restic with any of its keys."""

    def __init__(self, service, folder):
        self.service, self.folder, self.program = service, folder, restic_program.path()
        self.board = backup_master.Board(folder / "root")
        init(service, self.board)
        self.phrase = (self.board.folder / "recovery").read_text().strip()
        for node in ("pi1", "pi2"):  # what the state `backup.repositories_present` does
            self.restic(node, "maintenance", "init")
            added = folder / "recovery"
            added.write_text(self.phrase + "\n")
            self.restic(node, "maintenance", "key", "add", "--host", "recovery", "--new-password-file", str(added))

    def restic(self, node, key, *arguments, password="node's own", repository="", check=True):
        key_id, secret = self.board.key(key)
        aws, file = self.folder / "aws", self.folder / "password"
        aws.write_text(f"[default]\naws_access_key_id = {key_id}\naws_secret_access_key = {secret}\n")
        file.write_text(password + "\n")
        environment = {
            "PATH": os.environ["PATH"],
            "AWS_SHARED_CREDENTIALS_FILE": str(aws),
            "AWS_DEFAULT_REGION": "us-west-004",
            "RESTIC_PASSWORD_FILE": str(file),
            "RESTIC_CACHE_DIR": str(self.folder / "cache"),
            "RESTIC_REPOSITORY": repository or f"s3:{self.service.url}/{BUCKET}/hosts/{node}",
        }
        command = ["nice", "-n", "19", self.program, *arguments]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=check, timeout=120)

    def command(self, monkeypatch, *arguments, given=None):
        """Run `rpiomega backup ...` with the board in the place of the master's SSH."""
        wanted = backup_master.site(self.service)
        file = self.folder / "site.sls"
        file.write_text(backup_master.text(self.service))

        @contextlib.contextmanager
        def master(*_):
            yield wanted, self.board

        monkeypatch.setattr(backup_keys, "_master", master)
        arguments = ["backup", *arguments, "--site", str(file)]
        return CliRunner().invoke(cli.main, arguments, input=given)


@pytest.fixture(scope="module")
def cluster(service, tmp_path_factory):
    return Cluster(service, tmp_path_factory.mktemp("cluster"))


def digests(folder):
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.mark.parametrize("stolen", [pytest.param("nodes/pi1/key", marks=pytest.mark.long), "maintenance"])
def test_what_a_thief_hides_and_overwrites_is_restored(service, cluster, tmp_path, monkeypatch, stolen):
    """A4, A5: all of the repository hidden and overwritten with a key of the cluster; read as it was before."""
    source = tmp_path / "source"
    source.mkdir()
    for number in range(20):
        (source / f"file{number}").write_bytes(os.urandom(50_000))
    before = digests(source)
    cluster.restic("pi1", "nodes/pi1/key", "backup", str(source))
    # Versions are dated in milliseconds, and never two the same.
    moment = max(time.time(), service.simulator.clock.stamp() / 1000)
    thief = client(service, *cluster.board.key(stolen))
    names = [
        item["Key"]
        for page in thief.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="hosts/pi1/")
        for item in page["Contents"]
    ]
    assert len(names) > 4
    for name in names:
        thief.put_object(Bucket=BUCKET, Key=name, Body=b"pay")
        thief.delete_object(Bucket=BUCKET, Key=name)
    for path in source.iterdir():
        path.unlink()
    assert cluster.restic("pi1", "nodes/pi1/key", "snapshots", check=False).returncode != 0

    kit_file = tmp_path / "kit.txt"
    assert cluster.command(monkeypatch, "kit", "--out", str(kit_file)).exit_code == 0
    at, into = datetime.datetime.fromtimestamp(moment).isoformat(), tmp_path / "repository"
    got = cluster.command(monkeypatch, "past", "pi1", "--at", at, "--into", str(into), "--kit", str(kit_file))
    assert got.exit_code == 0, got.output
    full = cluster.command(monkeypatch, "past", "pi2", "--at", at, "--into", str(into), "--kit", str(kit_file))
    assert (full.exit_code, "is not empty" in full.output) == (1, True)
    options = ("restore", "latest", "--no-lock", "--target", str(tmp_path / "out"))
    cluster.restic("pi1", "reader", *options, password=cluster.phrase, repository=str(into))
    assert digests(tmp_path / "out" / source.relative_to("/")) == before
    # The repository goes on: what the copy has is put back under new versions.
    for path in into.rglob("*"):
        if path.is_file():
            thief.put_object(Bucket=BUCKET, Key=f"hosts/pi1/{path.relative_to(into)}", Body=path.read_bytes())
    cluster.restic("pi1", "nodes/pi1/key", "check")


def test_restic_prunes_with_the_masters_key_and_frees_no_version(service, cluster, tmp_path):
    (tmp_path / "data").write_bytes(os.urandom(100_000))
    cluster.restic("pi2", "nodes/pi2/key", "backup", str(tmp_path / "data"))
    (tmp_path / "data").write_bytes(os.urandom(100_000))
    cluster.restic("pi2", "nodes/pi2/key", "backup", str(tmp_path / "data"))
    cluster.restic("pi2", "maintenance", "forget", "--keep-last", "1", "--prune")
    cluster.restic("pi2", "nodes/pi2/key", "check", "--read-data")
    stored = service.control("counters")["stored"][BUCKET]
    assert stored["hidden_bytes"] >= 100_000
    refused = cluster.restic("pi1", "nodes/pi2/key", "snapshots", check=False)
    assert refused.returncode != 0
    assert "Access Denied" in refused.stderr


def on_path(cluster, folder, monkeypatch):
    """Put the tests' restic on the PATH by its name; the one that was unpacked has another."""
    (folder / "bin").mkdir()
    (folder / "bin/restic").symlink_to(cluster.program)
    monkeypatch.setenv("PATH", f"{folder / 'bin'}:{os.environ['PATH']}")


def test_a_kit_is_checked_with_its_content_alone(cluster, tmp_path, monkeypatch):
    on_path(cluster, tmp_path, monkeypatch)
    file = tmp_path / "kit.txt"
    assert cluster.command(monkeypatch, "kit", "--out", str(file)).exit_code == 0
    # what the owner's shell has: restic would take it before the files that are made of the kit
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "RESTIC_PASSWORD", "RESTIC_KEY_HINT"):
        monkeypatch.setenv(name, "another")
    checked = cluster.command(monkeypatch, "kit", "--check", str(file))
    assert checked.exit_code == 0, checked.output
    assert "pi1: opens" in checked.output
    assert "pi2: opens" in checked.output
    assert "recorded the check" in checked.output
    mark = (cluster.board.folder / "kit.json").read_text()
    assert backup_kit.digest(kit.read(file.read_text())) in mark
    assert not any(secret in checked.output for secret in (cluster.phrase, cluster.board.key("reader")[1]))
    # by the master's restic, and from standard input
    monkeypatch.setattr(opening, "local_restic", lambda: "")
    again = cluster.command(monkeypatch, "kit", "--check", "-", given=file.read_text())
    assert again.exit_code == 0, again.output
    assert "with the restic of pi1" in again.output
    assert not list(pathlib.Path("/dev/shm").glob("rpiomega-kit.*"))


def test_a_kit_from_before_a_rotation_is_refused(service, cluster, tmp_path, monkeypatch):
    on_path(cluster, tmp_path, monkeypatch)
    file = tmp_path / "kit.txt"
    cluster.command(monkeypatch, "kit", "--out", str(file))
    init(service, cluster.board, rotate=True)
    checked = cluster.command(monkeypatch, "kit", "--check", str(file))
    assert checked.exit_code == 1
    assert "make a new kit" in checked.output
    refused = cluster.command(monkeypatch, "kit", "--out", str(file))
    assert refused.exit_code == 1
    assert "--overwrite" in refused.output
    cluster.command(monkeypatch, "kit", "--out", str(file), "--overwrite")
    init(service, cluster.board, names=("pi1", "pi2", "pi3"))
    stale = cluster.command(monkeypatch, "kit", "--check", str(file))
    assert stale.exit_code == 1
    assert "is stale" in stale.output


def fields(**given):
    return {
        "cluster": "omega", "bucket": BUCKET, "endpoint": "https://s3.us-west-004.backblazeb2.com",
        "region": "us-west-004", "key_id": "0014a48", "key": "K004a+/b", "recovery": phrase.new(),
        "nodes": ["pi1", "pi2"], **given,
    }  # fmt: skip


def test_a_kit_is_read_back_from_page_and_code():
    made = fields()
    page = kit.page(made, time.time())
    assert kit.read(page) == made
    assert kit.read(page.replace("   ", "\t").replace("\n", " \r\n").replace("\r", "")) == made
    assert kit.code(made).startswith("<?xml")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda page, made: page.replace(made["key"], "K004a+/c"), "check does not fit"),
        (lambda page, made: page.replace("pi1 pi2", "pi1"), "check does not fit"),
        (lambda page, made: page.replace(made["recovery"].split()[3], "zzzz", 1), "word 4 of the recovery phrase"),
        (lambda page, made: page.replace(made["recovery"], made["recovery"].rpartition(" ")[0]), "has 12 words"),
        (lambda page, made: page.replace("bucket:", "bukcet:"), "no line `bucket:`"),
        (lambda page, made: page.replace("pi1 pi2", "pi1 -rf"), "cannot be the name of a node"),
        (lambda page, made: "{" + page, "not the text of a kit's QR code"),
        (lambda page, made: json.dumps({**made, "nodes": "pi1"}), "not the text of a kit's QR code"),
        (lambda page, made: json.dumps({**made, "recovery": 7}), "not the text of a kit's QR code"),
        (lambda page, made: json.dumps({**made, "nodes": [["pi1"]]}), "not the text of a kit's QR code"),
    ],
)
def test_a_mistake_in_a_typed_kit_is_named(change, said):
    made = fields(recovery="legal winner thank year wave sausage worth useful legal winner thank yellow")
    with pytest.raises(Failure, match=said) as caught:
        kit.read(change(kit.page(made, time.time()), made))
    assert made["key"] not in str(caught.value)


def test_the_phrase_finds_a_word_that_is_another_one():
    good = "legal winner thank year wave sausage worth useful legal winner thank yellow"
    assert phrase.read(f"  {good.upper()} \n") == good
    with pytest.raises(Failure, match="checksum"):
        phrase.read(good.replace("wave", "water"))
    with pytest.raises(Failure, match="word 1 .* is it `legal`"):
        phrase.read(good.replace("legal", "legall", 1))
    assert len({phrase.new() for _ in range(5)}) == 5


@pytest.mark.parametrize(
    ("kind", "options", "told"),
    [
        ("capped", {"on": "PUT /"}, "capped"),
        ("revoked", {}, "denied"),
        ("skewed", {}, "denied"),  # an answer to HEAD has no text
        ("expired", {}, "denied"),
        ("expired", {"on": "GET /"}, "denied"),
        ("unavailable", {}, "busy"),
        ("too_many", {}, "busy"),
        ("cut", {"on": "GET /"}, "unreachable"),
        ("unavailable", {"times": 2}, ""),
        ("too_many", {"times": 2, "retry_after": 1}, ""),
    ],
)
def test_restic_names_each_fault_and_outlasts_short_ones(service, cluster, tmp_path, monkeypatch, kind, options, told):
    monkeypatch.setattr(restic, "PATIENCE", functools.partial(restic_errors.Patience, 2, 4))
    key_id, key = cluster.board.key("nodes/pi2/key")
    (tmp_path / "aws").write_text(f"[default]\naws_access_key_id = {key_id}\naws_secret_access_key = {key}\n")
    (tmp_path / "password").write_text("node's own\n")
    (tmp_path / "data").write_text("data")
    repository = restic.Repository(
        f"s3:{service.url}/{BUCKET}/hosts/pi2", str(tmp_path / "password"), str(tmp_path / "aws"), "us-west-004",
        str(tmp_path / "cache"), cluster.program,
    )  # fmt: skip
    service.control("fault", kind=kind, **options)
    try:
        if told:
            with pytest.raises(restic.ResticError) as caught:
                restic.run(repository, ["backup", str(tmp_path / "data")], seconds=60)
            assert caught.value.kind == told
            assert "\n" not in str(caught.value)
        else:
            restic.run(repository, ["backup", str(tmp_path / "data")], seconds=60)
    finally:
        service.control("clear")
