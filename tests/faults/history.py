"""What must hold over a whole history of a cluster under random faults. Pure: entries in, violations out.

An entry is a dict with `t` (seconds since the epoch) and `kind`:

- `invoke`, `healed`: {"fault": name, "nodes": [...]}: a fault begins and is undone
- `observe`: {"clusters": {node: ClusterID}, "record": {...}, "managers": {of: [names]}, "tasks": {node: container}}
- `lock`: {"node", "event": "held" | "written" | "lost" | "released", "fence", "seconds"}: from holder.py
- `converged`: {"seconds"} or {"seconds": None, "problems": [...]} if it did not
- `apply`: {"failures": {node: [comments]}, "healed": whether all faults were undone before}; of an apply that shall put
  right what an operator did, {"moved": [nodes], "whole": whether they were in their place after it} besides
- `cure`: {"command", "node", "why"}: a command that a state printed was run, after healing; `why` it failed, or ""
"""

from __future__ import annotations

# Faults after which a node's tasks may be new ones.
TOUCHING = {"power", "freeze", "partition", "engine", "quality", "leave", "node rm", "rename"}
# Moves of an operator that take a manager its seat, until everything is in its place again.
UNSEATING = {"demote", "swap"}


def violations(entries: list[dict], managers: list[str]) -> list[str]:
    """Return what must never be, each with the moment it was seen; empty for a good history."""
    ordered = sorted(entries, key=lambda entry: entry["t"])
    start = ordered[0]["t"] if ordered else 0
    found = [*clusters(ordered), *records(ordered), *locks(ordered), *tasks(ordered), *seats(ordered, managers)]
    found += [*convergence(ordered), *applies(ordered), *cures(ordered)]
    return [f"{moment - start:.0f} s: {text}" for moment, text in found]


def _of(entries, kind):
    return [entry for entry in entries if entry["kind"] == kind]


def clusters(entries):
    """There is never a second ClusterID, at any moment, on any node."""
    first = None
    for entry in _of(entries, "observe"):
        for node, known in entry["clusters"].items():
            first = first or known
            if known != first:
                yield entry["t"], f"{node} is in swarm {known}, the cluster's is {first}"


def records(entries):
    """The record's fence never falls, and what it names stays."""
    fence, known = 0, None
    for entry in _of(entries, "observe"):
        record = entry.get("record") or {}
        if not record:
            continue
        if (record.get("fence") or 0) < fence:
            yield entry["t"], f"the record's fence fell from {fence} to {record.get('fence')}"
        if known and record.get("cluster_id") != known:
            yield entry["t"], f"the record names {record.get('cluster_id')} instead of {known}"
        fence, known = max(fence, record.get("fence") or 0), known or record.get("cluster_id")


def locks(entries):
    """No fence has two holders, and nobody begins a write that counts once a higher fence has been given out."""
    holders, since = {}, {}
    for entry in _of(entries, "lock"):
        if entry["event"] == "held":
            if holders.get(entry["fence"], entry["node"]) != entry["node"]:
                yield entry["t"], f"{entry['node']} holds fence {entry['fence']} of {holders[entry['fence']]}"
            holders[entry["fence"]] = entry["node"]
            since[entry["fence"]] = entry["t"]
    for entry in _of(entries, "lock"):
        if entry["event"] != "written":
            continue
        began = entry["t"] - entry.get("seconds", 0)
        later = [fence for fence, moment in since.items() if fence > entry["fence"] and moment < began]
        if later:
            yield (
                entry["t"],
                f"{entry['node']} wrote with fence {entry['fence']} after fence {max(later)} was given out",
            )


def tasks(entries):
    """
    A running task keeps its container where no fault has touched the node. Of two that run for a moment, because the
    swarm had given up a node that was cut off, one has to stay.
    """
    known, touched = {}, set()
    for entry in entries:
        if entry["kind"] == "invoke" and entry["fault"] in TOUCHING:
            touched.update(entry["nodes"])
        elif entry["kind"] == "converged":
            touched.clear()
            known = {}
        elif entry["kind"] == "observe":
            for node, containers in entry["tasks"].items():
                now = set(containers.split())
                if node in touched:
                    known.pop(node, None)
                    continue
                before = known.get(node, now)
                known[node] = before & now or now
                if not before & now:
                    yield entry["t"], f"{node}: the service ran in {short(before)}, now in {short(now)}"


def short(containers):
    return " and ".join(sorted(container[:12] for container in containers))


def seats(entries, managers):
    """Nobody but an operator demotes a manager of the site: no quorum is lost by our own acts."""
    unseated = set()
    for entry in entries:
        if entry["kind"] == "invoke" and entry["fault"] in UNSEATING:
            unseated.update(entry["nodes"])
        elif entry["kind"] == "converged":
            unseated.clear()
        elif entry["kind"] == "observe":
            for observer, listed in entry["managers"].items():
                if missing := sorted(set(managers) - set(listed) - unseated):
                    yield entry["t"], f"{observer} lists {', '.join(missing)} as no manager"


def convergence(entries):
    """After healing the cluster becomes whole within its bound."""
    for entry in _of(entries, "converged"):
        if entry["seconds"] is None:
            yield entry["t"], f"not whole after healing: {'; '.join(entry['problems'])}"


def applies(entries):
    """A state that fails says why; without a fault none fails; none succeeds beside a node that has lost its place."""
    for entry in _of(entries, "apply"):
        if entry.get("moved") and not entry["whole"] and not entry["failures"]:
            yield entry["t"], f"all states succeeded though {', '.join(entry['moved'])} had lost their place"
        for node, comments in entry["failures"].items():
            if entry.get("healed"):
                yield entry["t"], f"{node}: an apply after healing failed: {str(comments)[:300]}"
                continue
            for comment in comments if isinstance(comments, list) else [str(comments)]:
                if "Traceback" in comment:
                    yield entry["t"], f"{node}: {comment[:200]}"


def cures(entries):
    """What a state prints for an operator to run can be run."""
    for entry in _of(entries, "cure"):
        if entry["why"]:
            yield entry["t"], f"`{entry['command']}` was printed, and failed on {entry['node']}: {entry['why']}"
