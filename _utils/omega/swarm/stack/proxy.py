"""
A socket that lets the docker CLI rehearse: what it reads comes from the engine, what it would change is only noted.

`docker stack deploy` turns compose files into specs by itself; no API does. Run against this socket it makes the very
requests it would make, so what a deployment will change is known beforehand, for the CLI that is installed.
"""

import contextlib
import http.client
import http.server
import json
import re
import socketserver
import tempfile
import threading
import urllib.parse
from dataclasses import dataclass, field

from omega.docker import engine
from omega.swarm.api import SwarmError

_VERSION = re.compile(r"^/v\d+\.\d+(?=/)")
_CREATE = re.compile(r"^/(services|networks|secrets|configs)/create$")
_UPDATE = re.compile(r"^/(services|secrets|configs)/([^/]+)/update$")
_REMOVE = re.compile(r"^/(services)/([^/]+)$")
_KEPT_HEADERS = ("Api-Version", "Content-Type", "Docker-Experimental", "Ostype", "Server", "Builder-Version", "Swarm")


@dataclass
class Noted:
    """One request that would change something. verb: create, update or remove; kind: services, networks, ..."""

    verb: str
    kind: str
    target: str = ""  # ID or name; empty for create
    body: dict = field(default_factory=dict)


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: "_Server"

    def address_string(self):
        return "cli"

    def log_message(self, *_arguments):
        """Nothing: a request may hold a secret."""

    def do_HEAD(self):
        self._forward()

    def do_GET(self):
        self._forward()

    def do_POST(self):
        self._note("POST")

    def do_DELETE(self):
        self._note("DELETE")

    def do_PUT(self):
        self._note("PUT")

    def _forward(self):
        upstream = engine.LocalConnection(self.server.engine_path, self.server.timeout_upstream)
        try:
            headers = {key: value for key, value in self.headers.items() if key.lower() not in ("host", "connection")}
            upstream.request(self.command, self.path, headers=headers)
            answer = upstream.getresponse()
            body = answer.read()
        except OSError as error:
            self._answer(503, {"message": f"the engine does not answer: {error}"})
            return
        finally:
            upstream.close()
        kept = {name: answer.headers[name] for name in _KEPT_HEADERS if answer.headers[name]}
        kind = _VERSION.sub("", urllib.parse.urlsplit(self.path).path).strip("/")
        if answer.status == 200 and kind in ("secrets", "configs"):
            body = json.dumps((json.loads(body) or []) + self.server.made(kind)).encode()
        self._send(answer.status, kept, body)

    def _note(self, method):
        size = int(self.headers.get("Content-Length") or 0)
        raw = self._chunks() if "chunked" in (self.headers.get("Transfer-Encoding") or "") else self.rfile.read(size)
        path = _VERSION.sub("", urllib.parse.urlsplit(self.path).path)
        try:
            body = json.loads(raw) if raw else {}
        except ValueError:
            body = {}
        made = self.server.note(method, path, body)
        if made is None:
            self._answer(501, {"message": f"not rehearsed: {method} {path}"})
        else:
            self._answer(201 if made else 200, made or {"Warnings": None})

    def _chunks(self):
        whole = b""
        while True:
            size = int(self.rfile.readline().split(b";")[0], 16)
            whole += self.rfile.read(size)
            self.rfile.readline()
            if not size:
                return whole

    def _answer(self, status, value):
        self._send(status, {"Content-Type": "application/json"}, json.dumps(value).encode())

    def _send(self, status, headers, body):
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def __init__(self, path, engine_path, timeout):
        super().__init__(path, _Handler)
        self.engine_path, self.timeout_upstream = engine_path, timeout
        self.noted, self.unknown, self._lock = [], [], threading.Lock()

    def get_request(self):
        request, _ = super().get_request()
        return request, ("cli", 0)

    def handle_error(self, request, client_address):
        """Nothing: a CLI that ends leaves connections open."""

    def note(self, method, path, body):
        """Keep a request; return what to answer, None if it is of no known kind."""
        with self._lock:
            create, update, remove = _CREATE.match(path), _UPDATE.match(path), _REMOVE.match(path)
            if method == "POST" and create:
                self.noted.append(Noted("create", create[1], body=body))
                made = f"rehearsed{len(self.noted)}"
                return {"ID": made, "Id": made}
            if method == "POST" and update:
                self.noted.append(Noted("update", update[1], urllib.parse.unquote(update[2]), body))
                return {}
            if method == "DELETE" and remove:
                self.noted.append(Noted("remove", remove[1], urllib.parse.unquote(remove[2])))
                return {}
            self.unknown.append(f"{method} {path}")
            return None

    def made(self, kind):
        """Secrets or configs that exist only here, as a list of the engine's."""
        with self._lock:
            noted = list(enumerate(self.noted, 1))
        return [
            {"ID": f"rehearsed{number}", "Version": {"Index": 1}, "Spec": {**item.body, "Data": None}}
            for number, item in noted
            if item.verb == "create" and item.kind == kind
        ]


@contextlib.contextmanager
def rehearsal(base_url, timeout=60):
    """
    Context manager: (address for DOCKER_HOST, list of Noted that grows, list of requests of no known kind).

    :raises SwarmError: "refused" if the engine is not behind a UNIX socket
    """
    if not base_url.startswith("unix://"):
        raise SwarmError(
            "refused", f"{base_url}: stacks are deployed through a UNIX socket, unix:///var/run/docker.sock"
        )
    with tempfile.TemporaryDirectory(prefix="rpiomega-") as folder:  # mode 0700
        path = f"{folder}/docker.sock"
        with _Server(path, base_url[len("unix://") :], timeout) as server:
            thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
            thread.start()
            try:
                yield f"unix://{path}", server.noted, server.unknown
            finally:
                server.shutdown()
                thread.join()
