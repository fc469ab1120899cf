"""The Docker Engine, asked over its socket: the board needs no docker command for that."""

from __future__ import annotations

import json

from omega.core import engine_fit
from rpiomega.node import api
from rpiomega.node.board import Board

DAEMON = "/etc/docker/daemon.json"
KEPT = (
    *engine_fit.INFO,
    "Driver",
    "CgroupVersion",
    "CgroupDriver",
    "MemoryLimit",
    "Warnings",
    "DockerRootDir",
    "DriverStatus",
)


def read(board: Board, args: dict) -> dict:
    """Return whether Docker is there, what /info says of it and of the swarm, and what daemon.json says."""
    found: dict = {"installed": board.has("dockerd"), "daemon": _daemon(board), "info": {}, "swarm": {}}
    if not board.exists(api.DOCKER):
        return found
    info, problem = api.docker(board, "/info")
    if info is None:
        found["said"] = problem
        return found
    found["info"] = {key: info.get(key) for key in KEPT}
    swarm = info.get("Swarm") or {}
    found["swarm"] = {
        "state": swarm.get("LocalNodeState", "inactive"),
        "address": swarm.get("NodeAddr", ""),
        "error": swarm.get("Error", ""),
        "manager": bool(swarm.get("ControlAvailable")),
        "cluster": (swarm.get("Cluster") or {}).get("ID", ""),
    }
    return found


def _daemon(board: Board) -> dict:
    """Return daemon.json, or ``{"error": ...}`` if it is not JSON: then Docker does not start."""
    text = board.read(DAEMON)
    try:
        found = json.loads(text) if text and text.strip() else {}
    except ValueError as error:
        return {"error": str(error)}
    return found if isinstance(found, dict) else {"error": "not an object"}
