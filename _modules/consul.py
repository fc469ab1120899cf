"""
Consul: keys, transactions, sessions, locks, elections, the agent, catalog, health, ACLs, snapshots.

It replaces the ``consul`` module that Salt had in core until 3007, with the same functions and arguments. The
functions are written, each with its documentation, in ``_utils/omega_consul_exec_*.py``; here they get the
arguments all of them share, and Salt's configuration:

consul_url
    of the agent; default: ``consul.url`` of the minion's configuration or pillar, else http://127.0.0.1:8500
token
    ACL token; default: ``consul.token`` of the minion's configuration or pillar, else pillar
    ``rpiomega_secrets:consul:token``. Functions for ACLs, snapshots and servers take the management token, on the
    node whose pillar has it. Arguments stay in the master's job cache: rather configure it.

Every function returns ``{"res": bool, ...}`` with ``data`` or ``message`` (and ``kind`` where it failed:
unreachable, no_leader, timeout, denied, not_found, conflict, lost, bad_request) within the time-out
``consul.timeout``, 3 seconds by default; an argument that is missing, or no number where one is wanted, raises
SaltInvocationError (a missing ``enable`` or ``id``, and of the catalog ``node`` or ``address``, is ``res`` False, as it
was). Reads are consistent unless ``stale=True``. No return holds a token.

Requires py-consul.
"""

import time

import omega_consul
import omega_consul_cluster
import omega_consul_exec
import omega_consul_exec_acl
import omega_consul_exec_agent
import omega_consul_exec_catalog
import omega_consul_exec_kv
import omega_consul_exec_servers
import omega_consul_exec_session
import omega_consul_exec_snapshot
import omega_consul_recover
import omega_consul_trouble
import omega_containers
import omega_docker
import omega_secrets
import omega_site

__virtualname__ = "consul"
__func_alias__ = {"list_": "list"}

_SOURCES = (
    omega_consul_exec_kv,
    omega_consul_exec_session,
    omega_consul_exec_agent,
    omega_consul_exec_catalog,
)
_MANAGING = (omega_consul_exec_acl, omega_consul_exec_snapshot, omega_consul_exec_servers)


def __virtual__():
    try:
        omega_consul.load_library()
    except omega_consul.ConsulError as error:
        return False, str(error)
    return __virtualname__


def _connect(consul_url, token):
    client = omega_consul.from_salt(__opts__, __pillar__, consul_url, token)
    client.name = __opts__.get("id")
    return client


def _manage(consul_url, token):
    return _connect(consul_url, token or (__pillar__.get("rpiomega_secrets") or {}).get("management_token"))


for _sources, _client in ((_SOURCES, _connect), (_MANAGING, _manage)):
    for _source in _sources:
        for _function in _source.FUNCTIONS:
            globals()[_function.__name__] = omega_consul_exec.expose(_function, _client)


def rotate_node_token(node, secrets="/etc/rpiomega/secrets"):
    """
    Give a node a new Consul token and end the old one at once. On the master only; the node itself takes the new one
    with ``salt NODE state.apply consul``, and until then its agent is refused. The swarm does not notice.

    :param node: the node's name
    :param secrets: the folder of the cluster's secrets
    :return: ``{"res": True, "message": next step}``; no token is in it

    CLI Example:

    .. code-block:: bash

        salt rpiomega-master consul.rotate_node_token rpiomega-4
    """
    site = __pillar__.get("rpiomega") or {}
    if not (__pillar__.get("rpiomega_secrets") or {}).get("management_token"):
        return _no(f"{__opts__['id']} has no management token: run this on the master, {omega_site.master(site)}")
    if node not in omega_site.nodes(site):
        return _no(f"{node} is not among the site's nodes")
    client = _manage(None, None)
    try:
        client.wait_ready(0)  # before the file changes: a refused call must leave everything as it was
        token = omega_secrets.Store(secrets).rotate_consul_token(node)
        omega_consul_cluster.node_token(client, site, node, token)
    except OSError as error:
        return _no(f"{node} keeps its token, no new one could be written: {error}")
    except omega_consul.ConsulError as error:
        return {**omega_consul_exec.failed(error), "success": False}
    return omega_consul_exec.done(f"{node} has a new token; now: salt {node} state.apply consul")


def recover_peers(confirm=None, container="rpiomega-consul", timeout=60):
    """
    Let this Consul server go on alone, with all it has, after the other servers are lost for good. Anything only they
    knew is lost. Run it on one server, the one whose data is newest, and never while another with data may come back:
    wipe that one first. Without ``confirm`` it says what it would do; with a leader in the cluster it does nothing.

    :param confirm: this node's name
    :param container: of the agent
    :param timeout: seconds to wait for a leader afterwards
    :return: ``{"res": True, "message": ...}``; ``res`` False with what it would do, or with what went wrong

    CLI Example:

    .. code-block:: bash

        salt-call --local consul.recover_peers confirm=rpiomega-2
    """
    node, bound = __opts__["id"], omega_consul_exec.seconds(timeout)
    try:
        found = omega_containers.container(omega_docker.connect(), container)
        if found is None:
            return _no(f"{node} has no container {container}: recover on a node that was a Consul server")
        folder, address = omega_consul_recover.place(found.attrs)
        client = _connect(None, None)
        omega_consul_recover.check_lost(client, node, lambda: time.sleep(omega_consul_recover.PAUSE))
        peer = omega_consul_recover.peers(folder, address)
        if confirm != node:
            text = f"would make {node} ({peer[0]['address']}, {folder}) Consul's only server and restart {container}"
            return _no(f"{text}; to do it: confirm={node}")
        start = f"`docker start {container}`"
        with omega_docker.asking(f"container {container} did not stop, so nothing was written", f"{start}, run again"):
            found.stop(timeout=20)
        try:
            omega_consul_recover.write(folder, address)
        finally:
            with omega_docker.asking(f"container {container} does not start", f"run {start}"):
                found.start()
        try:
            omega_consul_recover.wait_leader(client, node, bound)
        except omega_consul.ConsulError as error:
            raise omega_consul.ConsulError(error.kind, omega_consul_trouble.explained(error, container)) from None
    except omega_docker.EngineError as error:
        return _no(str(error))
    except OSError as error:
        return _no(f"{node}: peers.json was not written, {container} runs with its old peers again: {error}")
    except omega_consul.ConsulError as error:
        return {**omega_consul_exec.failed(error), "success": False}
    return omega_consul_exec.done(
        f"{node} leads Consul alone, with its data; empty servers join it by themselves: consul.wait_voters"
    )


def _no(message):
    return {**omega_consul_exec.refused(message, "bad_request"), "success": False}
