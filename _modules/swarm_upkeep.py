"""
What the managers do for the other nodes of this node's Docker Swarm, and what only an operator starts after a loss.

Part of the module `swarm`, with the rules of swarm.py: nothing is forced but by swarm.force_new_cluster, and errors are
CommandExecutionError with the next step.
"""

from salt.exceptions import CommandExecutionError

from omega.site import nodes as site_nodes
from omega.swarm import api, minion, recover
from omega.swarm import removal as swarm_removal
from omega.swarm.member import roles
from omega.swarm.member import run as member_run
from omega.swarm.nodes import run as nodes_run

__virtualname__ = "swarm"


def __virtual__():
    return __virtualname__


def _engine(base_url):
    return minion.engine(__opts__, __pillar__, base_url)


def _store():
    return minion.store(__opts__, __pillar__)


def _newest_site():
    """
    The pillar's `rpiomega` as the master would give it now. The minion's own is as old as its start or its last
    refresh: after a change of the site file it would not know who is to be a manager, and take a new node for one that
    was taken out.
    """
    import salt.pillar

    arguments = (__opts__, dict(__grains__), __opts__["id"], __opts__.get("saltenv"))
    pillar = salt.pillar.get_pillar(*arguments, pillarenv=__opts__.get("pillarenv")).compile_pillar()
    if pillar.get("_errors"):
        raise CommandExecutionError(f"{__opts__['id']}: the pillar has errors: {'; '.join(pillar['_errors'])}")
    return minion.site(pillar)


@minion.salt_errors
def promote_waiting(base_url=None):
    """
    Promote every node that has role manager in the site, has joined as a worker and published its NodeID in
    Consul. It may be called at any time.

    :param base_url: the engine's socket; default `swarm.docker_url` of the minion's configuration, then the local one
    :return: dict: promoted (names), waiting (names that cannot be promoted yet), comment
    :raises CommandExecutionError: no engine or no Consul answers; the swarm has no leader, or is not the recorded one;
        the pillar has errors

    CLI Example:

    .. code-block:: bash

        salt rpiomega-master swarm.promote_waiting
    """
    engine = _engine(base_url)
    local = engine.local()
    if not local.control:
        return {"promoted": [], "waiting": [], "comment": api.describe(local)}
    want = member_run.wanted(_newest_site(), __opts__["id"])
    promoted, waiting = roles.promote_waiting(engine, _store(), want)
    return {"promoted": promoted, "waiting": waiting, "comment": api.describe(local)}


@minion.salt_errors
def removal(node, base_url=None):
    """
    What is left of a node in the swarm; on a manager.

    :param node: the node's name
    :param base_url: the engine's socket; default `swarm.docker_url` of the minion's configuration, then the local one
    :return: dict: cluster_id, published (its NodeID, "" if it has left, None if Consul does not know it), entries (list
        of dicts: id, state, role, availability, recorded, refused: why it must stay a manager, or "")
    :raises CommandExecutionError: no engine answers; this node is no manager; the swarm has no leader; Consul does not
        answer

    CLI Example:

    .. code-block:: bash

        salt rpiomega-master swarm.removal rpiomega-4
    """
    return swarm_removal.look(_engine(base_url), _store(), node)


@minion.salt_errors
def drop(node, dead=False, timeout=60, base_url=None):
    """
    Remove the entries of a node that has left by `swarm.absent`, and its key in Consul; on a manager. Only NodeIDs that
    the node published itself, only entries that are down, and a manager's only while the others keep the quorum.

    :param node: the node's name
    :param dead: the node is lost for ever: remove the entry of the NodeID it published last, too
    :param timeout: seconds until the swarm sees it as down
    :param base_url: the engine's socket; default `swarm.docker_url` of the minion's configuration, then the local one
    :return: list of the NodeIDs whose entries were removed
    :raises CommandExecutionError: no engine answers; this node is no manager; the swarm has no leader; Consul does not
        answer; the node has not left or is not down in time; the quorum would be lost

    CLI Example:

    .. code-block:: bash

        salt rpiomega-master swarm.drop rpiomega-4 dead=True
    """
    return swarm_removal.drop(_engine(base_url), _store(), node, dead, timeout)


@minion.salt_errors
def reconcile_nodes(base_url=None):
    """
    Promote the nodes that wait for it (`promote_waiting`), then do what the state `swarm.nodes_managed` does. The
    master's reactor calls this on all nodes when one has joined; it may be called at any time.

    :param base_url: the engine's socket; default `swarm.docker_url` of the minion's configuration, then the local one
    :return: dict: result (False: not done, see comment), promoted, waiting (names), changes (dict), comment
    :raises CommandExecutionError: as `swarm.promote_waiting`

    CLI Example:

    .. code-block:: bash

        salt '*' swarm.reconcile_nodes
    """
    done = promote_waiting(base_url)
    if not _engine(base_url).local().control:
        return {"result": True, **done, "changes": {}}
    site = _newest_site()
    # Each join of a wave calls this: a rotation at each would only refuse the nodes that are joining.
    run = nodes_run.Reconciler(_engine(base_url), _store(), site, gather=None)
    result, comment = run.run()
    return {"result": result, **done, "changes": run.changes, "comment": comment}


look_after = reconcile_nodes  # the name until 0.2


@minion.salt_errors
def bootstrap_takeover(node):
    """
    Give up the attempt of `node` to initialise the swarm, so that another manager-to-be may. Only for a node that is
    lost for ever between its intent and its success: if it comes back it may hold a swarm of its own. Refused while
    the node is alive in Consul or answers on the swarm port.

    :param node: name of the node that the record in Consul names; anything else is refused
    :return: dict: the record before and after
    :raises CommandExecutionError: no such attempt is open; the node shows a sign of life; Consul does not answer

    CLI Example:

    .. code-block:: bash

        salt rpiomega-2 swarm.bootstrap_takeover rpiomega-master
    """
    site = minion.site(__pillar__)
    address = site_nodes.address(site, node) if node in site_nodes.nodes(site) else None
    before, after = recover.take_over(_store(), node, address)
    return {"old": before.value(), "new": after.value()}


@minion.salt_errors
def force_new_cluster(confirm, base_url=None):
    """
    Make this manager the only one of its swarm, after all others are lost for ever: the operator's last means (see
    docs/operations.md). The swarm keeps its ClusterID, workers and services. Consul must have a leader.

    Refused while any other manager of the site or of the swarm answers on its swarm port or is alive in Consul, while
    the swarm has a leader, and with autolock on. The managers given up are written to the swarm's record, with a
    raised fence, and removed from the node list; a board that comes back with its old state is refused by
    `swarm.member`.

    :param confirm: ClusterID of the swarm, as `swarm.info` shows it: to make sure that this is meant
    :param base_url: the engine's socket; default `swarm.docker_url` of the minion's configuration, then the local one
    :return: dict: cluster_id, fence ({"old", "new"}), given_up (NodeIDs), removed (hostnames taken out of the node
        list), left (hostnames still in it: remove them with `docker node rm`)
    :raises CommandExecutionError: one of the refusals above; no engine or no Consul answers; no leader after 120 s

    CLI Example:

    .. code-block:: bash

        salt rpiomega-2 swarm.force_new_cluster 3r2dgmckb8y29xdxrmqveo21n
    """
    want = member_run.wanted(minion.site(__pillar__), __opts__["id"])
    return recover.Survivor(_engine(base_url), _store(), want.others).run(confirm)
