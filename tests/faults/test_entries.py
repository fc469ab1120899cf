"""The swarm's list is read whole, whatever an entry lacks or has twice."""

import entries
import pytest


def item(name, role="manager", **more):
    """An entry as Docker gives it of a node that is there."""
    found = {"ID": f"id-{name}", "Spec": {"Role": role, "Availability": "active"}, "Status": {"State": "ready"}}
    manager = {"ManagerStatus": {"Reachability": "reachable", "Addr": "192.0.2.1:2377"}} if role == "manager" else {}
    return {**found, "Description": {"Hostname": name}, **manager, **more}


# What dockerd lists of a node that got its certificate and never reported itself.
GHOST = {"ID": "ghost", "Spec": {"Role": "worker", "Availability": "active"}, "Status": {"State": "unknown"}}


@pytest.mark.parametrize("lacks", [{"Description": {}}, {"Description": {"Engine": {}}}, {}, {"Description": None}])
def test_an_entry_without_a_name_is_read(lacks):
    seen = entries.seen({**GHOST, **lacks})
    assert (seen["name"], seen["state"], seen["leader"]) == ("", "unknown", False)
    assert "ghost" in entries.words(seen)


@pytest.mark.parametrize("lacks", ["Spec", "Status", "ManagerStatus"])
def test_an_entry_without_a_part_is_read(lacks):
    assert entries.seen({key: value for key, value in item("pi1").items() if key != lacks})["name"] == "pi1"


def test_two_managers_of_one_name_have_two_seats():
    gone = item("pi1", ManagerStatus={"Reachability": "unreachable"}, ID="old")
    listed = [entries.seen(one) for one in (gone, item("pi1"), item("pi2"), item("pi4", "worker"))]
    assert entries.seats(listed) == [("pi1", False), ("pi1", True), ("pi2", True)]


def test_the_leader_is_named():
    first = item("pi2", ManagerStatus={"Leader": True, "Reachability": "reachable"})
    assert entries.leader([entries.seen(one) for one in (GHOST, item("pi1"), first)]) == "pi2"
    assert entries.leader([entries.seen(GHOST)]) == ""
