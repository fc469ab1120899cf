"""
What only an operator may start, after something is lost for ever: give up an attempt to make the swarm, or make the
swarm again from the one manager that is left.

`force-new-cluster` with another manager alive makes two swarms of one ClusterID. So every sign of life of every other
manager ever known is looked for first, and what was given up is written to Consul before the act: a board that comes
back with its old state is then refused by `swarm.member`.
"""

import functools
import logging

from omega.core.polling import until_clear
from omega.swarm import check
from omega.swarm.api import MANAGER, SwarmError, describe
from omega.swarm.certificate import autolocked
from omega.swarm.record import INITIALIZING, READY, VACANT
from omega.swarm.waits import until_led

log = logging.getLogger(__name__)

LOCK_WAIT = 60


def _refuse(text):
    raise SwarmError("refused", text)


def take_over(store, node, address):
    """
    Mark the open attempt of `node` to initialise the swarm as given up; returns (Record before, Record after).

    :param address: the node's address in the site, None if the site has it no more
    :raises SwarmError: "refused" if no attempt of that node is open, or if the node shows any sign of life
    """
    with store.hold(wait=LOCK_WAIT) as lock:
        before = store.record()
        if before is None or before.state != INITIALIZING:
            _refuse("nothing to take over: no node's attempt to initialise is open")
        if before.by != node:
            _refuse(f"the open attempt is of {before.by}, not of {node}")
        if node in store.client.alive():
            _refuse(f"{node} is alive in Consul: apply the state swarm there, that ends its attempt either way")
        if address and check.answering({node: address}):
            _refuse(f"{address}:{check.CONTROL} answers, so {node} runs a swarm: apply the state swarm there")
        return before, store.write_record(lock, VACANT, before=before)


class Survivor:
    """
    One call of `swarm.force_new_cluster` on the manager that is left.

    :param managers: {name: address} of the other managers of the site
    """

    def __init__(self, engine, store, managers, bound=120):
        self.engine, self.store, self.managers, self.bound = engine, store, managers, bound

    def run(self, confirm):
        """
        Make this manager the only one of swarm `confirm`.

        :return: dict: cluster_id, fence (old, new), given_up (NodeIDs), removed (hostnames), left (those still listed)
        :raises SwarmError: "refused" with the reason, before anything was done
        :raises ConsulError: the lock was not to be had, or was lost
        """
        local, others = self._entitled(confirm)
        with self.store.hold(wait=LOCK_WAIT) as lock:
            before = self._record(confirm)
            self._alone(others)
            after = self.store.raise_fence(lock, before, [node_id for node_id, _ in others if node_id])
            lock.check()
            self.engine.force_new_cluster(local)
            self._settled(confirm)
        removed, left = self._clear(local.node_id)
        self.store.write_token(self.engine.worker_token(), confirm)
        self.engine.rotate_token(MANAGER)
        fences = {"old": before.fence, "new": after.fence}
        given_up = [node_id for node_id in after.lost if node_id not in before.lost]
        return {"cluster_id": confirm, "fence": fences, "given_up": given_up, "removed": removed, "left": left}

    def _entitled(self, confirm):
        """(Local, [(NodeID or "", address)] of all other managers known), or refuse."""
        info = self.engine.info()
        local = self.engine.local()
        if confirm != local.cluster_id:
            _refuse(f"confirm is {confirm!r}, but this node's swarm is {local.cluster_id or 'none'}")
        if local.state != "active" or not local.control:
            _refuse(f"{describe(local)}; only a manager that is left can do this")
        if not local.leaderless:
            _refuse(f"swarm {confirm} has a leader: nothing is lost for ever; remove single managers by swarm.demote")
        locks = autolocked(local.data_root)
        if locks or locks is None:
            why = "autolock is on" if locks else f"whether autolock is on cannot be read below {local.data_root}"
            _refuse(f"{why}, and force-new-cluster breaks a locked swarm (moby#36852): restore a manager instead")
        peers = (info.get("Swarm") or {}).get("RemoteManagers") or []
        others = [(peer["NodeID"], peer["Addr"]) for peer in peers if peer["NodeID"] != local.node_id]
        for name, entry in self.store.snapshot().published.items():
            if name != self.store.node and entry.cluster_id == confirm and entry.role_now == MANAGER:
                others.append((entry.node_id, check.with_port(entry.address)))
        return local, others + [("", check.with_port(address)) for address in self.managers.values()]

    def _record(self, confirm):
        record = self.store.record()
        if record is None or record.state != READY or record.cluster_id != confirm:
            held = f"{record.state} {record.cluster_id}".strip() if record else "nothing"
            _refuse(f"Consul's record must be of swarm {confirm}, it says {held}")
        return record

    def _alone(self, others):
        """Refuse if any other manager shows a sign of life."""
        seen = self.store.client.alive()
        if self.store.node not in seen:
            _refuse(
                f"Consul does not see {self.store.node} itself alive, so the others may be alive, too: repair it first"
            )
        alive = sorted(set(self.managers) & seen)
        if alive:
            _refuse(
                f"{', '.join(alive)} alive in Consul: start Docker there (`systemctl start docker`), a swarm whose "
                "majority is back recovers; or, if its swarm state is lost, keep it off until this is done"
            )
        addresses = dict.fromkeys(address for _, address in others)
        answering = check.answering({address: address for address in addresses}, check.CONNECT_TIMEOUT)
        if answering:
            _refuse(f"{', '.join(answering)} answers on the swarm port, so this is not the only manager left")

    def _settled(self, cluster_id):
        no_leader = functools.partial(SwarmError, "no_leader")
        now = until_led(self.engine, self.bound, "force-new-cluster", no_leader).cluster_id
        if now != cluster_id:
            raise SwarmError("error", f"the engine now manages swarm {now}, not {cluster_id}")

    def _clear(self, own_id):
        """
        Take the given-up managers out of the node list, never by force: the engine does so once it does not see them
        ready. Returns (hostnames removed, hostnames left).
        """
        pending = {node.id: node.hostname for node in self.engine.nodes() if node.role == MANAGER and node.id != own_id}
        removed = []

        def left():
            for node_id in list(pending):
                try:
                    self.engine.remove_node(node_id)
                except SwarmError as error:
                    log.info("not removed yet: %s", error)
                else:
                    removed.append(pending.pop(node_id))
            return pending

        until_clear(left, self.bound)
        return sorted(removed), sorted(pending.values())
