"""Which machine is a node: several real SSH servers, each with its own host key, boot and mark."""

import getpass
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from rpiomega import reach
from rpiomega.site import Site
from rpiomega.ssh import Settings, SshError

HOST, ADDRESS, OTHER = "127.0.0.57", "127.0.0.58", "127.0.0.59"


def site(host=HOST, address=ADDRESS, **more):
    """Return a site whose node pi-1 is at `host` now; `more`: other nodes."""
    nodes = {"pi-1": {"host": host, "address": address, "roles": ["master", "manager"]}, **more}
    return Site.model_validate(
        {"cluster": "home", "nodes": {name: {**node, "name": name} for name, node in nodes.items()}}
    )


@pytest.fixture
def login(tmp_path, pool):
    """Give a function that returns a node's connection; `said` on it: what the user is warned of."""

    def make(server, made=None, node="pi-1", config="", any_mark=False, **settings):
        path = tmp_path / "config"
        path.write_text(config)
        values = {
            "user": getpass.getuser(),
            "port": server.port,
            "identity": server.folder / "key",
            "known_hosts": tmp_path / "known hosts",
            "config": path,
        } | settings
        said = []
        made = made or site()
        board = reach.board(pool(Settings(**values), warn=said.append), made, made.nodes[node], any_mark=any_mark)
        board.said = said
        return board

    return make


def refused(board):
    """Return the error a connection ends in."""
    with pytest.raises(SshError) as caught:
        board.connect(0)
    return caught.value


def finger(server):
    """Return the fingerprint of a server's host key."""
    line = ["ssh-keygen", "-l", "-f", server.folder / "host.pub"]
    return subprocess.run(line, capture_output=True, text=True, check=True).stdout.split()[1]


def know(tmp_path, server, *names):
    """Write a server's host key down, as earlier connections do."""
    key = (server.folder / "host.pub").read_text()
    with (tmp_path / "known hosts").open("a") as stream:
        stream.writelines(f"[{name}]:{server.port} {key}" for name in names)


@pytest.mark.parametrize("known", ["nothing", "other", "both"])
@pytest.mark.parametrize("config", ["", "Host *\n UserKnownHostsFile /dev/null\n StrictHostKeyChecking no\n"])
def test_another_machine_at_the_future_address_is_not_worked_on(machines, login, tmp_path, known, config):
    fresh, pihole = machines("fresh", HOST), machines("pihole", ADDRESS)
    if known != "nothing":
        know(tmp_path, pihole, ADDRESS)
    if known == "both":
        know(tmp_path, fresh, HOST)
    board = login(fresh, config=config, **({"known_hosts": None} if config else {}))
    error = refused(board)
    assert error.kind == "identity"
    assert error.cause == f"{ADDRESS} is in use by another machine (host key {finger(pihole)})"
    assert "give pi-1 an address that nobody has" in error.cure
    assert board.at == ""
    if config:
        assert any("keeps no host keys of" in line for line in board.said)


def test_the_machine_at_its_future_address_is_the_node_by_its_host_key(machines, login, tmp_path):
    server = machines("pi", HOST, ADDRESS)
    assert login(server).connect(0) == ADDRESS
    know(tmp_path, server, ADDRESS)
    assert login(server).connect(0) == ADDRESS


def test_the_host_key_proves_it_too_where_host_is_gone(machines, login, tmp_path):
    server = machines("pi", ADDRESS)
    know(tmp_path, server, HOST)
    assert login(server).connect(0) == ADDRESS


def test_a_free_address_leaves_the_host(machines, login):
    server = machines("pi", HOST)
    assert login(server).connect(0) == HOST


def test_the_mark_of_this_site_and_node_is_enough(machines, login):
    server = machines("pi", ADDRESS, mark=("home", "pi-1"))
    assert login(server).connect(0) == ADDRESS


@pytest.mark.parametrize("mark", [("home", "pi-2"), ("elsewhere", "pi-1"), None])
def test_another_mark_or_none_is_not(machines, login, mark):
    server = machines("other", ADDRESS, mark=mark)
    error = refused(login(server))
    assert error.kind == "identity"
    assert f"a machine that is not known to be pi-1 (host key {finger(server)})" in error.cause
    assert f"delete `host: {HOST}`" in error.cure


def test_the_next_fresh_board_under_the_old_name_is_not_the_node(machines, login):
    machines("fresh", HOST)
    board = login(machines("pi", ADDRESS, mark=("home", "pi-1")))
    assert board.connect(0) == ADDRESS
    assert board.said == [f"{HOST} is another machine now than pi-1: delete its `host`"]


def test_shifted_addresses_reach_two_boards(machines, login, tmp_path):
    first, second = machines("first", HOST), machines("second", ADDRESS, mark=("home", "pi-2"))
    know(tmp_path, first, HOST)
    know(tmp_path, second, ADDRESS)
    made = site(**{"pi-2": {"host": ADDRESS, "address": OTHER, "roles": ["worker"]}})
    neighbour = login(second, made, "pi-2")
    assert neighbour.connect(0) == ADDRESS  # its open connection proves nothing about pi-1
    error = refused(reach.board(neighbour.pool, made, made.nodes["pi-1"]))
    assert error.cause == f"{ADDRESS} is in use by pi-2 (host key {finger(second)})"


def test_a_copied_card_at_the_future_address_is_another_machine(machines, login, tmp_path):
    first = machines("first", HOST)
    machines("copy", ADDRESS, like=first)
    know(tmp_path, first, HOST)
    assert refused(login(first)).kind == "identity"


def test_one_alias_for_many_boards_is_no_identity(machines, login, tmp_path):
    first, second = machines("first", HOST), machines("second", ADDRESS)
    with (tmp_path / "known hosts").open("w") as stream:
        stream.writelines(f"pis {(server.folder / 'host.pub').read_text()}" for server in (first, second))
    assert refused(login(first, config="HostKeyAlias pis\n")).kind == "identity"


def test_a_board_written_anew_at_its_address_says_how_to_forget_it(machines, login, tmp_path):
    server = machines("pi", HOST, ADDRESS)
    know(tmp_path, server, HOST, ADDRESS)
    server.stop()
    server.new_host_key()
    server.start()
    error = refused(login(server))
    assert error.kind == "host key"
    for name in (HOST, ADDRESS):
        subprocess.run(
            ["ssh-keygen", "-R", f"[{name}]:{server.port}", "-f", tmp_path / "known hosts"],
            check=True,
            capture_output=True,
        )
    assert login(server).connect(0) == ADDRESS


def test_without_host_a_board_with_the_mark_of_another_node_is_refused(machines, login):
    server = machines("pi", ADDRESS, mark=("home", "pi-2"))
    made = site(host="", **{"pi-2": {"address": OTHER, "roles": ["worker"]}})
    error = refused(login(server, made))
    assert error.cause == f"{ADDRESS} is pi-2, not pi-1"
    assert login(server, made, any_mark=True).connect(0) == ADDRESS


def test_strict_checking_of_the_owner_stays(machines, login):
    server = machines("pi", HOST)
    error = refused(login(server, config="StrictHostKeyChecking yes\n"))
    assert error.kind == "host key"
    assert "ssh_config asks for strict checking" in error.cause


def test_port_key_and_proxy_of_an_alias_go_along_to_the_address(machines, login, tmp_path):
    server = machines("pi", HOST, ADDRESS)
    jumped = tmp_path / "jumped"
    proxy = f"{sys.executable} -c 'import sys; open(sys.argv[1], \"a\").write(sys.argv[2] + chr(10))' {jumped} %h; "
    config = (
        f"Host pi1\n HostName {HOST}\n Port {server.port}\n IdentityFile {server.folder}/key\n"
        f' ProxyCommand sh -c "{proxy.replace(chr(34), chr(92) + chr(34))}exec {dial(server)} %h %p"\n'
    )
    board = login(server, site(host="pi1"), config=config, port=22, identity=None)
    assert board.connect(0) == ADDRESS
    assert ADDRESS in jumped.read_text().split()
    assert board.run("echo here").stdout == b"here\n"


def dial(server):
    """Return a command that connects its input and output with an address and a port."""
    script = server.folder / "dial.py"
    script.write_text(
        "import os, select, socket, sys\n"
        "link = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "while True:\n"
        "    for end in select.select([link, 0], [], [])[0]:\n"
        "        data = link.recv(65536) if end is link else os.read(0, 65536)\n"
        "        if not data:\n"
        "            sys.exit()\n"
        "        os.write(1, data) if end is link else link.sendall(data)\n"
    )
    return f"{sys.executable} {script}"


def test_a_jump_host_goes_along_too(machines, login):
    server, jump = machines("pi", HOST, ADDRESS), machines("jump", OTHER)
    login_lines = f" IdentityFile {server.folder}/key\n UserKnownHostsFile /dev/null\n StrictHostKeyChecking no\n"
    config = (
        f"Host jump\n HostName {OTHER}\n Port {jump.port}\n{login_lines}"
        f"Host pi1\n HostName {HOST}\n Port {server.port}\n ProxyJump jump\n"
    )
    board = login(server, site(host="pi1"), config=config, port=22)
    assert board.connect(0) == ADDRESS
    assert (
        "proxyjump jump"
        in subprocess.run(
            [*board.argv()[:1], "-G", *board.argv()[1:]], capture_output=True, text=True, check=True
        ).stdout
    )


def test_a_proxy_to_one_machine_is_not_taken_for_the_address(machines, login):
    server = machines("pi", HOST)
    config = f"Host pi1\n ProxyCommand {dial(server)} {HOST} {server.port}\n"
    board = login(server, site(host="pi1"), config=config)
    assert board.connect(0) == "pi1"
    assert board.via == {}


INTERACTIVE = {
    "a program at login": "RemoteCommand /bin/false\n RequestTTY force",
    "a program here": "PermitLocalCommand yes\n LocalCommand touch {folder}/escaped",
    "a forwarded port that is taken": "LocalForward {port} localhost:22\n ExitOnForwardFailure yes",
    "a forwarded port there": "RemoteForward {port} localhost:22\n ExitOnForwardFailure yes",
    "a shared connection of the owner": "ControlMaster yes\n ControlPath {folder}/owner\n ControlPersist yes",
    "no input": "StdinNull yes",
    "the background": "ForkAfterAuthentication yes",
    "no session": "SessionType none",
    "a tunnel": "Tunnel yes",
    "a terminal": "RequestTTY force\n EscapeChar a",
    "no check of loopback": "NoHostAuthenticationForLocalhost yes",
    "an address check": "CheckHostIP yes",
    "the language": "SendEnv LANG LC_*",
}


@pytest.mark.parametrize("config", INTERACTIVE.values(), ids=INTERACTIVE)
def test_settings_for_logins_by_hand_change_nothing(machines, login, tmp_path, config):
    server = machines("pi", HOST, ADDRESS)
    config = "Host *\n " + config.format(folder=tmp_path, port=server.port) + "\n"
    board = login(server, config=config)
    assert board.connect(0) == ADDRESS
    done = board.run("cat; exit 3", stdin=b"aba\0\n")
    assert (done.returncode, done.stdout) == (3, b"aba\0\n")
    assert not (tmp_path / "escaped").exists() and not (tmp_path / "owner").exists()


def test_another_language_here_does_not_hide_the_cause(machines, login, monkeypatch):
    for name in ("LANG", "LC_ALL", "LANGUAGE"):
        monkeypatch.setenv(name, "de_DE.UTF-8")
    board = login(machines("pi", OTHER))
    assert board.pool.settings.user and refused(board).kind == "refused"


@pytest.mark.parametrize("folder", ["a b", "50%", "it's"])
def test_odd_names_of_key_and_known_hosts(machines, login, tmp_path, folder):
    server, place = machines("pi", HOST), tmp_path / folder
    place.mkdir()
    (server.folder / "key").rename(place / "key")
    board = login(server, identity=place / "key", known_hosts=place / "known_hosts")
    assert board.connect(0) == HOST
    assert HOST in (place / "known_hosts").read_text()


def test_the_node_is_found_under_its_new_mdns_name(machines, tmp_path):
    """The bootstrap has renamed the board and could not go on: the name it was found at is gone."""
    server = machines("pi", HOST)
    hosts, script = tmp_path / "hosts", tmp_path / "run.py"
    hosts.write_text(f"127.0.0.1 localhost\n{HOST} pi-1.local\n")
    know_line = f"[fresh.local]:{server.port} {(server.folder / 'host.pub').read_text()}"
    (tmp_path / "known_hosts").write_text(know_line)
    script.write_text(
        "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1])\n"
        "from test_reach import site, reach, Settings\n"
        "from rpiomega.ssh import Pool\n"
        "made, folder = site(host='fresh.local'), Path(sys.argv[2])\n"
        f"settings = Settings({getpass.getuser()!r}, {server.port}, folder / 'key', folder / 'known_hosts')\n"
        "with Pool(settings) as pool:\n"
        "    board = reach.board(pool, made, made.nodes['pi-1'])\n"
        "    print(board.connect(0), board.run('echo here').stdout)\n"
    )
    here = shlex.join([sys.executable, str(script), str(Path(__file__).parent), str(tmp_path)])
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", f"mount --bind {hosts} /etc/hosts && exec {here}"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "pi-1.local b'here\\n'\n", done.stderr
