"""A board's address: refused, taken back, lost with the power, and moved - on virtual Pis of every network stack.

`make test` takes NetworkManager on trixie, `make lab-stacks` all. RPIOMEGA_STACKS: "stack-release ..." or "all".
"""

import ipaddress
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from rpiomega import agent, move, site
from rpiomega.lab import engine, image, lifecycle, pi, state
from rpiomega.ssh import Pool, Settings

pytestmark = pytest.mark.slow
NODE = "rpiomega-master"
ROLLBACK = 20


def _chosen():
    every = [f"{stack}-{release}" for release in image.RELEASES for stack in image.STACKS]
    asked = os.environ.get("RPIOMEGA_STACKS", "networkmanager-trixie")
    return every if asked == "all" else asked.split()


class Board:
    """A virtual Pi fresh from the card, and the command that gives it its address."""

    def __init__(self, lab, container, router):
        self.lab, self.container, self.router = lab, container, router
        self.leased, self.address = lab.leased_address(NODE), lab.node_address(NODE)
        self.host = self.leased
        self.site = lab.folder / "static.sls"

    def write_site(self, interface="", **network):
        content = yaml.safe_load(self.lab.site_file.read_text())
        content["rpiomega"].pop("consul", None)
        content["rpiomega"]["nodes"][NODE].update(host=self.host, address=self.address)
        if interface:
            content["rpiomega"]["nodes"][NODE]["interface"] = interface
        content["rpiomega"]["network"].update({"rollback": ROLLBACK, **network})
        self.site.write_text(yaml.safe_dump(content))

    def start(self, *arguments, **network):
        """Start `rpiomega address` with a site file that has the given values in section network."""
        self.write_site(**network)
        line = [sys.executable, "-m", "rpiomega", "address", "--site", str(self.site), "--wait", "20"]
        line += ["--log-dir", str(self.lab.folder / "logs"), *arguments]
        return subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def run(self, *arguments, **network):
        """Run it; return exit code and output."""
        process = self.start(*arguments, **network)
        output, _ = process.communicate(timeout=400)
        return process.returncode, output

    def has(self):
        """Return the IPv4 addresses of eth0."""
        shown = engine.run(self.container, "ip -4 -o addr show dev eth0 scope global", check=False)
        return [word.partition("/")[0] for word in shown.split() if "/" in word]

    def files(self):
        """Return the sum of all files below /etc, and what waits for a confirmation. One line: long ones get cut."""
        etc = "find /etc -type f -not -name .pwd.lock -print0 | sort -z | xargs -0 sha256sum | sha256sum"
        return engine.run(self.container, f"{etc}; find /var/lib/rpiomega -name pending.json 2>/dev/null || true")

    def hide(self, hidden=True):
        """Let nothing reach the new address: a firewall, a switch port, a wrong VLAN."""
        engine.run(self.container, f"iptables {'-I' if hidden else '-D'} INPUT -d {self.address} -p tcp -j DROP")


@pytest.fixture(scope="module", params=_chosen())
def board(request):
    """One virtual Pi of a stack and release."""
    stack, _, release = request.param.rpartition("-")
    name = f"s{stack.replace('-', '')[:13]}{release[0]}"
    docker = engine.connect()
    lifecycle.down(docker, name)
    lab = lifecycle.up(docker, state.Lab(name, release, 1, stack=stack), print)
    try:
        router = docker.containers.get(f"{lab.network}-router")
        yield Board(lab, pi.find(docker, lab, NODE), router)
    finally:
        if not os.environ.get("RPIOMEGA_KEEP_LAB"):
            lifecycle.down(docker, name)


@pytest.fixture
def untouched(board):
    """The test must leave the board as it was, at the address it had."""
    before = board.files()
    yield
    assert board.has() == [board.leased]
    assert board.files() == before


def _wait(what, look, bound):
    deadline = time.monotonic() + bound
    while not look():
        assert time.monotonic() < deadline, f"waited {bound} s for {what}"
        time.sleep(0.3)


def test_a_dry_run_shows_the_diff_and_touches_nothing(board, untouched):
    code, output = board.run("--dry-run")
    assert code == 0, output
    assert f"{board.leased}/24 (DHCP) -> {board.address}/24" in output
    assert any(line.startswith("+") and board.address in line for line in output.splitlines())


def test_an_address_in_use_is_refused(board, untouched):
    engine.run(board.router, f"ip addr add {board.address}/24 dev eth0")
    try:
        code, output = board.run()
    finally:
        engine.run(board.router, f"ip addr del {board.address}/24 dev eth0")
    assert code == 1
    owner = engine.run(board.router, "cat /sys/class/net/eth0/address")
    assert f"{board.address} is in use already, by {owner}" in output


def test_a_gateway_that_nobody_is_is_refused(board, untouched):
    code, output = board.run(gateway=board.lab.address(250))
    assert code == 1
    assert f"nothing answers for the gateway {board.lab.address(250)}" in output
    assert f"the board uses {board.lab.address(1)} now" in output


def test_another_prefix_than_the_network_has_is_refused(board, untouched):
    code, output = board.run(prefix=25)
    assert code == 1
    assert "DHCP server says /24, the site file says /25" in output


def test_a_gateway_outside_the_network_never_reaches_a_board(board, untouched):
    code, output = board.run(gateway=str(ipaddress.ip_address(board.lab.address(1)) + 256))
    assert code == 2
    assert "rpiomega.network.gateway" in output


def test_an_unreachable_address_is_taken_back_within_the_bound(board, untouched):
    board.hide()
    began = time.monotonic()
    try:
        code, output = board.run()
    finally:
        board.hide(False)
    took = time.monotonic() - began
    assert code == 1
    assert f"the board went back to {board.leased} by itself" in output
    assert f"nobody confirmed the new address within {ROLLBACK} s" in output
    assert "on the way back" not in output
    assert took < ROLLBACK + move.UNDO
    assert board.address not in board.lab.known_hosts.read_text()


def test_a_power_cut_before_the_confirmation_starts_with_the_old_address(board, untouched):
    board.hide()
    process = board.start(rollback=300)
    try:
        _wait("the new address on the board", lambda: board.has() == [board.address], 60)
        pi.kill(board.container)
    finally:
        process.terminate()
        process.communicate(timeout=60)
    board.container.start()
    pi.wait_booted(board.lab, NODE, board.container)
    pi.wait_login(board.lab, NODE)
    why = engine.run(board.container, "cat /var/lib/rpiomega/network/outcome.json")
    assert "lost power" in why
    assert "guard" not in engine.run(board.container, "ls /etc/systemd/system")


def test_the_next_run_moves_the_board_and_a_reboot_keeps_it(board):
    code, output = board.run("--reboot")
    assert code == 0, output
    assert f"address {board.leased} -> {board.address}" in output
    assert board.has() == [board.address]
    assert engine.run(board.container, "hostname") == NODE
    assert "guard" not in engine.run(board.container, "ls /etc/systemd/system")
    routes = engine.run(board.container, "ip route show default")
    assert routes.startswith(f"default via {board.lab.address(1)} dev eth0") and len(routes.splitlines()) == 1
    assert engine.run(board.container, "getent ahostsv4 deb.debian.org", check=False), "no DNS"
    assert board.address in board.lab.known_hosts.read_text()


def test_a_second_run_changes_nothing(board):
    before = board.files()
    began = time.monotonic()
    code, output = board.run()
    assert code == 0 and "changed" not in output, output
    assert time.monotonic() - began < 120
    assert board.files() == before


def test_a_run_that_died_before_its_confirmation_is_finished_by_the_next(board):
    was, board.address = board.address, board.lab.address(150)
    board.host = was
    board.hide()
    process = board.start(rollback=300)
    try:
        _wait("the new address on the board", lambda: board.has() == [board.address], 60)
    finally:
        process.kill()
        process.communicate(timeout=60)
        board.hide(False)
    assert "pending" in engine.run(board.container, "ls /var/lib/rpiomega/network")
    code, output = board.run()
    assert code == 0, output
    assert board.has() == [board.address] != [was]
    assert not engine.run(board.container, "ls /var/lib/rpiomega/network | grep pending || true")


def test_a_change_that_was_never_set_off_is_taken_back_by_the_next_run(board):
    board.host, board.address = board.address, board.lab.address(151)
    board.write_site(rollback=300)
    found = site.load(board.site)
    users = found.users
    with Pool(Settings(users.admin, identity=Path(users.identity), known_hosts=Path(users.known_hosts))) as pool:
        connection = pool.remote([board.host])
        connection.connect(20)
        agent.run(connection, [move.step(found, found.nodes[NODE], board.site.parent)], lambda event: None)
    assert "pending" in engine.run(board.container, "ls /var/lib/rpiomega/network")
    assert board.has() == [board.host]
    code, output = board.run()
    assert code == 0, output
    assert board.has() == [board.address]
    assert "pending" not in engine.run(board.container, "ls /var/lib/rpiomega/network")


# What an owner may have written by hand, and how it is made effective: an address and gateway of the lab's network, and
# beside them an MTU, an address and a route of another network. {own}, {gateway}: the addresses.
NETPLAN = """rm /etc/netplan/*; umask 077; cat > /etc/netplan/99_mine.yaml <<'YAML'
# my own words
network:
  version: 2
  renderer: {renderer}
  ethernets:
    eth0:
      mtu: 1400
      addresses: [{own}/24, 198.51.100.77/24]
      nameservers: {{addresses: [{gateway}], search: [home.arpa]}}
      routes: [{{to: 0.0.0.0/0, via: {gateway}}}, {{to: 10.99.0.0/16, via: {gateway}}}]
YAML
netplan generate
"""
OWNERS = {
    "netplan": NETPLAN + "networkctl reload; networkctl reconfigure eth0",
    "netplan-nm": NETPLAN + "nmcli connection reload; nmcli connection up netplan-eth0",
    "networkmanager": """nmcli connection add type ethernet ifname eth0 con-name mine 802-3-ethernet.mtu 1400 \\
  ipv4.method manual ipv4.addresses {own}/24,198.51.100.77/24 ipv4.gateway {gateway} ipv4.dns {gateway} \\
  ipv4.routes '10.99.0.0/16 {gateway}'
nmcli connection delete rpiomega-eth0; nmcli connection up mine""",
    "networkd": """rm /etc/systemd/network/*rpiomega*
cat > /etc/systemd/network/05-mine.network <<'UNIT'
[Match]
Name=e*
[Link]
MTUBytes=1400
[Network]
Address={own}/24
Address=198.51.100.77/24
Gateway={gateway}
DNS={gateway}
UNIT
mkdir -p /etc/systemd/network/05-mine.network.d
printf '[Route]\\nDestination=10.99.0.0/16\\nGateway={gateway}\\n' > /etc/systemd/network/05-mine.network.d/route.conf
networkctl reload; networkctl reconfigure eth0""",
    "dhcpcd": """sed -i '/rpiomega: begin/,/rpiomega: end/d' /etc/dhcpcd.conf
printf 'interface eth0\\nstatic ip_address={own}/24\\nstatic routers={gateway}\\n' >> /etc/dhcpcd.conf
printf 'static domain_name_servers={gateway}\\nstatic interface_mtu=1400\\n' >> /etc/dhcpcd.conf
systemctl stop dhcpcd; ip addr flush dev eth0; systemctl start dhcpcd""",
}


def test_what_the_owner_has_beside_the_address_stays(board):
    own, gateway, stack = board.lab.address(140), board.lab.address(1), board.lab.stack
    renderer = "NetworkManager" if stack == "netplan-nm" else "networkd"
    engine.run(board.container, OWNERS[stack].format(own=own, gateway=gateway, renderer=renderer))
    _wait("the owner's address", lambda: own in board.has() and board.address not in board.has(), 60)
    board.host, board.address = own, board.lab.address(149)
    code, output = board.run("--reboot")
    assert code == 0, output
    assert board.address in board.has() and own not in board.has()
    routes = engine.run(board.container, "ip route show")
    assert routes.count("default") == 1
    if stack == "dhcpcd":  # which keeps one address, and gives the MTU to its routes
        assert "mtu 1400" in routes
    else:
        assert engine.run(board.container, "cat /sys/class/net/eth0/mtu").strip() == "1400"
        _wait("the owner's second address", lambda: "198.51.100.77" in board.has(), 30)
        assert "10.99.0.0/16" in engine.run(board.container, "ip route show")
    if stack.startswith("netplan"):
        assert "my own words" in engine.run(board.container, "cat /etc/netplan/99_mine.yaml.before-rpiomega")
    code, output = board.run()
    assert code == 0 and "changed" not in output, output


def test_a_bridge_and_its_port_are_refused_and_named(board):
    if board.lab.stack != "networkmanager":
        pytest.skip("what kind of device it is does not depend on the stack")
    board.host = board.address
    # NetworkManager would configure the port as an Ethernet of its own, and take it out of the bridge.
    make = "ip link add br9 type bridge; ip link add dm9 type veth peer name dm8; sleep 1; "
    make += "nmcli device set dm9 managed no; ip link set dm9 master br9"
    engine.run(board.container, make)
    before = board.files()
    for interface, why in (("br9", "br9 is a bridge (on dm9)"), ("dm9", "dm9 is a port of br9")):
        code, output = board.run(interface=interface)
        assert code == 1 and why in output, output
        assert board.files() == before
    engine.run(board.container, "ip link del br9; ip link del dm9")


def test_no_key_of_the_wifi_is_ever_shown(board):
    """The key goes to the board on standard input, and into a file of mode 0600; eth0 has no use for it."""
    secret = board.lab.folder / "wifi"
    secret.write_text("correct horse battery\n")
    secret.chmod(0o644)
    code, output = board.run(wifi={"ssid": "home", "country": "GB", "secret_file": str(secret)})
    assert code == 1 and "can be read by others" in output
    secret.chmod(0o600)
    code, output = board.run("--dry-run", wifi={"ssid": "home", "country": "GB", "secret_file": str(secret)})
    assert code == 0, output
    logs = (board.lab.folder / "logs" / f"{NODE}.log").read_text()
    assert "correct horse" not in output + logs and "psk" not in output + logs
