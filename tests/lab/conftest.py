"""
Labs for the tests: `boards` are bare virtual Pis, `cluster` is what the product makes of three of them.

A file takes its labs down as it ends; files run side by side, so each names its labs for itself.
"""

import json
import logging
import os
import subprocess
import sys
import time

import pytest

from rpiomega.lab import demo, engine, lifecycle, pi, remote, state

logging.getLogger("urllib3").setLevel(logging.WARNING)
APPLY = "sudo salt --out=json '*' state.apply"


@pytest.fixture(scope="session")
def docker():
    """The Docker daemon that runs the labs."""
    return engine.connect()


@pytest.fixture(scope="module")
def make_lab(docker):
    """Bring a lab up from nothing: `make_lab(name, nodes)`, with more of `state.Lab` by its name.

    They go as the file ends, and must leave nothing.
    """
    made = []

    def make(name, nodes, **more):
        lifecycle.down(docker, name)
        made.append(name)
        return lifecycle.up(docker, state.Lab(name, os.environ.get("RPIOMEGA_RELEASE", "trixie"), nodes, **more), print)

    yield make
    for name in [] if os.environ.get("RPIOMEGA_KEEP_LAB") else made:
        lifecycle.down(docker, name)
        assert lifecycle.leftovers(docker, name) == []


@pytest.fixture(scope="module")
def boards(make_lab):
    """Two virtual Pis as they come from the card: nothing of the product is on them."""
    return make_lab("boards", 2)


@pytest.fixture(scope="module")
def restart(boards):
    """`restart(node)`: reboot one of `boards` from within."""
    return lambda node: reboot(boards, node)


class Cluster:
    """A lab and what happened on its way to a cluster. Commands are those of the README."""

    def __init__(self, lab):
        self.lab = lab
        self.master = lab.node_names()[0]
        self.times = {}
        self.bootstrap = self.rpiomega("bootstrap", bound=1800)

    def rpiomega(self, *arguments, bound=300):
        """Run `rpiomega ARGUMENTS --site SITE` on this machine; return the finished process."""
        command = [sys.executable, "-m", "rpiomega", *arguments, "--site", str(self.lab.site_file)]
        start = time.monotonic()
        done = subprocess.run(command, capture_output=True, text=True, timeout=bound, check=False)
        self.times[arguments[0]] = time.monotonic() - start
        return done

    def on_master(self, command, bound=120):
        """Run a command on the master as pi, give its output."""
        return remote.run(self.lab, self.master, command, bound)

    def apply(self, what):
        """Apply all states on all nodes at once; return node -> state id -> result."""
        start = time.monotonic()
        text = remote.run(self.lab, self.master, APPLY, demo.APPLY_BOUND, check=False)
        self.times[what] = time.monotonic() - start
        return documents(text)

    def reboot(self, node):
        """Reboot a node by its own `systemctl reboot`, and wait until it can be logged in to again."""
        reboot(self.lab, node)


def documents(text):
    """Merge the JSON documents that salt prints, one per minion as each returns."""
    merged, decoder, rest = {}, json.JSONDecoder(), text.strip()
    while rest:
        document, end = decoder.raw_decode(rest)
        merged.update(document)
        rest = rest[end:].lstrip()
    return merged


def reboot(lab, node):
    """Reboot a node from within, wait until it has booted and pi can log in."""
    container = pi.find(engine.connect(), lab, node)
    started = container.attrs["State"]["StartedAt"]
    engine.run(container, "systemctl reboot", check=False)

    def restarted():
        container.reload()
        return container.attrs["State"]["StartedAt"] != started

    poll(f"{node} to go down and come back", 180, restarted)
    pi.wait_booted(lab, node, container)
    pi.wait_login(lab, node)


def poll(what, bound, look):
    """Wait until `look()` is true, at most `bound` seconds; the failure says what was waited for."""
    deadline = time.monotonic() + bound
    while not (seen := look()):
        assert time.monotonic() < deadline, f"waited {bound} s in vain for {what}; last seen: {seen!r}"
        time.sleep(0.5)
    return seen


@pytest.fixture(scope="session")
def wait():
    """`wait(what, bound, look)`: poll until `look()` is true; fail naming what was waited for."""
    return poll


@pytest.fixture(scope="module")
def make_cluster(make_lab):
    """`make_cluster(name, nodes)`: that many virtual Pis after `rpiomega bootstrap`.

    `prepare(lab)` is called before that, to change the lab's site file; `more`: as of `make_lab`.
    """

    def make(name, nodes, prepare=lambda lab: None, **more):
        lab = make_lab(name, nodes, **more)
        prepare(lab)
        return Cluster(lab)

    return make


@pytest.fixture(scope="module")
def cluster(make_cluster):
    """Three virtual Pis after `rpiomega bootstrap`."""
    return make_cluster("test", 3)


@pytest.fixture(scope="module")
def accepted(cluster):
    """The cluster with its keys accepted by `rpiomega accept`, and all minions connected."""
    assert cluster.bootstrap.returncode == 0, cluster.bootstrap.stdout + cluster.bootstrap.stderr
    # Somebody else's key waits beside the cluster's own: it must be left waiting.
    cluster.on_master("sudo sh -c 'cp /etc/salt/pki/minion/minion.pub /etc/salt/pki/master/minions_pre/stranger'")
    cluster.acceptance = cluster.rpiomega("accept")
    assert cluster.acceptance.returncode == 0, cluster.acceptance.stdout + cluster.acceptance.stderr
    # `accept` ends when they can be asked.
    answers = cluster.on_master("sudo salt --out=json --static --timeout=5 '*' test.ping")
    assert json.loads(answers) == dict.fromkeys(cluster.lab.node_names(), True)
    return cluster


@pytest.fixture(scope="module")
def applied(accepted):
    """The cluster after the first `salt '*' state.apply`; `first` and `second` are what two applies returned."""
    accepted.first = accepted.apply("first apply")
    return accepted


@pytest.fixture(scope="module")
def finished(request):
    """The lab of a finished cluster: the one `RPIOMEGA_LAB` names, which stays, or a new one of three nodes."""
    if name := os.environ.get("RPIOMEGA_LAB"):
        return state.existing(name)
    lab = request.getfixturevalue("make_lab")("finished", 3)
    for step in (demo.bootstrap, demo.accept, demo.apply):
        step(lab)
    return lab
