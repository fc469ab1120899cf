"""What a host must have before it is taken into a swarm (F43, F44), on trees of files as the kernel shows them."""

import os
import socket
import subprocess
from pathlib import Path

import pytest

from omega.swarm.api import Local, local_of
from omega.swarm.certificate import autolocked
from omega.swarm.check import (
    address_towards,
    answering,
    has_address,
    host_problems,
    manager_unreachable,
    not_dialable,
    split,
    unreachable,
)

RELEASE = os.uname().release


def modules(root, name, text):
    folder = root / "lib/modules" / RELEASE
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(text)


def test_f44_a_kernel_without_vxlan_is_refused_with_the_cure(tmp_path):
    modules(tmp_path, "modules.dep", "kernel/net/bridge/bridge.ko.xz:\n")
    problems, _ = host_problems(Local(), root=str(tmp_path))
    assert len(problems) == 1
    assert "linux-modules-extra-raspi" in problems[0]
    assert "reboot" in problems[0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("modules.dep", "kernel/drivers/net/vxlan/vxlan.ko.xz: kernel/net/ipv4/udp_tunnel.ko.xz\n"),
        ("modules.builtin", "kernel/drivers/net/vxlan/vxlan.ko\n"),
    ],
)
def test_vxlan_is_found_as_a_module_and_built_in(tmp_path, name, text):
    modules(tmp_path, name, text)
    assert host_problems(Local(), root=str(tmp_path)) == ([], [])


def test_vxlan_that_is_in_use_needs_no_module_list(tmp_path):
    modules(tmp_path, "modules.dep", "")
    (tmp_path / "sys/module/vxlan").mkdir(parents=True)
    assert host_problems(Local(), root=str(tmp_path))[0] == []


def test_a_host_whose_modules_are_not_to_be_seen_is_not_refused(tmp_path):
    assert host_problems(Local(), root=str(tmp_path))[0] == []


def test_f44_a_missing_memory_cgroup_is_a_warning_with_the_flags(tmp_path):
    local = local_of({"MemoryLimit": False, "Swarm": {}}, {})
    problems, warnings = host_problems(local, root=str(tmp_path))
    assert problems == []
    assert "cgroup_enable=memory cgroup_memory=1" in warnings[0]
    assert "reboot" in warnings[0]


def test_f43_the_nftables_backend_is_refused(tmp_path):
    local = local_of({"FirewallBackend": {"Driver": "nftables"}, "Swarm": {}}, {})
    assert "Swarm needs the iptables backend" in host_problems(local, root=str(tmp_path))[0][0]
    local = local_of({"FirewallBackend": {"Driver": "iptables"}, "Swarm": {}}, {})
    assert host_problems(local, root=str(tmp_path))[0] == []


def test_f43_the_nftables_backend_is_refused_before_docker_has_read_it(tmp_path):
    (tmp_path / "etc/docker").mkdir(parents=True)
    (tmp_path / "etc/docker/daemon.json").write_text('{"firewall-backend": "nftables"}')
    assert "Swarm needs the iptables backend" in host_problems(Local(), root=str(tmp_path))[0][0]
    (tmp_path / "etc/docker/daemon.json").write_text('{"firewall-backend": "iptables"}')
    assert host_problems(Local(), root=str(tmp_path))[0] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_f42_a_disk_that_runs_full_is_refused(tmp_path):
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", tmp_path], check=True)
    try:
        local = Local(data_root=str(tmp_path))
        assert host_problems(local, 7)[0] == []
        (tmp_path / "layer").write_bytes(bytes(3 * 2**20))
        assert "only 5 MiB are free" in host_problems(local, 7)[0][0]
    finally:
        subprocess.run(["umount", tmp_path], check=True)


def test_a_node_that_can_be_dialled_needs_no_listener_on_the_swarm_port():
    host = f"127.98.{os.getpid() % 256}.{os.getpid() // 256 % 254 + 1}"  # elsewhere somebody may have the port
    with socket.create_server((host, 7946)):
        assert not_dialable({"pi2": f"{host}:1"}) == {"pi2": ""}
    assert f"{host}:7946/tcp refused" in not_dialable({"pi2": f"{host}:1"})["pi2"]


@pytest.mark.parametrize(
    ("host", "expected"), [("127.0.0.1", True), ("198.51.100.7", False), ("eth0", None), ("", None)]
)
def test_an_address_is_this_hosts_or_not(host, expected):
    assert has_address(host) is expected


def test_an_ipv6_address_is_this_hosts_where_it_has_one():
    addresses = Path("/proc/net/if_inet6")
    assert has_address("::1") is (addresses.exists() and f"{1:032x}" in addresses.read_text())


def test_the_address_towards_a_host_is_one_of_ours():
    assert has_address(address_towards("127.0.0.1")) is True


@pytest.mark.parametrize(
    ("label", "expected"), [("PRIVATE KEY", False), ("ENCRYPTED PRIVATE KEY", True), ("", None), (None, None)]
)
def test_autolock_is_read_from_the_label_of_the_key(tmp_path, label, expected):
    (tmp_path / "swarm/certificates").mkdir(parents=True)
    if label is not None:
        (tmp_path / "swarm/certificates/swarm-node.key").write_text(f"-----BEGIN {label}-----\n" if label else "")
    assert autolocked(str(tmp_path)) is expected


def test_a_port_is_open_or_named_with_the_reason():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert unreachable("127.0.0.1", port) == ""
        assert answering({"pi1": f"127.0.0.1:{port}", "pi2": "127.0.0.1:1"}) == ("pi1",)
        assert "127.0.0.1:7946/tcp refused" in manager_unreachable(f"127.0.0.1:{port}")
    assert f"127.0.0.1:{port}/tcp refused the connection" in unreachable("127.0.0.1", port)


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("192.0.2.1", ("192.0.2.1", 2377)),
        ("192.0.2.1:2400", ("192.0.2.1", 2400)),
        ("fd00::1", ("fd00::1", 2377)),
        ("[fd00::1]:2400", ("fd00::1", 2400)),
    ],
)
def test_addresses_carry_their_port_or_the_default(address, expected):
    assert split(address) == expected
