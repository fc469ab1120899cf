"""The suites of .kitchen.yml without Ruby: Salt renders what kitchen-salt would lay out in the container."""

import json
import os
import pathlib
import re
import shutil
import subprocess
import sys

import commands
import pytest
import yaml

from rpiomega.site import load

ROOT = pathlib.Path(__file__).resolve().parents[2]
SALT_CALL = pathlib.Path(sys.executable).parent / "salt-call"
KITCHEN = yaml.safe_load((ROOT / ".kitchen.yml").read_text())
SUITES = {suite["name"]: suite for suite in KITCHEN["suites"]}
CONTAINER = "/tmp/kitchen"


def lay_out(suite, root):
    """Do what kitchen-salt's salt_solo does with `is_file_root` (its docs, provisioner_options); return the options."""
    options = {**KITCHEN["provisioner"], **suite["provisioner"]}
    for name in ("salt", "pillar", "_modules", "_states", "_utils", "_pillar"):
        # Links are followed, as by its copy.
        shutil.copytree(ROOT / name, root / "srv/salt" / name, ignore=shutil.ignore_patterns("__pycache__"))
    top = root / options["salt_state_top"].lstrip("/")
    top.parent.mkdir(parents=True, exist_ok=True)
    top.write_text(yaml.safe_dump(options["state_top"]))
    (root / "srv/pillar").mkdir()
    for name, content in options["pillars"].items():
        (root / "srv/pillar" / name).write_text(yaml.safe_dump(content))
    for name, source in options["pillars_from_files"].items():
        shutil.copy(ROOT / source, root / "srv/pillar" / name)
    extra = json.dumps(options["salt_minion_extra_config"]).replace(CONTAINER, str(root))
    extra = json.loads(extra.replace("/etc/rpiomega/secrets", f"{root}/secrets"))
    minion = {"file_client": "local", "id": options["salt_minion_id"], "root_dir": f"{root}/root"}
    minion["file_roots"] = {"base": [f"{root}/srv/salt"]}
    minion["pillar_roots"] = {"base": [f"{root}/srv/pillar"]}
    (root / "etc/minion.d").mkdir(parents=True)
    (root / "etc/minion").write_text(yaml.safe_dump(minion))
    (root / "etc/minion.d/99-minion.conf").write_text(yaml.safe_dump(extra))
    return options


def call(root, *arguments):
    command = [SALT_CALL, "--local", "-c", root / "etc", "--out=json", "--log-level=quiet", *arguments]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=False, timeout=commands.BOUND)
    return commands.parsed(done)["local"]


def test_the_container_has_our_states_and_its_secrets(tmp_path):
    lay_out(SUITES["single"], tmp_path)
    assert "swarm.member" in call(tmp_path, "sys.list_state_functions", "swarm")
    assert "token" in call(tmp_path, "pillar.raw", "rpiomega_secrets")["consul"]


@pytest.mark.parametrize("name", ["single", "master", "manager", "worker"])
def test_a_suite_renders_its_states_and_no_others(name, tmp_path):
    options = lay_out(SUITES[name], tmp_path)
    low = call(tmp_path, "state.show_lowstate")
    assert all(isinstance(chunk, dict) for chunk in low), low
    found = list(dict.fromkeys(chunk["__sls__"].split(".")[0] for chunk in low))
    wanted = options["state_top"]["base"]["*"]
    # Some states have nothing to do unless the site asks for it.
    assert found == [state for state in wanted if state in found]
    assert {"packages", "docker", "b2"} <= set(found)
    assert ("swarm" in found) is ("swarm" in wanted)


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_a_suite_is_a_node_of_its_site_in_its_role(suite):
    options = suite["provisioner"]
    path = ROOT / options["pillars_from_files"]["site.sls"]
    assert f"--site={path.relative_to(ROOT)} " in suite["verifier"]["command"]
    node = load(path).nodes[options["salt_minion_id"]]
    assert suite["driver_config"]["hostname"] == node.name
    role = "master" if suite["name"] == "single" else suite["name"]
    assert role in node.roles
    if "consul" in options["state_top"]["base"]["*"]:
        assert f" {node.address}/" in KITCHEN["provisioner"]["pre_salt_command"]


@pytest.mark.skipif(os.geteuid() != 0, reason="root is needed to be another host")
@pytest.mark.parametrize("name", ["single", "master"])
def test_checks_that_need_a_minion_are_left_out_without_one(name):
    """On this machine, which has no salt-minion either, under the node's name."""
    command = SUITES[name]["verifier"]["command"].replace(".venv/bin/python", sys.executable)
    command = command.replace("docker://$KITCHEN_CONTAINER_ID", "local://").replace(
        "tests/verify", "tests/verify/test_consul.py"
    )
    command = re.sub("-k '[^']*'|-k \"[^\"]*\"", '-k "snapshots or salt-minion"', command)
    inside = ["unshare", "--uts", "sh", "-c", f"hostname kitchen-{name}; {command} -rs"]
    done = subprocess.run(inside, cwd=ROOT, capture_output=True, text=True, check=False, timeout=commands.BOUND)
    assert "2 skipped" in done.stdout and "failed" not in done.stdout, done.stdout + done.stderr


@pytest.mark.parametrize("suite", SUITES.values(), ids=SUITES)
def test_a_suites_verifier_finds_its_checks(suite, tmp_path):
    """Its own command, but only to list what it would run."""
    environment = {**os.environ, "KITCHEN_CONTAINER_ID": "none"}  # by the shell verifier itself
    command = suite["verifier"]["command"].replace(".venv/bin/python", sys.executable) + " --collect-only -q"
    done = subprocess.run(command, shell=True, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    files = {line.split("::")[0].rpartition("/")[2] for line in done.stdout.splitlines() if "::" in line}
    states = suite["provisioner"]["state_top"]["base"]["*"]
    assert files == {f"test_{name}.py" for name in states}, done.stdout + done.stderr
    assert ("every_node" in done.stdout) is (suite["name"] == "single")
