"""A random mix of faults on the lab's cluster: `python -m tests.faults.nemesis --seed 7 --minutes 30`.

The same seed gives the same schedule (`--show` prints it). What is invoked and what is observed goes, as JSON lines, to
.lab/<lab>-results/nemesis-<seed>.jsonl; the checker (history.py) reads it after each episode and at the end. An episode
is one to three faults at overlapping times, then healing, then a bound within which the cluster has to be whole again.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]

import entries  # noqa: E402 - beside this file
import history  # noqa: E402
import invariants  # noqa: E402
import leaks  # noqa: E402
import results  # noqa: E402
from cluster import Cluster, failures  # noqa: E402
from inject import Injector  # noqa: E402
from moves import Operator  # noqa: E402
from nodes import TROUBLE  # noqa: E402

LOCK = "rpiomega/swarm/faults/lock"
CONVERGE = 240
# Kind of fault -> how often it is chosen.
KINDS = {
    "power": 4,
    "freeze": 3,
    "partition": 4,
    "quality": 1,
    "engine": 3,
    "consul": 3,
    "consul freeze": 2,
    "minion": 1,
    "master": 1,
    "apply": 4,
    "leave": 2,
    "role": 2,
    "snapshot": 1,
    "node rm": 1,
    "demote": 1,
    "rename": 1,
    "rotate": 1,
    "swap": 1,
}
# These have one place: the node with the master, the worker, or a manager.
FIRST, LAST, SEATED = ("master", "snapshot"), ("leave", "role", "node rm", "rename", "swap"), ("demote",)
# What an operator does (moves.py), and those of it after which an apply is started beside the other faults.
BY_HAND = ("leave", "role", "snapshot", "node rm", "demote", "rename", "rotate", "swap")
APPLIED = ("apply", "leave", "role", "node rm", "demote", "swap")


@dataclass(frozen=True)
class Move:
    """One fault: when in its episode (s), what, where, for how long (s), in which direction."""

    at: float
    kind: str
    node: str
    seconds: float
    direction: str = "both"
    others: tuple = ()


def schedule(seed: int, names: list[str]):
    """Yield episodes, each a list of Moves, for ever; the same ones for the same seed and names."""
    dice = random.Random(seed)
    while True:
        moves = []
        for _ in range(dice.randint(1, 3)):
            kind = dice.choices(list(KINDS), list(KINDS.values()))[0]
            node = names[0] if kind in FIRST else names[-1] if kind in LAST else ""
            node = node or dice.choice(names[:-1] if kind in SEATED else names)
            rest = [name for name in names if name != node]
            others = tuple(sorted(dice.sample(rest, dice.randint(1, len(rest)))))
            at, seconds = round(dice.uniform(0, 15), 1), round(dice.uniform(5, 40), 1)
            moves.append(Move(at, kind, node, seconds, dice.choice(["both", "in", "out"]), others))
        yield sorted(moves, key=lambda move: move.at)


class Nemesis:
    """One run."""

    def __init__(self, cluster: Cluster, seed: int) -> None:
        self.cluster, self.seed = cluster, seed
        self.path = results.folder() / f"nemesis-{seed}.jsonl"
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)
        self.entries: list[dict] = []
        self._guard, self._over = threading.Lock(), threading.Event()
        self._applies: list[threading.Thread] = []
        self._forced: set[str] = set()  # NodeIDs whose entries an operator removed
        self._holders: dict[str, list] = {name: [] for name in cluster.managers}

    def note(self, kind: str, **more) -> None:
        """Put an entry into the history."""
        entry = {"t": time.time(), "kind": kind, **more}
        with self._guard:
            self.entries.append(entry)
            with self.path.open("a") as file:
                file.write(json.dumps(entry) + "\n")

    # -- what goes on all the time -------------------------------------------------------------------------

    def observe(self) -> None:
        """Look at all nodes every few seconds."""
        while not self._over.wait(2):
            try:
                self._observe()
            except (*TROUBLE, KeyError) as error:
                self.note("unseen", why=str(error)[:200])

    def _observe(self) -> None:
        awake = [name for name in self.cluster.names if self.cluster.container(name).status == "running"]
        facts = self.cluster.look(awake)
        listed = {}
        for node in (name for name in awake if facts[name]["control"]):
            status, answer = self.cluster.ask(node, ["docker", "GET", "/nodes"])[0]
            if status == 200:
                listed[node] = [name for name, _ in entries.seats([entries.seen(one) for one in answer])]
        self.note(
            "observe",
            clusters={name: fact["cluster_id"] for name, fact in facts.items() if fact["cluster_id"]},
            record=next((fact["record"] for fact in facts.values() if fact["record"]), {}),
            managers=listed,
            tasks={name: text for name, text in self.cluster.tasks().items() if name in awake},
        )

    def contend(self) -> None:
        """Have every manager that is there contend for one lock, again and again."""
        for node, jobs in self._holders.items():
            if self.cluster.container(node).status == "running" and (not jobs or jobs[-1].over()):
                jobs.append(Injector(self.cluster).holder(node, LOCK, hold=10, wait=300))

    def collect(self) -> None:
        """Put what the holders have said into the history, once."""
        for node, jobs in self._holders.items():
            for job in jobs:
                for line in job.lines():
                    extra = {"fence": line.get("fence"), "seconds": line.get("seconds", 0)}
                    self._add_lock({"t": line["at"], "kind": "lock", "node": node, "event": line["event"], **extra})
            del jobs[:-1]

    def _add_lock(self, entry: dict) -> None:
        if entry["fence"] is not None and entry not in self.entries:
            self.entries.append(entry)
            with self.path.open("a") as file:
                file.write(json.dumps(entry) + "\n")

    # -- faults --------------------------------------------------------------------------------------------

    def strike(self, injector: Injector, operator: Operator, move: Move) -> None:
        """Inject one fault, or do what an operator does; it ends by itself or with the episode."""
        node = move.node
        if self.cluster.container(node).status != "running" and move.kind != "power":
            return
        nodes = [node, *move.others] if move.kind == "partition" else [node]
        nodes += [self.cluster.managers[-1]] if move.kind == "swap" else []
        self.note("invoke", fault=move.kind, nodes=nodes, direction=move.direction, seconds=move.seconds)
        if move.kind == "power":
            if self.cluster.is_on(node):
                injector.power_off(node)
        elif move.kind == "freeze":
            injector.freeze(node)
        elif move.kind == "partition":
            injector.partition(node, list(move.others), move.direction)
        elif move.kind == "quality":
            injector.lose(node, 0.2)
        elif move.kind == "engine":
            injector.restart_docker(node, wait=False)
        elif move.kind == "consul":
            injector.kill_consul(node)
        elif move.kind == "consul freeze":
            injector.freeze_consul(node)
        elif move.kind == "minion":
            self.cluster.run(node, "systemctl kill -s KILL salt-minion; systemctl restart --no-block salt-minion", 60)
        elif move.kind == "master":
            injector.stop_unit(node, "salt-master")
        elif move.kind in BY_HAND:
            getattr(operator, move.kind.replace(" ", "_"))(node)
        if move.kind in APPLIED:
            self._applies.append(threading.Thread(target=self._apply, daemon=True))
            self._applies[-1].start()

    def _apply(self) -> None:
        try:
            returned = self.cluster.apply(sls="swarm", bound=400)
        except TROUBLE as error:
            self.note("apply", failures={"master": [str(error)[:200]]})
            return
        self.note("apply", failures=_told(failures(returned)))

    def episode(self, moves: list[Move]) -> float | None:
        """Strike as scheduled, heal, wait until the cluster is whole; return the seconds that took, None if never."""
        injector, operator, began = Injector(self.cluster), Operator(self.cluster), time.monotonic()
        for move in moves:
            time.sleep(max(0.0, move.at - (time.monotonic() - began)))
            try:
                self.strike(injector, operator, move)
            except TROUBLE as error:
                self.note("unstruck", fault=move.kind, nodes=[move.node], why=str(error)[:200])
            self.contend()
        end = max(move.at + move.seconds for move in moves)
        time.sleep(max(0.0, end - (time.monotonic() - began)))
        trouble = injector.heal()
        injector.join_network_again()
        self.note("healed", fault="all", nodes=[], trouble=trouble)
        began = time.monotonic()
        try:
            self._settle(operator)
            self.cluster.wait_healthy(CONVERGE)
        except TROUBLE as error:
            self.note("converged", seconds=None, problems=[str(error)[:600]])
            return None
        seconds = round(time.monotonic() - began, 1)
        self.note("converged", seconds=seconds)
        return seconds

    def _settle(self, operator: Operator) -> None:
        """Put right what the operator has moved, once no apply is under way that a second one would be refused for."""
        for thread in self._applies:
            thread.join(450)
        self._applies.clear()
        self._forced |= operator.forced
        wrong = operator.settle(self.note)
        if wrong is not None:
            self.note("apply", failures=wrong, healed=True)

    def run(self, minutes: float) -> list[str]:
        """Run episodes until the time is over; return the violations."""
        watcher = threading.Thread(target=self.observe, daemon=True)
        watcher.start()
        end, taken, found = time.monotonic() + 60 * minutes, [], []
        before = invariants.baseline(self.cluster)
        for number, moves in enumerate(schedule(self.seed, self.cluster.names), 1):
            self.contend()
            print(f"episode {number}: " + "; ".join(_words(move) for move in moves), flush=True)
            taken.append(self.episode(moves))
            self.collect()
            found = history.violations(list(self.entries), self.cluster.managers)
            print(f"  whole after {taken[-1] and round(taken[-1], 1)} s; {len(found)} violations", flush=True)
            if found or time.monotonic() > end:
                break
        self._over.set()
        watcher.join(60)
        if not found:
            found = invariants.one_cluster(self.cluster, before)
            forced = invariants.nothing_forced(self.cluster, before)
            found += [text for text in forced if not any(f"/nodes/{one}?" in text for one in self._forced)]
            found += invariants.seats(self.cluster) + leaks.on_disks(self.cluster, self.cluster.workers, False)
            found += invariants.nothing_left_to_do(self.cluster)
        good = [seconds for seconds in taken if seconds is not None]
        self._save(minutes, taken, good, found)
        return found

    def _save(self, minutes, taken, good, found):
        locks = [entry["event"] for entry in self.entries if entry["kind"] == "lock"]
        struck = [entry["fault"] for entry in self.entries if entry["kind"] == "invoke"]
        results.save(
            f"nemesis, seed {self.seed}",
            {
                "outcome": results.FAILED if found else results.PASSED,
                "minutes": minutes,
                "episodes": len(taken),
                "struck": {kind: struck.count(kind) for kind in KINDS if kind in struck},
                "whole again, s": {"worst": round(max(good, default=0), 1), "of": len(good)},
                "lock": {"held": locks.count("held"), "writes": locks.count("written")},
                "problems": found,
            },
            self.cluster.commit(),
        )


def _told(wrong: dict) -> dict:
    """What states said; a node that gave no states under a fault says nothing."""
    return {node: comments for node, comments in wrong.items() if isinstance(comments, list)}


def _words(move: Move) -> str:
    more = f" {move.direction} {','.join(move.others)}" if move.kind == "partition" else ""
    return f"{move.at:g} s {move.kind} {move.node}{more} for {move.seconds:g} s"


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--show", type=int, metavar="EPISODES", help="print so many episodes of the schedule, and end")
    options = parser.parse_args()
    cluster = Cluster()
    if options.show:
        for number, moves in zip(range(1, options.show + 1), schedule(options.seed, cluster.names), strict=False):
            print(f"episode {number}: " + "; ".join(_words(move) for move in moves))
        return
    cluster.ensure()
    leaks.follow(cluster)
    found = Nemesis(cluster, options.seed).run(options.minutes)
    print("\n".join(found) or f"seed {options.seed}: no violation")
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
