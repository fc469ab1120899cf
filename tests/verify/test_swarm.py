"""State swarm: every node in its role, in the one swarm the record names."""

import json


def test_the_node_is_active_in_its_role(docker_info, node):
    assert docker_info["Swarm"]["LocalNodeState"] == "active"
    assert docker_info["Swarm"]["ControlAvailable"] == ("manager" in node["roles"])


def test_the_swarm_is_reached_at_the_site_files_address(docker_info, node):
    assert docker_info["Swarm"]["NodeAddr"] == node["address"]


def test_the_record_names_this_swarm(consul, docker_info, node):
    record = json.loads(consul("kv get rpiomega/swarm/record"))
    assert record["state"] == "ready"
    if "manager" in node["roles"]:
        assert docker_info["Swarm"]["Cluster"]["ID"] == record["cluster_id"]


def test_a_manager_sees_every_node_ready(host, node, site):
    if "manager" not in node["roles"]:
        return
    rows = [json.loads(line) for line in host.check_output("docker node ls --format '{{json .}}'").splitlines()]
    assert {row["Hostname"]: row["Status"] for row in rows} == dict.fromkeys(site["nodes"], "Ready")
    managers = {row["Hostname"] for row in rows if row["ManagerStatus"]}
    assert managers == {name for name, entry in site["nodes"].items() if "manager" in entry["roles"]}
