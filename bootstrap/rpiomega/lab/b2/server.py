"""The stand-in for B2 over HTTP: native API, S3 and control on one port.

A request with an AWS signature is for S3. `/control` takes JSON from who has the account's own key (HTTP Basic).
"""

from __future__ import annotations

import base64
import contextlib
import hmac
import http.server
import json
import os
import threading
import time
from collections import Counter

from rpiomega.lab.b2 import native, s3, signature
from rpiomega.lab.b2.faults import ANSWERS, Faults
from rpiomega.lab.b2.service import Account

REGION = "us-west-004"


class Server(http.server.ThreadingHTTPServer):
    """`url`, `key_id`, `key` to use it; `requests` is the log of native calls, `s3_requests` of those of S3 (method,
    path, status), `calls` counts by class; `simulator`, `faults` and `front` are there to look inside.
    """

    daemon_threads = True

    def __init__(self, address="127.0.0.1", port=0, url="", key_id="", key=""):
        super().__init__((address, port), Handler)
        self.simulator = Account()
        self.simulator.region = REGION
        self.key_id, self.key = self.simulator.create_account()
        if key_id:
            master = self.simulator.key_id_to_key.pop(self.key_id)
            master.application_key_id, master.key = self.key_id, self.key = key_id, key
            self.simulator.key_id_to_key[key_id] = master
        self.url = url or f"http://{address}:{self.server_port}"
        self.front, self.faults = s3.Front(self.simulator), Faults()
        self.requests: list[str] = []
        self.s3_requests: list[tuple[str, str, int]] = []
        self.calls: Counter[str] = Counter()
        self.lock = threading.Lock()

    def handle_error(self, request, client_address):
        """Stay silent when a client hangs up: the b2 command does that with connections it no longer needs."""

    def control(self, call, **arguments):
        """Do what a test asks: fault, clear, clock, lifecycle, capped, expire, revoke, counters. Return JSON data."""
        account = self.simulator
        if call == "fault":
            self.faults.add(**arguments)
        elif call == "clear":
            self.faults.clear()
            account.capped = False
        elif call == "clock":
            account.clock.offset = float(arguments["offset"])
        elif call == "lifecycle":
            return account.lifecycle(arguments.get("now"))
        elif call == "capped":
            account.capped = bool(arguments["on"])
        elif call == "expire":
            account.key_id_to_key[arguments["key_id"]].expiration_timestamp_or_none = int(account.clock.now()) - 1
        elif call == "revoke":
            account.key_id_to_key.pop(arguments["key_id"], None)
        elif call == "counters":
            return {"calls": dict(self.calls), "stored": account.stored(), "faults": self.faults.hits}
        else:
            raise ValueError(f"there is no call {call}")
        return None


class Handler(http.server.BaseHTTPRequestHandler):
    """One request: a fault, or an answer of S3 or of the native API."""

    protocol_version = "HTTP/1.1"
    server: Server

    def _any(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.path == "/control":
            self._control(body)
            return
        s3_asked = self.headers.get("Authorization", "").startswith("AWS4-HMAC-SHA256")
        fault = self.server.faults.take(self.command, self.path)
        cut = False
        if fault and fault.kind == "slow":
            time.sleep(fault.seconds)
        elif fault and fault.kind == "cut":
            cut = True
        elif fault:
            self._fault(fault, s3_asked)
            return
        reply = self._s3(body) if s3_asked else self._native(body)
        self._send(reply, cut)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _any

    def log_message(self, *_):
        """Write no log."""

    def _s3(self, body):
        server = self.server
        try:
            key, body = signature.verify(self.command, self.path, self.headers, body, server.front.find_key)
            with server.lock:
                reply = server.front.answer(key, self.command, self.path, self.headers, body)
        except signature.Refused as error:
            reply = s3.error_reply(error, self.path)
        except Exception as error:  # noqa: BLE001 - the client has to get an answer to whatever it sent
            reply = s3.error_reply(signature.Refused(500, "InternalError", repr(error)), self.path)
        with server.lock:
            server.calls[s3.call_class(self.command, self.path)] += 1
            server.s3_requests.append((self.command, self.path, reply.status))
        return reply

    def _native(self, body):
        with self.server.lock:
            status, headers, content = native.answer(self.server, self.command, self.path, self.headers, body)
        return s3.Reply(status, headers, content)

    def _control(self, body):
        wanted = base64.b64encode(f"{self.server.key_id}:{self.server.key}".encode()).decode()
        if not hmac.compare_digest(self.headers.get("Authorization", ""), f"Basic {wanted}"):
            self._send(s3.Reply(401, {}, b'{"error": "not the account\'s key"}'))
            return
        try:
            with self.server.lock:
                status, answer = 200, self.server.control(**json.loads(body))
        except (ValueError, KeyError, TypeError) as error:
            status, answer = 400, {"error": str(error)}
        self._send(s3.Reply(status, {"Content-Type": "application/json"}, json.dumps(answer).encode()))

    def _fault(self, fault, s3_asked):
        status, code, message = ANSWERS[fault.kind]
        headers = {} if fault.retry_after is None else {"Retry-After": str(fault.retry_after)}
        if s3_asked:
            reply = s3.error_reply(signature.Refused(status, code, message), self.path)
            self.server.s3_requests.append((self.command, self.path, status))
        else:
            name = native.CODES.get(fault.kind, "service_unavailable")
            reply = s3.Reply(status, {}, json.dumps({"status": status, "code": name, "message": message}).encode())
        reply.headers.update(headers)
        self._send(reply)

    def _send(self, reply, cut=False):
        self.send_response(reply.status)
        headers = {name: value for name, value in reply.headers.items() if name.lower() != "content-length"}
        if reply.status != 204:
            headers["Content-Length"] = str(len(reply.body))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if cut:
            self.close_connection = True
            with contextlib.suppress(OSError):
                self.wfile.write(reply.body[: len(reply.body) // 2])
                self.wfile.flush()
                self.connection.shutdown(2)
            return
        if self.command != "HEAD":
            self.wfile.write(reply.body)


@contextlib.contextmanager
def running(**options):
    """Serve until the end of the block; yields the `Server`; options are those of it."""
    server = Server(**options)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join(10)


def new_key():
    """Return a key ID and a secret for the account, as long as B2's."""
    return os.urandom(6).hex(), os.urandom(21).hex()
