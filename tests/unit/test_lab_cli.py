"""`rpiomega lab ssh` and `lab exec`: what is the command's own reaches it as it was typed."""

import json
import os
import socketserver
import subprocess
import sys
import threading
from types import SimpleNamespace

import docker
import pytest
from click.testing import CliRunner

from rpiomega.commands import lab as cli
from rpiomega.lab import pi, state

NODE = "rpiomega-master"
SSH = f"#!{sys.executable}\nimport json, sys\nprint(json.dumps(sys.argv[1:]))\n"
# What is typed after `lab exec` or `lab ssh`, and the command that this is.
TYPED = [
    ([NODE, "--", "ls", "-l"], ["ls", "-l"]),
    ([NODE, "ls", "-l", "--name", "x"], ["ls", "-l", "--name", "x"]),
    (["--name", "here", NODE, "--", "sh", "-c", "echo a -- b"], ["sh", "-c", "echo a -- b"]),
    ([NODE, "--", "grep", "--", "-x", "/etc/fstab"], ["grep", "--", "-x", "/etc/fstab"]),
    (["--", NODE, "ls", "-l"], ["ls", "-l"]),
    ([NODE, "--", "--name"], ["--name"]),
]


@pytest.fixture
def labs(tmp_path, monkeypatch):
    """Two labs of one node each, and an `ssh` that prints its arguments."""
    for name in ("demo", "here"):
        (tmp_path / "labs" / name).mkdir(parents=True)
        (tmp_path / "labs" / name / "lab.json").write_text(json.dumps({"name": name, "nodes": 1}))
    (tmp_path / "ssh").write_text(SSH)
    (tmp_path / "ssh").chmod(0o755)
    monkeypatch.setenv("RPIOMEGA_LAB_DIR", str(tmp_path / "labs"))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(state, "ROOT", tmp_path / "labs")
    return tmp_path / "labs"


def ssh(*words):
    """Run `rpiomega lab ssh`."""
    command = [sys.executable, "-m", "rpiomega", "lab", "ssh", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


@pytest.mark.parametrize(("typed", "command"), TYPED)
def test_ssh_gets_the_command_as_typed(labs, typed, command):
    done = ssh(*typed)
    assert done.returncode == 0, done.stderr
    config = str(labs / ("here" if "here" in typed else "demo") / "ssh_config")
    option, used, *words = json.loads(done.stdout)
    assert (option, used) == ("-F", config)
    assert words[words[0] == "--" :] == [NODE, *command]


def test_an_option_of_ssh_itself_is_still_one(labs):
    assert json.loads(ssh(NODE, "-L", "8080:localhost:80").stdout)[2:] == [NODE, "-L", "8080:localhost:80"]


def test_a_command_after_the_dashes_is_none_of_ssh_s_options(labs):
    # ssh reads options after the name of a host as well, unless they were ended before it.
    assert json.loads(ssh(NODE, "--", "-x").stdout)[2:] == ["--", NODE, "-x"]


class _Engine(socketserver.StreamRequestHandler):
    """An engine that notes which command is to be run."""

    def handle(self):
        request, length = self.rfile.readline().decode(), 0
        while line := self.rfile.readline().strip():
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        body = self.rfile.read(length)
        if "/start " in request:
            self.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")
            return
        if request.startswith("POST"):
            self.server.commands.append(json.loads(body)["Cmd"])
        answer = json.dumps({"Id": "e1", "ExitCode": 3}).encode()
        self.wfile.write(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(answer) + answer)


@pytest.fixture
def commands(labs, monkeypatch):
    """The commands that the engine was asked to run."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Engine) as server:
        server.commands = []
        threading.Thread(target=server.serve_forever, daemon=True).start()
        api = docker.APIClient(f"tcp://127.0.0.1:{server.server_address[1]}", version="1.41", timeout=10)
        board = SimpleNamespace(id="c1", name="board", client=SimpleNamespace(api=api))
        monkeypatch.setattr(cli.engine, "connect", lambda: None)
        monkeypatch.setattr(pi, "find", lambda client, lab, node: board)
        yield server.commands
        server.shutdown()


@pytest.mark.parametrize(("typed", "command"), TYPED)
def test_exec_runs_the_command_as_typed_and_ends_as_it_did(commands, typed, command):
    result = CliRunner().invoke(cli.lab, ["exec", *typed])
    assert (commands, result.exit_code) == ([command], 3), result.output


def test_exec_refuses_an_own_option_after_the_node_with_its_place(commands):
    result = CliRunner().invoke(cli.lab, ["exec", NODE, "--name", "here", "ls"])
    assert (result.exit_code, commands) == (2, [])
    assert "--name" in result.output and f"before {NODE}" in result.output


def test_ssh_refuses_an_own_option_after_the_node_with_its_place(labs):
    done = ssh(NODE, "--name", "here", "ls")
    assert done.returncode == 2
    assert "--name" in done.stderr and f"before {NODE}" in done.stderr


@pytest.mark.parametrize("typed", [[NODE], [NODE, "--"]])
def test_exec_without_a_command_is_refused(commands, typed):
    result = CliRunner().invoke(cli.lab, ["exec", *typed])
    assert (result.exit_code, commands) == (2, [])
    assert "COMMAND" in result.output


def test_an_unknown_option_before_the_node_is_named(commands, labs):
    result = CliRunner().invoke(cli.lab, ["exec", "--nam", "here", NODE, "ls"])
    assert (result.exit_code, commands) == (2, [])
    assert "--nam" in result.output
    done = ssh("--nam", "here", NODE, "ls")
    assert (done.returncode, "--nam" in done.stderr) == (2, True)
