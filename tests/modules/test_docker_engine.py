"""`docker_engine.configured` on a real engine: merged, judged, reloaded or restarted, and taken back if need be."""

import json
import pathlib
import shutil
import signal
import subprocess
import tempfile

import ailing_engine
import docker
import pytest
import tiny_image
from dockerds import Dockerds, Unsupported, missing

from omega.docker import data, logs, service
from omega.docker import settings as docker_settings
from omega.docker import store as docker_store


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
    monkeypatch.setattr(service, "Service", Service)
    monkeypatch.setattr(docker_settings, "RECORD", str(tmp_path / "record"))
    path = daemon.root / "daemon.json"
    path.write_text(json.dumps({"shutdown-timeout": 20}))

    def run(test=False, **settings):
        with states(test=test) as loaded:
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
    predicted = configured(test=True, settings=same, mirrors=["http://10.0.0.1:5000"])
    assert (predicted["result"], predicted["changes"]["engine"]) == (None, "reload")
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
    assert not info(daemon)["RegistryConfig"]["Mirrors"]  # null since 26


def test_where_images_are_is_taken_over_by_a_restart_and_other_features_by_a_reload(configured, daemon):
    store = {"features": {"containerd-snapshotter": False}}
    assert configured(settings=store)["changes"]["engine"] == "restart"
    assert info(daemon)["ID"]
    more = {"features": {"containerd-snapshotter": False, "buildkit": True}}
    assert configured(settings=more)["changes"]["engine"] == "reload"


ROTATED = {"log-driver": "json-file", "log-opts": {"max-size": "10m", "max-file": "3"}}


def test_a_default_never_stops_an_engine_from_starting(configured, daemon):
    answer = configured(settings={"log-driver": "journald"}, defaults=ROTATED)
    assert answer["result"] is True, answer
    assert info(daemon)["LoggingDriver"] == "journald"
    assert on_file(daemon) == {"shutdown-timeout": 20, "log-driver": "journald"}
    assert configured(settings={"log-driver": "journald"}, defaults=ROTATED)["changes"] == {}

    answer = configured(defaults=ROTATED)
    assert answer["result"] is True, answer
    assert on_file(daemon) == {"shutdown-timeout": 20, **ROTATED}
    assert info(daemon)["LoggingDriver"] == "json-file"


def test_the_owners_log_driver_stays_with_its_options(configured, daemon):
    own = {"log-driver": "syslog", "log-opts": {"syslog-address": "udp://192.0.2.1:514", "tag": "pi"}}
    (daemon.root / "daemon.json").write_text(json.dumps(own))
    answer = configured(settings={"max-concurrent-downloads": 2}, defaults=ROTATED)
    assert answer["result"] is True, answer
    assert on_file(daemon) == {**own, "max-concurrent-downloads": 2}
    daemon.restart()
    assert info(daemon)["LoggingDriver"] == "syslog"


def test_numbers_in_log_options_reach_the_engine_as_it_takes_them(configured, daemon):
    answer = configured(settings={"log-opts": {"max-file": 5, "compress": True}}, defaults=ROTATED)
    assert answer["result"] is True, answer
    assert on_file(daemon)["log-opts"] == {"max-size": "10m", "max-file": "5", "compress": "true"}


@pytest.mark.parametrize(
    "settings",
    [
        {"log-driver": "journald", "log-opts": {"max-size": "5m"}},
        {"log-driver": "local", "log-opts": {"tag": "x"}},
        {"log-opts": {"loki-url": "http://nas:3100"}},
    ],
    ids=json.dumps,
)
def test_log_options_of_another_driver_are_refused_before_the_engine_stops(configured, daemon, settings):
    process = daemon.dockerd.pid
    answer = configured(settings=settings, defaults=ROTATED)
    assert answer["result"] is False
    assert "docker.daemon of the site file: the engine refuses it: log-opts: " in answer["comment"]
    assert daemon.dockerd.pid == process
    assert on_file(daemon) == {"shutdown-timeout": 20}


# What an engine wants of a value; and what releases after Debian's, or before them, do not know.
VALUES = {
    "fluentd-address": "127.0.0.1:24224",
    "fluentd-buffer-limit": "1m",
    "fluentd-retry-wait": "1s",
    "fluentd-max-retries": "2",
    "gelf-compression-level": "1",
    "gelf-compression-type": "gzip",
    "syslog-address": "udp://192.0.2.1:514",
    "syslog-facility": "daemon",
    "syslog-format": "rfc5424",
    "awslogs-force-flush-interval-seconds": "5",
    "awslogs-max-buffered-events": "5",
}
FLAGS = ("fluentd-async", "fluentd-request-ack", "fluentd-sub-second-precision", "awslogs-create-group", "compress")
OTHER_RELEASES = {
    *("fluentd-async-connect", "fluentd-async-reconnect-interval", "fluentd-write-timeout", "fluentd-read-timeout"),
    *("awslogs-create-stream", "awslogs-format", "awslogs-multiline-pattern"),
}
BUILT_IN = [
    *[(driver, {}) for driver in logs.OPTIONS if driver not in ("gelf", "logentries")],
    ("gelf", {"gelf-address": "udp://192.0.2.1:12201"}),
    ("gelf", {"gelf-address": "tcp://192.0.2.1:12201", "gelf-tcp-max-reconnect": "1", "gelf-tcp-reconnect-delay": "1"}),
]


@pytest.mark.long
@pytest.mark.parametrize(("driver", "given"), BUILT_IN, ids=str)
def test_an_engine_takes_every_option_of_the_table_and_no_other(daemon, driver, given):
    """By the engine's own judgement, which it makes as it starts."""
    options = logs.OPTIONS[driver] - OTHER_RELEASES
    options = {one for one in options if ("compression" not in one if "tcp" in str(given) else "gelf-tcp" not in one)}
    values = {one: "true" if one in FLAGS else VALUES.get(one, "x") for one in options} | given
    assert "storage-driver" in start_with(daemon, {"log-driver": driver, "log-opts": values})
    refused = start_with(daemon, {"log-driver": driver, "log-opts": {**values, "none-of-it": "1"}})
    assert "failed to set log opts" in refused
    assert "none-of-it" in refused
    assert logs.unknown(driver, {**values, "none-of-it": "1"}) == ["none-of-it"]


# Values of public questions and answers, and variants of them.
GIVEN = [
    *[{"max-size": size} for size in ("10m", "10MB", "1.5g", "10 M", "512", "10kib", "10x", "-1", "0", "", "10 megs")],
    *[{"max-size": "1m", "max-file": number} for number in ("3", "0", "-1", "three", "03", "1.5")],
    {"compress": "true"},
    {"compress": "true", "max-size": "1m"},
    {"compress": "true", "max-size": "1m", "max-file": "2"},
    {"compress": "yes", "max-size": "1m", "max-file": "2"},
    {"compress": "false"},
    {"mode": "non-blocking", "max-buffer-size": "4m"},
    {"mode": "non-blocking", "max-buffer-size": "4 lots"},
    {"mode": "nonblocking"},
    {"max-buffer-size": "4m"},
]


@pytest.fixture(scope="module")
def plain():
    """Client of an engine without settings: its log options would join those of a container. With an image."""
    if missing():
        pytest.skip(missing())
    with Dockerds(["plain"]) as nodes:
        client = nodes["plain"].client(timeout=60)
        yield client, tiny_image.build(client)
        client.close()


@pytest.mark.parametrize("options", GIVEN, ids=str)
def test_values_of_log_options_are_judged_as_by_the_engine_that_starts_a_container(plain, options):
    client, image = plain
    made, fails = None, False
    try:
        config = docker.types.LogConfig(type="json-file", config=options)
        made = client.containers.create(image, ["/bin/true"], network_mode="none", log_config=config)
        made.start()
    except docker.errors.APIError as error:
        # Whatever else this machine cannot give a container comes after its log.
        fails = "logging driver" in str(error) or made is None
    finally:
        if made:
            made.remove(force=True)
    assert bool(list(logs.invalid("json-file", options))) == fails


def test_log_options_with_which_no_container_starts_are_refused_before_anything_is_written(configured, daemon):
    process = daemon.dockerd.pid
    answer = configured(settings={"log-opts": {"max-size": "10x", "max-file": 0}}, defaults=ROTATED)
    assert (answer["result"], daemon.dockerd.pid) == (False, process)
    assert "log-opts: max-size 10x: write a size such as 10m" in answer["comment"]
    assert "log-opts: max-file 0: write a number from 1 on" in answer["comment"]
    assert on_file(daemon) == {"shutdown-timeout": 20}


def start_with(daemon, settings):
    """What another engine says of these settings as it starts, if only that its storage driver is none."""
    folder = tempfile.mkdtemp(dir=daemon.root)
    path = pathlib.Path(folder) / "daemon.json"
    path.write_text(json.dumps(settings))
    command = [*daemon.keeper.enter("net", "mount", "uts", "pid"), "timeout", "--signal=KILL", "15", "dockerd"]
    command += ["--config-file", str(path), "--data-root", f"{folder}/data", "--exec-root", f"{folder}/run"]
    command += ["--host", f"unix://{folder}/s", "--pidfile", f"{folder}/p", "--storage-driver", "storage-driver"]
    command += ["--containerd", "/run/docker/containerd/containerd.sock"]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False).stderr
    shutil.rmtree(folder)
    return said


def test_a_refusal_that_only_a_start_shows_leaves_the_engine_running_as_it_was(configured, daemon):
    answer = configured(settings={"log-driver": "syslog", "log-opts": {"syslog-format": "none-such"}})
    assert answer["result"] is False
    assert "the former ones are back" in answer["comment"]
    assert "none-such" in answer["comment"] or "syslog" in answer["comment"], answer
    assert on_file(daemon) == {"shutdown-timeout": 20}
    assert info(daemon)["LoggingDriver"] == "json-file"


def test_what_the_engine_refuses_of_the_owners_is_not_said_of_the_site_file(configured, daemon):
    (daemon.root / "daemon.json").write_text('{"labels": ["no-value"]}')
    answer = configured(settings={"debug": True}, defaults=ROTATED)
    (daemon.root / "daemon.json").write_text("{}")
    assert answer["result"] is False
    assert answer["comment"].startswith(f"{daemon.root}/daemon.json: the engine refuses it: ")
    assert "site file" not in answer["comment"]


def test_passwords_are_in_no_return_and_in_no_file_that_others_can_read(configured, daemon, tmp_path, monkeypatch):
    path, word = daemon.root / "daemon.json", "hunter2-not-shown"
    path.write_text(json.dumps({"log-driver": "splunk", "log-opts": {"splunk-token": word}, "shutdown-timeout": 20}))
    path.chmod(0o600)
    seen, run = [], subprocess.run

    def watched(command, *arguments, **options):
        if "--config-file" in command:
            name = pathlib.Path(command[command.index("--config-file") + 1])
            seen.append(not name.is_relative_to("/proc/self/fd") and name.stat().st_mode & 0o077)
        return run(command, *arguments, **options)

    monkeypatch.setattr(subprocess, "run", watched)
    site = {"labels": [f"token={word}"], "log-driver": "json-file", "log-opts": {}}
    for test in (True, False):
        answer = configured(settings=site, test=test)
        assert answer["result"] is (None if test else True), answer
        assert word not in str(answer)
    assert set(seen) == {False}
    kept = [path, path.with_name("daemon.json.before-rpiomega"), tmp_path / "record"]
    assert [oct(file.stat().st_mode & 0o777) for file in kept] == ["0o600"] * 3
    path.chmod(0o644)
    kept[1].unlink()


def test_a_copy_is_kept_of_what_the_site_takes_out_of_the_owners_file(configured, daemon):
    own = '{"log-driver": "local", "mtu": 1400}'
    (daemon.root / "daemon.json").write_text(own)
    answer = configured(settings={"log-driver": "journald"})
    assert answer["result"] is True, answer
    copy = daemon.root / "daemon.json.before-rpiomega"
    assert str(copy) in answer["comment"]
    assert copy.read_text() == own
    copy.unlink()
    assert "kept" not in configured(settings={"log-driver": "local"})["comment"], "it was the site's"
    assert not copy.exists()


def test_a_link_to_the_owners_file_stays_one(configured, daemon, tmp_path):
    path, real = daemon.root / "daemon.json", tmp_path / "own.json"
    real.write_text('{"shutdown-timeout": 20}')
    path.unlink()
    path.symlink_to(real)
    try:
        assert configured(settings={"debug": True})["result"] is True
        assert path.is_symlink()
        assert json.loads(real.read_text()) == {"shutdown-timeout": 20, "debug": True}
    finally:
        path.unlink()
        path.write_text("{}")


def test_a_folder_in_place_of_the_file_is_one_line(configured, daemon):
    path = daemon.root / "daemon.json"
    path.unlink()
    path.mkdir()
    try:
        answer = configured(settings={"debug": True})
        assert answer["result"] is False
        assert str(path) in answer["comment"]
        assert "Is a directory" in answer["comment"]
    finally:
        path.rmdir()
        path.write_text("{}")


def test_a_file_that_cannot_be_written_leaves_the_engine_and_the_record_as_they_were(configured, daemon, tmp_path):
    path = daemon.root / "daemon.json"
    process = daemon.dockerd.pid
    if subprocess.run(["mount", "--bind", path, path], check=False).returncode:
        pytest.skip("no mount here")
    try:
        answer = configured(settings={"log-driver": "local"})
    finally:
        subprocess.run(["umount", path], check=True)
    assert answer["result"] is False
    assert f"{path} cannot be written: " in answer["comment"]
    assert daemon.dockerd.pid == process
    assert json.loads((tmp_path / "record").read_text() or "{}").get("pending", "") == ""


# -- what a swarm excludes -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("own", "said"),
    [
        ({"live-restore": True}, "refuses to join a swarm; set it to false"),
        ({"iptables": False}, "published ports and overlay networks do not work"),
        ({"userns-remap": "default"}, "Consul's container"),
    ],
    ids=json.dumps,
)
def test_the_owners_settings_that_exclude_a_swarm_are_named_before_anything_is_written(configured, daemon, own, said):
    text = json.dumps(own)
    (daemon.root / "daemon.json").write_text(text)
    answer = configured(settings={"debug": True}, defaults=ROTATED, swarm=True)
    assert answer["result"] is False
    assert f"{next(iter(own))} in {daemon.root}/daemon.json: " in answer["comment"]
    assert said in answer["comment"]
    assert (daemon.root / "daemon.json").read_text() == text
    assert configured(settings={"debug": True}, swarm=None)["result"] is True or "userns-remap" in own


def test_the_sites_word_against_the_owners_live_restore_lets_the_engine_join(configured, daemon):
    (daemon.root / "daemon.json").write_text('{"live-restore": true}')
    daemon.restart()
    assert info(daemon)["LiveRestoreEnabled"] is True
    client = daemon.client()
    try:
        with pytest.raises(docker.errors.APIError, match="live-restore"):
            client.swarm.init(advertise_addr=daemon.address)
        answer = configured(settings={"live-restore": False}, swarm=True)
        assert (answer["result"], answer["changes"]["engine"]) == (True, "reload"), answer
        client.swarm.init(advertise_addr=daemon.address)
        client.swarm.leave(force=True)
    finally:
        client.close()


def test_a_live_restore_that_the_engine_did_not_take_over_is_named(configured, daemon, monkeypatch):
    (daemon.root / "daemon.json").write_text('{"live-restore": true}')
    daemon.restart()
    monkeypatch.setattr(docker_settings, "SEEN_BOUND", 0)
    monkeypatch.setattr(Service, "reload", lambda self: None)
    answer = configured(settings={"live-restore": False}, swarm=True)
    assert answer["result"] is False, answer
    assert "live-restore is ['True'] after a reload, not ['False']" in answer["comment"]
    assert on_file(daemon) == {"live-restore": True}


def test_a_flag_of_the_unit_is_named_as_one(configured, daemon, monkeypatch):
    monkeypatch.setattr(Service, "program", lambda self: ("/usr/sbin/dockerd", ["-H", "fd://", "--live-restore"]))
    answer = configured(settings={}, swarm=True)
    assert answer["result"] is False
    assert "live-restore in the unit of Docker (`systemctl cat docker`)" in answer["comment"]


def test_the_owners_data_root_may_be_anywhere(configured, daemon, monkeypatch):
    # The daemon of these tests has its data root on the command line.
    (daemon.root / "daemon.json").write_text('{"data-root": "/nvme/docker"}')
    monkeypatch.setattr(data, "mount_of", lambda path: "/")
    monkeypatch.setattr(Service, "restart", lambda self: None)
    answer = configured(settings={"debug": True, "log-driver": "local"})
    assert answer["result"] is True, answer
    assert on_file(daemon) == {"data-root": "/nvme/docker", "debug": True, "log-driver": "local"}
    assert Service.text is None, "the engine waits for a disk that the site does not name"


@pytest.fixture
def with_data_root(tmp_path, monkeypatch):
    """What the file would become with a data root and these settings, of the site, of the file, of containerd."""
    blobs = tmp_path / "containerd" / docker_store._BLOBS
    (tmp_path / "config.toml").write_text(f'version = 2\nroot = "{tmp_path}/containerd"\n')
    monkeypatch.setattr(docker_store, "CONFIG", str(tmp_path / "config.toml"))

    def wanted(ours=None, found=None, images=(), known=None, root="/mnt/ssd/docker"):
        (tmp_path / "daemon.json").write_text(json.dumps(found or {}))
        (tmp_path / "record").write_text(json.dumps(known or {}))
        for image in images:
            (blobs / image).mkdir(parents=True)
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
    assert "features" not in with_data_root(images=["0f"]).wanted


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
    assert json.loads((tmp_path / "record").read_text())["pending"] == "restart"
    again = configured(settings=wanted)
    assert again["result"] is True, again
    assert again["changes"] == {"engine": "restart"}
    assert info(daemon)["LoggingDriver"] == "local"
    assert configured(settings=wanted)["changes"] == {}


def test_an_engine_that_does_not_tell_its_settings_after_a_reload_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(docker_settings, "SEEN_BOUND", 0)
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
