"""`salt-call` from a checkout, with its Saltfile: one node without a master."""

import os
import pathlib
import re
import shutil
import subprocess
import sys

import commands
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
STATES = ["packages", "docker", "b2", "consul", "swarm"]
SALT_CALL = pathlib.Path(sys.executable).parent / "salt-call"


@pytest.fixture
def call(tmp_path):
    """Run salt-call in a copy of the checkout; all that Salt writes stays below tmp_path."""
    tree = tmp_path / "checkout"
    for folder in ("salt", "pillar", "masterless", "_modules", "_states", "_utils", "_pillar"):
        shutil.copytree(ROOT / folder, tree / folder, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Saltfile", tree)
    minion = tree / "masterless/minion"
    text = minion.read_text()
    for path in ("/etc/rpiomega/secrets", "/srv/rpiomega/pillar/site.sls"):
        assert path in text
        text = text.replace(path, f"{tmp_path}/{path.split('/')[-1]}")
    text += f"root_dir: {tmp_path}/root\n"

    def call(minion_id, *arguments, told=True):
        settings = text if told else re.sub(r"ext_pillar:\n.*\n", "", text)
        assert ("ext_pillar" in settings) == told
        minion.write_text(f"{settings}id: {minion_id}\n")
        command = [SALT_CALL, "--out=json", "--log-level=quiet", *arguments]
        return subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False, timeout=commands.BOUND)

    call.tree = tree
    return call


def answer(done):
    return commands.parsed(done)["local"]


@pytest.mark.parametrize("minion_id", ["rpiomega-master", "rpiomega-4"])
def test_each_role_gets_its_states_and_none_for_a_master(call, minion_id):
    low = answer(call(minion_id, "state.show_lowstate"))
    found = list(dict.fromkeys(chunk["__sls__"].split(".")[0] for chunk in low))
    assert [name for name in found if name in STATES] == STATES
    assert "repo" not in found


def test_a_dry_run_uses_our_own_states_and_writes_nothing(call, tmp_path):
    done = call("rpiomega-4", "state.apply", "packages,docker", "test=True")
    results = answer(done)
    assert {state["__id__"] for state in results.values()} >= {"packages.development", "docker.repository"}
    # A machine without systemd, as in a container, has no services to look at.
    services = [] if os.path.isdir("/run/systemd/system") else ["docker.service"]
    wrong = [state for state in results.values() if state["result"] is False and state["__id__"] not in services]
    assert [state["comment"] for state in wrong] == []
    written = {path.relative_to(tmp_path / "root").parts[0] for path in (tmp_path / "root").rglob("*")}
    assert written <= {"etc", "var", "srv", "opt"}
    assert not list((tmp_path / "root/etc").rglob("docker*"))


def b2(low):
    """Return what the state b2 would do: `{ID: function}`."""
    return {chunk["__id__"]: chunk["fun"] for chunk in low if chunk["__sls__"] == "b2"}


def test_only_a_run_that_is_told_of_accounts_takes_one_away(call):
    """Without the ext_pillar, as by salt-ssh, nobody knows whether the node has one."""
    account = {"b2.cli": "installed", "b2.account": "deauthorized"}
    assert b2(answer(call("rpiomega-4", "state.show_lowstate"))) == account
    assert b2(answer(call("rpiomega-4", "state.show_lowstate", told=False))) == {"b2.cli": "installed"}


def test_a_site_without_b2_takes_the_account_away(call):
    site = call.tree / "pillar/site.sls"
    off = "  b2:\n    enabled: false\n    credentials: {'*': admin}\n    buckets: {omega-backup: {}}\n"
    text = site.read_text()
    assert "  b2:\n    enabled: true\n" in text
    site.write_text(text.replace("  b2:\n    enabled: true\n", off))
    assert b2(answer(call("rpiomega-master", "state.show_lowstate"))) == {"b2.account": "deauthorized"}
    assert b2(answer(call("rpiomega-master", "state.show_lowstate", told=False))) == {}


def test_a_masters_node_is_not_applied_by_the_site_file_of_the_checkout(call, tmp_path):
    (tmp_path / "site.sls").write_text("rpiomega: {}\n")
    done = call("rpiomega-master", "state.apply", "packages", "test=True")
    assert done.returncode != 0
    assert f"this node is the master of a cluster, and {tmp_path}/site.sls is its site file" in done.stdout
    assert "run the same command from another folder" in done.stdout
    assert "packages.development" not in done.stdout


def test_a_wrong_key_stops_the_states_and_is_named(call):
    site = call.tree / "pillar/site.sls"
    site.write_text(site.read_text().replace("source: auto", "sourse: auto"))
    done = call("rpiomega-4", "state.apply", "packages", "test=True")
    assert done.returncode != 0
    assert "site.sls: rpiomega.salt.sourse: unknown key; did you mean source?" in done.stdout
    assert "packages.development" not in done.stdout
