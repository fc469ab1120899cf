"""A virtual Pi is what a board with Raspberry Pi OS Lite is, as far as the product can tell."""

import os

from rpiomega.lab import lifecycle, pi, remote


def test_boards_have_one_name_and_an_identity_each(boards):
    names = remote.run_everywhere(boards, "hostname")
    assert set(names.values()) == {"raspberrypi"}
    assert len(set(remote.run_everywhere(boards, "cat /etc/machine-id").values())) == len(names)
    assert len(set(remote.run_everywhere(boards, "cat /etc/ssh/ssh_host_ed25519_key.pub").values())) == len(names)


def test_a_board_brings_no_docker_and_no_salt(boards):
    found = remote.run(boards, "rpiomega-2", "command -v docker dockerd salt-minion salt-call consul b2", check=False)
    assert found == ""


def test_networkmanager_owns_the_network_card(boards):
    shown = remote.run(boards, "rpiomega-2", "nmcli -t -f DEVICE,STATE,CONNECTION device")
    assert "eth0:connected:Wired connection 1" in shown.splitlines()
    routes = remote.run(boards, "rpiomega-2", "ip -4 route show default")
    assert f"via {boards.address(1)} dev eth0 proto dhcp" in routes


def test_names_resolve_and_packages_come_through_the_cache(boards):
    proxy = f"http://{boards.address(3)}:3142"
    shown = remote.run(boards, "rpiomega-2", f"sudo apt-get -o Acquire::http::Proxy={proxy} update", bound=120)
    assert "Err:" not in shown
    assert "Get:" in shown or "Hit:" in shown
    fetch = f"u.urlopen(u.Request('http://{boards.address(3)}:5000/index/pip/', headers={{'Accept': 'text/html'}}))"
    page = remote.run(boards, "rpiomega-2", f'python3 -c "import urllib.request as u; print({fetch}.read())"')
    assert "pip-24.0-py3-none-any.whl" in page


def test_the_firmware_partition_is_where_a_board_has_it(boards):
    line = remote.run(boards, "rpiomega-2", "cat /boot/firmware/cmdline.txt")
    assert "\n" not in line and "root=" in line
    assert "arm_64bit" in remote.run(boards, "rpiomega-2", "cat /boot/firmware/config.txt")


def test_cloud_init_restores_the_name_unless_told_not_to(boards, restart):
    if boards.release != "trixie":
        return  # Raspberry Pi OS bookworm has no cloud-init
    for setting, expected in (("false", "raspberrypi"), ("true", "renamed")):
        remote.run(boards, "rpiomega-2", "sudo hostnamectl set-hostname renamed")
        config = f"echo 'preserve_hostname: {setting}' | sudo tee /etc/cloud/cloud.cfg.d/zz-test.cfg"
        remote.run(boards, "rpiomega-2", config)
        restart("rpiomega-2")
        assert remote.run(boards, "rpiomega-2", "hostname") == expected


def test_power_loss_and_power_on(boards, docker):
    remote.run(boards, "rpiomega-2", "echo kept | sudo tee /root/kept && sync")
    machine_id = remote.run(boards, "rpiomega-2", "cat /etc/machine-id")
    container = pi.find(docker, boards, "rpiomega-2")
    pi.kill(container)
    row = next(row for row in lifecycle.status(docker, boards) if row["node"] == "rpiomega-2")
    assert row["power"] == "off"
    container.start()
    pi.wait_booted(boards, "rpiomega-2", container)
    pi.wait_login(boards, "rpiomega-2")
    assert remote.run(boards, "rpiomega-2", "sudo cat /root/kept; cat /etc/machine-id") == f"kept\n{machine_id}"


def test_up_again_keeps_what_is_there(boards, docker):
    before = {node: pi.find(docker, boards, node).id for node in boards.node_names()}
    lifecycle.up(docker, boards, print)
    assert {node: pi.find(docker, boards, node).id for node in boards.node_names()} == before


def test_down_leaves_nothing(make_lab, docker):
    """Look with other eyes than `lifecycle`: whatever carries the lab's name counts."""
    lab = make_lab("gone", 1)

    def traces():
        found = [c.name for c in docker.containers.list(all=True, ignore_removed=True)] + [
            v.name for v in docker.volumes.list()
        ]
        found += [n.name for n in docker.networks.list()]
        return [name for name in found if "rpiomega-gone" in name] + [str(lab.folder)] * lab.folder.exists()

    assert len(traces()) == 3 + 2 + 1 + 1  # node, router and vendor's repository, two disks, network, folder
    node = pi.find(docker, lab, "rpiomega-master")
    assert _cgroup_folders(node.id)
    lifecycle.down(docker, "gone")
    assert traces() == []
    assert _cgroup_folders(node.id) == []


def _cgroup_folders(container):
    """The cgroup2 folders of a container, or of a lab where the container runtime makes none of its own."""
    with open("/proc/mounts") as mounts:
        roots = [line.split()[1] for line in mounts if line.split()[2] == "cgroup2"]
    folders = [folder for root in roots for folder, _, _ in os.walk(root)]
    return [folder for folder in folders if container in folder or folder.endswith("rpiomega-lab/gone")]


def test_disks_of_nodes_that_were_removed_by_hand_go_with_the_lab(docker):
    docker.volumes.create("rpiomega-gone-rpiomega-2-var-lib-docker")
    docker.volumes.create("rpiomega-gone2-rpiomega-2-var-lib-docker")
    try:
        assert "volume rpiomega-gone-rpiomega-2-var-lib-docker" in lifecycle.down(docker, "gone")
        assert lifecycle.leftovers(docker, "gone") == []
        assert lifecycle.leftovers(docker, "gone2") == ["volume rpiomega-gone2-rpiomega-2-var-lib-docker"]
    finally:
        lifecycle.down(docker, "gone2")


def test_a_new_board_does_not_find_the_disk_of_another_that_was_removed_by_hand(docker, boards):
    lost = pi.find(docker, boards, "rpiomega-2")
    disk = docker.volumes.get(f"{lost.name}-var-lib-docker")
    lost.remove(force=True)
    try:
        pi._create(docker, boards, "rpiomega-2", lost.attrs["Config"]["Image"])
        assert docker.volumes.get(disk.name).attrs["CreatedAt"] != disk.attrs["CreatedAt"]
    finally:
        lifecycle.up(docker, boards, print)
