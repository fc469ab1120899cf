"""What a run of `swarm.member` does while it waits, and once the bound of a wait has passed."""

from omega.swarm import check, clock
from omega.swarm.api import MANAGER
from omega.swarm.member import plan
from omega.swarm.member.facts import Step
from omega.swarm.member.repair_plan import DEMOTION
from omega.swarm.waits import CONTEND, Failed, logged

# -- while it waits: (run, facts, step, first) --------------------------------------------------------------


def request_managers(run, facts, _step, first):
    """Have the master call the managers, once."""
    if first:
        with logged("notifying the master that this node waits for a manager"):
            run.notify(facts.node)


def request_demotion(run, facts, step, first):
    """Publish that this node waits to be demoted."""
    if not facts.own.wish:
        run.store.publish(plan.entry_of(facts, DEMOTION))
    request_managers(run, facts, step, first)


def leave_if_unaccepted(run, facts, _step, _first):
    """Give up a join that hangs on one manager: the engine has no identity yet, so nothing is lost."""
    if facts.local.unaccepted and run.over("pending", 2 * CONTEND):
        run.since.pop("pending")
        run.engine.leave()


def remember_expected(run, facts, step, _first):
    """Keep the names of the managers-to-be that are waited for, for the comment."""
    run.expected.update(facts.expected.intersection(step.names))


# -- once the bound has passed: (run, facts, step, wait); a Step that is returned ends the run --------------


def fail(run, facts, step, wait):
    """Raise Failed with what was waited for and what to do next."""
    raise Failed(f"{step.reason} ({wait.seconds(run):g} s have passed)", wait.cure(run, facts), facts.node)


def trust_clock(run, facts, step, wait):
    """Go on with a clock that nobody has confirmed, unless another node has written to Consul at a later time."""
    if clock.later(facts):
        fail(run, facts, step, wait)
    run.clock_trusted = True
    run.notes.append(f"its clock is not synchronised ({facts.clock}; {wait.seconds(run):g} s have passed)")


def decide_without_successors(run, _facts, _step, _wait):
    """Go on without the managers that were to replace this one."""
    run.successors_late = True


def end_without_managers(_run, facts, step, _wait):
    """End the run with success: this node itself is as it should be."""
    return Step("done", "; ".join([f"still missing: {', '.join(step.names)}", *plan.held_back(facts)]))


# -- what to do next: (run, facts) --------------------------------------------------------------------------

SEE_ENGINE = "see `journalctl -u docker`"


def see_connections(_run, facts):
    """Managers that this node cannot reach, else the engine's journal."""
    return "; ".join(filter(None, check.managers_unreachable(facts.local.managers).values())) or SEE_ENGINE


def set_clock(_run, _facts):
    """How the clock is set."""
    return "set it (`sudo timedatectl set-time`, or a time server the node reaches: `time.servers`), run again"


def be_promoted(run, facts):
    """Who can promote this node, and which managers it cannot reach."""
    known = [check.with_port(entry.address) for entry in facts.published.values() if entry.role_now == MANAGER]
    closed = "; ".join(filter(None, check.managers_unreachable(known).values()))
    closed = f"; from this node {closed}" if closed else ""
    return f"it has joined as a worker; apply the state on {run.want.other_names}, that promotes it{closed}"


def be_demoted(run, _facts):
    """Who can demote this node."""
    return f"apply the state on {run.want.other_names} at the same time, that demotes it"
