"""
Client for Consul's HTTP API: py-consul with bounded time-outs, a token on every call and one kind of error.

What py-consul 1.8 leaves open, and what is done about it here:

- its time-out is 30 s per call; a frozen agent would hold a Salt job that long. Each call here ends within
  `timeout` seconds (3 by default), and its error says why: agent frozen, or no leader in the cluster
  (an agent without a leader holds a request for 7 s before it answers 500; measured on 1.8.7).
- `txn` sends no token (before 1.6 nor do sessions): such calls go through `Client.request`, a thin call on its
  HTTP layer.
- CONSUL_HTTP_TOKEN in the environment wins over the token given by the caller; so do proxies and .netrc
  (requests' `trust_env`). Both are switched off: what is asked is decided by the arguments alone.

A write that ends in a time-out has an unknown outcome: the agent may still pass it on. Read again before
writing again, or write with `put_cas`, which cannot be applied twice.
"""

from __future__ import annotations

import base64
import importlib.machinery
import importlib.util
import json as jsonlib
import sys
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from omega.core import pillar as salt_pillar
from omega.core.errors import KindOfFailure
from omega.core.polling import transient, until

DEFAULT_URL = "http://127.0.0.1:8500"
DEFAULT_TIMEOUT = 3.0
PROBE_TIMEOUT = 1.0
CONNECT_TIMEOUT = 1.0
MAX_DETAIL = 300
MEMBER_ALIVE = 1  # hashicorp/serf, serf/serf.go: StatusAlive
NO_LEADER = ("No cluster leader", "leadership lost", "not the leader", "no leader")
# Consul answers 500, not 400, to these mistakes of the caller (read off 1.8.7); they are not worth a retry.
MISTAKES = (
    "Invalid ",
    "invalid session",
    "No such ",
    "Failed to parse",
    "already exists",
    "already in use",
    "Scripts are",
)
# Since 1.22 (hashicorp/consul, agent/kvs_endpoint.go: validateKVKey); the setting disable_kv_key_validation ends it.
KEY_REFUSED = "invalid key name"
KEY_RULE = (
    "Consul 1.22 and newer take no key with a part `..` or a space at an end, nor one with an escape (%20, %41) that "
    "has a space or `..` anywhere once it is decoded"
)
ANONYMOUS = "anonymous (no token was given)"


class ConsulError(KindOfFailure):
    """
    A call to Consul failed; str() is one line: where, what, cause and the next step, never a token.

    kind: "unreachable" (no agent, or it answers 5xx), "no_leader", "timeout" (no answer within the bound),
    "denied" (401/403), "not_found", "conflict" (a condition of a write did not hold), "lost" (a lock or its
    session is gone), "bad_request", "missing" (py-consul is not installed).
    """

    TRANSIENT = frozenset({"unreachable", "no_leader", "timeout"})


def unsettled(error):
    """Return whether an error passes while an agent starts, or once the master, in the same apply, has made a token."""
    return transient(error) or denied(error)


def denied(error):
    """Return whether Consul refused the token."""
    return isinstance(error, ConsulError) and error.kind == "denied"


class Entry(NamedTuple):
    """One key: value is bytes, modify_index the index `put_cas` wants, session the lock holder's or None."""

    key: str
    value: bytes
    modify_index: int
    session: str | None = None
    flags: int = 0

    @classmethod
    def of(cls, item):
        """Entry of one decoded item of Consul's answer."""
        value = item.get("Value") or b""
        if isinstance(value, str):
            value = base64.b64decode(value)
        return cls(item["Key"], value, item["ModifyIndex"], item.get("Session") or None, item.get("Flags", 0))

    def text(self):
        """The value as text."""
        return self.value.decode("utf-8", "replace")

    def json(self):
        """The value parsed as JSON; ConsulError("bad_request") naming the key if it is not JSON."""
        try:
            return jsonlib.loads(self.value)
        except (ValueError, RecursionError) as error:
            raise ConsulError("bad_request", f"Consul key {self.key}: not JSON ({error})") from None


def load_library():
    """
    Return the module `consul` of py-consul; ConsulError("missing") if it is not installed.

    Salt appends module folders to sys.path, so a plain `import consul` may find an execution module of that
    name, ours included. The library is a package: only a folder with an __init__ is taken.
    """
    module = sys.modules.get("consul")
    if not hasattr(module, "Consul"):
        module = _find_package("consul")
    if not hasattr(module, "Consul") or importlib.util.find_spec("consul.exceptions") is None:
        raise ConsulError(
            "missing",
            "py-consul is missing: run `rpiomega bootstrap` for this node, or install py-consul (not python-consul, "
            "which uses the same folder) for the Python that runs Salt",
        )
    return module


def _find_package(name):
    for entry in sys.path:
        spec = importlib.machinery.PathFinder.find_spec(name, [entry])
        if spec and spec.loader and spec.origin and spec.submodule_search_locations:
            module = importlib.util.module_from_spec(spec)
            sys.modules[name] = module
            spec.loader.exec_module(module)
            return module
    return None


def encode(value):
    """Bytes of a value: bytes as they are, text as UTF-8, anything else as JSON with sorted keys."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    return jsonlib.dumps(value, sort_keys=True).encode()


def connect(url=None, token=None, timeout=DEFAULT_TIMEOUT, verify=True):
    """
    Client of the agent at `url`; nothing is sent yet.

    :param url: of the agent, default http://127.0.0.1:8500
    :param token: SecretID, or None for the anonymous token
    :param timeout: seconds until a call gives up
    :param verify: for https: True, False or the path of a CA file
    :raises ConsulError: "bad_request" for an address or a time-out that is none, "missing" without py-consul
    """
    return Client(url or DEFAULT_URL, token or None, timeout, verify)


def from_salt(opts, pillar, url=None, token=None, timeout=None):
    """
    Client with what Salt knows: arguments, then minion configuration (`consul.url`, `consul.token`, or a
    mapping `consul`), then pillar of the same names, then this node's token in pillar
    rpiomega_secrets:consul:token, then the local agent.
    """
    return connect(
        url or _setting(opts, pillar, "url"),
        token or _setting(opts, pillar, "token") or _own_token(pillar),
        timeout or _setting(opts, pillar, "timeout") or DEFAULT_TIMEOUT,
        _setting(opts, pillar, "ca") or True,
    )


def _setting(opts, pillar, name):
    for source in (opts or {}, pillar or {}):
        section = source.get("consul")
        value = source.get(f"consul.{name}") or (section.get(name) if isinstance(section, dict) else None)
        if value:
            return value
    return None


def _own_token(pillar):
    secrets = salt_pillar.secrets(pillar)
    return (secrets.get("consul") or {}).get("token")


def _address(url):
    """(scheme, host as a URL has it, port) of the agent."""
    try:
        parts = urlsplit(url if "//" in url else f"http://{url}")
        scheme, host, port = parts.scheme, parts.hostname, parts.port or 8500
    except ValueError:  # no port has that number, or a bracket is missing
        scheme, host = "", None
    if scheme not in ("http", "https") or not host:
        raise ConsulError("bad_request", f"Consul URL {url!r}: expected http://HOST:PORT")
    return scheme, f"[{host}]" if ":" in host else host, port


def _check_path(url):
    """Refuse an address that would arrive as another one: urllib3 resolves `.` and `..` before it sends a request
    (RFC 3986, 5.2.4), and Consul merges slashes. The key `a/../b` would be `b`, `../agent/leave` no key at all."""
    path = unquote(urlsplit(url).path)
    if any(part in ("", ".", "..") for part in path.split("/")[1:-1]) or path.endswith(("/.", "/..")):
        name = path.partition("/v1/")[2]
        raise ConsulError("bad_request", f"Consul {name}: no part between slashes may be empty, `.` or `..`: rename it")


def _bound_of(timeout):
    try:
        seconds = float(timeout)
    except (TypeError, ValueError):
        seconds = 0
    if not seconds > 0:
        raise ConsulError("bad_request", f"Consul time-out {timeout!r}: expected seconds above 0, such as 3")
    return seconds


class Client:
    """Made by `connect`. Not for two threads at once: each takes its own `clone`."""

    def __init__(self, url, token, timeout, verify=True):
        library = load_library()
        import requests  # py-consul depends on it

        scheme, host, port = _address(url)
        self.url = f"{scheme}://{host}:{port}"
        self.timeout, self._verify, self._token = _bound_of(timeout), verify, token
        self.name = None  # of this node, for those who want to tell others
        self._requests, self._errors = requests, importlib.import_module("consul.exceptions")
        self.api = library.Consul(host, port, None, scheme, verify=verify)
        self.api.token = token
        self._bound(self.timeout)

    def __repr__(self):
        return f"<Consul {self.url}>"

    def clone(self, timeout=None, token=None):
        """The same client with a connection of its own and, if given, another time-out (s) or token."""
        return Client(self.url, token or self._token, timeout or self.timeout, self._verify)

    def _bound(self, timeout):
        """Put the time-out on the library's session: the one place every call of every version passes."""

        class Session(self._requests.Session):  # type: ignore[name-defined]  # imported when the first client is made
            def request(self, method, url, **kwargs):
                _check_path(url)
                kwargs["timeout"] = (min(CONNECT_TIMEOUT, timeout), max(timeout - PROBE_TIMEOUT, timeout / 2))
                return super().request(method, url, **kwargs)

        self.api.http.session = Session()
        self.api.http.session.trust_env = False

    # -- calls and errors ----------------------------------------------------------------------------------

    def call(self, what, function, *args, **kwargs):
        """function(*args, **kwargs) of the library, its errors turned into ConsulError naming `what`."""
        try:
            return function(*args, **kwargs)
        except self._requests.exceptions.ConnectTimeout:
            raise self._error("unreachable", what, "no connection within the bound") from None
        except self._requests.exceptions.Timeout:
            raise self._timed_out(what) from None
        except self._requests.exceptions.RequestException as error:
            raise self._error("unreachable", what, f"no agent answers ({type(error).__name__})") from None
        except self._errors.ACLPermissionDenied as error:
            raise self.failure(what, 403, str(error)) from None
        except self._errors.ACLDisabled as error:
            raise self.failure(what, 401, str(error)) from None
        except self._errors.NotFound as error:
            raise self.failure(what, 404, str(error)) from None
        except self._errors.ConsulException as error:
            code, _, body = str(error).partition(" ")
            raise self.failure(what, int(code) if code.isdigit() else 500, body) from None

    def request(self, method, path, params=(), data=b"", what=None, accept=(200,), raw=False):
        """
        One HTTP call that py-consul has no function for, or not with what is needed.

        :param method: get, put, post or delete
        :param path: as it is; py-consul quotes it
        :param params: pairs or a mapping of query parameters
        :param data: bytes, or anything else, sent as JSON
        :param accept: status codes whose body is returned; others raise ConsulError
        :param raw: of a get: the body as bytes
        :return: (status code, parsed JSON; bytes if raw; None for an empty body)
        """
        what = what or f"{method.upper()} {path}"
        params = list(params.items()) if isinstance(params, dict) else list(params)
        if not isinstance(data, bytes):
            data = jsonlib.dumps(data).encode()
        headers, http = self.api.prepare_headers(), self.api.http
        if raw:  # py-consul before 1.8 knows text only
            answer = self.call(what, http.session.get, http.uri(path, params), headers=headers, verify=http.verify)
            code, body = answer.status_code, answer.content
        else:
            kwargs = {"params": params, "headers": headers} | ({"data": data} if method in ("put", "post") else {})
            answer = self.call(what, getattr(http, method), lambda response: response, path, **kwargs)
            code, body = answer.code, answer.body
        if code not in accept:
            raise self.failure(what, code, body.decode("utf-8", "replace") if raw else body)
        if raw or not body:
            return code, body or None
        try:
            return code, jsonlib.loads(body)
        except ValueError:
            return code, body

    def failure(self, what, code, body):
        """ConsulError for an answer that is not a success."""
        body = " ".join(body.split())[:MAX_DETAIL]
        if code in (401, 403) or "Permission denied" in body or "ACL not found" in body:
            if "ACL not found" in body:
                cause = "its token is unknown to Consul (revoked, expired or not created yet)"
            else:
                cause = f"permission denied for {'its token' if self._token else ANONYMOUS}: {body}"
            return self._error("denied", what, cause)
        if code == 404:
            return self._error("not_found", what, body or "not found")
        if code == 409:
            return self._error("conflict", what, body)
        if KEY_REFUSED in body:
            return self._error("bad_request", what, f"{body}; {KEY_RULE}: choose another key")
        # 429: too many requests at once (developer.hashicorp.com/consul/docs/agent/limits)
        if (code < 500 and code != 429) or any(text in body for text in MISTAKES):
            return self._error("bad_request", what, f"HTTP {code}: {body}")
        if any(text in body for text in NO_LEADER):
            return self._error("no_leader", what, "Consul has no leader")
        return self._error("unreachable", what, f"the agent answered HTTP {code}: {body}")

    def _timed_out(self, what):
        """An agent without a leader still answers /v1/status/leader at once; a frozen one does not."""
        url = f"{self.url}/v1/status/leader"
        try:
            with self._requests.Session() as session:
                session.trust_env = False
                answer = session.get(url, timeout=PROBE_TIMEOUT, verify=self._verify)
        except self._requests.exceptions.RequestException:
            return self._error("timeout", what, f"the agent gave no answer within {self.timeout:g} s")
        if answer.ok and answer.text.strip() in ("", '""'):
            return self._error("no_leader", what, "Consul has no leader")
        return self._error("timeout", what, f"no result within {self.timeout:g} s, though the agent answers")

    def _error(self, kind, what, cause):
        step = {
            "unreachable": "check the Consul agent on this node (docker logs rpiomega-consul)",
            "timeout": "check the Consul agent on this node (docker logs rpiomega-consul), then run again",
            "no_leader": "bring back enough Consul servers for a quorum, then run again",
            "denied": "check this node's token and its policy, then apply the state consul on the master",
        }.get(kind, "")
        return ConsulError(kind, self.scrub(f"{what}: {cause}"), step, f"Consul at {self.url}")

    def scrub(self, text):
        """text without this client's token."""
        return text.replace(self._token, "[token]") if self._token else text

    # -- keys ----------------------------------------------------------------------------------------------

    @staticmethod
    def _consistency(consistent, stale):
        """Consul's default read may come from a deposed leader; `consistent` asks the quorum first."""
        return "stale" if stale else "consistent" if consistent else "default"

    @staticmethod
    def _key(key):
        if not key or key.startswith("/"):
            raise ConsulError("bad_request", f"Consul key {key!r}: must not be empty nor start with a slash")
        return key

    def get(self, key, consistent=True, stale=False):
        """Entry of `key`, None if there is none. stale: any server may answer, also without a leader."""
        mode = self._consistency(consistent, stale)
        _, item = self.call(f"reading key {key}", self.api.kv.get, self._key(key), consistency=mode)
        return Entry.of(item) if item else None

    def list(self, prefix, consistent=True, stale=False):
        """Entries below `prefix`, sorted by key. Consul leaves out keys that the token may not read."""
        mode = self._consistency(consistent, stale)
        _, items = self.call(f"listing {prefix}", self.api.kv.get, prefix, recurse=True, consistency=mode)
        return [Entry.of(item) for item in items or []]

    def put(self, key, value, flags=None, acquire=None, release=None):
        """Write; True if Consul did. False: `acquire`/`release` of a lock that another session holds."""
        what = f"writing key {key}"
        options = {"flags": flags, "acquire": acquire, "release": release}
        return bool(self.call(what, self.api.kv.put, self._key(key), encode(value), **options))

    def put_cas(self, key, value, index):
        """Write only if the key's ModifyIndex is `index` (0: only if there is no such key); whether it was."""
        what = f"writing key {key} at index {index}"
        return bool(self.call(what, self.api.kv.put, self._key(key), encode(value), cas=int(index)))

    def delete(self, key, recurse=False, index=None):
        """Delete a key, or all below it; with `index` only at that ModifyIndex (False if it has changed)."""
        if index is not None and int(index) < 1:
            raise ConsulError("bad_request", f"deleting Consul key {key}: index must be above 0")
        what = f"deleting key {key}"
        return bool(self.call(what, self.api.kv.delete, self._key(key), recurse=recurse or None, cas=index))

    def txn(self, ops):
        """
        Apply all operations or none, e.g. [{"verb": "cas", "key": k, "value": b"...", "index": 7}].

        Verbs: set cas lock unlock get get-tree check-index check-session check-not-exists delete delete-tree
        delete-cas; at most 64 operations. Returns the entries that the operations yield, in their order.
        ConsulError("conflict") says which operation failed. Consul reports a missing permission inside the
        409 answer too (not as 403, except for an unknown token): it becomes "denied".
        """
        body = [{"KV": _operation(op)} for op in ops]
        params = [("consistent", "1")]  # one of checks and gets alone is a read for Consul (agent/txn_endpoint.go)
        what = "transaction on " + ", ".join(sorted({op["key"] for op in ops}))
        code, answer = self.request("put", "/v1/txn", params, body, what, accept=(200, 409))
        if code == 200:
            return [Entry.of(item["KV"]) for item in (answer or {}).get("Results") or [] if item.get("KV")]
        errors = answer.get("Errors") or [] if isinstance(answer, dict) else []
        details = [(ops[item["OpIndex"]], item.get("What", "")) for item in errors]
        cause = "; ".join(f"{op['verb']} {op['key']}: {text}" for op, text in details) or str(answer)
        raise self.failure(what, 409, cause)

    # -- sessions ------------------------------------------------------------------------------------------

    def session_create(self, name, ttl=15, lock_delay=15, behavior="release", node=None, checks=None):
        """
        ID of a new session of this agent's node, bound to its serfHealth check.

        :param ttl: seconds, 10 to 86400; 0 for none. It ends between ttl and twice ttl after the last renewal
        :param lock_delay: seconds (0 to 60) a lock stays closed after its session ended without a release
        """
        if ttl and not 10 <= ttl <= 86400:
            raise ConsulError("bad_request", f"Consul session {name}: ttl is {ttl} s, must be 10 to 86400")
        body = {"Name": name, "LockDelay": f"{lock_delay:g}s", "Behavior": behavior}
        body.update({"TTL": f"{ttl:g}s"} if ttl else {})
        body.update({"Node": node} if node else {})
        body.update({"Checks": checks} if checks is not None else {})
        _, answer = self.request("put", "/v1/session/create", data=body, what=f"creating session {name}")
        return answer["ID"]

    def session_renew(self, session):
        """Extend by its TTL; ConsulError("lost") if it is gone (Consul answers 404)."""
        path, what = f"/v1/session/renew/{session}", "renewing the session"
        if self.request("put", path, what=what, accept=(200, 404))[0] == 404:
            message = f"Consul at {self.url}: session {session} is gone: it expired or was destroyed"
            raise ConsulError("lost", message)

    def session_destroy(self, session):
        """End a session. What it still held is closed for its lock-delay; release first to avoid that."""
        self.request("put", f"/v1/session/destroy/{session}", what="destroying the session")

    def session_info(self, session, consistent=True):
        """Consul's description of a session, None if there is none such."""
        params = [("consistent", "1")] if consistent else []
        path = f"/v1/session/info/{session}"
        return next(iter(self.request("get", path, params, what="reading the session")[1] or []), None)

    # -- cluster -------------------------------------------------------------------------------------------

    def leader(self):
        """Address of the Raft leader as this agent knows it, None without one (an empty 200 answer)."""
        return self.request("get", "/v1/status/leader")[1] or None

    def alive(self):
        """
        Names of the nodes that show a sign of life, of those the token may read (node_prefix read): by the cluster,
        whose leader keeps the check serfHealth, or by gossip as this agent hears it. Both are asked because who may
        write a node of the catalog can take another one off it (docs/consul.md), and the dead are taken over from.
        """
        path, what = "/v1/health/state/passing", "reading which nodes are alive"
        checks = self.request("get", path, [("consistent", "1")], what=what)[1] or []
        members = self.request("get", "/v1/agent/members", what=what)[1] or []
        # The leader's check is the node's own; one of the same name that belongs to a service is somebody's forgery.
        passing = {check["Node"] for check in checks if check["CheckID"] == "serfHealth" and not check["ServiceID"]}
        return passing | {member["Name"] for member in members if member["Status"] == MEMBER_ALIVE}

    def wait_ready(self, bound=60.0, acl=False):
        """
        Wait until the agent answers, a leader exists and the token is known; ConsulError with the last thing
        seen after `bound` seconds. A consistent read proves all three at once. A refused token is waited for
        too: on a first run the master creates it while we wait.

        :param acl: wait for calls of the ACL system too: a server that has just started, of a release before 1.11, may
            answer all of them that it is in legacy mode, until it knows the leader's mode (seen on 1.8.7)
        """

        def ready():
            what = "waiting until it is ready"
            self.request("get", "/v1/catalog/nodes", [("consistent", "1")], what=what)
            if acl:
                self.request("get", "/v1/acl/token/self", what=what)
            return True

        def failure(late):
            return ConsulError(late.error.kind, f"{late.error} (waited {bound:g} s)")

        until(ready, bound, passing=unsettled, failure=failure)


def _operation(op):
    """Consul's spelling of one transaction operation."""
    names = {"verb": "Verb", "key": "Key", "index": "Index", "session": "Session", "flags": "Flags"}
    if not isinstance(op, dict):
        raise ConsulError("bad_request", f"Consul transaction: {op!r} is no mapping with verb and key")
    unknown = set(op) - set(names) - {"value"}
    if unknown or not op.get("verb") or not op.get("key"):
        raise ConsulError("bad_request", f"Consul transaction: verb and key needed; unknown {sorted(unknown)}")
    out = {names[name]: value for name, value in op.items() if name in names}
    if "value" in op:
        out["Value"] = base64.b64encode(encode(op["value"])).decode()
    return out
