"""The states `consul_agent` and `consul_acl` on a node whose Salt lost py-consul in an upgrade (salt#70513)."""

import functools
import json
import os
import sys

import ailing_engine
import pytest

from omega.consul import client
from omega.core import files as core_files
from omega.core import pki
from omega.docker import containers, engine

NODES = {
    "pi1": {"address": "10.0.0.1", "roles": ["master", "manager"]},
    "pi2": {"address": "10.0.0.2", "roles": ["worker"]},
}
SITE = {"cluster": "omega", "nodes": NODES}
IMAGE = "consul:1.21.5"


@pytest.fixture(params=[False, True], ids=["run", "test=True"])
def node(request, states, monkeypatch):
    """node(state, name, ..., minion): the state's return."""
    monkeypatch.delitem(sys.modules, "consul", raising=False)
    monkeypatch.setattr(client, "_find_package", lambda name: None)
    ca = pki.new_ca("omega")[0].decode()
    secrets = {"consul": {"gossip_key": "k", "token": "t", "ca": ca, "cert": "c", "key": "k"}}

    def call(state, *arguments, minion="pi2", **more):
        pillar = {"rpiomega": SITE, "rpiomega_secrets": {**secrets, **more}}
        with states(test=request.param, pillar=pillar, minion_id=minion) as loaded:
            return loaded[state](*arguments)

    call.test, call.ca = request.param, ca
    return call


def failed(answer):
    """Its comment; it is a failure that names the cause and the cure."""
    assert (answer["result"], answer["changes"]) == (False, {})
    assert "py-consul is missing: run `rpiomega bootstrap` for this node" in answer["comment"]
    return answer["comment"]


def test_the_wait_for_consul_fails_at_once(node):
    failed(node("consul_agent.ready", "consul", 30))


def test_the_masters_tokens_fail(node, tmp_path):
    own = {"management_token": "m", "node_tokens": {"pi1": "t"}}
    failed(node("consul_acl.cluster_tokens", "consul", str(tmp_path / "marker"), str(tmp_path), minion="pi1", **own))


def test_a_server_that_shall_be_a_client_is_left_alone(node, tmp_path):
    (tmp_path / "consul.json").write_text('{"server": true}')
    (tmp_path / "ca.pem").write_text(node.ca)
    failed(node("consul_agent.configured", str(tmp_path), IMAGE, str(tmp_path / "marker")))
    assert (tmp_path / "consul.json").read_text() == '{"server": true}'


@pytest.mark.parametrize("place", ["ca.pem", "tls/ca.pem"])
def test_an_agent_of_another_cluster_is_left_alone_wherever_its_certificates_are(node, tmp_path, place):
    (tmp_path / place).parent.mkdir(exist_ok=True)
    (tmp_path / place).write_text(pki.new_ca("omega")[0].decode())
    answer = node("consul_agent.configured", str(tmp_path), IMAGE, str(tmp_path / "marker"))
    assert (answer["result"], answer["changes"]) == (False, {})
    assert "another certificate authority" in answer["comment"]


def test_certificates_leave_the_folder_of_json_files_and_an_agent_finds_them_at_every_moment(
    node, tmp_path, monkeypatch
):
    """Consul reports each file that is not JSON as skipped. Docker may start the agent after any of the writes."""
    for file in ("ca.pem", "cert.pem", "key.pem"):
        (tmp_path / file).write_text(node.ca if file == "ca.pem" else "older")
    (tmp_path / "consul.json").write_text(json.dumps({"tls": {"defaults": {"ca_file": "/etc/consul/ca.pem"}}}))
    complete, write = [], core_files.write

    def watched(*arguments):
        write(*arguments)
        complete.append(all_named_files_exist(tmp_path))

    monkeypatch.setattr(core_files, "write", watched)
    answer = node("consul_agent.configured", str(tmp_path), IMAGE, str(tmp_path / "marker"))
    assert answer["changes"]["removed"] == ["ca.pem", "cert.pem", "key.pem"]
    if node.test:
        assert (answer["result"], (tmp_path / "tls").exists(), (tmp_path / "key.pem").read_text()) == (
            None,
            False,
            "older",
        )
        return
    assert answer["result"] is True, answer
    assert complete == [True] * 4
    assert {path.suffix for path in tmp_path.iterdir() if path.is_file()} == {".json"}
    assert [oct(path.stat().st_mode & 0o777) for path in (tmp_path / "tls", *sorted((tmp_path / "tls").iterdir()))] == [
        "0o700", "0o600", "0o600", "0o600",
    ]  # fmt: skip
    assert all_named_files_exist(tmp_path)
    (tmp_path / "key.pem").write_text("of a run that was cut off before it could remove it")
    again = node("consul_agent.configured", str(tmp_path), IMAGE, str(tmp_path / "marker"))
    assert again["changes"] == {"removed": ["key.pem"]}
    assert node("consul_agent.configured", str(tmp_path), IMAGE, str(tmp_path / "marker"))["changes"] == {}


def all_named_files_exist(folder):
    """Whether every file that consul.json names is there; the container sees the folder as /etc/consul."""
    named = json.loads((folder / "consul.json").read_text())["tls"]["defaults"]
    files = [value for key, value in named.items() if key.endswith("_file")]
    assert files
    return all((folder / os.path.relpath(file, "/etc/consul")).exists() for file in files)


def test_an_agent_that_would_be_replaced_goes_on(node, tmp_path, monkeypatch):
    running = {"Id": "a1", "State": {"Status": "running"}, "Config": {"Labels": {containers.LABEL: "another"}}}
    known = {f"/images/{IMAGE}/json": {"Id": "i1"}, "/containers/rpiomega-consul/json": running}
    with ailing_engine.serve(known=known) as url:
        monkeypatch.setattr(engine, "connect", functools.partial(engine.connect, url))
        answer = node("consul_agent.running", "rpiomega-consul", IMAGE, str(tmp_path), "volume")
    if node.test:
        assert (answer["result"], answer["changes"]) == (None, {"rpiomega-consul": "replace"})
    else:
        assert failed(answer).startswith("rpiomega-consul was not replaced: ")


def test_a_node_that_was_taken_out_of_the_site_is_told_both_ways_on(node, tmp_path):
    answer = node("consul_agent.configured", str(tmp_path), IMAGE, str(tmp_path / "marker"), minion="pi9")
    assert (answer["result"], answer["changes"], list(tmp_path.iterdir())) == (False, {}, [])
    assert "`rpiomega remove pi9` takes it out of the cluster; to keep it, add it to the site file" in answer["comment"]
