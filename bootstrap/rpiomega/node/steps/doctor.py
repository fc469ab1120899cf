"""The doctor's part on the board: read facts, listen, connect. None of these steps changes anything."""

from __future__ import annotations

import dataclasses
import time

from rpiomega.node import job_steps
from rpiomega.node.doctor import collect, ports
from rpiomega.node.doctor.identity import addresses
from rpiomega.node.step import Diff, Step

HOLD_BOUND = 40.0


class Examine(Step):
    """`data`: all facts, see `rpiomega.node.doctor.collect`."""

    name = job_steps.Examine.step
    args: job_steps.Examine

    def check(self) -> Diff:
        self.data.update(collect.facts(self.board, dataclasses.asdict(self.args)))
        return Diff()


class Listen(Step):
    """Opens the ports that are free; `data`: ``busy``, ``problems``, ``addresses``."""

    name = job_steps.Listen.step
    args: job_steps.Listen

    def check(self) -> Diff:
        listeners = ports.Listeners([(protocol, port) for protocol, port in self.args.ports])
        self.board.shared["listeners"] = listeners
        self.data["addresses"] = addresses(self.board)
        self.data["busy"] = [[*key, who] for key, who in listeners.busy.items()]
        self.data["problems"] = [[*key, why] for key, why in listeners.problems.items()]
        return Diff()


class Hold(Step):
    """Keeps the listeners until the workstation closes our input, 40 s at most. `data`: ``seen``, ``passed``."""

    name = job_steps.Hold.step
    args: job_steps.Hold

    def check(self) -> Diff:
        listeners = self.board.shared["listeners"]
        self.board.cancelled.wait(HOLD_BOUND)
        own = addresses(self.board)
        # Replies to the last packets are still under way.
        time.sleep(0.1)
        self.data.update(listeners.report(own[0]["address"] if own else ""))
        listeners.close()
        return Diff()


class Connect(Step):
    """Tries the targets. `data`: ``results``, see `rpiomega.node.doctor.ports.connect`."""

    name = job_steps.Connect.step
    args: job_steps.Connect

    def check(self) -> Diff:
        self.data["results"] = ports.connect([dataclasses.asdict(target) for target in self.args.targets])
        return Diff()
