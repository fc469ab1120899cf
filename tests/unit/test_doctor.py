"""What the doctor makes of facts no test machine has: other boards, bad power, slow cards, wrong clocks."""

import copy

import pytest

from rpiomega.doctor import judge, ports, power
from rpiomega.node.board import Board
from rpiomega.node.doctor import ports as board_ports
from rpiomega.node.doctor import reach
from rpiomega.site.schema import Site


def site(nodes=3, managers=3, swarm=True):
    """Give a site of some nodes, the first ones managers."""
    entries = {}
    for number in range(1, nodes + 1):
        roles = ["manager"] if number <= managers else ["worker"]
        entries[f"n{number}"] = {
            "name": f"n{number}",
            "address": f"192.168.1.{number}",
            "roles": ["master", *roles] if number == 1 else roles,
        }
    return Site.model_validate({"cluster": "test", "nodes": entries, "swarm": {"enabled": swarm}})


def healthy(name="n1", address="192.168.1.1"):
    """Give the facts of a Pi 4 in order."""
    return {
        "identity": {
            "hostname": name,
            "written": name,
            "machine_id": f"id-{name}",
            "host_keys": {"ssh-ed25519": f"SHA256:{name}"},
            "addresses": [{"device": "eth0", "address": address, "prefix": 24, "dynamic": False}],
            "salt": {"minion": False},
        },
        "boot": {
            "cmdline": {"path": "/boot/firmware/cmdline.txt", "lines": 1, "root": True, "ignored": []},
            "problem": None,
            "memory_cgroup": True,
            "flags_missing": False,
            "reboot": "",
            "container": False,
            "model": "Raspberry Pi 4 Model B Rev 1.4",
            "machine": "aarch64",
            "bits": 64,
            "userland": "arm64",
            "memory_mb": 3792,
        },
        "power": {"throttled": 0, "celsius": 48.3},
        "storage": {
            "file_systems": {
                "/": {"free_mb": 20000, "total_mb": 30000, "inodes": 90, "read_only": False},
                "/boot/firmware": {"free_mb": 400, "total_mb": 500, "inodes": None, "read_only": False},
            }
        },
        "latency": {"median_ms": 8.1, "worst_ms": 40.0, "writes": 24},
        "clock": {"synchronised": True, "can": True, "on": True, "server": "", "refused": {}, "offset": 0.1},
        "sources": {"proxy": "", "nameservers": ["192.168.1.1"], "dns": {"mirror.example.org": "1.2.3.4"}, "apt": {}},
        "kernel": {
            "vxlan": {"works": True, "said": ""},
            "iptables": {"version": "iptables v1.8.11 (nf_tables)", "backend": "nf_tables", "nat": True, "said": ""},
            "legacy_rules": 0,
            "ipvs": True,
            "firewall": [],
        },
        "docker": {"installed": False, "daemon": {}, "info": {}, "swarm": {}},
        "leftovers": {"software": [], "packages": [], "pip_salt": False, "services": {}},
    }


def test_a_board_in_order_has_no_findings():
    assert judge.judge(site(), {"n1": healthy(), "n2": healthy("n2", "192.168.1.2")}) == []


SICK = [
    ("power throttled", 0x1, {"throttled": "error"}),
    ("power throttled", 0x50000, {"throttled": "warning"}),
    ("power celsius", 82.0, {"temperature": "warning"}),
    ("boot cmdline ignored", ["rootwait"], {"cmdline": "warning"}),
    ("boot problem", ["/boot/firmware/cmdline.txt is empty", "write it"], {"cmdline": "error"}),
    ("boot cmdline root", False, {"cmdline": "error"}),
    ("boot memory_cgroup", False, {"memory-cgroup": "error"}),
    ("boot userland", "armhf", {"userland": "warning"}),
    ("boot memory_mb", 425, {"memory": "warning"}),
    ("storage file_systems / free_mb", 1500, {"space": "warning"}),
    ("storage file_systems / free_mb", 300, {"space": "error"}),
    ("storage file_systems /boot/firmware free_mb", 3, {"space": "warning"}),
    ("storage file_systems / inodes", 1, {"inodes": "error"}),
    ("storage file_systems / read_only", True, {"read-only": "error"}),
    ("latency median_ms", 180.0, {"latency": "warning"}),
    ("latency median_ms", 900.0, {"latency": "error"}),
    ("latency worst_ms", 2600.0, {"latency": "warning"}),
    ("latency", {"error": "OSError: No space left on device"}, {"latency": "error"}),
    ("clock offset", -12.0, {"clock-offset": "warning", "clock-spread": "warning"}),
    ("clock offset", -90_000.0, {"clock-offset": "error", "clock-spread": "error"}),
    ("identity hostname", "raspberrypi", {"hostname": "error"}),
    ("identity written", "raspberrypi", {"hostname": "error"}),
    ("identity hostname", "n2", {"hostname": "error", "unique-name": "error"}),
    ("identity machine_id", "id-n2", {"machine-id": "error"}),
    ("identity machine_id", "", {"machine-id": "error"}),
    ("identity host_keys", {"ssh-ed25519": "SHA256:n2"}, {"host-key": "error"}),
    ("identity salt", {"minion": True, "id": "n1", "master": "10.0.0.9"}, {"minion-master": "error"}),
    ("kernel ipvs", False, {"ipvs": "warning"}),
    ("kernel legacy_rules", 7, {"iptables": "warning"}),
    ("kernel firewall", ["ufw"], {"firewall": "note"}),
    ("docker daemon", {"error": "Expecting value"}, {"docker": "error"}),
    ("docker daemon", {"iptables": False}, {"docker-iptables": "error"}),
    ("docker info", {"FirewallBackend": {"Driver": "nftables"}}, {"docker-firewall": "error"}),
    ("docker info", {"LiveRestoreEnabled": True}, {"docker-live-restore": "error"}),
    ("docker daemon", {"userns-remap": "default"}, {"docker-userns-remap": "error"}),
    ("docker daemon", {"firewall-backend": "nftables"}, {"docker-firewall": "error"}),
    ("docker daemon", {"firewall-backend": "nftables", "features": {"swarm-nftables": True}}, {}),
    ("docker info", {"DriverStatus": [["driver-type", "io.containerd.snapshotter.v1"]]}, {"docker-images": "note"}),
    ("docker installed", True, {"docker": "error"}),
    ("docker swarm", {"state": "locked", "error": ""}, {"swarm": "error"}),
    ("leftovers packages", ["docker.io", "docker-ce"], {"two-dockers": "error"}),
    ("leftovers packages", ["podman-docker"], {"two-dockers": "error"}),
    ("sources dns", {"mirror.example.org": "error: Name or service not known"}, {"dns": "error"}),
    ("sources apt", {"http://mirror.example.org/x": "HTTP 404"}, {"package-source": "error"}),
    ("storage", {"error": "OSError: oops"}, {"examine": "error"}),
]


@pytest.mark.parametrize(("path", "value", "expected"), SICK, ids=[f"{path}={value}" for path, value, _ in SICK])
def test_one_thing_wrong_gives_exactly_its_findings(path, value, expected):
    facts = {"n1": healthy(), "n2": healthy("n2", "192.168.1.2")}
    _set(facts["n1"], path, value)
    found = judge.judge(site(), facts)
    # What two nodes share is told of both; here the first counts.
    names = {item.check: item.severity for item in found if item.node == "n1" or item.check == "clock-spread"}
    assert names == expected
    for item in found:
        assert item.why and item.cure and "\n" not in item.what + item.why + item.cure


def _set(facts, path, value):
    *between, last = path.split()
    for key in between:
        facts = facts[key]
    facts[last] = value


def test_a_board_without_battery_whose_time_server_is_blocked_is_told_which():
    facts = healthy()
    facts["clock"].update(synchronised=False, refused={"0.debian.pool.ntp.org": "no answer within 2 s"})
    found = judge.judge(site(1, 1), {"n1": facts})
    assert [item.check for item in found] == ["clock-sync"]
    assert "0.debian.pool.ntp.org: no answer" in found[0].what


def test_throttling_word_names_now_and_since_boot():
    assert power.decode(0) == ([], [])
    assert power.decode(0x50005) == (["under-voltage", "throttled"], [])
    assert power.decode(0xE0008) == (
        ["soft temperature limit"], ["processor slowed by the firmware", "throttled"])  # fmt: skip


def needed(found):
    return {(need.source, need.target, need.protocol, need.port) for need in found}


def test_ports_follow_the_roles():
    found = needed(ports.needs(site(4, 3)))
    assert {source for source, target, _, port in found if port == 4505} == {"n2", "n3", "n4"}
    assert {target for source, target, _, port in found if port == 2377 and source == "n4"} == {"n1", "n2", "n3"}
    assert not [1 for source, target, _, port in found if port == 2377 and target == "n4"]
    assert ("n4", "n3", "udp", 4789) in found and ("n3", "n4", "udp", 4789) in found
    assert {source for source, _, _, port in found if port == 8302} == {"n1", "n2", "n3"}
    assert not [1 for source, target, *_ in found if source == target]


def test_two_managers_mean_one_consul_server_and_no_swarm_means_no_swarm_ports():
    assert ports.consul_servers(site(3, 2)) == ["n1"]
    assert {need.port for need in ports.needs(site(3, 2, swarm=False))} == {4505, 4506, 8300, 8301}


BUSY = {"to": "n2", "address": "192.168.1.2", "protocol": "udp", "port": 7946, "busy": True, "sport": 4000}
SENDER = {"addresses": [{"address": "192.168.1.1"}], "problems": []}
FLOW = ["192.168.1.1", 4000, 7946]


@pytest.mark.parametrize(
    ("seen", "passed", "reason"),
    [
        ([FLOW], [FLOW], ""),
        ([FLOW], [], "firewall of n2"),
        ([], [], "does not arrive"),
        ([FLOW], None, ""),  # no connection tracking: arrival is all that can be known
        ([["192.168.1.9", 4000, 7946]], [], "does not arrive"),
    ],
)
def test_a_busy_udp_port_is_judged_by_what_the_target_saw(seen, passed, reason):
    said = ports.explain({**BUSY, "result": "silent"}, "n1", {"seen": seen, "passed": passed}, SENDER, SENDER)
    assert (reason in said) if reason else said == ""


def test_connection_tracking_table_is_read_in_original_direction():
    line = (
        "ipv4     2 udp      17 23 src=192.0.2.2 dst=10.0.0.53 sport=41465 dport=7946 "
        "src=10.0.0.53 dst=192.0.2.2 sport=7946 dport=41465 mark=0 use=2\n"
        "ipv4     2 tcp      6 88 TIME_WAIT src=10.0.0.1 dst=10.0.0.2 sport=1 dport=7946\n"
    )
    assert board_ports.parse_conntrack(line) == {("192.0.2.2", 41465, 7946)}


def test_package_sources_of_both_formats_are_found(tmp_path):
    folder = tmp_path / "etc/apt/sources.list.d"
    folder.mkdir(parents=True)
    (folder.parent / "sources.list").write_text(
        "deb [arch=arm64 signed-by=/k] http://a.example/debian bookworm main\n# deb http://off.example/ x y\n"
        "deb-src http://src.example/debian bookworm main\ndeb http://flat.example/repo ./\n"
    )
    (folder / "raspi.sources").write_text(
        "Types: deb\nURIs: http://b.example/debian/\nSuites: trixie trixie-updates\nComponents: main\n\n"
        "Types: deb\nEnabled: no\nURIs: http://disabled.example\nSuites: x\n\n"
        "Types: deb\nURIs:\n http://folded.example/debian\nSuites:\n trixie\n\nTypes: deb\nURIs: http://half.example\n"
    )
    assert reach.apt_sources(Board(str(tmp_path))) == [
        "http://a.example/debian/dists/bookworm/InRelease",
        "http://flat.example/repo/./InRelease",
        "http://b.example/debian/dists/trixie/InRelease",
        "http://folded.example/debian/dists/trixie/InRelease",
    ]


def test_judging_leaves_the_facts_alone():
    facts = {"n1": healthy()}
    before = copy.deepcopy(facts)
    judge.judge(site(1, 1), facts)
    assert facts == before
