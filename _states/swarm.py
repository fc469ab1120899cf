"""
Membership of this node in the cluster's Docker Swarm.

`swarm.member` brings a node into the role that the site's pillar gives it: it initialises the swarm if the
cluster has none, joins it, or waits to be promoted. It can run on all nodes at the same moment, in any order:
Consul decides who initialises. `swarm.absent` takes a node out, and only where it is called.
"""

import omega_consul
import omega_swarm
import omega_swarm_absent
from omega_swarm_docker import Engine, SwarmError
from omega_swarm_record import Store

ConsulError = omega_consul.ConsulError


def __virtual__():
    return "swarm"


def _node(node):
    return node or __opts__["id"]


def _engine(base_url):
    return Engine(base_url or __opts__.get("swarm.docker_url") or __pillar__.get("swarm.docker_url"))


def _notify(node):
    """Event for the master's reactor, which lets the managers promote `node`. Nobody may be there to hear it."""
    if __opts__.get("file_client") == "local" or __opts__.get("local"):
        return
    __salt__["event.send"](omega_swarm.JOINED_EVENT, {"node": node})


def member(
    name,
    role=None,
    node=None,
    address=None,
    managers=None,
    base_url=None,
    bootstrap_timeout=300,
    initializer_timeout=20,
    join_timeout=120,
    promote_timeout=120,
    gather_timeout=30,
    engine_timeout=60,
    consul_timeout=15,
    data_path_addr=None,
    data_path_port=None,
    default_addr_pool=None,
    subnet_size=None,
):
    """
    Make sure that this node is a member of the cluster's swarm, in its role.

    Nothing is forced: a node that is in another swarm, whose swarm state is locked or broken, or whose role
    would cost the swarm its quorum, is refused with the reason. A run that could not finish (result False)
    says what it waited for; the next run goes on from there.

    :param name: name of the cluster; a label only
    :param role: `manager` or `worker`; default: the node's roles in pillar rpiomega:nodes
    :param node: name of this node; default: the minion ID. The engine's hostname must be the same
    :param address: address to advertise; default: the node's address in pillar. It cannot be changed later
    :param managers: mapping {name: address} of all nodes with role manager; default: from pillar
    :param base_url: the engine's socket; default `swarm.docker_url` of the minion's configuration, then
        unix:///var/run/docker.sock
    :param bootstrap_timeout: seconds to wait until another node has initialised the swarm
    :param initializer_timeout: seconds to wait for a node that began to initialise and was interrupted
    :param join_timeout: seconds to try to join, over all managers
    :param promote_timeout: seconds to wait until a manager promotes this node; as a manager: seconds to wait
        for managers-to-be that are joining right now, so that they are promoted within this run
    :param gather_timeout: seconds to wait, after this very run initialised or recorded the swarm, for managers-to-be
        that Consul sees alive and that have not begun to join
    :param engine_timeout: seconds to retry while the engine does not answer, as while it restarts
    :param consul_timeout: seconds to retry while Consul does not answer
    :param data_path_addr: address or interface for the traffic between containers
    :param data_path_port: UDP port of it, only used when the swarm is initialised; default 4789
    :param default_addr_pool: subnets for overlay networks, only used when the swarm is initialised
    :param subnet_size: prefix length of each of them, only used when the swarm is initialised

    .. code-block:: yaml

        swarm:
          swarm.member:
            - name: omega
            - promote_timeout: 60
    """
    ret = {"name": name, "result": False, "changes": {}, "comment": ""}
    settings = {
        "data_path_addr": data_path_addr,
        "data_path_port": data_path_port,
        "default_addr_pool": default_addr_pool,
        "subnet_size": subnet_size,
    }
    bounds = omega_swarm.Bounds(
        bootstrap_timeout,
        initializer_timeout,
        join_timeout,
        promote_timeout,
        gather_timeout,
        engine_timeout,
        consul_timeout,
    )
    try:
        site = __pillar__.get("rpiomega") or {}
        want = omega_swarm.wanted(site, _node(node), role, address, managers, settings)
        store = Store(omega_consul.from_salt(__opts__, __pillar__), want.node)
        run = omega_swarm.Member(_engine(base_url), store, want, bounds, _notify)
        if __opts__["test"]:
            ret["result"], ret["comment"], ret["changes"] = run.foresee()
        else:
            ret["result"], ret["comment"] = run.run()
            ret["changes"] = run.changes
    except (SwarmError, ConsulError) as error:
        ret["comment"] = f"{_node(node)}: {error}"
        return ret
    if run.warnings:
        ret["warnings"] = run.warnings
    return ret


def absent(name, node=None, base_url=None, drain_timeout=120, demote_timeout=60):
    """
    Make sure that this node is in no swarm. To be called explicitly; no state of this project includes it.

    A manager is drained, demoted and then leaves, and only while the managers that stay can keep the quorum;
    the last manager is refused. A worker leaves; its tasks are started elsewhere. Nothing is forced.

    :param name: name of the cluster; a label only
    :param node: name of this node; default: the minion ID
    :param base_url: the engine's socket, as for `swarm.member`
    :param drain_timeout: seconds until the tasks of a manager have moved away
    :param demote_timeout: seconds until the demotion of a manager has taken effect

    .. code-block:: bash

        salt rpiomega-4 state.single swarm.absent omega
    """
    ret = {"name": name, "result": False, "changes": {}, "comment": ""}
    try:
        store = Store(omega_consul.from_salt(__opts__, __pillar__), _node(node))
        leaver = omega_swarm_absent.Leaver(_engine(base_url), store, drain_timeout, demote_timeout)
        if __opts__["test"]:
            ret["result"], ret["comment"] = leaver.predict()
        else:
            ret["result"], ret["comment"] = leaver.run()
        ret["changes"] = leaver.changes
    except (SwarmError, ConsulError) as error:
        ret["comment"] = f"{_node(node)}: {error}"
    return ret
