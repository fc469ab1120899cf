"""The command line: which nodes are meant, and what another program can read of a run."""

import json

import pytest
from click.testing import CliRunner

from rpiomega import cli

SITE = """
rpiomega:
  cluster: omega
  nodes:
    pi-master: {address: 127.0.0.2, roles: [master, manager]}
    pi-2: {address: 127.0.0.3, roles: [worker]}
    other: {address: 127.0.0.4, roles: [worker]}
  network: {prefix: 8, manage: false}
  users: {port: 9}
"""


@pytest.fixture
def run(tmp_path):
    """Run `rpiomega bootstrap` where nothing listens; give exit code, events and standard error."""
    (tmp_path / "site.sls").write_text(SITE)

    def run(*arguments):
        base = ["bootstrap", "--site", str(tmp_path / "site.sls"), "--log-dir", str(tmp_path), "--wait", "0"]
        return CliRunner().invoke(cli.main, [*base, *arguments])

    return run


def events(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_json_gives_every_nodes_end_with_cause_and_cure_and_the_exit_code(run):
    result = run("--json")
    ends = {event["node"]: event for event in events(result) if event["event"] == "end"}
    assert set(ends) == {"pi-master", "pi-2", "other"}
    assert ends["pi-master"]["state"] == "failed"
    assert ends["pi-master"]["step"] == "ssh"
    assert ends["pi-master"]["cause"]
    assert ends["pi-master"]["cure"]
    assert events(result)[-1] == {"event": "finished", "exit": 1}
    assert result.exit_code == 1


@pytest.mark.parametrize("arguments", [["pi-*"], ["--limit", "pi-*"], ["--limit", "pi-2", "--limit", "pi-master"]])
def test_nodes_are_chosen_by_name_or_pattern(run, arguments):
    ends = [event["node"] for event in events(run("--json", *arguments)) if event["event"] == "end"]
    assert sorted(ends) == ["pi-2", "pi-master"]


@pytest.mark.parametrize(
    ("only", "said"), [("nonsense", "no check is named nonsense"), ("docker swarm", "Wrong expression passed to '-k'")]
)
def test_a_check_that_there_is_not_is_said_before_any_node_is_asked(run, tmp_path, only, said):
    site = ["--site", str(tmp_path / "site.sls"), "--log-dir", str(tmp_path)]
    result = CliRunner().invoke(cli.main, ["verify", *site, "--only", only])
    assert result.exit_code == 2
    assert f"--only: {said}" in result.stderr
    assert "rpiomega verify --list" in result.stderr
    assert "pi-master" not in result.stderr


def test_a_name_that_fits_nothing_is_refused(run):
    result = run("--limit", "pi-3")
    assert result.exit_code == 2
    assert "pi-3" in result.stderr
