"""The part of a run of `swarm.member` that takes this node into the swarm, through one manager after the other."""

import re
import time

from omega.swarm import check
from omega.swarm.api import MANAGER, SwarmError
from omega.swarm.member import repair_plan as mend
from omega.swarm.waits import CONTEND, POLL, Failed, logged

TOKEN_AGAIN = 10.0  # seconds until a token that was refused is tried again, should Consul hold no other one by then
# What a manager says of a token's secret, and the engine of a token's digest of the CA (swarmkit ca/server.go,
# ca/certificates.go).
_REFUSED = re.compile(r"valid join token is necessary|invalid join token|remote CA does not match fingerprint")


class Joining:
    """Part of omega.swarm.member.run.Member, whose attributes it uses."""

    def _do_join(self, facts, _step):
        self._precheck(facts)
        token = self.store.token(facts.record.cluster_id)
        if token and token == self._refused and not self._over("token", TOKEN_AGAIN):
            time.sleep(2 * POLL)
            return
        self._since.pop("token", None)
        self._join_notes: list = []
        addresses = self._addresses(facts) if token else []
        for address, closed in check.managers_unreachable(addresses).items():
            problem = closed or self._join_through(address, token)
            if not problem:
                if self._join_notes:
                    self.notes.append(f"passed over: {'; '.join(self._join_notes)}")
                return
            self._join_notes.append(problem)
            if not closed and self.engine.local().state != "inactive":
                return  # it goes on in the background: look again
            if token == self._refused:
                break
        if token and token == self._refused:
            with logged("telling the managers that the worker token in Consul is not the swarm's"):
                self.notify(facts.node)
        if self._over("join", self.bounds.join):
            tried = "; ".join(self._join_notes) or "no manager's address is known"
            raise Failed(
                f"{facts.node}: no manager of swarm {facts.record.cluster_id} could be joined within "
                f"{self.bounds.join:g} s: {tried}; {self._join_cure(facts, tried)}"
            )
        time.sleep(2 * POLL)

    def _join_cure(self, facts, tried):
        if self._refused:
            return f"apply the state on {self._managers()}, which publishes the swarm's token, at the same time"
        if mend.by_clock(tried):
            return (
                f"the clock of {facts.node} says {facts.now:%Y-%m-%d %H:%M:%S} UTC: set it (`timedatectl`), run again"
            )
        return "see that a manager runs and that 2377/tcp, 7946/tcp+udp and 4789/udp are open between the nodes"

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
            own, self._asked = self.want.swarm, address
            settings = (own.get(key) for key in ("data_path_addr", "listen_address", "availability"))
            self.engine.join(address, token, self.want.address, *settings)
            return ""
        except SwarmError as error:
            if error.kind not in ("api", "timeout"):
                raise
            last = str(error).replace(token, "[token]")
        if _REFUSED.search(last):
            self._refused = token
            last = f"{address} refuses the worker token that Consul holds, it has been changed since ({last})"
        end = time.monotonic() + 4 * CONTEND
        while True:
            local = self.engine.local()
            if local.state == "active":
                return ""
            if local.state == "error" and local.unaccepted:
                self.engine.leave()
                return f"{address} did not accept this node in time ({local.error or last})"
            if local.state != "pending":
                return last
            if time.monotonic() > end and local.unaccepted:
                self.engine.leave()
                return f"{address} answers but does not accept this node ({last})"
            if time.monotonic() > end:
                return last
            time.sleep(POLL)


def with_port(address):
    """Return `address` with the swarm port, if it has none of its own."""
    host, port = check.split(address)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
