"""Blank cards: what `rpiomega firstboot` writes brings a virtual Pi up with user, key, name and address."""

import subprocess
import sys

import pytest
import yaml
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
    wanted["system"] = {"timezone": "Europe/Berlin"}
    path = lab.folder / "firstboot.sls"
    path.write_text(yaml.safe_dump(site))
    yield lab, path, pi.find(docker, lab, NODE)
    lifecycle.down(docker, "firstboot")


def firstboot(site, folder, *arguments):
    """Run `rpiomega firstboot kitchen`; give the finished process."""
    command = [sys.executable, "-m", "rpiomega", "firstboot", "kitchen", "--site", str(site), "-o", str(folder)]
    return subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=60, check=False)


def place(container, folder, skip=()):
    """Copy a folder's files onto the boot partition of a node."""
    for path in folder.iterdir():
        if path.name not in skip:
            target = f"{container.name}:/boot/firmware/{path.name}"
            subprocess.run(["docker", "cp", str(path), target], check=True, capture_output=True)


def login(lab, command):
    """Run a command as the new user at the new address, with the owner's key; give its output, None if no login."""
    options = ["-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]
    line = ["ssh", "-F", "none", "-i", str(lab.key), *options, "-o", "ConnectTimeout=8", "-o", "LogLevel=ERROR"]
    line += [f"omega@{lab.address(77)}", command]
    try:
        done = subprocess.run(line, capture_output=True, text=True, timeout=30, check=False)
    except subprocess.TimeoutExpired:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def check_board(lab):
    """What every kind of first boot must have brought about."""
    assert login(lab, "hostname") == login(lab, "cat /etc/hostname") == "kitchen"
    assert login(lab, "sudo -n id -un") == "root"
    assert login(lab, "getent hosts kitchen").split()[0] in ("127.0.1.1", "::1")
    assert login(lab, "readlink /etc/localtime").endswith("Europe/Berlin")
    assert login(lab, "sudo passwd -S omega").split()[1] in ("L", "P", "NP")
    assert login(lab, "sudo getent shadow omega").split(":")[1] in ("!", "*", "!*")
    assert "passwordauthentication no" in login(lab, "sudo sshd -T")
    assert f"via {lab.address(1)}" in login(lab, "ip route show default")
    assert "nameserver" in login(lab, "cat /etc/resolv.conf")


@pytest.mark.parametrize("blank", ["netplan-nm"], indirect=True)
def test_cloud_init_takes_the_files_and_the_board_comes_up_as_the_site_says(blank, tmp_path, wait):
    lab, site, container = blank
    done = firstboot(site, tmp_path / "card")
    assert done.returncode == 0, done.stderr
    place(container, tmp_path / "card")
    for kind, name in (("cloud-config", "user-data"), ("network-config", "network-config")):
        assert "Valid schema" in engine.run(container, f"cloud-init schema -t {kind} -c /boot/firmware/{name}")
    # The image leaves the network to cloud-init; the lab's does not.
    engine.run(container, "sed -i '/^network:/d' /etc/cloud/cloud.cfg.d/99_raspberry-pi.cfg; cloud-init clean --logs")
    engine.run(container, "systemctl reboot", check=False)
    wait("the board at its new address", 180, lambda: login(lab, "cloud-init status --wait >/dev/null; hostname"))
    check_board(lab)
    assert login(lab, "cloud-init status") == "status: done"


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
    engine.run(container, "systemd-run --quiet --wait bash /boot/firmware/firstrun.sh")
    engine.run(container, "systemctl reboot", check=False)
    wait("the board at its new address", 180, lambda: login(lab, "hostname"))
    check_board(lab)
    assert (
        login(lab, "sudo cat /boot/firmware/cmdline.txt") == (card / "cmdline.txt.before-rpiomega").read_text().strip()
    )
    assert login(lab, "ls /boot/firmware/firstrun.sh 2>&1 || true").startswith("ls: cannot access")
    assert login(lab, "id -u") == "1000"
