"""The agent's configuration: who is a server, which syntax, and what may not stand in it."""

import json

import pytest

from omega.consul import agent, policies
from omega.site import nodes as site_nodes

SECRETS = {"gossip_key": "g", "ca": "CA", "cert": "CERT", "key": "KEY", "token": "node-token"}


def site(*roles):
    nodes = {f"n{at}": {"address": f"10.0.0.{at}", "roles": role} for at, role in enumerate(roles, 1)}
    return {"cluster": "omega", "nodes": nodes}


MANAGER, WORKER, MASTER = ["manager"], ["worker"], ["master", "manager"]


@pytest.mark.parametrize(
    ("roles", "servers"),
    [
        ([MASTER], ["n1"]),
        ([MASTER, MANAGER], ["n1"]),
        ([MASTER, WORKER, WORKER], ["n1"]),
        ([MASTER, MANAGER, MANAGER], ["n1", "n2", "n3"]),
        ([MANAGER, MANAGER, MANAGER, MASTER], ["n4", "n1", "n2"]),
        ([["master", "worker"], MANAGER, MANAGER, MANAGER], ["n1", "n2", "n3"]),
        ([MASTER] + [MANAGER] * 6, ["n1", "n2", "n3"]),
    ],
)
def test_servers_follow_the_number_of_managers(roles, servers):
    assert site_nodes.consul_servers(site(*roles)) == servers


def build(image, name="n1", **kwargs):
    return agent.build(site(MASTER, MANAGER, MANAGER, WORKER), name, image, SECRETS, **kwargs)


def test_tls_and_management_token_are_spelt_as_the_version_knows_them():
    old = build("rpiomega/consul:1.8.7", management_token="t")
    new = build("hashicorp/consul:1.21.5", management_token="t")
    assert old["verify_server_hostname"]
    assert old["acl"]["tokens"]["master"] == "t"
    assert new["tls"]["internal_rpc"]["verify_server_hostname"]
    assert new["acl"]["tokens"]["initial_management"] == "t"


@pytest.mark.parametrize("image", ["hashicorp/consul", "hashicorp/consul:latest", "host:5000/consul:v1.22.0"])
def test_an_image_that_names_no_old_version_counts_as_current(image):
    assert "tls" in build(image)


def test_a_worker_never_holds_the_management_token():
    assert "management" not in str(build("hashicorp/consul:1.21.5", "n4", management_token="management"))


def test_the_right_to_start_a_cluster_stands_in_a_file_of_its_own():
    config = build("hashicorp/consul:1.21.5")
    assert "bootstrap" not in str(agent.files(config, SECRETS))
    starter = agent.files(config, SECRETS, bootstrap=True)[agent.BOOTSTRAP]
    assert json.loads(starter) == {"bootstrap_expect": 1}


def test_only_servers_have_raft_settings_and_the_lock_of_the_restarts():
    server, worker = build("hashicorp/consul:1.21.5", "n2", raft_multiplier=1), build("hashicorp/consul:1.21.5", "n4")
    assert server["performance"] == {"raft_multiplier": 1}
    assert "performance" not in worker
    everyone = site(["master", "worker"], MANAGER, MANAGER, MANAGER)
    rules = {name: policies.rules(everyone, name) for name in everyone["nodes"]}
    assert [name for name, text in rules.items() if policies.RESTART_LOCK in text] == ["n1", "n2", "n3"]
