"""What goes onto a blank card: nothing secret in the open, nothing a board would refuse, one line stays one line."""

import shutil
import stat
import subprocess

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st
from rpiomega.cli import main
from rpiomega.firstboot import firstrun

KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIK6UB957vANukS7UswBoK9XmaRbgdFBJM owner@desk"
# A test vector of IEEE 802.11i-2004, H.4.3.
SSID, SECRET = "ThisIsASSID", "ThisIsAPassword"
KEY_OF_NETWORK = "0dc0d6eb90555ed6419756b9a15ec3e3209b63df707dd508d14581f8982721af"


@pytest.fixture
def site(tmp_path, monkeypatch):
    """`site(**sections)` -> path of a site file with the owner's key beside it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "id").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    (tmp_path / "id.pub").write_text(f"{KEY}\n")

    def make(**sections):
        network = {"gateway": "192.168.1.1", "dns": ["192.168.1.1"], **sections.pop("network", {})}
        nodes = {"pi-1": {"address": "192.168.1.11", "roles": ["master", "manager"]}}
        users = {"admin": "omega", "identity": "id", **sections.pop("users", {})}
        data = {"cluster": "test", "nodes": nodes, "network": network, "users": users, **sections}
        (tmp_path / "site.sls").write_text(yaml.safe_dump({"rpiomega": data}))
        return tmp_path / "site.sls"

    return make


def run(site_file, folder, *arguments, node="pi-1"):
    """Run the command in this process."""
    return CliRunner().invoke(main, ["firstboot", node, "--site", str(site_file), "-o", str(folder), *arguments])


def test_cloud_init_files_name_the_board_and_let_only_the_key_in(site, tmp_path):
    done = run(site(system={"timezone": "Europe/Berlin"}), tmp_path / "card")
    assert done.exit_code == 0, done.output
    user = yaml.safe_load((tmp_path / "card/user-data").read_text())
    assert (user["hostname"], user["timezone"], user["ssh_pwauth"]) == ("pi-1", "Europe/Berlin", False)
    assert user["users"][0]["ssh_authorized_keys"] == [KEY] and user["users"][0]["lock_passwd"] is True
    network = yaml.safe_load((tmp_path / "card/network-config").read_text())
    assert network["ethernets"]["eth0"]["addresses"] == ["192.168.1.11/24"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "card").iterdir()} == {0o600}


@pytest.mark.parametrize("release", ["trixie", "ubuntu", "bookworm", "bullseye"])
def test_wifi_key_is_derived_private_and_announced(site, tmp_path, release):
    (tmp_path / "wifi").write_text(f"{SECRET}\n")
    (tmp_path / "wifi").chmod(0o600)
    path = site(network={"wifi": {"ssid": SSID, "country": "CH", "secret_file": "wifi"}})
    done = run(path, tmp_path / "card", "--release", release)
    assert done.exit_code == 0, done.output
    texts = {file.name: file.read_text() for file in (tmp_path / "card").iterdir()}
    holder = "network-config" if release in ("trixie", "ubuntu") else "firstrun.sh"
    assert f"card/{holder} holds the key of the wireless network" in done.output
    assert SECRET not in "".join(texts.values()) + done.output
    assert [name for name, text in texts.items() if KEY_OF_NETWORK in text] == [holder]
    assert "CH" in texts[holder] or "CH" in texts["user-data"]


def test_a_secret_others_can_read_is_refused(site, tmp_path):
    (tmp_path / "wifi").write_text(SECRET)
    (tmp_path / "wifi").chmod(0o644)
    done = run(site(network={"wifi": {"ssid": "x", "secret_file": "wifi"}}), tmp_path / "card")
    assert done.exit_code == 1 and "chmod 600" in done.output
    assert not (tmp_path / "card").exists()


def test_a_private_key_never_reaches_a_card(site, tmp_path):
    done = run(site(), tmp_path / "card", "--key", str(tmp_path / "id"))
    assert done.exit_code == 1 and "is a private key" in done.output


def test_without_any_key_the_reason_says_where_it_looked(site, tmp_path):
    (tmp_path / "id.pub").unlink()
    done = run(site(), tmp_path / "card")
    assert done.exit_code == 1 and "id.pub" in done.output and "ssh-keygen" in done.output


def test_an_unknown_node_is_bad_input(site, tmp_path):
    done = run(site(), tmp_path / "card", node="pi-2")
    assert done.exit_code == 2 and "pi-2 is not a node" in done.output


def test_a_mounted_boot_partition_is_edited_with_a_backup_and_twice_is_once(site, tmp_path):
    card = tmp_path / "card"
    card.mkdir()
    (card / "cmdline.txt").write_text("console=tty1 root=PARTUUID=1-02 rootwait\n")
    for _ in range(2):
        assert run(site(), card, "--release", "bookworm").exit_code == 0
    line = (card / "cmdline.txt").read_text()
    assert line == f"console=tty1 root=PARTUUID=1-02 rootwait {firstrun.arguments('/boot/firmware')}\n"
    assert (card / "cmdline.txt.before-rpiomega").read_text() == "console=tty1 root=PARTUUID=1-02 rootwait\n"


def test_the_wrong_release_for_a_card_is_noticed(site, tmp_path):
    card = tmp_path / "card"
    card.mkdir()
    (card / "cmdline.txt").write_text("root=x\n")
    done = run(site(), card, "--release", "trixie")
    assert done.exit_code == 1 and "--release bookworm" in done.output
    (card / "user-data").write_text("#cloud-config\n")
    done = run(site(), card, "--release", "bookworm")
    assert done.exit_code == 1 and "--release trixie" in done.output


def test_without_a_gateway_the_card_takes_an_address_by_dhcp_and_says_so(site, tmp_path):
    done = run(site(network={"gateway": None, "dns": []}), tmp_path / "card")
    assert done.exit_code == 0 and "no static address" in done.output
    assert yaml.safe_load((tmp_path / "card/network-config").read_text())["ethernets"]["eth0"]["dhcp4"] is True


def test_the_script_is_valid_shell(site, tmp_path):
    run(site(system={"timezone": "Europe/Berlin"}), tmp_path / "card", "--release", "bookworm")
    subprocess.run([shutil.which("bash"), "-n", str(tmp_path / "card/firstrun.sh")], check=True)


@given(st.lists(st.text(alphabet="abc=./-_019", min_size=1, max_size=12), max_size=8))
def test_command_line_stays_one_line_keeps_every_word_and_is_stable(words):
    text = " ".join(words)
    once = firstrun.edit_cmdline(text, "/boot/firmware")
    assert once.count("\n") == 1 and once.endswith("\n")
    assert once.split()[: len(text.split())] == text.split()
    assert firstrun.edit_cmdline(once, "/boot/firmware") == once
