"""Entries of the swarm's list of nodes, as a manager gives them. Pure."""

from __future__ import annotations


def seen(item: dict) -> dict:
    """Return one entry of `GET /nodes` as id, name, role, state, availability, labels, reachable, leader.

    :param item: of Docker's API. An entry whose node never reported itself has an empty Description: its name is empty.
    """
    spec, manager = item.get("Spec") or {}, item.get("ManagerStatus") or {}
    return {
        "id": item["ID"],
        "name": (item.get("Description") or {}).get("Hostname", ""),
        "role": spec.get("Role", ""),
        "state": (item.get("Status") or {}).get("State", ""),
        "availability": spec.get("Availability", ""),
        "labels": spec.get("Labels") or {},
        "reachable": manager.get("Reachability") == "reachable",
        "leader": bool(manager.get("Leader")),
    }


def words(entry: dict) -> str:
    """Return an entry of `seen` in words: its name, or its ID where it has none."""
    return entry["name"] or f"an entry without a name ({entry['id']}, {entry['state'] or 'of no state'})"


def seats(listed: list[dict]) -> list[tuple[str, bool]]:
    """Return (name, reachable) of each manager of a list of `seen`; two entries of one name are two."""
    return sorted((words(entry), entry["reachable"]) for entry in listed if entry["role"] == "manager")


def leader(listed: list[dict]) -> str:
    """Return the name of the swarm's leader by a list of `seen`, empty if it has none."""
    return next((entry["name"] for entry in listed if entry["leader"]), "")
