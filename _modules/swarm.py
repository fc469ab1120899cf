"""
Docker Swarm of this node: what it is, and single acts on it. The policy is in the state module `swarm`.

Needs the Python package `docker` and an engine only when a function is called, so the module loads before either
is there. The engine is the local one, unix:///var/run/docker.sock; another with `swarm.docker_url` in the
minion's configuration, or `base_url` in a call.

No function returns or takes a join token, an unlock key or a CA key: what a function returns is kept in the
job cache, and its arguments are readable by every minion. Nothing here is forced.

Errors are CommandExecutionError with the cause and the next step: no engine, in no swarm, not a manager, no leader,
locked, broken or still joining are distinguished by /info, because the engine answers 503 to several of them.
"""

from salt.exceptions import CommandExecutionError, SaltInvocationError

from omega.site import nodes as site_nodes
from omega.swarm import api, minion
from omega.swarm.api import MANAGER, WORKER
from omega.swarm.settings import node as settings_node

__func_alias__ = {"services_": "services"}


def __virtual__():
    return "swarm"


def _engine(base_url):
    return minion.engine(__opts__, __pillar__, base_url)


def _as_dict(node):
    return {
        "id": node.id,
        "hostname": node.hostname,
        "role": node.role,
        "availability": node.availability,
        "state": node.state,
        "address": node.address,
        "leader": node.leader,
        "reachable": node.reachable if node.role == MANAGER else None,
        "labels": node.labels,
    }


@minion.salt_errors
def info(base_url=None):
    """
    This node's part in a swarm, from its own engine.

    :param base_url: the engine's socket; default `swarm.docker_url` of the minion's configuration, then the local one
    :return: dict: state (inactive, pending, active, locked, error), role (manager, worker or ""), node_id, cluster_id,
        address, managers (addresses known), leaderless (bool), certificate_expires (ISO 8601 in UTC, or None),
        description (one clause)
    :raises CommandExecutionError: no engine answers

    CLI Example:

    .. code-block:: bash

        salt '*' swarm.info
    """
    local = _engine(base_url).local()
    return {
        "state": local.state,
        "role": local.role,
        "node_id": local.node_id,
        "cluster_id": local.cluster_id,
        "address": local.address,
        "managers": list(local.managers),
        "leaderless": local.leaderless,
        "certificate_expires": local.expires.isoformat() if local.expires else None,
        "description": api.describe(local),
    }


@minion.salt_errors
def is_manager(base_url=None):
    """
    True if this node is a manager of a swarm, with or without a leader.

    :param base_url: the engine's socket; default `swarm.docker_url` of the minion's configuration, then the local one
    :return: True or False
    :raises CommandExecutionError: no engine answers

    CLI Example:

    .. code-block:: bash

        salt '*' swarm.is_manager
    """
    return _engine(base_url).local().control


@minion.salt_errors
def nodes(base_url=None):
    """
    All nodes of the swarm, as a manager sees them.

    :param base_url: the engine's socket; default `swarm.docker_url` of the minion's configuration, then the local one
    :return: list of dicts: id, hostname, role, availability, state, address, leader, reachable (managers; None for
        workers), labels
    :raises CommandExecutionError: no engine answers; this node is no manager; the swarm has no leader

    CLI Example:

    .. code-block:: bash

        salt rpiomega-master swarm.nodes
    """
    return [_as_dict(node) for node in _engine(base_url).nodes()]


@minion.salt_errors
def node_inspect(name, base_url=None):
    """
    The engine's whole description of a node.

    :param name: hostname, if only one node has it, or NodeID
    :param base_url: the engine's socket; default `swarm.docker_url` of the minion's configuration, then the local one
    :return: dict: the engine's own, with ID, Spec, Description, Status, ManagerStatus
    :raises CommandExecutionError: no engine answers; this node is no manager; the swarm has no leader; no such node, or
        several of that name

    CLI Example:

    .. code-block:: bash

        salt rpiomega-master swarm.node_inspect rpiomega-4
    """
    engine = _engine(base_url)
    return engine.inspect_node(engine.find(name).id)


@minion.salt_errors
def cluster(base_url=None):
    """
    The engine's description of the swarm, without its join tokens; on a manager.

    :param base_url: the engine's socket; default `swarm.docker_url` of the minion's configuration, then the local one
    :return: dict: the engine's own, with ID, Spec, TLSInfo, RootRotationInProgress
    :raises CommandExecutionError: no engine answers; this node is no manager; the swarm has no leader

    CLI Example:

    .. code-block:: bash

        salt rpiomega-master swarm.cluster
    """
    return _engine(base_url).cluster()


@minion.salt_errors
def services_(base_url=None):
    """
    Services of the swarm; on a manager.

    :param base_url: the engine's socket; default `swarm.docker_url` of the minion's configuration, then the local one
    :return: list of dicts: id, name, image, mode ("replicated" or "global"), replicas (int or None)
    :raises CommandExecutionError: no engine answers; this node is no manager; the swarm has no leader

    CLI Example:

    .. code-block:: bash

        salt rpiomega-master swarm.services
    """
    found = []
    for item in _engine(base_url).services():
        spec = item["Spec"]
        mode = spec.get("Mode") or {}
        found.append(
            {
                "id": item["ID"],
                "name": spec["Name"],
                "image": ((spec.get("TaskTemplate") or {}).get("ContainerSpec") or {}).get("Image"),
                "mode": next(iter(mode), "").lower(),
                "replicas": (mode.get("Replicated") or {}).get("Replicas"),
            }
        )
    return found


@minion.salt_errors
def record():
    """
    What Consul has about the swarm: its permanent record, who holds the election lock, what the nodes published.

    :return: dict: record (dict or None), holder (name or None), worker_token_for (ClusterID or None), nodes (dict),
        stale (bool: Consul has no leader)
    :raises CommandExecutionError: Consul does not answer or refuses the token; a key holds something else than it
        should

    CLI Example:

    .. code-block:: bash

        salt rpiomega-master swarm.record
    """
    snap = minion.store(__opts__, __pillar__).snapshot(stale_allowed=True)
    return {
        "record": snap.record.value() if snap.record else None,
        "holder": snap.holder or None,
        "worker_token_for": snap.token_cluster or None,
        "nodes": {name: {**entry.value(), "present": entry.present} for name, entry in snap.published.items()},
        "stale": snap.stale,
    }


# -- acts ---------------------------------------------------------------------------------------------------


@minion.salt_errors
def init(address, base_url=None, **settings):
    """
    Initialise a swarm on this node, outside of the cluster's election: for a node that is in no site. A node of a
    cluster becomes a manager by the state `swarm.member`, which cannot make a second swarm.

    :param address: advertise address; it cannot be changed later
    :param base_url: the engine's socket; default `swarm.docker_url` of the minion's configuration, then the local one
    :param settings: data_path_addr, data_path_port, default_addr_pool (list), subnet_size, listen_address
    :return: dict: cluster_id, node_id; no token
    :raises CommandExecutionError: this node belongs to a cluster, or is in a swarm; no engine answers, or it refuses,
        in its words

    CLI Example:

    .. code-block:: bash

        salt-call --local swarm.init 192.168.1.10
    """
    engine = _engine(base_url)
    if __opts__["id"] in site_nodes.nodes(minion.site(__pillar__)):
        raise CommandExecutionError(
            f"{__opts__['id']} belongs to a cluster: apply the state swarm instead, which cannot make a second swarm"
        )
    engine.init(address, **{name: value for name, value in settings.items() if not name.startswith("__")})
    local = engine.local()
    return {"cluster_id": local.cluster_id, "node_id": local.node_id}


@minion.salt_errors
def leave(base_url=None):
    """
    Leave the swarm, without force: the engine refuses it to a manager. See also the state `swarm.absent`.

    :param base_url: the engine's socket; default `swarm.docker_url` of the minion's configuration, then the local one
    :return: True if this node left, False if it was in no swarm
    :raises CommandExecutionError: this node is a manager; no engine answers

    CLI Example:

    .. code-block:: bash

        salt rpiomega-4 swarm.leave
    """
    engine = _engine(base_url)
    local = engine.local()
    if local.state == "inactive":
        return False
    if local.control:
        node = __opts__["id"]
        raise CommandExecutionError(
            f"{node} is a manager: `salt {node} state.single swarm.absent name=swarm` drains and demotes it first"
            if len(local.managers) > 1
            else f"{node} is the only manager: `docker swarm leave --force` there deletes the swarm, if that is meant"
        )
    engine.leave()
    return True


@minion.salt_errors
def node_update(
    name, role=None, availability=None, labels=None, remove_labels=None, replace_labels=False, base_url=None
):
    """
    Change a node's role, availability or labels; all else of its spec stays as it is. On a manager.

    :param name: hostname, if only one node has it, or NodeID
    :param role: manager or worker
    :param availability: active, pause or drain
    :param labels: mapping; merged into the node's labels
    :param remove_labels: list of label names to remove
    :param replace_labels: True: `labels` become all labels of the node
    :param base_url: the engine's socket; default `swarm.docker_url` of the minion's configuration, then the local one
    :return: dict: what changed, {"role": {"old": .., "new": ..}, ..}; empty if nothing had to
    :raises CommandExecutionError: no engine answers; this node is no manager; the swarm has no leader; no such node, or
        several of that name; the demotion would cost the quorum; others changed the node each time in between
    :raises SaltInvocationError: a value is not allowed, or not of the right kind

    CLI Example:

    .. code-block:: bash

        salt rpiomega-master swarm.node_update rpiomega-4 availability=drain
    """
    wanted = {
        "role": role,
        "availability": availability,
        "labels": labels,
        "labels_state": settings_node.REPLACE if replace_labels else settings_node.MERGE,
        "labels_to_remove": remove_labels,
    }
    wrong = settings_node.problem(**wanted)
    if wrong:
        raise SaltInvocationError(wrong)
    return settings_node.apply(_engine(base_url), name, **wanted)


def promote(name, base_url=None):
    """
    Make a node a manager. On a manager.

    :param name: hostname, if only one node has it, or NodeID
    :param base_url: the engine's socket; default `swarm.docker_url` of the minion's configuration, then the local one
    :return: dict: as `swarm.node_update`
    :raises CommandExecutionError: as `swarm.node_update`

    CLI Example:

    .. code-block:: bash

        salt rpiomega-master swarm.promote rpiomega-2
    """
    return node_update(name, role=MANAGER, base_url=base_url)


def demote(name, base_url=None):
    """
    Make a node a worker; refused where the managers that stay would have no quorum. On a manager.

    :param name: hostname, if only one node has it, or NodeID
    :param base_url: the engine's socket; default `swarm.docker_url` of the minion's configuration, then the local one
    :return: dict: as `swarm.node_update`
    :raises CommandExecutionError: as `swarm.node_update`

    CLI Example:

    .. code-block:: bash

        salt rpiomega-master swarm.demote rpiomega-2
    """
    return node_update(name, role=WORKER, base_url=base_url)


@minion.salt_errors
def remove_node(name, base_url=None):
    """
    Remove the entry of a node that has left the swarm; the engine refuses it for a node that has not. On a manager.

    :param name: hostname, if only one node has it, or NodeID
    :param base_url: the engine's socket; default `swarm.docker_url` of the minion's configuration, then the local one
    :return: NodeID of the removed entry
    :raises CommandExecutionError: no engine answers; this node is no manager; the swarm has no leader; no such node, or
        several of that name; the node has not left, or is a manager

    CLI Example:

    .. code-block:: bash

        salt rpiomega-master swarm.remove_node rpiomega-4
    """
    engine = _engine(base_url)
    node = engine.find(name)
    engine.remove_node(node.id)
    return node.id
