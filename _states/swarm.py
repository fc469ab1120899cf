"""
Membership of this node in the cluster's Docker Swarm.

`swarm.member` brings a node into the role that the site's pillar gives it: it initialises the swarm if the
cluster has none, joins it, or waits to be promoted. It can run on all nodes at the same moment, in any order:
Consul decides who initialises. `swarm.absent` takes a node out, and only where it is called.
"""

import functools

from omega.consul import client, engine_turn
from omega.removal import node as removal_node
from omega.swarm import absent as swarm_absent
from omega.swarm import minion, waits
from omega.swarm.api import WORKER, SwarmError
from omega.swarm.member import loop
from omega.swarm.member import run as member_run
from omega.swarm.nodes import run as nodes_run
from omega.swarm.record import Store
from omega.swarm.settings import node as settings_node
from omega.swarm.settings import run as settings_run
from omega.swarm.settings import spec
from omega.swarm.stack import run as stack_run


def __virtual__():
    return "swarm"


def _engine(base_url):
    return minion.engine(__opts__, __pillar__, base_url)


def _store(node=None):
    return minion.store(__opts__, __pillar__, node)


def _notify(node):
    """Event for the master's reactor, which calls the managers. Nobody may be there to hear it."""
    if __opts__.get("file_client") == "local" or __opts__.get("local"):
        return
    __salt__["event.send"](member_run.JOINED_EVENT, {"node": node})


def _restart(base_url):
    """What restarts this node's engine, for a run of `swarm.member`."""
    url = minion.url(__opts__, __pillar__, base_url)
    consul = functools.partial(client.from_salt, __opts__, __pillar__)
    return lambda node: engine_turn.restart_unsound(node, consul, url)


def _carried_out(name, make, act=None, node=None):
    """
    Return a state's return.

    :param make: called without arguments, returns the run, which has `changes` and `warnings`
    :param act: called with the run, returns (result, comment); default: its method `run`, called with test
    """
    ret = {"name": name, "result": False, "changes": {}, "comment": ""}
    try:
        run = make()
        try:
            ret["result"], ret["comment"] = act(run) if act else run.run(__opts__["test"])
        finally:
            ret["changes"] = run.changes
    except minion.ERRORS as error:
        return _failed(ret, node or __opts__["id"], error)
    if run.warnings:
        ret["warnings"] = run.warnings
    return ret


def _failed(ret, node, error):
    """`ret` with the error. In test mode Docker and Consul may come by the states before this one."""
    missing = __opts__["test"] and waits.not_there_yet(error)
    if missing:
        return {**ret, "result": None, "comment": f"{node}: once {missing} runs ({error})"}
    return {**ret, "comment": f"{node}: {error}"}


def member(
    name,
    role=None,
    node=None,
    address=None,
    managers=None,
    base_url=None,
    bootstrap_timeout=300,
    initializer_timeout=45,
    join_timeout=120,
    promote_timeout=120,
    gather_timeout=30,
    engine_timeout=60,
    consul_timeout=15,
    clock_timeout=90,
    listen_addr=None,
    data_path_addr=None,
    data_path_port=None,
    default_addr_pool=None,
    subnet_size=None,
    min_free_mb=500,
    readdress=False,
    rejoin=False,
    unlock_key_file=None,
):
    """
    Make sure that this node is a member of the cluster's swarm, in its role.

    Nothing is forced: a node that is in another swarm, whose swarm state is locked or broken, whose address is not the
    site's, whose certificate has expired, or whose role would cost the swarm its quorum, is refused with the reason
    and the cure. A node whose entry in the node list was removed by hand, as the managers have marked in Consul, leaves
    and joins again. A run that could not finish (result False) says what it waited for; the next run goes on from
    there.

    :param name: name of the cluster; a label only
    :param role: `manager` or `worker`; default: the node's roles in pillar rpiomega:nodes
    :param node: name of this node; default: the minion ID. The engine's hostname must be the same
    :param address: address to advertise; default: the node's address in pillar. Changed later only with `readdress`
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
    :param clock_timeout: seconds to wait, before this node initialises or joins the swarm, until its clock is
        synchronised; after that it goes on, unless another node has written to Consul at a later time
    :param listen_addr: address or interface the engine listens on for other managers; default: all
    :param data_path_addr: address or interface for the traffic between containers
    :param data_path_port: UDP port of it, only used when the swarm is initialised; default 4789
    :param default_addr_pool: subnets for overlay networks, only used when the swarm is initialised
    :param subnet_size: prefix length of each of them, only used when the swarm is initialised
    :param min_free_mb: MiB that must be free in the engine's data folder before this node is taken into the swarm or
        made a manager
    :param readdress: True: a node whose address changed leaves and joins again, as a new node of the swarm; a manager
        only while all others can be reached, and only after its demotion
    :param rejoin: True: a node whose certificate expired leaves and joins again, as a new node of the swarm; a manager
        only while the others are a quorum without it
    :param unlock_key_file: file with the key that unlocks a manager of an autolocked swarm, readable by root only;
        default `swarm.unlock_key_file` of the minion's configuration, then /etc/rpiomega/secrets/swarm/unlock-key
    :return: Salt's state return; changes may have swarm, published, role, promoted, worker token and more, each {old,
        new} or a list of names

    .. code-block:: yaml

        swarm:
          swarm.member:
            - name: omega
            - promote_timeout: 60

    .. code-block:: bash

        salt rpiomega-3 state.single swarm.member omega readdress=True
    """
    settings = {
        "listen_address": listen_addr,
        "data_path_addr": data_path_addr,
        "data_path_port": data_path_port,
        "default_addr_pool": default_addr_pool,
        "subnet_size": subnet_size,
    }
    bounds = member_run.Bounds(
        bootstrap=bootstrap_timeout,
        initializer=initializer_timeout,
        join=join_timeout,
        promote=promote_timeout,
        gather=gather_timeout,
        engine=engine_timeout,
        consul=consul_timeout,
        clock=clock_timeout,
    )
    allowed = {"readdress": readdress, "rejoin": rejoin, "min_free_mb": min_free_mb}

    def make():
        site = minion.site(__pillar__)
        want = member_run.wanted(site, node or __opts__["id"], role, address, managers, settings, **allowed)
        keyring = minion.keyring(__opts__, __pillar__, unlock_key_file)
        how = {"bounds": bounds, "notify": _notify, "keyring": keyring, "restart": _restart(base_url)}
        return member_run.Run(_engine(base_url), _store(want.node), want, **how)

    def act(run):
        if __opts__["test"]:
            result, comment, run.changes = loop.predict(run)
            return result, comment
        result = loop.apply(run)
        if "swarm" in run.changes and run.want.role == WORKER:
            _notify(run.want.node)
        return result

    return _carried_out(name, make, act, node)


def nodes_managed(name, node=None, base_url=None, gather_timeout=20, timeout=30):
    """
    Make sure that the nodes of the swarm are as the site says. A manager does this for all, a worker nothing.

    Availability and labels of the site's nodes come from pillar (`rpiomega:nodes:<node>:availability` and `labels`,
    `rpiomega:swarm:labels`). A node is known by the NodeID it has published, whatever its hostname. What a board had
    that was re-created goes from its old entry to the new one, and the old one is removed, as is what a join left that
    broke off. A node that the site does not know is paused, one that was taken out of the site file is drained, and
    both are reported; nothing that answers is removed. A node of the site whose NodeID the node list lacks is reported
    and marked in Consul, so that its `swarm.member` joins again; on that node the result is False. When nodes have
    joined or left, the join tokens are rotated. May run on all managers at once.

    :param name: name of the cluster; a label only
    :param node: name of this node; default: the minion ID
    :param base_url: the engine's socket, as for `swarm.member`
    :param gather_timeout: seconds to wait for nodes that are joining right now, so that the tokens are rotated once
    :param timeout: seconds to retry while the engine or Consul does not answer
    :return: Salt's state return; changes: availability and labels by node, removed, forgotten in Consul, not in the
        node list, join tokens (no token is in it)

    .. code-block:: yaml

        swarm.nodes_managed:
          swarm.nodes_managed:
            - name: omega
            - require:
              - swarm: swarm.member
    """
    return _carried_out(
        name,
        lambda: nodes_run.Reconciler(_engine(base_url), _store(node), minion.site(__pillar__), gather_timeout, timeout),
        node=node,
    )


tended = nodes_managed  # the name until 0.2


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
    :return: Salt's state return; changes may have availability, role, published, swarm

    .. code-block:: bash

        salt rpiomega-4 state.single swarm.absent omega
    """

    def make():
        store = Store(removal_node.clients(__opts__, __pillar__), node or __opts__["id"])
        return swarm_absent.Leaver(_engine(base_url), store, drain_timeout, demote_timeout)

    return _carried_out(name, make, node=node)


def cluster(
    name,
    autolock=None,
    unlock="keep",
    task_history=None,
    heartbeat_tick=None,
    election_tick=None,
    snapshot_interval=None,
    keep_old_snapshots=None,
    log_entries_for_slow_followers=None,
    dispatcher_heartbeat=None,
    cert_expiry=None,
    external_cas=None,
    ca_force_rotate=None,
    signing_ca_cert=None,
    signing_ca_key=None,
    ca_timeout=600,
    even_if_down=False,
    labels=None,
    labels_state="merge",
    labels_to_remove=None,
    data_path_addr=None,
    data_path_port=None,
    default_addr_pool=None,
    subnet_size=None,
    base_url=None,
    unlock_key_file=None,
):
    """
    Make sure that the swarm has these settings; what is not given stays as it is. To be applied to all nodes: any
    manager makes a change, the others find it made; a worker only gives up an unlock key it may have had as a manager.

    :param name: name of the cluster; a label only. The swarm itself is always called `default`
    :param autolock: True: a manager that restarts needs the unlock key; False: it does not
    :param unlock: with autolock: `keep` a copy of the key on each manager, so that it can unlock itself, or `never`
    :param task_history: finished tasks kept per slot of a service; -1: all
    :param heartbeat_tick: seconds between two heartbeats of the Raft leader
    :param election_tick: seconds without one until a new leader is elected; above heartbeat_tick
    :param snapshot_interval: Raft log entries between two snapshots
    :param keep_old_snapshots: older snapshots kept
    :param log_entries_for_slow_followers: log entries kept beyond a snapshot
    :param dispatcher_heartbeat: period of the nodes' heartbeats: seconds or "5s"
    :param cert_expiry: life of the nodes' certificates: seconds or "90d", "2160h"; an hour at least
    :param external_cas: list of {url, protocol (cfssl), options, ca_cert (PEM)}; all there are
    :param ca_force_rotate: counter; a higher number than the swarm's makes a new CA once
    :param signing_ca_cert: path, on the manager, of a CA certificate (PEM) that the swarm shall use
    :param signing_ca_key: path of its key, readable by its owner only
    :param ca_timeout: seconds until every node must have a certificate of a CA that this run began to rotate to
    :param even_if_down: True: begin to rotate the CA although nodes are down; it is not waited for then
    :param labels: labels of the swarm
    :param labels_state: `merge` them into those there are, or `replace` all
    :param labels_to_remove: names of labels that shall not be
    :param data_path_addr: as for `swarm.member`, like the next three: cannot be changed, a difference is a warning
    :param data_path_port: see there
    :param default_addr_pool: see there
    :param subnet_size: see there
    :param base_url: the engine's socket, as for `swarm.member`
    :param unlock_key_file: where the unlock key is kept; default as for `swarm.member`
    :return: Salt's state return; changes maps a setting, ca, unlock key or worker token to {old, new}; no key is in it

    .. code-block:: yaml

        swarm.cluster:
          swarm.cluster:
            - name: omega
            - task_history: 3
            - cert_expiry: 30d
    """
    given = dict(locals())
    return _carried_out(
        name,
        lambda: settings_run.Cluster(
            _engine(base_url),
            {key: given[key] for key in spec.NAMES},
            minion.keyring(__opts__, __pillar__, unlock_key_file),
            _store(),
            {key: given[key] for key in ("data_path_addr", *spec.FIXED)},
            __grains__.get("ip_interfaces", {}).get(data_path_addr) or [data_path_addr],
            (signing_ca_cert, signing_ca_key),
            unlock=unlock,
            ca_timeout=ca_timeout,
            even_if_down=even_if_down,
        ),
    )


def node(
    name,
    role=None,
    availability=None,
    labels=None,
    labels_state="merge",
    labels_to_remove=None,
    base_url=None,
):
    """
    Make sure that one node of the swarm has this role, availability and labels; what is not given stays. On a manager.

    :param name: hostname, if only one node has it, or NodeID
    :param role: `manager` or `worker`; a demotion that would cost the swarm its quorum is refused
    :param availability: `active`, `pause` or `drain`
    :param labels: mapping
    :param labels_state: `merge` them into those the node has, or `replace` all
    :param labels_to_remove: names of labels the node shall not have; one that is in `labels` too stays
    :param base_url: the engine's socket, as for `swarm.member`
    :return: Salt's state return; changes may have role, availability, labels

    .. code-block:: yaml

        rpiomega-4:
          swarm.node:
            - availability: active
            - labels: {disk: ssd}
    """
    wanted = {
        "role": role,
        "availability": availability,
        "labels": labels,
        "labels_state": labels_state,
        "labels_to_remove": labels_to_remove,
    }
    ret = {"name": name, "result": False, "changes": {}, "comment": ""}
    test = __opts__["test"]
    try:
        engine = _engine(base_url)
        changes = waits.retried(lambda: settings_node.apply(engine, name, test=test, **wanted), engine, test)
    except SwarmError as error:
        if test and error.kind in ("inactive", "pending"):
            comment = f"{__opts__['id']}: once swarm.member has made it a manager ({error})"
            return {**ret, "result": None, "comment": comment}
        return _failed(ret, __opts__["id"], error)
    would = "would change" if test else "changed"
    ret["changes"], ret["result"] = changes, None if changes and test else True
    ret["comment"] = f"{name}: {would} {', '.join(changes)}" if changes else f"{name} is as wanted"
    return ret


def stack(
    name,
    compose,
    env=None,
    prune=False,
    resolve_image="changed",
    with_registry_auth=False,
    wait=True,
    timeout=300,
    docker="docker",
    home="/root",
    base_url=None,
):
    """
    Make sure that a stack runs as its compose files say. To be applied to managers: a lock in Consul lets one of them
    deploy, and only what would change something. A change by hand of what the files say is found and undone.

    :param name: the stack's name: small letters, digits, - and _
    :param compose: a compose file, or a list of them, each laid over the ones before: a path on the manager, a file of
        the master (`salt://a/b.yml` or `a/b.yml`), or the content itself as a mapping. Relative paths start from the
        first file's folder, for content from the root of the master's files; files there come along. A host path that
        the nodes do not have (`./html:/x`) is refused
    :param env: mapping of values for `${NAME}` in the files; hidden in what is returned
    :param prune: True: services that the files do not name any more are removed
    :param resolve_image: when the registry is asked for an image's digest: `always`, `changed` (when the image's name
        does) or `never`
    :param with_registry_auth: True: the nodes get the registry login of `home`
    :param wait: True: until all services run, judged by their tasks; an update that the engine rolls back is a failure
    :param timeout: seconds to wait for other managers, and for the services
    :param docker: the docker command
    :param home: folder whose .docker/config.json holds registry logins
    :param base_url: the engine's UNIX socket, as for `swarm.member`
    :return: Salt's state return; changes maps each service, network, config or secret to {old, new}, or a service to
        its fields; after a failure what was done before it

    .. code-block:: yaml

        web:
          swarm.stack:
            - compose: web/compose.yml
            - prune: True
    """
    options = {"prune": prune, "resolve_image": resolve_image, "with_registry_auth": with_registry_auth}
    options.update(env=env, wait=wait, timeout=timeout, docker=docker, home=home)
    return _carried_out(
        name,
        lambda: stack_run.Present(_engine(base_url), _store(), name, compose, _fetch, **options),
    )


def stack_absent(name, timeout=300, base_url=None):
    """
    Make sure that there is no such stack: its services, then its secrets, configs and networks, until its last task
    has ended. Volumes stay, as with `docker stack rm`. To be applied to managers.

    :param name: the stack's name
    :param timeout: seconds to wait for other managers, and until all is gone
    :param base_url: the engine's socket, as for `swarm.member`
    :return: Salt's state return; changes maps what is removed to {old, new}

    .. code-block:: yaml

        web:
          swarm.stack_absent: []
    """
    return _carried_out(name, lambda: stack_run.Absent(_engine(base_url), _store(), name, timeout))


def _fetch(source, path):
    """Copy a file of the master; return a path of it, or "" if the master has no such file."""
    return __salt__["cp.get_file"](source, path, makedirs=True)
