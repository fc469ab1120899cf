"""Runs on a node: ask the node's own engine and Consul agent. Standard library only, Python 3.9.

    python3 probe.py '[["docker", "GET", "/info"], ["consul", "GET", "/v1/status/leader", null, "agent"]]'

Prints a JSON list of [status, answer]; status 0 is no answer, and the answer is why. The fifth item names the token:
`agent` (the node's own), `management` (on the master only), `none`, or a token itself. `probe.py monitor` follows the
agent's log instead.
"""

import http.client
import json
import socket
import sys

AGENT = "/etc/rpiomega/consul/consul.json"
MANAGEMENT = "/etc/rpiomega/secrets/consul/management.token"
TIMEOUT = 8.0


class Unix(http.client.HTTPConnection):
    """HTTP over the engine's socket."""

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect("/var/run/docker.sock")


def token(kind):
    """Return the token that `kind` names."""
    if kind == "none":
        return ""
    if kind == "management":
        with open(MANAGEMENT, encoding="ascii") as file:
            return file.read().strip()
    if kind == "agent":
        with open(AGENT, encoding="utf-8") as file:
            return json.load(file)["acl"]["tokens"]["agent"]
    return kind


def ask(service, method, path, body=None, kind="agent", port=8500):
    """Send one request; return [status, parsed JSON or text]."""
    headers = {"Content-Type": "application/json"}
    try:
        if service == "docker":
            link = Unix("localhost", timeout=TIMEOUT)
        else:
            link = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
            headers["X-Consul-Token"] = token(kind)
        content = body if isinstance(body, str) or body is None else json.dumps(body)
        link.request(method, path, content, headers)
        answer = link.getresponse()
        text = answer.read().decode(errors="replace")
    except (OSError, ValueError, KeyError, http.client.HTTPException) as error:
        return [0, f"{type(error).__name__}: {error}"]
    try:
        return [answer.status, json.loads(text)]
    except ValueError:
        return [answer.status, text]


def follow():
    """Print the agent's log at debug level, with each of its HTTP requests, until this process is ended."""
    link = http.client.HTTPConnection("127.0.0.1", 8500)
    link.request("GET", "/v1/agent/monitor?loglevel=debug", headers={"X-Consul-Token": token("agent")})
    answer = link.getresponse()
    while line := answer.readline():
        sys.stdout.write(line.decode(errors="replace"))
        sys.stdout.flush()


if __name__ == "__main__" and sys.argv[1] == "monitor":
    follow()
elif __name__ == "__main__":
    print(json.dumps([ask(*request) for request in json.loads(sys.argv[1])]))
