"""Salt without a master, from a checkout: `salt-call` on a board of its own, `salt-ssh` from this machine."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rpiomega.lab import demo, remote

pytestmark = pytest.mark.long
SALT_SSH = Path(sys.executable).with_name("salt-ssh")
STATES = ("packages", "docker", "b2", "consul", "swarm")


class Board:
    """One virtual Pi with Salt and a checkout; nothing of a master is left on it."""

    def __init__(self, lab):
        self.lab, self.name = lab, lab.node_names()[0]

    def run(self, command, bound=1500, check=True):
        return remote.run(self.lab, self.name, command, bound, check)

    def call(self, *arguments):
        """Run salt-call in the checkout as the docs say; return state ID -> result."""
        command = f"cd rpiomega && sudo salt-call --id {self.name} --out=json --log-level=quiet {' '.join(arguments)}"
        answer = json.loads(self.run(command, check=False))["local"]
        assert isinstance(answer, dict), answer
        return {state["__id__"]: state for state in answer.values()}

    def rpiomega(self, *arguments):
        command = [sys.executable, "-m", "rpiomega", *arguments, "--site", str(self.lab.site_file)]
        return subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)


def wrong(states):
    """Return the comments of the states that did not succeed."""
    return [f"{name}: {state['comment']}" for name, state in states.items() if state["result"] is not True]


@pytest.fixture(scope="module")
def board(make_lab):
    board = Board(make_lab("alone", 1))
    demo.bootstrap(board.lab)
    board.run("sudo systemctl disable --now salt-minion salt-master")
    board.run("sudo git clone -q /srv/rpiomega/formula.git rpiomega")
    board.run("sudo cp /srv/rpiomega/pillar/site.sls rpiomega/pillar/site.sls")
    folders = " ".join(f"/srv/rpiomega/{name}" for name in ("formula", "formula.releases", "formula.git", "pillar"))
    board.run(f"sudo rm -r {folders} /etc/salt/master.d")
    return board


@pytest.fixture(scope="module")
def applied(board):
    """The board after the first `salt-call state.apply`."""
    board.first = board.call("state.apply")
    return board


def test_salt_call_applies_a_node_of_its_own(applied):
    assert wrong(applied.first) == []
    assert {state["__sls__"].split(".")[0] for state in applied.first.values()} >= set(STATES)
    done = applied.rpiomega("verify", "--json", "--only", " or ".join(f"test_{state}" for state in STATES))
    assert json.loads(done.stdout)["ok"], done.stdout


def test_a_second_salt_call_changes_nothing(applied):
    again = applied.call("state.apply")
    assert wrong(again) == []
    assert {name: state["changes"] for name, state in again.items() if state["changes"]} == {}


def test_salt_ssh_applies_by_the_roster_of_the_site_file(applied, tmp_path):
    tree = tmp_path / "checkout"
    subprocess.run(["git", "clone", "-q", str(demo.ROOT), str(tree)], check=True)
    shutil.copy(applied.lab.site_file, tree / "pillar/site.sls")
    with (tree / "masterless/master").open("a") as config:
        config.write(f"root_dir: {tmp_path}/root\n")
    roster = applied.rpiomega("roster")
    assert roster.returncode == 0, roster.stderr
    (tree / "roster").write_text(roster.stdout)

    def salt_ssh(*arguments):
        command = [SALT_SSH, "--roster-file=roster", "--out=json", "--static", "*", *arguments]
        done = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=600, check=False)
        return json.loads(done.stdout)[applied.name]

    assert salt_ssh("test.ping") is True
    applied.run("sudo gpasswd -d pi docker")
    states = {state["__id__"]: state for state in salt_ssh("state.apply", "packages,docker,b2").values()}
    assert wrong(states) == []
    assert {name for name, state in states.items() if state["changes"]} == {"docker.group"}
    assert "docker" in applied.run("id -nG pi").split()
