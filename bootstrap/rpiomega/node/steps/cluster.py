"""What a node knows of the cluster. Changes nothing, needs neither quorum nor Salt."""

from __future__ import annotations

import base64
import glob
import json
import os
from typing import Any

from rpiomega.node import api, job_steps
from rpiomega.node.doctor import storage
from rpiomega.node.step import Diff, Step

RECORD = "/v1/kv/rpiomega/swarm/record?stale"
PUBLISHED = "/v1/kv/rpiomega/swarm/nodes/?recurse&stale"
# Consul's serf states by number (hashicorp/serf, serf/serf.go: MemberStatus).
MEMBER = {1: "alive", 2: "leaving", 3: "left", 4: "failed"}
B2 = "/usr/local/bin/b2"


class ClusterStatus(Step):
    """`data`: ``swarm``, ``nodes`` (as a manager sees them), ``consul``, ``services``, ``b2``: see below;
    ``file_systems``: see rpiomega.node.doctor.storage."""

    name = job_steps.ClusterStatus.step
    args: job_steps.ClusterStatus

    def check(self) -> Diff:
        info, error = api.docker(self.board, "/info")
        self.data["swarm"] = _swarm(info or {}, error)
        if self.data["swarm"]["manager"]:
            nodes, error = api.docker(self.board, "/nodes")
            self.data["nodes"] = [_node(node) for node in nodes or []]
            self.data["nodes_error"] = error
        self.data["consul"] = self._consul()
        self.data["services"] = {unit: self._active(unit) for unit in ("salt-minion", "salt-master")}
        self.data["b2"] = _b2(self.board.path(B2))
        folders = [info["DockerRootDir"]] if (info or {}).get("DockerRootDir") else []
        self.data.update(storage.read(self.board, {"folders": folders}))
        return Diff()

    def _consul(self) -> dict:
        members, error = api.consul(self.board, "/v1/agent/members")
        leader, leader_error = api.consul(self.board, "/v1/status/leader")
        peers, _ = api.consul(self.board, "/v1/status/peers?stale")
        record, _ = api.consul(self.board, RECORD)
        published, _ = api.consul(self.board, PUBLISHED)
        return {
            "error": error or leader_error,
            "members": {
                member["Name"]: {
                    "state": MEMBER.get(member["Status"], "unknown"),
                    "server": member["Tags"].get("role") == "consul",
                    "address": member["Addr"],
                }
                for member in members or []
            },
            # With no leader the answer is an empty string, not an error.
            "leader": str(leader or "").rsplit(":", 1)[0],
            "peers": sorted(str(peer).rsplit(":", 1)[0] for peer in peers or []),
            "record": _record(record),
            "published": _published(published),
        }

    def _active(self, unit: str) -> bool:
        return self.board.shell.run(["systemctl", "is-active", "--quiet", unit]).code == 0


def _swarm(info: dict, error: str) -> dict:
    swarm = info.get("Swarm") or {}
    return {
        "error": error or swarm.get("Error") or "",
        "state": swarm.get("LocalNodeState", ""),
        "manager": bool(swarm.get("ControlAvailable")),
        "node_id": swarm.get("NodeID", ""),
        "address": swarm.get("NodeAddr", ""),
        "cluster_id": (swarm.get("Cluster") or {}).get("ID", ""),
        "version": info.get("ServerVersion", ""),
        "running": info.get("ContainersRunning", 0),
    }


def _b2(command: str) -> str:
    """Return the version of the B2 command, read from its environment: to run it takes a small board seconds."""
    folder = os.path.dirname(os.path.dirname(os.path.realpath(command)))
    for path in glob.glob(f"{glob.escape(folder)}/lib/python3*/site-packages/b2-*.dist-info"):
        return os.path.basename(path)[len("b2-") : -len(".dist-info")]
    return ""


def _node(node: dict) -> dict:
    manager = node.get("ManagerStatus") or {}
    return {
        "id": node["ID"],
        # A node that has joined and not yet reported has no description.
        "name": (node.get("Description") or {}).get("Hostname") or node["ID"],
        "state": node["Status"]["State"],
        "availability": node["Spec"]["Availability"],
        "manager": bool(manager),
        # The former entry of a reinstalled board at its address is called reachable still, for the board answers there.
        "reachable": manager.get("Reachability") == "reachable" and node["Status"]["State"] != "down",
        "leader": bool(manager.get("Leader")),
    }


def _record(entries: Any) -> dict:
    try:
        return json.loads(base64.b64decode(entries[0]["Value"]))
    except (TypeError, IndexError, KeyError, ValueError):
        return {}


def _published(entries: Any) -> dict:
    """Return {name: {"node_id", "previous"}} of what the nodes say of themselves; a key with anything else is empty."""
    found = {}
    for entry in entries or []:
        said = _record([entry])
        said = said if isinstance(said, dict) else {}
        previous: list = said["previous"] if isinstance(said.get("previous"), list) else []
        found[entry["Key"].rpartition("/")[2]] = {
            "node_id": said["node_id"] if isinstance(said.get("node_id"), str) else "",
            "previous": [node_id for node_id in previous if isinstance(node_id, str)],
        }
    return found
