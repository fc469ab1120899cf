"""What becomes of the owner's netplan definitions, judged by netplan's own generator."""

import shutil

import pytest

from rpiomega.node.board import Board
from rpiomega.node.network import netplan, netplan_check, netplan_edit, networkd
from rpiomega.node.network.stack import Wanted, Wifi
from rpiomega.node.step import StepError

pytestmark = pytest.mark.skipif(not shutil.which("netplan"), reason="netplan.io is not installed")
WIRED = Wanted("eth0", "192.168.1.10", 24, "192.168.1.1", ("192.168.1.1",))
PSK = netplan_edit.derived("correct horse", "home")
WIRELESS = Wanted("wlan0", "192.168.1.10", 24, "192.168.1.1", ("192.168.1.1",), True, Wifi("home", PSK, "GB"))


class Tree:
    """A board's files, with netplan in front of networkd for one interface."""

    def __init__(self, folder, wanted, generated=""):
        self.board, self.wanted, self.folder = Board(str(folder)), wanted, folder
        self.generated = generated or wanted.interface
        (folder / "etc").mkdir()
        (folder / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")

    def write(self, name, text, folder="etc/netplan"):
        path = self.folder / folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(0o600)

    def files(self, wanted=None):
        stack = netplan.Netplan(self.board, self.wanted.interface)
        stack._generated = lambda: self.generated
        stack._renderer = lambda: networkd.Networkd(self.board, self.wanted.interface)
        return [file for file in stack.files(wanted or self.wanted) if file.diff(self.board)]

    def apply(self, wanted=None):
        changed = self.files(wanted)
        for file in changed:
            file.apply(self.board)
        assert not self.files(wanted), "a second run changes something"
        return [file.path for file in changed]

    def read(self, name):
        return (self.folder / "etc/netplan" / name).read_text()

    def network(self, definition=""):
        made = netplan_check.generate(netplan_check.definitions(self.board), "refused", "")
        return made[f"/run/systemd/network/10-netplan-{definition or self.generated}.network"]

    def supplicant(self):
        return netplan_check.generate(netplan_check.definitions(self.board), "", "")["/run/netplan/wpa-wlan0.conf"]


@pytest.fixture
def tree(tmp_path):
    return Tree(tmp_path, WIRED)


@pytest.fixture
def radio(tmp_path):
    return Tree(tmp_path, WIRELESS)


def definition(name, *lines, kind="ethernets", renderer=""):
    body = "".join(f"      {line}\n" for line in lines)
    return f"network:\n  version: 2\n{renderer}  {kind}:\n    {name}:\n{body}"


def lines(network):
    return [line for line in network.splitlines() if line]


def test_what_first_boot_writes_with_wifi_is_accepted_and_left_alone(radio, tmp_path):
    """cloud-init writes network-config to 50-cloud-init.yaml; both generators want its access points to stay."""
    from rpiomega.firstboot import cloudinit
    from rpiomega.firstboot.plan import Plan

    plan = Plan("pi", "pi", [], "wlan0", wifi=Wifi("home", PSK, "GB"))
    radio.write("50-cloud-init.yaml", cloudinit._yaml({"network": cloudinit._network(plan)}))
    before = radio.read("50-cloud-init.yaml")
    assert radio.apply() == ["/etc/netplan/99-rpiomega.yaml"]
    assert radio.read("50-cloud-init.yaml") == before
    assert "Address=192.168.1.10/24" in lines(radio.network()) and "DHCP=ipv4" not in radio.network()
    assert radio.supplicant().count("network={") == 1


def test_a_card_written_for_a_static_address_keeps_its_access_point(radio):
    from rpiomega.firstboot import cloudinit
    from rpiomega.firstboot.plan import Plan

    wifi = Wifi("home", PSK, "GB")
    plan = Plan("pi", "pi", [], "wlan0", "192.168.1.10", 24, "192.168.1.1", ["192.168.1.1"], wifi)
    radio.write("50-cloud-init.yaml", cloudinit._yaml({"network": cloudinit._network(plan)}))
    before = radio.network()
    radio.apply()
    assert sorted(lines(radio.network())) == sorted(lines(before))
    assert radio.supplicant().count("network={") == 1 and PSK in radio.supplicant()


def test_a_key_of_the_wifi_is_changed_where_the_owner_has_it(radio):
    points = ['access-points: {"home": {hidden: true, auth: {key-management: psk, password: "old secret"}}}']
    radio.write("50-cloud-init.yaml", definition("wlan0", "dhcp4: true", *points, kind="wifis"))
    assert "/etc/netplan/50-cloud-init.yaml.before-rpiomega" in radio.apply()
    made = radio.supplicant()
    assert PSK in made and "old secret" not in made and "scan_ssid=1" in made and made.count("network={") == 1


@pytest.mark.parametrize("name", ["99-wifi.yaml", "99_config.yaml", "99z.yaml", "zz.yaml"])
def test_an_owners_wifi_file_that_sorts_after_ours(radio, name):
    radio.write(
        name, definition("wlan0", "dhcp4: true", "access-points: {home: {password: correct horse}}", kind="wifis")
    )
    radio.apply()
    assert "Address=192.168.1.10/24" in lines(radio.network()) and "DHCP=" not in radio.network()


def test_another_network_of_the_owner_stays_beside_ours(radio):
    radio.write("50.yaml", definition("wlan0", "access-points: {garden: {password: correct horse}}", kind="wifis"))
    radio.apply()
    assert radio.supplicant().count("network={") == 2


def test_wifi_settings_stay_where_the_site_file_has_none(tmp_path):
    radio = Tree(tmp_path, Wanted("wlan0", "192.168.1.10", 24, "192.168.1.1", ("192.168.1.1",), True))
    points = "access-points: {home: {auth: {key-management: eap, method: peap, identity: me, password: x}}}"
    radio.write("50.yaml", definition("wlan0", "dhcp4: true", points, kind="wifis"))
    assert radio.apply() == ["/etc/netplan/99-rpiomega.yaml"]
    assert "identity=" in radio.supplicant()


def test_an_access_point_with_a_certificate_is_refused_before_it_is_lost(radio):
    points = "access-points: {home: {auth: {key-management: eap, method: peap, identity: me, password: x}}}"
    radio.write("50.yaml", definition("wlan0", points, kind="wifis"))
    with pytest.raises(StepError, match="50.yaml: access point home has `key-management: eap`"):
        radio.files()


@pytest.mark.parametrize("name", ["99_config.yaml", "99-z.yaml", "99_rpiomega-old.yaml", "z.yaml"])
def test_an_owners_file_that_sorts_last_does_not_win(tree, name):
    tree.write("99-rpiomega.yaml", definition("eth0", "dhcp4: false", 'addresses: ["192.168.1.9/24"]'))
    tree.write(name, definition("eth0", "dhcp4: true"))
    changed = tree.apply()
    assert len(changed) == 2 and "/etc/netplan/99-rpiomega.yaml" in changed
    assert not (tree.folder / "etc/netplan/99-rpiomega.yaml").exists()
    assert "DHCP=" not in tree.network()
    assert [line for line in lines(tree.network()) if line.startswith("Address=")] == ["Address=192.168.1.10/24"]


def test_a_name_that_cannot_be_outdone_is_named(tree):
    tree.write("zzzzz.yaml", definition("eth0", "dhcp4: true"))
    with pytest.raises(StepError, match=r"no file can be sorted after zzzzz\.yaml"):
        tree.files()


OWNER = (
    'addresses: [192.168.1.77/24, "10.9.0.1/16", "2001:db8::5/64"]',
    "nameservers: {addresses: [192.168.1.3, 2001:db8::53], search: [home.arpa]}",
    "routes:",
    "- {to: default, via: 192.168.1.254, metric: 50, on-link: true}",
    '- {to: default, via: "fe80::1", on-link: true}',
    "- {to: default, via: 192.168.1.5, table: 100}",
    "- {to: 10.0.0.0/8, via: 192.168.1.5}",
    "routing-policy: [{from: 10.9.0.0/16, table: 100}]",
    "mtu: 1400",
    "wakeonlan: true",
    "optional: true",
    "link-local: [ipv6]",
    "accept-ra: false",
    "dhcp6: true",
    "dhcp6-overrides: {use-dns: false}",
    "ipv6-privacy: true",
)


def test_nothing_of_the_owners_is_lost(tree):
    tree.write("50-mine.yaml", "# my own words\n" + definition("eth0", *OWNER))
    before = lines(tree.network())
    changed = tree.apply()
    assert "/etc/netplan/50-mine.yaml.before-rpiomega" in changed
    assert tree.read("50-mine.yaml.before-rpiomega").startswith("# my own words")
    after = lines(tree.network())
    gone = [line for line in before if line not in after]
    assert gone == ["Address=192.168.1.77/24", "DNS=192.168.1.3", "Gateway=192.168.1.254"]
    assert sorted(set(after) - set(before)) == ["Address=192.168.1.10/24", "DNS=192.168.1.1", "Gateway=192.168.1.1"]
    assert tree.network().count("Metric=50") == 1 and tree.network().count("GatewayOnLink=true") == 2


def test_networkmanager_below_netplan_loses_nothing_either(tree):
    tree.write("50.yaml", definition("eth0", *OWNER[:2], *OWNER[2:4], *OWNER[6:7], "mtu: 1400",
                                     "networkmanager: {passthrough: {connection.zone: home}}",
                                     renderer="  renderer: NetworkManager\n"))  # fmt: skip
    tree.apply()
    made = netplan_check.generate(netplan_check.definitions(tree.board), "", "")
    profile = made["/run/NetworkManager/system-connections/netplan-eth0.nmconnection"]
    for kept in ("10.9.0.1/16", "2001:db8::5/64", "2001:db8::53", "10.0.0.0/8,192.168.1.5", "mtu=1400", "zone=home",
                 "home.arpa", "192.168.1.10/24", "0.0.0.0/0,192.168.1.1,50"):  # fmt: skip
        assert kept in profile
    assert "192.168.1.77" not in profile and "192.168.1.254" not in profile


def test_the_metric_of_a_lease_is_kept(tree):
    tree.write("50.yaml", definition("eth0", "dhcp4: true", "dhcp4-overrides: {route-metric: 700}"))
    tree.apply()
    assert "Metric=700" in tree.network()


def test_another_address_the_next_time(tree):
    tree.write("50.yaml", definition("eth0", "dhcp4: true", "dhcp4-overrides: {route-metric: 700}"))
    tree.apply()
    tree.apply(Wanted("eth0", "192.168.1.20", 24, "192.168.1.2", ("9.9.9.9",)))
    assert "Address=192.168.1.20/24" in lines(tree.network()) and "192.168.1.10" not in tree.network()
    assert "Metric=700" in tree.network()


def test_a_board_from_another_network_leaves_its_address_there(tree):
    tree.write("50.yaml", definition("eth0", "addresses: [10.0.0.5/24]", "gateway4: 10.0.0.1"))
    tree.apply()
    assert "10.0.0" not in tree.network()


REFUSED = {
    "several": (["routes: [{to: default, via: 192.168.1.1, metric: 1}, {to: default, via: 192.168.1.2, metric: 2}]"],
                r"several default routes \(192.168.1.1 in /etc/netplan/50.yaml, 192.168.1.2 in"),
    "no via": (["routes: [{to: default, scope: link}]"], "50.yaml has a default route without `via`"),
    "kept off": (["dhcp4: true", "dhcp4-overrides: {use-routes: false}"], "dhcp4-overrides.use-routes of eth0"),
    "rule": (["addresses: [192.168.1.77/24]", "routing-policy: [{from: 192.168.1.77, table: 5}]"],
             "`from: 192.168.1.77` in routing-policy names the address that is replaced"),
    "pattern": (["match: {name: 'e*'}", "dhcp4: true"], r"is for every interface whose name is e\*"),
    "driver": (["match: {driver: r8152}", "dhcp4: true"], "is for every interface whose driver is r8152"),
    "broken": (["dhcp4: true", "no-such-key: 1"], "netplan refuses the board's own definitions: .*50.yaml"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_kept_is_named_before_anything_is_written(tree, name):
    written, why = REFUSED[name]
    tree.write("50.yaml", definition("eth0", *written))
    with pytest.raises(StepError, match=why) as caught:
        tree.files()
    assert "\n" not in str(caught.value) and str(tree.folder) not in str(caught.value)


@pytest.mark.parametrize("match", ["match: {macaddress: 'dc:a6:32:00:00:01'}", "match: {driver: [bcmgenet, smsc95xx]}"])
def test_a_definition_with_a_name_of_its_own(tmp_path, match):
    """As Ubuntu's image for the Pi has it."""
    tree = Tree(tmp_path, WIRED, "id0")
    tree.write("50.yaml", definition("id0", match, "set-name: eth0", "dhcp4: true", "optional: true"))
    assert tree.apply() == ["/etc/netplan/99-rpiomega.yaml"]
    assert "Address=192.168.1.10/24" in lines(tree.network("id0"))


ODD = {
    "CRLF": definition("eth0", "addresses: [192.168.1.77/24]", "mtu: 1400").replace("\n", "\r\n"),
    "anchors": "network:\n  version: 2\n  ethernets:\n    eth0: &a\n      addresses: [192.168.1.77/24]\n"
    "      mtu: 1400\n"
               "    eth1: *a\n",
    "quoted": "network:\n  version: 2\n  ethernets:\n    'eth0':\n      addresses:\n      - '192.168.1.77/24'\n"
              "      mtu: 1400\n      dhcp6: yes\n",
    "JSON": '{"network": {"version": 2, "ethernets": {"eth0": {"addresses": ["192.168.1.77/24"], "mtu": 1400}}}}',
}  # fmt: skip


@pytest.mark.parametrize("name", ODD)
def test_yaml_in_other_forms(tree, name):
    tree.write("50.yaml", ODD[name])
    other = tree.network("eth1") if name == "anchors" else ""
    tree.apply()
    assert "192.168.1.77" not in tree.network() and "MTUBytes=1400" in tree.network()
    assert not other or tree.network("eth1") == other


def test_files_that_netplan_does_not_read_are_left_alone(tree):
    for name in ("50.yaml.save", ".50.yaml.swp", ".hidden.yaml", "50.yml", "README"):
        tree.write(name, "no: [yaml")
    tree.write("40.yaml", "")
    tree.write("50.yaml", definition("eth0", "dhcp4: true"))
    assert tree.apply() == ["/etc/netplan/99-rpiomega.yaml"]


def test_a_symbolic_link_stays_one(tree):
    tree.write("mine.yaml", definition("eth0", "addresses: [192.168.1.77/24]"), "srv")
    (tree.folder / "etc/netplan").mkdir(parents=True)
    link = tree.folder / "etc/netplan/50.yaml"
    link.symlink_to(tree.folder / "srv/mine.yaml")
    tree.apply()
    assert link.is_symlink() and "192.168.1.77" not in link.read_text()


def test_an_address_in_a_folder_that_is_not_the_owners_is_named(tree):
    tree.write("50.yaml", definition("eth0", "dhcp4: true"))
    tree.write("10-vendor.yaml", definition("eth0", "addresses: [192.168.1.77/24]"), "usr/lib/netplan")
    with pytest.raises(StepError, match=r"/usr/lib/netplan/10-vendor.yaml configures eth0 as well"):
        tree.files()
    tree.write("10-vendor.yaml", "")
    assert tree.apply() == ["/etc/netplan/99-rpiomega.yaml"]


def test_definitions_of_one_interface_in_several_files(tree):
    tree.write("10.yaml", definition("eth0", "dhcp4: true", "mtu: 1400"))
    tree.write("20.yaml", definition("eth0", "addresses: [192.168.1.77/24]"))
    tree.write("30.yaml", definition("eth0", "addresses: [192.168.1.78/24, 172.16.0.9/12]", "dhcp4: false"))
    tree.apply()
    found = [line for line in lines(tree.network()) if line.startswith("Address=")]
    assert found == ["Address=172.16.0.9/12", "Address=192.168.1.10/24"]


def test_an_owner_who_edits_again_keeps_a_second_copy(tree):
    for number in (77, 78):
        tree.write("50.yaml", definition("eth0", f"addresses: [192.168.1.{number}/24]"))
        tree.apply()
    assert "192.168.1.77" in tree.read("50.yaml.before-rpiomega")
    assert "192.168.1.78" in tree.read("50.yaml.before-rpiomega.2")


def test_a_bridge_of_netplan_is_named(tmp_path):
    tree = Tree(tmp_path, Wanted("br0", "192.168.1.10", 24, "192.168.1.1", ("192.168.1.1",)))
    tree.write(
        "50.yaml",
        "network:\n  version: 2\n  ethernets: {eth0: {}}\n  bridges: {br0: {interfaces: [eth0], dhcp4: true}}\n",
    )
    with pytest.raises(StepError, match="br0 is configured by netplan as br0 of section bridges"):
        tree.files()


@pytest.mark.parametrize("yes", ["True", "ON", "y"])
def test_every_spelling_of_yes_that_netplan_knows_is_kept(tree, yes):
    routes = f"routes: [{{to: default, via: 192.168.1.1, on-link: {yes}}}]"
    tree.write("50.yaml", definition("eth0", "addresses: [192.168.1.7/24]", routes))
    assert "GatewayOnLink=true" in tree.network()
    tree.apply()
    assert "GatewayOnLink=true" in tree.network()


@pytest.mark.parametrize("no", ["False", "N", "OFF"])
def test_every_spelling_of_no_keeps_the_default_route_away(tree, no):
    tree.write("50.yaml", definition("eth0", "dhcp4: TRUE", f"dhcp4-overrides: {{use-routes: {no}}}"))
    with pytest.raises(StepError, match="dhcp4-overrides.use-routes of eth0"):
        tree.files()


TWICE = {
    "section": "network:\n  version: 2\n  ethernets:\n    eth0: {addresses: [192.168.1.9/24]}\n"
    "  ethernets:\n    eth1: {dhcp4: true}\n",
    "definition": "network:\n  version: 2\n  ethernets:\n    eth0: {mtu: 1400}\n    eth0: {dhcp4: true}\n",
    "inside": definition("eth0", "addresses: [192.168.1.9/24]", "mtu: 1400", "addresses: [192.168.1.8/24]"),
}


@pytest.mark.parametrize("name", TWICE)
def test_a_key_that_is_there_twice_is_named(tree, name):
    """netplan joins both; an address in the first one would stay beside the new one."""
    tree.write("50.yaml", TWICE[name])
    assert "192.168.1.10/24" not in tree.network()
    with pytest.raises(StepError, match=r"50\.yaml line \d: `\w+` is there twice"):
        tree.files()


def test_a_board_that_is_an_access_point_itself_stays_one(radio):
    point = "access-points: {home: {mode: ap, password: correct horse}}"
    radio.write("50.yaml", definition("wlan0", point, kind="wifis", renderer="  renderer: NetworkManager\n"))
    with pytest.raises(StepError, match="50.yaml: wlan0 has mode=ap in home: it is no client"):
        radio.files()
    radio.write("50.yaml", definition("wlan0", point.replace("ap,", "infrastructure,"), kind="wifis"))
    assert radio.files()
