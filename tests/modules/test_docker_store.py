"""Images that an engine keeps in containerd follow the data root, with a real containerd and its own configuration."""

import contextlib
import json
import os
import shutil
import subprocess

import docker
import pytest
import tiny_image

from omega.docker import data, engine, store
from omega.docker import service as docker_service
from omega.docker import settings as docker_settings
from omega.swarm.api import local_of
from omega.swarm.check import host_problems

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("containerd") or not shutil.which("dockerd"), reason="needs root, containerd"
)
# What an engine with containerd's store says of it, and one with its own (moby daemon/containerd/service.go).
IN_CONTAINERD = {"Driver": "overlayfs", "DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]}
OWN = {"Driver": "overlay2", "DriverStatus": [["Backing Filesystem", "extfs"]]}
DEBIANS = """version = 2

[plugins]
  [plugins."io.containerd.grpc.v1.cri"]
    [plugins."io.containerd.grpc.v1.cri".cni]
      bin_dir = "/usr/lib/cni"
"""
VENDORS = """# Copyright
disabled_plugins = ["cri"]

#root = "/var/lib/containerd"
#state = "/run/containerd"

#[grpc]
#  address = "/run/containerd/containerd.sock"
"""


class Containerd:
    """A containerd of this test, with the configuration that a test gives it."""

    def __init__(self, folder, config):
        self.config, self.socket, self.state = config, folder / "c.sock", folder / "state"
        self.process = None

    def start(self):
        command = ["containerd", "--config", self.config, "--address", self.socket, "--state", self.state]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def answers():
            asked = subprocess.run(["ctr", "-a", self.socket, "version"], capture_output=True, check=False)
            return None if asked.returncode == 0 else asked.stderr.decode()

        assert engine.wait(answers, 30) is None

    def stop(self):
        if self.process:
            self.process.terminate()
            self.process.wait(timeout=30)
            self.process = None

    def ctr(self, *arguments, **options):
        command = ["ctr", "-a", self.socket, "-n", "moby", *arguments]
        return subprocess.run(command, capture_output=True, check=True, **options).stdout.decode()


class Systemd(docker_service.Service):
    """What systemd does with containerd and an engine beside it."""

    def __init__(self, containerd, refuses=""):
        self.containerd, self.refuses, self.texts, self.did = containerd, refuses, {}, []

    def program(self):
        return "/usr/sbin/dockerd", []

    def active(self):
        return True

    def stop(self):
        self.did.append("stop")

    def restart(self):
        self.did.append("start")
        refuses, self.refuses = self.refuses, ""
        return refuses or None

    def dependence(self):
        return self.texts.get("docker")

    def depend_on(self, text):
        self.texts["docker"] = text

    def containerd_depends_on(self, text):
        self.texts["containerd"] = text

    def stop_containerd(self):
        self.containerd.stop()

    def start_containerd(self):
        self.containerd.stop()
        self.containerd.start()


@pytest.fixture
def containerd(short_folder, monkeypatch):
    """A running containerd that has an image, below a root that its configuration names."""
    config = short_folder / "config.toml"
    config.write_text(f'root = "{short_folder}/old"\n{DEBIANS}')
    monkeypatch.setattr(store, "CONFIG", str(config))
    monkeypatch.setattr(data, "check_place", lambda path: None)
    made = Containerd(short_folder, config)
    made.start()
    client = docker.from_env()
    try:
        with tiny_image.on_host(client) as tag:
            made.tag = tag
            archive = b"".join(client.images.get(tag).save(named=True))
            made.ctr("images", "import", "--snapshotter", "native", "-", input=archive)
        yield made
    finally:
        made.stop()
        client.close()


@pytest.fixture
def settings(containerd, short_folder):
    """The settings of a node whose site names a data root, and the unit it runs with."""
    service = Systemd(containerd)
    daemon_json = short_folder / "daemon.json"

    def made(info=IN_CONTAINERD, move_data=True, root=None, found=None):
        old = short_folder / "docker"
        (old / "volumes/one").mkdir(parents=True, exist_ok=True)
        if not daemon_json.exists():
            daemon_json.write_text(json.dumps({"data-root": str(old), **(found or {})}))
        site = {"data-root": str(root or short_folder / "ssd")}
        record = str(short_folder / "record")
        return docker_settings.Settings(str(daemon_json), site, service, move_data, record=record, info=info)

    made.service = service
    return made


def carried_out(wanted):
    assert wanted.check() is True
    return wanted.write() and wanted.restart()


def test_images_follow_the_data_root_and_containerd_shows_them_there(settings, containerd, short_folder):
    assert containerd.tag in containerd.ctr("images", "ls")
    first = settings()
    assert carried_out(first) is None
    new = f"{short_folder}/ssd/containerd-images"
    assert first.changes["images"] == {"old": f"{short_folder}/old", "new": new}
    assert store.root() == new
    shutil.rmtree(short_folder / "old")
    assert containerd.tag in containerd.ctr("images", "ls")
    containerd.ctr("images", "check")
    assert data.mount_of(new) in settings.service.texts["containerd"]
    assert not data.incomplete(new)
    assert settings.service.did == ["stop", "start"]

    again = settings()
    assert again.check() is False
    assert again.images is None
    assert "features" not in again.wanted, "the engine would not find its images any more"


def test_images_below_a_data_root_move_along_with_it(settings, containerd, short_folder):
    assert carried_out(settings()) is None
    assert carried_out(settings(root=short_folder / "other")) is None
    shutil.rmtree(short_folder / "ssd")
    assert store.root() == f"{short_folder}/other/containerd-images"
    assert containerd.tag in containerd.ctr("images", "ls")


@pytest.mark.usefixtures("containerd")
def test_without_leave_to_move_nothing_is_touched(settings, short_folder):
    before = (short_folder / "config.toml").read_text()
    wanted = settings(move_data=False)
    shutil.rmtree(short_folder / "docker/volumes")  # of which the state speaks first
    with pytest.raises(data.DataError, match=f"images in containerd, below {short_folder}/old.*move_data"):
        wanted.check()
    assert (short_folder / "config.toml").read_text() == before


@pytest.mark.usefixtures("containerd")
def test_an_engine_with_a_store_of_its_own_leaves_containerd_alone(settings):
    wanted = settings(info=OWN)
    assert wanted.check() is True
    assert wanted.images is None
    assert wanted.wanted["features"] == {"containerd-snapshotter": False}


@pytest.mark.parametrize("at", ["copy", "place"])
def test_a_power_cut_leaves_containerd_its_old_folder(settings, containerd, short_folder, monkeypatch, at):
    def power_cut(*_arguments, **_options):
        raise KeyboardInterrupt

    with monkeypatch.context() as once:
        once.setattr(store.Move, at, power_cut)
        with pytest.raises(KeyboardInterrupt):
            carried_out(settings())
    assert json.loads((short_folder / "daemon.json").read_text())["data-root"] == f"{short_folder}/docker"
    assert store.root() == f"{short_folder}/old"
    containerd.stop()
    containerd.start()
    assert containerd.tag in containerd.ctr("images", "ls")
    assert carried_out(settings()) is None
    assert store.root() == f"{short_folder}/ssd/containerd-images"
    assert containerd.tag in containerd.ctr("images", "ls")


def test_an_engine_that_does_not_start_there_gets_its_images_back_where_they_were(settings, containerd, short_folder):
    before = (short_folder / "config.toml").read_text()
    settings.service.refuses = "no space left on device"
    said = carried_out(settings())
    assert "no space left on device" in said
    assert "the former ones are back" in said
    assert (short_folder / "config.toml").read_text() == before
    assert settings.service.texts == {"docker": None, "containerd": None}
    assert containerd.tag in containerd.ctr("images", "ls")


@pytest.mark.parametrize("text", [DEBIANS, VENDORS, None, "", 'root = "/a"\nstate = "/b"\n', "'root'='/a'\n"], ids=repr)
def test_only_the_root_changes_in_containerds_file(text, tmp_path):
    made = store.with_root(text, "/mnt/ssd/docker/containerd-images")
    path = tmp_path / "config.toml"
    path.write_text(made)
    assert store.root(str(path)) == "/mnt/ssd/docker/containerd-images"
    before = [line for line in (text or "version = 2").splitlines() if line.startswith("#") or "/a" not in line]
    assert made.splitlines()[1:] == before


def test_an_import_that_names_another_root_is_refused(tmp_path):
    (tmp_path / "own.toml").write_text('root = "/srv/containerd"\n')
    with pytest.raises(data.DataError, match="uses /srv/containerd: one of the files that it imports"):
        store.with_root(f'version = 2\nimports = ["{tmp_path}/own.toml"]\n', "/mnt/ssd/docker/containerd-images")


def test_free_space_is_judged_where_images_are(tmp_path, monkeypatch):
    full = tmp_path / "full"
    full.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", full], check=True)
    with contextlib.ExitStack() as stack:
        stack.callback(subprocess.run, ["umount", full], check=True)
        config = tmp_path / "config.toml"
        config.write_text(f'version = 2\nroot = "{full}"\n')
        monkeypatch.setattr(store, "CONFIG", str(config))
        info = {"DockerRootDir": str(tmp_path), "Swarm": {}}
        problems = host_problems(local_of({**info, **IN_CONTAINERD}, {}), 5, root=str(tmp_path))[0]
        assert len(problems) == 1
        assert f"only 4 MiB are free in {full}" in problems[0]
        assert host_problems(local_of({**info, **OWN}, {}), 5, root=str(tmp_path))[0] == []
