"""Blank cards: what `rpiomega firstboot` writes brings a virtual Pi up with user, key, name and address."""

import shlex
import subprocess
import sys

import commands
import pytest
import yaml

from rpiomega.firstboot import firstrun, plan, radio
from rpiomega.lab import engine, lifecycle, pi, state

NODE = "rpiomega-master"


@pytest.fixture
def blank(docker, tmp_path, request):
    """One virtual Pi as the image has it, and a site that wants another user, name and address on it."""
    lifecycle.down(docker, "firstboot")
    lab = lifecycle.up(docker, state.Lab("firstboot", "trixie", 1, stack=request.param), print)
    site = yaml.safe_load(lab.site_file.read_text())
    wanted = site["rpiomega"]
    entry = wanted["nodes"].pop(NODE)
    wanted["nodes"]["kitchen"] = {**entry, "address": lab.address(77)}
    wanted["users"]["admin"] = "omega"
    wanted["system"] = {"timezone": "Europe/Berlin", "locale": "de_DE.UTF-8"}
    path = lab.folder / "firstboot.sls"
    path.write_text(yaml.safe_dump(site))
    yield lab, path, pi.find(docker, lab, NODE)
    lifecycle.down(docker, "firstboot")


def firstboot(site, folder, *arguments):
    """Run `rpiomega firstboot kitchen`; give the finished process."""
    command = [sys.executable, "-m", "rpiomega", "firstboot", "kitchen", "--site", str(site), "-o", str(folder)]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=commands.BOUND, check=False)


def place(container, folder, skip=()):
    """Copy a folder's files onto the boot partition of a node."""
    for path in folder.iterdir():
        if path.name not in skip:
            target = f"{container.name}:/boot/firmware/{path.name}"
            subprocess.run(["docker", "cp", str(path), target], check=True, capture_output=True)


def login(lab, command, patience=8):
    """Run a command as the new user at the new address, with the owner's key; give the finished process."""
    options = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    options += ["-o", f"ConnectTimeout={patience}", "-o", "LogLevel=ERROR"]
    line = ["ssh", "-F", "none", "-i", str(lab.key), *options, f"omega@{lab.address(77)}", command]
    return subprocess.run(line, capture_output=True, text=True, timeout=commands.BOUND, check=False)


def reboot(lab, container, wait, command):
    """Reboot, and wait until the board runs the command at its new address."""
    engine.run(container, "touch /run/before; systemctl reboot", check=False)

    def up():
        done = login(lab, f"test ! -e /run/before && timeout 60 sh -c {shlex.quote(command)}")
        return done.returncode == 0 or print(done.returncode, done.stdout, done.stderr)

    wait("the board at its new address", 180, up)


def on_board(lab, command):
    """Run a command that has to succeed; give its output."""
    done = login(lab, command, patience=60)
    assert done.returncode == 0, (command, done.returncode, done.stdout, done.stderr)
    return done.stdout.strip()


def check_board(lab):
    """What every kind of first boot must have brought about."""
    assert on_board(lab, "hostname") == on_board(lab, "cat /etc/hostname") == "kitchen"
    assert on_board(lab, "sudo -n id -un") == "root"
    assert on_board(lab, "getent hosts kitchen").split()[0] in ("127.0.1.1", "::1")
    assert on_board(lab, "readlink /etc/localtime").endswith("Europe/Berlin")
    assert on_board(lab, "sudo passwd -S omega").split()[1] in ("L", "P", "NP")
    assert on_board(lab, "sudo getent shadow omega").split(":")[1] in ("!", "*", "!*")
    assert "passwordauthentication no" in on_board(lab, "sudo sshd -T")
    assert f"via {lab.address(1)}" in on_board(lab, "ip route show default")
    assert "nameserver" in on_board(lab, "cat /etc/resolv.conf")
    assert "LANG=de_DE.UTF-8" in on_board(lab, "cat /etc/default/locale").replace('"', "").split()
    assert "de_DE.utf8" in on_board(lab, "locale -a").split()
    groups = set(on_board(lab, "getent group | cut -d: -f1").split())
    assert groups & set(plan.GROUPS) <= set(on_board(lab, "id -nG omega").split())
    assert "gpio" in groups  # else nothing was shown


def as_on_raspberry_pi_os(container):
    """Give the board what its image has for the first boot: groups of the hardware, locales, a radio that is off."""
    engine.run(container, "for group in gpio i2c spi; do groupadd -f -r $group && usermod -aG $group pi; done")
    engine.run(container, "mkdir -p /var/lib/NetworkManager /usr/lib/userconf-pi")
    engine.run(container, "systemctl stop NetworkManager")
    engine.run(container, f"printf '[main]\\nWirelessEnabled=false\\nWWANEnabled=true\\n' > {radio.STATE}")
    engine.run(container, "systemctl start NetworkManager")


def boots_with(container, card):
    """Have cloud-init find a card's command line where it looks for the kernel's: a container has the host's."""
    line = (card / "cmdline.txt").read_text().splitlines()[0]
    unit = f'[Service]\\nEnvironment="DEBUG_PROC_CMDLINE={line}"\\n'
    for service in ("cloud-init-main", "cloud-init-local", "cloud-init", "cloud-config", "cloud-final"):
        folder = f"/etc/systemd/system/{service}.service.d"
        engine.run(container, f"mkdir -p {folder}; printf '{unit}' > {folder}/cmdline.conf")


# What RPi-Distro/userconf-pi's program brings about, as far as it can be seen here.
USERCONF = """#!/bin/sh
echo "$1:$2" > /var/renamed
old=$(getent passwd 1000 | cut -d: -f1)
usermod -l "$1" -d "/home/$1" -m "$old" && groupmod -n "$1" "$old"
sed -i "s/^$old:/$1:/" /etc/subuid /etc/subgid
sed -i "s/^$old /$1 /" /etc/sudoers.d/010_pi-nopasswd
"""


@pytest.mark.parametrize("blank", ["netplan-nm"], indirect=True)
def test_cloud_init_takes_the_files_of_a_card_that_another_program_wrote_first(blank, tmp_path, wait):
    lab, site, container = blank
    card = tmp_path / "card"
    card.mkdir()
    as_on_raspberry_pi_os(container)
    # As Raspberry Pi Imager leaves a card since 2.0.10, and one boot later.
    line = engine.run(container, "cat /boot/firmware/cmdline.txt").strip()
    (card / "cmdline.txt").write_text(f"{line} ds=nocloud;i=rpi-imager-1\n#{line}\n")
    (card / "user-data").write_text(engine.run(container, "cat /boot/firmware/user-data"))
    boots_with(container, card)
    # The image leaves the network to cloud-init; the lab's does not.
    engine.run(container, "sed -i '/^network:/d' /etc/cloud/cloud.cfg.d/99_raspberry-pi.cfg; cloud-init clean --logs")
    engine.run(container, "DEBUG_PROC_CMDLINE='ds=nocloud;i=rpi-imager-1' cloud-init init --local")
    assert engine.run(container, "cat /var/lib/cloud/data/instance-id").strip() == "rpi-imager-1"
    done = firstboot(site, card)
    assert done.returncode == 0, done.stderr
    place(container, card, skip=("cmdline.txt.before-rpiomega", "user-data.before-rpiomega"))
    boots_with(container, card)
    for kind, name in (("cloud-config", "user-data"), ("network-config", "network-config")):
        assert "Valid schema" in engine.run(container, f"cloud-init schema -t {kind} -c /boot/firmware/{name}")
    reboot(lab, container, wait, "cloud-init status --wait >/dev/null; hostname")
    check_board(lab)
    assert on_board(lab, "cloud-init status") == "status: done"
    identity = yaml.safe_load((card / "meta-data").read_text())["instance-id"]
    assert on_board(lab, "sudo cat /var/lib/cloud/data/instance-id") == identity


@pytest.mark.parametrize("blank", ["networkmanager"], indirect=True)
def test_the_script_that_runs_once_prepares_the_board_and_takes_itself_out(blank, tmp_path, wait):
    lab, site, container = blank
    card = tmp_path / "card"
    card.mkdir()
    (card / "cmdline.txt").write_text(engine.run(container, "cat /boot/firmware/cmdline.txt"))
    done = firstboot(site, card, "--release", "bookworm")
    assert done.returncode == 0, done.stderr
    line = (card / "cmdline.txt").read_text()
    assert line.count("\n") == 1 and "systemd.run=/boot/firmware/firstrun.sh" in line
    place(container, card)
    # What systemd.run= would start: a container reads no kernel command line.
    engine.run(
        container,
        "systemctl stop user-1000.slice; rm -f /etc/cloud/cloud.cfg.d/*; touch /etc/cloud/cloud-init.disabled",
    )
    as_on_raspberry_pi_os(container)
    engine.run(container, f"cat > {firstrun.USERCONF} <<'END'\n{USERCONF}END\nchmod 755 {firstrun.USERCONF}")
    engine.run(container, "echo 'Banner /usr/share/none' > /etc/ssh/sshd_config.d/rename_user.conf")
    engine.run(container, "systemd-run --quiet --wait bash /boot/firmware/firstrun.sh")
    reboot(lab, container, wait, "hostname")
    check_board(lab)
    assert on_board(lab, "cat /var/renamed") == "omega:"
    named = on_board(lab, "cut -d: -f1 /etc/passwd /etc/subuid /etc/subgid; sudo sh -c 'cat /etc/sudoers.d/*'")
    assert "pi" not in named.split()
    assert on_board(lab, "ls /etc/ssh/sshd_config.d") == "10-rpiomega.conf"
    before = (card / "cmdline.txt.before-rpiomega").read_text().strip()
    assert on_board(lab, "sudo cat /boot/firmware/cmdline.txt") == before
    assert on_board(lab, "ls /boot/firmware/firstrun.sh 2>&1 || true").startswith("ls: cannot access")
    assert on_board(lab, "id -u") == "1000"


@pytest.mark.parametrize("blank", ["networkmanager"], indirect=True)
def test_the_radio_is_switched_on_whether_networkmanager_runs_or_not(blank):
    _, _, container = blank

    def state():
        return engine.run(container, "nmcli -t -f WIFI radio").strip()

    as_on_raspberry_pi_os(container)
    assert state() == "disabled"
    engine.run(container, radio.script("CH"))
    assert state() == "enabled"
    as_on_raspberry_pi_os(container)
    engine.run(container, "systemctl stop NetworkManager")
    engine.run(container, radio.script(""))
    assert "WWANEnabled=true" in engine.run(container, f"cat {radio.STATE}")
    engine.run(container, "systemctl start NetworkManager")
    assert state() == "enabled"
