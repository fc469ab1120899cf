"""A node that still has the flat files `_utils/omega_*.py` of version 0.1 is brought to the package `omega`."""

import subprocess

import pytest

from rpiomega.lab import demo, remote

pytestmark = pytest.mark.long
PACKAGE = "_utils/omega/__init__.py"
TREE = "/srv/rpiomega/formula"
UTILS = "/var/cache/salt/minion/extmods/utils"
FLAT = f"sudo find {UTILS} {TREE}/_utils -name 'omega_*.py'"
# Each loads a module that version 0.1 had as well, and which imported the flat files there.
CALLS = ("swarm.info", "swarm.is_manager", "rpiomega_modules.digest")


def git(*arguments):
    return subprocess.run(
        ["git", "-C", demo.ROOT, *arguments], capture_output=True, text=True, check=True
    ).stdout.strip()


@pytest.fixture(scope="module")
def old():
    """The last commit before the package, of this checkout's history."""
    if git("rev-parse", "--is-shallow-repository") == "true":
        pytest.skip("a shallow clone has no version 0.1")
    return git("rev-parse", git("log", "--format=%H", "--diff-filter=A", "--", PACKAGE).splitlines()[-1] + "^")


@pytest.fixture(scope="module")
def node(make_cluster, old):
    """One virtual Pi, its key accepted, with master and minion at version 0.1."""
    cluster = make_cluster("workstation", 1)
    assert cluster.bootstrap.returncode == 0, cluster.bootstrap.stdout + cluster.bootstrap.stderr
    demo.accept(cluster.lab)
    run = cluster.on_master
    run(f"sudo git -C {TREE} reset -q --hard {old}")
    run("sudo systemctl restart salt-master")
    sync(cluster)
    assert run(FLAT).count(UTILS) > 50
    assert not run(f"sudo find {UTILS} -path '*/omega/*'")
    return cluster


def sync(cluster):
    remote.run(cluster.lab, cluster.master, "sudo salt-call --out=quiet saltutil.sync_all", 300)


def test_the_bootstrap_brings_the_package_and_leaves_no_flat_file(node, old):
    done = node.rpiomega("bootstrap", bound=900)
    assert done.returncode == 0, done.stdout + done.stderr
    assert node.on_master(f"git -C {TREE} rev-parse HEAD") != old
    assert node.on_master(FLAT) == ""
    assert node.on_master(f"sudo ls {UTILS}/omega/swarm/record.py")


def test_functions_and_states_use_the_package(node):
    """By the running minion, which had loaded the old modules, and for a first apply."""
    for call in CALLS:
        answer = node.on_master(f"sudo salt --out=txt --timeout=60 '*' {call} 2>&1 || true")
        assert "omega_" not in answer and "is not available" not in answer, answer
        assert "No module named" not in answer, answer
    states = node.on_master("sudo salt --out=json '*' state.apply packages test=True", bound=600)
    assert '"result": false' not in states, states
    log = node.on_master('sudo grep -h "No module named \'omega" /var/log/salt/minion /var/log/salt/master || true')
    assert log == ""
