"""NetworkManager's profile and networkd's file: made from what is in force, all of which stays but the address."""

import os
import shutil
import subprocess

import pytest

from rpiomega.node.board import Board
from rpiomega.node.network import concealed, ini, keyfile, network_file, networkd, nm_config, supplicant
from rpiomega.node.network.stack import Wanted, Wifi
from rpiomega.node.step import StepError

WIRED = Wanted("eth0", "192.168.1.10", 24, "192.168.1.1", ("192.168.1.1", "9.9.9.9"))
WIRELESS = Wanted("wlan0", "192.168.1.10", 24, "192.168.1.1", ("192.168.1.1",), True)
UUID = "6a5e1a4e-3a1c-4b57-9d5f-0f2b8c3c7d11"
PROFILE = """# mine
[connection]
id=office
uuid=0b2bfc40-0000-4000-8000-000000000001
type=802-3-ethernet
autoconnect-priority=5
autoconnect=false
zone=home
metered=2
timestamp=1700000000

[802-3-ethernet]
mtu=9000
cloned-mac-address=stable
wake-on-lan=64

[802-1x]
eap=peap;
identity=pi
password=secret
phase2-auth=mschapv2

[ipv4]
method=manual
addresses1=192.168.1.77;24;192.168.1.254;
address2=10.9.0.1/16
dns=192.168.1.3;
dns-search=home.arpa;
route1=10.0.0.0/8,10.9.0.2,5
route2=0.0.0.0/0,10.9.0.3
route2_options=table=100
routing-rule1=priority 5 from 10.9.0.0/16 table 100
route-metric=50

[ipv6]
method=manual
address1=2001:db8::5/64,fe80::1
dns=2001:db8::53;

[proxy]
"""


def _offline(text):
    """Return a profile as NetworkManager's own parser reads and writes it."""
    done = subprocess.run(
        ["nmcli", "--offline", "connection", "modify", "connection.autoconnect", "yes"],
        input=text, capture_output=True, text=True, check=True, env={**os.environ, "LC_ALL": "C"},
    )  # fmt: skip
    return done.stdout


def _pairs(text):
    return {(keyfile.ALIASES.get(section.name, section.name), key, value)
            for section in ini.parse(text) for key, value, _ in section.items if key}  # fmt: skip


def test_all_of_a_profile_but_its_address_is_carried_over():
    new = keyfile.takeover(PROFILE, "office.nmconnection", WIRED, "rpiomega-eth0", UUID)
    lost = sorted((name, key) for name, key, _ in _pairs(PROFILE) - _pairs(new))
    assert lost == [
        ("connection", "autoconnect"), ("connection", "autoconnect-priority"), ("connection", "id"),
        ("connection", "timestamp"), ("connection", "uuid"), ("ipv4", "addresses1"), ("ipv4", "dns"),
    ]  # fmt: skip
    assert {("ipv4", "address1", "192.168.1.10/24,192.168.1.1"), ("ipv4", "address2", "10.9.0.1/16"),
            ("ipv4", "dns", "192.168.1.1;9.9.9.9;"),
            ("connection", "interface-name", "eth0")} < _pairs(new)  # fmt: skip
    assert keyfile.takeover(new, "own", WIRED, "rpiomega-eth0", UUID) == new


@pytest.mark.skipif(
    not shutil.which("nmcli"), reason="nmcli is not installed: it would take over this machine's network"
)
def test_networkmanager_reads_the_same_out_of_it():
    new = keyfile.takeover(PROFILE, "office.nmconnection", WIRED, "rpiomega-eth0", UUID)
    assert {("802-1x", "identity", "pi"), ("ipv4", "route1", "10.0.0.0/8,10.9.0.2,5"), ("ethernet", "mtu", "9000"),
            ("ipv4", "dns-search", "home.arpa;"), ("ipv4", "method", "manual")} < _pairs(_offline(new))  # fmt: skip


BASES = {
    "none": "",
    "a comment": "# mine\n",
    "spaces": "\n\n  # mine  \n\n",
    "ours of before": "# Written by rpiomega from the site file.\n",
}


@pytest.mark.parametrize("head", BASES)
@pytest.mark.parametrize("tail", ["", "\n\n\n", "\n[ipv6]\nmethod=auto", "\n[ipv4]\n# twice\ndns-search=a;\n\n\n"])
def test_a_profile_made_of_ours_is_ours(head, tail):
    base = BASES[head] + "[connection]\ntype=ethernet\nid=Wired connection 1\n\n[ipv4]\nmethod=auto" + tail
    once = keyfile.takeover(base, "p", WIRED, "rpiomega-eth0", UUID)
    assert keyfile.takeover(once, "p", WIRED, "rpiomega-eth0", UUID) == once


@pytest.mark.parametrize("head", BASES)
@pytest.mark.parametrize("tail", ["", "\n\n", "\n[Network]\n# twice\nDomains=a\n\n", "\n[Route]\nGateway=192.168.1.9"])
def test_a_network_file_made_of_ours_is_ours(head, tail):
    once = network_file.takeover(BASES[head] + "[Network]\nDHCP=yes\n\n[Match]\nName=e*" + tail, "p", WIRED)
    assert network_file.takeover(once, "p", WIRED) == once


REFUSED = {
    "type=bridge": (("type=802-3-ethernet", "type=bridge"), "has type=bridge"),
    "type=vlan": (("type=802-3-ethernet", "type=vlan"), "has type=vlan"),
    "a port": (("zone=home", "controller=br0\nport-type=bridge"), r"eth0 is a port of br0 \(p: controller\)"),
    "an old port": (("zone=home", "master=bond0\nslave-type=bond"), r"eth0 is a port of bond0 \(p: master\)"),
    "shared": (("method=manual\naddresses", "method=shared\naddresses"), r"p: \[ipv4\] method=shared would be lost"),
    "never": (("route-metric=50", "never-default=true"), "never-default=true keeps the default route off eth0"),
    "table": (("route-metric=50", "route-table=100"), "route-table=100 puts the default route elsewhere"),
    "second": (("route2_options=table=100\n", ""), "route2=0.0.0.0/0,10.9.0.3 is a second default route"),
    "session": (("zone=home", "permissions=user:pi:;"), "permissions=user:pi:; ties the profile to a user's session"),
    "rule": (("from 10.9.0.0/16", "from 192.168.1.77"), "routing-rule1=.* names the address that is replaced"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_profile_cannot_keep_is_named(name):
    (old, new), why = REFUSED[name]
    assert old in PROFILE
    with pytest.raises(StepError, match=why):
        keyfile.takeover(PROFILE.replace(old, new), "p", WIRED, "rpiomega-eth0", UUID)


WIFI = "[connection]\nid=home\ntype=wifi\n\n[wifi]\nssid=home\nband=a\npowersave=2\n\n[wifi-security]\n" \
       "key-mgmt=wpa-psk\npsk=correct horse\npmf=2\n\n[ipv4]\nmethod=auto\n"  # fmt: skip


def test_the_wifi_of_a_profile_stays_and_only_the_key_is_replaced():
    wanted = Wanted("wlan0", "192.168.1.10", 24, "192.168.1.1", ("192.168.1.1",), True, Wifi("home", "ab" * 32, "GB"))
    new = _pairs(keyfile.takeover(WIFI, "p", wanted, "rpiomega-wlan0", UUID))
    assert {("wifi", "band", "a"), ("wifi-security", "pmf", "2"), ("wifi-security", "psk", "ab" * 32)} < new
    with pytest.raises(StepError, match="p: key-mgmt=sae of home would be lost"):
        keyfile.takeover(WIFI.replace("wpa-psk", "sae"), "p", wanted, "rpiomega-wlan0", UUID)
    assert ("wifi-security", "psk", "correct horse") in _pairs(keyfile.takeover(WIFI, "p", WIRELESS, "x", UUID))


@pytest.mark.parametrize("written", ["ssid=home", "ssid=104;111;109;101;", "ssid = home "])
def test_an_ssid_is_read_in_both_forms(written):
    assert keyfile.ssid(keyfile.sections(f"[802-11-wireless]\n{written}\n")) == b"home"


@pytest.mark.parametrize(
    ("spec", "hit"),
    [
        ("interface-name:eth0", True), ("interface-name:eth*;interface-name:wlan0", True),
        ("interface-name:=eth*", False),
        ("*,except:type:wifi", True), ("*,except:interface-name:eth0", False), ("type:wifi", False),
        ("mac:dc:a6:32:00:00:01", True), ("except:interface-name:eth0", False), ("except:interface-name:wlan0", True),
        ("interface-name:veth*;interface-name:docker0", False), ("driver:r8152", False), ("", True),
    ],
)  # fmt: skip
def test_devices_that_networkmanager_leaves_alone(spec, hit):
    if spec:
        assert nm_config.matches(spec, "eth0", "dc:a6:32:00:00:01", False) == hit


def test_profiles_that_could_be_taken_instead(tmp_path):
    board, folder = Board(str(tmp_path)), tmp_path / "etc/NetworkManager/system-connections"
    folder.mkdir(parents=True)
    own = "/etc/NetworkManager/system-connections/rpiomega-eth0.nmconnection"
    copy = keyfile.takeover(PROFILE, "p", WIRED, "rpiomega-eth0", UUID)
    for name in (
        "rpiomega-eth0.nmconnection",
        "rpiomega-eth0 (copy)",
        ".rpiomega-eth0.swp",
        "rpiomega-eth0~",
        "rpiomega-eth0.bak",
    ):
        (folder / name).write_text(copy)
    found = nm_config.profiles(board)
    where = "/etc/NetworkManager/system-connections"
    copies = [f"{where}/rpiomega-eth0 (copy)", f"{where}/rpiomega-eth0.bak"]
    assert nm_config.same(found, UUID, own) == copies
    nm_config.refuse_equal(found, "eth0", UUID)
    (folder / "strong").write_text("[connection]\nid=strong\ntype=ethernet\nautoconnect-priority=999\n")
    with pytest.raises(StepError, match="system-connections/strong has autoconnect-priority=999"):
        nm_config.refuse_equal(nm_config.profiles(board), "eth0", UUID)


NETWORK = """[Match]
Name=e*
MACAddress=dc:a6:32:00:00:01

[Link]
MTUBytes=1400
RequiredForOnline=no

[Network]
# the trunk
VLAN=lan.20
VLAN=lan.30
DHCP=yes
IPv6AcceptRA=no
Address=192.168.1.77/24
Address=2001:db8::5/64
Address=10.9.0.1/16
DNS=192.168.1.3 2001:db8::53
Domains=home.arpa \\
   ~lan
Gateway=fe80::1

[Address]
Address=192.168.1.78/24
Label=eth0:1

[DHCPv4]
UseDNS=false

[Route]
Gateway=192.168.1.254
Metric=50
GatewayOnLink=yes

[Route]
Destination=10.0.0.0/8
Gateway=192.168.1.5

[Route]
Gateway=192.168.1.5
Table=100

[RoutingPolicyRule]
From=10.9.0.0/16
Table=100
"""


def test_all_of_a_network_file_but_its_address_is_carried_over():
    new = network_file.takeover(NETWORK, "20-wired.network", WIRED)
    before, after = _pairs(NETWORK.replace("\\\n", "")), _pairs(new.replace("\\\n", ""))
    assert sorted(before - after) == [
        ("Address", "Address", "192.168.1.78/24"), ("Address", "Label", "eth0:1"), ("Match", "Name", "e*"),
        ("Network", "Address", "192.168.1.77/24"), ("Network", "DHCP", "yes"),
        ("Network", "DNS", "192.168.1.3 2001:db8::53"), ("Route", "Gateway", "192.168.1.254"),
    ]  # fmt: skip
    assert sorted(after - before) == [
        ("Match", "Name", "eth0"), ("Network", "Address", "192.168.1.10/24"), ("Network", "DHCP", "ipv6"),
        ("Network", "DNS", "192.168.1.1"), ("Network", "DNS", "2001:db8::53"), ("Network", "DNS", "9.9.9.9"),
        ("Route", "Gateway", "192.168.1.1"),
    ]  # fmt: skip
    assert "[Route]\nMetric=50\nGatewayOnLink=yes\nGateway=192.168.1.1" in new and "# the trunk" in new
    assert network_file.takeover(new, "own", WIRED) == new


def test_a_network_file_from_nothing_and_the_metric_of_a_lease():
    assert network_file.takeover("", "", WIRED).splitlines()[1:] == [
        "", "[Match]", "Name=eth0", "", "[Network]", "Address=192.168.1.10/24", "Gateway=192.168.1.1",
        "DNS=192.168.1.1", "DNS=9.9.9.9",
    ]  # fmt: skip
    base = "[Match]\nName=!wlan*\n[Network]\nDHCP=ipv4\n[DHCPv4]\nRouteMetric=700\n"
    new = network_file.takeover(base, "p", WIRED)
    assert "DHCP=" not in new and "[Route]\nMetric=700\nGateway=192.168.1.1\n" in new
    again = network_file.takeover(new, "p", Wanted("eth0", "192.168.1.20", 24, "192.168.1.2", ("9.9.9.9",)))
    assert "Metric=700\nGateway=192.168.1.2" in again and "192.168.1.1" not in again


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[Network]\nBridge=br0\n", "p: Bridge=br0 makes eth0 a port of it"),
        ("[Network]\nBond=bond0\n", "p: Bond=bond0 makes eth0 a port of it"),
        ("[Network]\nDHCP=yes\n[DHCP]\nUseRoutes=no\n", r"p: \[DHCP\] UseRoutes= keeps the default route off eth0"),
        ("[Network]\nDHCP=yes\n[DHCPv4]\nUseGateway=false\n", "UseGateway= keeps the default route off"),
        ("[Route]\nGateway=192.168.1.1\n[Route]\nGateway=192.168.1.2\nMetric=5\n", "p has 2 default routes for IPv4"),
        ("[Route]\nGateway=192.168.1.1\nMultiPathRoute=192.168.1.2\n", "p: MultiPathRoute= of the default route"),
        ("[Route]\nDestination=10.0.0.0/8\nGateway=_dhcp4\n", "Gateway=_dhcp4 has no gateway without a lease"),
        ("[Network]\nAddress=192.168.1.7/24\n[RoutingPolicyRule]\nFrom=192.168.1.7\n", "From=192.168.1.7 names"),
    ],
)
def test_what_a_network_file_cannot_keep_is_named(text, why):
    with pytest.raises(StepError, match=why):
        network_file.takeover(text, "p", WIRED)


class Wired(networkd.Networkd):
    """networkd's stack, with its answer to "which file is in force"."""

    file = "/etc/systemd/network/20-wired.network"


@pytest.fixture
def stack(tmp_path, monkeypatch):
    folder = tmp_path / "etc/systemd/network"
    folder.mkdir(parents=True)
    (tmp_path / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    found = Wired(Board(str(tmp_path)), "eth0")
    monkeypatch.setattr(networkd, "status", lambda board, interface: ("configured", found.file))
    (folder / "20-wired.network").write_text("[Match]\nName=e*\n[Network]\nDHCP=ipv4\n")

    def write(path, text):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)

    return found, write


def test_drop_ins_of_the_file_in_force_come_along_and_the_first_folder_counts(stack):
    found, write = stack
    write("etc/systemd/network/20-wired.network.d/10-vlan.conf", "[Network]\nVLAN=lan.20\n")
    write("run/systemd/network/20-wired.network.d/10-vlan.conf", "[Network]\nVLAN=lan.99\n")
    write("usr/lib/systemd/network/20-wired.network.d/20-mtu.conf", "[Link]\nMTUBytes=1400\n")
    (text,) = [file.text for file in found.files(WIRED)]
    assert "VLAN=lan.20" in text and "MTUBytes=1400" in text and "lan.99" not in text and "DHCP=" not in text


@pytest.mark.parametrize(
    ("other", "name"),
    [("", "10-"), ("etc/systemd/network/10-all.network", "05-"), ("run/systemd/network/00-boot.network", "0-"),
     ("usr/lib/systemd/network/80-vendor.network", "10-"), ("etc/systemd/network/05-a.network", "00-")],
)  # fmt: skip
def test_our_file_sorts_before_each_other_one(stack, other, name):
    found, write = stack
    if other:
        write(other, "[Match]\nName=eth0\n[Network]\nDHCP=yes\n")
    (file,) = found.files(WIRED)
    assert file.path == f"/etc/systemd/network/{name}rpiomega-eth0.network"


def test_an_owners_file_that_comes_first_later_moves_ours(stack):
    found, write = stack
    found.files(WIRED)[0].apply(found.board)
    found.file = "/etc/systemd/network/10-rpiomega-eth0.network"
    assert not [file for file in found.files(WIRED) if file.diff(found.board)]
    write("etc/systemd/network/10-all.network", "[Match]\nName=e*\n[Network]\nDHCP=yes\n")
    gone, new = found.files(WIRED)
    assert (gone.path, gone.text) == ("/etc/systemd/network/10-rpiomega-eth0.network", None)
    assert new.path == "/etc/systemd/network/05-rpiomega-eth0.network"


def test_a_drop_in_of_our_own_file_that_changes_the_address_is_named(stack):
    found, write = stack
    found.files(WIRED)[0].apply(found.board)
    found.file = "/etc/systemd/network/10-rpiomega-eth0.network"
    write("etc/systemd/network/10-rpiomega-eth0.network.d/mtu.conf", "[Link]\nMTUBytes=1400\n")
    assert not [file for file in found.files(WIRED) if file.diff(found.board)]
    write("etc/systemd/network/10-rpiomega-eth0.network.d/x.conf", "[Network]\nDHCP=yes\n")
    with pytest.raises(
        StepError, match=r"10-rpiomega-eth0.network.d/x.conf changes rpiomega's own file: \[Network\] DHCP"
    ):
        found.files(WIRED)


def test_resolv_conf_keeps_all_but_ipv4_name_servers(tmp_path, monkeypatch):
    board = Board(str(tmp_path))
    (tmp_path / "etc").mkdir()
    conf = tmp_path / "etc/resolv.conf"
    conf.write_text("search home.arpa\nnameserver 192.168.1.3\nnameserver 2001:db8::53\noptions timeout:1\n")
    monkeypatch.setattr(board.shell, "run", lambda *words, **options: type("Result", (), {"code": 3, "output": ""}))
    for file in networkd.resolver(board, ("9.9.9.9",)):
        file.apply(board)
    assert conf.read_text().splitlines()[1:] == [
        "search home.arpa", "nameserver 2001:db8::53", "options timeout:1", "nameserver 9.9.9.9",
    ]  # fmt: skip
    assert "192.168.1.3" in (tmp_path / "etc/resolv.conf.before-rpiomega").read_text()
    assert networkd.resolver(board, ("9.9.9.9",)) == []


def test_a_radio_that_is_no_client_keeps_its_profile():
    access_point = WIFI.replace("ssid=home", "ssid=home\nmode=ap").replace("method=auto", "method=manual")
    with pytest.raises(StepError, match="has mode=ap: it is no client"):
        keyfile.takeover(access_point, "p", WIRELESS, "rpiomega-wlan0", UUID)
    assert keyfile.takeover(WIFI.replace("ssid=home", "ssid=home\nmode=infrastructure"), "p", WIRELESS, "x", UUID)


KEPT_OFF = {
    "another table": ("[Network]\nDHCP=ipv4\n\n[DHCPv4]\nRouteTable=100\n", r"\[DHCPv4\] RouteTable=100 keeps"),
    "its DHCP server": ("[Network]\nAddress=192.168.1.77/24\nDHCPServer=yes\n\n[DHCPServer]\n"
                        "ServerAddress=192.168.1.77/24\n", "ServerAddress=192.168.1.77/24 names the address"),
}  # fmt: skip


@pytest.mark.parametrize("name", KEPT_OFF)
def test_what_a_network_file_says_of_the_address_that_goes_is_named(name):
    base, why = KEPT_OFF[name]
    with pytest.raises(StepError, match=why):
        network_file.takeover(base, "p", WIRED)


def test_a_name_server_that_a_drop_in_cleared_does_not_come_back():
    base = "[Network]\nDHCP=ipv4\nDNS=2001:db8::1\n\n[Network]\nDNS=\nDNS=2001:db8::2 1.1.1.1\n"
    new = network_file.takeover(base, "p", WIRED)
    assert "2001:db8::1" not in new and "DNS=2001:db8::2" in new


def test_a_network_with_remarks_in_wpa_supplicants_file_is_one():
    text = 'network={ # at home\n\tssid="home"\n\tpsk="old secret"\n} # end\n'
    new = supplicant.edit(text, "p", Wifi("home", "ab" * 32, ""))
    assert new.count("network={") == 1 and "old secret" not in new and f"psk={'ab' * 32}" in new


@pytest.mark.parametrize("line", ["key: SECRET", "keys: {private: SECRET}", "shared: SECRET", "preshared-key=SECRET",
                                  "private: 'SECRET'", "wireguard-private-key: SECRET"])  # fmt: skip
def test_keys_of_tunnels_are_in_no_diff(line):
    assert "SECRET" not in concealed.redact(f"      mtu: 1400\n        {line}\n")
    assert concealed.redact("key-management: psk\nkey-mgmt=wpa-psk\n") == "key-management: psk\nkey-mgmt=wpa-psk\n"
