"""The agent's configuration: who is a server, which syntax, and what may not stand in it."""

import omega_consul_agent
import omega_site
import pytest

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
    assert omega_site.consul_servers(site(*roles)) == servers


def build(image, name="n1", **kwargs):
    return omega_consul_agent.build(site(MASTER, MANAGER, MANAGER, WORKER), name, image, SECRETS, **kwargs)


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


def test_only_a_bootstrapping_server_may_elect_itself():
    assert "bootstrap_expect" not in build("hashicorp/consul:1.21.5")
    assert build("hashicorp/consul:1.21.5", bootstrap=True)["bootstrap_expect"] == 1
    assert "bootstrap_expect" not in build("hashicorp/consul:1.21.5", "n4", bootstrap=True)
