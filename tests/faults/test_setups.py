"""A node's address is moved by edits of the site file that the product takes, and is given back."""

import copy

import pytest
import setups
import yaml
from inject import Injector

from rpiomega import site as sites
from rpiomega.lab import sitefile, state

NODE, NEW = "rpiomega-3", "192.168.140.150"


class Lab:
    """A cluster whose site file is real; it is whole as soon as states are applied with `readdress`."""

    def __init__(self, folder):
        self.path, self.edits, self.did = folder / "site.sls", [], []
        self.names = yaml.safe_load(self.path.read_text())["rpiomega"]["nodes"]

    @property
    def site(self):
        return yaml.safe_load(self.path.read_text())["rpiomega"]

    def address(self, node):
        return self.site["nodes"][node]["address"]

    def change_site(self, change):
        document = yaml.safe_load(self.path.read_text())
        change(document["rpiomega"])
        self.path.write_text(yaml.safe_dump(document))
        self.edits.append(sites.load(self.path))

    def wait_salt(self, nodes):
        pass

    def apply(self):
        self.did.append(self.edits[-1].nodes[NODE].address)
        assert self.site["swarm"]["readdress"] is True

    def problems(self):
        return []


@pytest.fixture
def lab(tmp_path, monkeypatch):
    """A lab's site file, as `lab up` writes it."""
    monkeypatch.setattr(state, "ROOT", tmp_path)
    made = state.Lab("faults", nodes=4, subnet="192.168.140.0/24")
    state.make_key(made)
    made.known_hosts.touch()
    sitefile.write(made)
    return Lab(made.folder)


def test_a_moved_address_is_reached_at_the_old_one_and_given_back(lab):
    fault, before = Injector(lab), copy.deepcopy(lab.site)
    old = lab.address(NODE)
    setups.move_address(fault, lab, NODE, NEW)
    moved = lab.edits[-1].nodes[NODE]
    assert (moved.host, moved.address, NODE in fault.touched) == (old, NEW, True)
    assert lab.site["swarm"]["readdress"] is True
    assert fault.heal() == []
    assert (lab.edits[1].nodes[NODE].host, lab.edits[1].nodes[NODE].address) == (NEW, old)
    assert lab.did == [old]
    assert lab.site == before


def test_an_address_that_was_never_moved_needs_no_apply(lab):
    def refuse(change):
        raise RuntimeError("the bootstrap failed")

    fault, real = Injector(lab), lab.change_site
    lab.change_site = refuse
    with pytest.raises(RuntimeError, match="the bootstrap failed"):
        setups.move_address(fault, lab, NODE, NEW)
    lab.change_site = real
    assert fault.heal() == []
    assert lab.did == []
