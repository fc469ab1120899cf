"""
Docker Swarm of this node: what it is, and single acts on it. The policy is in the state module `swarm`.

Needs the Python package `docker` and an engine only when a function is called, so the module loads before either
is there. The engine is the local one, unix:///var/run/docker.sock; another with `swarm.docker_url` in the
minion's configuration, or `base_url` in a call.

No function returns or takes a join token, an unlock key or a CA key: what a function returns is kept in the
job cache, and its arguments are readable by every minion. Nothing here is forced.

Errors are CommandExecutionError with the cause and the next step: no engine, in no swarm, not a manager, no leader,
locked, broken or still joining are told apart by /info, because the engine answers 503 to several of them.
"""

import functools

import omega_consul
import omega_site
import omega_swarm
import omega_swarm_docker
import omega_swarm_promote
import omega_swarm_record
import omega_swarm_recover
import omega_swarm_removal
import omega_swarm_spec_node
import omega_swarm_tend
from omega_swarm_docker import MANAGER, WORKER, SwarmError
from salt.exceptions import CommandExecutionError, SaltInvocationError

ConsulError = omega_consul.ConsulError

__func_alias__ = {"services_": "services"}


def __virtual__():
    return "swarm"


def _told(function):
    """Turn the project's errors into Salt's, which the CLI shows without a traceback."""

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except (SwarmError, ConsulError) as error:
            raise CommandExecutionError(f"{__opts__['id']}: {error}") from error

    return wrapper


def _engine(base_url):
    url = base_url or __opts__.get("swarm.docker_url") or __pillar__.get("swarm.docker_url")
    return omega_swarm_docker.Engine(url)


def _store():
    return omega_swarm_record.Store(omega_consul.from_salt(__opts__, __pillar__), __opts__["id"])


def _newest_pillar():
    """
    The pillar as the master would give it now. The minion's own is as old as its start or its last refresh: after a
    change of the site file it would not know who is to be a manager, and take a new node for one that was taken out.
    """
    import salt.pillar

    arguments = (__opts__, dict(__grains__), __opts__["id"], __opts__.get("saltenv"))
    pillar = salt.pillar.get_pillar(*arguments, pillarenv=__opts__.get("pillarenv")).compile_pillar()
    if pillar.get("_errors"):
        raise CommandExecutionError(f"{__opts__['id']}: the pillar has errors: {'; '.join(pillar['_errors'])}")
    return pillar


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


@_told
def info(base_url=None):
    """
    This node's part in a swarm, from its own engine.

    :return: dict: state (inactive, pending, active, locked, error), role (manager, worker or ""), node_id,
        cluster_id, address, managers (addresses known), leaderless (bool), certificate_expires (ISO 8601 in UTC, or
        None), description (one clause)

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
        "description": omega_swarm_docker.describe(local),
    }


@_told
def is_manager(base_url=None):
    """
    True if this node is a manager of a swarm, with or without a leader.

    .. code-block:: bash

        salt '*' swarm.is_manager
    """
    return _engine(base_url).local().control


@_told
def nodes(base_url=None):
    """
    All nodes of the swarm, as a manager sees them.

    :return: list of dicts: id, hostname, role, availability, state, address, leader, reachable (managers; None for
        workers), labels

    .. code-block:: bash

        salt rpiomega-master swarm.nodes
    """
    return [_as_dict(node) for node in _engine(base_url).nodes()]


@_told
def node_inspect(name, base_url=None):
    """
    The engine's whole description of a node.

    :param name: hostname, if only one node has it, or NodeID

    .. code-block:: bash

        salt rpiomega-master swarm.node_inspect rpiomega-4
    """
    engine = _engine(base_url)
    return engine.inspect_node(engine.find(name).id)


@_told
def cluster(base_url=None):
    """
    The engine's description of the swarm, without its join tokens; on a manager.

    .. code-block:: bash

        salt rpiomega-master swarm.cluster
    """
    return _engine(base_url).cluster()


@_told
def services_(base_url=None):
    """
    Services of the swarm; on a manager.

    :return: list of dicts: id, name, image, mode ("replicated" or "global"), replicas (int or None)

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


@_told
def record():
    """
    What Consul holds about the swarm: its permanent record, who holds the election lock, what the nodes published.

    :return: dict: record (dict or None), holder (name or None), worker_token_for (ClusterID or None), nodes (dict)

    .. code-block:: bash

        salt rpiomega-master swarm.record
    """
    snap = _store().snapshot(stale_allowed=True)
    return {
        "record": snap.record.value() if snap.record else None,
        "holder": snap.holder or None,
        "worker_token_for": snap.token_cluster or None,
        "nodes": {name: {**entry.value(), "present": entry.present} for name, entry in snap.published.items()},
        "stale": snap.stale,
    }


# -- acts ---------------------------------------------------------------------------------------------------


@_told
def init(address, base_url=None, **settings):
    """
    Initialise a swarm on this node, outside of the cluster's election: for a node that is in no site. A node of a
    cluster becomes a manager by the state `swarm.member`, which cannot make a second swarm.

    :param address: advertise address; it cannot be changed later
    :param settings: data_path_addr, data_path_port, default_addr_pool (list), subnet_size, listen_address
    :return: dict: cluster_id, node_id; no token

    .. code-block:: bash

        salt-call --local swarm.init 192.168.1.10
    """
    engine = _engine(base_url)
    if __opts__["id"] in omega_site.nodes(__pillar__.get("rpiomega") or {}):
        raise CommandExecutionError(
            f"{__opts__['id']} belongs to a cluster: apply the state swarm instead, which cannot make a second swarm"
        )
    engine.init(address, **{name: value for name, value in settings.items() if not name.startswith("__")})
    local = engine.local()
    return {"cluster_id": local.cluster_id, "node_id": local.node_id}


@_told
def leave(base_url=None):
    """
    Leave the swarm, without force: the engine refuses it to a manager. See also the state `swarm.absent`.

    :return: True if this node left, False if it was in no swarm

    .. code-block:: bash

        salt rpiomega-4 swarm.leave
    """
    engine = _engine(base_url)
    local = engine.local()
    if local.state == "inactive":
        return False
    if local.control:
        raise CommandExecutionError(
            f"{__opts__['id']} is a manager: demote it first (swarm.demote on another manager), or apply swarm.absent"
        )
    engine.leave()
    return True


@_told
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
    :return: dict: what changed, {"role": {"old": .., "new": ..}, ..}; empty if nothing had to

    .. code-block:: bash

        salt rpiomega-master swarm.node_update rpiomega-4 availability=drain
    """
    wanted = {
        "role": role,
        "availability": availability,
        "labels": labels,
        "labels_state": omega_swarm_spec_node.REPLACE if replace_labels else omega_swarm_spec_node.MERGE,
        "labels_to_remove": remove_labels,
    }
    wrong = omega_swarm_spec_node.problem(**wanted)
    if wrong:
        raise SaltInvocationError(wrong)
    return omega_swarm_spec_node.apply(_engine(base_url), name, **wanted)


def promote(name, base_url=None):
    """
    Make a node a manager. On a manager.

    :return: what changed, as `swarm.node_update`

    .. code-block:: bash

        salt rpiomega-master swarm.promote rpiomega-2
    """
    return node_update(name, role=MANAGER, base_url=base_url)


def demote(name, base_url=None):
    """
    Make a node a worker; refused where the managers that stay would have no quorum. On a manager.

    :return: what changed, as `swarm.node_update`

    .. code-block:: bash

        salt rpiomega-master swarm.demote rpiomega-2
    """
    return node_update(name, role=WORKER, base_url=base_url)


@_told
def remove_node(name, base_url=None):
    """
    Remove the entry of a node that has left the swarm; the engine refuses it for a node that has not. On a manager.

    :return: NodeID of the removed entry

    .. code-block:: bash

        salt rpiomega-master swarm.remove_node rpiomega-4
    """
    engine = _engine(base_url)
    node = engine.find(name)
    engine.remove_node(node.id)
    return node.id


@_told
def promote_waiting(base_url=None):
    """
    Promote every node that has role manager in the site, has joined as a worker and published its NodeID in
    Consul. It may be called at any time.

    :return: dict: promoted (names), waiting (names that cannot be promoted yet), comment

    .. code-block:: bash

        salt rpiomega-master swarm.promote_waiting
    """
    engine = _engine(base_url)
    local = engine.local()
    if not local.control:
        return {"promoted": [], "waiting": [], "comment": omega_swarm_docker.describe(local)}
    want = omega_swarm.wanted(_newest_pillar().get("rpiomega") or {}, __opts__["id"])
    promoted, waiting = omega_swarm_promote.promote_waiting(engine, _store(), want)
    return {"promoted": promoted, "waiting": waiting, "comment": omega_swarm_docker.describe(local)}


@_told
def removal(node, base_url=None):
    """
    What is left of a node in the swarm; on a manager.

    :return: dict: cluster_id, published (its NodeID, "" if it has left, None if Consul does not know it), entries
        (list of dicts: id, state, role, availability, recorded, refused: why it must stay a manager, or "")

    .. code-block:: bash

        salt rpiomega-master swarm.removal rpiomega-4
    """
    return omega_swarm_removal.look(_engine(base_url), _store(), node)


@_told
def drop(node, dead=False, timeout=60, base_url=None):
    """
    Remove the entries of a node that has left by `swarm.absent`, and its key in Consul; on a manager. Only NodeIDs that
    the node published itself, only entries that are down, and a manager's only while the others keep the quorum.

    :param dead: the node is lost for ever: remove the entry of the NodeID it published last, too
    :param timeout: seconds until the swarm sees it as down
    :return: list of the NodeIDs whose entries were removed

    .. code-block:: bash

        salt rpiomega-master swarm.drop rpiomega-4 dead=True
    """
    return omega_swarm_removal.drop(_engine(base_url), _store(), node, dead, timeout)


@_told
def look_after(base_url=None):
    """
    What the managers owe a node that has just joined: `promote_waiting`, then what the state `swarm.tended` does. The
    master's reactor calls this on all nodes; it may be called at any time.

    :return: dict: promoted, waiting (names), changes (dict), comment

    .. code-block:: bash

        salt '*' swarm.look_after
    """
    done = promote_waiting(base_url)
    if not _engine(base_url).local().control:
        return {**done, "changes": {}}
    site = _newest_pillar().get("rpiomega") or {}
    run = omega_swarm_tend.Tender(_engine(base_url), _store(), site, gather=0)
    _, comment = run.run()
    return {**done, "changes": run.changes, "comment": comment}


@_told
def bootstrap_takeover(node):
    """
    Give up the attempt of `node` to initialise the swarm, so that another manager-to-be may. Only for a node that is
    lost for ever between its intent and its success: if it comes back it may hold a swarm of its own. Refused while
    the node is alive in Consul or answers on the swarm port.

    :param node: name of the node that the record in Consul names; anything else is refused
    :return: dict: the record before and after

    .. code-block:: bash

        salt rpiomega-2 swarm.bootstrap_takeover rpiomega-master
    """
    site = __pillar__.get("rpiomega") or {}
    address = omega_site.address(site, node) if node in omega_site.nodes(site) else None
    before, after = omega_swarm_recover.take_over(_store(), node, address)
    return {"old": before.value(), "new": after.value()}


@_told
def force_new_cluster(confirm, base_url=None):
    """
    Make this manager the only one of its swarm, after all others are lost for ever: the operator's last means (see
    docs/operations.md). The swarm keeps its ClusterID, workers and services. Consul must have a leader.

    Refused while any other manager of the site or of the swarm answers on its swarm port or is alive in Consul, while
    the swarm has a leader, and with autolock on. The managers given up are written to the swarm's record, with a
    raised fence, and removed from the node list; a board that comes back with its old state is refused by
    `swarm.member`.

    :param confirm: ClusterID of the swarm, as `swarm.info` shows it: to make sure that this is meant
    :return: dict: cluster_id, fence ({"old", "new"}), given_up (NodeIDs), removed (hostnames taken out of the node
        list), left (hostnames still in it: remove them with `docker node rm`)

    .. code-block:: bash

        salt rpiomega-2 swarm.force_new_cluster 3r2dgmckb8y29xdxrmqveo21n
    """
    want = omega_swarm.wanted(__pillar__.get("rpiomega") or {}, __opts__["id"])
    return omega_swarm_recover.Survivor(_engine(base_url), _store(), want.others).run(confirm)
