"""The step of `swarm.member` that takes this node into the swarm, through one manager after the other."""

import re
import time

from omega.core.polling import until_clear
from omega.swarm import check
from omega.swarm.api import MANAGER, SwarmError
from omega.swarm.member import repair_plan
from omega.swarm.waits import CONTEND, POLL, Failed, logged

TOKEN_AGAIN = 10.0  # seconds until a token that was refused is tried again, should Consul hold no other one by then
# What a manager says of a token's secret, and the engine of a token's digest of the CA (swarmkit ca/server.go,
# ca/certificates.go).
_REFUSED = re.compile(r"valid join token is necessary|invalid join token|remote CA does not match fingerprint")


def addresses(facts, want):
    """Return addresses to join through: managers that say they are, then the site's, each with the swarm port."""
    published = [
        entry.address
        for name, entry in facts.published.items()
        if entry.role_now == MANAGER and entry.cluster_id == facts.record.cluster_id and name != facts.node
    ]
    hosts = dict.fromkeys([*filter(None, published), *want.others.values()])
    return [check.with_port(host) for host in hosts]


def join(run, facts, _step):
    """Join through the first manager that accepts this node; raise Failed if none has within the bound."""
    run.refuse_unfit(facts)
    token = run.store.token(facts.record.cluster_id)
    if token and token == run.refused_token and not run.over("token", TOKEN_AGAIN):
        time.sleep(2 * POLL)
        return
    run.since.pop("token", None)
    problems: list[str] = []
    for address, closed in check.managers_unreachable(addresses(facts, run.want) if token else []).items():
        problem = closed or _join_through(run, address, token)
        if not problem:
            if problems:
                run.notes.append(f"passed over: {'; '.join(problems)}")
            return
        problems.append(problem)
        if not closed and run.engine.local().state != "inactive":
            return  # it goes on in the background: look again
        if token == run.refused_token:
            break
    if token and token == run.refused_token:
        with logged("notifying the managers that the worker token in Consul is not the swarm's"):
            run.notify(facts.node)
    if run.over("join", run.bounds.join):
        tried = "; ".join(problems) or "no manager's address is known"
        raise Failed(
            f"{facts.node}: no manager of swarm {facts.record.cluster_id} could be joined within "
            f"{run.bounds.join:g} s: {tried}; {_cure(run, facts, tried)}"
        )
    time.sleep(2 * POLL)


def _cure(run, facts, tried):
    if run.refused_token:
        return f"apply the state on {run.want.other_names}, which publishes the swarm's token, at the same time"
    if repair_plan.by_clock(tried):
        return f"the clock of {facts.node} says {facts.now:%Y-%m-%d %H:%M:%S} UTC: set it (`timedatectl`), run again"
    return "see that a manager runs and that 2377/tcp, 7946/tcp+udp and 4789/udp are open between the nodes"


def _join_through(run, address, token):
    """Join; return why it failed, empty if it did not."""
    try:
        run.asked = address
        settings = (run.want.swarm.get(key) for key in ("data_path_addr", "listen_address", "availability"))
        run.engine.join(address, token, run.want.address, *settings)
        return ""
    except SwarmError as error:
        if error.kind not in ("api", "timeout"):
            raise
        last = str(error).replace(token, "[token]")
    if _REFUSED.search(last):
        run.refused_token = token
        last = f"{address} refuses the worker token in Consul, it has been changed since ({last})"
    until_clear(lambda: run.engine.local().state == "pending", 4 * CONTEND, passing=())
    local = run.engine.local()
    if local.state in ("pending", "error") and local.unaccepted:
        run.engine.leave()
        if local.state == "pending":
            return f"{address} answers but does not accept this node ({last})"
        return f"{address} did not accept this node in time ({local.error or last})"
    return "" if local.state == "active" else last
