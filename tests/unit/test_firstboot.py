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
    assert user["user"]["ssh_authorized_keys"] == [KEY] and user["user"]["lock_passwd"] is True
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
    (tmp_path / "wifi").write_text(f"{SECRET}\n")
    (tmp_path / "wifi").chmod(0o600)
    wifi = {"ssid": SSID, "country": "CH", "secret_file": "wifi"}
    path = site(system={"timezone": "Europe/Berlin", "locale": "de_DE.UTF-8"}, network={"wifi": wifi})
    run(path, tmp_path / "card", "--release", "bookworm")
    subprocess.run([shutil.which("bash"), "-n", str(tmp_path / "card/firstrun.sh")], check=True)


@given(st.lists(st.text(alphabet="abc=./-_019", min_size=1, max_size=12), max_size=8))
def test_command_line_keeps_every_word_and_is_stable(words):
    once = firstrun.edit_line(" ".join(words), "/boot/firmware")
    kernel = words[: words.index("--") if "--" in words else None]
    assert once.split() == kernel + firstrun.arguments("/boot/firmware").split() + words[len(kernel) :]
    assert firstrun.edit_line(once, "/boot/firmware") == once


IMAGER = "systemd.run=/boot/firstrun.sh systemd.run_success_action=reboot systemd.unit=kernel-command-line.target"


def test_another_programs_first_script_is_replaced_and_the_owners_own_words_stay():
    line = f"root=x systemd.unit=multi-user.target systemd.run=/opt/mine {IMAGER}"
    kept = "root=x systemd.unit=multi-user.target systemd.run=/opt/mine"
    assert firstrun.edit_line(line, "/boot/firmware") == f"{kept} {firstrun.arguments('/boot/firmware')}"


def card(tmp_path, **files):
    """Make a mounted boot partition with cloud-init files; give its folder."""
    folder = tmp_path / "card"
    for name, text in {"cmdline.txt": "root=x rootwait\n", "user-data": "#cloud-config\n", **files}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, newline="")
    return folder


OTHER = "\n#console=tty1 root=/dev/old\r\nds=nocloud;i=old\n"


@pytest.mark.parametrize("release", ["trixie", "bookworm"])
def test_other_lines_of_the_command_line_stay_as_they_are(site, tmp_path, release):
    old = f"root=x ds=nocloud;i=rpi-imager-1 rootwait{OTHER}"
    folder = card(tmp_path, **{"cmdline.txt": old})
    if release == "bookworm":
        (folder / "user-data").unlink()
    assert run(site(), folder, "--release", release).exit_code == 0
    new = (folder / "cmdline.txt").read_bytes().decode()
    assert new.endswith(OTHER) and new.startswith("root=x ") and new != old
    assert (folder / "cmdline.txt.before-rpiomega").read_bytes().decode() == old


def test_the_command_line_is_edited_in_the_file_that_config_txt_names(site, tmp_path):
    config = "cmdline=cmdline.txt\nos_prefix=current/\n[tryboot]\nos_prefix=new/\n"
    folder = card(tmp_path, **{"config.txt": config, "current/cmdline.txt": "root=y ds=nocloud;i=rpi-imager-1\n"})
    assert run(site(), folder, "--release", "ubuntu").exit_code == 0
    assert (folder / "cmdline.txt").read_text() == "root=x rootwait\n"
    assert "rpi-imager" not in (folder / "current/cmdline.txt").read_text()


def test_an_empty_command_line_is_refused_and_nothing_written(site, tmp_path):
    folder = card(tmp_path, **{"cmdline.txt": "\0\0\0"})
    (folder / "user-data").unlink()
    done = run(site(), folder, "--release", "bookworm")
    assert done.exit_code == 1 and "cmdline.txt contains NUL bytes" in done.output
    assert sorted(path.name for path in folder.iterdir()) == ["cmdline.txt"]


@pytest.mark.parametrize("release", ["bookworm", "bullseye"])
def test_the_script_takes_itself_out_of_the_line_and_nothing_else(site, tmp_path, release):
    old = f"root=x systemd.unit=multi-user.target rootwait\n#root=y {IMAGER}\n"
    folder = card(tmp_path, **{"config.txt": "cmdline=mine\n", "mine": old})
    (folder / "user-data").unlink()
    assert run(site(), folder, "--release", release).exit_code == 0
    assert (folder / "mine").read_text() != old
    script = (folder / "firstrun.sh").read_text()
    end = script[script.index("# --- done: never again ---") :]
    # What looks for the script's own path does so below this folder here.
    boot = {"bookworm": "/boot/firmware", "bullseye": "/boot"}[release]
    end = end.replace('"systemd\\.run=$boot/', f'"systemd\\.run={boot}/')
    subprocess.run([shutil.which("bash"), "-c", f"boot={folder}\n{end}"], check=True)
    assert (folder / "mine").read_text() == old
    assert not (folder / "firstrun.sh").exists()


SEEDS = [
    ("root=x rootwait", None, False),
    ("root=x ds=nocloud;i=rpi-imager-1 rootwait", "ds=nocloud;i={}", False),
    ("ds=nocloud root=x", "ds=nocloud;i={}", False),
    ("root=x ds=nocloud-net;i=a;", "ds=nocloud;i={}", False),
    ("root=x ds=nocloud;i=a ds=nocloud;i=b", "ds=nocloud;i={}", False),
    ("root=x ds=nocloud;s=http://10.0.0.1/;i=a", "ds=nocloud;i={}", True),
    ("root=x ds=nocloud;h=name;i=a", "ds=nocloud;i={}", True),
    ("root=x ds=nocloud;s=file:///boot/firmware/;i=a", "ds=nocloud;i={};s=file:///boot/firmware/", False),
    ('root=x "ds=nocloud;i=a"', "ds=nocloud;i={}", False),
    ("root=x ci.ds=None", "ds=nocloud;i={}", True),
    ("root=x cloud-init=disabled", None, True),
    ("root=x network-config=disabled ds=nocloud;i=a", "ds=nocloud;i={}", True),
]


@pytest.mark.parametrize(("line", "wanted", "said"), SEEDS)
def test_what_outranks_our_files_on_the_command_line_becomes_ours(site, tmp_path, line, wanted, said):
    folder = card(tmp_path, **{"cmdline.txt": f"{line}\n"})
    done = run(site(), folder)
    identity = yaml.safe_load((folder / "meta-data").read_text())["instance-id"]
    words = (folder / "cmdline.txt").read_text().split()
    ours = [word for word in words if word.startswith(("ds=", '"ds=', "ci."))]
    assert ours == ([wanted.format(identity)] if wanted else [])
    kept = [word for word in line.split() if word in ("root=x", "rootwait")]
    assert [word for word in words if word not in ours] == kept
    assert ("taken out" in done.output) is said
    # The same settings are the same instance, others are another one.
    run(site(system={"timezone": "Europe/Berlin"}), folder)
    assert identity not in (folder / "cmdline.txt").read_text() + (folder / "meta-data").read_text()


def test_what_another_program_wrote_to_the_card_is_kept_once_and_its_own_first_boot_is_named(site, tmp_path):
    folder = card(tmp_path, **{"user-data": "#cloud-config\nhostname: mine\n", "custom.toml": ""})
    for _ in range(2):
        done = run(site(), folder)
    assert (folder / "user-data.before-rpiomega").read_text() == "#cloud-config\nhostname: mine\n"
    assert "custom.toml on this card is applied" in done.output


@pytest.mark.parametrize(("mount", "right", "wrong"), [("/boot", "bullseye", "bookworm"),
                                                       ("/boot/firmware", "bookworm", "bullseye")])  # fmt: skip
def test_the_script_is_not_written_where_the_board_will_not_find_it(site, tmp_path, mount, right, wrong):
    """With a systemd.run= that names no file the board would reboot for ever."""
    card, line = tmp_path / "card", "console=tty1 root=PARTUUID=deadbeef-02 rootwait\n"
    card.mkdir()
    (card / "config.txt").write_text(f"# Additional overlays and parameters are documented {mount}/overlays/README\n")
    (card / "cmdline.txt").write_text(line)
    for release in (wrong, "trixie"):
        done = run(site(), card, "--release", release)
        assert done.exit_code == 1 and f"--release {right}" in done.output
        assert (card / "cmdline.txt").read_text() == line and not (card / "firstrun.sh").exists()
    assert run(site(), card, "--release", right).exit_code == 0
