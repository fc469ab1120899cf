"""
Two of three Consul servers are gone for good: the one that is left goes on alone, with all it has.

Raft's peers.json (Consul documentation "Outage recovery", "Manual recovery using peers.json"): a server that finds
DATA/raft/peers.json at its start takes the peers from there, whatever its log says, and deletes the file. Written on
one server only, or two clusters grow from the same data. Entries that only the lost servers had are lost.
"""

from __future__ import annotations

import json
import os

from omega.consul import agent
from omega.consul.client import ConsulError
from omega.core import files
from omega.core.polling import until

PORT = 8300
# A server's log below its data folder. Consul opens raft.db where there is one, else raft/wal, with which new servers
# begin today (hashicorp/consul, agent/consul/server.go: setupRaft); a log there has wal-meta.db (hashicorp/raft-wal).
LOGS = ("raft/raft.db", "raft/wal/wal-meta.db")
LEADER_CHECKS = 3
PAUSE = 5.0


def check_lost(client, node, pause):
    """
    Return if Consul has no leader, at several looks some seconds apart (an election is no loss).

    :param pause: called between two looks
    :raises ConsulError: "conflict" if there is a leader; what the agent answers if it does not
    """
    for look in range(LEADER_CHECKS):
        if look:
            pause()
        leader = client.leader()
        if leader:
            text = f"{node}: Consul has a leader ({leader}), so there is nothing to recover; nothing was changed"
            raise ConsulError("conflict", text)


def place(container):
    """
    Return (data folder on the host, this node's address) of the agent's container.

    :param container: what Docker's inspect says of it
    :raises ConsulError: it is not one of ours
    """
    mounts = {mount.get("Destination"): mount.get("Source") for mount in container.get("Mounts") or []}
    folder, config = mounts.get(agent.DATA_DIR), mounts.get(agent.CONFIG_DIR)
    text = config and files.read(os.path.join(config, "consul.json"))
    if not folder or not text:
        raise ConsulError("bad_request", f"container {container.get('Name')} is not an agent that rpiomega runs")
    return folder, json.loads(text)["bind_addr"]


def peers(data_dir, address):
    """
    Return what peers.json shall say: this server, alone.

    :param data_dir: Consul's data folder
    :param address: this node's address
    :raises ConsulError: the folder is not that of a server with data
    """
    identity = (files.read(os.path.join(data_dir, "node-id")) or "").strip()
    if not identity or not any(os.path.exists(os.path.join(data_dir, log)) for log in LOGS):
        raise ConsulError(
            "bad_request",
            f"{data_dir} is not the data of a Consul server: node-id, and {' or '.join(LOGS)} must be there; "
            "recover on a node that was a server",
        )
    return [{"id": identity, "address": f"{address}:{PORT}", "non_voter": False}]


def write(data_dir, address):
    """Write peers.json for the next start of the server, which must be stopped; return its path."""
    path = os.path.join(data_dir, "raft", "peers.json")
    files.write(path, json.dumps(peers(data_dir, address)) + "\n", 0o600)
    return path


def wait_leader(client, node, bound):
    """Wait until Consul has a leader again; ConsulError("timeout") with the last thing seen."""
    late = ConsulError("timeout", f"{node} has no leader {bound:g} s after its recovery")
    until(client.leader, bound, passing=ConsulError, pause=1, failure=late)
