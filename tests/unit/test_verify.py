"""`rpiomega verify`: what its report says, and that the table in the docs is the one of the checks."""

import json
import pathlib
import subprocess
import sys

import commands
import pytest
import salt.config
import salt.loader
import yaml
from click.testing import CliRunner
from rich.console import Console

from rpiomega import cli
from rpiomega.errors import NodeError
from rpiomega.verify import report
from rpiomega.verify.checks import Check, Found
from rpiomega.verify.suite import wanted

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs/verify.md"
EXAMPLES = sorted((ROOT / "examples").glob("site-*.sls"))
PARTIAL = {
    "consul": {"snapshots": {"keep": 3}},
    "docker": {"daemon": {"log-opts": {"max-size": "5m"}}, "mirrors": ["http://mirror.example"]},
    "cache": {"images": True, "registry": {"port": 5001}},
}
AS_THE_STATES_SEE_IT = "{% from 'rpiomega/map.jinja' import omega, node, docker with context %}" + (
    "{{ {'omega': omega, 'node': node, 'docker': docker} | json }}"
)


def check(result, **more):
    return Check("docker", "runs", "docker runs", "sudo salt a state.apply docker", "a", result, **more)


@pytest.fixture
def states(tmp_path):
    """What map.jinja makes of a site file's content on a node."""

    def states(rpiomega, name):
        opts = salt.config.minion_config(None)
        folders = {"root_dir": str(tmp_path), "cachedir": str(tmp_path / "cache")}
        opts.update(folders, id=name, file_client="local", file_roots={"base": [str(ROOT / "salt")]})
        opts["pillar"], opts["grains"] = {"rpiomega": rpiomega}, {"id": name}
        opts["extension_modules"] = str(tmp_path / "extmods")
        modules = salt.loader.minion_mods(opts, utils=salt.loader.utils(opts))
        return modules["slsutil.renderer"](string=AS_THE_STATES_SEE_IT, default_renderer="jinja|json")

    return states


@pytest.fixture
def checked(tmp_path):
    """Run checks on this machine as the only node, a master: `checked("repo", check, **site)` gives the rows."""

    def checked(state, check, **site):
        own = subprocess.run(["hostname"], capture_output=True, text=True, check=True).stdout.strip()
        nodes = {own: {"address": "10.0.0.1", "roles": ["master", "manager"]}}
        path = tmp_path / "own.sls"
        path.write_text(yaml.safe_dump({"rpiomega": {"cluster": "one", "nodes": nodes, **site}}))
        report = tmp_path / "report"
        report.unlink(missing_ok=True)
        folder = ROOT / "tests/verify"
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={folder}"]
        command += [str(folder / f"test_{state}.py"), "-k", check, "--hosts=local://", f"--site={path}"]
        command.append(f"--report={report}")
        done = subprocess.run(command, capture_output=True, text=True, timeout=commands.BOUND, check=False)
        assert report.exists(), done.stdout + done.stderr
        return [json.loads(line) for line in report.read_text().splitlines()]

    return checked


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
        "a: FAILED: 1 checks passed, 1 failed, 0 not for this node",
        "  failed: docker: docker runs",
        "    cause: docker is not running",
        "    cure:  sudo salt a state.apply docker",
        "b: ok: 1 checks passed, 0 failed, 1 not for this node",
        "c: FAILED: c does not answer",
        "  cure: check its power",
    ]


def test_json_calls_a_silent_or_broken_node_not_ok(found):
    said = json.loads(report.as_json(found))
    assert {name: node["ok"] for name, node in said["nodes"].items()} == {"a": False, "b": True, "c": False}
    assert said["ok"] is False
    assert said["nodes"]["c"]["error"] == {"cause": "c does not answer", "cure": "check its power"}
    assert Found([check("skipped")]).ok is False


def test_the_docs_have_the_table_of_all_checks():
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


@pytest.mark.parametrize("laid_over", [{}, PARTIAL], ids=["as it is", "with parts of mappings"])
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_the_checks_want_what_the_states_do(states, tmp_path, example, laid_over):
    site = wanted.over(yaml.safe_load(example.read_text())["rpiomega"], laid_over)
    name = list(site["nodes"])[-1]
    site["nodes"][name]["docker"] = {"source": "distribution"}
    path = tmp_path / "site.sls"
    path.write_text(yaml.safe_dump({"rpiomega": site}))
    read, seen = wanted.read_site(path), states(yaml.safe_load(path.read_text())["rpiomega"], name)
    docker = wanted.docker_of(read, read["nodes"][name])
    assert docker == seen["docker"]
    assert docker["source"] == "distribution"
    assert {**read["nodes"][name], **seen["node"]} == {**read["nodes"][name], "docker": {"source": "distribution"}}
    # map.jinja puts the master's registry among the mirrors in place; nodes have their defaults here.
    for key in seen["omega"].keys() - {"docker", "nodes"}:
        assert read[key] == seen["omega"][key], key


@pytest.mark.parametrize(("branch", "result"), [("v1.0", "ok"), ("v1.0.1", "failed"), ("both", "failed")])
def test_the_checkout_is_compared_with_exactly_the_sites_branch_or_tag(checked, tmp_path, branch, result):
    remote, path = tmp_path / "remote", tmp_path / "formula"
    script = f"""
        git init -q -b main {remote} && cd {remote} && git config user.name a && git config user.email a@example.com
        git commit -q --allow-empty -m 1 && git tag -a -m 1 v1.0
        git commit -q --allow-empty -m 2 && git tag -a -m 2 v1.0.1 && git branch both v1.0 && git tag both v1.0
        git branch of/refs/heads/v1.0
        git clone -q {remote} {path} && git -C {path} checkout -q v1.0
    """
    subprocess.run(["sh", "-ec", script], check=True)
    formula = {"path": str(path), "remote": str(remote), "branch": branch}
    (row,) = checked("repo", "the_checkout_is_where", formula=formula)
    assert row["result"] == result, row
