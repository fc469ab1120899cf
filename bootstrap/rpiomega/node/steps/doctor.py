"""The doctor's part on the board: read facts, listen, connect. None of these steps changes anything."""

from __future__ import annotations

import time

from rpiomega.node.doctor import collect, ports
from rpiomega.node.doctor.identity import addresses
from rpiomega.node.step import Diff, Step

HOLD_BOUND = 40.0


class Examine(Step):
    """Argument: `apt_proxy`. `data`: all facts, see `rpiomega.node.doctor.collect`."""

    name = "examine"

    def check(self) -> Diff:
        self.data.update(collect.facts(self.board, self.args))
        return Diff()


class Listen(Step):
    """Argument: `ports` ([protocol, port], ...). Opens what is free; `data`: ``busy``, ``problems``, ``addresses``."""

    name = "listen"

    def check(self) -> Diff:
        listeners = ports.Listeners([(protocol, port) for protocol, port in self.args["ports"]])
        self.board.shared["listeners"] = listeners
        self.data["addresses"] = addresses(self.board)
        self.data["busy"] = [[*key, who] for key, who in listeners.busy.items()]
        self.data["problems"] = [[*key, why] for key, why in listeners.problems.items()]
        return Diff()


class Hold(Step):
    """Keeps the listeners until the workstation closes our input, 40 s at most. `data`: ``seen``, ``passed``."""

    name = "hold"

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
    """Argument: `targets`. `data`: ``results``, see `rpiomega.node.doctor.ports.connect`."""

    name = "connect"

    def check(self) -> Diff:
        self.data["results"] = ports.connect(self.args["targets"])
        return Diff()
