"""`omega.consul.acl`, and what the policies of our nodes allow, against a real server with ACLs."""

import uuid

import pytest

from omega.consul import acl, policies
from omega.consul import lock as consul_lock
from omega.consul import tokens as consul_tokens
from omega.consul.client import ConsulError

RULES = 'key_prefix "test/acl/" { policy = "write" }'
LOCK = "rpiomega/swarm/lock"


@pytest.fixture
def client(consul_server):
    return consul_server.client()


@pytest.fixture
def modules(consul_server, load_modules):
    """The execution modules, with the management token."""
    return load_modules(**{"consul.url": consul_server.url, "consul.token": consul_server.token})


@pytest.fixture
def name():
    return f"test-{uuid.uuid4()}"


def secret():
    return str(uuid.uuid4())


def error_of(function, *args, **kwargs):
    with pytest.raises(ConsulError) as caught:
        function(*args, **kwargs)
    return caught.value


def test_policy_is_planned_then_created_then_left_alone(client, name):
    assert acl.plan_policy(client, name, RULES)["old"] is None
    assert acl.read_policy(client, name) is None, "a plan must not write"
    assert acl.ensure_policy(client, name, RULES) is True
    assert acl.plan_policy(client, name, RULES + "\n") == {}
    assert acl.ensure_policy(client, name, RULES) is False


def test_policy_with_other_rules_is_updated(client, name):
    acl.ensure_policy(client, name, RULES)
    other = RULES.replace("write", "read")
    assert acl.plan_policy(client, name, other)["new"]["rules"] == other
    assert acl.read_policy(client, name)["Rules"].strip() == RULES, "a plan must not write"
    assert acl.ensure_policy(client, name, other) is True
    assert acl.read_policy(client, name)["Rules"].strip() == other


def test_rules_that_consul_cannot_parse_are_the_callers_mistake(client, name):
    error = error_of(acl.ensure_policy, client, name, "key {{")
    assert error.kind == "bad_request"
    assert name in str(error)


def test_token_with_a_chosen_secret_works_and_is_left_alone(consul_server, client, name):
    acl.ensure_policy(client, name, RULES)
    chosen, accessor = secret(), secret()
    assert acl.plan_token(client, chosen, accessor, name, [name])["old"] is None
    assert acl.read_token(client, accessor) is None, "a plan must not write"
    assert acl.ensure_token(client, chosen, accessor, name, [name]) is True
    assert acl.ensure_token(client, chosen, accessor, name, [name]) is False
    assert acl.ensure_token(client, chosen, None, name, [name]) is False, "found by its secret alone"
    assert consul_server.client(chosen).put(f"test/acl/{name}", b"1")
    assert acl.read_token(client, accessor) == {
        "accessor": accessor,
        "description": name,
        "policies": [name],
        "local": False,
    }


def test_token_gets_the_policies_it_should_have(consul_server, client, name):
    acl.ensure_policy(client, name, RULES)
    chosen, accessor = secret(), secret()
    acl.ensure_token(client, chosen, accessor, name, [])
    assert acl.plan_token(client, chosen, accessor, name, [name])["new"]["policies"] == [name]
    assert acl.ensure_token(client, chosen, accessor, name, [name]) is True
    assert acl.read_token(client, accessor)["policies"] == [name]


def test_new_secret_for_an_accessor_ends_the_old_one(consul_server, client, name):
    acl.ensure_policy(client, name, RULES)
    old, new, accessor = secret(), secret(), secret()
    acl.ensure_token(client, old, accessor, name, [name])
    changes = acl.plan_token(client, new, accessor, name, [name])
    assert (changes["old"]["secret"], changes["new"]["secret"]) == ("another", "wanted")
    assert old not in str(changes)
    assert new not in str(changes)
    assert acl.ensure_token(client, new, accessor, name, [name]) is True
    assert consul_server.client(new).put(f"test/acl/{name}", b"1")
    assert error_of(consul_server.client(old).put, f"test/acl/{name}", b"2").kind == "denied"


@pytest.mark.parametrize("mistake", ["secret in use", "no such policy", "no uuid"])
def test_replacement_that_consul_would_refuse_leaves_the_old_token(consul_server, client, name, mistake):
    acl.ensure_policy(client, name, RULES)
    old, other, accessor = secret(), secret(), secret()
    acl.ensure_token(client, old, accessor, name, [name])
    acl.ensure_token(client, other, None, "other", [])
    new = {"secret in use": other, "no uuid": "short"}.get(mistake, secret())
    wanted = ["no-such-policy"] if mistake == "no such policy" else [name]
    error = error_of(acl.ensure_token, client, new, accessor, name, wanted)
    assert error.kind in ("conflict", "bad_request")
    assert new not in str(error)
    assert consul_server.client(old).put(f"test/acl/{name}", b"1")


def test_without_the_right_to_manage_acls_nothing_is_mistaken_for_missing(consul_server, client, name):
    acl.ensure_policy(client, name, RULES)
    chosen = secret()
    acl.ensure_token(client, chosen, None, name, [name])
    powerless = consul_server.client(chosen)
    for call in (
        lambda: acl.plan_policy(powerless, name, RULES),
        lambda: acl.plan_token(powerless, secret(), secret(), name, [name]),
        lambda: acl.ensure_token(powerless, secret(), None, name, [name]),
        lambda: acl.list_tokens(powerless),
    ):
        assert error_of(call).kind == "denied"


def test_deleted_policies_and_tokens_are_gone_and_deleting_again_is_no_change(client, name):
    acl.ensure_policy(client, name, RULES)
    accessor = secret()
    acl.ensure_token(client, secret(), accessor, name, [name])
    assert acl.delete_token(client, accessor) is True
    assert acl.delete_token(client, accessor) is False
    assert acl.delete_policy(client, name) is True
    assert acl.delete_policy(client, name) is False


RIGHTS = ("Policies", "Roles", "ServiceIdentities")


@pytest.fixture
def rich(client, name):
    """AccessorID of a token with a policy, a role and an identity."""
    for policy in (name, f"{name}-role"):
        acl.ensure_policy(client, policy, RULES)
    role = {"Name": name, "Policies": [{"Name": f"{name}-role"}]}
    client.request("put", "/v1/acl/role", data=role)
    body = {"Description": "before", "Policies": [{"Name": name}], "Roles": [{"Name": name}]}
    body["ServiceIdentities"] = [{"ServiceName": "web"}]
    return client.request("put", "/v1/acl/token", data=body)[1]["AccessorID"]


def rights(client, accessor):
    token = client.request("get", f"/v1/acl/token/{accessor}")[1]
    assert all(token[kind] for kind in RIGHTS)
    return [token[kind] for kind in RIGHTS]


def test_an_update_without_rules_changes_the_description_alone(modules, client, rich):
    before = rights(client, rich)
    assert modules["consul.acl_update"](id=rich, name="after")["res"]
    assert acl.read_token(client, rich)["description"] == "after"
    assert rights(client, rich) == before


def test_an_update_with_rules_leaves_roles_and_identities(modules, client, rich, name):
    before = rights(client, rich)
    assert modules["consul.acl_update"](id=rich, name=f"{name}-new", rules=RULES)["res"]
    assert acl.read_token(client, rich)["policies"] == [f"{name}-new"]
    assert rights(client, rich)[1:] == before[1:]
    assert modules["consul.acl_update"](id=secret(), name=name)["kind"] == "not_found"


def test_a_clone_has_all_rights_and_a_secret_of_its_own(modules, client, rich, tmp_path):
    path = tmp_path / "secret"
    made = modules["consul.acl_clone"](id=rich, path=str(path))["ID"]
    assert made != rich
    assert rights(client, made) == rights(client, rich)
    assert client.clone(token=path.read_text()).request("get", "/v1/acl/token/self")[1]["AccessorID"] == made


def test_a_token_whose_secret_cannot_be_written_does_not_stay(modules, client, rich):
    before, path = len(acl.list_tokens(client)), "/sys/secret"  # a folder that takes no file, not even from root
    for function, arguments in (("acl_token_create", {"description": "x"}), ("acl_clone", {"id": rich})):
        answer = modules[f"consul.{function}"](path=path, **arguments)
        assert (answer["res"], answer["success"]) == (False, False)
        assert f"was deleted again, its secret cannot be written to {path}: " in answer["message"]
    assert len(acl.list_tokens(client)) == before


@pytest.fixture(scope="module")
def site_clients(consul_server):
    """{node: its client}, with the tokens and policies that the states give a site's nodes."""
    management = consul_server.client()
    site = {
        "nodes": {
            "server1": {"address": "127.0.0.1", "roles": ["master", "manager"]},
            "worker1": {"address": "127.0.0.2", "roles": ["worker"]},
        }
    }
    clients = {}
    for node in site["nodes"]:
        chosen, policy = secret(), policies.policy_name(node)
        acl.ensure_policy(management, policy, policies.rules(site, node))
        acl.ensure_token(management, chosen, None, node, [policy])
        clients[node] = consul_server.client(chosen)
    management.put(LOCK, b"")
    management.put("rpiomega/swarm/worker-token", {"token": "x"})
    yield clients
    management.delete("rpiomega/", recurse=True)


def test_manager_may_hold_the_election_lock_and_write_the_record(site_clients):
    with consul_lock.hold(site_clients["server1"], LOCK, "server1", ttl=10, wait=5) as lock:
        assert lock.write("rpiomega/swarm/record", {"state": "initializing"}, 0) > 0
    assert site_clients["server1"].alive() == {"server1"}


def forgery(name, service="docker", **more):
    """A request for the catalog that makes server1 look dead by a check of a service there."""
    check = {"Node": name, "CheckID": "serfHealth", "Name": "x", "Status": "critical", "ServiceID": service}
    return {"Node": name, "Address": "192.0.2.1", "SkipNodeUpdate": True, "Check": check, **more}


def register(client, body):
    return client.request("put", "/v1/catalog/register", data=body)


REFUSED = {
    "PUT on the lock": lambda c: c.put(LOCK, b"stray"),
    "DELETE of the lock": lambda c: c.delete(LOCK),
    "DELETE of everything": lambda c: c.delete("rpiomega/", recurse=True),
    "lock in a transaction": lambda c: c.txn([{"verb": "set", "key": LOCK, "value": b"stray"}]),
    "the record": lambda c: c.put("rpiomega/swarm/record", b"{}"),
    "the worker token": lambda c: c.put("rpiomega/swarm/worker-token", b"{}"),
    "another node's entry": lambda c: c.put("rpiomega/swarm/nodes/server1", b"{}"),
    "another node's session": lambda c: c.session_create("x", node="server1"),
    "another node's health": lambda c: register(c, forgery("server1", Service={"Service": "docker", "ID": "docker"})),
    "another node's health by a service of its own": lambda c: register(
        c, forgery("server1", "worker1", Service={"Service": "worker1", "ID": "worker1"})
    ),
    "another node's service": lambda c: register(
        c, {"Node": "server1", "Address": "192.0.2.1", "SkipNodeUpdate": True, "Service": {"Service": "docker"}}
    ),
    "a service on itself": lambda c: register(
        c, {"Node": "worker1", "Address": "192.0.2.1", "Service": {"Service": "docker"}}
    ),
    "ACL tokens": acl.list_tokens,
    "a snapshot": lambda c: c.request("get", "/v1/snapshot", raw=True),
}


@pytest.mark.parametrize("attempt", REFUSED)
def test_worker_is_refused(site_clients, attempt):
    """F13, F38."""
    assert error_of(REFUSED[attempt], site_clients["worker1"]).kind == "denied"


def test_worker_reads_the_cluster_and_writes_its_own_entry(site_clients):
    worker = site_clients["worker1"]
    assert worker.get("rpiomega/swarm/worker-token").json() == {"token": "x"}
    assert worker.put("rpiomega/swarm/nodes/worker1", {"node_id": "y"})
    assert worker.alive() == {"server1"}


def health(client, node="server1"):
    checks = client.request("get", f"/v1/health/node/{node}")[1]
    return {check["CheckID"]: (check["ServiceID"], check["Status"]) for check in checks}


@pytest.mark.parametrize("node", ["server1", "worker1"])
def test_no_node_ends_anothers_session_by_a_forged_check_of_a_service(consul_server, site_clients, node):
    """With the right to write any one service it could, on every node: Consul keeps checks by node and CheckID."""
    management, client = consul_server.client(), site_clients[node]
    service = {"Service": "docker", "ID": "docker"}
    register(management, {"Node": "server1", "Address": "127.0.0.1", "SkipNodeUpdate": True, "Service": service})
    session = site_clients["server1"].session_create("a lock's", ttl=60)
    try:
        for more in ({}, {"Service": service}, {"Service": {"Service": node, "ID": "docker"}}):
            assert error_of(register, client, forgery("server1", **more)).kind == "denied"
        assert health(management)["serfHealth"] == ("", "passing")
        assert management.session_info(session)
    finally:
        management.session_destroy(session)
        management.request("put", "/v1/catalog/deregister", data={"Node": "server1", "ServiceID": "docker"})


def test_a_node_reports_its_own_checks(site_clients):
    check = {"CheckID": "docker", "Name": "docker works", "Status": "passing"}
    register(site_clients["worker1"], {"Node": "worker1", "Address": "127.0.0.2", "Check": check})
    try:
        assert health(site_clients["worker1"], "worker1") == {"docker": ("", "passing")}
        assert site_clients["worker1"].alive() == {"server1"}
    finally:
        site_clients["worker1"].request("put", "/v1/catalog/deregister", data={"Node": "worker1"})


def test_a_living_node_that_another_took_off_the_catalog_still_counts_as_alive(consul_server, site_clients):
    """What no policy prevents: a node may write itself, and so with another's ID too, which Consul takes for its new
    name (agent/consul/state/catalog.go: ensureNodeTxn)."""
    management, worker = consul_server.client(), site_clients["worker1"]
    nodes = {node["Node"]: node for node in worker.request("get", "/v1/catalog/nodes")[1]}
    register(worker, {"Node": "worker1", "ID": nodes["server1"]["ID"], "Address": "127.0.0.1"})
    try:
        assert health(management) == {}
        assert worker.alive() == {"server1"}
    finally:
        management.request("put", "/v1/catalog/deregister", data={"Node": "worker1"})
        check = {"CheckID": "serfHealth", "Name": "Serf Health Status", "Status": "passing"}
        register(management, {"Node": "server1", "ID": nodes["server1"]["ID"], "Address": "127.0.0.1", "Check": check})


def test_a_services_check_called_serf_health_makes_nobody_alive(consul_server):
    management = consul_server.client()
    body = forgery("ghost", "x", Service={"Service": "x", "ID": "x"})
    body["Check"]["Status"] = "passing"
    register(management, {**body, "SkipNodeUpdate": False})
    try:
        assert management.alive() == {"server1"}
    finally:
        management.request("put", "/v1/catalog/deregister", data={"Node": "ghost"})


@pytest.fixture
def cluster(consul_server):
    """A site of three and the clients of its nodes, registered as the master does it."""
    management, prefix = consul_server.client(), f"c{uuid.uuid4().hex[:6]}"
    roles = {"a": ["master", "manager"], "b": ["manager"], "c": ["worker"]}
    nodes = {f"{prefix}{key}": {"address": "127.0.0.1", "roles": own} for key, own in roles.items()}
    site, secrets = {"cluster": prefix, "nodes": nodes}, {name: secret() for name in nodes}
    consul_tokens.tokens(management, site, secrets)
    yield site, secrets, {name: consul_server.client(token) for name, token in secrets.items()}
    for name in secrets:
        acl.delete_token(management, consul_tokens.accessor(site, name))
        acl.delete_policy(management, policies.policy_name(name))


@pytest.mark.parametrize("role", ["b", "c"])
def test_a_node_taken_out_of_the_site_reads_no_join_token_and_can_still_leave(consul_server, cluster, role):
    management, (site, secrets, clients) = consul_server.client(), cluster
    gone = next(name for name in secrets if name.endswith(role))
    management.put("rpiomega/swarm/worker-token", {"token": "of-the-next-wave"})
    assert clients[gone].get("rpiomega/swarm/worker-token")
    smaller = {**site, "nodes": {name: entry for name, entry in site["nodes"].items() if name != gone}}
    predicted = consul_tokens.tokens(management, smaller, secrets, test=True)
    assert predicted[gone] == ["policy"]
    assert clients[gone].get("rpiomega/swarm/worker-token"), "a plan must not write"
    assert consul_tokens.tokens(management, smaller, secrets) == predicted
    assert consul_tokens.tokens(management, smaller, secrets) == {}

    assert error_of(clients[gone].get, "rpiomega/swarm/worker-token").kind == "denied"
    for read in (lambda: clients[gone].list("rpiomega/"), lambda: clients[gone].list("rpiomega/swarm/worker")):
        assert "of-the-next-wave" not in str(read())
    reads = {"verb": "get-tree", "key": "rpiomega/swarm/"}
    assert "of-the-next-wave" not in str(answer_of(clients[gone].txn, [reads]))
    for key in ("lock", "record"):
        assert error_of(clients[gone].put, f"rpiomega/swarm/{key}", b"{}").kind == "denied"
    # What `swarm.absent` does.
    assert clients[gone].list("rpiomega/swarm/") is not None
    assert clients[gone].put(f"rpiomega/swarm/nodes/{gone}", {"role_now": ""})

    assert consul_tokens.tokens(management, site, secrets) == {gone: ["policy"]}, "its entry comes back"
    assert clients[gone].get("rpiomega/swarm/worker-token")


def answer_of(function, *args):
    try:
        return function(*args)
    except ConsulError as error:
        return error


def test_the_services_that_nodes_announced_before_are_taken_off_the_catalog(consul_server, cluster):
    """An agent of 1.8.7 is refused that: it deregisters what it does not know any more without a token."""
    management, (site, secrets, _clients) = consul_server.client(), cluster
    name = next(iter(site["nodes"]))
    mine = [{"Service": "docker", "ID": "docker"}, {"Service": "salt-minion", "ID": "salt-minion"}]
    others = [(name, {"Service": "web", "ID": "web"}), ("printer", {"Service": "docker", "ID": "docker"})]
    for node, service in [(name, service) for service in mine] + others:
        register(management, {"Node": node, "Address": "192.0.2.1", "Service": service})
    try:
        expected = {name: ["service docker", "service salt-minion"]}
        assert consul_tokens.tokens(management, site, secrets, test=True) == expected
        assert consul_tokens.tokens(management, site, secrets) == expected
        assert consul_tokens.tokens(management, site, secrets) == {}
        kept = {node: management.request("get", f"/v1/catalog/node/{node}")[1]["Services"] for node, _ in others}
        assert {node: list(services) for node, services in kept.items()} == {name: ["web"], "printer": ["docker"]}
    finally:
        for node in (name, "printer"):
            management.request("put", "/v1/catalog/deregister", data={"Node": node})


def test_the_master_registers_all_nodes_and_ends_the_right_to_start_a_cluster(consul_server, states, tmp_path):
    site = {"cluster": f"c{uuid.uuid4().hex[:8]}", "nodes": {"a1": {"address": "127.0.0.1", "roles": ["master"]}}}
    secrets = {"management_token": consul_server.token, "node_tokens": {"a1": secret()}}
    pillar = {"rpiomega": site, "rpiomega_secrets": secrets, "consul.url": consul_server.url}
    marker, starter = tmp_path / "marker", tmp_path / "bootstrap.json"
    starter.write_text("{}")

    def apply(test=False):
        with states(test=test, pillar=pillar, minion_id="a1") as loaded:
            return loaded["consul_acl.cluster_tokens"]("consul", str(marker), str(tmp_path))

    predicted = apply(test=True)
    assert (predicted["result"], marker.exists(), starter.exists()) == (None, False, True)
    done = apply()
    assert done["changes"] == predicted["changes"]
    assert done["changes"]["a1"] == ["policy", "token"]
    assert (marker.stat().st_mode & 0o777, starter.exists()) == (0o600, False)
    assert apply()["changes"] == {}
    assert apply(test=True)["result"] is True
    for token in (consul_server.token, secrets["node_tokens"]["a1"]):
        assert token not in str(done)
