"""`rpiomega doctor` on virtual Pis that are broken in as many ways as it knows, then repaired."""

import subprocess
import sys

import commands
import pytest
import yaml

from rpiomega.lab import remote

# Each breaks one thing for real on rpiomega-2; `finds` is what the doctor must say of it.
BREAKS = {
    "cmdline": ("printf 'console=tty1 rootwait\\n#root=/dev/mmcblk0p2\\n' > /boot/firmware/cmdline.txt", "error"),
    "machine-id": ("cp /root/other-machine-id /etc/machine-id", "error"),
    "host-key": ("cp /root/other-key.pub /etc/ssh/ssh_host_ed25519_key.pub", "error"),
    "package-source": (
        "echo 'deb http://deb.debian.org/debian nosuchrelease main' > /etc/apt/sources.list.d/broken.list",
        "error",
    ),
    "throttled": ("printf '#!/bin/sh\\necho throttled=0x50005\\n' > /usr/local/bin/vcgencmd", "error"),
    "docker-firewall": ("", "error"),
    "docker-live-restore": (
        "mkdir -p /etc/docker && "
        'echo \'{"firewall-backend": "nftables", "live-restore": true}\' > /etc/docker/daemon.json',
        "error",
    ),
    "vxlan": (
        'printf \'#!/bin/sh\\ncase "$*" in *vxlan*) echo Operation not supported; exit 2;; esac\\n'
        'exec /usr/sbin/ip "$@"\\n\' > /usr/local/sbin/ip',
        "error",
    ),
    "iptables": (
        'printf \'#!/bin/sh\\ncase "$*" in --version) echo iptables v1.8.11 \\(legacy\\);; '
        "*) echo table nat is missing; exit 3;; esac\\n' > /usr/local/sbin/iptables",
        "error",
    ),
    "read-only": ("", "error"),
    "inodes": ("", "error"),
    "space": (
        "mount -t tmpfs -o size=12m,nr_inodes=3 tmpfs /var/lib/docker && touch /var/lib/docker/1 /var/lib/docker/2"
        " && mount -o remount,ro /var/lib/docker",
        "error",
    ),
    "leftover": ("touch /usr/local/bin/k3s", "warning"),
    "minion-id": ("", "error"),
    "minion-master": (
        "touch /usr/local/bin/salt-minion && mkdir -p /etc/salt/minion.d && "
        "printf 'master: 10.9.9.9\\nid: stranger\\n' > /etc/salt/minion.d/old.conf",
        "error",
    ),
    "two-consuls": (
        "printf '[Service]\\nExecStart=/bin/sleep 1\\n' > /etc/systemd/system/consul.service && "
        "systemctl daemon-reload",
        "warning",
    ),
}
MEND = """
printf 'console=tty1 root=/dev/mmcblk0p2 rootwait\\n' > /boot/firmware/cmdline.txt
cp /root/own-machine-id /etc/machine-id; cp /root/own-key.pub /etc/ssh/ssh_host_ed25519_key.pub
umount /var/lib/docker
rm -rf /etc/apt/sources.list.d/broken.list /usr/local/bin/* /usr/local/sbin/ip /usr/local/sbin/iptables
rm -rf /etc/docker /etc/salt /etc/systemd/system/consul.service; systemctl daemon-reload
"""
RULES = {
    ("tcp", 7946): ("-j DROP", "a firewall drops it"),
    ("tcp", 8301): ("-j REJECT --reject-with tcp-reset", "a firewall rejects it"),
    ("udp", 8301): ("-j REJECT", "a firewall rejects it"),
    ("udp", 4789): ("-j DROP", "a firewall drops it"),
    ("udp", 7946): ("-j DROP", "it arrives, and the firewall of rpiomega-2 drops it"),
}
# Holds the port as the real service would, and answers nobody.
BUSY = (
    "systemd-run -q --unit busy python3 -c 'import socket, time; "
    's = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("", 7946)); time.sleep(300)\''
)


@pytest.fixture(scope="module")
def pair(make_lab):
    """Two virtual Pis with the names of the site file."""
    lab = make_lab("doctor", 2)
    for node in lab.node_names():
        root(lab, node, f"echo {node} > /etc/hostname; hostname {node}")
    key = remote.run(lab, "rpiomega-master", "cat /etc/ssh/ssh_host_ed25519_key.pub")
    machine = remote.run(lab, "rpiomega-master", "cat /etc/machine-id")
    root(lab, "rpiomega-2", f"echo '{key}' > /root/other-key.pub; echo {machine} > /root/other-machine-id")
    root(lab, "rpiomega-2", "cp /etc/machine-id /root/own-machine-id")
    root(lab, "rpiomega-2", "cp /etc/ssh/ssh_host_ed25519_key.pub /root/own-key.pub")
    return lab


def root(lab, node, script, check=True):
    """Run a shell script on a node as root."""
    return remote.run(lab, node, remote.quote("sudo", "sh", "-c", script), check=check)


def examine(lab, *arguments, site=None):
    """Run `rpiomega doctor --json`; return its exit code and report."""
    command = [sys.executable, "-m", "rpiomega", "doctor", "--json", "--site", str(site or lab.site_file), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=commands.BOUND, check=False)
    return done.returncode, commands.parsed(done)


def said(report, node="rpiomega-2"):
    """Return check -> severity of what was found on a node."""
    return {found["check"]: found["severity"] for found in report["findings"] if found["node"] == node}


def ports(lab):
    """Return what was found about ports."""
    return [found for found in examine(lab)[1]["findings"] if found["check"] == "port"]


def test_two_boards_in_order_pass_in_a_few_seconds(pair, wait):
    def clean():
        code, report = examine(pair)
        errors = [found for found in report["findings"] if found["severity"] == "error"]
        tries = [try_["result"] for node in report["ports"] for try_ in report["ports"][node]]
        return report if (code, errors, set(tries)) == (0, [], {"open"}) else print(code, errors, tries)

    # On a busy machine its own bounds end what would have come.
    report = wait("two boards in order", 90, clean)
    assert report["seconds"] < 60
    tried = {(node, try_["protocol"], try_["port"], try_["result"]) for node in report["ports"] for try_ in
             report["ports"][node]}  # fmt: skip
    assert {result for *_, result in tried} == {"open"}
    assert ("rpiomega-2", "tcp", 4505, "open") in tried
    assert ("rpiomega-master", "tcp", 4505, "open") not in tried


def test_everything_that_is_broken_is_named(pair):
    for script, _ in BREAKS.values():
        if script:
            root(pair, "rpiomega-2", script)
    root(pair, "rpiomega-2", "chmod 755 /usr/local/bin/* /usr/local/sbin/ip /usr/local/sbin/iptables")
    code, report = examine(pair)
    found = said(report)
    assert {check: found.get(check) for check in BREAKS} == {check: severity for check, (_, severity) in BREAKS.items()}
    assert {"machine-id", "host-key"} <= set(said(report, "rpiomega-master"))
    assert code == 1
    for finding in report["findings"]:
        assert finding["what"] and finding["why"] and finding["cure"]
    root(pair, "rpiomega-2", MEND)
    code, report = examine(pair)
    assert not set(said(report)) & set(BREAKS)


def test_fix_leaves_lines_that_do_not_boot_as_they_are(pair):
    old = "console=tty1 root=/dev/x rootwait\n#console=tty1 root=/dev/old"
    root(pair, "rpiomega-2", f"cat > /boot/firmware/cmdline.txt <<'END'\n{old}\nEND\n")
    _, report = examine(pair, "--fix")
    assert report["fixed"] == {}  # in a container its host decides about the memory cgroup
    assert "cmdline" not in said(report)
    assert remote.run(pair, "rpiomega-2", "cat /boot/firmware/cmdline.txt") == old


def test_every_kind_of_firewall_is_seen_from_the_other_node(pair, wait):
    def every_rule_named():
        code, report = examine(pair)
        found = [found["what"] for found in report["findings"] if found["check"] == "port"]
        named = [
            any(f"at {port}/{protocol}:" in what and reason in what for what in found)
            for (protocol, port), (_, reason) in RULES.items()
        ]
        return (code, len(found), all(named)) == (1, len(RULES), True) or print(code, found)

    def only_the_own_firewall_named():
        found = ports(pair)
        own = [(one["node"], "own firewall" in one["what"]) for one in found]
        return own == [("rpiomega-master", True)] or print(found)

    root(pair, "rpiomega-2", BUSY)
    # As real rule sets do, and so that connections are tracked.
    root(pair, "rpiomega-2", "iptables -I INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT")
    try:
        wait("no port to be in the way", 90, lambda: not ports(pair))
        for (protocol, port), (rule, _) in RULES.items():
            root(pair, "rpiomega-2", f"iptables -A INPUT -p {protocol} --dport {port} {rule}")
        wait("every rule to be named, and nothing else", 90, every_rule_named)
        root(pair, "rpiomega-2", "iptables -F")
        root(pair, "rpiomega-master", "iptables -A OUTPUT -p udp --dport 7946 -j DROP")
        wait("the own firewall of the master to be named, and nothing else", 90, only_the_own_firewall_named)
    finally:
        root(pair, "rpiomega-2", "iptables -F; systemctl stop busy", check=False)
        root(pair, "rpiomega-master", "iptables -F", check=False)


def test_names_resolution_and_address_are_those_of_the_site(pair, tmp_path):
    site = yaml.safe_load(pair.site_file.read_text())
    node = site["rpiomega"]["nodes"]["rpiomega-2"]
    node["host"], node["address"] = pair.leased_address("rpiomega-2"), pair.address(99)
    del site["rpiomega"]["sources"], site["rpiomega"]["consul"]
    (tmp_path / "site.sls").write_text(yaml.safe_dump(site))
    root(pair, "rpiomega-2", "cp /etc/resolv.conf /root; echo nameserver 127.0.0.99 > /etc/resolv.conf")
    try:
        code, report = examine(pair, site=tmp_path / "site.sls")
    finally:
        root(pair, "rpiomega-2", "cat /root/resolv.conf > /etc/resolv.conf")
    assert code == 1
    assert {"dns": "error", "address": "warning"}.items() <= said(report).items()
    assert "127.0.0.99" in next(found["what"] for found in report["findings"] if found["check"] == "dns")


def test_clock_and_memory_cgroup_of_a_board_that_is_no_container(pair):
    root(pair, "rpiomega-2", "mv /run/systemd/container /run/systemd/container.off; mv /.dockerenv /dockerenv.off")
    try:
        found = said(examine(pair)[1])
    finally:
        root(pair, "rpiomega-2", "mv /run/systemd/container.off /run/systemd/container; mv /dockerenv.off /.dockerenv")
    assert found["clock-sync"] == "warning"
    assert found["memory-cgroup"] == "error"


def test_a_node_that_is_down_is_a_finding_and_holds_up_nobody(pair, docker):
    from rpiomega.lab import pi

    container = pi.find(docker, pair, "rpiomega-2")
    pi.kill(container)
    try:
        code, report = examine(pair)
        assert code == 1
        assert said(report) == {"reach": "error"}
        assert "rpiomega-master" in report["facts"]
        assert report["seconds"] < 50, "it waited for the board: others do, for 60 s"
    finally:
        container.start()
        pi.wait_booted(pair, "rpiomega-2", container)
        pi.wait_login(pair, "rpiomega-2")


def test_a_duplicate_name_is_told_of_both(pair):
    root(pair, "rpiomega-2", "echo rpiomega-master > /etc/hostname; hostname rpiomega-master")
    code, report = examine(pair)
    root(pair, "rpiomega-2", "echo rpiomega-2 > /etc/hostname; hostname rpiomega-2")
    assert code == 1
    assert said(report)["unique-name"] == said(report, "rpiomega-master")["unique-name"] == "error"
