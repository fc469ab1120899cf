"""The jobs of a bootstrap, from the site file of an example: a board reads each of them as it was meant."""

import json
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest

from rpiomega import agent, formula, move
from rpiomega.bootstrap import INCOMING, SALT_INCOMING, Bootstrap, Options
from rpiomega.node import job_steps
from rpiomega.node.job_steps import ServedFile
from rpiomega.site import load

ROOT = Path(__file__).resolve().parents[2]
SITE = ROOT / "examples/site-seven-mixed.sls"
FINGER = "aa:bb"
# Another node has built Salt already.
CACHE = SimpleNamespace(
    lock=lambda name: threading.Lock(), get=lambda name: SimpleNamespace(path=Path("build"), sha256="sum")
)


class Row:
    """A node's row, without a console."""

    def __init__(self, name):
        self.name, self.notes = name, []

    def start(self, what):
        pass

    def event(self, event):
        pass


class Remote:
    """A board that takes files."""

    def __init__(self):
        self.files = []

    def upload(self, path, target):
        self.files.append(target)


@pytest.fixture
def sent(monkeypatch):
    """Answer the jobs of a bootstrap; gives those that were sent, as the board reads them from their JSON."""
    steps = []
    salt = {"kind": "onedir", "key": "", "installed": False}
    answers = {
        "identity": {"machine_id": "a" * 32, "host_keys": {"ed25519": "key"}, "swarm": False},
        "inventory": {"salt": salt, "files": ["consul.tar"], "formula": "old", "master_finger": ""},
        "network": {"stack": "netplan", "before": []},
        "minion": {"finger": "cc:dd"},
        "master": {"master_finger": FINGER},
    }

    def run(remote, job, on_event, dry_run=False):
        read = [job_steps.read(json.loads(json.dumps(step.item()))) for step in job]
        assert read == list(job)
        steps.extend(read)
        return {step.step: {"status": "ok", "data": answers.get(step.step, {})} for step in read}

    monkeypatch.setenv(move.SECRET, "correct horse")
    monkeypatch.setattr(agent, "run", run)
    monkeypatch.setattr(move.known_hosts, "remember_address", lambda remote, address: None)
    here = SimpleNamespace(commit="c" * 40, dirty=False, bundle=lambda folder, branch: folder / "bundle")
    monkeypatch.setattr(formula, "find", lambda start: here)
    return SimpleNamespace(steps=steps, salt=salt)


@pytest.mark.parametrize("kind", ["onedir", "pip"])
def test_the_steps_of_a_master_and_of_another_node(sent, kind, monkeypatch, tmp_path):
    site, remote = load(SITE), Remote()
    sent.salt.update(kind=kind, key="build" if kind == "pip" else "")
    run = Bootstrap(site, SITE, SimpleNamespace(stop=threading.Event()), CACHE, Options())
    monkeypatch.setattr(run.gate, "passed", lambda name: remote)
    monkeypatch.setattr(run, "_files", lambda: [(tmp_path / "consul.tar", ServedFile("consul.tar", "sum", 1))])
    run._steps(Row(site.master.name), site.master)
    names = [step.step for step in sent.steps]
    assert names[0] == "hostname"
    assert names[-4:] == ["salt", "formula", "master", "minion"]
    (placed,) = [step for step in sent.steps if step.step == "formula"]
    assert placed.files == [ServedFile("consul.tar", "sum", 1, f"{INCOMING}/consul.tar")]
    built = [f"{SALT_INCOMING}/build.tar.gz"] if kind == "pip" else []
    assert (placed.commit, remote.files) == ("c" * 40, [*built, f"{INCOMING}/consul.tar", placed.bundle])

    sent.steps.clear()
    other = next(node for node in site.nodes.values() if node is not site.master)
    monkeypatch.setattr(run.identities, "claim", lambda name, own: {})
    run._steps(Row(other.name), other)
    (minion,) = [step for step in sent.steps if step.step == "minion"]
    assert (minion.id, minion.master, minion.master_finger) == (other.name, site.master.address, FINGER)
    (salt,) = [step for step in sent.steps if step.step == "salt"]
    assert (salt.kind, salt.master, salt.repository.uri) == (kind, False, site.salt.repository.uri)
    assert [salt.archive] == (built or [""])
    assert run.fingers == {site.master.name: "cc:dd", other.name: "cc:dd"}
