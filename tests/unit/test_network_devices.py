"""Which interfaces are configured here at all, what else configures them, and the radio's switch."""

import json
import os
import stat
import subprocess

import pytest

from rpiomega.node import job_steps, service
from rpiomega.node.board import Board
from rpiomega.node.network import concealed, device, dhcpcd, guard, ifupdown, links, wifi
from rpiomega.node.network.stack import Wanted, Wifi, family, gives_way
from rpiomega.node.step import StepError
from rpiomega.node.steps import minion, network

WIRED = Wanted("eth0", "192.168.1.10", 24, "192.168.1.1", ("192.168.1.1",))
PLAIN = {"kind": "", "devtype": "", "arphrd": 1, "master": "", "ports": [], "lower": ""}


@pytest.mark.parametrize(
    ("name", "facts", "why"),
    [
        ("eth0", {}, ""),
        ("end0", {"kind": "veth"}, ""),
        ("wlan0", {"devtype": "wlan"}, ""),
        ("enxdca632000001", {}, ""),
        ("lan1", {"kind": "dsa", "devtype": "dsa"}, ""),
        ("br0", {"kind": "bridge", "devtype": "bridge", "ports": ["eth0", "eth1"]}, "is a bridge (on eth0, eth1)"),
        ("bond0", {"kind": "bond", "devtype": "bond", "ports": ["eth0"]}, "is a bond (on eth0)"),
        ("eth0.20", {"kind": "vlan", "devtype": "vlan", "lower": "eth0"}, "is a VLAN (on eth0)"),
        ("wg0", {"kind": "wireguard", "devtype": "wireguard", "arphrd": 65534}, "is a WireGuard tunnel"),
        ("mv0", {"kind": "macvlan", "lower": "eth0"}, "is a macvlan (on eth0)"),
        ("tun0", {"kind": "tun", "arphrd": 65534}, "is a tun or tap device"),
        ("sit0", {"kind": "sit", "arphrd": 776}, "is a device of type sit"),
        ("ppp0", {"devtype": "ppp", "arphrd": 512}, "is a device of type ppp"),
        ("usb0", {"devtype": "gadget"}, "is a USB gadget"),
        ("usb0", {}, "is a point-to-point link over USB"),
        ("wwan0", {"devtype": "wwan"}, "is a mobile modem"),
        ("lo", {"arphrd": 772}, "is no Ethernet or Wi-Fi interface (ARPHRD 772)"),
        ("eth0", {"master": "br0"}, "is a port of br0"),
        ("wlan0", {"devtype": "wlan", "master": "bond0"}, "is a port of bond0"),
    ],
)
def test_only_plain_interfaces_are_configured(name, facts, why):
    assert device.unsupported(name, PLAIN | facts) == why


@pytest.mark.parametrize(
    ("address", "gateways", "gone"),
    [
        ("192.168.1.77/24", set(), True), ("192.168.1.77/32", set(), True), ("10.0.0.5/24", set(), False),
        ("10.0.0.5/24", {"10.0.0.1"}, True), ("2001:db8::5/64", {"fe80::1"}, False), ("192.168.0.5/16", set(), True),
    ],
)  # fmt: skip
def test_which_addresses_give_way(address, gateways, gone):
    assert gives_way(address, WIRED, gateways) == gone


@pytest.mark.parametrize(
    ("text", "version"),
    [("1.1.1.1", 4), ("1.1.1.1#cloudflare-dns.com", 4), ("1.1.1.1:53", 4), ("fe80::1", 6), ("fe80::1%eth0", 6),
     ("[2606:4700::1111]:853#one.one", 6), ("2001:db8::5/64", 6), ("_dhcp4", 0), ("", 0)],
)  # fmt: skip
def test_the_family_of_what_configuration_files_call_an_address(text, version):
    assert family(text) == version


def _interfaces(tmp_path, files):
    for name, text in files.items():
        path = tmp_path / "etc/network" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return ifupdown.stanza(Board(str(tmp_path)), "eth0")


@pytest.mark.parametrize(
    ("files", "found"),
    [
        ({"interfaces": "auto lo eth0\niface eth0 inet dhcp\n"}, ("/etc/network/interfaces", True)),
        ({"interfaces": "source /etc/network/interfaces.d/*\n",
          "interfaces.d/x": "allow-hotplug eth0\niface eth0 inet static\n"},
         ("/etc/network/interfaces.d/x", True)),
        ({"interfaces": "source-directory interfaces.d\n", "interfaces.d/eth0": "auto eth0\niface eth0 inet dhcp\n",
          "interfaces.d/eth0.save": "auto eth0\niface eth0 inet static\n"}, ("/etc/network/interfaces.d/eth0", True)),
        ({"interfaces": "iface eth0 inet manual\nauto eth0\n"}, ("", True)),  # as Raspberry Pi OS has it
        ({"interfaces": "# auto eth0\n# iface eth0 inet dhcp\niface eth01 inet dhcp\n"}, ("", False)),
        ({"interfaces": "iface eth0 inet6 auto\n"}, ("", False)),
        ({"interfaces": "auto \\\n  eth0\niface eth0 inet \\\n dhcp\nsource /etc/network/interfaces\n"},
         ("/etc/network/interfaces", True)),
        ({}, ("", False)),
    ],
)  # fmt: skip
def test_what_ifupdown_configures(tmp_path, files, found):
    assert _interfaces(tmp_path, files) == found


@pytest.mark.parametrize(
    ("others", "name"),
    [({}, "99-rpiomega-network.cfg"), ({"99_net.cfg": "network: {version: 2}\n"}, "99_rpiomega-network.cfg"),
     ({"99z.cfg": "users: []\n"}, "99-rpiomega-network.cfg"),
     ({"99z.cfg": "network:\n  version: 2\n"}, "zz-rpiomega-network.cfg")],
)  # fmt: skip
def test_cloud_init_reads_ours_last(tmp_path, others, name):
    for other, text in others.items():
        path = tmp_path / network.CLOUD.lstrip("/") / other
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    assert network.cloud_file(Board(str(tmp_path))) == f"{network.CLOUD}/{name}"


CONF = """hostname
persistent
interface eth0
static ip_address=192.168.1.77/24
static routers=192.168.1.254
static domain_name_servers=192.168.1.3 2001:db8::53
static ip6_address=2001:db8::5/64
static domain_search=home.arpa
metric 50
nohook resolv.conf
fallback static_eth0

interface wlan0
static routers=10.0.0.1
nogateway

profile static_eth0
static ip_address=192.168.1.99/24
"""


def test_dhcpcd_keeps_all_but_the_lines_that_would_stay_beside_ours():
    """The first `static routers=` counts and name servers are joined, so the owner's must not stay in force."""
    new = dhcpcd.takeover(CONF, WIRED)
    off = [line for line in CONF.splitlines() if line not in new.splitlines()]
    assert off == CONF.splitlines()[3:6] and all(f"#rpiomega: {line}" in new for line in off)
    assert "static domain_name_servers=192.168.1.1 2001:db8::53\n" in new
    assert dhcpcd.takeover(new, WIRED) == new
    again = dhcpcd.takeover(new, Wanted("eth0", "192.168.1.20", 24, "192.168.1.1", ("9.9.9.9",)))
    assert "static domain_name_servers=9.9.9.9 2001:db8::53\n" in again and "ip_address=192.168.1.10/" not in again


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("interface eth0\ninform 192.168.1.5\n", r"dhcpcd.conf line 2: `inform 192.168.1.5` \(interface eth0\)"),
        ("nogateway\n", "line 1: `nogateway` does not go with"),
        ("denyinterfaces wlan0 eth0\n", "`denyinterfaces wlan0 eth0` does not go with"),
        ("interface eth0\narping 192.168.1.1\n", "`arping 192.168.1.1`"),
        ("static domain_name_servers=8.8.8.8\n", "line 1: `static domain_name_servers=8.8.8.8` is for more than eth0"),
        ("interface eth0\nstatic classless_static_routes=0.0.0.0/0 192.168.1.2\n", "`static classless_static_routes"),
    ],
)
def test_what_dhcpcd_cannot_keep_is_named(text, why):
    with pytest.raises(StepError, match=why):
        dhcpcd.takeover(text, WIRED)


@pytest.mark.parametrize("text", ["denyinterfaces wlan0\n", "interface wlan0\nnogateway\n", "#nogateway\n; inform\n"])
def test_what_dhcpcd_has_for_others_is_none_of_ours(text):
    assert dhcpcd.takeover(text, WIRED).startswith(text)


def test_a_lease_beside_the_static_address_names_the_client():
    with subprocess.Popen(["dhclient", "-c", "read x", "eth7"], executable="/bin/sh", stdin=subprocess.PIPE) as client:
        found = links.dhcp_clients("eth7")
        error = network.beside("eth7", [links.Address("192.168.1.57", 24, True)])
        client.stdin.close()
    # Clients in the virtual Pis of another suite are processes of this machine, too.
    assert f"dhclient (PID {client.pid})" in found
    said = str(error)
    assert "eth7 has 192.168.1.57/24 (DHCP) beside the static address, from " in said
    assert f"dhclient (PID {client.pid})" in said


# A NetworkManager that is asked for its state, and a radio that comes up after the second question.
NMCLI = """#!/bin/sh
case "$*" in
    "radio wifi") cat {0}/wifi ;;
    "-g WIFI-HW radio") echo {1} ;;
    *) echo x >> {0}/asked; [ $(wc -l < {0}/asked) -gt 2 ] && echo "{2}" || echo "20 (unavailable)" ;;
esac
"""


def _nmcli(tmp_path, radio, hardware, state):
    (tmp_path / "wifi").write_text(radio)
    program = tmp_path / "nmcli"
    program.write_text(NMCLI.format(tmp_path, hardware, state))
    program.chmod(0o755)
    return str(program)


def test_the_radio_is_waited_for_until_networkmanager_can_use_it(tmp_path):
    assert guard.radio("wlan0", _nmcli(tmp_path, "enabled", "enabled", "30 (disconnected)"), 5) == 0


def test_a_radio_that_stays_off_is_named(tmp_path, capsys):
    assert guard.radio("wlan0", _nmcli(tmp_path, "disabled", "disabled", "20 (unavailable)"), 1) == 1
    assert capsys.readouterr().out == (
        "Wi-Fi stays off: `nmcli radio wifi` is disabled, hardware disabled, wlan0 is 20 (unavailable)\n"
    )


class Tools(Board):
    """A board with some commands, whose NetworkManager answers."""

    def __init__(self, root, *commands):
        super().__init__(root)
        self.commands = commands
        self.shell.run = lambda *words, **options: type("Result", (), {"code": 0, "output": ""})

    def has(self, command):
        return command in self.commands


def test_the_radio_is_switched_on_in_networkmanager_too(tmp_path):
    wanted = Wanted("wlan0", "192.168.1.10", 24, "192.168.1.1", (), True, Wifi("home", "ab" * 32, "GB"))
    found = [" ".join(argv) for argv in wifi.country_commands(Tools(str(tmp_path), "raspi-config", "nmcli"), wanted)]
    assert found == [
        "-raspi-config nonint do_wifi_country GB",
        "nmcli radio wifi on",
        "/usr/bin/python3 /var/lib/rpiomega/network/guard.py radio wlan0",
    ]
    assert wifi.country_commands(Tools(str(tmp_path), "raspi-config", "nmcli"), WIRED) == []


def test_a_failure_that_does_not_count(tmp_path):
    assert guard.run([["-sh", "-c", "exit 1"], ["-no-such-command"], ["touch", f"{tmp_path}/after"]], True) == ""
    assert (tmp_path / "after").exists()
    assert guard.run([["sh", "-c", "echo no; exit 1"]], True) == "sh -c echo no; exit 1: no"


def test_the_way_back_keeps_a_symbolic_link(tmp_path):
    (tmp_path / "real").write_text("new\n")
    (tmp_path / "link").symlink_to("real")
    mine = {"uid": os.getuid(), "gid": os.getgid(), "mode": 0o640}
    guard.restore({"files": [{"path": str(tmp_path / "link"), "text": "old\n", **mine}]})
    assert (tmp_path / "link").is_symlink() and (tmp_path / "real").read_text() == "old\n"
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o640


def test_copies_of_profiles_go_where_networkmanager_does_not_look(tmp_path):
    board = Board(str(tmp_path))
    profile = tmp_path / "etc/NetworkManager/system-connections/x"
    profile.parent.mkdir(parents=True)
    profile.write_text("[wifi-security]\npsk=secret\n")
    (copy,) = concealed.kept(board, "/etc/NetworkManager/system-connections/x", concealed.PROFILES)
    assert copy.path == "/var/lib/rpiomega/network/profiles/x.before-rpiomega"
    assert "secret" not in json.dumps(copy.diff(board).lines)
    copy.apply(board)
    assert stat.S_IMODE((tmp_path / copy.path.lstrip("/")).stat().st_mode) == 0o600
    assert concealed.kept(board, "/etc/NetworkManager/system-connections/x", concealed.PROFILES) == []


@pytest.mark.parametrize(
    ("before", "settled", "restarts"),
    [(["192.168.1.9"], True, True), (["192.168.1.10"], True, False), (["192.168.1.9"], False, False)],
)
def test_a_minion_that_gets_another_address_is_restarted_by_the_bootstrap(tmp_path, before, settled, restarts):
    board = Board(str(tmp_path))
    if settled:
        (tmp_path / minion.CONF[1:]).parent.mkdir(parents=True)
        (tmp_path / minion.CONF[1:]).touch()
    step = network.Network(board, job_steps.Network(WIRED.address, 24))
    step.wanted, step.data["before"] = WIRED, before
    step._reconnect_minion()
    assert (tmp_path / service.PENDING.format(minion.UNIT)[1:]).exists() == restarts
