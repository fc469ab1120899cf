"""The consul module's calls of the agent, the catalog, health and events, on a real server."""

import pytest
from consul_server import eventually


def test_agent_check_changes_state(consul, refused, name):
    consul("agent_check_register", name=name, ttl="60s", notes="n")
    for verb, state in (("pass", "passing"), ("warn", "warning"), ("fail", "critical")):
        consul(f"agent_check_{verb}", checkid=name, note=f"{state} now")
        check = consul("agent_checks")[name]
        assert (check["Status"], check["Output"]) == (state, f"{state} now")
    eventually(lambda: [c["CheckID"] for c in consul("health_state", state="critical")], lambda ids: name in ids)
    consul("agent_check_deregister", checkid=name)
    assert name not in consul("agent_checks")
    assert "interval" in refused("agent_check_register", name=name, http="http://127.0.0.1:1/")["message"]
    refused("agent_check_register", name=name)


def test_agent_check_by_script_runs(consul, name):
    consul("agent_check_register", name=name, script="echo from-a-script", interval="1s")
    eventually(lambda: consul("agent_checks")[name]["Output"], lambda output: "from-a-script" in output)
    consul("agent_check_deregister", checkid=name)


def test_agent_service_is_found_in_catalog_and_health(consul, name):
    check = {"TTL": "60s", "Status": "passing"}
    consul("agent_service_register", name=name, Port=8080, tags="blue", id=name + "-1", check=check)
    service = consul("agent_services")[name + "-1"]
    assert (service["Service"], service["Port"], service["Tags"]) == (name, 8080, ["blue"])
    eventually(lambda: consul("catalog_services"), lambda services: services.get(name) == ["blue"])
    assert consul("catalog_service", service=name, tag="blue")[0]["ServicePort"] == 8080
    assert consul("catalog_service", service=name, tag="green") == []
    assert len(consul("health_service", service=name, passing="True")) == 1
    assert consul("health_checks", service=name)[0]["Status"] == "passing"
    consul("agent_service_maintenance", serviceid=name + "-1", enable=True, reason="upgrade")
    eventually(lambda: consul("health_service", service=name, passing=True), lambda nodes: nodes == [])
    consul("agent_service_maintenance", serviceid=name + "-1", enable="False")
    eventually(lambda: consul("health_service", service=name, passing=True), lambda nodes: len(nodes) == 1)
    consul("agent_service_deregister", serviceid=name + "-1")
    eventually(lambda: consul("catalog_service", service=name), lambda nodes: nodes == [])


FORMER_CHECKS = {
    "script": ({"check_script": "echo from-a-script", "interval": "1s"}, "from-a-script"),
    "script, all named so": ({"check_script": "echo from-a-script", "check_interval": "1s"}, "from-a-script"),
    "http": ({"http": "http://127.0.0.1:1/", "interval": "1s"}, "http://127.0.0.1:1/"),
    "ttl": ({"check_ttl": "1s"}, "TTL expired"),
}


@pytest.mark.parametrize("kind", FORMER_CHECKS)
def test_a_service_with_its_check_as_the_former_module_documents_it(consul, name, kind):
    """It registered the service without any check, and said True."""
    arguments, seen = FORMER_CHECKS[kind]
    consul("agent_service_register", name=name, tags=["master", "v1"], address="127.0.0.1", port="8080", **arguments)
    check = eventually(
        lambda: consul("agent_checks").get(f"service:{name}", {}), lambda check: seen in check.get("Output", "")
    )
    assert check["ServiceID"] == name
    consul("agent_service_deregister", serviceid=name)


def test_agent_maintenance(consul):
    consul("agent_maintenance", enable=True, reason="new disk")
    assert consul("agent_checks")["_node_maintenance"]["Notes"] == "new disk"
    consul("agent_maintenance", enable=False)
    assert "_node_maintenance" not in consul("agent_checks")


def test_agent_members_and_self(consul, consul_server):
    assert [member["Name"] for member in consul("agent_members")] == ["server1"]
    shown = consul("agent_self")
    assert shown["Config"]["NodeName"] == "server1"


def test_agent_join_and_leave(consul, refused, consul_server):
    consul("agent_join", address=f"127.0.0.1:{consul_server.ports['serf_lan']}")
    refused("agent_join", address="127.0.0.1:1")


def test_catalog_of_a_node_without_an_agent(consul, refused, name):
    consul(
        "catalog_register",
        node=name,
        address="192.0.2.9",
        service="ipp",
        service_port=631,
        service_tags=["a"],
        check="paper",
        check_status="warning",
        check_id="paper",
    )
    assert consul("catalog_node", node=name)["Services"]["ipp"]["Port"] == 631
    assert consul("health_node", node=name)[0]["Status"] == "warning"
    assert name in [node["Node"] for node in consul("catalog_nodes")]
    assert name not in consul("alive")
    refused("catalog_register", node=name, address="192.0.2.9", check="x", check_status="green")
    consul("catalog_deregister", node=name, serviceid="ipp")
    assert consul("catalog_node", node=name)["Services"] == {}
    consul("catalog_deregister", node=name)
    assert consul("catalog_node", node=name) is None


def test_status_and_health(consul, refused, consul_server):
    address = f"127.0.0.1:{consul_server.ports['server']}"
    assert consul("status_leader") == address
    assert consul("status_peers") == [address]
    assert consul("catalog_datacenters") == ["dc1"]
    assert consul("alive") == ["server1"]
    assert "State must be" in refused("health_state", state="sick")["message"]


def test_catalog_of_the_former_modules_grains(consul, name):
    addresses = ["192.0.2.9", "192.0.2.10"]
    consul("catalog_register", node=name, address=addresses, num_cpus=4, ip_interfaces={"lan": addresses})
    node = consul("catalog_node", node=name)["Node"]
    assert (node["Address"], node["Meta"]) == ("192.0.2.9", {"Cpu_num": "4"})
    assert node["TaggedAddresses"]["lan"] == "192.0.2.9"
    consul("catalog_deregister", node=name)


def test_events(consul, name):
    event = consul("event_fire", name=name, payload="hello")
    found = eventually(lambda: consul("event_list", name=name), bool)
    assert (found[0]["ID"], found[0]["Payload"]) == (event["ID"], "hello")
