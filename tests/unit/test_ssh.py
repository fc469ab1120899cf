"""SSH against a real server: it works, or it says which of its many failures it was and what to do."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import threading
import time

import pytest

from omega.core import apt_rules
from rpiomega import agent
from rpiomega.errors import NodeError, Stopped
from rpiomega.node import job_steps
from rpiomega.ssh import Settings, SshError, classify, shell

HERE = "127.0.0.1"


def refusal(remote, bound=0.0):
    """Return the error a connection ends in."""
    with pytest.raises(SshError) as caught:
        remote.connect(bound)
    return caught.value


def test_a_command_runs_with_its_input_and_bytes_come_back(sshd, pool):
    sshd.start()
    remote = pool(sshd.settings()).remote([HERE])
    assert remote.connect(0) == HERE
    result = remote.run('cat; echo "it\'s" >&2; exit 3', stdin=b"\0\xff")
    assert (result.returncode, result.stdout, result.stderr) == (3, b"\0\xff", b"it's\n")


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("new", "b"),
        ("new folder", "two  words"),
        ("it's", '"quoted"'),
        ("$(touch escaped)", "`touch escaped`; touch escaped"),
        ("-rf", "--help"),
        ("$HOME", "*"),
        ("a\nb", "\\n"),
        ("größe", "~"),
    ],
)
def test_files_go_there_and_back_unharmed_and_private(sshd, pool, tmp_path, folder, name):
    sshd.start()
    remote = pool(sshd.settings()).remote([HERE])
    remote.connect(0)
    source, there, back = tmp_path / "a", tmp_path / folder / name, tmp_path / "c"
    source.write_bytes(bytes(range(256)) * 1000)
    remote.upload(source, str(there))
    remote.download(str(there), back)
    assert back.read_bytes() == source.read_bytes()
    assert there.stat().st_mode & 0o077 == 0
    remote.run(remote.as_root(shell("rm", "-f", "--", str(there))))
    assert not list(there.parent.iterdir())
    assert not list(tmp_path.rglob("escaped")) and not os.path.exists(os.path.expanduser("~/escaped"))


@pytest.mark.parametrize(
    "word", ["", " ", "-n", "it's", '"', "$(id)", "`id`", "a\nb", "\\", "*", "!x", "~", "é", ";id"]
)
def test_each_word_arrives_as_it_is_also_through_sudo(sshd, pool, word):
    sshd.start()
    remote = pool(sshd.settings()).remote([HERE])
    remote.connect(0)
    done = remote.run(remote.as_root(shell("printf", "%s|", word, "end")))
    assert done.stdout.decode() == f"{word}|end|"


def test_a_board_that_still_boots_is_waited_for(sshd, pool):
    said = []

    def hear(line):
        said.append(line)
        if not sshd.process:
            sshd.start()

    remote = pool(sshd.settings()).remote([HERE], hear)
    assert remote.connect(20) == HERE
    assert "waiting for SSH at 127.0.0.1" in said[0]


def test_the_second_destination_is_tried_when_the_first_is_silent(sshd, pool):
    sshd.start()
    remote = pool(sshd.settings()).remote(["no-such-host.invalid", HERE])
    assert remote.connect(0) == HERE


def test_nobody_listens(sshd, pool):
    error = refusal(pool(sshd.settings()).remote([HERE]))
    assert error.kind == "refused"
    assert HERE in error.cause
    assert "switch SSH on" in error.cure


def test_an_unknown_name_keeps_its_own_cause_after_the_bound(sshd, pool):
    error = refusal(pool(sshd.settings()).remote(["no-such-host.invalid"]), bound=0.1)
    assert error.kind == "unreachable"
    assert "does not resolve (waited 0 s)" in error.cause


def test_wrong_user_is_refused_at_once_and_named(sshd, pool):
    sshd.start()
    began = time.monotonic()
    error = refusal(pool(sshd.settings(user="nobody-here")).remote([HERE]), bound=30)
    assert time.monotonic() - began < 10
    assert error.kind == "auth"
    assert "nobody-here" in error.cause
    assert "ssh-copy-id nobody-here@127.0.0.1" in error.cure


def test_a_changed_host_key_stops_everything_and_names_the_file(sshd, pool):
    sshd.start()
    pool(sshd.settings()).remote([HERE]).connect(0)  # known from now on
    sshd.stop()
    sshd.new_host_key()
    sshd.start()
    error = refusal(pool(sshd.settings()).remote([HERE]), bound=30)
    assert error.kind == "host key"
    cure = re.search(r"`(ssh-keygen -R .*)`", error.cure)[1]
    assert f"-f {sshd.folder}/known_hosts" in cure
    subprocess.run(shlex.split(cure), check=True, capture_output=True)
    assert pool(sshd.settings()).remote([HERE]).connect(0) == HERE


def test_a_board_that_refuses_counts_before_one_that_is_silent_and_both_are_named(sshd, pool):
    error = refusal(pool(sshd.settings()).remote(["no-such-host.invalid", HERE]))
    assert error.kind == "refused"
    assert "127.0.0.1 is up, but no SSH server answers, the name no-such-host.invalid does not resolve" in error.cause
    assert "switch SSH on" in error.cure


def login_with(sshd, pool, monkeypatch, key, agent=""):
    """Return what is said of a login with a key (None: any of ~/.ssh, where there is none)."""
    sshd.start()
    monkeypatch.setenv("SSH_AUTH_SOCK", agent)
    config = sshd.folder / "config"
    config.write_text(f"IdentityFile {sshd.folder}/none\n")
    return refusal(pool(sshd.settings(identity=key, config=config)).remote([HERE]))


def test_no_key_at_all_says_how_to_make_one(sshd, pool, monkeypatch):
    error = login_with(sshd, pool, monkeypatch, None)
    assert "this machine has no SSH key to log in to 127.0.0.1" in error.cause
    assert "`ssh-keygen -t ed25519` makes one, `ssh-copy-id" in error.cure


def test_a_key_that_others_can_read_is_named(sshd, pool, monkeypatch):
    (sshd.folder / "key").chmod(0o644)
    error = login_with(sshd, pool, monkeypatch, sshd.folder / "key")
    assert f"ssh ignores the key {sshd.folder}/key: others can read it" in error.cause
    assert error.cure == f"chmod 600 {sshd.folder}/key"


def test_a_public_key_as_identity_is_named(sshd, pool, monkeypatch):
    error = login_with(sshd, pool, monkeypatch, sshd.folder / "key.pub")
    assert f"{sshd.folder}/key.pub is a public key, and no agent has the private one" in error.cause
    assert error.cure.endswith(f"names the private key, {sshd.folder}/key")


def test_what_is_no_key_is_named(sshd, pool, monkeypatch):
    (sshd.folder / "mine").write_text("no key\n")
    (sshd.folder / "mine").chmod(0o600)
    error = login_with(sshd, pool, monkeypatch, sshd.folder / "mine")
    assert f"ssh cannot use the key {sshd.folder}/mine" in error.cause


def test_a_key_with_a_passphrase_wants_the_agent_until_it_knows_the_key(sshd, pool, monkeypatch):
    key = sshd.folder / "key"
    subprocess.run(["ssh-keygen", "-q", "-p", "-P", "", "-N", "secret", "-f", key], check=True, capture_output=True)
    error = login_with(sshd, pool, monkeypatch, key)
    assert f"the key {key} has a passphrase, and no agent knows it" in error.cause
    assert f"`ssh-add {key}`" in error.cure
    socket, told = str(sshd.folder / "agent"), sshd.folder / "secret"
    told.write_text("#!/bin/sh\necho secret\n")
    told.chmod(0o700)
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", socket], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 10
        while not os.path.exists(socket) and time.monotonic() < deadline:
            time.sleep(0.02)
        ask = {**os.environ, "SSH_AUTH_SOCK": socket, "SSH_ASKPASS": str(told), "SSH_ASKPASS_REQUIRE": "force"}
        subprocess.run(["ssh-add", key], env=ask, check=True, capture_output=True)
        monkeypatch.setenv("SSH_AUTH_SOCK", socket)
        assert pool(sshd.settings()).remote([HERE]).connect(0) == HERE
        error = refusal(pool(sshd.settings(user="nobody-here")).remote([HERE]))
        assert "refuses the key login of user nobody-here" in error.cause
    finally:
        agent.kill()
        agent.wait()


def test_a_server_that_refuses_for_a_while_after_failed_logins_is_told_apart():
    said = "kex_exchange_identification: Connection closed by remote host\n"  # OpenSSH 10, PerSourcePenalties
    error = classify(said, HERE, Settings("pi"))
    assert error.kind == "lost"
    assert "closes the connection before the login" in error.cause
    assert "after failed logins" in error.cure


def test_a_lost_connection_is_said_to_be_lost(sshd, pool, tmp_path):
    sshd.start()
    remote = pool(sshd.settings()).remote([HERE])
    remote.connect(0)
    running = tmp_path / "running"

    def cut():
        deadline = time.monotonic() + 15
        while not running.exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        sshd.cut()

    threading.Thread(target=cut).start()
    with pytest.raises(SshError) as caught:
        remote.run(f"touch {running}; sleep 20", timeout=25)
    assert caught.value.kind == "lost"


def test_a_command_that_hangs_is_ended(sshd, pool):
    sshd.start()
    remote = pool(sshd.settings()).remote([HERE])
    remote.connect(0)
    with pytest.raises(SshError, match="did not answer within 1 s"):
        remote.run("sleep 30", timeout=1)


def test_the_boards_part_runs_and_reports(sshd, pool):
    sshd.start()
    remote = pool(sshd.settings()).remote([HERE])
    remote.connect(0)
    events = []
    done = agent.run(remote, [job_steps.Finger()], events.append)
    assert done["finger"]["status"] == "ok"
    assert done["facts"]["python"].startswith("3.")
    assert [event["event"] for event in events][-2:] == ["start", "done"]


def test_a_failing_step_is_an_error_with_step_cause_and_cure(sshd, pool):
    sshd.start()
    remote = pool(sshd.settings()).remote([HERE])
    remote.connect(0)
    with pytest.raises(NodeError) as caught:
        agent.run(remote, [job_steps.Sources(ca="no certificate")], lambda event: None, dry_run=True)
    assert (caught.value.step, caught.value.cure) == ("sources", "give a PEM file")


def test_cancelling_ends_the_boards_part_and_leaves_no_file(sshd, pool, tmp_path):
    sshd.start()
    connections = pool(sshd.settings())
    remote = connections.remote([HERE])
    remote.connect(0)
    waiting = threading.Event()

    def on_event(event):
        if event["event"] == "log" and "waiting for the minions' keys" in event["text"]:
            waiting.set()

    failures = []

    def work():
        try:
            steps = [job_steps.Keys({"nobody": "aa"}, 60)]
            agent.run(remote, steps, on_event, dry_run=True)
        except Stopped as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    assert waiting.wait(10)
    connections.cancel()
    thread.join(timeout=10)
    assert not thread.is_alive()
    assert failures
    with pytest.raises(Stopped):
        remote.run("true")


def launch(path, install="no", **options):
    """Run the launcher as a board's login shell would, with commands from `path` alone."""
    script = agent.launcher(len(agent.zipapp()), install == "yes")
    job = b'{"steps": []}\n'
    return subprocess.run(
        ["/bin/sh", "-c", script], input=agent.zipapp() + job, env={"PATH": str(path)}, capture_output=True, **options
    )


def tools(folder, *names):
    """Fill a folder with links to these commands and nothing else."""
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    for name in names:
        (folder / name).symlink_to(sys.executable if name == "python3" else shutil.which(name))
    return folder


def test_launcher_without_python_says_so(tmp_path):
    assert launch(tools(tmp_path / "bin", "id", "mktemp", "head", "rm")).returncode == agent.NO_PYTHON


@pytest.fixture
def without_python(tmp_path):
    """Commands of a board that has no Python but an apt-get (a stand-in), whose package lists are out of date."""
    folder = tools(tmp_path / "bin", "id", "mktemp", "head", "rm", "cat", "ln", "touch", "sh", "env")
    lists, python = tmp_path / "lists", folder / "python3"
    (folder / "apt-get").write_text(
        f"""#!/bin/sh
cat >/dev/null
echo "$DEBIAN_FRONTEND $*" >>{tmp_path}/asked
case "$*" in
  *update) touch {lists} ;;
  *"install python3") [ -e {lists} ] && ln -s {sys.executable} {python} ;;
esac
""",
        encoding="utf-8",
    )
    (folder / "apt-get").chmod(0o755)
    return folder


def test_launcher_installs_python_where_apt_works(without_python, tmp_path):
    # The stand-in reads all it is given: what was sent for Python must not go to apt-get.
    done = launch(without_python, install="yes")
    assert done.returncode == 0
    assert b'"facts"' in done.stdout
    asked = (tmp_path / "asked").read_text().splitlines()
    assert len(asked) == 3
    assert all(line.startswith(f"noninteractive {' '.join(apt_rules.APT[1:])} ") for line in asked)


def test_launcher_installs_nothing_in_a_dry_run(without_python):
    assert launch(without_python).returncode == agent.NO_PYTHON
    assert not (without_python / "python3").exists()


def test_launcher_without_sudo_rights_says_so():
    assert launch("/usr/bin:/bin", user="nobody", cwd="/").returncode == agent.NO_SUDO


@pytest.mark.parametrize(
    ("code", "said", "cure"),
    [
        (agent.NO_SUDO, "sudo: a password is required", "NOPASSWD: ALL' | sudo tee /etc/sudoers.d/pi"),
        (agent.NO_SUDO, "sh: 3: sudo: not found", "as root: apt-get install sudo && echo 'pi ALL"),
        (agent.NO_SPACE, "mktemp: failed to create directory: No space left on device", "free some space"),
        (agent.NO_SPACE, "mktemp: failed to create directory: Read-only file system", "`dmesg`"),
    ],
)
def test_what_stops_the_boards_part_has_a_cure_that_fits(pool, code, said, cure):
    error = agent._launch_error(code, f"a banner\n{said}\n", pool(Settings("pi")).remote([HERE]))
    assert said in error.cause
    assert cure in error.cure


def test_launcher_removes_what_it_brought(tmp_path):
    scratch = tmp_path / "seen"
    folder = tools(tmp_path / "bin", "id", "head", "rm", "python3")
    (folder / "mktemp").write_text(f"#!/bin/sh\n/bin/mkdir {scratch} && echo {scratch}\n", encoding="utf-8")
    (folder / "mktemp").chmod(0o755)
    assert launch(folder).returncode == 0
    assert not scratch.exists()
