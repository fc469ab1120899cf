"""A refused site file reaches nobody: judged by what the boards are, before anything is written on any of them."""

import getpass

import pytest
import yaml
from rich.console import Console

from rpiomega.bootstrap import Bootstrap, Options
from rpiomega.bulk import Bulk
from rpiomega.cache import Cache
from rpiomega.errors import NodeError
from rpiomega.gate import NOTHING, refusals
from rpiomega.remove import Options as RemoveOptions
from rpiomega.remove import Removal
from rpiomega.site import Site, load
from rpiomega.ssh import Settings

PLACES = {"pi-1": "127.0.0.61", "pi-2": "127.0.0.62", "pi-3": "127.0.0.63"}


def described(cluster="home", master="pi-1", **places):
    """Return the text of a site file."""
    nodes = {
        name: {"address": at, "roles": ["master", "manager"] if name == master else ["worker"]}
        for name, at in (places or PLACES).items()
    }
    return yaml.safe_dump({"rpiomega": {"cluster": cluster, "nodes": nodes, "network": {"manage": False}}})


def site(text):
    """Return the site of a text."""
    body = yaml.safe_load(text)["rpiomega"]
    return Site.model_validate(
        {**body, "nodes": {name: {**node, "name": name} for name, node in body["nodes"].items()}}
    )


def boards(**changes):
    """Return what the boards of a running cluster are; `changes`: node -> other data."""
    found = {}
    for name in PLACES:
        served = {"site": described(), "accepted": sorted(PLACES), "master_finger": "aa"} if name == "pi-1" else {}
        member = {"node": name, "cluster": "home", "swarm": True, "cached_master": "aa", "start": [name]}
        found[name] = {**NOTHING, **member, **served}
    for name, more in changes.items():
        found[name.replace("_", "-")].update(more)
    return found


def test_a_cluster_that_runs_as_its_site_file_says_passes():
    assert refusals(site(described()), boards()) == {}
    assert refusals(site(described()), {name: {**NOTHING, "start": [name]} for name in PLACES}) == {}


RENAMED = dict(zip(["pi-1", "pi-2", "kitchen"], PLACES.values(), strict=True))
GONE = {name: at for name, at in PLACES.items() if name != "pi-3"}
SWAPPED = {**PLACES, "pi-2": PLACES["pi-3"], "pi-3": PLACES["pi-2"]}
WHOLE = {
    "a renamed member": (described(**RENAMED), {"pi-3": "kitchen"}, {}, "kitchen", "cannot become kitchen"),
    "a node that is gone": (described(**GONE), {}, {}, "pi-1", "pi-3 is not in the site file any more"),
    "another cluster": (
        described(cluster="new"),
        {},
        {},
        "pi-1",
        "master of the cluster home, the site file is that of",
    ),
    "a master role that moved": (described(master="pi-2"), {}, {}, "pi-1", "gives that role to pi-2"),
    "one board for two": (described(), {}, {"pi_2": {"start": ["pi-3"]}}, "pi-2", "the same board as pi-3"),
    "swapped boards": (
        described(**SWAPPED),
        {"pi-2": "pi-3", "pi-3": "pi-2"},
        {"pi_2": {"swarm": False}, "pi_3": {"swarm": False}},
        "pi-2",
        "this board is pi-3, not pi-2",
    ),
    "a master of another master": (
        described(),
        {},
        {"pi_1": {"cached_master": "bb"}},
        "pi-1",
        "another master (key bb",
    ),
}


@pytest.mark.parametrize(("text", "names", "changes", "node", "cause"), WHOLE.values(), ids=WHOLE)
def test_what_is_wrong_with_the_file_as_a_whole(text, names, changes, node, cause):
    made = site(text)
    seen = {names.get(name, name): data for name, data in boards(**changes).items()}
    found = refusals(made, {name: data for name, data in seen.items() if name in made.nodes})
    error, whole = found[node]
    assert whole and cause in error.cause and error.cure


def test_what_is_about_one_board_is_not_about_the_file():
    ((error, whole),) = refusals(site(described()), boards(pi_2={"cached_master": "bb"})).values()
    assert not whole and "another master (key bb, ours is aa)" in error.cause
    assert refusals(site(described()), boards(pi_2={"cached_master": "bb"}), new_master=True) == {}


def test_a_removed_node_passes_once_its_key_is_gone_or_while_it_is_removed():
    made, found = site(described(**GONE)), boards(pi_1={"accepted": ["pi-1", "pi-2"]})
    assert refusals(made, {name: found[name] for name in GONE}) == {}
    assert refusals(made, {"pi-1": boards()["pi-1"]}, leaving=["pi-3"]) == {}


def test_a_copied_card_is_not_a_renamed_board():
    fresh = {"node": "pi-2", "swarm": False}
    assert refusals(site(described()), boards(pi_3=fresh)) == {}
    lone = {name: data for name, data in boards(pi_3=fresh).items() if name != "pi-2"}
    assert "--renew-identity" in refusals(site(described()), lone)["pi-3"][0].cure
    assert refusals(site(described()), lone, renew=True) == {}


@pytest.fixture
def cluster(machines):
    """Three machines that answer as a running cluster."""
    made = {name: machines(name, at, mark=("home", name)) for name, at in PLACES.items()}
    for server in made.values():
        member = server.folder / "root/var/lib/docker/swarm/docker-state.json"
        member.parent.mkdir(parents=True)
        member.write_text("{}")
    root = made["pi-1"].folder / "root"
    for path, text in {
        "etc/salt/master.d/rpiomega.conf": "x",
        "etc/salt/pki/master/minions/pi-3": "x",
        "srv/rpiomega/pillar/site.sls": described(),
    }.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    return made


def bootstrap(cluster, pool, tmp_path, text):
    """Bootstrap (a dry run: these machines share this one's kernel); return the rows and the steps that were run."""
    path = tmp_path / "site.sls"
    path.write_text(text)
    server = cluster["pi-1"]
    settings = Settings(getpass.getuser(), server.port, server.folder / "key", tmp_path / "hosts", None)
    made, steps = load(path), []
    bulk = Bulk(made.nodes, tmp_path / "logs", 1, Console(file=(tmp_path / "out").open("w")))
    bulk.on_event = lambda event: steps.append(event.get("step")) if event["event"] == "start" else None
    run = Bootstrap(made, path, pool(settings), Cache(tmp_path / "cache"), Options(dry_run=True, wait=5))
    assert run.run(bulk)
    bulk.close()
    return bulk.rows, steps


@pytest.mark.parametrize(("text", "node"), [(described(**RENAMED), "kitchen"), (described(**GONE), "pi-1")])
def test_no_board_is_touched_if_the_file_is_refused(cluster, pool, tmp_path, text, node):
    rows, steps = bootstrap(cluster, pool, tmp_path, text)
    assert steps == []
    assert {row.state for row in rows.values()} == {"failed"}
    assert "pi-3" in rows[node].error.cause and "rpiomega remove pi-3" in rows[node].error.cure
    for name, row in rows.items():
        assert row.error.cause.startswith("the site file is refused because of ") or "pi-3" in row.error.cause, name


class Silent:
    """A master in the place of `rpiomega.remove.Master`, whose answers are given; `asked`: what it was asked."""

    name = "pi-1"

    def __init__(self, remote, views):
        self.remote, self.views, self.asked = remote, views, []

    def root(self, *command, **_):
        return ""

    def ask(self, targets, function, *_, **__):
        return {name: self.views[function] for name in targets if function in self.views}

    def do(self, target, function, *_):
        return self.views[function]


@pytest.mark.parametrize("why", ["quorum", "another node is gone"])
def test_a_refused_removal_leaves_the_masters_site_file(cluster, pool, tmp_path, why, monkeypatch):
    path, server = tmp_path / "site.sls", cluster["pi-1"]
    left = GONE if why == "quorum" else {"pi-1": PLACES["pi-1"]}
    path.write_text(described(**left))
    (server.folder / "root/etc/salt/pki/master/minions/pi-2").write_text("x")
    settings = Settings(getpass.getuser(), server.port, server.folder / "key", tmp_path / "hosts", None)
    remote = pool(settings).remote([PLACES["pi-1"]])
    remote.connect(5)
    consul = {"consul": "alive", "refused": "it is the last server", "token": True, "policy": True, "secrets": True}
    views = {"rpiomega.removal": consul, "swarm.removal": {"entries": [], "published": "x"}}
    delivered = []
    monkeypatch.setattr(Removal, "_site_file", lambda self: delivered.append(self.name))
    run = Removal(load(path), path, "pi-3", RemoveOptions(), Silent(remote, views), print)
    with pytest.raises(
        NodeError, match="it has to stay" if why == "quorum" else "pi-2 is not in the site file any more"
    ):
        run.run()
    assert delivered == []
