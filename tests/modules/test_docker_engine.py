"""`docker_engine.configured` on a real engine: merged, judged, reloaded or restarted, and taken back if need be."""

import json
import signal

import ailing_engine
import pytest
from dockerds import Dockerds, Unsupported, missing
from omega.docker import data, service
from omega.docker import settings as docker_settings


class Service(service.Service):
    """What systemd does, for an engine in namespaces of its own."""

    daemon = None
    text = None

    def program(self):
        return "/usr/sbin/dockerd", ["-H", "fd://"]

    def active(self):
        return self.daemon.dockerd.poll() is None

    def restart(self):
        try:
            self.daemon.restart()
        except Unsupported as error:
            return str(error)
        return None

    def reload(self):
        self.daemon.send_signal(signal.SIGHUP)

    def dependence(self):
        return self.text

    def depend_on(self, text):
        self.text = text


@pytest.fixture(scope="module")
def daemon():
    if missing():
        pytest.skip(missing())
    with Dockerds(["engine"]) as nodes:
        yield nodes["engine"]


@pytest.fixture
def configured(daemon, states, tmp_path, monkeypatch):
    """Run the state; what others wrote into the file is one key."""
    monkeypatch.setattr(Service, "daemon", daemon)
    monkeypatch.setattr(docker_settings, "RECORD", str(tmp_path / "record"))
    path = daemon.root / "daemon.json"
    path.write_text(json.dumps({"shutdown-timeout": 20}))

    def run(test=False, **settings):
        with states(test=test) as loaded:
            loaded["docker_engine.configured"].__globals__["Service"] = Service
            return loaded["docker_engine.configured"](str(path), base_url=daemon.base_url, **settings)

    return run


def info(daemon):
    client = daemon.client()
    try:
        return client.info()
    finally:
        client.close()


def on_file(daemon):
    return json.loads((daemon.root / "daemon.json").read_text())


def test_settings_join_what_is_there_and_a_restart_comes_only_with_what_needs_one(configured, daemon):
    process = daemon.dockerd.pid
    first = configured(settings={"log-driver": "local", "log-opts": {"max-size": "1m"}})
    assert first["result"] is True, first
    assert first["changes"]["engine"] == "restart"
    assert daemon.dockerd.pid != process
    assert info(daemon)["LoggingDriver"] == "local"
    assert on_file(daemon) == {"shutdown-timeout": 20, "log-driver": "local", "log-opts": {"max-size": "1m"}}

    process = daemon.dockerd.pid
    same = {"log-driver": "local", "log-opts": {"max-size": "1m"}}
    assert configured(settings=same)["changes"] == {}
    foreseen = configured(test=True, settings=same, mirrors=["http://10.0.0.1:5000"])
    assert (foreseen["result"], foreseen["changes"]["engine"]) == (None, "reload")
    assert "registry-mirrors" not in on_file(daemon)
    second = configured(settings=same, mirrors=["http://10.0.0.1:5000"], insecure_registries=["10.0.0.1:5001"])
    assert second["result"] is True, second
    assert second["changes"]["engine"] == "reload"
    assert daemon.dockerd.pid == process
    assert info(daemon)["RegistryConfig"]["Mirrors"] == ["http://10.0.0.1:5000/"]
    assert "10.0.0.1:5001" in info(daemon)["RegistryConfig"]["IndexConfigs"]

    third = configured(settings=same)
    assert third["result"] is True, third
    assert on_file(daemon) == {"shutdown-timeout": 20, **same}
    assert info(daemon)["RegistryConfig"]["Mirrors"] == []


def test_where_images_are_is_taken_over_by_a_restart_and_other_features_by_a_reload(configured, daemon):
    store = {"features": {"containerd-snapshotter": False}}
    assert configured(settings=store)["changes"]["engine"] == "restart"
    assert info(daemon)["ID"]
    more = {"features": {"containerd-snapshotter": False, "buildkit": True}}
    assert configured(settings=more)["changes"]["engine"] == "reload"


@pytest.fixture
def with_data_root(tmp_path, monkeypatch):
    """What the file would become with a data root and these settings, of the site, of the file, of containerd."""
    monkeypatch.setattr(data, "CONTAINERD", str(tmp_path / "blobs"))

    def wanted(ours=None, found=None, images=(), known=None, root="/mnt/ssd/docker"):
        (tmp_path / "daemon.json").write_text(json.dumps(found or {}))
        (tmp_path / "record").write_text(json.dumps(known or {}))
        for image in images:
            (tmp_path / "blobs" / image).mkdir(parents=True)
        ours = {**(ours or {}), **({"data-root": root} if root else {})}
        record = str(tmp_path / "record")
        return docker_settings.Settings(str(tmp_path / "daemon.json"), ours, None, record=record)

    return wanted


def test_with_a_data_root_images_are_below_it(with_data_root):
    first = with_data_root({"features": {"buildkit": True}})
    assert first.wanted["features"] == {"buildkit": True, "containerd-snapshotter": False}
    # Once so it stays so, whatever containerd is used for besides.
    again = with_data_root({}, first.wanted, ["0f"], {"ours": first.ours})
    assert again.wanted["features"] == {"containerd-snapshotter": False}
    assert again.remark == ""
    assert with_data_root(None, first.wanted, known={"ours": first.ours}, root="").wanted == {}


def test_where_images_are_stays_as_somebody_chose_and_where_there_are_some(with_data_root):
    for ours, found in (
        ({"features": {"containerd-snapshotter": True}}, {}),
        ({}, {"features": {"containerd-snapshotter": True}}),
    ):
        assert with_data_root(ours, found).wanted["features"] == {"containerd-snapshotter": True}
    assert "features" not in with_data_root({"storage-driver": "overlayfs"}).wanted
    assert "features" not in with_data_root(root="").wanted
    assert with_data_root({"features": ["buildkit"]}).wanted["features"] == ["buildkit"], "for the engine to refuse"
    used = with_data_root(images=["0f"])
    assert "features" not in used.wanted
    assert "/var/lib/containerd are not on the disk of data_root" in used.remark


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"log-drivr": "local"}, "log-drivr"),
        ({"hosts": ["tcp://0.0.0.0:2375"]}, "hosts"),
        ({"labels": ["no-value"]}, "no-value"),
        ({"max-concurrent-downloads": "three"}, "max-concurrent-downloads"),
        ({"features": ["buildkit"]}, "features"),
    ],
)
def test_settings_the_engine_refuses_change_nothing_and_are_named(configured, daemon, settings, named):
    process = daemon.dockerd.pid
    answer = configured(settings=settings)
    assert answer["result"] is False
    assert named in answer["comment"]
    assert on_file(daemon) == {"shutdown-timeout": 20}
    assert daemon.dockerd.pid == process


def test_an_engine_that_does_not_start_with_its_settings_gets_the_former_ones_back(configured, daemon):
    answer = configured(settings={"storage-driver": "none-such"})
    assert answer["result"] is False
    assert "driver not supported" in answer["comment"]
    assert "the former ones are back" in answer["comment"]
    assert on_file(daemon) == {"shutdown-timeout": 20}
    assert info(daemon)["ID"]


def test_a_restart_that_was_interrupted_is_made_up_for(configured, daemon, tmp_path, monkeypatch):
    def power_cut(self):
        raise KeyboardInterrupt

    wanted = {"log-driver": "local"}
    with monkeypatch.context() as once:
        once.setattr(Service, "restart", power_cut)
        with pytest.raises(KeyboardInterrupt):
            configured(settings=wanted)
    assert on_file(daemon)["log-driver"] == "local"
    assert json.loads((tmp_path / "record").read_text())["owed"] == "restart"
    again = configured(settings=wanted)
    assert again["result"] is True, again
    assert again["changes"] == {"engine": "restart"}
    assert info(daemon)["LoggingDriver"] == "local"
    assert configured(settings=wanted)["changes"] == {}


def test_an_engine_that_does_not_tell_its_settings_after_a_reload_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(docker_settings, "TOLD_BOUND", 0)
    wanted = docker_settings.Settings(str(tmp_path / "a.json"), {}, None, record=str(tmp_path / "record"))
    with ailing_engine.serve() as url:
        told = wanted._untold(url)
    assert "says nothing of itself: no space left on device" in told


def test_a_file_that_is_no_json_is_named_and_left(configured, daemon):
    (daemon.root / "daemon.json").write_text('{"labels": [')
    answer = configured(settings={})
    assert answer["result"] is False
    assert f"{daemon.root}/daemon.json is no JSON" in answer["comment"]
    assert (daemon.root / "daemon.json").read_text() == '{"labels": ['
    (daemon.root / "daemon.json").write_text("{}")


def test_a_data_root_without_its_disk_is_refused(configured, daemon):
    answer = configured(settings={}, data_root="/no-disk-here/docker")
    assert answer["result"] is False
    assert "no disk is mounted there" in answer["comment"]
    assert "data-root" not in on_file(daemon)
