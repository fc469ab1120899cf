"""The execution module `consul`, loaded as a minion loads it, against a real server."""

import base64
import inspect
import io
import json
import logging
import os
import stat
import tarfile
import time
import uuid

import pytest
from consul_server import eventually
from salt.exceptions import SaltInvocationError

from omega.consul import snapshot
from omega.consul.client import ConsulError


def names(**groups):
    """{"agent_join", ...} of agent="join ..."; those of `plain` have no prefix."""
    return {word if group == "plain" else f"{group}_{word}" for group, text in groups.items() for word in text.split()}


# Salt 3007's module (and saltext.consul 1.1): people's scripts and states call these.
FORMER = names(
    plain="list get put delete",
    agent="checks services members self maintenance join leave",
    agent_check="register deregister pass warn fail",
    agent_service="register deregister maintenance",
    session="create list destroy info",
    catalog="register deregister datacenters nodes services service node",
    health="node checks service state",
    status="leader peers",
    acl="create update delete info clone list",
    event="fire list",
)
OURS = names(
    plain="txn lock unlock elect leader resign alive servers wait_voters rotate_node_token recover_peers",
    session="renew",
    acl_policy="create list read delete",
    acl_token="create list read delete",
    snapshot="save restore rotate list",
)


# -- shape -------------------------------------------------------------------------------------------------


def test_every_function_people_know_is_there_and_documented(salt):
    loaded = {name.partition(".")[2] for name in salt if name.startswith("consul.")}
    assert loaded == FORMER | OURS
    for name in loaded:
        function = salt[f"consul.{name}"]
        first = list(inspect.signature(function).parameters)
        own = [f":param {parameter}:" for parameter in first if parameter not in ("consul_url", "token")]
        assert [text for text in (*own, ":return:", "CLI Example:") if text not in function.__doc__] == [], name
        assert first[:3] == ["consul_url", "key", "token"] if name == "get" else ["consul_url", "token"], name


@pytest.mark.parametrize("name", ["get", "put", "delete", "agent_join", "session_create", "catalog_service"])
def test_missing_argument_is_an_invocation_error(salt, name):
    with pytest.raises(SaltInvocationError, match="Required argument"):
        salt[f"consul.{name}"]()


FORMERLY_ANSWERED = {
    "agent_maintenance": ({}, "enable"),
    "agent_service_maintenance": ({"serviceid": "x"}, "enable"),
    "catalog_register": ({"node": "x"}, "address"),
    "catalog_deregister": ({}, "node"),
    "acl_update": ({"name": "x"}, "id"),
    "acl_delete": ({}, "id"),
    "acl_info": ({}, "id"),
    "acl_clone": ({}, "id"),
}


@pytest.mark.parametrize("name", FORMERLY_ANSWERED)
def test_missing_argument_is_an_answer_where_the_former_module_gave_one(refused, name):
    arguments, missing = FORMERLY_ANSWERED[name]
    assert refused(name, **arguments)["message"] == f'Required argument "{missing}" is missing.'


UNKNOWN = {
    "agent_check_register": {"name": "x", "ttl": "30s", "colour": 1},
    "agent_service_register": {"name": "x", "colour": 1},
    "agent_service_register check": {"name": "x", "check": {"ttl": "30s", "colour": 1}},
    "catalog_register": {"node": "x", "address": "192.0.2.1", "colour": 1},
}


@pytest.mark.parametrize("call", UNKNOWN)
def test_an_argument_that_there_is_not_is_refused_and_nothing_registered(refused, consul, call):
    assert "unknown argument colour; it takes " in refused(call.split()[0], **UNKNOWN[call])["message"]
    assert "x" not in {**consul("agent_checks"), **consul("agent_services")}
    assert consul("catalog_node", node="x") is None


def test_half_a_registration_is_refused(refused, consul, name):
    for more in ({"check_status": "passing"}, {"service_port": 80}):
        answer = refused("catalog_register", node=name, address="192.0.2.1", **more)
        assert "without" in answer["message"]
    refused("agent_service_register", name=name, check={"ttl": "30s"}, http="http://127.0.0.1/", interval="5s")
    refused("agent_service_register", name=name, check="30s")
    assert "interval" in refused("agent_service_register", name=name, check_script="true")["message"]
    assert name not in consul("agent_services")


def test_what_salt_adds_to_a_call_is_no_argument_of_it(consul, name):
    consul("agent_check_register", name=name, ttl="30s", __pub_jid="20260101000000000000", __pub_user="root")
    consul("agent_check_deregister", checkid=name)


NUMBERS = {
    "put": {"key": "x", "cas": "abc"},
    "put flags": {"key": "x", "cas": 0, "flags": "abc"},
    "delete": {"key": "x", "cas": "abc"},
    "agent_service_register": {"name": "x", "port": "abc"},
    "catalog_register": {"node": "x", "address": "192.0.2.1", "service": "x", "service_port": "abc"},
    "wait_voters": {"timeout": "abc"},
    "snapshot_save": {"path": "/none/x", "timeout": "abc"},
    "snapshot_restore": {"path": "/none/x", "timeout": "abc", "force": True},
    "snapshot_rotate": {"path": "/none/x", "keep": "abc"},
    "snapshot_rotate timeout": {"path": "/none/x", "timeout": "abc"},
    "recover_peers": {"timeout": "abc"},
}


@pytest.mark.parametrize("call", NUMBERS)
def test_an_argument_that_is_no_number_is_an_invocation_error(salt, call):
    with pytest.raises(SaltInvocationError, match=r"'abc' is not a (whole )?number"):
        salt[f"consul.{call.split()[0]}"](**NUMBERS[call])


def test_url_and_token_come_from_pillar_too(load_modules, consul_server):
    secrets = {"rpiomega_secrets": {"consul": {"token": consul_server.token}}}
    modules = load_modules({"consul": {"url": consul_server.url}, **secrets})
    assert modules["consul.list"]()["res"]


def test_url_and_token_as_arguments_in_the_former_order(load_modules, consul_server):
    modules = load_modules()
    assert modules["consul.put"](consul_server.url, consul_server.token, "test/former", "1")["res"]
    assert modules["consul.get"](consul_server.url, "test/former", consul_server.token, raw=True)["data"] == "1"


def test_without_the_library_the_module_says_what_to_install(load_modules, configuration, monkeypatch):
    from omega.consul import client as consul_client

    def missing():
        raise consul_client.ConsulError("missing", "py-consul is missing: install it")

    monkeypatch.setattr(consul_client, "load_library", missing)
    modules = load_modules(**configuration)
    assert "consul.get" not in modules
    assert "py-consul is missing" in modules.missing_fun_string("consul.get")


# -- keys --------------------------------------------------------------------------------------------------


def test_a_switch_may_be_text_as_templates_give_it(consul, refused, name):
    """ "False" is true for Python: `delete` took the whole subtree with it."""
    for key in (name, f"{name}/below"):
        consul("put", key=key, value="v")
    assert len(consul("get", key=name, recurse="False")) == 1
    assert len(consul("get", key=name, recurse="True")) == 2
    assert consul("get", key=name, raw="False", decode="false")[0]["Value"] == base64.b64encode(b"v").decode()
    consul("delete", key=name, recurse="False")
    assert consul("list", key=name) == [f"{name}/below"]
    consul("delete", key=name, recurse="true")
    refused("list", key=name)


def test_values_are_stored_as_they_are(consul, name):
    """The former module stored the text with quotes around it."""
    for value, stored in (("Hello there", "Hello there"), (5, "5"), ({"a": [1]}, '{"a": [1]}'), ("", "")):
        consul("put", key=name, value=value)
        assert consul("get", key=name, raw=True) == stored


def test_get_gives_base64_unless_decoded(consul, name):
    consul("put", key=f"{name}/a", value="x", flags=42)
    item = consul("get", key=f"{name}/a")[0]
    assert (item["Key"], base64.b64decode(item["Value"]), item["Flags"]) == (f"{name}/a", b"x", 42)
    consul("put", key=f"{name}/b", value="y")
    items = consul("get", key=name, recurse=True, decode=True)
    assert [item["Value"] for item in items] == ["x", "y"]
    assert consul("list", key=name) == [f"{name}/a", f"{name}/b"]


@pytest.mark.parametrize("reading", ["get", "get decode", "get raw", "get recurse", "txn get", "txn get-tree"])
def test_the_swarms_join_token_is_in_no_return(consul, reading):
    token, key = "SWMTKN-1-not-to-be-cached", "rpiomega/swarm/worker-token"
    consul("put", key=key, value={"token": token})
    way, _, more = reading.partition(" ")
    if way == "txn":
        answer = consul("txn", ops=[{"verb": more, "key": key}])
    else:
        answer = consul("get", key=key, **dict.fromkeys(more.split(), True))
    text = json.dumps(answer)
    assert token not in text
    assert base64.b64encode(json.dumps({"token": token}).encode()).decode() not in text
    hidden = "[join token]"
    assert hidden in text or base64.b64encode(hidden.encode()).decode() in text


def test_missing_key(refused, name):
    assert refused("get", key=name)["data"] == "Key not found."
    assert refused("list", key=name)["kind"] == "not_found"


def test_put_with_cas(consul, refused, name):
    consul("put", key=name, value="1", cas=0)
    assert "its index is" in refused("put", key=name, value="2", cas=0)["message"]
    index = consul("get", key=name)[0]["ModifyIndex"]
    consul("put", key=name, value="2", cas=index, flags=7)
    assert refused("put", key=name, value="3", cas=index, flags=7)["kind"] == "conflict"
    assert consul("get", key=name, raw=True) == "2"
    assert consul("get", key=name)[0]["Flags"] == 7


def test_put_acquire_fails_while_another_session_holds_it(consul, refused, name):
    """The former module reported success here."""
    first, second = (consul("session_create", name=name, ttl="60s", lockdelay=0) for _ in range(2))
    consul("put", key=name, value="first", acquire=first)
    answer = refused("put", key=name, value="second", acquire=second)
    assert first in answer["message"]
    assert consul("get", key=name, raw=True) == "first"
    assert refused("put", key=name, value="second", release=second)["kind"] == "conflict"
    consul("put", key=name, value="first", release=first)
    consul("put", key=name, value="second", acquire=second)


def test_delete(consul, refused, name):
    for key in (f"{name}/a", f"{name}/b"):
        consul("put", key=key, value="x")
    index = consul("get", key=f"{name}/a")[0]["ModifyIndex"]
    assert refused("delete", key=f"{name}/a", cas=index - 1)["kind"] == "conflict"
    consul("delete", key=f"{name}/a", recurse=False, cas=index)
    assert consul("list", key=name) == [f"{name}/b"]
    consul("delete", key=name, recurse=True)
    refused("get", key=name, recurse=True)


# -- sessions, locks, election -----------------------------------------------------------------------------


def test_session_life(consul, refused, salt, name):
    session = consul("session_create", name=name, ttl="60s", behavior="delete", lockdelay="5s")
    shown = consul("session_info", session=session)[0]
    assert (shown["Name"], shown["TTL"], shown["Behavior"]) == (name, "60s", "delete")
    assert shown["LockDelay"] == 5e9
    assert session in salt["consul.session_list"](return_list=True)
    assert session in [entry["ID"] for entry in consul("session_list")]
    consul("session_renew", session=session)
    consul("session_destroy", session=session)
    assert refused("session_info", session=session)["kind"] == "not_found"
    assert refused("session_renew", session=session)["kind"] == "lost"


def test_lock_is_exclusive_fenced_and_given_back(consul, refused, name):
    first = consul("lock", key=name, ttl=60)
    answer = refused("lock", key=name, ttl=60)
    assert (answer["kind"], answer["holder"]) == ("conflict", "pi1")
    assert refused("unlock", key=name, session=str(uuid.uuid4()))["kind"] == "lost"
    guard = [
        {"verb": "check-session", "key": name, "session": first["session"]},
        {"verb": "check-index", "key": name, "index": first["fence"]},
        {"verb": "set", "key": name + "/out", "value": "x"},
    ]
    assert consul("txn", ops=guard)[-1]["key"] == name + "/out"
    consul("unlock", key=name, session=first["session"])
    second = consul("lock", key=name, name="other", ttl=60)
    assert second["fence"] > first["fence"]
    assert refused("txn", ops=guard)["kind"] == "conflict", "the old holder is fenced off"
    assert consul("leader", key=name) == "other"
    consul("unlock", key=name, session=second["session"])


def test_unlocking_the_wrong_key_leaves_the_session_its_locks(consul, refused, name):
    held = consul("lock", key=name, ttl=60)
    assert refused("unlock", key=f"{name}-other", session=held["session"])["kind"] == "lost"
    assert consul("session_info", session=held["session"])
    assert consul("leader", key=name) == "pi1"
    consul("unlock", key=name, session=held["session"])
    assert refused("session_info", session=held["session"])["kind"] == "not_found"


def test_refused_lock_leaves_no_session(consul, refused, salt, name):
    held = consul("lock", key=name, ttl=60)
    before = set(salt["consul.session_list"](return_list=True))
    refused("lock", key=name, ttl=60)
    assert set(salt["consul.session_list"](return_list=True)) <= before  # others' sessions may end
    consul("unlock", key=name, session=held["session"])


def test_lock_waits_within_its_bound(consul, refused, name):
    held = consul("lock", key=name, ttl=60)
    start = time.monotonic()
    refused("lock", key=name, ttl=60, wait=1)
    assert 1 <= time.monotonic() - start < 6
    consul("unlock", key=name, session=held["session"])


def test_election_one_leader_who_stays_until_it_resigns(consul, refused, name):
    first = consul("elect", key=name, name="pi1")
    assert (first["elected"], first["leader"]) == (True, "pi1")
    assert consul("elect", key=name, name="pi1") == first, "standing again keeps the office"
    other = consul("elect", key=name, name="pi2")
    assert (other["elected"], other["leader"]) == (False, "pi1")
    assert consul("leader", key=name) == "pi1"
    refused("resign", key=name, name="pi2")
    consul("resign", key=name, name="pi1")
    assert consul("leader", key=name) is None
    second = consul("elect", key=name, name="pi2")
    assert second["elected"]
    assert second["fence"] > first["fence"]
    consul("resign", key=name, name="pi2")


def test_election_candidate_is_the_minion(consul, name):
    assert consul("elect", key=name)["leader"] == "pi1"
    consul("resign", key=name)


# -- ACL and snapshots -------------------------------------------------------------------------------------


def test_acl_as_the_former_module_had_it(consul, refused, name, consul_server, tmp_path):
    rules = f'key_prefix "{name}" {{ policy = "write" }}'
    accessor = consul("acl_create", name=name, rules=rules, path=str(tmp_path / "secret"))["ID"]
    secret = (tmp_path / "secret").read_text()
    assert consul_server.client(secret).put(name, b"1")
    assert consul("acl_info", id=accessor)[0]["policies"] == [name]
    clone = consul("acl_clone", id=accessor)["ID"]
    assert {accessor, clone} <= {token["accessor"] for token in consul("acl_list")}
    consul("acl_update", id=accessor, name=name, rules=rules.replace("write", "read"))
    assert refused("put", token=secret, key=name, value="2")["kind"] == "denied"
    consul("acl_delete", id=accessor)
    assert refused("acl_delete", id=accessor)["kind"] == "not_found"
    assert refused("get", token=secret, key=name)["kind"] == "denied"
    manager = consul("acl_create", name=name + "-m", type="management")["ID"]
    assert consul("acl_info", id=manager)[0]["policies"] == ["global-management"]
    refused("acl_create", name=name, type="root")


def test_acl_policies_and_tokens(consul, refused, name, tmp_path):
    rules = 'key "x" { policy = "read" }'
    assert consul("acl_policy_create", name=name, rules=rules)["changed"] is True
    assert consul("acl_policy_create", name=name, rules=rules)["changed"] is False
    assert consul("acl_policy_read", name=name)["Rules"].strip() == rules
    assert name in [policy["Name"] for policy in consul("acl_policy_list")]
    path = tmp_path / "secret"
    accessor = consul("acl_token_create", description=name, policies=[name], path=str(path))["accessor"]
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert consul("acl_token_read", accessor=accessor)["description"] == name
    before = len(consul("acl_token_list"))
    assert "exists" in refused("acl_token_create", description=name, path=str(path))["message"]
    refused("acl_token_create", description=name, path=str(tmp_path / "none" / "secret"))
    assert len(consul("acl_token_list")) == before, "no token is made whose secret cannot be kept"
    assert consul("acl_token_delete", accessor=accessor)["changed"] is True
    assert consul("acl_token_delete", accessor=accessor)["changed"] is False
    consul("acl_policy_delete", name=name)
    assert refused("acl_policy_read", name=name)["kind"] == "not_found"


def test_snapshots_go_into_a_folder_of_somebody_else_and_leave_it_open(consul, tmp_path):
    tmp_path.chmod(0o755)
    (tmp_path / "consul.partial").write_text("what a power cut left of an earlier one")
    info = consul("snapshot_rotate", path=str(tmp_path))
    assert [str(path) for path in tmp_path.iterdir()] == [info["path"]]
    assert tmp_path.stat().st_mode & 0o777 == 0o755
    assert os.stat(info["path"]).st_mode & 0o777 == 0o600


def test_snapshot_is_private_verified_and_restored_only_by_force(consul, refused, name, tmp_path):
    path = str(tmp_path / "consul.snap")
    consul("put", key=name, value="before")
    info = consul("snapshot_save", path=path)
    assert info["size"] == os.path.getsize(path)
    assert info["index"] > 0
    assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert os.listdir(tmp_path).count("consul.snap.partial") == 0
    consul("put", key=name, value="after")
    assert "force=True" in refused("snapshot_restore", path=path)["message"]
    assert consul("get", key=name, raw=True) == "after"
    consul("snapshot_restore", path=path, force=True)
    assert eventually(lambda: consul("get", key=name, raw=True), lambda value: value == "before")


def test_damaged_snapshot_is_never_sent(consul, refused, name, tmp_path):
    path = tmp_path / "consul.snap"
    consul("snapshot_save", path=str(path))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    assert refused("snapshot_restore", path=str(path), force=True)["kind"] == "bad_request"
    assert refused("snapshot_restore", path=str(tmp_path / "none"), force=True)["kind"] == "not_found"
    assert refused("snapshot_save", path=str(tmp_path / "none" / "x"))["kind"] == "bad_request"


def test_snapshot_whose_content_was_changed_is_never_sent(consul, refused, tmp_path):
    path, changed = tmp_path / "consul.snap", tmp_path / "changed.snap"
    consul("snapshot_save", path=str(path))
    with tarfile.open(path, "r:gz") as old, tarfile.open(changed, "w:gz") as new:
        for member in old.getmembers():
            content = old.extractfile(member).read()
            if member.name == "state.bin":
                content = content[:-1] + bytes([content[-1] ^ 1])
            new.addfile(member, io.BytesIO(content))
    answer = refused("snapshot_restore", path=str(changed), force=True)
    assert "state.bin does not match its checksum" in answer["message"]


def test_an_archive_with_a_folder_in_the_place_of_a_file_is_called_damaged(tmp_path):
    with tarfile.open(tmp_path / "odd.snap", "w:gz") as archive:
        folder = tarfile.TarInfo("SHA256SUMS")
        folder.type = tarfile.DIRTYPE
        archive.addfile(folder)
    with pytest.raises(ConsulError, match="damaged or none.*SHA256SUMS is not a file"):
        snapshot.inspect(str(tmp_path / "odd.snap"))


def test_a_token_that_cannot_be_written_is_one_line_and_changes_nothing(load_modules, configuration, tmp_path):
    (tmp_path / "consul").write_text("a file where a folder belongs")
    site = {"cluster": "omega", "nodes": {"pi1": {"address": "10.0.0.1", "roles": ["master", "manager"]}}}
    secrets = {"management_token": configuration["consul.token"]}
    salt = load_modules({"rpiomega": site, "rpiomega_secrets": secrets}, **configuration)
    before = len(salt["consul.acl_token_list"]()["data"])
    answer = salt["consul.rotate_node_token"]("pi1", secrets=str(tmp_path))
    assert (answer["res"], answer["success"]) == (False, False)
    assert answer["message"].startswith("pi1 keeps its token, no new one could be written: ")
    assert str(tmp_path / "consul") in answer["message"]
    assert len(salt["consul.acl_token_list"]()["data"]) == before


# -- secrets -----------------------------------------------------------------------------------------------


def test_no_token_in_any_return_log_or_error(salt, consul_server, name, tmp_path, caplog):
    """Every function, called well and with a wrong token: neither answer nor log holds a secret."""
    caplog.set_level(logging.DEBUG)
    policy = {"name": name, "rules": 'key "x" { policy = "read" }'}
    made = salt["consul.acl_create"](path=str(tmp_path / "secret"), **policy)["ID"]
    wrong = str(uuid.uuid4())
    arguments = {
        **dict.fromkeys(("key", "name", "checkid", "serviceid", "node", "service", "session"), name),
        "id": made,
        "accessor": made,
        "address": "127.0.0.1:1",
        "state": "any",
        "ttl": "60s",
        "enable": False,
        "ops": [{"verb": "get", "key": name}],
        "value": "v",
        "rules": policy["rules"],
        "description": name,
        "path": str(tmp_path / "secret-or-snapshot"),
    }
    answers = []
    for function in sorted((FORMER | OURS) - {"acl_delete", "acl_token_delete", "agent_leave"}):
        accepted = inspect.signature(salt[f"consul.{function}"]).parameters
        given = {key: value for key, value in arguments.items() if key in accepted}
        answers += [function, salt[f"consul.{function}"](**given)]
        if "token" in accepted:
            answers += [salt[f"consul.{function}"](token=wrong, **given)]
    text = json.dumps(answers) + caplog.text
    secrets = {consul_server.token, wrong, (tmp_path / "secret").read_text()}
    assert not [secret for secret in secrets if secret in text]
    assert len(text) > 10000
