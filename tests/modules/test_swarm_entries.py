"""
What becomes of entries of the swarm's node list that are not as the cluster's keys say, on real daemons: removed by
hand, without a hostname, under another hostname, claimed by two keys.
"""

import datetime

import ghost
import nodes_site
import pytest
import swarm_site
from dockerds import missing
from nodes_site import MANAGERS, UNKNOWN, join, label, pi_url, published, reconcile, reconciler, spec_of, writes
from swarm_site import until

from omega.swarm import removal
from omega.swarm.api import Engine
from omega.swarm.nodes import plan
from omega.swarm.nodes import run as nodes_run
from omega.swarm.record import NODES, UNLISTED

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "runs")
consul, kv, formed, site = swarm_site.consul, swarm_site.kv, nodes_site.formed, nodes_site.site


def nodes(site):
    return Engine(pi_url(site)).nodes()


def hostname(site, name, new):
    """Give a machine another hostname, as `hostnamectl` does, and wait until the swarm has seen it."""
    node_id = site.dockerds[name].info()["NodeID"]
    site.dockerds[name].run("hostname", new)
    until(lambda: any((node.id, node.hostname) == (node_id, new) for node in nodes(site)), 60, f"the hostname {new}")


def force_out(site, name):
    """`docker node rm --force` of a node, demoted first; returns the NodeID it had."""
    engine, node_id = Engine(pi_url(site)), site.dockerds[name].info()["NodeID"]
    engine.update_node(node_id, lambda spec: {**spec, "Role": "worker"})
    until(lambda: not engine.inspect_node(node_id).get("ManagerStatus"), 60, f"{name} to be out of Raft")
    until(lambda: not site.dockerds[name].info()["ControlAvailable"], 60, f"{name} to know that it is a worker")
    engine.api.remove_node(node_id, force=True)
    return node_id


def back_as_manager(site, kv, name, lost):
    """Have a node join again by `swarm.member` and another manager promote it, as the master's reactor asks it to."""
    back = site.member(name)
    until(lambda: published(kv, name)["node_id"] not in (None, lost), 90, f"{name} to join again")
    results = site.member("pi1").result(), back.result()
    assert [result["result"] for result in results] == [True, True], results


# -- removed by hand ----------------------------------------------------------------------------------------


def test_g03_a_worker_removed_by_force_is_marked_and_leaves_and_joins_again(site, kv):
    lost = force_out(site, "pi4")
    assert site.member("pi4").result()["changes"] == {}, "a worker does not see it in its own engine"
    ahead = reconciler(site, "pi2")
    result, comment = ahead.predict()
    assert (result, kv.get(UNLISTED + "pi4")) == (None, None), comment
    run = reconcile(site, "pi2")
    line = next(line for line in run.warnings if lost in line)
    assert "it gets no tasks" in line and "sudo salt pi4 state.apply" in line
    assert run.changes["not in the node list"] == ahead.changes["not in the node list"] == [f"pi4 ({lost})"]
    assert reconcile(site, "pi3").changes == {}
    # The worker's own run, if it came before the mark.
    result, comment = reconciler(site, "pi4").run()
    assert (result, "sudo salt pi4 state.apply" in comment) == (False, True), comment

    before = writes(site)
    ahead = site.member("pi4", test=True).result()
    assert (ahead["result"], writes(site)) == (None, before), ahead
    assert "somebody removed it" in ahead["comment"]
    done = site.member("pi4").result()
    assert done["result"] is True, done
    assert set(ahead["changes"]) == set(done["changes"]) == {"NodeID", "swarm", "published"}
    new = published(kv, "pi4")["node_id"]
    assert (new != lost, lost in published(kv, "pi4")["previous"]) == (True, True)
    until(lambda: any(node.id == new and node.ready for node in nodes(site)), 60, "pi4 to be back")
    after = reconcile(site, "pi1")
    assert after.warnings == [], after.comment
    assert kv.get(UNLISTED + "pi4") is None
    assert [run.changes for run in reconcile(site, *MANAGERS)] == [{}, {}, {}]
    assert site.member("pi4").result()["changes"] == {}
    assert not [line for log in writes(site).values() for line in log if "leave?force=true" in line]


@pytest.mark.long
def test_g03_a_removed_node_whose_engine_restarted_is_pending_and_comes_back_too(site, kv):
    lost = force_out(site, "pi4")
    site.dockerds["pi4"].restart()
    assert site.dockerds["pi4"].info()["LocalNodeState"] == "pending"
    reconcile(site, "pi1")
    done = site.member("pi4").result()
    assert done["result"] is True, done
    assert published(kv, "pi4")["node_id"] not in (lost, None)
    reconcile(site, "pi1")


@pytest.mark.long
def test_g03_a_manager_demoted_and_removed_comes_back_as_a_manager(site, kv):
    lost = force_out(site, "pi3")
    reconcile(site, "pi1")
    back_as_manager(site, kv, "pi3", lost)
    assert site.roles_now("pi1") == nodes_site.ROLES
    assert published(kv, "pi3")["node_id"] not in (lost, None)


@pytest.mark.long
def test_g03_a_manager_removed_while_it_was_off_is_refused_with_the_command(site, kv):
    engine, node_id = Engine(pi_url(site)), site.dockerds["pi3"].info()["NodeID"]
    site.dockerds["pi3"].stop()
    until(lambda: any(node.id == node_id and node.state == "down" for node in nodes(site)), 90, "pi3 to be down")
    engine.update_node(node_id, lambda spec: {**spec, "Role": "worker"})
    until(lambda: not engine.inspect_node(node_id).get("ManagerStatus"), 60, "pi3 to be out of Raft")
    engine.remove_node(node_id)
    reconcile(site, "pi1")
    site.dockerds["pi3"].start()
    refused = site.member("pi3").result()
    assert (refused["result"], refused["changes"]) == (False, {}), refused
    assert "`docker swarm leave --force` there" in refused["comment"]
    site.dockerds["pi3"].client(60).api.leave_swarm(force=True)
    back_as_manager(site, kv, "pi3", node_id)
    reconcile(site, "pi1")
    assert kv.get(UNLISTED + "pi3") is None


def test_a_mark_that_does_not_hold_is_taken_back_and_moves_no_node(site, kv):
    """Of a node that is listed, as after a backup of the swarm was restored, and of one that has another NodeID."""
    kv.put(UNLISTED + "pi1", {"node_id": published(kv, "pi1")["node_id"]})
    kv.put(UNLISTED + "pi4", {"node_id": "gone"})
    for name in ("pi1", "pi4"):
        result = site.member(name).result()
        assert (result["result"], result["changes"]) == (True, {}), result
    run = reconcile(site, "pi2")
    assert run.changes == {"no longer marked as not in the node list": ["pi1", "pi4"]}
    assert [kv.get(UNLISTED + name) for name in ("pi1", "pi4")] == [None, None]


# -- without a hostname -------------------------------------------------------------------------------------


def leave_an_unfinished_join(site):
    """Give the NodeID of an entry without a hostname that a broken join left."""
    engine, before = Engine(pi_url(site)), {node.id for node in nodes(site)}
    ghost.leave_one(site.dockerds["pi1"].address, engine.worker_token())
    until(lambda: len(nodes(site)) > len(before), 20, "an entry more")
    return next(node for node in nodes(site) if node.id not in before)


def test_g07_entries_without_a_hostname_stay_while_a_join_may_go_on_and_are_removed_then(site, kv, monkeypatch):
    first, second = leave_an_unfinished_join(site), leave_an_unfinished_join(site)
    assert (first.hostname, first.state) == ("", "unknown")
    runs = reconcile(site, *MANAGERS)
    assert [(run.changes, run.warnings) for run in runs] == [({}, [])] * 3, runs[0].comment
    assert f"an entry without a hostname ({first.id}, unknown)" in runs[0].comment
    assert spec_of(site, first.id)[0] == "active", "it can have no task, so nothing is to be held back"

    class Later(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return super().now(tz) + datetime.timedelta(seconds=plan.JOIN_ENDS + 5)

    monkeypatch.setattr(nodes_run.datetime, "datetime", Later)
    ahead = reconciler(site, "pi1")
    assert ahead.predict()[0] is None
    runs = reconcile(site, *MANAGERS)
    removed = [line for run in runs for line in run.changes.get("removed", [])]
    assert sorted(removed) == sorted(ahead.changes["removed"])
    assert {line.split("(")[1].split(")")[0] for line in removed} == {first.id, second.id}
    assert {node.hostname for node in nodes(site)} == set(nodes_site.ROLES)
    assert not [line for log in writes(site).values() for line in log if "force=1" in line or "force=true" in line]


def test_g07_an_entry_that_a_node_has_published_is_never_taken_for_a_broken_join(site, kv, monkeypatch):
    found = leave_an_unfinished_join(site)
    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=1)
    entries = {**reconciler(site, "pi1").look().published}
    entries["pi4"] = type(entries["pi4"])(found.id, "C", "", "worker", (entries["pi4"].node_id,))
    facts = plan.Facts(
        site=site.pillar["rpiomega"], cluster_id="C", nodes=tuple(nodes(site)), published=entries, now=later
    )
    assert [removal for removal in plan.plan(facts).removals if removal.node.id == found.id] == []
    Engine(pi_url(site)).remove_node(found.id)


# -- under another hostname ---------------------------------------------------------------------------------


def test_g09_a_node_with_another_hostname_is_known_by_its_nodeid_and_named_with_the_cure(site, kv):
    site.set_node("pi4", labels={"disk": "ssd"})
    hostname(site, "pi4", "kitchen")
    try:
        run = reconcile(site, "pi1")
        assert spec_of(site, published(kv, "pi4")["node_id"]) == ("active", {"disk": "ssd"})
        assert list(run.changes) == ["pi4"]
        (line,) = run.warnings
        assert line.startswith("pi4 calls itself kitchen") and "`sudo hostnamectl set-hostname pi4`" in line
        assert [run.changes for run in reconcile(site, *MANAGERS)] == [{}, {}, {}]
    finally:
        hostname(site, "pi4", "pi4")
    run = reconcile(site, "pi2")
    assert (run.changes, run.warnings) == ({}, []), run.comment


def test_g09_a_node_that_an_older_release_paused_is_freed_and_an_owners_own_pause_stays(site, kv):
    hostname(site, "pi4", "kitchen")
    try:
        node_id = published(kv, "pi4")["node_id"]
        Engine(pi_url(site)).update_node(node_id, plan.spec.holding("pause"))
        assert spec_of(site, node_id)[0] == "pause"
        assert reconcile(site, "pi1").changes["pi4"]["availability"] == {"old": "pause", "new": "active"}
        for availability in ("pause", "drain"):
            label(site, node_id, availability)
            assert reconcile(site, "pi1").changes == {}
            assert spec_of(site, node_id)[0] == availability
    finally:
        hostname(site, "pi4", "pi4")
    assert reconcile(site, "pi1").changes == {}
    assert spec_of(site, "pi4")[0] == "drain"


def test_a_node_with_the_hostname_of_another_is_taken_for_itself(site, kv):
    hostname(site, "pi4", "pi3")
    try:
        own = {name: published(kv, name)["node_id"] for name in ("pi3", "pi4")}
        site.set_node("pi4", labels={"is": "pi4"})
        site.set_node("pi3", labels={"is": "pi3"})
        run = reconcile(site, "pi1")
        assert [spec_of(site, own[name])[1] for name in own] == [{"is": "pi3"}, {"is": "pi4"}]
        assert [line for line in run.warnings if line.startswith("pi4 calls itself pi3")], run.comment
        store = reconciler(site, "pi1").store
        assert [entry["id"] for entry in removal.look(Engine(pi_url(site)), store, "pi3")["entries"]] == [own["pi3"]]
    finally:
        hostname(site, "pi4", "pi4")


def test_a_hostname_in_capitals_is_no_other_hostname(site, kv):
    hostname(site, "pi4", "PI4")
    try:
        run = reconcile(site, "pi1")
        assert (run.changes, run.warnings) == ({}, []), run.comment
    finally:
        hostname(site, "pi4", "pi4")


# -- one NodeID under two keys ------------------------------------------------------------------------------


def test_the_key_of_a_removed_node_with_the_same_nodeid_is_forgotten_and_drains_nobody(site, kv):
    kv.put(NODES + "former", published(kv, "pi4"))
    run = reconcile(site, "pi1")
    assert run.changes == {"forgotten in Consul": ["former"]}, run.comment
    assert spec_of(site, "pi4")[0] == "active"


def test_a_node_that_claims_another_ones_nodeid_gets_nothing_of_it(site, kv):
    own, other = published(kv, "pi4"), published(kv, "pi3")["node_id"]
    kv.put(NODES + "pi4", {**own, "node_id": other, "previous": [own["node_id"]]})
    try:
        site.set_node("pi4", labels={"is": "pi4"})
        reconcile(site, "pi1")
        assert spec_of(site, "pi3") == ("active", {})
        assert {node.id for node in nodes(site)} >= {other, own["node_id"]}
    finally:
        kv.put(NODES + "pi4", own)


def test_an_unknown_machine_is_still_paused_whatever_its_hostname(site, kv):
    unknown = join(site, UNKNOWN)
    run = reconcile(site, "pi1")
    assert spec_of(site, unknown)[0] == "pause"
    assert any("no node of the site has published its NodeID" in line for line in run.warnings)
