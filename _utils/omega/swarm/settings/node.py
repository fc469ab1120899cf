"""What a node's spec (role, availability, labels) becomes, for everything that changes one."""

from omega.swarm.api import MANAGER, WORKER, SwarmError, demotion_problem

AVAILABILITIES = ("active", "pause", "drain")
MERGE, REPLACE = "merge", "replace"


def problem(role=None, availability=None, labels=None, labels_state=MERGE, labels_to_remove=None):
    """Return what is wrong with these arguments, one clause that names the argument; "" if nothing is."""
    if role not in (None, MANAGER, WORKER):
        return f"role {role!r}: must be manager or worker"
    if availability not in (None, *AVAILABILITIES):
        return f"availability {availability!r}: must be one of {', '.join(AVAILABILITIES)}"
    if labels_state not in (MERGE, REPLACE):
        return f"labels_state {labels_state!r}: must be {MERGE} or {REPLACE}"
    if labels is not None and not isinstance(labels, dict):
        return f"labels {labels!r}: must be a mapping of names to values"
    if labels_to_remove is not None and not isinstance(labels_to_remove, (list, tuple)):
        return f"labels_to_remove {labels_to_remove!r}: must be a list of label names"
    return ""


def merged_labels(current, labels=None, labels_state=MERGE, labels_to_remove=None):
    """
    Return the labels that result. Values become strings. With `replace` those given are all there are. A label
    that is both given and to be removed stays.
    """
    given = {str(name): _text(value) for name, value in (labels or {}).items()}
    kept = {} if labels_state == REPLACE else current or {}
    removed = {str(name) for name in labels_to_remove or ()} - set(given)
    return {name: value for name, value in {**kept, **given}.items() if name not in removed}


def _text(value):
    # YAML's `true` is meant as the word: placement constraints compare text.
    return str(value).lower() if isinstance(value, bool) else str(value)


def changed(spec, role=None, availability=None, labels=None, labels_state=MERGE, labels_to_remove=None):
    """Return a node's decoded spec with what is given changed and all else as it was."""
    if labels is None and labels_state == MERGE and not labels_to_remove:
        after = dict(spec)
    else:
        after = {**spec, "Labels": merged_labels(spec.get("Labels"), labels, labels_state, labels_to_remove)}
    after["Role"] = role or spec["Role"]
    after["Availability"] = availability or spec["Availability"]
    return after


def differences(before, after):
    """Return {"role": {"old": .., "new": ..}, ..} of two decoded specs; empty if they say the same."""
    return {
        key.lower(): {"old": before.get(key), "new": after.get(key)}
        for key in ("Role", "Availability", "Labels")
        if (before.get(key) or {}) != (after.get(key) or {})
    }


def apply(engine, name, test=False, **wanted):
    """
    Change the node `name` (hostname, if only one node has it, or NodeID) and return the differences; with `test`
    those that would be made, and nothing is sent.

    :param wanted: role, availability, labels, labels_state, labels_to_remove as for `changed`
    :raises SwarmError: "refused" for wrong arguments, or a demotion that would cost the swarm its quorum;
        "not_found"; "conflict" if others changed the node each time in between
    """
    wrong = problem(**wanted)
    if wrong:
        raise SwarmError("refused", wrong)
    node = engine.find(name)
    if wanted.get("role") == WORKER and node.role == MANAGER:
        reason = demotion_problem(engine.nodes(), node.id)
        if reason:
            raise SwarmError("refused", f"{node.hostname} stays a manager: {reason}")
    if test:
        before = engine.inspect_node(node.id)["Spec"]
        return differences(before, changed(before, **wanted))
    return differences(*engine.update_node(node.id, lambda spec: changed(spec, **wanted)))
