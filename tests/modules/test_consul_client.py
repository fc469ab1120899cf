"""`omega.consul.client` against a real server: keys, transactions, sessions, errors, which library it takes."""

import contextlib
import http.server
import json
import os
import pathlib
import socket
import subprocess
import sys
import threading
import time
import uuid

import pytest
from consul_server import version

from omega.consul import client as consul_client
from omega.consul.client import ConsulError

ROOT = pathlib.Path(__file__).resolve().parents[2]
NO_SUCH_TOKEN = "0badc0de-0000-4000-8000-000000000000"


@pytest.fixture
def client(consul_server):
    return consul_server.client()


@pytest.fixture
def prefix():
    """A part of the key space of its own."""
    return f"test/{uuid.uuid4()}/"


def error_of(function, *args, **kwargs):
    with pytest.raises(ConsulError) as caught:
        function(*args, **kwargs)
    return caught.value


def test_missing_key_is_none_and_an_empty_prefix_an_empty_list(client, prefix):
    assert client.get(prefix + "a") is None
    assert client.list(prefix) == []


def test_values_come_back_as_they_were_written(client, prefix):
    for name, value in (("bytes", b"\x00\xff"), ("text", "hällo"), ("empty", b"")):
        client.put(prefix + name, value)
        assert client.get(prefix + name).value == (value.encode() if isinstance(value, str) else value)
    client.put(prefix + "json", {"b": 1, "a": [2]})
    assert client.get(prefix + "json").json() == {"a": [2], "b": 1}
    assert [e.key.removeprefix(prefix) for e in client.list(prefix)] == ["bytes", "empty", "json", "text"]


def test_key_with_characters_that_a_url_gives_a_meaning(client, prefix):
    # A release from 1.22 on takes a space, and an escape, but not both.
    keys = ["a b?c#dé", "a?c#d%41é"] if version() >= (1, 22) else ["a b?c#d%20é"]
    for key in keys:
        _written_and_deleted(client, prefix + key)


def _written_and_deleted(client, key):
    client.put(key, b"1")
    assert client.get(key).value == b"1"
    assert client.delete(key)
    assert client.get(key) is None


def test_value_that_is_not_json_names_the_key(client, prefix):
    client.put(prefix + "x", b"{")
    error = error_of(client.get(prefix + "x").json)
    assert error.kind == "bad_request"
    assert prefix + "x" in str(error)


def test_cas_zero_creates_only_once(client, prefix):
    assert client.put_cas(prefix + "a", b"1", 0) is True
    assert client.put_cas(prefix + "a", b"2", 0) is False
    assert client.get(prefix + "a").value == b"1"


def test_cas_writes_only_at_the_index_it_was_given(client, prefix):
    client.put_cas(prefix + "a", b"1", 0)
    old = client.get(prefix + "a").modify_index
    assert client.put_cas(prefix + "a", b"2", old)
    assert not client.put_cas(prefix + "a", b"3", old)
    assert not client.delete(prefix + "a", index=old)
    assert client.get(prefix + "a").value == b"2"


def test_transaction_is_all_or_nothing_and_says_which_operation_failed(client, prefix):
    client.put(prefix + "b", b"old")
    operations = [
        {"verb": "set", "key": prefix + "a", "value": b"new"},
        {"verb": "cas", "key": prefix + "b", "value": b"new", "index": 1},
    ]
    error = error_of(client.txn, operations)
    assert error.kind == "conflict"
    assert f"cas {prefix}b" in str(error)
    assert client.get(prefix + "a") is None
    assert client.get(prefix + "b").value == b"old"


def test_transaction_returns_the_entries_in_order(client, prefix):
    first, second = client.txn(
        [{"verb": "set", "key": prefix + "a", "value": {"x": 1}}, {"verb": "get", "key": prefix + "a"}]
    )
    assert first.modify_index == second.modify_index > 0
    assert second.json() == {"x": 1}


def test_transaction_of_something_else_than_operations_is_named(client):
    assert "'job' is no mapping" in str(error_of(client.txn, ["job"]))


def test_transaction_with_a_word_consul_does_not_know_is_not_sent(client, prefix):
    assert error_of(client.txn, [{"verb": "set", "key": prefix, "valeu": b""}]).kind == "bad_request"


@pytest.mark.parametrize("key", ["", "/a", None])
def test_bad_key_is_refused_with_its_name(client, key):
    error = error_of(client.get, key)
    assert error.kind == "bad_request"
    assert repr(key) in str(error)


def test_session_that_is_gone_is_lost(client):
    session = client.session_create("test", ttl=10)
    assert client.session_info(session)["Name"] == "test"
    client.session_renew(session)
    client.session_destroy(session)
    assert error_of(client.session_renew, session).kind == "lost"
    assert client.session_info(session) is None


@pytest.mark.parametrize("ttl", [5, 100000])
def test_session_ttl_outside_consuls_bounds(client, ttl):
    error = error_of(client.session_create, "test", ttl=ttl)
    assert (error.kind, str(ttl) in str(error)) == ("bad_request", True)


def test_leader_and_alive(consul_server, client):
    assert client.leader() == f"127.0.0.1:{consul_server.ports['server']}"
    assert client.alive() == {"server1"}


CALLS = {
    "get": lambda c: c.get("test/x"),
    "put": lambda c: c.put("test/x", b""),
    "put_cas": lambda c: c.put_cas("test/x", b"", 0),
    "delete": lambda c: c.delete("test/x"),
    "txn": lambda c: c.txn([{"verb": "set", "key": "test/x", "value": b""}]),
    "session": lambda c: c.session_create("x"),
}


@pytest.mark.parametrize("call", CALLS)
def test_unknown_token_is_a_permission_problem_in_every_call(consul_server, call):
    """F16: not "no lock", not "no key", and never the anonymous token instead."""
    error = error_of(CALLS[call], consul_server.client(NO_SUCH_TOKEN))
    assert error.kind == "denied"
    assert "unknown to Consul" in str(error)
    assert NO_SUCH_TOKEN not in str(error)


@pytest.mark.parametrize("call", CALLS)
def test_missing_permission_says_that_no_token_was_given(consul_server, call):
    error = error_of(CALLS[call], consul_client.connect(consul_server.url))
    assert error.kind == "denied"
    assert "anonymous" in str(error)


def test_environment_decides_nothing(consul_server, monkeypatch):
    """py-consul prefers CONSUL_HTTP_TOKEN to its argument, and requests takes proxies from the environment."""
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", NO_SUCH_TOKEN)
    monkeypatch.setenv("CONSUL_HTTP_ADDR", "127.0.0.1:1")
    monkeypatch.setenv("CONSUL_HTTP_SSL", "true")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    client = consul_server.client()
    assert client.get("test/none") is None
    assert error_of(consul_client.connect(consul_server.url).get, "test/none").kind == "denied"


def test_no_agent_is_one_clear_line():
    error = error_of(consul_client.connect("http://127.0.0.1:1").get, "x")
    assert error.kind == "unreachable"
    assert "http://127.0.0.1:1" in str(error)
    assert "\n" not in str(error)


def test_connection_that_is_never_accepted_is_left_within_the_bound():
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):  # fill its queue, so that the next connection hangs
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        start = time.monotonic()
        error = error_of(consul_client.connect(f"http://127.0.0.1:{listener.getsockname()[1]}").get, "x")
        assert time.monotonic() - start < 3.2
        assert error.kind == "unreachable"


def test_an_agent_at_an_ipv6_address_is_asked_there():
    class Agent(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(f'"{self.path} of {self.headers["Host"]}"'.encode())

        def log_message(self, *arguments):
            """Nothing."""

    class Server(http.server.ThreadingHTTPServer):
        address_family = socket.AF_INET6

    try:
        server = Server(("::1", 0), Agent)
    except OSError as error:
        pytest.skip(f"no IPv6 here: {error}")
    with server:
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        client = consul_client.connect(f"http://[::1]:{server.server_port}")
        assert client.leader() == f"/v1/status/leader of [::1]:{server.server_port}"
        assert client.clone().url == client.url
        server.shutdown()


def test_too_many_requests_at_once_are_worth_another_try(client):
    assert client.failure("reading", 429, "Your IP is issuing too many concurrent connections").transient


@pytest.mark.parametrize("key", ["test/a/../b", "test/a//b", "test/./b", "test/..", "../agent/leave", "../kv/test/x"])
def test_a_key_that_is_another_address_reaches_nobody(client, key):
    """What requests and Consul make of it is another key, or none: it was written as `test/b`."""
    before = [entry.key for entry in client.list("")]
    for call in (client.get, client.delete, client.list, lambda key: client.put(key, b"1")):
        error = error_of(call, key)
        assert error.kind == "bad_request"
        assert key in str(error)
    assert [entry.key for entry in client.list("")] == before


def test_a_name_in_an_address_stays_in_its_place(client):
    error = error_of(client.request, "put", "/v1/agent/service/deregister/../../leave")
    assert error.kind == "bad_request"
    client.wait_ready(10)


@pytest.mark.parametrize("key", ["test/a b ", "test/a%20b", "test/%2e%2e/b"])
def test_a_key_that_newer_releases_refuse_is_named_with_the_rule(client, key):
    if version() < (1, 22):
        assert client.put(key, b"1")
        assert client.get(key).text() == "1"
        assert client.delete(key)
        error = client.failure(f"writing key {key}", 500, "invalid key name, path traversal is not allowed")
    else:
        error = error_of(client.put, key, b"1")
    assert (error.kind, error.transient) == ("bad_request", False)
    for told in (f"writing key {key}", "invalid key name", "a part `..` or a space at an end"):
        assert told in str(error)


@pytest.mark.parametrize("timeout", ["3s", -1, "nan", [3]])
def test_a_time_out_that_is_none_is_named(client, timeout):
    for call in (lambda: consul_client.from_salt({"consul.timeout": timeout}, {}), lambda: client.clone(timeout)):
        error = error_of(call)
        assert (error.kind, repr(timeout) in str(error)) == ("bad_request", True)


@pytest.mark.parametrize("url", ["ftp://x", "http://", "http:///v1", "http://127.0.0.1:99999", "http://[::1"])
def test_bad_url_is_named(url):
    error = error_of(consul_client.connect, url)
    assert error.kind == "bad_request"
    assert url in str(error)


def test_wait_ready_reports_the_last_thing_it_saw(consul_server):
    start = time.monotonic()
    error = error_of(consul_client.connect("http://127.0.0.1:1").wait_ready, 1)
    assert error.kind == "unreachable"
    assert time.monotonic() - start < 3
    error = error_of(consul_server.client(NO_SUCH_TOKEN).wait_ready, 1)
    assert error.kind == "denied"
    consul_server.client().wait_ready(60)


def test_wait_ready_waits_until_the_acl_system_answers(consul_server, monkeypatch):
    """A server of three that restarts answers so for some 0.2 s; here the first two calls are, whenever they come."""
    client, left, real = consul_server.client(), [2], consul_server.client().request

    def starting(method, path, *args, **kwargs):
        if path.startswith("/v1/acl/") and left[0]:
            left[0] -= 1
            raise client.failure(path, 500, "The ACL system is currently in legacy mode.")
        return real(method, path, *args, **kwargs)

    monkeypatch.setattr(client, "request", starting)
    client.wait_ready(60)
    assert left == [2], "who does not manage tokens need not wait"
    client.wait_ready(60, acl=True)
    assert left == [0]


def test_settings_arguments_before_configuration_before_pillar():
    secrets = {"rpiomega_secrets": {"consul": {"token": "own"}}}
    both = {**secrets, "consul": {"url": "http://pillar:1", "token": "pillar"}}

    def seen(opts, pillar, **arguments):
        client = consul_client.from_salt(opts, pillar, **arguments)
        return client.url, client.api.token

    assert seen({}, {}) == ("http://127.0.0.1:8500", None)
    assert seen({}, secrets) == ("http://127.0.0.1:8500", "own")
    assert seen({}, both) == ("http://pillar:1", "pillar")
    assert seen({"consul.url": "http://conf:2"}, both) == ("http://conf:2", "pillar")
    assert seen({"consul": {"url": "http://conf:2"}}, both, url="http://arg:3") == ("http://arg:3", "pillar")


def run_python(code, *path):
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, path))}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_our_module_of_the_same_name_does_not_hide_the_library():
    code = (
        "import sys, types; sys.modules['consul'] = types.ModuleType('consul');"
        "import omega.consul.client; print(omega.consul.client.load_library().Consul.__module__)"
    )
    done = run_python(code, ROOT / "_modules", ROOT / "_utils")
    assert done.stdout.strip() == "consul.std", done.stderr


def test_missing_library_is_said_and_our_module_is_not_taken_for_it():
    code = (
        "import sys, json; sys.path = [p for p in sys.path if 'site-packages' not in p];"
        "import omega.consul.client\n"
        "try: omega.consul.client.connect()\n"
        "except omega.consul.client.ConsulError as error: print(json.dumps([error.kind, str(error)]))"
    )
    done = run_python(code, ROOT / "_modules", ROOT / "_utils")
    kind, message = json.loads(done.stdout or done.stderr)
    assert (kind, message.partition(":")[0]) == ("missing", "py-consul is missing")
