"""What the bootstrap sets up on every board."""

import pytest

from rpiomega.node import firmware, kernel_line

MINION = "rpiomega bootstrap {node}, or on the node: sudo systemctl enable --now salt-minion"
MASTER = "on the master: sudo systemctl start salt-master; elsewhere: sudo systemctl disable --now salt-master"


def content(host, path):
    """Return a file's text; fail in words if it is not there."""
    file = host.file(path)
    assert file.exists, f"{path} is not there"
    return file.content_string


def test_the_node_has_its_name(host, name):
    own, kept = host.check_output("hostname"), content(host, "/etc/hostname").strip()
    assert own == name, f"it calls itself {own}"
    assert kept == name, f"/etc/hostname says {kept}"


def test_every_node_is_in_the_hosts_file(host, name, site):
    lines = [line.partition("#")[0].split() for line in content(host, "/etc/hosts").splitlines()]
    for other, entry in site["nodes"].items():
        address = "127.0.1.1" if other == name else entry["address"]
        found = any(line[:1] == [address] and other in line[1:] for line in lines)
        assert found, f"/etc/hosts does not say that {other} is {address}"


def test_cloud_init_leaves_the_name_alone(host):
    if not host.file("/etc/cloud/cloud.cfg").exists:
        pytest.skip("no cloud-init on this board")
    settings = host.run("cat /etc/cloud/cloud.cfg.d/*.cfg").stdout
    assert "preserve_hostname: true" in settings, "nothing in /etc/cloud/cloud.cfg.d says preserve_hostname: true"


def test_the_kernel_command_line_has_a_root_and_the_memory_cgroup(host):
    folder = next((path for path in ("/boot/firmware", "/boot") if host.file(f"{path}/cmdline.txt").exists), None)
    if not folder:
        pytest.skip("no cmdline.txt on this board")

    def read(name):
        return content(host, f"{folder}/{name}") if host.file(f"{folder}/{name}").is_file else None

    for name in firmware.command_lines(read, host.run("cat /proc/device-tree/model").stdout.rstrip("\0")):
        words = kernel_line.words(kernel_line.split(read(name))[1])
        assert any(word.startswith("root=") for word in words), f"the first line of {folder}/{name} names no root"
        assert kernel_line.holds(words, "cgroup_enable=memory"), f"{folder}/{name} does not say cgroup_enable=memory"


def test_the_node_keeps_its_address(host, node, site):
    if not site["network"]["manage"]:
        pytest.skip("the site leaves addresses to its DHCP server")
    wanted = f"{node['address']}/{site['network']['prefix']}"
    found = [line.split()[3] for line in host.check_output("ip -o -4 address").splitlines()]
    assert wanted in found, f"no interface has {wanted}; there are {', '.join(found)}"


def test_apt_asks_the_sites_cache(host, site):
    if not site["sources"]["apt_proxy"]:
        pytest.skip("the site names no cache")
    found = host.check_output("apt-config dump Acquire::http::Proxy")
    assert f'"{site["sources"]["apt_proxy"]}"' in found, f"apt's proxy is {found.partition(' ')[2] or 'none'}"


def test_the_time_zone_is_the_sites(host, site):
    if not site["system"]["timezone"]:
        pytest.skip("the site leaves it as it is")
    found = host.check_output("readlink -f /etc/localtime").partition("/zoneinfo/")[2]
    assert found == site["system"]["timezone"], f"it is {found}"


def test_nobody_logs_in_with_a_password(host, site):
    if site["system"]["ssh_passwords"] != "off":
        pytest.skip("the site leaves it as it is")
    found = host.check_output("sshd -T").splitlines()
    assert "passwordauthentication no" in found, "sshd takes passwords"


@pytest.mark.cure(MINION)
def test_the_minion_runs_at_every_boot(host):
    minion = host.service("salt-minion")
    assert minion.is_running, "salt-minion is not running"
    assert minion.is_enabled, "salt-minion is not enabled"


def test_the_minion_obeys_only_its_master(host):
    settings = content(host, "/etc/salt/minion.d/rpiomega.conf")
    assert "master_finger: '" in settings, "the master's fingerprint is not in /etc/salt/minion.d/rpiomega.conf"


@pytest.mark.cure(MASTER)
def test_the_master_and_no_other_runs_a_salt_master(host, node):
    runs = host.service("salt-master").is_running
    assert runs == ("master" in node["roles"]), f"salt-master is {'running' if runs else 'not running'}"
