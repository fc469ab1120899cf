"""`rpiomega roster`: what salt-ssh makes of it, with a real SSH server."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import commands
import pytest
import yaml
from click.testing import CliRunner

from rpiomega.cli import main
from rpiomega.roster import roster
from rpiomega.site import load

ROOT = Path(__file__).resolve().parents[2]
SALT_SSH = Path(sys.executable).parent / "salt-ssh"


def test_nodes_are_reached_at_the_address_they_keep_with_the_sites_login():
    done = CliRunner().invoke(main, ["roster", "--site", str(ROOT / "examples/site-seven-mixed.sls")])
    assert done.exit_code == 0, done.output
    made = yaml.safe_load(done.output)
    login = {"user": "pi", "port": 22, "sudo": True, "priv": "agent-forwarding"}
    assert made["old-pi"] == {"host": "10.20.0.21", **login}
    assert len(made) == 7


@pytest.mark.skipif(os.geteuid() != 0, reason="logging in as root without sudo needs root")
@pytest.mark.skipif(not SALT_SSH.exists(), reason="salt-ssh is not installed here")
def test_salt_ssh_runs_our_states_by_it(sshd, tmp_path):
    folder = tmp_path / "a site"
    folder.mkdir()
    for name in ("key", "key.pub", "known_hosts"):
        text = f"[127.0.0.1]:{sshd.port} {(tmp_path / 'host.pub').read_text()}"
        (folder / name).write_text(text if name == "known_hosts" else (tmp_path / name).read_text())
        (folder / name).chmod(0o600)
    with (tmp_path / "sshd_config").open("a") as config:
        config.write("Subsystem sftp internal-sftp\n")  # scp
    sshd.start()
    for name in ("salt", "pillar", "masterless", "_modules", "_states", "_utils"):
        shutil.copytree(ROOT / name, folder / name, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Saltfile", folder)
    users = {"admin": "root", "port": sshd.port, "identity": "../key", "known_hosts": "../known_hosts"}
    nodes = {"here": {"address": "127.0.0.1", "roles": ["master", "manager"]}}
    site = folder / "pillar/site.sls"
    site.write_text(yaml.safe_dump({"rpiomega": {"cluster": "omega", "nodes": nodes, "users": users}}))
    made = roster(load(site), site.parent)
    # This machine's own login may find another Python first, and keeps nothing of the test.
    made["here"] |= {"set_path": "/usr/sbin:/usr/bin:/sbin:/bin", "thin_dir": str(tmp_path / "thin")}
    (folder / "roster").write_text(yaml.safe_dump(made))
    with (folder / "masterless/master").open("a") as config:
        config.write(f"root_dir: {tmp_path}/root\n")
    command = [SALT_SSH, "--roster-file=roster", "--out=json", "here", "state.apply", "packages,docker", "test=True"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=2 * commands.BOUND)
    results = commands.parsed(done)["here"]
    assert "stderr" not in results, results
    assert "docker.repository" in {state["__id__"] for state in results.values()}
    # A machine without systemd, as in a container, has no services to look at.
    services = [] if os.path.isdir("/run/systemd/system") else ["docker.service"]
    wrong = [state for state in results.values() if state["result"] is False and state["__id__"] not in services]
    assert [state["comment"] for state in wrong] == []
