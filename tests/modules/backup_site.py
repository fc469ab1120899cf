"""A node with backups: a real Docker daemon of its own, a real restic and a repository in a folder."""

import contextlib
import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import uuid

import pytest
import restic_program
import restic_repository
import tiny_image
from dockerds import Dockerds, Unsupported

from omega.backup import restic, settings
from omega.backup import run as backup_run
from omega.backup import state as backup_state

ROOT = pathlib.Path(__file__).resolve().parents[2]
PASSWORD = "a password of the tests"


class Node:
    """One node's settings, state and repository below `root`; containers on the daemon `daemon`."""

    def __init__(self, root, daemon):
        self.root, self.daemon = pathlib.Path(root), daemon
        self.client = daemon.client(timeout=60) if daemon else None
        self.places = settings.Places(*(str(self.root / name) for name in ("etc", "var", "run")))
        self.home = self.root / "home"
        (self.root / "etc").mkdir(parents=True)
        self.home.mkdir()
        (self.home / "letter.txt").write_text("dear")
        (self.root / "etc/password").write_text(PASSWORD)
        (self.root / "etc/repository").write_text(f"{self.root / 'repository'}\n")
        self.settings = settings.Settings(
            node="pi1",
            cluster="home",
            paths=(str(self.home),),
            docker_url=daemon.base_url if daemon else f"unix://{self.root}/no.sock",
        )
        self.repository = restic.Repository(
            url=str(self.root / "repository"),
            password_file=str(self.root / "etc/password"),
            cache=str(self.root / "cache"),
            program=restic_program.path(),
        )
        self.made = []

    def init(self):
        """Make the repository, as the master does; return self."""
        restic_repository.make(self.repository.url, PASSWORD)
        return self

    def write_settings(self, **changes):
        """Write settings.json, for what reads it itself."""
        self.settings = dataclasses.replace(self.settings, **changes)
        text = json.dumps(dataclasses.asdict(self.settings))
        (self.root / "etc/settings.json").write_text(text)

    def run(self, only=(), **changes):
        """Run a backup in this process and return its report; `changes` of the settings."""
        wanted = dataclasses.replace(self.settings, **changes)
        return backup_run.run(self.places, wanted, self.repository, only, synchronised=lambda: None)

    def start_run(self, wrapper=()):
        """Start a backup in a process of its own, which can be killed; return the Popen."""
        self.write_settings()
        code = (
            "from omega.backup import run, restic, settings; import dataclasses, sys\n"
            "places = settings.Places(*sys.argv[1:4])\n"
            "repository = dataclasses.replace(restic.own(places.settings), program=sys.argv[4], cache=sys.argv[5])\n"
            "found = run.run(places, settings.load(places.settings), repository, synchronised=lambda: None)\n"
            "sys.exit(not found['ok'])\n"
        )
        folders = [self.places.settings, self.places.state, self.places.run]
        command = [*wrapper, sys.executable, "-c", code, *folders, self.repository.program, self.repository.cache]
        return subprocess.Popen(command, env={**os.environ, "PYTHONPATH": str(ROOT / "_utils")}, start_new_session=True)

    def release(self):
        return backup_run.release(self.places, self.settings)

    def state(self):
        return backup_state.read(self.places.report)

    def snapshots(self, *tags):
        return restic.snapshots(self.repository, tags)

    def dump(self, snapshot, path):
        """Return a file of a snapshot as bytes."""
        environment = {**os.environ, "RESTIC_PASSWORD_FILE": self.repository.password_file}
        command = [self.repository.program, "-r", self.repository.url, "--cache-dir", self.repository.cache]
        done = subprocess.run([*command, "dump", snapshot, path], capture_output=True, check=True, env=environment)
        return done.stdout

    def manifest(self, snapshot, group):
        path = os.path.join(self.places.run, "manifest", group, "rpiomega-manifest.json")
        return json.loads(self.dump(snapshot, path))

    # -- containers -----------------------------------------------------------------------------------------

    def volume(self, name=None, **options):
        made = self.client.volumes.create(name or f"v{uuid.uuid4().hex[:8]}", **options)
        self.made.append(made)
        return made

    def container(self, script="sleep 600", volumes=(), labels=None, **options):
        """Start a container that runs a line of sh, with volumes at /NAME."""
        binds = {volume.name: {"bind": f"/{volume.name}", "mode": "rw"} for volume in volumes}
        made = self.client.containers.run(
            tiny_image.TAG,
            ["sh", "-c", script],
            detach=True,
            init=False,
            network_mode="none",
            volumes=binds,
            labels=labels or {},
            **options,
        )
        self.made.insert(0, made)
        return made

    def status(self, container):
        return self.client.api.inspect_container(container.id)["State"]["Status"]

    def path(self, volume):
        return pathlib.Path(volume.attrs["Mountpoint"])

    def close(self):
        for item in self.made:
            with contextlib.suppress(Exception):
                if hasattr(item, "unpause"):
                    with contextlib.suppress(Exception):
                        item.unpause()
                item.remove(force=True)
        if self.client:
            self.client.close()


def entry(report, name):
    """Return the entry of a group in a report."""
    return next(item for item in report["groups"] if item["name"] == name)


# A test file takes these fixtures by an assignment.


@pytest.fixture(scope="module")
def daemon():
    """A Docker daemon of the file's own, with the tests' image."""
    try:
        with Dockerds(["pi1"]) as daemons:
            client = daemons["pi1"].client()
            tiny_image.build(client)
            client.close()
            yield daemons["pi1"]
    except Unsupported as lack:
        pytest.skip(str(lack))


@pytest.fixture
def node(daemon, tmp_path):
    """A Node with an empty repository."""
    made = Node(tmp_path, daemon).init()
    yield made
    made.close()


@pytest.fixture
def bare(tmp_path):
    """A node without an engine."""
    made = Node(tmp_path, None).init()
    yield made
    made.close()
