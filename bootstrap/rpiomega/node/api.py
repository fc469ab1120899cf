"""The two local services a node can be asked: the Docker Engine over its socket, Consul over loopback."""

from __future__ import annotations

import http.client
import json
import socket
from typing import Any

from rpiomega.node.board import Board

DOCKER = "/run/docker.sock"
CONSUL_CONFIG = "/etc/rpiomega/consul/consul.json"
CONSUL_PORT = 8500
SECONDS = 4.0


class _Unix(http.client.HTTPConnection):
    def __init__(self, path: str):
        super().__init__("docker", timeout=SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def docker(board: Board, path: str) -> tuple[Any, str]:
    """Ask the engine; return ``(answer, "")`` or ``(None, why not)``."""
    if not board.exists(DOCKER):
        return None, "the Docker Engine is not running"
    return _get(_Unix(board.path(DOCKER)), path, {})


def consul(board: Board, path: str) -> tuple[Any, str]:
    """Ask the node's Consul agent with the node's own token; return ``(answer, "")`` or ``(None, why not)``."""
    try:
        token = json.loads(board.read(CONSUL_CONFIG) or "{}")["acl"]["tokens"]["agent"]
    except (ValueError, KeyError):
        return None, "Consul is not configured"
    return _get(http.client.HTTPConnection("127.0.0.1", CONSUL_PORT, timeout=SECONDS), path, {"X-Consul-Token": token})


def _get(connection: http.client.HTTPConnection, path: str, headers: dict) -> tuple[Any, str]:
    try:
        connection.request("GET", path, headers=headers)
        response = connection.getresponse()
        text = response.read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return None, f"no answer: {error}"
    finally:
        connection.close()
    if response.status >= 300:
        return None, f"{response.status}: {_message(text)}"
    try:
        return json.loads(text), ""
    except ValueError:
        return None, f"no JSON in the answer: {text[:80]}"


def _message(text: str) -> str:
    try:
        return json.loads(text)["message"]
    except (ValueError, KeyError, TypeError):
        return text.strip()[:200]
