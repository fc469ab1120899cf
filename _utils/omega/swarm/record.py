"""
What the cluster's nodes publish to each other in Consul about their swarm.

`record` is the permanent two-phase mark of the swarm's birth: "initializing" is written before `swarm init`,
"ready" with the ClusterID after it. It is made only where there was none, by the holder of the election lock,
and never deleted, so there is no moment at which two nodes may initialise. "vacant" marks an attempt that is
known to have formed nothing. The worker token is the only secret among them; no manager token is ever written.
"""

import datetime
import logging
import threading
from dataclasses import dataclass, field, replace
from typing import Optional

from omega.consul import lock as consul_lock
from omega.consul import policies
from omega.consul.client import ConsulError

log = logging.getLogger(__name__)

PREFIX = policies.SWARM
LOCK = PREFIX + "lock"
RECORD = PREFIX + "record"
TOKEN = policies.WORKER_TOKEN
ROTATION_LOCK = PREFIX + "rotation-lock"
ROTATION_WAIT = 20.0  # seconds for another manager that is making the tokens new
NODES = PREFIX + "nodes/"
UNLISTED = PREFIX + "unlisted/"  # <name>: {"node_id"} that a manager does not find in the swarm's node list
DEMOTED = PREFIX + "demoted/"
PRESENCE_TTL = 10  # seconds, Consul's minimum: a run that was killed is gone for the others after at most twice that
PRESENCE_RENEW = 4
INITIALIZING, READY, VACANT = "initializing", "ready", "vacant"


@dataclass(frozen=True)
class Record:
    """The mark of the swarm's birth."""

    state: str  # INITIALIZING, READY or VACANT
    by: str  # name of the node that wrote it
    fence: int  # of the lock under which it was written
    cluster_id: str = ""
    at: str = ""  # when it was written, by that node's clock
    index: int = 0  # its ModifyIndex
    # NodeIDs of managers that were given up when the swarm was re-created from one survivor (swarm.force_new_cluster).
    lost: tuple = ()

    def value(self):
        """The JSON value to write."""
        value = {
            "state": self.state,
            "by": self.by,
            "fence": self.fence,
            "cluster_id": self.cluster_id or None,
            "at": self.at or _now(),
        }
        return {**value, "lost": list(self.lost)} if self.lost else value


@dataclass(frozen=True)
class Published:
    """What a node publishes of itself."""

    node_id: str = ""
    cluster_id: str = ""
    address: str = ""
    role_now: str = ""  # worker, manager, or empty while it is not in the swarm
    previous: tuple = ()  # NodeIDs this node had before
    present: bool = False  # its run is going on
    problem: str = ""  # why it must not be promoted
    wish: str = ""  # "demotion" while its run waits for that
    at: str = field(default="", compare=False)  # when it wrote that, by its clock

    def value(self):
        """The JSON value to write."""
        value = {
            "node_id": self.node_id or None,
            "cluster_id": self.cluster_id or None,
            "address": self.address,
            "role_now": self.role_now or None,
            "previous": list(self.previous),
            "at": _now(),
        }
        return {**value, **{key: text for key, text in (("problem", self.problem), ("wish", self.wish)) if text}}


@dataclass(frozen=True)
class Snapshot:
    """All keys at one moment."""

    record: Optional[Record] = None
    holder: str = ""  # who has the election lock
    token_cluster: str = ""  # ClusterID of the swarm that the worker token is of
    published: dict = field(default_factory=dict)  # {name: Published}
    stale: bool = False  # Consul has no leader: this is what one server knows
    unlisted: dict = field(default_factory=dict)  # {name: NodeID} that the managers miss in the swarm's node list
    token: str = field(default="", repr=False)  # the worker token, never to be logged or returned
    demoted: dict = field(default_factory=dict)  # {name: NodeID} of managers that others demoted to let them join again


def _now():
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def _parse(entry):
    data = entry.json()
    if not isinstance(data, dict):
        raise ConsulError("bad_request", f"Consul key {entry.key}: expected a JSON object")
    return data


def _record(entry):
    data = _parse(entry)
    if data.get("state") not in (INITIALIZING, READY, VACANT):
        raise ConsulError("bad_request", f"Consul key {entry.key}: unknown state {data.get('state')!r}")
    if data["state"] == INITIALIZING and not data.get("by"):
        raise ConsulError("bad_request", f"Consul key {entry.key}: initializing without the node (`by`)")
    if data["state"] == READY and not data.get("cluster_id"):
        raise ConsulError("bad_request", f"Consul key {entry.key}: ready without a cluster_id")
    return Record(
        data["state"],
        str(data.get("by") or ""),
        int(data.get("fence") or 0),
        data.get("cluster_id") or "",
        data.get("at") or "",
        entry.modify_index,
        tuple(data.get("lost") or ()),
    )


def _published(entry):
    """What is none of our entries counts as empty: each node writes its own, and must not stop all others by it."""
    try:
        data = _parse(entry)
    except ConsulError as error:
        log.warning("%s; `swarm.member` on that node rewrites it", error)
        data = {}
    names = ("node_id", "cluster_id", "address", "role_now", "problem", "wish", "at")
    said = {name: data[name] for name in names if isinstance(data.get(name), str)}
    former = data.get("previous") if isinstance(data.get("previous"), list) else []
    previous = tuple(node_id for node_id in former if isinstance(node_id, str))
    return Published(**said, previous=previous, present=bool(entry.session))


def snapshot_of(entries, stale=False):
    """Return the Snapshot of Consul's entries below PREFIX."""
    record, holder, token_cluster, token = None, "", "", ""
    published, unlisted, demoted = {}, {}, {}
    for entry in entries:
        if entry.key == RECORD:
            record = _record(entry)
        elif entry.key == LOCK and entry.session:
            holder = str(_parse(entry).get("node") or f"session {entry.session}")
        elif entry.key == TOKEN:
            data = _parse(entry)
            token_cluster, token = data.get("cluster_id") or "", data.get("token") or ""
        elif entry.key.startswith(NODES) and entry.key != NODES:
            published[entry.key[len(NODES) :]] = _published(entry)
        elif entry.key.startswith(UNLISTED) and entry.key != UNLISTED:
            unlisted[entry.key[len(UNLISTED) :]] = _published(entry).node_id
        elif entry.key.startswith(DEMOTED):
            demoted[entry.key[len(DEMOTED) :]] = entry.text()
    return Snapshot(
        record=record,
        holder=holder,
        token_cluster=token_cluster,
        published=published,
        stale=stale,
        unlisted=unlisted,
        token=token,
        demoted=demoted,
    )


class Store:
    """The swarm's keys, read and written for `node`."""

    def __init__(self, client, node):
        self.client, self.node = client, node
        self._session, self._over = None, threading.Event()

    def snapshot(self, stale_allowed=False):
        """
        Snapshot by one consistent read; with `stale_allowed`, and no leader in Consul, by a stale one, marked so.
        """
        try:
            return snapshot_of(self.client.list(PREFIX))
        except ConsulError as error:
            if error.kind != "no_leader" or not stale_allowed:
                raise
            return snapshot_of(self.client.list(PREFIX, stale=True), stale=True)

    def hold(self, wait):
        """Context manager: the election lock."""
        return consul_lock.hold(self.client, LOCK, self.node, wait=wait)

    def hold_rotation(self):
        """Context manager: the lock under which the worker token is rotated, and its copy in Consul written."""
        return consul_lock.hold(self.client, ROTATION_LOCK, self.node, wait=ROTATION_WAIT)

    def record(self):
        """Record, None if there is none."""
        entry = self.client.get(RECORD)
        return _record(entry) if entry else None

    def write_record(self, lock, state, cluster_id="", before=None):
        """
        Write the record under the lock in place of `before` (None: there must be none); returns the new one.

        :raises ConsulError: "conflict" if it has changed, "lost" if the lock is not ours any more
        """
        if before and before.state == READY:
            raise ConsulError("conflict", f"Consul key {RECORD}: swarm {before.cluster_id} is recorded for good")
        return self._replace(lock, before, Record(state, self.node, lock.fence, cluster_id, _now()))

    def raise_fence(self, lock, before, lost):
        """
        Write, in place of the ready record `before`, one of the same swarm with this node, the lock's fence and the
        NodeIDs `lost` added to those given up; returns the new one.
        """
        given_up = tuple(dict.fromkeys([*before.lost, *lost]))
        return self._replace(lock, before, replace(before, by=self.node, fence=lock.fence, at=_now(), lost=given_up))

    @staticmethod
    def _replace(lock, before, new):
        return replace(new, index=lock.write(RECORD, new.value(), before.index if before else 0))

    def write_token(self, token, cluster_id):
        """Publish the worker token of `cluster_id`."""
        self.client.put(TOKEN, {"token": token, "cluster_id": cluster_id})

    def token(self, cluster_id):
        """The worker token of `cluster_id`, or None. For this project's own use: never return it."""
        entry = self.client.get(TOKEN)
        data = _parse(entry) if entry else {}
        return data.get("token") if data.get("cluster_id") == cluster_id else None

    def write_demoted(self, name, node_id):
        """Let node `name` know that a manager has demoted its NodeID: its engine may not learn that from the swarm."""
        self.client.put(f"{DEMOTED}{name}", node_id)

    def forget_demoted(self, name):
        """Delete what `write_demoted` wrote."""
        self.client.delete(f"{DEMOTED}{name}")

    # -- this node's own entry ------------------------------------------------------------------------------

    def show_presence(self):
        """Let the others see that this node's run is going on, until `end_presence` or the process has ended."""
        if self._session is None:
            name = f"{NODES}{self.node}"
            self._session = self.client.session_create(name, ttl=PRESENCE_TTL, lock_delay=0)
            arguments = (self.client.clone(), self._session)
            threading.Thread(target=self._renew, args=arguments, name=f"renew {name}", daemon=True).start()

    def _renew(self, client, session):
        while not self._over.wait(PRESENCE_RENEW):
            try:
                client.session_renew(session)
            except ConsulError as error:
                if error.kind == "lost":
                    return
                log.info("%s: its presence is not renewed: %s", self.node, error)

    def publish(self, published):
        """Write this node's entry; it shows that the run goes on, if `show_presence` was called."""
        key, value = f"{NODES}{self.node}", published.value()
        try:
            held = self._session and self._take(key, value)
        except ConsulError as error:
            if "invalid session" not in str(error):  # it ended while this process stood still
                raise
            self._session = None
            self.show_presence()
            held = self._take(key, value)
        if not held:  # no `show_presence`, or another run on this node took it at this very moment
            self.client.put(key, value)

    def _take(self, key, value):
        """
        Write the own entry and hold it; whether it is held. Its holder is a former run, most often one that was
        killed: with that session, which lives for up to twice the TTL, this run's presence would end too.
        """
        if self.client.put(key, value, acquire=self._session):
            return True
        entry = self.client.get(key)
        if entry and entry.session:
            self.client.session_destroy(entry.session)
        return self.client.put(key, value, acquire=self._session)

    def end_presence(self):
        """End what `show_presence` began; the entry stays."""
        self._over.set()
        if self._session:
            session, self._session = self._session, None
            entry = self.client.get(f"{NODES}{self.node}")
            if entry and entry.session == session:
                self.client.put(entry.key, entry.value, release=session)
            self.client.session_destroy(session)
