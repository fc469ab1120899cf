#!/usr/bin/env python3
"""Tell this node's Consul agent every few seconds whether dockerd and salt-minion work.

The agent runs in a container and may run no scripts, so it cannot look for itself: its checks wait to be told, and
turn critical by themselves 30 s after the last word. The unit is asked before the socket, because a connection
to docker.sock would start a dockerd that somebody has stopped. Standard library only.

Usage: consul_health.py CONFIG_DIR  (the folder with the agent's consul.json)
"""

import http.client
import json
import pathlib
import socket
import subprocess
import sys
import time

EVERY = 10.0
PATIENCE = 3.0
DOCKER_SOCKET = "/var/run/docker.sock"
# A critical check of the node takes all its services out of DNS: that is right where containers cannot run only.
FAILING = {"docker": "critical", "salt-minion": "warning"}


def unit_state(unit):
    """Return what systemd calls a unit: active, inactive, failed, activating..."""
    done = subprocess.run(
        ["systemctl", "is-active", unit], stdout=subprocess.PIPE, text=True, timeout=PATIENCE, check=False
    )
    return done.stdout.strip() or "unknown"


def docker_answers():
    """Return what is wrong with the engine's API, or an empty string."""
    connection = http.client.HTTPConnection("localhost", timeout=PATIENCE)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.settimeout(PATIENCE)
    try:
        connection.sock.connect(DOCKER_SOCKET)
        connection.request("GET", "/_ping")
        status = connection.getresponse().status
        return "" if status == http.client.OK else f"answers HTTP {status}"
    except (OSError, http.client.HTTPException) as error:
        return f"no answer at {DOCKER_SOCKET}: {error}"
    finally:
        connection.close()


def look(unit):
    """Return (Consul's status, why) of a unit; its check in Consul has its name."""
    try:
        state = unit_state(unit)
    except (OSError, subprocess.SubprocessError) as error:
        return FAILING[unit], f"systemd cannot be asked: {error}"
    if state != "active":
        return FAILING[unit], f"{unit}.service is {state}"
    problem = docker_answers() if unit == "docker" else ""
    return (FAILING[unit], problem) if problem else ("passing", f"{unit}.service is active")


def tell(check, token, status, output):
    """Report a check to the agent on this node."""
    agent = http.client.HTTPConnection("127.0.0.1", 8500, timeout=PATIENCE)
    try:
        body = json.dumps({"Status": status, "Output": output})
        agent.request("PUT", f"/v1/agent/check/update/{check}", body, {"X-Consul-Token": token})
        answer = agent.getresponse()
        if answer.status != http.client.OK:
            raise OSError(f"HTTP {answer.status} {answer.read().decode('utf-8', 'replace').strip()}")
    finally:
        agent.close()


def main(config_dir):
    """Look and tell for ever; what changes is said once, on standard output."""
    config, said = pathlib.Path(config_dir) / "consul.json", {}

    def say(name, text):
        if said.get(name) != text:
            said[name] = text
            print(f"{name}: {text}", flush=True)

    while True:
        started = time.monotonic()
        try:
            checks = json.loads(config.read_text(encoding="utf-8")).get("checks", [])
        except (OSError, ValueError) as error:
            say("configuration", str(error))
            checks = []
        refused = ""
        for check in checks:
            status, output = look(check["id"])
            say(check["id"], f"{status}, {output}")
            try:
                tell(check["id"], check["token"], status, output)
            except (OSError, http.client.HTTPException) as error:
                refused = refused or f"{check['id']}: {error}"
        if checks:
            say("agent", f"does not take the reports: {refused}" if refused else "takes the reports")
        time.sleep(max(0.0, EVERY - (time.monotonic() - started)))


if __name__ == "__main__":
    main(sys.argv[1])
