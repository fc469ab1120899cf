"""A formed swarm for tests of `swarm.nodes_managed`: three managers, a worker, and a daemon outside, pi9."""

import copy
from concurrent.futures import ThreadPoolExecutor

import pytest
from dockerds import Dockerds
from swarm_catalog import Catalog
from swarm_site import Site, until

from omega.consul import client as consul_client
from omega.swarm.api import Engine
from omega.swarm.nodes import run as nodes_run
from omega.swarm.record import NODES, Store

ROLES = {"pi1": "manager", "pi2": "manager", "pi3": "manager", "pi4": "worker"}
MANAGERS = ["pi1", "pi2", "pi3"]
UNKNOWN = "pi9"


# A test file takes these fixtures, and `consul` and `kv` of swarm_site, by an assignment.


@pytest.fixture(scope="module")
def formed(consul, tmp_path_factory):
    """A Site whose nodes are in the swarm and alive in Consul's catalog."""
    with Dockerds([*ROLES, UNKNOWN]) as dockerds, Catalog(consul, dockerds) as catalog:
        site = Site(dockerds, ROLES, consul, tmp_path_factory.mktemp("site"))
        site.first, site.catalog = copy.deepcopy(site.pillar), catalog
        for name in ROLES:
            catalog.set(name)
        site.form()
        yield site


@pytest.fixture
def site(formed, kv):
    """The reconciled swarm of four: the site file as at first, all nodes active and without labels, no others."""
    site = formed
    site.pillar = copy.deepcopy(site.first)
    site.write_pillar()
    for name in ROLES:
        site.catalog.set(name)
    wipe(site, UNKNOWN)
    engine = Engine(site.dockerds["pi1"].base_url)
    for node in engine.nodes():
        if node.hostname not in ROLES or node.id != published(kv, node.hostname)["node_id"]:
            engine.api.remove_node(node.id, force=True)
        else:
            engine.update_node(node.id, lambda spec: {**spec, "Availability": "active", "Labels": {}})
    reconcile(site, "pi1")
    return site


def wipe(site, name):
    daemon = site.dockerds[name]
    if daemon.info()["LocalNodeState"] != "inactive":
        daemon.client(60).swarm.leave(force=True)


def published(kv, name):
    return kv.get(NODES + name).json()


def reconciler(site, name, **options):
    store = Store(consul_client.connect(site.consul_url, site.tokens[name]), name)
    options = {"gather": 0, "patience": 5, **options}
    return nodes_run.Reconciler(Engine(site.dockerds[name].base_url), store, site.pillar["rpiomega"], **options)


def reconcile(site, *names, **options):
    """Reconcile on these managers side by side; the one run if there is one, else all."""
    runs = [reconciler(site, name, **options) for name in names]
    with ThreadPoolExecutor(len(runs)) as pool:
        results = list(pool.map(lambda run: run.run(), runs))
    for run, (result, comment) in zip(runs, results):
        assert result is True, comment
        run.comment = comment
    return runs[0] if len(runs) == 1 else runs


def join(site, name, hostname=None):
    """Join the swarm with the worker token, as anybody could who has it; returns the NodeID."""
    daemon = site.dockerds[name]
    token = Engine(site.dockerds["pi1"].base_url).worker_token()
    daemon.client(40).swarm.join([f"{site.dockerds['pi1'].address}:2377"], token, advertise_addr=daemon.address)
    engine = Engine(site.dockerds["pi1"].base_url)
    node_id = daemon.info()["NodeID"]
    until(lambda: [node for node in engine.nodes() if node.id == node_id and node.ready], 20, f"{name} to be ready")
    return node_id


def spec_of(site, name):
    """(availability, labels without our own) of a node, by hostname or NodeID."""
    node = Engine(site.dockerds["pi1"].base_url).find(name)
    return node.availability, {key: value for key, value in node.labels.items() if not key.startswith("rpiomega.")}


def label(site, name, availability="active", **labels):
    """What a person does by hand."""
    engine = Engine(site.dockerds["pi1"].base_url)
    node = engine.find(name)
    engine.update_node(
        node.id, lambda spec: {**spec, "Availability": availability, "Labels": {**spec["Labels"], **labels}}
    )


def writes(site):
    return {name: [w for w in site.dockerds[name].writes() if "/swarm/leave" not in w] for name in ROLES}


def pi_url(site, name="pi1"):
    return site.dockerds[name].base_url
