"""A cluster that the last row left broken is made whole before the next one, in steps that say what they do and why."""

from __future__ import annotations

import json

from cluster import Cluster, failures
from inject import Injector
from nodes import TROUBLE, Failed

RECOVER, APPLIED = 60, 120  # seconds: after power and network are back, after an apply


def repair(cluster: Cluster, wrong: list[str], say=print) -> list[str]:
    """Make a cluster whole that is not: power and network, then an apply, at worst a new lab; return what was done.

    :param wrong: what keeps it from being whole, of `Cluster.problems`
    :param say: gets each step as it begins, with its reason
    """
    done: list[str] = []

    def step(text: str) -> None:
        done.append(text)
        say(f"repair: {text}")

    try:
        step(f"gives power and network back and waits up to {RECOVER} s, because: {'; '.join(wrong)}")
        tool = Injector(cluster)
        for node in cluster.names:
            tool.power_on(node)
        tool.join_network_again()
        cluster.wait_healthy(RECOVER)
    except TROUBLE as error:
        returned: dict = {}
        try:
            step(f"applies all states, because: {error}")
            cluster.wait_salt(cluster.names)
            returned = cluster.apply()
            cluster.wait_healthy(APPLIED)
        except TROUBLE as error:
            why = f"{error}; states that failed: {json.dumps(failures(returned))[:1500]}" if returned else str(error)
            step(f"removes lab {cluster.lab.name} and makes it again (its results are kept), because: {why}")
            cluster.rebuild()
            if wrong := cluster.problems():
                raise Failed(f"lab {cluster.lab.name} is new and not whole: {'; '.join(wrong)}") from error
    return done
