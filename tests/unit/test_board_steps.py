"""Time zone, locale, swap, SSH and identity on trees of Raspberry Pi OS bookworm and trixie, Armbian and Ubuntu."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpiomega.node import boards
from rpiomega.node.board import Board
from rpiomega.node.step import StepError
from rpiomega.node.steps import sshd
from rpiomega.node.steps.hostname import Hostname
from rpiomega.node.steps.locale import Locale, edit_default, edit_gen
from rpiomega.node.steps.machineid import MachineId
from rpiomega.node.steps.minion import CONF, Minion
from rpiomega.node.steps.sshd import Sshd
from rpiomega.node.steps.swap import Swap, edit_fstab
from rpiomega.node.steps.timezone import Timezone

COMMON = {
    "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
    "etc/ssh/ssh_host_ed25519_key.pub": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDqk5Q0 root@raspberrypi\n",
    "etc/ssh/sshd_config": "Include /etc/ssh/sshd_config.d/*.conf\nKbdInteractiveAuthentication no\n",
    "etc/locale.gen": "# en_GB.UTF-8 UTF-8\nen_US.UTF-8 UTF-8\n",
    "usr/share/zoneinfo/Europe/Berlin": "TZif2",
    "etc/fstab": "proc /proc proc defaults 0 0\nPARTUUID=deadbeef-02 / ext4 defaults,noatime 0 1\n",
}
TREES = {
    "bookworm": {
        "etc/os-release": 'ID=debian\nVERSION_CODENAME=bookworm\nPRETTY_NAME="Debian GNU/Linux 12"\n',
        "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
        "etc/default/locale": "LANG=en_GB.UTF-8\n",
        "etc/timezone": "Europe/London\n",
        "etc/dphys-swapfile": "#CONF_SWAPFILE=/var/swap\nCONF_SWAPSIZE=512\n",
    },
    "trixie": {
        "etc/os-release": 'ID=debian\nVERSION_CODENAME=trixie\nPRETTY_NAME="Debian GNU/Linux 13"\n',
        "proc/device-tree/model": "Raspberry Pi 5 Model B Rev 1.0\0",
        "etc/default/locale": "LANG=en_GB.UTF-8\nLC_ALL=en_GB.UTF-8\n",
        "etc/rpi/swap.conf": "[Main]\n#Mechanism=auto\n",
    },
    "armbian": {
        "etc/os-release": 'ID=debian\nVERSION_CODENAME=bookworm\nPRETTY_NAME="Armbian 24.8 bookworm"\n',
        "etc/armbian-release": 'BOARD=odroidc2\nBOARD_NAME="Odroid C2"\n',
        "etc/default/locale": "LANG=C.UTF-8\n",
        "etc/timezone": "Etc/UTC\n",
        "etc/default/armbian-zram-config": "ENABLED=true\n# SWAP=false\n",
    },
    "ubuntu": {
        "etc/os-release": 'ID=ubuntu\nVERSION_CODENAME=noble\nPRETTY_NAME="Ubuntu 24.04"\n',
        "proc/device-tree/model": "Raspberry Pi 4 Model B Rev 1.4\0",
        "etc/default/locale": "LANG=C.UTF-8\n",
        "etc/fstab": "LABEL=writable / ext4 defaults 0 1\n/swap.img none swap sw 0 0\n",
    },
}


@pytest.fixture(params=TREES)
def tree(request, tmp_path):
    """A board's folder, of each kind."""
    return plant(tmp_path, request.param)


def plant(folder, kind):
    """Make a tree of one kind, give its board."""
    for path, text in {**COMMON, **TREES[kind]}.items():
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    (folder / "etc/localtime").symlink_to("/usr/share/zoneinfo/Europe/London")
    return Board(str(folder))


def settle(step_class, board, **args):
    """Check, apply, verify; then a fresh step must find nothing. Give the diff's lines."""
    step = step_class(board, args)
    before = contents(board.root)
    lines = step.check().lines
    assert contents(board.root) == before, "check has written something"
    if lines:
        step.apply()
        step.verify()
    assert not step_class(board, args).check()
    return lines


def contents(root):
    """Give path -> text (or link target) of a tree."""
    found = {}
    for folder, _, names in os.walk(root):
        for name in names:
            path = os.path.join(folder, name)
            found[path] = os.readlink(path) if os.path.islink(path) else Path(path).read_text(encoding="utf-8")
    return found


def test_profile_of_each_board(tmp_path):
    found = {kind: boards.find(plant(tmp_path / kind, kind)) for kind in TREES}
    assert {kind: profile["name"] for kind, profile in found.items()} == {
        "bookworm": "Raspberry Pi OS",
        "trixie": "Raspberry Pi OS",
        "armbian": "Armbian",
        "ubuntu": "Ubuntu",
    }
    assert found["armbian"]["rootfs"][0] == "armbian"
    assert boards.find(Board(str(tmp_path)))["name"] == "Debian"


def test_time_zone(tree):
    assert settle(Timezone, tree, timezone="Europe/Berlin")[0] == "time zone Europe/London -> Europe/Berlin"
    assert os.readlink(tree.path("/etc/localtime")) == "/usr/share/zoneinfo/Europe/Berlin"
    assert tree.read("/etc/timezone") in (None, "Europe/Berlin\n")
    assert settle(Timezone, tree, timezone="") == []


def test_a_time_zone_that_does_not_exist_is_refused_before_anything_changes(tree):
    with pytest.raises(StepError, match="Europe/Berlln"):
        Timezone(tree, {"timezone": "Europe/Berlln"}).check()


def test_locale(tree):
    settle(Locale, tree, locale="en_GB.UTF-8")
    assert tree.read("/etc/locale.gen") == "en_GB.UTF-8 UTF-8\nen_US.UTF-8 UTF-8\n"
    assert tree.read("/etc/default/locale") == "LANG=en_GB.UTF-8\n"
    settle(Locale, tree, locale="C.UTF-8")
    assert tree.read("/etc/default/locale") == "LANG=C.UTF-8\n"


@pytest.mark.parametrize(
    "line", ["  en_GB.UTF-8 UTF-8", "en_GB.UTF-8\tUTF-8", "#\ten_GB.UTF-8  UTF-8 ", " #en_GB.UTF-8 UTF-8"]
)
def test_a_locale_is_found_by_its_fields(line):
    (edited,) = edit_gen(f"{line}\n", "en_GB.UTF-8").splitlines()
    assert edited.split() == ["en_GB.UTF-8", "UTF-8"]


def test_swap_off_goes_through_what_manages_it(tree):
    assert settle(Swap, tree, swap="off")
    texts = "".join(contents(tree.root).values())
    assert ("CONF_SWAPSIZE=0" in texts) == tree.exists("/etc/dphys-swapfile")
    assert ("Mechanism=none" in texts) == tree.exists("/etc/rpi/swap.conf")
    assert ("\nSWAP=false" in texts) == tree.exists("/etc/default/armbian-zram-config")
    assert "\n/swap.img" not in texts
    assert settle(Swap, tree, swap="keep") == []


def test_compressed_swap_where_something_makes_it(tmp_path):
    assert "Mechanism=zram" in "".join(settle(Swap, plant(tmp_path / "a", "trixie"), swap="zram"))
    assert settle(Swap, plant(tmp_path / "b", "armbian"), swap="zram")


def test_where_nothing_makes_compressed_swap_only_that_on_the_card_goes(tmp_path):
    tree = plant(tmp_path, "ubuntu")
    step = Swap(tree, {"swap": "zram"})
    step.check()
    assert any("comes with the states" in note for note in step.notes)
    settle(Swap, tree, swap="zram")
    assert "\n/swap.img" not in tree.read("/etc/fstab")


def test_password_logins_go_off_only_after_a_proven_key_login_and_come_back(tree):
    step = Sshd(tree, {"passwords": "off", "user": "pi", "proven": False})
    assert step.check()
    with pytest.raises(StepError, match="no key login has been proven"):
        step.apply()
    assert not tree.exists("/etc/ssh/sshd_config.d/10-rpiomega.conf")
    settle(Sshd, tree, passwords="off", user="pi", proven=True)
    assert "PasswordAuthentication no" in tree.read("/etc/ssh/sshd_config.d/10-rpiomega.conf")
    settle(Sshd, tree, passwords="keep", user="pi")
    assert not tree.exists("/etc/ssh/sshd_config.d/10-rpiomega.conf")


@pytest.mark.parametrize(("owner", "root"), [
    ("PermitRootLogin no", False), ("permitrootlogin=forced-commands-only", False), ("PermitRootLogin yes", True),
    ("PermitRootLogin without-password", True), ("#PermitRootLogin no", True),
    ("Match User bob\n  PermitRootLogin no", True),
])  # fmt: skip
def test_a_login_of_root_that_the_owner_forbids_stays_forbidden(tree, owner, root):
    """Ours is read first, so it would count."""
    with open(tree.path("/etc/ssh/sshd_config"), "a") as stream:
        stream.write(f"{owner}\n")
    settle(Sshd, tree, passwords="off", user="pi", proven=True)
    assert ("PermitRootLogin" in tree.read("/etc/ssh/sshd_config.d/10-rpiomega.conf")) is root


def test_an_sshd_that_a_cut_short_run_did_not_reload_is_reloaded_by_the_next(tmp_path, monkeypatch):
    tree = plant(tmp_path, "trixie")
    for passwords in ("off", "keep"):
        step = Sshd(tree, {"passwords": passwords, "user": "pi", "proven": True})
        with monkeypatch.context() as once:
            once.setattr(sshd.os, "unlink", lambda path: 1 / 0 if "reload" in path else os.remove(path))
            with pytest.raises(ZeroDivisionError):
                step.apply()
        assert step.check().lines == ["reload sshd: a run before was cut short"]
        step.apply()
        assert step.check().lines == []


def test_an_sshd_that_reads_no_folder_is_named(tree):
    Path(tree.path("/etc/ssh/sshd_config")).write_text("")
    with pytest.raises(StepError, match="reads no folder"):
        Sshd(tree, {"passwords": "off", "user": "pi", "proven": True}).check()


def test_an_identity_of_its_own_stays(tree):
    assert settle(MachineId, tree) == []


def test_a_copied_machine_id_is_renewed_and_a_missing_one_made(tree):
    step = MachineId(tree, {"machine_id": "rpiomega-3", "host_keys": ""})
    assert step.check().lines == ["make a new machine-id: rpiomega-3 has the same"]
    step.apply()
    step.verify()
    new = tree.read("/etc/machine-id")
    assert new != COMMON["etc/machine-id"] and len(new) == 33
    assert step.data["reboot"]
    for broken in ("", "uninitialized\n"):
        Path(tree.path("/etc/machine-id")).unlink()
        Path(tree.path("/etc/machine-id")).write_text(broken)
        settle(MachineId, tree)


def test_a_board_has_host_keys_at_every_moment_of_their_renewal(tmp_path, monkeypatch):
    tree = plant(tmp_path, "trixie")

    def keys():
        return {path.name: path.read_bytes() for path in Path(tree.path("/etc/ssh")).glob("ssh_host_*")}

    (Path(tree.path("/etc/ssh")) / "ssh_host_dsa_key").write_text("of a kind that is made no more")
    before, step = keys(), MachineId(tree, {"host_keys": "rpiomega-3"})
    with monkeypatch.context() as once:
        once.setattr(step.board.shell, "run", lambda *arguments, **options: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            step.apply()
    assert keys() == before
    step.apply()
    assert keys().keys() >= {"ssh_host_ed25519_key", "ssh_host_ed25519_key.pub", "ssh_host_rsa_key"}
    assert not {"ssh_host_dsa_key"} & keys().keys()
    assert keys()["ssh_host_ed25519_key.pub"] != before["ssh_host_ed25519_key.pub"]
    assert stat.S_IMODE(os.stat(tree.path("/etc/ssh/ssh_host_ed25519_key")).st_mode) == 0o600
    assert [line for line in step.data["public_keys"] if line.startswith("ssh-ed25519 AAAA")]
    assert sorted(os.listdir(tree.path("/etc/ssh"))) == sorted([*keys(), "sshd_config"])


def test_a_swarm_member_keeps_its_identity_unless_told_otherwise(tree):
    os.makedirs(tree.path("/var/lib/docker/swarm"))
    Path(tree.path("/var/lib/docker/swarm/docker-state.json")).touch()
    with pytest.raises(StepError, match="a member of a swarm"):
        MachineId(tree, {"machine_id": "rpiomega-3"}).check()
    assert MachineId(tree, {"machine_id": "rpiomega-3", "force": True}).check()


def test_a_member_of_the_swarm_keeps_its_name_until_it_is_removed(tmp_path):
    board = plant(tmp_path, "trixie")
    (conf,) = Minion(board, {"id": "rpiomega-3", "master": "192.168.1.10", "kind": "onedir"})._files()
    Path(board.path(CONF)).parent.mkdir(parents=True)
    Path(board.path(CONF)).write_text(conf.text)
    assert Hostname(board, {"name": "attic"}).check(), "it is in no swarm yet"
    os.makedirs(board.path("/var/lib/docker/swarm"))
    Path(board.path("/var/lib/docker/swarm/docker-state.json")).touch()
    with pytest.raises(StepError) as refused:
        Hostname(board, {"name": "attic"}).check()
    assert "this board is rpiomega-3, a member of the swarm, and cannot become attic" in refused.value.cause
    assert "`rpiomega remove rpiomega-3` first" in refused.value.cure
    assert Hostname(board, {"name": "rpiomega-3"}).check()
    assert Hostname(board, {"name": "attic", "renew": True}).check()


LINES = st.text(alphabet="abE_#= .-UTF8\t/\n", max_size=200)


@given(LINES)
def test_editors_are_idempotent_and_lose_no_line(text):
    for edit in (lambda t: edit_gen(t, "en_GB.UTF-8"), lambda t: edit_default(t, "en_GB.UTF-8"), edit_fstab):
        once = edit(text)
        assert edit(once) == once
    kept = [line for line in text.splitlines() if line not in ("", "# en_GB.UTF-8 UTF-8")]
    assert set(kept) <= set(edit_gen(text, "en_GB.UTF-8").splitlines()) | {
        line for line in kept if line.strip("# \t") == "en_GB.UTF-8 UTF-8"
    }


def test_a_locale_with_a_modifier_takes_the_charset_its_package_knows():
    assert edit_gen("# de_DE@euro ISO-8859-15\n", "de_DE@euro") == "de_DE@euro ISO-8859-15\n"
    assert edit_gen("", "de_DE.UTF-8@euro") == "de_DE.UTF-8@euro UTF-8\n"
