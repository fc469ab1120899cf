"""What the bootstrap promises of every board."""

import pytest


def test_the_name_is_in_the_hosts_file(host, name):
    assert host.file("/etc/hostname").content_string.strip() == name
    assert any(name in line.split() for line in host.file("/etc/hosts").content_string.splitlines())


def test_cloud_init_leaves_the_name_alone(host):
    if not host.file("/etc/cloud/cloud.cfg").exists:
        pytest.skip("no cloud-init on this board")
    settings = host.check_output("cat /etc/cloud/cloud.cfg.d/*.cfg")
    assert "preserve_hostname: true" in settings


def test_the_kernel_command_line_is_one_line_with_the_memory_cgroup(host):
    paths = ["/boot/firmware/cmdline.txt", "/boot/cmdline.txt"]
    files = [host.file(path) for path in paths if host.file(path).exists]
    if not files:
        pytest.skip("no cmdline.txt on this board")
    lines = files[0].content_string.splitlines()
    assert len(lines) == 1
    assert "cgroup_enable=memory" in lines[0].split()


def test_the_minion_runs_at_every_boot_and_knows_only_its_master(host, site):
    minion = host.service("salt-minion")
    assert minion.is_running
    assert minion.is_enabled
    settings = host.file("/etc/salt/minion.d/rpiomega.conf").content_string
    assert "master_finger:" in settings


def test_only_the_master_runs_a_master(host, node):
    assert host.service("salt-master").is_running == ("master" in node["roles"])
