"""What the network stacks' files say, and that nothing of the owner's is lost. Real formats, no board."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpiomega.node.board import Board
from rpiomega.node.network import dhcpcd, supplicant
from rpiomega.node.network.concealed import Concealed, redact
from rpiomega.node.network.stack import Wanted, Wifi
from rpiomega.node.step import StepError

WANTED = Wanted("wlan0", "192.168.1.10", 24, "192.168.1.1", ("192.168.1.1", "9.9.9.9"), True)
text = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"))


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


@pytest.mark.parametrize(
    "line",
    [
        "psk=correct",
        "\tpsk=deadbeef",
        '  password: "correct"',
        "#psk=correct",
        "sae_password=correct",
        '  home: {password: "correct", hidden: true}',
        "private-key-password=correct",
        "phase2-private-key-password=correct",
        "password-raw=correct",
        "wep-key0=correct",
        "pin=correct",
        "leap-password=correct",
        "client-key-password: correct",
        'access-points: {"home": {auth: {key-management: psk, "password": correct}}}',
        "ca-cert-password=correct",
    ],  # fmt: skip
)
def test_no_key_survives_redaction(line):
    shown = redact(f"[x]\n{line}\nmethod=auto\n")
    assert "correct" not in shown and "deadbeef" not in shown
    assert shown.endswith("********\nmethod=auto\n")


def test_a_diff_says_that_the_key_changes_and_not_which(tmp_path):
    board = Board(str(tmp_path))
    file = Concealed("/etc/x.nmconnection", "[wifi]\npsk=aaaaaaaa\n", mode=0o600)
    first = file.diff(board).lines
    assert "+psk=********" in first and not any("aaaaaaaa" in line for line in first)
    file.apply(board)
    assert (tmp_path / "etc/x.nmconnection").stat().st_mode & 0o777 == 0o600
    assert not file.diff(board)
    changed = Concealed("/etc/x.nmconnection", "[wifi]\npsk=bbbbbbbb\n", mode=0o600).diff(board).lines
    assert changed == ["write /etc/x.nmconnection (a key changes, not shown)"]


@pytest.mark.parametrize("ssid", ["home", 'a "quoted" \\ name', "Café ☕", "x=1;y", "# no"])
def test_any_ssid_reaches_wpa_supplicant_whole(ssid):
    psk = hashlib.pbkdf2_hmac("sha1", b"password", ssid.encode(), 4096, 32).hex()
    wanted = Wanted("wlan0", "192.168.1.10", 24, "192.168.1.1", (), True, Wifi(ssid, psk, "GB"))
    lines = [line.strip() for line in supplicant.edit("", "p", wanted.wifi).splitlines()]
    found = next(line.partition("=")[2] for line in lines if line.startswith("ssid="))
    assert bytes.fromhex(found).decode() == ssid
    assert "country=GB" in lines and f"psk={psk}" in lines
    assert psk not in repr(wanted)


OWNERS = """ctrl_interface=DIR=/var/run/wpa_supplicant GROUP=netdev
update_config=1
country=DE
p2p_disabled=1

network={
    ssid="garden"
    psk="other secret"
    priority=1
}
network={
\tssid=%s
\tscan_ssid=1
\tbssid=00:11:22:33:44:55
\tpsk="%s"
\tdisabled=1
}
"""


@pytest.mark.parametrize("written", ['"home"', "686f6d65", 'P"ho\\x6de"'])
def test_the_owners_networks_stay_in_wpa_supplicants_file(written):
    key = hashlib.pbkdf2_hmac("sha1", b"correct horse", b"home", 4096, 32).hex()
    old = OWNERS % (written, "old secret")
    new = supplicant.edit(old, "p", Wifi("home", key, "GB"))
    assert set(old.splitlines()) - set(new.splitlines()) == {"country=DE", '\tpsk="old secret"', "\tdisabled=1"}
    assert set(new.splitlines()) - set(old.splitlines()) == {"country=GB", f"\tpsk={key}"}
    assert supplicant.edit(new, "p", Wifi("home", key, "GB")) == new
    same = OWNERS % (written, "correct horse")
    assert 'psk="correct horse"' in supplicant.edit(same, "p", Wifi("home", key, "GB"))
    assert supplicant.edit(old, "p", Wifi("new", key, "")).count("network={") == 3


def test_a_network_with_another_kind_of_key_is_refused():
    with pytest.raises(StepError, match="p: key_mgmt=WPA-EAP of home would be lost"):
        supplicant.edit('network={\n ssid="home"\n key_mgmt=WPA-EAP\n}\n', "p", Wifi("home", "ab" * 32))


def test_the_shared_file_of_dhcpcd_is_where_an_interfaces_own_one_starts(tmp_path):
    board = Board(str(tmp_path))
    for path, text in ((supplicant.HOOK, ""), (supplicant.SHARED, OWNERS % ('"home"', "old secret"))):
        (tmp_path / path.lstrip("/")).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path.lstrip("/")).write_text(text)
    wanted = Wanted("wlan0", "192.168.1.10", 24, "192.168.1.1", (), True, Wifi("home", "ab" * 32, "GB"))
    (file,) = supplicant.files(board, wanted)
    assert file.path.endswith("wpa_supplicant-wlan0.conf") and "garden" in file.text and "p2p_disabled=1" in file.text
    file.apply(board)
    assert not [file for file in supplicant.files(board, wanted) if file.diff(board)]
