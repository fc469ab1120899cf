"""Who decides an engine's settings, on files as owners have them; the engine itself is in test_docker_engine."""

import json

import pytest

from omega.core.engine_fit import problems
from omega.docker.choice import ChoiceError, lost, settle
from omega.docker.config import ConfigError, parse
from omega.docker.flags import settings as of_flags
from omega.docker.service import assigned, expanded

DEFAULTS = {"log-driver": "json-file", "log-opts": {"max-size": "10m", "max-file": "3"}}
LOKI = {"log-driver": "loki", "log-opts": {"loki-url": "http://nas:3100/loki/api/v1/push"}}
PATH = "/etc/docker/daemon.json"


def choose(owner=None, site=None, flags=()):
    """The settings after one run, which another run leaves as they are."""
    ours, wanted = settle(owner or {}, site or {}, DEFAULTS, {}, of_flags(flags), PATH)
    again, same = settle(wanted, site or {}, DEFAULTS, ours, of_flags(flags), PATH)
    assert (again, same) == (ours, wanted), "the second run decides otherwise"
    return wanted


@pytest.mark.parametrize(
    "owner",
    [
        LOKI,
        {"log-driver": "journald"},
        {"log-driver": "json-file"},
        {"log-opts": {"max-size": "50m"}},
        {"log-driver": "local", "log-opts": {"max-file": "9"}},
    ],
    ids=json.dumps,
)
def test_a_default_leaves_what_the_owner_decided(owner):
    assert choose({**owner, "debug": True}) == {**owner, "debug": True}


@pytest.mark.parametrize("flags", [["--log-driver=journald"], ["--log-driver", "local"], ["--log-opt", "max-size=1m"]])
def test_a_default_leaves_what_the_units_command_line_decides(flags):
    assert choose(flags=["-H", "fd://", *flags]) == {}


@pytest.mark.parametrize(
    ("owner", "site", "wanted"),
    [
        ({}, {}, DEFAULTS),
        ({}, {"log-driver": "journald"}, {"log-driver": "journald"}),
        ({}, {"log-driver": "json-file"}, DEFAULTS),
        ({}, {"log-opts": {"max-size": "5m"}}, {**DEFAULTS, "log-opts": {"max-size": "5m", "max-file": "3"}}),
        ({}, {"log-opts": {"max-file": 5}}, {**DEFAULTS, "log-opts": {"max-size": "10m", "max-file": "5"}}),
        ({}, {"log-opts": {"compress": True}}, {**DEFAULTS, "log-opts": {**DEFAULTS["log-opts"], "compress": "true"}}),
        ({}, {"log-driver": None}, {}),
        ({}, {"log-opts": None}, {}),
        (LOKI, {"log-driver": "journald"}, {"log-driver": "journald"}),
        (LOKI, {"log-driver": "json-file"}, DEFAULTS),
        (LOKI, {"log-driver": "loki"}, LOKI),
        (LOKI, {"log-driver": None}, LOKI),
        (
            {"log-driver": "local"},
            {"log-opts": {"max-size": "5m"}},
            {"log-driver": "local", "log-opts": {"max-size": "5m"}},
        ),
        (
            {"log-opts": {"max-size": "50m"}},
            {"log-driver": "json-file"},
            {"log-driver": "json-file", "log-opts": {"max-size": "50m"}},
        ),
        ({"log-opts": {"max-size": "50m"}}, {"log-driver": "journald"}, {"log-driver": "journald"}),
    ],
    ids=lambda value: json.dumps(value)[:60],
)
def test_log_driver_and_options_are_decided_together(owner, site, wanted):
    assert choose(owner, site) == wanted


def test_options_that_are_none_of_the_owners_driver_are_refused_with_both_places_named():
    with pytest.raises(ChoiceError) as refused:
        choose({"log-driver": "journald"}, {"log-opts": {"max-size": "5m"}})
    for words in ("docker.daemon.log-opts of the site file", "max-size", "journald", PATH, "write log-driver"):
        assert words in str(refused.value)


def test_an_owner_who_changes_the_driver_later_takes_the_defaults_options_away_with_it():
    ours, wanted = settle({}, {}, DEFAULTS, {}, {}, PATH)
    assert settle({**wanted, "log-driver": "journald"}, {}, DEFAULTS, ours, {}, PATH)[1] == {"log-driver": "journald"}


def test_another_storage_driver_takes_the_owners_options_away():
    owner = {**DEFAULTS, "storage-driver": "overlay2", "storage-opts": ["overlay2.size=20G"]}
    assert choose(owner, {"storage-driver": "vfs"}) == {**DEFAULTS, "storage-driver": "vfs"}
    assert choose(owner, {"storage-driver": "overlay2"}) == owner


def test_limits_and_runtimes_are_replaced_whole_and_others_stay():
    owner = {**DEFAULTS, "default-ulimits": {"nofile": {"Name": "nofile", "Hard": 512}, "core": {"Hard": 0}}}
    site = {"default-ulimits": {"nofile": {"Name": "nofile", "Soft": 1024}}}
    assert choose(owner, site)["default-ulimits"] == {"nofile": site["default-ulimits"]["nofile"], "core": {"Hard": 0}}
    owner = {**DEFAULTS, "runtimes": {"kata": {"path": "/usr/bin/kata"}}}
    site = {"runtimes": {"kata": {"runtimeType": "io.containerd.kata.v2"}}}
    assert choose(owner, site)["runtimes"] == site["runtimes"]


def test_what_goes_of_the_owners_is_known():
    assert lost(LOKI, choose(LOKI, {"log-driver": "journald"}), {}) == ["log-driver", "log-opts"]
    assert lost({"debug": True}, choose({"debug": True}), {}) == []
    assert lost(DEFAULTS, {}, DEFAULTS) == [], "it is the site's"


# -- daemon.json as owners have it ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        '\ufeff{"debug": true}',
        '{\r\n  "debug": true\r\n}\r\n',
        b'\xff\xfe{\x00"\x00d\x00e\x00b\x00u\x00g\x00"\x00:\x00t\x00r\x00u\x00e\x00}\x00'.decode(
            "utf-8", "surrogateescape"
        ),
        '{"debug": false, "debug": true}',
    ],
    ids=["byte order mark", "CRLF", "UTF-16", "twice"],
)
def test_a_file_is_read_as_an_engine_reads_it(text):
    assert parse(PATH, text) == {"debug": True}


def test_mappings_that_are_there_twice_join_as_in_an_engine():
    text = '{"log-opts": {"max-size": "1m"}, "log-opts": {"max-file": "2"}}'
    assert parse(PATH, text) == {"log-opts": {"max-size": "1m", "max-file": "2"}}


@pytest.mark.parametrize("text", ["", " \n", None])
def test_an_empty_file_says_nothing(text):
    assert parse(PATH, text) == {}


@pytest.mark.parametrize("text", ['{"debug": true} // mine', '{"debug": true,}', "[]", "null", "7", '{"mtu": NaN}'])
def test_what_is_no_mapping_of_json_is_refused_with_the_file_named(text):
    with pytest.raises(ConfigError, match=f"{PATH} (is no JSON|contains no mapping)"):
        parse(PATH, text)


def test_null_in_the_owners_file_decides_nothing_that_an_engine_would_not():
    assert choose({"log-driver": None}, {"log-driver": "journald"}) == {"log-driver": "journald"}


# -- command lines and what a swarm excludes -----------------------------------------------------------------


def test_a_command_line_is_read_in_the_terms_of_the_file():
    line = (
        "-H fd:// --host=tcp://0:2376 --live-restore --icc=false -g /mnt/x --log-opt max-size=1m --log-opt max-file=2"
    )
    line += " --containerd /run/containerd/containerd.sock -D --feature swarm-nftables --label a=b -s overlay2"
    assert of_flags(line.split()) == {
        "hosts": ["fd://", "tcp://0:2376"],
        "live-restore": True,
        "icc": False,
        "data-root": "/mnt/x",
        "log-opts": {"max-size": "1m", "max-file": "2"},
        "containerd": "/run/containerd/containerd.sock",
        "debug": True,
        "features": {"swarm-nftables": True},
        "labels": ["a=b"],
        "storage-driver": "overlay2",
    }


def test_what_debians_defaults_file_adds_to_the_command_line_is_read_too():
    text = """# DOCKER_OPTS="--dns 8.8.8.8"
DOCKER_OPTS="--log-driver=journald --live-restore"
#export http_proxy="http://127.0.0.1:3128/"
BROKEN="x
"""
    words = ["-H", "fd://", "--containerd=/run/containerd/containerd.sock", "$DOCKER_OPTS", "$NONE"]
    flags = of_flags(expanded(words, assigned(text.splitlines())))
    assert (flags["log-driver"], flags["live-restore"], flags["hosts"]) == ("journald", True, ["fd://"])
    assert settle({}, {}, DEFAULTS, {}, flags, PATH)[1] == {}
    assert [key for key, _, _ in problems(flags)] == ["live-restore"]


@pytest.mark.parametrize(
    ("settings", "info", "named"),
    [
        ({"live-restore": True}, {}, "live-restore"),
        ({"live-restore": False}, {"LiveRestoreEnabled": True}, "live-restore"),
        ({"iptables": False}, {}, "iptables"),
        ({"cluster-store": "consul://10.0.0.1:8500"}, {}, "cluster-store"),
        ({"userns-remap": "default"}, {}, "userns-remap"),
        ({"hosts": ["tcp://0.0.0.0:2376"]}, {}, "hosts"),
        ({"ip-forward": False}, {"IPv4Forwarding": False}, "ip-forward"),
        ({"firewall-backend": "nftables"}, {}, "firewall-backend"),
        ({}, {"FirewallBackend": {"Driver": "nftables+firewalld"}}, "firewall-backend"),
        (
            {"firewall-backend": "nftables", "features": {"swarm-nftables": True}},
            {"ServerVersion": "29.5.3"},
            "firewall-backend",
        ),
    ],
    ids=json.dumps,
)
def test_what_excludes_a_swarm_is_named(settings, info, named):
    assert [key for key, _, _ in problems(settings, info)] == [named]


@pytest.mark.parametrize(
    ("settings", "info"),
    [
        ({"bridge": "none", "icc": False, "userland-proxy": False, "default-runtime": "crun"}, {}),
        ({"live-restore": False, "iptables": True, "userns-remap": ""}, {"LiveRestoreEnabled": False}),
        ({"hosts": ["tcp://0.0.0.0:2376", "unix:///var/run/docker.sock"]}, {}),
        ({"hosts": ["fd://"]}, {}),
        ({"ip-forward": False}, {"IPv4Forwarding": True}),
        ({"firewall-backend": "nftables", "features": {"swarm-nftables": True}}, {"ServerVersion": "29.7.2"}),
        ({"features": {"swarm-nftables": True}}, {"FirewallBackend": {"Driver": "nftables"}}),
        ({"features": ["swarm-nftables"]}, {"FirewallBackend": {"Driver": "iptables"}}),
    ],
    ids=json.dumps,
)
def test_what_a_swarm_can_run_with_is_the_owners(settings, info):
    assert problems(settings, info) == []


def test_without_a_swarm_only_what_consul_needs_is_looked_at():
    settings = {"live-restore": True, "iptables": False, "userns-remap": "default"}
    assert [key for key, _, _ in problems(settings, swarm=False)] == ["userns-remap"]


def test_the_former_name_of_the_data_root_goes_when_the_site_names_one():
    """An engine of 20.10 takes `graph`, and refuses both."""
    ours, wanted = settle({"graph": "/mnt/old"}, {"data-root": "/mnt/new"}, {}, {}, {}, "/d")
    assert wanted == {"data-root": "/mnt/new"}
    assert lost({"graph": "/mnt/old"}, wanted, {}) == ["graph"]
    assert settle({"graph": "/mnt/old"}, {}, {}, {}, {}, "/d")[1] == {"graph": "/mnt/old"}
