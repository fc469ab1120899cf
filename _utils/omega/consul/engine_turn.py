"""
One manager at a time: what a manager of the swarm does around a stop of its own engine.

All managers may want to restart their engines at the same moment: a new setting or release, applied everywhere at
once. Each takes a lock in Consul, looks whether the swarm keeps its quorum meanwhile, acts, and gives the lock back
only when the swarm calls it reachable again. A Consul server is also a container of that engine, so it takes its turn
among the servers too (`omega.consul.restart`), and the lock's session must outlive the agent it was made through: it
has no health check, and a TTL longer than a restart.
"""

import os
import socket
from urllib.parse import urlsplit

from omega.consul import client as consul_client
from omega.consul import lock as consul_lock
from omega.consul import restart
from omega.consul.client import ConsulError
from omega.consul.policies import SWARM
from omega.core.polling import until_clear
from omega.docker import engine, service

LOCK = SWARM + "engine"
TTL = 300
WAIT = 1800  # seconds for one's turn: others may be upgrading from a slow card
SPARE_BOUND = 120
BACK_BOUND = 180


def in_turn(node, act, consul, base_url=engine.SOCKET, wait=WAIT):
    """
    Call `act`, which stops the engine and starts it again, when the swarm can do without this node.

    An engine that does not answer has nothing to protect: `act` is called at once. A worker, or a node in no swarm,
    takes its turn among Consul's servers only, if it is one. Where salt-ssh works, without the SDK and py-consul, such
    a node needs no turn if no agent of Consul is there either; a manager among others is left alone.

    :param node: this node's name
    :param act: called without arguments; returns what went wrong in words, or None
    :param consul: called without arguments, gives an omega.consul.client.Client of this node's agent
    :param base_url: the engine's socket
    :param wait: seconds to wait for the turn
    :return: what went wrong in words, or None
    """
    try:
        swarm = _swarm(base_url)
    except engine.EngineError as error:
        return f"the engine of {node} was left alone: {error}"
    if swarm is None:
        return act()
    active = swarm["LocalNodeState"] == "active"
    before = True
    try:
        if not active or not swarm.get("ControlAvailable") or _alone(swarm):
            return _among_servers(consul, node, act, base_url)
        client = consul()
        client.wait_ready(SPARE_BOUND)
        with consul_lock.hold(client, LOCK, node, ttl=TTL, wait=wait, checks=[]) as lock:
            problem = _spared(node, base_url)
            if problem:
                return problem
            lock.verify()
            before = False
            problem = _restarted(client, node, act, base_url) or _back(node, base_url)
            if problem is None:
                client.wait_ready(BACK_BOUND)
            return problem
    except ConsulError as error:
        what = "was left alone, because it could not take its turn" if before else "restarted, and Consul is not back"
        cure = f"run `rpiomega bootstrap {node}`" if error.kind == "missing" else "see `docker logs rpiomega-consul`"
        problem = f"the engine of {node} {what}: {error}; {cure}, then apply again"
        return problem if before else _with_engine(node, base_url, problem)
    except engine.SdkError as error:
        return f"the engine of {node} was left alone: {error}, then apply again"


def _alone(swarm):
    """Return whether a manager is the only one. Without a leader /info counts no managers; it still lists them."""
    return (swarm.get("Managers") or len(swarm.get("RemoteManagers") or ()) or 1) == 1


def restart_unsound(node, consul, base_url=engine.SOCKET):
    """
    Restart this host's engine, where it is no working part of the swarm (any more): the swarm's quorum does not need
    it, only Consul's may. Returns what went wrong in words, or None.

    :param consul: as for `in_turn`
    """
    try:
        name = engine.info(base_url, timeout=30).get("Name")
        if name != os.uname().nodename:
            return f"the engine at {base_url} is that of {name}"
        problem = _among_servers(consul, node, service.Service().restart, base_url)
        if problem is None:
            consul().wait_ready(BACK_BOUND)
        return problem
    except (ConsulError, engine.EngineError) as error:
        return str(error)


def _restarted(client, node, act, base_url):
    """Call `act` in this node's turn among Consul's servers; return what went wrong, or None."""
    results = []

    def watched():
        results.append(act())
        return results[-1]

    problem = restart.in_turn(client, node, watched)[0]
    # Consul's server is a container of this engine: what it waits for in vain may be the engine.
    return _with_engine(node, base_url, problem) if problem and results == [None] else problem


def _with_engine(node, base_url, problem):
    """Return a problem that was seen after a restart, with what the engine says is wrong with itself before it."""
    try:
        error = engine.info(base_url, timeout=30)["Swarm"].get("Error")
        cause = f"says of its swarm: {error}" if error else ""
    except engine.AbsentError:
        cause = f"does not answer ({service.Service().last_error() or 'its log names no error'})"
    except engine.EngineError as error:
        cause = f"is not well: {error}"
    if not cause:
        return problem
    return f"the Docker Engine of {node} {cause}; see `journalctl -u docker` on {node}. So {problem}"


def _among_servers(consul, node, act, base_url):
    """Take a turn among Consul's servers only, if there is a Consul at all."""
    client = None
    try:
        client = consul()
        client.leader()
    except ConsulError as error:
        # salt-ssh brings no py-consul, and sets up boards that have no Consul.
        if error.kind == "unreachable" or (error.kind == "missing" and not _agent_listens()):
            return act()
        if client is None or error.kind == "missing":
            raise
    return _restarted(client, node, act, base_url)


def _agent_listens():
    """Tell whether anything takes connections where this node's Consul agent would."""
    agent = urlsplit(consul_client.DEFAULT_URL)
    try:
        socket.create_connection((agent.hostname, agent.port), consul_client.CONNECT_TIMEOUT).close()
    except ConnectionRefusedError:
        return False
    except OSError:
        return True  # a frozen one may be there
    return True


def _swarm(base_url):
    """Return what the engine says of its swarm; None if no engine answers.

    :raises omega.docker.engine.EngineError: nobody can tell whether it is a manager
    """
    try:
        return engine.info(base_url)["Swarm"]
    except engine.AbsentError:
        return None


def _spared(node, base_url):
    """Wait until the other managers are a quorum without this one; return what went wrong, or None."""
    return _wait(SPARE_BOUND, base_url, _can_be_spared, f"the engine of {node} was left alone: {{}}")


def _back(node, base_url):
    """Wait until the swarm reaches this manager again; return what went wrong, or None."""
    problem = _wait(BACK_BOUND, base_url, _is_back, f"{node} restarted its engine, and is no sound manager yet: {{}}")
    return problem and _with_engine(node, base_url, problem)


def _can_be_spared(me, managers):
    """Return why the swarm cannot do without the manager `me`, or None.

    :param me: this node's ID in the swarm
    :param managers: ``{ID: (hostname, reachable)}``; a node that was reinstalled is there twice under one hostname
    """
    lost = [node for node, (_, reachable) in managers.items() if not reachable]
    left = len(managers) - len(lost) - (me not in lost)
    # Of two managers neither can be spared: with both there it is a short outage, and no loss.
    if left >= len(managers) // 2 + 1 or (len(managers) == 2 and not lost):
        return None
    names = ", ".join(sorted(managers[node][0] for node in lost))
    return f"the swarm would lose its quorum, because {names} cannot be reached; bring it back, apply again"


def _is_back(me, managers):
    reached = managers.get(me, ("", False))[1]
    return None if reached else "the others do not reach it; see `docker node ls`, `journalctl -u docker`"


def _wait(bound, base_url, judge, text):
    problem = until_clear(lambda: _ask(base_url, judge), bound)
    return text.format(f"{problem} (waited {bound} s)") if problem else None


def _ask(base_url, judge):
    try:
        client = engine.connect(base_url, timeout=30)
        with engine.asking("the engine does not say who manages the swarm"):
            me = client.info()["Swarm"]["NodeID"]
            nodes = [node.attrs for node in client.nodes.list(filters={"role": "manager"})]
    except engine.SdkError:
        raise
    except engine.EngineError as error:
        return str(error)
    return judge(me, {node["ID"]: (_hostname(node), _reachable(node)) for node in nodes})


def _hostname(node):
    # A node that has joined and not yet reported has no description.
    return (node.get("Description") or {}).get("Hostname") or node["ID"]


def _reachable(node):
    # What a node was before it was reinstalled stays "reachable", because its address answers; its state is "down".
    status = node.get("ManagerStatus") or {}
    return status.get("Reachability") == "reachable" and node["Status"]["State"] == "ready"
