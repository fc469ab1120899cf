"""Snapshots as restic lists them -> what a person chooses from. Pure."""

from __future__ import annotations

from omega.core.rfc3339 import seconds


def chosen(listed: list[dict], volume: str = "", until: float | None = None) -> list[dict]:
    """Return the snapshots as {"id", "time" (seconds since 1970), "group", "mode", "run", "paths"}, the oldest first.

    :param listed: as the formula's `backup.list` returns them
    :param volume: only those that have this volume
    :param until: seconds since 1970: of each group the newest up to then; None: all
    """
    found = sorted((_one(item) for item in listed), key=lambda one: one["time"])
    found = [one for one in found if not volume or _has(one, volume)]
    if until is None:
        return found
    newest = {one["group"]: one for one in found if one["time"] <= until}
    return sorted(newest.values(), key=lambda one: one["time"])


def _one(item: dict) -> dict:
    kept = {key: item.get(key) or "" for key in ("group", "mode", "run")}
    return {"id": item["id"], "time": seconds(item["time"]), **kept, "paths": item.get("paths") or []}


def _has(one: dict, volume: str) -> bool:
    """A group of several volumes has the name of the first one; the others are among its paths."""
    return one["group"] == f"volume:{volume}" or any(volume in path.split("/") for path in one["paths"])
