"""State consul: an agent on every node, closed to everybody without a token."""

import json

EXPECTED_SERVERS = 3


def test_the_agent_runs_and_comes_back_after_a_reboot(host, site):
    state = json.loads(host.check_output(f"docker inspect {site['consul']['container']}"))[0]
    assert state["State"]["Running"]
    assert state["HostConfig"]["RestartPolicy"]["Name"] == "always"


def test_every_node_is_an_alive_member(consul, site):
    rows = [line.split() for line in consul("members").splitlines()[1:]]
    assert {row[0]: row[2] for row in rows} == dict.fromkeys(site["nodes"], "alive")


def test_servers_follow_the_number_of_managers(consul, site):
    managers = [name for name, entry in site["nodes"].items() if "manager" in entry["roles"]]
    servers = [line for line in consul("members").splitlines()[1:] if " server " in line]
    assert len(servers) == (EXPECTED_SERVERS if len(managers) >= EXPECTED_SERVERS else 1)


def test_the_http_api_listens_on_loopback_only(host):
    listening = [line.split()[3] for line in host.check_output("ss -Htln").splitlines()]
    assert [address for address in listening if address.endswith(":8500")] == ["127.0.0.1:8500"]


def test_without_a_token_nothing_is_told(host, site):
    answer = host.run(f"docker exec {site['consul']['container']} consul kv get -recurse rpiomega/")
    assert "worker" not in answer.stdout
    assert answer.stdout.strip() == ""


def test_secrets_are_readable_by_root_only(host, site):
    folder = site["consul"]["config_dir"]
    modes = host.check_output(f"stat -c '%a %U' {folder} {folder}/*").splitlines()
    assert set(modes) == {"700 root", "600 root"}


def test_gossip_is_encrypted(host, site):
    # An agent without the key would not even see the members; here we check the agent's own word.
    settings = json.loads(host.file(f"{site['consul']['config_dir']}/consul.json").content_string)
    assert len(settings["encrypt"]) == 44
    assert settings["acl"]["default_policy"] == "deny"
