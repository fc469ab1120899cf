"""The part of a run of `swarm.member` that takes this node into the swarm, through one manager after the other."""

import time

from omega.swarm import check
from omega.swarm.api import MANAGER, SwarmError
from omega.swarm.waits import CONTEND, POLL, Failed


class Joining:
    """Part of omega.swarm.member.run.Member, whose attributes it uses."""

    def _do_join(self, facts, _step):
        self._precheck(facts)
        token = self.store.token(facts.record.cluster_id)
        self._join_notes = []
        addresses = self._addresses(facts) if token else []
        for address, closed in check.managers_unreachable(addresses).items():
            problem = closed or self._join_through(address, token)
            if not problem:
                self.changes["swarm"] = {
                    "old": "inactive",
                    "new": f"member of {facts.record.cluster_id}, joined through {address}",
                }
                if self._join_notes:
                    self.notes.append(f"passed over: {'; '.join(self._join_notes)}")
                return
            self._join_notes.append(problem)
        if self._over("join", self.bounds.join):
            tried = "; ".join(self._join_notes) or "no manager's address is known"
            raise Failed(
                f"{facts.node}: no manager of swarm {facts.record.cluster_id} could be joined within "
                f"{self.bounds.join:g} s: {tried}; see that a manager runs and that 2377/tcp, 7946/tcp+udp and "
                "4789/udp are open between the nodes"
            )
        time.sleep(2 * POLL)

    def _addresses(self, facts):
        """Addresses to join through: managers that say they are, then the site's, each with the swarm port."""
        said = [
            entry.address
            for name, entry in facts.published.items()
            if entry.role_now == MANAGER and entry.cluster_id == facts.record.cluster_id and name != facts.node
        ]
        hosts = dict.fromkeys([*filter(None, said), *self.want.others.values()])
        return [with_port(host) for host in hosts]

    def _join_through(self, address, token):
        """Join; returns why it failed, empty if it did not."""
        try:
            own = self.want.swarm
            settings = (own.get(key) for key in ("data_path_addr", "listen_address", "availability"))
            self.engine.join(address, token, self.want.address, *settings)
            return ""
        except SwarmError as error:
            if error.kind not in ("api", "timeout"):
                raise
            last = str(error).replace(token, "[token]")
        end = time.monotonic() + 4 * CONTEND
        while True:
            local = self.engine.local()
            if local.state == "active":
                return ""
            if local.state != "pending":
                return last
            if time.monotonic() > end and not local.joined:
                self.engine.leave()
                return f"{address} answers but does not take this node in ({last})"
            if time.monotonic() > end:
                return last
            time.sleep(POLL)


def with_port(address):
    """Return `address` with the swarm port, if it has none of its own."""
    host, port = check.split(address)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
