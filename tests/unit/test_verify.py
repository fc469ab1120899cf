"""`rpiomega verify`: what its report says, and that the table of promises in the docs is the one of the checks."""

import json
import pathlib

import pytest
from click.testing import CliRunner
from rich.console import Console
from rpiomega import cli
from rpiomega.errors import NodeError
from rpiomega.verify import report
from rpiomega.verify.checks import Check, Found

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs/verify.md"


def check(result, **more):
    return Check("docker", "runs", "docker runs", "sudo salt a state.apply docker", "a", result, **more)


@pytest.fixture
def found():
    return {
        "a": Found([check("ok"), check("failed", cause="docker is not running")]),
        "b": Found([check("ok"), check("skipped", cause="not here")]),
        "c": Found([], NodeError("c does not answer", "check its power")),
    }


def test_the_report_says_what_is_broken_why_and_what_to_do(found):
    out = Console(width=200, force_terminal=False, record=True, quiet=True)
    out.quiet = False
    with out.capture() as said:
        report.text(out, found)
    lines = said.get().splitlines()
    assert lines == [
        "a: FAILED: 1 promises kept, 1 broken, 0 not for this node",
        "  failed: docker: docker runs",
        "    cause: docker is not running",
        "    cure:  sudo salt a state.apply docker",
        "b: ok: 1 promises kept, 0 broken, 1 not for this node",
        "c: FAILED: c does not answer",
        "  cure: check its power",
    ]


def test_json_calls_a_silent_or_broken_node_not_ok(found):
    said = json.loads(report.as_json(found))
    assert {name: node["ok"] for name, node in said["nodes"].items()} == {"a": False, "b": True, "c": False}
    assert said["ok"] is False
    assert said["nodes"]["c"]["error"] == {"cause": "c does not answer", "cure": "check its power"}
    assert Found([check("skipped")]).ok is False


def test_the_docs_have_the_table_of_all_promises():
    listed = CliRunner().invoke(cli.main, ["verify", "--list"])
    assert listed.exit_code == 0, listed.output
    table = listed.output.strip()
    assert table.count("\n") > 20
    begin, _, rest = DOCS.read_text().partition("<!-- rpiomega verify --list -->\n")
    assert rest.partition("<!-- end -->")[0].strip() == table, (
        "put what `rpiomega verify --list` prints in docs/verify.md"
    )


def test_a_node_that_cannot_be_reached_is_failed_with_cause_and_cure(tmp_path):
    site = tmp_path / "site.sls"
    site.write_text(
        "rpiomega:\n  cluster: omega\n  nodes:\n    pi: {address: 127.0.0.2, roles: [master, manager]}\n"
        "  network: {prefix: 8, manage: false}\n  users: {port: 9}\n"
    )
    arguments = ["verify", "--json", "--wait", "0", "--site", str(site), "--log-dir", str(tmp_path)]
    done = CliRunner().invoke(cli.main, arguments)
    assert done.exit_code == 1
    node = json.loads(done.stdout)["nodes"]["pi"]
    assert node["checks"] == []
    assert "127.0.0.2" in node["error"]["cause"]
    assert node["error"]["cure"]
