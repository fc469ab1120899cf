"""Each situation a node can be in, and the step that follows: no daemon, no Consul, only the decision."""

import ast
import datetime
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "_utils"))

from omega.swarm.api import Local, Node
from omega.swarm.member import plan, repair_plan
from omega.swarm.member.facts import Facts
from omega.swarm.member.plan import decide, entry_of
from omega.swarm.member.predict import changes, predict
from omega.swarm.member.run import Bounds
from omega.swarm.member.steps import STEPS, Wait
from omega.swarm.record import Published, Record

ADDRESSES = {"pi1": "192.0.2.1", "pi2": "192.0.2.2", "pi3": "192.0.2.3", "pi4": "192.0.2.4"}
MANAGERS = ("pi1", "pi2", "pi3")
OUTSIDE = Local()
READY = Record("ready", "pi1", 7, "C1")


def inside(node, control, **changed):
    return replace(Local("active", f"id-{node}", "C1", control, address=ADDRESSES[node]), **changed)


def said(node, role_now, **changed):
    return replace(Published(f"id-{node}", "C1", ADDRESSES[node], role_now), **changed)


def swarm_node(name, role="worker", state="ready", **changed):
    return replace(Node(f"id-{name}", name, role, "active", state, reachable=role == "manager"), **changed)


def at(node, role="manager", **known):
    return Facts(node=node, role=role, address=ADDRESSES[node], managers=MANAGERS, **known)


def member(node, role, control=None, **known):
    """A member of the recorded swarm that has published itself truly."""
    control = role == "manager" if control is None else control
    published = {node: said(node, "manager" if control else "worker"), **known.pop("published", {})}
    local = known.pop("local", inside(node, control))
    return at(node, role, local=local, record=READY, token_cluster="C1", published=published, **known)


INITIALIZING = Record("initializing", "pi1", 5)
DAY = datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc)
THREE = tuple(swarm_node(name, "manager") for name in MANAGERS)


def expired(node, role="worker", **known):
    """A member whose certificate ended a day ago."""
    dates = {"begins": DAY.replace(year=2025), "expires": DAY - datetime.timedelta(days=1)}
    return member(node, role, local=Local("error", f"id-{node}", "C1", certified=role, **dates), now=DAY, **known)


def moved(node, control, certified="", error="", managers=("192.0.2.1:2377", "192.0.2.3:2377"), pending=False, **known):
    """A member that the swarm knows at another address than the site's."""
    changed = {"address": "192.0.2.99", "error": error, "managers": managers, "certified": certified, "joined": True}
    local = inside(node, control, state="pending" if pending else "active", **changed)
    return member(node, "manager" if control or certified else "worker", local=local, **{"nodes": THREE, **known})


def electing(node, reach, **changed):
    """A manager without a leader, which has tried the others: {address: why it cannot be reached, or ""}."""
    local = inside(node, True, **{"error": "no leader", "joined": True, "certified": "manager", **changed})
    return member(node, "manager", local=local, reach=reach)


def broken(error, **changed):
    """A worker whose engine reports its swarm state as broken, though its certificate is valid."""
    dates = {"begins": DAY.replace(year=2025), "expires": DAY.replace(year=2027), "certified": "worker"}
    local = Local("error", "id-pi4", "C1", error=error, **{"joined": True, **dates, **changed})
    return member("pi4", "worker", local=local, now=DAY)


NOT_VALID = "certificate (1 - x) not valid after Thu, 01 Jan 2026, and it is currently Fri, 02 Jan 2026"
UNACCEPTED = Local("error", error="context deadline exceeded", unaccepted=True)
WANDERER = {"managers": ("192.0.2.1:2377", "192.0.2.3:2377"), "error": "no leader", "readdress": True}


def wishing(node):
    return said(node, "manager", wish="demotion", present=True)


CASES = {
    # in no swarm
    "first manager-to-be": (at("pi2"), "bootstrap", ""),
    "another holds the lock": (at("pi2", holder="pi3"), "wait_bootstrap", "waiting for bootstrap by pi3"),
    "its own lock of a run that was killed": (at("pi2", holder="pi2"), "bootstrap", ""),
    "an attempt that formed nothing": (at("pi2", record=Record("vacant", "pi1", 5)), "bootstrap", ""),
    "worker before there is a swarm": (at("pi4", "worker"), "wait_bootstrap", "pi1, pi2, pi3"),
    "no record, but a manager answers": (at("pi2", listening=("pi3",)), "wait_bootstrap", "pi3 already runs"),
    "another initialises right now": (at("pi2", record=INITIALIZING, holder="pi1"), "wait_bootstrap", "by pi1"),
    "the initialiser lost the lock": (
        at("pi2", record=INITIALIZING, alive=frozenset({"pi1"})),
        "wait_initializer",
        "pi1 may hold a swarm",
    ),
    "the initialiser has come back and is at it": (
        at("pi2", record=INITIALIZING, alive=frozenset({"pi1"}), published={"pi1": Published(present=True)}),
        "wait_bootstrap",
        "by pi1",
    ),
    "the initialiser is dead": (at("pi2", record=INITIALIZING, alive=frozenset({"pi2"})), "refuse", "recover pi1"),
    "a third one holds the lock meanwhile": (
        at("pi2", record=INITIALIZING, holder="pi3", alive=frozenset({"pi3"})),
        "refuse",
        "swarm.bootstrap_takeover pi1",
    ),
    "a worker with a dead initialiser": (
        at("pi4", "worker", record=INITIALIZING, alive=frozenset()),
        "refuse",
        "pi1 may hold a swarm",
    ),
    "own attempt that was interrupted before init": (at("pi1", record=INITIALIZING), "bootstrap", ""),
    "swarm is ready": (at("pi2", record=READY, token_cluster="C1"), "join", "C1"),
    "swarm is ready, no token yet": (at("pi2", record=READY), "wait_token", "C1"),
    "token of another swarm": (at("pi2", record=READY, token_cluster="C0"), "wait_token", "C1"),
    "the hostname is not the node's name": (
        at("pi2", record=READY, token_cluster="C1", local=Local(hostname="raspberrypi")),
        "refuse",
        "raspberrypi",
    ),
    "no manager in the site": (replace(at("pi2"), managers=()), "refuse", "manager"),
    # engine states
    "locked": (at("pi2", local=Local("locked")), "refuse", "docker swarm unlock"),
    "error": (at("pi2", local=Local("error", error="bad cert"), record=READY), "refuse", "bad cert"),
    "error without a cause: the engine starts its node again": (
        at("pi2", local=Local("error", "id-pi2", "C1", joined=True, certified="worker"), record=READY),
        "settle",
        "starts its part of the swarm again",
    ),
    "error of a join that no manager has accepted": (
        at("pi2", local=UNACCEPTED, record=READY, token_cluster="C1"),
        "abandon",
        "deadline exceeded",
    ),
    "the same of a node that a swarm knew before its card was rewritten": (
        at("pi2", local=UNACCEPTED, record=READY, token_cluster="C1", published={"pi2": said("pi2", "worker")}),
        "abandon",
        "",
    ),
    "error of an engine that started with a wrong clock": (broken(NOT_VALID), "restart", "2026-01-02 00:00:00 UTC"),
    "it has been restarted already": (replace(broken(NOT_VALID), restarted=True), "refuse", "not valid after"),
    "error of an engine with a valid certificate": (broken("no space left"), "refuse", "no space left"),
    "error by the clock, and the certificate cannot be read": (
        broken(NOT_VALID, begins=None, expires=None),
        "refuse",
        "not valid after",
    ),
    "swarm is ready, the clock is not": (
        at("pi2", record=READY, token_cluster="C1", clock="it says 1970"),
        "await_clock",
        "1970",
    ),
    "first manager-to-be, the clock is not ready": (at("pi2", clock="it says 1970"), "await_clock", "1970"),
    "a member whose clock nobody confirmed": (member("pi1", "manager", clock="it says 1970"), "done", ""),
    "the worker token was rotated by hand": (member("pi1", "manager", token_old=True), "publish_token", ""),
    "a moved manager was demoted, and its engine may yet notice": (
        moved("pi2", True, "manager", demoted={"pi2": "id-pi2"}, **WANDERER),
        "await_engine",
        "a manager has demoted it",
    ),
    "a moved manager was demoted, and its engine does not notice": (
        moved("pi2", True, "manager", demoted={"pi2": "id-pi2"}, unaware=True, **WANDERER),
        "restart",
        "does not notice",
    ),
    "the demotion is that of a former membership": (
        moved("pi2", True, "manager", demoted={"pi2": "id-before"}, unaware=True, **WANDERER),
        "await_demotion",
        "",
    ),
    "a moved manager that was demoted by hand": (
        member("pi1", "manager", published={"pi2": wishing("pi2")}, nodes=(THREE[0], swarm_node("pi2"), THREE[2])),
        "release",
        "pi2",
    ),
    "its demotion is on record": (
        member(
            "pi1",
            "manager",
            published={"pi2": wishing("pi2")},
            nodes=(THREE[0], swarm_node("pi2"), THREE[2]),
            demoted={"pi2": "id-pi2"},
        ),
        "await_managers",
        "pi2",
    ),
    "pending": (at("pi2", local=Local("pending", managers=("192.0.2.9:2377",))), "settle", "192.0.2.9:2377"),
    # in a swarm
    "manager of an unrecorded swarm": (at("pi1", local=inside("pi1", True)), "adopt", "C1"),
    "worker of an unrecorded swarm": (at("pi4", "worker", local=inside("pi4", False)), "wait_bootstrap", "C1"),
    "own attempt that was interrupted after init": (
        at("pi1", local=inside("pi1", True), record=INITIALIZING),
        "complete",
        "C1",
    ),
    "manager of a swarm while another initialises": (
        at("pi2", local=inside("pi2", True), record=INITIALIZING, alive=frozenset()),
        "refuse",
        "pi1 may hold a swarm",
    ),
    "in another swarm": (member("pi4", "worker", local=inside("pi4", True, cluster_id="X9")), "refuse", "X9"),
    "in a swarm that is not known": (
        member("pi4", "worker", local=inside("pi4", False, cluster_id="")),
        "refuse",
        "",
    ),
    "manager in its role": (member("pi1", "manager"), "done", "C1"),
    "worker in its role": (member("pi4", "worker"), "done", "C1"),
    "no leader": (member("pi1", "manager", local=inside("pi1", True, error="no leader")), "refuse", "bring managers"),
    "token missing": (replace(member("pi1", "manager"), token_cluster=""), "publish_token", ""),
    "worker that did not publish itself": (
        replace(member("pi4", "worker"), published={}),
        "publish",
        "",
    ),
    "worker with a new NodeID": (
        member("pi4", "worker", published={"pi4": said("pi4", "worker", node_id="old")}),
        "publish",
        "",
    ),
    "worker that shall be manager": (member("pi2", "manager", False), "await_promotion", "pi1, pi3"),
    "a node waits to be promoted": (
        member("pi1", "manager", published={"pi2": said("pi2", "worker")}, nodes=(swarm_node("pi2"),)),
        "promote",
        "pi2",
    ),
    "it waits, but is down": (
        member("pi1", "manager", published={"pi2": said("pi2", "worker")}, nodes=(swarm_node("pi2", state="down"),)),
        "done",
        "",
    ),
    "it waits, but the NodeID is another node's": (
        member(
            "pi1",
            "manager",
            published={"pi2": said("pi2", "worker", node_id="id-pi4")},
            nodes=(swarm_node("pi4"), swarm_node("pi2")),
        ),
        "done",
        "",
    ),
    "a worker of the site claims nothing": (
        member("pi1", "manager", published={"pi4": said("pi4", "worker")}, nodes=(swarm_node("pi4"),)),
        "done",
        "",
    ),
    "it waits in another swarm": (
        member("pi1", "manager", published={"pi2": said("pi2", "worker", cluster_id="X9")}, nodes=(swarm_node("pi2"),)),
        "done",
        "",
    ),
    "a manager-to-be is joining right now": (
        member("pi1", "manager", published={"pi2": Published(present=True)}),
        "await_managers",
        "pi2",
    ),
    "a manager-to-be is expected after the bootstrap": (
        member("pi1", "manager", expected=frozenset({"pi1", "pi3", "pi4"})),
        "await_managers",
        "pi3",
    ),
    "the site made it a worker": (
        member("pi4", "worker", True, nodes=tuple(swarm_node(n, "manager") for n in ("pi1", "pi2", "pi3", "pi4"))),
        "demote",
        "pi4",
    ),
    "the site made the last manager a worker, and its successors may still join": (
        member("pi4", "worker", True, nodes=(swarm_node("pi4", "manager"), swarm_node("pi1"))),
        "await_successor",
        "waiting to promote pi1, pi2, pi3 before pi4 steps down",
    ),
    "the site made the last manager a worker, and a successor has joined": (
        member(
            "pi4",
            "worker",
            True,
            nodes=(swarm_node("pi4", "manager"), swarm_node("pi1")),
            published={"pi1": said("pi1", "worker")},
        ),
        "promote",
        "promote pi1, before pi4 steps down",
    ),
    "the site made it a worker, and its successor has just been promoted": (
        member(
            "pi4",
            "worker",
            True,
            nodes=(swarm_node("pi4", "manager"), swarm_node("pi1", "manager", reachable=False)),
            published={"pi1": said("pi1", "manager")},
        ),
        "await_successor",
        "waiting until pi1 can be reached as a manager",
    ),
    "the site made it a worker, but it is the last manager and no successor came": (
        member("pi4", "worker", True, nodes=(swarm_node("pi4", "manager"), swarm_node("pi1")), successors_late=True),
        "refuse",
        "last manager: promote another node first, or end the swarm by hand; pi1, pi2, pi3 shall be a manager: `sudo ",
    ),
    "the site made it a worker while another joins as a manager": (
        member(
            "pi4",
            "worker",
            True,
            nodes=(swarm_node("pi4", "manager"), *THREE),
            published={**{name: said(name, "manager") for name in MANAGERS[:2]}, "pi3": said("pi3", "", present=True)},
        ),
        "await_successor",
        "pi3",
    ),
    "the site made it a worker, but the others are down": (
        member(
            "pi4",
            "worker",
            True,
            nodes=(
                swarm_node("pi4", "manager"),
                swarm_node("pi1", "manager"),
                swarm_node("pi2", "manager", "down", reachable=False),
            ),
        ),
        "refuse",
        "1 of 2",
    ),
    # damaged memberships
    "locked, with a kept key": (at("pi2", local=Local("locked"), unlock="ready"), "unlock", "kept unlock key"),
    "locked, and the key's file is open to all": (
        at("pi2", local=Local("locked"), unlock="is not used"),
        "refuse",
        "not",
    ),
    "a manager whose engine has just started": (
        member(
            "pi2",
            "manager",
            local=inside("pi2", False, certified="manager"),
            published={"pi2": said("pi2", "manager")},
        ),
        "settle",
        "not up as one yet",
    ),
    "its certificate has expired": (expired("pi4"), "refuse", "expired at 2026-01-01 00:00:00 UTC"),
    "it joins again only where that is allowed": (expired("pi4", reach={"a": ""}), "refuse", "rejoin=True"),
    "it may join again": (expired("pi4", rejoin=True, reach={"a": "", "b": "closed"}), "rejoin", "2026-01-01"),
    "it may join again, but nobody is there": (
        expired("pi4", rejoin=True, reach={"a": "no answer"}),
        "refuse",
        "no answer",
    ),
    "it may join again, but what it was in is not recorded": (
        replace(
            expired("pi4", rejoin=True, reach={"a": ""}), record=replace(READY, cluster_id="C2"), token_cluster="C2"
        ),
        "refuse",
        "the cluster's swarm is C2",
    ),
    "its clock is behind its certificate": (
        replace(expired("pi4", rejoin=True, reach={"a": ""}), now=DAY.replace(year=2024)),
        "refuse",
        "the clock is behind",
    ),
    "expired manager, the others are a quorum": (
        expired("pi2", "manager", rejoin=True, reach={"a": "", "b": ""}),
        "rejoin",
        "",
    ),
    "expired manager, the others are none": (
        expired("pi2", "manager", rejoin=True, reach={"a": "", "b": "closed"}),
        "refuse",
        "1 of 3 managers",
    ),
    "one of two managers expired": (
        expired("pi2", "manager", rejoin=True, reach={"a": ""}),
        "refuse",
        "1 of 2 managers",
    ),
    "the only manager expired": (expired("pi1", "manager", rejoin=True, reach={}), "refuse", "only manager"),
    "the board has another address": (
        member("pi4", "worker", has_address=False, towards="192.0.2.9"),
        "refuse",
        "192.0.2.9",
    ),
    "a new board has another address": (at("pi2", has_address=False), "refuse", "no interface"),
    "worker that moved": (moved("pi4", False), "refuse", "readdress=True"),
    "worker that moved and may": (moved("pi4", False, readdress=True), "readdress", "192.0.2.99"),
    "manager that moved and may": (moved("pi2", True, readdress=True), "readdress", "192.0.2.2"),
    "manager that moved, while another is away": (
        moved("pi2", True, readdress=True, nodes=(swarm_node("pi1", "manager"), swarm_node("pi2", "manager"))),
        "refuse",
        "pi3 cannot",
    ),
    "manager that moved and lost its leader": (
        moved("pi2", True, error="no leader", readdress=True),
        "await_demotion",
        "192.0.2.99",
    ),
    "manager that moved and is pending": (
        moved("pi2", False, "manager", readdress=True, pending=True),
        "await_demotion",
        "192.0.2.99",
    ),
    "worker that moved and is pending": (moved("pi4", False, readdress=True, pending=True), "readdress", "192.0.2.99"),
    "the only manager moved": (
        moved("pi1", True, managers=("192.0.2.99:2377",), readdress=True),
        "refuse",
        "only manager",
    ),
    "an interface's name is no other address": (
        replace(member("pi4", "worker"), address="eth0", published={"pi4": said("pi4", "worker", address="eth0")}),
        "done",
        "",
    ),
    "one of three managers is left": (
        member(
            "pi1", "manager", local=inside("pi1", True, error="no leader"), reach={"a": "a closed", "b": "b closed"}
        ),
        "refuse",
        "1 of 3 managers can be reached, 2 needed: a closed; b closed",
    ),
    "two of three managers are there": (electing("pi1", {"a": "", "b": "b closed"}), "settle", "2 of 3"),
    "two of four are not enough": (electing("pi1", {"a": "", "b": "b closed", "c": "c closed"}), "refuse", "2 of 4"),
    "the only manager will lead": (electing("pi1", {}), "settle", "1 of 1"),
    "the managers were not asked": (electing("pi1", None), "refuse", "too few"),
    "its certificate is not readable": (
        electing("pi1", {"a": "", "b": ""}, joined=False, certified=""),
        "refuse",
        "3 of 3 managers",
    ),
    "neither the swarm nor Consul has a leader": (
        replace(electing("pi1", {"a": "", "b": ""}), stale=True),
        "settle",
        "elect",
    ),
    "neither has one, and the other managers are gone": (
        replace(electing("pi1", {"a": "a closed", "b": "b closed"}), stale=True),
        "refuse",
        "1 of 3 managers can be reached, 2 needed",
    ),
    "given up, and the managers of the new swarm are there": (
        replace(electing("pi2", {"a": "", "b": ""}), record=replace(READY, by="pi1", lost=("id-pi2",))),
        "refuse",
        "was given up",
    ),
    "a manager of before the swarm was re-created": (
        replace(member("pi2", "manager"), record=replace(READY, by="pi1", lost=("id-pi2",))),
        "refuse",
        "was given up",
    ),
    "it is one, and its engine is still starting": (
        replace(
            member("pi2", "manager", local=inside("pi2", True, state="pending", error="no leader", joined=True)),
            record=replace(READY, by="pi1", lost=("id-pi2",)),
        ),
        "refuse",
        "was given up",
    ),
    "a manager that moved waits to be demoted": (
        member("pi1", "manager", published={"pi2": wishing("pi2")}, nodes=THREE),
        "release",
        "pi2",
    ),
    "it waits, but without it there is no quorum": (
        member(
            "pi1", "manager", published={"pi2": wishing("pi2")}, nodes=(*THREE[:2], replace(THREE[2], reachable=False))
        ),
        "await_managers",
        "pi2",
    ),
    "its run has ended": (
        member("pi1", "manager", published={"pi2": replace(wishing("pi2"), present=False)}, nodes=THREE),
        "done",
        "",
    ),
    "a worker claims the wish of a manager": (
        member("pi1", "manager", published={"pi4": wishing("pi2")}, nodes=THREE),
        "done",
        "",
    ),
    "a manager-to-be has a problem of its own": (
        member(
            "pi1", "manager", published={"pi2": said("pi2", "worker", problem="no space")}, nodes=(swarm_node("pi2"),)
        ),
        "done",
        "pi2 is not promoted: no space",
    ),
    "a manager-to-be cannot be dialled": (
        member(
            "pi1",
            "manager",
            published={"pi2": said("pi2", "worker")},
            nodes=(swarm_node("pi2"),),
            blocked={"pi2": "2377 closed"},
        ),
        "done",
        "pi2 is not promoted: 2377 closed",
    ),
    "a manager-to-be cannot be dialled yet": (
        member(
            "pi1",
            "manager",
            published={"pi2": said("pi2", "worker", present=True)},
            nodes=(swarm_node("pi2"),),
            blocked={"pi2": "7946 refused"},
        ),
        "await_managers",
        "pi2 is not promoted: 7946 refused",
    ),
    "a manager-to-be that must not be": (
        member(
            "pi2", "manager", False, problem="no space", published={"pi2": said("pi2", "worker", problem="no space")}
        ),
        "refuse",
        "it stays a worker: no space",
    ),
    # Consul without a leader: only what needs no write
    "member in its role, stale read": (member("pi4", "worker", stale=True), "done", "C1"),
    "has to publish, stale read": (
        replace(member("pi4", "worker", stale=True), published={}),
        "refuse",
        "Consul has no leader",
    ),
}


@pytest.mark.parametrize(("facts", "kind", "words"), CASES.values(), ids=CASES)
def test_each_situation_has_its_step(facts, kind, words):
    step = decide(facts)
    assert (step.kind, words in step.reason) == (kind, True), step


@pytest.mark.parametrize("facts", [case[0] for case in CASES.values()], ids=CASES)
def test_a_prediction_ends_in_the_role_or_in_a_refusal(facts):
    *ahead, last = predict(facts)
    assert last.kind in ("done", "refuse"), (ahead, last)
    assert {step.kind for step in ahead} <= set(STEPS)


def test_every_kind_that_a_decision_can_return_is_in_the_table():
    written = set()
    for module in (plan, repair_plan):
        for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Step":
                written.add(node.args[0].value)
    assert written == {*STEPS, "done", "refuse"}
    assert {step.bound for step in STEPS.values() if isinstance(step, Wait)} <= {f.name for f in fields(Bounds)}


def test_a_prediction_from_nothing_names_every_change():
    steps = predict(at("pi1"))
    assert [step.kind for step in steps] == ["bootstrap", "publish", "done"]
    assert set(changes(at("pi1"), steps)) == {"swarm", "published"}
    joining = at("pi2", record=READY, token_cluster="C1")
    steps = predict(joining)
    assert [step.kind for step in steps] == ["join", "publish", "await_promotion", "publish", "done"]
    assert changes(joining, steps)["role"] == {"old": "worker", "new": "manager"}


def test_a_manager_whose_engine_is_starting_is_predicted_to_become_itself_again():
    local = inside("pi2", True, state="pending", error="no leader", joined=True, certified="manager")
    steps = predict(member("pi2", "manager", local=local))
    assert [step.kind for step in steps] == ["settle", "done"]
    assert changes(member("pi2", "manager", local=local), steps) == {}


def test_a_member_in_its_role_is_predicted_to_change_nothing():
    for facts in (member("pi1", "manager"), member("pi4", "worker")):
        assert changes(facts, predict(facts)) == {}


def test_a_node_remembers_the_ids_it_had_before():
    facts = member("pi4", "worker", published={"pi4": said("pi4", "worker", node_id="old", previous=("older",))})
    assert entry_of(facts).previous == ("older", "old")
    assert entry_of(member("pi4", "worker")).previous == ()


# -- removed from the node list -------------------------------------------------------------------------------


def unlisted(node, role, **known):
    """A member that the managers do not find in the node list; two of them can be reached."""
    reach = known.pop("reach", {"192.0.2.1:2377": "", "192.0.2.2:2377": ""})
    return member(node, role, unlisted=f"id-{node}", reach=reach, **known)


@pytest.mark.parametrize("state", ["active", "pending", "error"])
def test_g03_a_worker_that_is_not_listed_leaves_and_joins_again(state):
    facts = unlisted("pi4", "worker", local=inside("pi4", False, state=state, joined=True, certified="worker"))
    steps = predict(facts)
    assert [step.kind for step in steps] == ["reenter", "join", "publish", "done"]
    assert changes(facts, steps)["NodeID"]["old"] == "id-pi4"


def test_g03_a_manager_to_be_that_is_not_listed_does_not_wait_to_be_promoted_under_its_old_nodeid():
    assert decide(unlisted("pi3", "manager", control=False)).kind == "reenter"


@pytest.mark.parametrize(
    ("facts", "says"),
    [
        (unlisted("pi4", "worker", reach={"192.0.2.1:2377": "pi1 is closed"}), "no other manager can be reached"),
        (replace(unlisted("pi4", "worker"), token_cluster=""), "no swarm and token with which it could join again"),
        (replace(unlisted("pi4", "worker"), stale=True), "not while Consul has no leader"),
        (unlisted("pi3", "manager", local=inside("pi3", True, state="pending")), "`docker swarm leave --force` there"),
    ],
)
def test_g03_a_node_that_could_not_come_back_does_not_leave(facts, says):
    step = decide(facts)
    assert (step.kind, says in step.reason) == ("refuse", True), step.reason


def test_g03_a_mark_of_another_nodeid_or_of_a_manager_that_lists_the_nodes_moves_nobody():
    assert decide(replace(unlisted("pi4", "worker"), unlisted="id-before")).kind == "done"
    assert decide(unlisted("pi1", "manager", nodes=THREE)).kind == "done"
