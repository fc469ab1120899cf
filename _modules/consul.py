"""
Consul: keys, transactions, sessions, locks, elections, the agent, catalog, health, ACLs, snapshots.

It replaces the ``consul`` module that Salt had in core until 3007, with the same functions and arguments. The
functions are written, each with its documentation, in ``_utils/omega/consul/exec/*.py``; here they get the
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

from omega.consul import client as consul_client
from omega.consul import recover, tokens, trouble
from omega.consul.exec import acl, agent, catalog, common, kv, servers, session, snapshot
from omega.core import pillar as salt_pillar
from omega.docker import containers, engine
from omega.secrets import store
from omega.site import nodes as site_nodes

__virtualname__ = "consul"
__func_alias__ = {"list_": "list"}

_SOURCES = (
    kv,
    session,
    agent,
    catalog,
)
_MANAGING = (acl, snapshot, servers)


def __virtual__():
    try:
        consul_client.load_library()
    except consul_client.ConsulError as error:
        return False, str(error)
    return __virtualname__


def _connect(consul_url, token):
    client = consul_client.from_salt(__opts__, __pillar__, consul_url, token)
    client.name = __opts__.get("id")
    return client


def _manage(consul_url, token):
    return _connect(consul_url, token or salt_pillar.management_token(__pillar__))


for _sources, _client in ((_SOURCES, _connect), (_MANAGING, _manage)):
    for _source in _sources:
        for _function in _source.FUNCTIONS:
            globals()[_function.__name__] = common.expose(_function, _client)


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
    site = salt_pillar.site(__pillar__)
    if not salt_pillar.management_token(__pillar__):
        return _no(f"{__opts__['id']} has no management token: run this on the master, {site_nodes.master(site)}")
    if node not in site_nodes.nodes(site):
        return _no(f"{node} is not among the site's nodes")
    client = _manage(None, None)
    try:
        client.wait_ready(0)  # before the file changes: a refused call must leave everything as it was
        token = store.Store(secrets).rotate_consul_token(node)
        tokens.node_token(client, site, node, token)
    except OSError as error:
        return _no(f"{node} keeps its token, no new one could be written: {error}")
    except consul_client.ConsulError as error:
        return {**common.failed(error), "success": False}
    return common.done(f"{node} has a new token; now: salt {node} state.apply consul")


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
    node, bound = __opts__["id"], common.seconds(timeout)
    try:
        found = containers.container(engine.connect(), container)
        if found is None:
            return _no(f"{node} has no container {container}: recover on a node that was a Consul server")
        folder, address = recover.place(found.attrs)
        client = _connect(None, None)
        recover.check_lost(client, node, lambda: time.sleep(recover.PAUSE))
        peer = recover.peers(folder, address)
        if confirm != node:
            text = f"would make {node} ({peer[0]['address']}, {folder}) Consul's only server and restart {container}"
            return _no(f"{text}; to do it: confirm={node}")
        start = f"`docker start {container}`"
        with engine.asking(f"container {container} did not stop, so nothing was written", f"{start}, run again"):
            found.stop(timeout=20)
        try:
            recover.write(folder, address)
        finally:
            with engine.asking(f"container {container} does not start", f"run {start}"):
                found.start()
        try:
            recover.wait_leader(client, node, bound)
        except consul_client.ConsulError as error:
            raise consul_client.ConsulError(error.kind, trouble.explained(error, container)) from None
    except engine.EngineError as error:
        return _no(str(error))
    except OSError as error:
        return _no(f"{node}: peers.json was not written, {container} runs with its old peers again: {error}")
    except consul_client.ConsulError as error:
        return {**common.failed(error), "success": False}
    return common.done(
        f"{node} leads Consul alone, with its data; empty servers join it by themselves: consul.wait_voters"
    )


def _no(message):
    return {**common.refused(message, "bad_request"), "success": False}
