"""What the network stacks' files say, and that nothing of the owner's is lost. Real formats, no board."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rpiomega.node.network import dhcpcd, netplan, networkmanager, wifi
from rpiomega.node.network.stack import Wanted, Wifi

WANTED = Wanted("wlan0", "192.168.1.10", 24, "192.168.1.1", ("192.168.1.1", "9.9.9.9"), True)
# As `netplan get all` of netplan 1.1.2 prints it.
NETPLAN = """network:
  version: 2
  renderer: networkd
  ethernets:
    eth0:
      addresses:
      - "192.168.1.77/24"
      - "10.9.0.1/16"
      nameservers:
        addresses:
        - 192.168.1.3
        search:
        - home.arpa
      optional: true
      routes:
      - to: "default"
        via: "192.168.1.1"
        metric: 50
      - to: "10.0.0.0/8"
        via: "192.168.1.5"
    eth1:
      addresses:
      - "172.16.0.2/24"
  wifis:
    wlan0:
      dhcp4: true
      access-points:
        "home: 2":
          auth:
            key-management: "psk"
            password: "correct horse"
"""
text = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"))


def test_netplan_keeps_all_but_what_would_be_joined_to_ours():
    new = netplan.without(NETPLAN, "ethernets", "eth0")
    for gone in ("192.168.1.77", "10.9.0.1", "192.168.1.3", '"default"', "metric"):
        assert gone not in new
    for kept in ("home.arpa", "search:", "optional: true", '"10.0.0.0/8"', "192.168.1.5", "172.16.0.2"):
        assert kept in new
    assert netplan.without(new, "ethernets", "eth0") == new


def test_netplan_leaves_a_definition_without_addresses_as_it_is():
    assert netplan.without(NETPLAN, "wifis", "wlan0") == NETPLAN
    assert "correct horse" not in netplan.without(NETPLAN, "wifis", "wlan0", access_points=True)
    assert "correct horse" in netplan.without(NETPLAN, "ethernets", "wlan0", access_points=True)


def test_netplan_never_leaves_a_key_without_a_value():
    new = netplan.without(NETPLAN, "ethernets", "eth1").splitlines()
    assert "    eth1: {}" in new


def test_dhcpcd_gets_one_block_for_an_interface():
    lines = ["static ip_address=192.168.1.10/24"]
    once = dhcpcd.edit("hostname\npersistent", "eth0", lines)
    assert once.startswith("hostname\npersistent\n")
    both = dhcpcd.edit(once, "wlan0", ["static ip_address=192.168.1.11/24"])
    other = dhcpcd.edit(both, "eth0", ["static ip_address=192.168.1.12/24"])
    assert other.count("interface eth0") == other.count("interface wlan0") == 1
    assert "192.168.1.10/" not in other and "192.168.1.11/24" in other and "192.168.1.12/24" in other


@given(text)
def test_dhcpcd_loses_nothing_and_is_done_after_one_edit(owned):
    once = dhcpcd.edit(owned, "eth0", ["static routers=192.168.1.1"])
    assert dhcpcd.edit(once, "eth0", ["static routers=192.168.1.1"]) == once
    assert once.startswith(owned)


def test_a_keyfile_gives_its_sections_as_they_are():
    owner = "[connection]\nid=home\n\n[wifi]\nssid=home\n\n[wifi-security]\npsk=secret\n\n[ipv4]\nmethod=auto\n\n"
    assert networkmanager.sections(owner, ("wifi", "wifi-security")) == [
        "[wifi]", "ssid=home", "", "[wifi-security]", "psk=secret",
    ]  # fmt: skip
    assert networkmanager.sections(owner, ("ipv6",)) == []


@pytest.mark.parametrize(
    "line",
    ["psk=correct", "\tpsk=deadbeef", '  password: "correct"', "#psk=correct", "sae_password=correct"],
)
def test_no_key_survives_redaction(line):
    shown = wifi.redact(f"[x]\n{line}\nmethod=auto\n")
    assert "correct" not in shown and "deadbeef" not in shown
    assert shown.endswith("********\nmethod=auto\n")


def test_a_diff_says_that_the_key_changes_and_not_which(tmp_path):
    from rpiomega.node.board import Board
    from rpiomega.node.network.stack import Concealed

    board = Board(str(tmp_path))
    file = Concealed("/etc/x.nmconnection", "[wifi]\npsk=aaaaaaaa\n", mode=0o600)
    first = file.diff(board).lines
    assert "+psk=********" in first and not any("aaaaaaaa" in line for line in first)
    file.apply(board)
    assert (tmp_path / "etc/x.nmconnection").stat().st_mode & 0o777 == 0o600
    assert not file.diff(board)
    changed = Concealed("/etc/x.nmconnection", "[wifi]\npsk=bbbbbbbb\n", mode=0o600).diff(board).lines
    assert changed == ["write /etc/x.nmconnection (the Wi-Fi key changes, not shown)"]


@pytest.mark.parametrize("ssid", ["home", 'a "quoted" \\ name', "Café ☕", "x=1;y", "# no"])
def test_any_ssid_reaches_wpa_supplicant_whole(ssid):
    psk = hashlib.pbkdf2_hmac("sha1", b"password", ssid.encode(), 4096, 32).hex()
    wanted = Wanted("wlan0", "192.168.1.10", 24, "192.168.1.1", (), True, Wifi(ssid, psk, "GB"))
    lines = [line.strip() for line in wifi.supplicant(wanted).text.splitlines()]
    found = next(line.partition("=")[2] for line in lines if line.startswith("ssid="))
    assert bytes.fromhex(found).decode() == ssid
    assert "country=GB" in lines and f"psk={psk}" in lines
    assert psk not in repr(wanted)
