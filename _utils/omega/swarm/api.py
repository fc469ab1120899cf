"""
Swarm calls to one Docker Engine, with one kind of error that says which state the node is in.

Facts of the engine that shape this file:

- 503 means both "not a manager" and "no leader"; only /info tells them apart (LocalNodeState,
  ControlAvailable, Error). On a manager without a leader /info itself may take 20 s, its inner time-out
  (measured on 20.10), so it gets INFO_TIMEOUT.
- A worker's /info holds no ClusterID. The node's certificate does: subject O is the cluster, OU the role, CN
  the NodeID (swarmkit ca/certificates.go; measured on 20.10).
- `node update` replaces the whole spec, labels too, and needs the version just read; a concurrent update is
  refused as "update out of sequence". So every update here is read, merge, write, and again if refused.
- `swarm update` fills what is left out with defaults: send the spec as it was read.
"""

import copy
import datetime
import time
from dataclasses import dataclass, field
from typing import Optional

from omega.core import engine_fit
from omega.core.errors import KindOfFailure
from omega.docker import engine as docker_engine
from omega.docker import store
from omega.swarm.certificate import certificate, never_member, started_with

SOCKET = docker_engine.SOCKET
INFO_TIMEOUT = 25
ACT_TIMEOUT = 40  # `join` and `init` answer within 20 s by themselves
CONFLICT_RETRIES = 5
PORT = 2377
WORKER, MANAGER = "worker", "manager"


class SwarmError(KindOfFailure):
    """
    A swarm call failed; str() is one line with the cause and the next step, never a token.

    kind: "no_daemon", "timeout", "inactive", "pending", "locked", "error", "not_manager", "no_leader",
    "not_found", "conflict", "refused" (this project's own rule) or "api" (anything else the engine said).
    """

    TRANSIENT = frozenset({"no_daemon", "timeout", "pending", "no_leader", "conflict"})


@dataclass(frozen=True)
class Local:
    """This node as its own engine describes it. state: inactive, pending, active, locked or error."""

    state: str = "inactive"
    node_id: str = ""
    cluster_id: str = ""
    control: bool = False
    error: str = ""
    address: str = ""
    hostname: str = ""
    managers: tuple = ()
    joined: bool = False  # a node certificate exists
    warnings: tuple = ()
    engine: dict = field(default_factory=dict, hash=False)  # what engine_fit judges of its /info
    data_root: str = ""
    image_root: str = ""  # where it keeps images apart from that
    certified: str = ""  # role in the node certificate
    begins: Optional[datetime.datetime] = None  # of the node certificate
    expires: Optional[datetime.datetime] = None
    unaccepted: bool = False  # in "pending" or "error", and its files show that no manager has accepted it yet

    @property
    def leaderless(self):
        """A manager that has no Raft leader to ask."""
        return self.state == "active" and self.control and bool(self.error)

    @property
    def role(self):
        """Role as far as the engine knows it; empty outside of a swarm."""
        return "" if self.state != "active" else MANAGER if self.control else WORKER


@dataclass(frozen=True)
class Node:
    """One entry of the swarm's node list."""

    id: str
    hostname: str
    role: str
    availability: str
    state: str
    address: str = ""
    leader: bool = False
    reachable: bool = False
    labels: dict = field(default_factory=dict)
    created: Optional[datetime.datetime] = None  # by the leader's clock

    @property
    def ready(self):
        """The engine there answers the managers."""
        return self.state == "ready"

    @classmethod
    def of(cls, attrs):
        """Node of one decoded item of the engine's answer."""
        spec, manager = attrs.get("Spec") or {}, attrs.get("ManagerStatus") or {}
        state = (attrs.get("Status") or {}).get("State", "")
        return cls(
            id=attrs["ID"],
            hostname=(attrs.get("Description") or {}).get("Hostname", ""),
            role=spec.get("Role", ""),
            availability=spec.get("Availability", ""),
            state=state,
            address=(attrs.get("Status") or {}).get("Addr", ""),
            leader=bool(manager.get("Leader")),
            # The former entry of a reinstalled board at its address stays reachable, for the board answers there; it
            # votes no more (seen on 20.10).
            reachable=manager.get("Reachability") == "reachable" and state != "down",
            labels=spec.get("Labels") or {},
            created=_moment(attrs.get("CreatedAt")),
        )


def _moment(text):
    """Return the time, to the second, of the engine's "2026-01-02T03:04:05.678901234Z"; None if it is no time."""
    try:
        return datetime.datetime.fromisoformat(f"{text[:19]}+00:00")
    except (TypeError, ValueError):
        return None


def describe(local):
    """Return one clause on the state of this node, with what to do if it is not a usable one."""
    if local.state == "locked":
        return "the swarm state of this node is locked: run `docker swarm unlock` on this node with the unlock key"
    if local.state == "error":
        return (
            f"the engine reports its swarm state as broken: {local.error or 'no cause given'}; see "
            "`journalctl -u docker`; to give up this node's membership run `docker swarm leave` by hand"
        )
    if local.state == "pending":
        where = ", ".join(local.managers) or "no manager known"
        return f"the engine is still trying to join a swarm ({where})"
    if local.state == "inactive":
        return "this node is in no swarm"
    if local.leaderless:
        return (
            f"the swarm has no leader, too few of its managers are reachable ({local.error}); "
            "bring managers back: the swarm then recovers"
        )
    return f"this node is a {local.role} of swarm {local.cluster_id or '(unknown)'}"


def demotion_problem(nodes, node_id):
    """
    Return why the manager `node_id` must stay one, empty if it need not: of the managers that stay, a majority
    must be reachable. (swarmkit refuses some of these, after the call: manager/controlapi/node.go.)

    :param nodes: Nodes of the whole swarm
    """
    # An entry without a hostname is of a join that has not ended: no member of Raft yet.
    stay = [node for node in nodes if node.role == MANAGER and node.id != node_id and node.hostname]
    if not stay:
        return "it is the last manager: promote another node first, or end the swarm by hand"
    reachable = [node for node in stay if node.reachable]
    if len(reachable) <= len(stay) // 2:
        return (
            f"without it only {len(reachable)} of {len(stay)} managers would be reachable, and the quorum lost: bring "
            "the others back or promote another node first"
        )
    return ""


def local_of(info, cert, unaccepted=False):
    """Return the Local of a decoded /info, this node's certificate, and what its files say of a join under way."""
    swarm = info.get("Swarm") or {}
    state = swarm.get("LocalNodeState") or "inactive"
    cluster_id = (swarm.get("Cluster") or {}).get("ID") or cert.get("cluster_id", "")
    return Local(
        state=state,
        node_id=swarm.get("NodeID") or cert.get("node_id", ""),
        cluster_id="" if state == "inactive" else cluster_id,
        control=bool(swarm.get("ControlAvailable")),
        error=swarm.get("Error") or "",
        address=swarm.get("NodeAddr") or "",
        hostname=info.get("Name") or "",
        managers=tuple(sorted(peer["Addr"] for peer in swarm.get("RemoteManagers") or [])),
        joined=bool(cert) and state != "inactive",
        warnings=("memory",) if info.get("MemoryLimit") is False else (),
        engine={key: info[key] for key in engine_fit.INFO if key in info},
        data_root=info.get("DockerRootDir") or "",
        image_root=store.image_root(info),
        certified=cert.get("role", ""),
        begins=cert.get("begins"),
        expires=cert.get("expires"),
        unaccepted=unaccepted and not swarm.get("NodeID"),
    )


class Engine:
    """The Docker Engine behind one socket. Connects at the first call, so it can be made without a daemon."""

    def __init__(self, base_url=None, timeout=INFO_TIMEOUT):
        self.base_url, self.timeout = base_url or SOCKET, timeout
        self._connected = None

    def close(self):
        """Give up the connection; the next call makes a new one."""
        if self._connected:
            self._connected.close()
            self._connected = None

    @property
    def api(self):
        """The SDK's low-level client."""
        if self._connected is None:
            try:
                self._connected = docker_engine.connect(self.base_url, self.timeout)
            except docker_engine.EngineError as error:
                raise SwarmError("no_daemon", str(error)) from error
        return self._connected.api

    def _call(self, what, function, *args, explain=True, **kwargs):
        import docker
        import requests

        try:
            return function(*args, **kwargs)
        except docker.errors.APIError as error:
            raise self._failure(what, error, explain) from None
        except requests.exceptions.ReadTimeout:
            self.close()
            raise SwarmError("timeout", f"{what}: the engine at {self.base_url} gave no answer in time") from None
        except (requests.exceptions.RequestException, docker.errors.DockerException, OSError) as error:
            self.close()
            cause = f"no Docker Engine answers at {self.base_url}; see `journalctl -u docker`"
            raise SwarmError("no_daemon", f"{what}: {cause} ({type(error).__name__})") from None

    def _failure(self, what, error, explain):
        said = " ".join(str(error.explanation or error).split())
        if error.status_code == 404:
            return SwarmError("not_found", f"{what}: {said}")
        if "update out of sequence" in said:
            return SwarmError("conflict", f"{what}: {said}")
        if "lost leader status" in said:  # an election in the middle of this very call: it may have been carried out
            return SwarmError("no_leader", f"{what}: {said}")
        if explain and "code = DeadlineExceeded" in said:  # the other managers were too slow to agree
            cure = "see the network between the managers with `rpiomega doctor`"
            return SwarmError("timeout", f"{what}: the swarm's managers did not agree in time ({said}); {cure}")
        if explain:
            local = self.local()
            kind = "no_leader" if local.leaderless else local.state if local.state != "active" else ""
            kind = kind or ("" if local.control else "not_manager")
            if kind and error.status_code in (406, 500, 503):
                return SwarmError(kind, f"{what}: {describe(local)}")
        return SwarmError("api", f"{what}: {said}")

    # -- reading -------------------------------------------------------------------------------------------

    def info(self):
        """Decoded /info."""
        return self._call("reading /info", self.api.info, explain=False)

    def local(self):
        """Local of this node."""
        info = self.info()
        state = (info.get("Swarm") or {}).get("LocalNodeState") or "inactive"
        folder = info.get("DockerRootDir") or ""
        cert = certificate(folder) if state != "inactive" else {}
        return local_of(info, cert, state in ("pending", "error") and never_member(folder))

    def nodes(self):
        """All nodes of the swarm; managers only."""
        return [Node.of(item) for item in self.raw_nodes()]

    def raw_nodes(self):
        """Decoded node descriptions; managers only."""
        return self._call("listing the nodes", self.api.nodes)

    def inspect_node(self, node_id):
        """Decoded node description by NodeID."""
        return self._call(f"inspecting node {node_id}", self.api.inspect_node, node_id)

    def find(self, name):
        """
        The Node that `name` means: a NodeID, or a hostname that only one node has.

        :raises SwarmError: "not_found"; "refused" if several nodes have that hostname
        """
        nodes = self.nodes()
        found = [node for node in nodes if node.id == name] or [node for node in nodes if node.hostname == name]
        if not found:
            raise SwarmError("not_found", f"the swarm has no node {name}")
        if len(found) > 1:
            listed = ", ".join(f"{node.id} ({node.state})" for node in found)
            raise SwarmError("refused", f"several nodes are called {name}, give the ID: {listed}")
        return found[0]

    def cluster(self):
        """Decoded cluster description without its join tokens; managers only."""
        attrs = dict(self._call("inspecting the swarm", self.api.inspect_swarm))
        attrs.pop("JoinTokens", None)
        return attrs

    def services(self):
        """Decoded service descriptions; managers only."""
        return self._call("listing the services", self.api.services)

    def listed(self, kind, filters=None, **more):
        """
        Decoded descriptions of all "services", "tasks", "secrets", "configs" or "networks" that pass the engine's
        filters, as {"label": "a=b"}; managers only. `status=True` with services: how many tasks run.
        """
        return self._call(f"listing the {kind}", getattr(self.api, kind), filters=filters or {}, **more)

    def network_id(self, name):
        """ID of the swarm's network of that name, None if there is none."""
        try:
            return self._call("inspecting a network", self.api.inspect_network, name, scope="swarm")["Id"]
        except SwarmError as error:
            if error.kind != "not_found":
                raise
            return None

    def remove(self, kind, identity):
        """Remove one item of "services", "secrets", "configs" or "networks" by its ID."""
        self._call(f"removing {kind[:-1]} {identity}", getattr(self.api, f"remove_{kind[:-1]}"), identity)

    def running_tasks(self, node_id):
        """IDs of the tasks that a node is still to run, those of global services included; managers only."""
        filters = {"node": node_id, "desired-state": "running"}
        return [task["ID"] for task in self._call("listing the tasks", self.api.tasks, filters)]

    def worker_token(self):
        """The join token for workers. For this project's own use: never return it to a caller of Salt."""
        return self._call("reading the swarm", self.api.inspect_swarm)["JoinTokens"]["Worker"]

    # -- acting --------------------------------------------------------------------------------------------

    def unlock(self, key):
        """Unlock the swarm state of this manager; the key is in no message."""
        try:
            self._acting("unlocking the swarm state", "/swarm/unlock", {"UnlockKey": key}, explain=True)
        except SwarmError as error:
            raise SwarmError(error.kind, str(error).replace(key, "[key]")) from None

    def _acting(self, what, path, body, explain=False):
        # After an init or a join that failed /info says "inactive" (the engine drops the node): its words say why.
        def send():
            url = self.api._url(path)
            answer = self.api._post_json(url, body, timeout=ACT_TIMEOUT)
            self.api._raise_for_status(answer)

        return self._call(what, send, explain=explain)

    def init(self, address, **settings):
        """
        Make this node the first manager of a new swarm.

        :param address: advertise address, host or host:port; it cannot be changed later (swarmkit#642)
        :param settings: data_path_addr, data_path_port, default_addr_pool, subnet_size, listen_address, availability,
            spec (a decoded swarm spec)
        """
        body = {
            "ListenAddr": settings.get("listen_address") or f"0.0.0.0:{PORT}",
            "AdvertiseAddr": address,
            "DataPathAddr": settings.get("data_path_addr") or "",
            "DataPathPort": int(settings.get("data_path_port") or 0),
            "DefaultAddrPool": list(settings.get("default_addr_pool") or []),
            "SubnetSize": int(settings.get("subnet_size") or 0),
            "Spec": settings.get("spec") or {},
            "ForceNewCluster": False,
            "AutoLockManagers": False,
            "Availability": settings.get("availability") or "",
        }
        self._acting("initialising the swarm", "/swarm/init", body)

    def force_new_cluster(self, local):
        """
        Make this manager the only one of its swarm, which keeps its ClusterID, nodes and services. Two swarms exist
        if another manager is alive, so the checks are the caller's; the engine keeps the advertise address it had
        (docker/for-linux#523), and no other: those are sent as they were.

        :param local: Local of this node
        """
        former = started_with(local.data_root)
        body = {
            "ListenAddr": former.get("ListenAddr") or f"0.0.0.0:{PORT}",
            "AdvertiseAddr": local.address,
            "DataPathAddr": former.get("DataPathAddr") or "",
            "DataPathPort": former.get("DataPathPort") or 0,
            "Spec": {},
            "ForceNewCluster": True,
        }
        self._acting("making this manager the only one", "/swarm/init", body)

    def join(self, manager, token, address, data_path_addr="", listen_address="", availability=""):
        """
        Ask to join through one manager (the engine uses only the first of several: moby#26646). Returns when joined.

        :raises SwarmError: "api" also if the engine goes on in the background, as it does after 20 s: see `local`
        """
        body = {
            "ListenAddr": listen_address or f"0.0.0.0:{PORT}",
            "AdvertiseAddr": address,
            "DataPathAddr": data_path_addr or "",
            "RemoteAddrs": [manager],
            "JoinToken": token,
            "Availability": availability or "",
        }
        self._acting(f"joining through {manager}", "/swarm/join", body)

    def leave(self):
        """Leave the swarm, never by force: a manager is refused."""
        self._call("leaving the swarm", self.api.leave_swarm, force=False)

    def remove_node(self, node_id):
        """Remove the entry of a node that has left, never by force."""
        self._call(f"removing node {node_id}", self.api.remove_node, node_id, force=False)

    def update_node(self, node_id, change):
        """
        Change a node's spec: read, `change(spec)` (a decoded spec; returns the new one), write.

        :return: (spec before, spec after); nothing is sent if they are equal
        :raises SwarmError: "conflict" if others changed the node each time in between
        """

        def update():
            attrs = self.inspect_node(node_id)
            before = attrs["Spec"]
            after = change(dict(before, Labels=dict(before.get("Labels") or {})))
            if after == dict(before, Labels=dict(before.get("Labels") or {})):
                return before, before
            self._call(f"updating node {node_id}", self.api.update_node, node_id, attrs["Version"]["Index"], after)
            return before, after

        return _despite_conflicts(update, CONFLICT_RETRIES)

    def update_swarm(self, change, retries=CONFLICT_RETRIES, what="updating the swarm", **rotate):
        """
        Change the swarm's spec: read, `change(spec)` (a copy of the decoded spec; returns the new one), write the
        complete spec, because the engine gives defaults to what is left out.

        :param retries: attempts in all; between two of them the spec is read and changed again
        :param rotate: rotateWorkerToken, rotateManagerToken, rotateManagerUnlockKey: True to rotate
        :return: (spec before, spec after); nothing is sent if they are equal and nothing is to be rotated
        :raises SwarmError: "conflict" if others changed the swarm each time in between
        """

        def update():
            attrs = self._call("reading the swarm", self.api.inspect_swarm)
            before, after = attrs["Spec"], change(copy.deepcopy(attrs["Spec"]))
            if after == before and not rotate:
                return before, before
            params = {"version": attrs["Version"]["Index"], **dict.fromkeys(rotate, "true")}

            def send():
                url = self.api._url("/swarm/update")
                self.api._raise_for_status(self.api._post_json(url, after, params=params))

            self._call(what, send)
            return before, after

        return _despite_conflicts(update, retries)

    def rotate_token(self, role):
        """Make the join token of `role` (manager or worker) a new one; tokens given out before stop working."""
        rotate = {f"rotate{role.capitalize()}Token": True}
        self.update_swarm(lambda spec: spec, what=f"rotating the {role} token", **rotate)

    def unlock_key(self):
        """The key that unlocks managers, "" without autolock; managers only. Never return it to a caller of Salt."""
        return self._call("reading the unlock key", self.api.get_unlock_key).get("UnlockKey") or ""


def _despite_conflicts(update, attempts):
    """Return what `update()` returns, called again if somebody else has changed the same in between."""
    for attempt in range(1, attempts):
        try:
            return update()
        except SwarmError as error:
            if error.kind != "conflict":
                raise
        time.sleep(0.1 * attempt)
    return update()
