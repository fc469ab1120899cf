"""A node's removal from Consul and from the master's secrets. What concerns the swarm is in omega.swarm.removal."""

from __future__ import annotations

import json
import os
import re
import shutil

from omega.backup import configured, restic
from omega.consul import acl, policies, servers
from omega.consul import client as consul_client
from omega.consul.client import ConsulError
from omega.core import pillar as salt_pillar
from omega.core.polling import until_clear
from omega.docker import containers, engine
from omega.site import keys
from omega.site import nodes as site_nodes

SECRETS = "/etc/rpiomega/secrets"
AGENT_CONFIG = "/etc/rpiomega/consul/consul.json"
STATES = {1: "alive", 2: "leaving", 3: "left", 4: "failed"}  # serf/serf.go: MemberStatus
UNITS = "/etc/systemd/system"
BACKUP_UNITS = ("rpiomega-backup", "rpiomega-backup-drill", "rpiomega-backup-forget")  # salt/backup
CLOCK_WAITS = ("systemd-time-wait-sync", "chrony-wait")  # salt/time


def own_token(pillar, path=AGENT_CONFIG):
    """
    This node's Consul token: of its pillar, or of its agent's configuration; a node that was taken out of the site file
    has no secrets in its pillar any more, and still has to say that it leaves. None if there is none.
    """
    secrets = salt_pillar.secrets(pillar)
    if (secrets.get("consul") or {}).get("token"):
        return secrets["consul"]["token"]
    try:
        with open(path, encoding="utf-8") as file:
            return json.load(file)["acl"]["tokens"]["agent"]
    except (OSError, ValueError, KeyError):
        return None


# -- on the master ------------------------------------------------------------------------------------------


def look(client, site, name, secrets=SECRETS):
    """
    Return what the master and Consul know of node `name`: {"in_site", "consul" (alive, leaving, left, failed or
    "absent"), "refused" (why Consul needs it, "" if not), "token", "policy", "secrets" (bool each)}.

    :param client: with the management token
    :raises ConsulError: "bad_request" if `name` is no name of a node
    """
    name = _node(name)
    return {
        "in_site": name in site_nodes.nodes(site),
        "consul": state(client, name),
        "refused": refused(servers.read(client), name),
        "token": bool(tokens(client, name)),
        "policy": acl.read_policy(client, policies.policy_name(name)) is not None,
        "secrets": os.path.isdir(folder(name, secrets)),
    }


def folder(name, secrets=SECRETS):
    """The folder of a node's secrets on the master."""
    return os.path.join(secrets, "consul", "nodes", _node(name))


def _node(name):
    """`name` as text, if it is one that a node can have: a path would lead to the secrets of all."""
    if not re.fullmatch(keys.SITE["keys"]["nodes"]["names"]["pattern"], str(name)):
        raise ConsulError("bad_request", f"{name!r} is not a node's name: give one as the site file writes it")
    return str(name)


def state(client, name):
    """A member's state as this agent sees it, "absent" if it does not know it."""
    members = client.request("get", "/v1/agent/members", what="listing the members")[1] or []
    return next((STATES.get(member["Status"], "unknown") for member in members if member["Name"] == name), "absent")


def refused(peers, name):
    """
    Why the server `name` must not be taken out of `peers` (Servers): a majority of all must be good to write that down,
    and a majority of the others to go on without it. "" if it may, or if it is no server.
    """
    if servers.find(peers, name) is None:
        return ""
    others = [peer for peer in peers if peer.name != name]
    good = sum(peer.good for peer in others)
    writable = sum(peer.good for peer in peers) >= servers.quorum(len(peers))
    if others and writable and good >= servers.quorum(len(others)):
        return ""
    return (
        f"{name} is one of {len(peers)} Consul servers, and of the others only {good} are healthy voters: bring the "
        "others back, or give the site more managers first"
    )


def tokens(client, name):
    """AccessorIDs of the tokens of node `name`."""
    policy = policies.policy_name(name)
    return [token["accessor"] for token in acl.list_tokens(client) if policy in token["policies"]]


def forget(client, name, secrets=SECRETS):
    """
    Take a node that does not answer out of Consul, revoke its token and delete its secrets on the master.

    :return: what was done, one clause each, and that its backups stay; empty if nothing was left
    :raises ConsulError: "conflict" if Consul sees it alive or needs it for its quorum, "bad_request" if `name` is no
        name of a node
    """
    name = _node(name)
    done, now = [], state(client, name)
    if now in ("alive", "leaving"):
        raise ConsulError("conflict", f"Consul sees {name} as {now}: let it leave first, or switch the board off")
    peers = servers.read(client)
    why = refused(peers, name)
    if why:
        raise ConsulError("conflict", why)
    if now != "absent":
        # It answers once the others have heard of it, which takes seconds on a busy board.
        patient, path = client.clone(timeout=30), f"/v1/agent/force-leave/{name}"
        patient.request("put", path, [("prune", "1")], what=f"taking {name} out of Consul")
        done.append(f"taken out of Consul, where it was {now}")
    _until_no_peer(client, name)
    for accessor in tokens(client, name):
        acl.delete_token(client, accessor)
        done.append("Consul token revoked")
    if acl.delete_policy(client, policies.policy_name(name)):
        done.append("Consul policy deleted")
    if os.path.isdir(folder(name, secrets)):
        shutil.rmtree(folder(name, secrets))
        done.append("its secrets on the master deleted")
    kept = backups_kept(name, secrets)
    return [*done, kept] if kept else done


def backups_kept(name, secrets=SECRETS):
    """Return in one clause that the backups of node `name` stay, and what opens them; "" if it has none."""
    opens = os.path.join(secrets, "backup", "nodes", _node(name), "password")
    if not os.path.exists(opens):
        return ""
    return f"its backups stay in the bucket, below hosts/{name}, and {opens} on the master, which opens them"


def _until_no_peer(client, name, bound=30.0):
    # The leader drops a server that has left from Raft by itself (agent/consul/leader.go: removeConsulServer).
    if until_clear(lambda: servers.find(servers.read(client), name), bound, passing=()):
        raise ConsulError("timeout", f"{name} is still one of Consul's Raft peers after {bound:g} s; run again")


# -- on the node --------------------------------------------------------------------------------------------


def leave_consul(client, container, base_url=engine.SOCKET, bound=60.0):
    """
    Let this node's agent leave the cluster in good order and stay away; returns what was done, "" if there was none.

    :param container: name of the agent's container; Docker must not start it again
    :raises ConsulError: the agent did not leave; Docker goes on to start it
    :raises omega.docker.engine.EngineError: the engine refused, or does not answer
    """
    agent = containers.container(engine.connect(base_url), container)
    if agent is None:
        return ""
    with engine.asking(f"container {container} was not taken away", "see `journalctl -u docker`, then run again"):
        if agent.status == "running":
            _leave(client, agent, bound)
        agent.remove()
    return "left Consul, agent removed"


def leave_clock(units=UNITS):
    """
    Remove the drop-ins by which this node's boot and Docker Engine wait for a synchronised clock; returns (their paths,
    the services that waited and must be disabled: without its drop-in such a wait has no bound).
    """
    waits = {name: os.path.join(units, f"{name}.service.d", "rpiomega.conf") for name in CLOCK_WAITS}
    paths = [os.path.join(units, "docker.service.d", "rpiomega-clock.conf"), *waits.values()]
    there = [path for path in paths if os.path.lexists(path)]
    for path in there:
        os.unlink(path)
    return there, [name for name, path in waits.items() if path in there]


def backup_timers(units=UNITS):
    """Return the names of this node's timers of backups."""
    names = [f"{name}.timer" for name in BACKUP_UNITS]
    return [name for name in names if os.path.lexists(os.path.join(units, name))]


def leave_backup(units=UNITS, folder=restic.FOLDER):
    """
    Remove the units of this node's backups, whose timers must be off, and the files with its key; its repository and
    what the node recorded of its runs stay. Returns the paths.
    """
    paths = [os.path.join(units, f"{name}.{kind}") for name in BACKUP_UNITS for kind in ("timer", "service")]
    there = [path for path in paths if os.path.lexists(path)]
    for path in there:
        os.unlink(path)
    secrets = configured.differences(folder, {}) if os.path.isdir(folder) else {}
    configured.apply(folder, {}, secrets)
    return [*there, *secrets]


def _leave(client, agent, bound):
    import requests

    agent.update(restart_policy={"Name": "no"})
    try:
        client.clone(timeout=30).request("put", "/v1/agent/leave", what="leaving Consul")
    except ConsulError:
        # It stays in the cluster, so it has to be there after a reboot.
        agent.update(restart_policy={"Name": "always"})
        raise
    try:
        agent.wait(timeout=bound)
    except requests.exceptions.RequestException as error:
        raise ConsulError("timeout", f"the agent has not ended {bound:g} s after it left: {error}; run again") from None


def clients(opts, pillar, management=False):
    """Client of this node's agent; with `management`, with the management token that only the master's pillar has."""
    token = salt_pillar.management_token(pillar) if management else own_token(pillar)
    if management and not token:
        raise ConsulError("denied", "only the site's master has the management token: run this there")
    return consul_client.from_salt(opts, pillar, token=token)
