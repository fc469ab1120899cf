"""The part of a run of `swarm.member` that waits for somebody else, each time within a bound."""

import time

from omega.swarm import check, clock
from omega.swarm.api import MANAGER
from omega.swarm.member import plan
from omega.swarm.member import repair_plan as mend
from omega.swarm.member.join import with_port
from omega.swarm.waits import CONTEND, POLL, Failed, logged


class Waiting:
    """Part of omega.swarm.member.run.Member, whose attributes it uses."""

    def _wait(self, step, facts):
        bound = {
            "settle": self.bounds.join,
            "wait_bootstrap": self.bounds.bootstrap,
            "wait_initializer": self.bounds.initializer,
            "wait_token": self.bounds.promote,
            "await_promotion": self.bounds.promote,
            "await_demotion": self.bounds.promote,
            "await_engine": self.bounds.promote,
            "await_successor": self.bounds.promote,
            "await_clock": self.bounds.clock,
        }[step.kind]
        first = step.kind not in self._since
        if self._over(step.kind, bound):
            if step.kind == "await_successor":
                self._unsucceeded = True
                return
            if step.kind == "await_clock" and not clock.later(facts):
                # A site without a time server: the other nodes' times do not speak against this one.
                self._clock_trusted = True
                self.notes.append(f"its clock is not synchronised ({facts.clock}; {bound:g} s have passed)")
                return
            raise Failed(f"{facts.node}: {step.reason} ({bound:g} s have passed){self._next(step, facts)}")
        if step.kind == "await_demotion" and not facts.own.wish:
            self.store.publish(plan.entry_of(facts, mend.DEMOTION))
        if step.kind in ("await_promotion", "await_demotion") and first:
            with logged("telling the master that this node waits for a manager"):
                self.notify(facts.node)
        if step.kind == "settle" and facts.local.unaccepted and self._over("pending", 2 * CONTEND):
            # The engine hangs on one manager and has no identity yet: nothing is lost by giving up this attempt.
            self._since.pop("pending")
            self.engine.leave()
        time.sleep(POLL)

    def _next(self, step, facts):
        if step.kind == "await_promotion":
            known = [entry.address for entry in facts.published.values() if entry.role_now == MANAGER]
            closed = "; ".join(filter(None, check.managers_unreachable([*map(with_port, known)]).values()))
            closed = f"; from here {closed}" if closed else ""
            return f"; it has joined as a worker; apply the state on {self._managers()}, that promotes it{closed}"
        if step.kind == "await_demotion":
            return f"; apply the state on {self._managers()} at the same time, that demotes it"
        if step.kind == "settle":
            problems = check.managers_unreachable(facts.local.managers).values()
            return "; " + ("; ".join(filter(None, problems)) or "see `journalctl -u docker`")
        if step.kind == "await_engine":
            return "; see `journalctl -u docker`"
        if step.kind == "await_clock":
            return (
                "; set it (`sudo timedatectl set-time`, or a time server the node reaches: `time.servers`), run again"
            )
        if step.kind == "wait_bootstrap":
            return "; see the result of the state on the managers, then run again"
        return ""

    def _managers(self):
        return " or ".join(self.want.others) or "a manager"
