"""
Taking a node out of the cluster: what the master and the node itself do outside of the swarm.

`rpiomega remove NODE` calls these, in order, and shows each step. Nothing here touches a node that Consul sees alive.
"""

import functools

from salt.exceptions import CommandExecutionError

from omega.consul.client import ConsulError
from omega.core import pillar as salt_pillar
from omega.docker import engine
from omega.removal import node as removal_node


def __virtual__():
    return "rpiomega"


def _told(function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except (ConsulError, engine.EngineError) as error:
            raise CommandExecutionError(f"{__opts__['id']}: {error}") from error

    return wrapper


@_told
def removal(node):
    """
    What Consul and the master's secrets hold of a node; on the master.

    :param node: its name
    :return: dict: in_site, consul (alive, leaving, left, failed, absent), refused (why Consul needs it, or ""), token,
        policy, secrets (bool each)
    :raises CommandExecutionError: ``node`` is no node's name, this is not the master, or Consul does not answer

    CLI Example:

    .. code-block:: bash

        salt rpiomega-master rpiomega.removal rpiomega-4
    """
    client = removal_node.clients(__opts__, __pillar__, management=True)
    return removal_node.look(client, salt_pillar.site(__pillar__), node)


@_told
def forget(node):
    """
    Take a node that does not answer out of Consul, revoke its token, delete its secrets; on the master.

    :param node: its name
    :return: list of what was done
    :raises CommandExecutionError: as ``rpiomega.removal``; Consul sees the node alive, or needs it for its quorum

    CLI Example:

    .. code-block:: bash

        salt rpiomega-master rpiomega.forget rpiomega-4
    """
    return removal_node.forget(removal_node.clients(__opts__, __pillar__, management=True), node)


@_told
def leave_consul(container="rpiomega-consul"):
    """
    Let this node's Consul agent leave the cluster in good order, and remove its container; its data stays.

    :param container: the agent's
    :return: what was done, "" if there was no agent
    :raises CommandExecutionError: the agent did not leave, or the engine refused or did not answer

    CLI Example:

    .. code-block:: bash

        salt rpiomega-4 rpiomega.leave_consul
    """
    return removal_node.leave_consul(removal_node.clients(__opts__, __pillar__), container)


def leave_clock():
    """
    Remove what lets this node's boot and Docker Engine wait for a synchronised clock.

    :return: list of the files that were removed

    CLI Example:

    .. code-block:: bash

        salt rpiomega-4 rpiomega.leave_clock
    """
    removed, waits = removal_node.leave_clock()
    for name in waits:
        __salt__["service.disable"](name)
    if removed:
        __salt__["service.systemctl_reload"]()
    return removed


def leave_backup():
    """
    Let this node save no more: its timers of backups off, units and key removed. Its repository stays in the bucket.

    :return: list of the files that were removed

    CLI Example:

    .. code-block:: bash

        salt rpiomega-4 rpiomega.leave_backup
    """
    for name in removal_node.backup_timers():
        __salt__["service.stop"](name)
        __salt__["service.disable"](name)
    removed = removal_node.leave_backup()
    if removed:
        __salt__["service.systemctl_reload"]()
    return removed
