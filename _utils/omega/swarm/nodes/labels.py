"""
The spec that a node of the swarm gets: pure functions from a decoded spec to the new one.

Two labels of our own record on the node itself what an earlier run did there, so every manager knows it.
"""

from omega.site import nodes as site_nodes

GIVEN = "rpiomega.given"  # names of the labels that the site file gave, separated by spaces
HELD = "rpiomega.held"  # "<availability now>:<availability before>" of a node this project holds back
OWN = (GIVEN, HELD)
ACTIVE, PAUSE, DRAIN, KEEP = "active", "pause", "drain", "keep"


def of(node):
    """Return the part of a node's spec that an omega.swarm.api.Node contains."""
    return {"Role": node.role, "Availability": node.availability, "Labels": dict(node.labels)}


def holding(availability):
    """Return the change that holds a node back: pause or drain, remembering what it was. Never weakens a drain."""

    def change(spec):
        if spec["Availability"] in (availability, DRAIN):
            return spec
        labels = dict(spec.get("Labels") or {})
        before = labels.get(HELD, "").rpartition(":")[2] or spec["Availability"]
        return {**spec, "Availability": availability, "Labels": {**labels, HELD: f"{availability}:{before}"}}

    return change


def _released(availability, labels):
    """Return the availability a node had before it was held back, unless somebody has changed it since."""
    now, _, before = labels.get(HELD, "").partition(":")
    return before if now == availability and before else availability


def released(spec):
    """Return the spec of a node that is held back no more."""
    own = dict(spec.get("Labels") or {})
    availability = _released(spec["Availability"], own)
    return {**spec, "Availability": availability, "Labels": {key: own[key] for key in own if key != HELD}}


def inheriting(former):
    """Return the change that gives a node what its `former` entries (Nodes) had; what it has itself wins."""

    def change(spec):
        spec = released(spec)
        own, availability, labels = spec["Labels"], spec["Availability"], {}
        given = set(own.get(GIVEN, "").split())
        for old in former:
            labels.update({key: value for key, value in old.labels.items() if key not in OWN})
            given |= set(old.labels.get(GIVEN, "").split())
            if availability == ACTIVE:
                availability = _released(old.availability, old.labels)
        labels.update(own)
        return {**spec, "Availability": availability, "Labels": _marked(labels, given)}

    return change


def settings(site, name, former=()):
    """Return the change that gives a known node what the site says, over what its `former` entries (Nodes) had."""
    entry = site_nodes.nodes(site).get(name) or {}
    wanted = {key: str(value) for key, value in (entry.get("labels") or {}).items()}
    replace = (site.get("swarm") or {}).get("labels") == "replace"
    wanted_availability = entry.get("availability") or KEEP

    def change(spec):
        spec = inheriting(former)(spec)
        given = spec["Labels"].get(GIVEN, "").split()
        kept = {} if replace else {key: value for key, value in spec["Labels"].items() if key not in given}
        availability = spec["Availability"] if wanted_availability == KEEP else wanted_availability
        return {**spec, "Availability": availability, "Labels": _marked({**kept, **wanted}, wanted)}

    return change


def _marked(labels, given):
    """Return the labels with the mark which of them the site file gave."""
    labels = {key: value for key, value in labels.items() if key != GIVEN}
    return {**labels, GIVEN: " ".join(sorted(given))} if given else labels
