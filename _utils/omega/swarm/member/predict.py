"""What a run of `swarm.member` would do if each step succeeds: the decisions of `plan`, for test=True."""

from omega.swarm.member.plan import decide
from omega.swarm.member.steps import STEPS

LONGEST = 12  # steps; a run without a fault takes fewer


def predict(facts):
    """Return the Steps a run would take if each succeeds, the last one "done" or "refuse"."""
    steps = [decide(facts)]
    while steps[-1].kind in STEPS and len(steps) < LONGEST:
        facts = STEPS[steps[-1].kind].after(facts, steps[-1])
        steps.append(decide(facts))
    return steps


def changes(facts, steps):
    """Return the changes that these predicted steps would make, keyed as a run's changes are."""
    found = {}
    for step in steps:
        if step.kind in STEPS:
            found.update(STEPS[step.kind].change(facts, step))
    return found
