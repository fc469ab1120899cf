"""State swarm: every node in its role, in the one swarm the record names."""

import json

import pytest


@pytest.fixture(autouse=True)
def _wanted(site):
    if not site["swarm"]["enabled"]:
        pytest.skip("the site has swarm.enabled: false")


@pytest.fixture
def record(consul):
    """The permanent record of the swarm, as Consul keeps it."""
    return json.loads(consul("kv get rpiomega/swarm/record"))


@pytest.fixture
def seen(host, node):
    """The swarm's nodes as this manager lists them."""
    if "manager" not in node["roles"]:
        pytest.skip("only managers list the nodes")
    answer = host.run("docker node ls --format '{{json .}}'")
    assert answer.rc == 0, f"it cannot list the nodes: {answer.stderr.strip()}"
    return [json.loads(line) for line in answer.stdout.splitlines()]


def test_the_node_is_active_in_its_role(docker_info, node):
    swarm = docker_info["Swarm"]
    assert swarm["LocalNodeState"] == "active", f"it is {swarm['LocalNodeState']}"
    role = "manager" if swarm["ControlAvailable"] else "worker"
    assert swarm["ControlAvailable"] == ("manager" in node["roles"]), f"it is a {role}"


def test_the_swarm_is_reached_at_the_site_files_address(docker_info, node):
    found = docker_info["Swarm"]["NodeAddr"]
    assert found == node["address"], f"the swarm reaches it at {found or 'no address'}"


def test_the_record_names_this_swarm(record, docker_info, node):
    assert record["state"] == "ready", f"the record says {record['state']}"
    if "manager" in node["roles"]:
        found = (docker_info["Swarm"].get("Cluster") or {}).get("ID", "none")
        assert found == record["cluster_id"], f"the record names {record['cluster_id']}, its swarm is {found}"


def test_a_manager_sees_every_node_ready(seen, site):
    states = {row["Hostname"]: row["Status"] for row in seen}
    wrong = [f"{name} is {states.get(name, 'absent')}" for name in site["nodes"] if states.get(name) != "Ready"]
    assert wrong == [], ", ".join(wrong)


def test_the_swarm_has_no_nodes_but_the_sites(seen, site):
    names = [row["Hostname"] for row in seen]
    wrong = [name for name in names if name not in site["nodes"] or names.count(name) > 1]
    assert wrong == [], f"too many entries: {', '.join(wrong)}"


def test_a_manager_sees_every_node_in_its_role(seen, site):
    managers = {row["Hostname"] for row in seen if row["ManagerStatus"] in ("Leader", "Reachable")}
    wanted = {name for name, entry in site["nodes"].items() if "manager" in entry["roles"]}
    assert managers == wanted, f"they are {', '.join(sorted(managers))}"
