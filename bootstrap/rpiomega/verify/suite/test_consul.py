"""State consul: an agent on every node, closed to everybody without a token."""

import json

import pytest

EXPECTED_SERVERS = 3
LEADER = "import urllib.request as web; print(web.urlopen('http://127.0.0.1:8500/v1/status/leader').read().decode())"

# What DNS and health checks tell needs no token.
HEALTH = (
    "import json, urllib.request as web;"
    "url = 'http://127.0.0.1:8500/v1/health/node/%s';"
    "print(json.dumps({c['CheckID']: c['Status'] for c in json.load(web.urlopen(url))}))"
)
# One question for an A record, by hand: a node has no tool for it. Prints the address, or nothing.
DNS = (
    "import socket; name = '%s.node.consul'; s = socket.socket(2, 2); s.settimeout(5);"
    "q = b''.join(bytes([len(p)]) + p.encode() for p in name.split('.')) + bytes([0, 0, 1, 0, 1]);"
    "s.sendto(bytes([7, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0]) + q, ('127.0.0.1', 8600)); a = s.recv(512);"
    "print('.'.join(map(str, a[12 + len(q) + 12:][:4])) if a[7] else '')"
)


@pytest.fixture
def minion(host):
    """Whether the node has a minion, and so a master: in test-kitchen, or by salt-call alone, it has none."""
    known = "test -e /etc/salt/minion.d/rpiomega.conf || systemctl cat --no-pager salt-minion.service"
    return host.run(known).rc == 0


@pytest.fixture
def container(host, site):
    """What Docker says of the agent's container."""
    found = host.run(f"docker inspect {site['consul']['container']}")
    assert found.rc == 0, f"there is no container {site['consul']['container']}"
    return json.loads(found.stdout)[0]


def test_the_agent_runs_and_comes_back_after_a_reboot(container):
    assert container["State"]["Running"], "the container is not running"
    assert container["HostConfig"]["RestartPolicy"]["Name"] == "always", "the container has no restart policy"


def test_the_agent_is_the_sites_image(container, site):
    assert container["Config"]["Image"] == site["consul"]["image"], f"its image is {container['Config']['Image']}"


def test_every_node_is_an_alive_member(consul, site):
    rows = [line.split() for line in consul("members").splitlines()[1:]]
    seen = {row[0]: row[2] for row in rows}
    wrong = [f"{name} is {seen.get(name, 'absent')}" for name in site["nodes"] if seen.get(name) != "alive"]
    assert wrong == [], ", ".join(wrong)


def test_servers_follow_the_number_of_managers(consul, site):
    managers = [name for name, entry in site["nodes"].items() if "manager" in entry["roles"]]
    servers = [line for line in consul("members").splitlines()[1:] if " server " in line]
    wanted = EXPECTED_SERVERS if len(managers) >= EXPECTED_SERVERS else 1
    assert len(servers) == wanted, f"there are {len(servers)}, not {wanted}"


def test_there_is_a_leader(host):
    answer = host.run("python3 -c %s", LEADER)
    assert answer.rc == 0, "the agent does not answer at 127.0.0.1:8500"
    assert json.loads(answer.stdout), "the servers have no leader"


def test_the_http_api_listens_on_loopback_only(host):
    listening = [line.split()[3] for line in host.check_output("ss -Htln").splitlines()]
    found = [address for address in listening if address.endswith(":8500")]
    assert found == ["127.0.0.1:8500"], f"port 8500 is at {', '.join(found) or 'no address'}"


def test_without_a_token_nothing_is_told(host, site):
    answer = host.run(f"docker exec {site['consul']['container']} consul kv get -recurse rpiomega/")
    assert answer.stdout.strip() == "", "keys are read without a token"
    # Releases differ: an empty answer, or a refusal.
    asked = answer.rc == 0 or "Permission denied" in answer.stderr or "403" in answer.stderr
    assert asked, f"the agent cannot be asked: {answer.stderr.strip()}"


def test_secrets_are_readable_by_root_only(host, site):
    folder = site["consul"]["config_dir"]
    wrong = host.run(f"find {folder} ! -user root -o -perm /077")
    assert wrong.rc == 0, f"{folder} is not there"
    assert wrong.stdout.split() == [], f"too open: {', '.join(wrong.stdout.split())}"


def test_gossip_is_encrypted_and_access_denied_by_default(host, site):
    # Asked inside the node: the file holds the key and tokens, which must get into no output and no job cache.
    program = (
        "import json,sys; found=json.load(open(sys.argv[1]));"
        "print(len(found.get('encrypt', '')), found.get('acl', {}).get('default_policy'))"
    )
    found = host.run("python3 -c %s %s", program, f"{site['consul']['config_dir']}/consul.json")
    assert found.rc == 0, "the agent's configuration cannot be read"
    length, policy = found.stdout.split()
    assert length == "44", "there is no gossip key"
    assert policy == "deny", f"the default policy is {policy}"


@pytest.mark.parametrize("unit", ["docker", "salt-minion"])
def test_consul_knows_the_engine_and_the_minion_to_be_well(host, name, unit, minion):
    if unit == "salt-minion" and not minion:
        pytest.skip("this node has no minion")
    answer = host.run("python3 -c %s", HEALTH % name)
    assert answer.rc == 0, "the agent does not answer at 127.0.0.1:8500"
    status = json.loads(answer.stdout).get(unit, "unknown")
    assert status == "passing", f"{unit} is {status}: see `journalctl -u rpiomega-consul-health`"


def test_dns_answers_for_every_node(host, site):
    asked = {name: host.run("python3 -c %s", DNS % name) for name in site["nodes"]}
    wrong = [
        f"{name}.node.consul is {asked[name].stdout.strip() or 'unknown'}, not {entry['address']}"
        for name, entry in site["nodes"].items()
        if asked[name].stdout.strip() != entry["address"]
    ]
    assert wrong == [], ", ".join(wrong)


def test_the_master_keeps_snapshots_to_itself(host, node, site, minion):
    if "master" not in node["roles"] or not site["consul"]["snapshots"]["every"] or not minion:
        pytest.skip("snapshots are the master's, with consul.snapshots.every")
    timer = host.service("rpiomega-consul-snapshot.timer")
    assert timer.is_enabled, "rpiomega-consul-snapshot.timer is not enabled"
    assert timer.is_running, "rpiomega-consul-snapshot.timer does not run"
    open_to_others = host.run(f"find {site['consul']['snapshot_dir']} ! -user root -o -perm /077").stdout.split()
    assert open_to_others == [], f"too open: {', '.join(open_to_others)}"
