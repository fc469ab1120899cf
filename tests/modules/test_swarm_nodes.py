"""`swarm.nodes_managed` and `swarm.absent` on real daemons: three managers, a worker, and an unknown machine, pi9."""

import copy
import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import nodes_site
import pytest
import salt.config
import salt.loader
import swarm_site
from consul_server import ConsulServer
from dockerds import missing
from nodes_site import (
    MANAGERS,
    ROLES,
    UNKNOWN,
    join,
    label,
    pi_url,
    published,
    reconcile,
    reconciler,
    spec_of,
    wipe,
    writes,
)
from swarm_minion import Minion
from swarm_site import until

from omega.consul import client as consul_client
from omega.swarm import waits
from omega.swarm.api import Engine, SwarmError
from omega.swarm.nodes import run as nodes_run
from omega.swarm.nodes.run import ROTATION
from omega.swarm.record import DEMOTED, NODES, PREFIX, TOKEN, Store

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "runs")
consul, kv, formed, site = swarm_site.consul, swarm_site.kv, nodes_site.formed, nodes_site.site


def tasks_on(site, node_id):
    client = site.dockerds["pi1"].client()
    try:
        return client.api.tasks({"node": node_id})
    finally:
        client.close()


def serve(site, name):
    """A service with one task on every node that may have one; returns its API client and ID. No image is needed."""
    api = site.dockerds["pi1"].client().api
    template = {"ContainerSpec": {"Image": "none:1"}, "RestartPolicy": {"Condition": "none"}}
    return api, api.create_service(template, name=name, mode={"Global": {}})["ID"]


# -- availability and labels --------------------------------------------------------------------------------


def test_site_gives_availability_and_labels_and_leaves_what_was_made_by_hand(site, kv):
    label(site, "pi4", color="green")
    site.set_node("pi4", availability="drain", labels={"disk": "ssd", "slots": 2})
    before = writes(site), kv.list(PREFIX)
    state = "swarm.nodes_managed", "omega"
    ahead = {name: site.call(name, "state.single", *state, test=True) for name in ("pi1", "pi4")}
    ahead = {name: run.result() for name, run in ahead.items()}
    assert (writes(site), kv.list(PREFIX)) == before
    assert (ahead["pi4"]["result"], ahead["pi4"]["changes"]) == (True, {})
    assert "a manager does this" in ahead["pi4"]["comment"]
    done = site.call("pi1", "state.single", "swarm.tended", "omega").result()
    assert (ahead["pi1"]["result"], done["result"]) == (None, True), done["comment"]
    assert ahead["pi1"]["changes"] == done["changes"]
    assert done["changes"]["pi4"]["availability"] == {"old": "active", "new": "drain"}
    assert spec_of(site, "pi4") == ("drain", {"color": "green", "disk": "ssd", "slots": "2"})

    again = reconcile(site, *MANAGERS)
    assert [run.changes for run in again] == [{}, {}, {}]
    site.set_node("pi4", availability=None, labels={"slots": 3})
    reconcile(site, *MANAGERS)
    assert spec_of(site, "pi4") == ("drain", {"color": "green", "slots": "3"})


def test_replace_leaves_no_label_but_the_sites(site):
    label(site, "pi4", color="green")
    site.pillar["rpiomega"]["swarm"] = {"labels": "replace"}
    site.set_node("pi4", labels={"disk": "ssd"})
    reconcile(site, "pi2")
    assert spec_of(site, "pi4") == ("active", {"disk": "ssd"})
    assert reconcile(site, "pi2").changes == {}


def test_the_reactors_call_goes_by_the_newest_site_file_not_by_the_minions_old_pillar(site, monkeypatch):
    opts = salt.config.minion_config(str(site.root / "pi1" / "minion"))
    opts.update(grains={}, pillar=copy.deepcopy(site.first))
    loaded = salt.loader.minion_mods(opts)
    site.set_node("pi4", labels={"disk": "ssd"})
    assert loaded["swarm.reconcile_nodes"]()["changes"]["pi4"]["labels"]["old"] == {}
    assert spec_of(site, "pi4") == ("active", {"disk": "ssd"})
    assert loaded["swarm.reconcile_nodes"]()["changes"] == {}

    def broken(_run):
        raise SwarmError("refused", "no way")

    monkeypatch.setattr(nodes_run.Reconciler, "look", broken)
    failed = loaded["swarm.reconcile_nodes"]()
    assert (failed["result"], failed["comment"]) == (False, "pi1: no way")


# -- unknown machines ------------------------------------------------------------------------------------------


def test_f39_an_unknown_machine_with_a_leaked_token_is_paused_and_reported_and_the_token_rotated(site, kv):
    leaked = kv.get(TOKEN).json()["token"]
    unknown = join(site, UNKNOWN)
    ahead = reconciler(site, "pi1")
    assert ahead.predict()[0] is None
    runs = reconcile(site, *MANAGERS)
    changes = {key: value for run in runs for key, value in run.changes.items()}
    assert changes == ahead.changes
    assert spec_of(site, unknown)[0] == "pause"
    line = next(line for line in runs[0].warnings if unknown in line)
    assert "no node of the site has published its NodeID" in line
    assert f"docker node rm {unknown}" in line
    assert "add it to the site file" in line

    assert kv.get(TOKEN).json()["token"] != leaked
    assert kv.get(TOKEN).json()["token"] == Engine(site.dockerds["pi1"].base_url).worker_token()
    assert "SWMTKN" not in json.dumps([run.changes for run in runs]) + str([run.comment for run in runs])
    api, service = serve(site, "secretive")
    try:
        until(lambda: len(api.tasks({"service": service})) >= 4, 20, "tasks on the four nodes of the site")
        assert tasks_on(site, unknown) == []
    finally:
        api.remove_service(service)
    assert [run.changes for run in reconcile(site, *MANAGERS)] == [{}, {}, {}]

    # It becomes one of the site's, and only then is free.
    site.set_node(UNKNOWN, address=site.dockerds[UNKNOWN].address, roles=["worker"])
    assert reconcile(site, "pi3").changes == {}
    kv.put(NODES + UNKNOWN, {"node_id": unknown, "role_now": "worker", "address": ""})
    freed = reconcile(site, "pi2")
    assert freed.changes[UNKNOWN]["availability"] == {"old": "pause", "new": "active"}
    assert spec_of(site, unknown) == ("active", {})
    kv.delete(NODES + UNKNOWN)


def test_f39_another_machine_with_a_sites_hostname_is_an_unknown_machine_too(site, kv):
    pi9 = site.dockerds[UNKNOWN]
    pi9.stop()
    pi9.run("hostname", "pi4")
    pi9.start()
    try:
        unknown = join(site, UNKNOWN)
        own = published(kv, "pi4")["node_id"]
        run = reconcile(site, "pi1")
        assert spec_of(site, unknown)[0] == "pause"
        assert spec_of(site, own)[0] == "active"
        assert any("pi4 has not published this NodeID" in line for line in run.warnings), run.comment

        # It is not removed as an old entry of pi4 either, as long as it answers.
        kv.put(NODES + "pi4", {**published(kv, "pi4"), "previous": [unknown]})
        run = reconcile(site, "pi1")
        assert any("second entry" in line and "not removed" in line for line in run.warnings), run.comment
        assert {node.id for node in Engine(pi_url(site)).nodes()} >= {unknown, own}
    finally:
        wipe(site, UNKNOWN)
        pi9.stop()
        pi9.run("hostname", UNKNOWN)
        pi9.start()
        kv.put(NODES + "pi4", {**published(kv, "pi4"), "previous": []})


def test_a_node_between_join_and_publication_is_left_alone_because_consul_sees_it_at_its_address(site, kv):
    """pi9 becomes a node of the site: Consul's agent runs there with its token, `swarm.member` is under way."""
    site.set_node(UNKNOWN, address=site.dockerds[UNKNOWN].address, roles=["worker"])
    kv.delete(NODES + UNKNOWN)
    joiner = join(site, UNKNOWN)
    site.catalog.set(UNKNOWN)
    token = kv.get(TOKEN).json()["token"]
    rotated = {"join tokens": {"old": "as before", "new": "rotated: worker"}}
    ahead = reconciler(site, "pi1")
    result, comment = ahead.predict()
    assert (result, ahead.changes) == (None, rotated)
    assert "pi9 has joined and not published its NodeID yet" in comment

    # A manager waits for it, and the wave ends when it publishes.
    pi2 = site.dockerds["pi2"].log
    seen = pi2.read_text(errors="replace").count("/nodes")
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(reconcile, site, "pi2", gather=60)
        until(lambda: pi2.read_text(errors="replace").count("/nodes") > seen + 2, 30, "pi2 to look again and again")
        assert kv.get(TOKEN).json()["token"] == token
        kv.put(NODES + UNKNOWN, {"node_id": joiner, "role_now": "worker", "address": ""})
        run = waiting.result()
    assert (run.changes, run.warnings) == (rotated, []), run.comment
    assert spec_of(site, joiner)[0] == "active"
    assert kv.get(TOKEN).json()["token"] != token
    kv.delete(NODES + UNKNOWN)
    site.catalog.forget(UNKNOWN)


def test_a_node_taken_out_of_the_site_file_is_drained_and_comes_back_as_it_was(site):
    label(site, "pi4", availability="pause", color="green")
    entry = site.pillar["rpiomega"]["nodes"].pop("pi4")
    site.write_pillar()
    runs = reconcile(site, *MANAGERS)
    assert spec_of(site, "pi4") == ("drain", {"color": "green"})
    assert any("rpiomega remove pi4" in line for line in runs[0].warnings)
    assert [run.changes for run in reconcile(site, *MANAGERS)] == [{}, {}, {}]
    assert len(Engine(pi_url(site)).nodes()) == 4
    site.set_node("pi4", **entry)
    reconcile(site, *MANAGERS)
    assert spec_of(site, "pi4") == ("pause", {"color": "green"})


# -- tokens -------------------------------------------------------------------------------------------------


def test_f39_a_node_that_cannot_join_keeps_no_leaked_token_alive(site, kv):
    site.set_node("pi5", address="10.9.9.9", roles=["worker"])
    site.catalog.set("pi5", address="10.9.9.9")
    try:
        leaked = kv.get(TOKEN).json()["token"]
        unknown = join(site, UNKNOWN)
        reconcile(site, "pi1", gather=None)
        assert kv.get(TOKEN).json()["token"] == leaked, "a call per join leaves the tokens to the run of an apply"
        ahead = reconciler(site, "pi1")
        result, comment = ahead.predict()
        run = reconcile(site, "pi1", gather=2)
        assert (result, ahead.changes) == (None, run.changes)
        assert kv.get(TOKEN).json()["token"] == Engine(pi_url(site)).worker_token() != leaked
        line = next(line for line in run.warnings if line.startswith("pi5: alive in Consul, but not in the swarm"))
        assert line in comment
        assert any(unknown in line for line in run.warnings)
        again = reconcile(site, "pi2", gather=20)
        assert (again.changes, "pi5:" in again.comment) == ({}, False), again.comment
    finally:
        site.catalog.forget("pi5")


def test_a_rotation_that_was_cut_short_is_finished_by_the_next_run(site, kv):
    Engine(pi_url(site)).rotate_token("worker")
    stale = kv.get(TOKEN).json()["token"]
    runs = reconcile(site, *MANAGERS)
    token = Engine(pi_url(site)).worker_token()
    assert kv.get(TOKEN).json()["token"] == token != stale
    assert sum("join tokens" in run.changes for run in runs) == 1


def test_managers_at_once_rotate_the_tokens_once(site, kv):
    kv.delete(ROTATION)
    before = sum(line.startswith("POST /") and "rotate" in line for log in writes(site).values() for line in log)
    runs = reconcile(site, *MANAGERS)
    after = sum(line.startswith("POST /") and "rotate" in line for log in writes(site).values() for line in log)
    assert sum("join tokens" in run.changes for run in runs) == 1
    assert after - before == 2  # worker and manager
    assert kv.get(TOKEN).json()["token"] == Engine(pi_url(site)).worker_token()


# -- who may tend -------------------------------------------------------------------------------------------


def test_nothing_is_reconciled_without_the_clusters_record_or_a_leader_in_consul(site, kv, consul):
    record = kv.get(PREFIX + "record")
    before = writes(site)
    kv.put(record.key, {**record.json(), "cluster_id": "another"})
    result, comment = reconciler(site, "pi1").run()
    assert (result, "is not the cluster's swarm another" in comment) == (False, True)
    kv.delete(record.key)
    assert reconciler(site, "pi1").run()[0] is False
    kv.put(record.key, record.json())
    with consul.frozen():
        result, comment = reconciler(site, "pi1", patience=1).run()
    assert (result, "Consul" in comment) == (False, True)
    alone = reconciler(site, "pi1")
    with ConsulServer("alone", servers=2).leaderless() as server:
        alone.store = Store(consul_client.connect(server.url), "pi1")
        for result, comment in (alone.predict(), alone.run()):
            assert (result, "no node is reconciled while Consul has no leader" in comment) == (True, True), comment
    assert "no node is reconciled while Consul has no leader" in alone.warnings[0]
    assert writes(site) == before


@pytest.mark.long
def test_an_election_is_waited_for_and_a_lost_quorum_told(site, kv, monkeypatch):
    for name in ("pi2", "pi3"):
        site.dockerds[name].stop(signal.SIGKILL)
    try:
        engine = Engine(pi_url(site))
        until(lambda: engine.local().leaderless, 90, "pi1 to have no leader")
        before = writes(site), kv.list(PREFIX)
        lost, patient, ahead = (reconciler(site, "pi1", patience=bound) for bound in (2, 120, 120))
        result, comment = lost.run()
        assert (result, "pi1: the swarm has no leader, too few of its managers" in comment) == (False, True), comment
        monkeypatch.setattr(waits, "PATIENCE", 120)
        minion = Minion(site, "pi1")
        states = (("swarm.node", "pi4"), ("swarm.absent", "omega"), ("swarm.stack_absent", "web"))
        with ThreadPoolExecutor(5) as pool:
            runs = [pool.submit(patient.run), pool.submit(ahead.predict)]
            others = [pool.submit(minion.state, *state) for state in states]
            until(lambda: patient._since and ahead._since, 60, "both to wait for a leader")
            site.dockerds["pi2"].start()
            node, leaving, stack = (run.result() for run in others)
            assert (node["result"], node["comment"]) == (True, "pi4 is as wanted")
            assert "only 1 of 2 managers would be reachable" in leaving["comment"]
            assert (stack["result"], stack["comment"]) == (True, "there is no stack web")
            assert [run.result()[0] for run in runs] == [True, True], [run.result() for run in runs]
        assert (writes(site), kv.list(PREFIX)) == before
    finally:
        for name in ("pi2", "pi3"):
            site.dockerds[name].stop()
            site.dockerds[name].start()
        until(lambda: all(node.ready for node in Engine(pi_url(site)).nodes()), 90, "all nodes to be back")


def test_a_node_is_predicted_before_there_is_a_swarm_and_refused_by_a_run(site):
    outside = Minion(site, "pi4", **{"swarm.docker_url": site.dockerds[UNKNOWN].base_url})
    ahead = outside.state("swarm.node", "pi1", test=True, availability="drain")
    assert (ahead["result"], ahead["changes"]) == (None, {}), ahead
    assert "once swarm.member has made it a manager" in ahead["comment"]
    refused = outside.state("swarm.node", "pi1", availability="drain")
    assert (refused["result"], "this node is in no swarm" in refused["comment"]) == (False, True), refused


def test_f38_what_a_node_writes_into_its_own_key_stops_no_other_node(site, kv):
    key, own = NODES + "pi4", consul_client.connect(site.consul_url, site.tokens["pi4"])
    before = published(kv, "pi4")
    odd = {**before, "node_id": {"a": 1}, "address": 5, "role_now": "manager", "previous": [{}, 5], "wish": ["x"]}
    for junk in (b"\xff", b"[]", b"[" * 20000, odd):
        own.put(key, junk)
        for name, state in (("pi1", "swarm.nodes_managed"), ("pi2", "swarm.member")):
            result = Minion(site, name).state(state, "omega")
            assert (result["result"], result["changes"]) == (True, {}), result
    assert Minion(site, "pi4").state("swarm.member", "omega")["changes"] == {
        "published": {"old": "manager", "new": "worker"}
    }
    assert {**published(kv, "pi4"), "at": before["at"]} == before


# -- reinstalled boards ---------------------------------------------------------------------------------------


@pytest.mark.long
def test_f25_reinstalled_boards_get_their_labels_back_and_their_old_entries_go(site, kv, tmp_path):
    """On the way pi4 gets to know a join token that is rotated before it has used it (F39)."""
    for name, drained in (("pi3", "active"), ("pi4", "pause")):
        label(site, name, availability=drained, rack=name)
    site.set_node("pi4", labels={"disk": "ssd"})
    reconcile(site, "pi1")
    old = {name: published(kv, name)["node_id"] for name in ("pi3", "pi4")}
    begin = time.monotonic()
    for name in old:
        site.dockerds[name].wipe()
    reached, go_on = tmp_path / "reached", tmp_path / "go_on"
    patch = (
        "import omega.swarm.record as r, pathlib, time; real = r.Store.token; "
        f"stop = lambda: (pathlib.Path({str(reached)!r}).touch(), "
        f"[time.sleep(.05) for _ in iter(pathlib.Path({str(go_on)!r}).exists, True)]); "
        "r.Store.token = lambda *a: (real(*a), stop())[0]"
    )
    joining = [site.member("pi3"), site.member("pi4", patch=patch)]
    until(reached.exists, 60, "pi4 to read the token")
    Engine(pi_url(site)).rotate_token("worker")
    reconcile(site, "pi1")
    go_on.touch()
    until(lambda: all(published(kv, name)["node_id"] not in (None, old[name]) for name in old), 60, "both to join")
    runs = reconcile(site, "pi1", "pi2", gather=90)
    results = [run.result() for run in joining]
    assert [result["result"] for result in results] == [True, True], results
    assert time.monotonic() - begin < 120
    removed = [line for run in runs for line in run.changes.get("removed", [])]
    assert sorted(line.split(" ")[1].strip("():") for line in removed) == sorted(old.values()), removed
    nodes = Engine(pi_url(site)).nodes()
    assert sorted((node.hostname, node.role, node.state) for node in nodes) == [
        (name, role, "ready") for name, role in ROLES.items()
    ]
    assert spec_of(site, "pi3") == ("active", {"rack": "pi3"})
    assert spec_of(site, "pi4") == ("pause", {"rack": "pi4", "disk": "ssd"})
    assert not [line for log in writes(site).values() for line in log if "force=1" in line or "force=true" in line]
    again = reconcile(site, *MANAGERS)
    assert [run.changes for run in again] == [{}, {}, {}]


# -- leaving ------------------------------------------------------------------------------------------------


def absent(site, name, **arguments):
    return site.call(name, "state.single", "swarm.absent", "omega", **arguments).result()


def test_f30_a_manager_that_is_needed_for_the_quorum_does_not_even_begin_to_leave(site):
    site.dockerds["pi2"].stop(signal.SIGKILL)
    try:
        seen = Engine(pi_url(site))
        until(lambda: not seen.find("pi2").reachable, 60, "pi2 to be seen as unreachable")
        before = writes(site)
        result = absent(site, "pi3")
        assert (result["result"], result["changes"]) == (False, {}), result["comment"]
        assert "only 1 of 2 managers would be reachable" in result["comment"]
        assert writes(site) == before
    finally:
        site.dockerds["pi2"].start()
        until(lambda: Engine(pi_url(site)).find("pi2").reachable, 60, "pi2 to be back")


def test_a_manager_whose_tasks_stay_does_not_leave_and_tells_that_it_is_drained(site, monkeypatch):
    monkeypatch.setattr(Engine, "running_tasks", lambda self, node_id: ["stubborn"])
    result = Minion(site, "pi3").state("swarm.absent", "omega", drain_timeout=0.1)
    assert (result["result"], "for the tasks on this node to move away" in result["comment"]) == (False, True), result
    assert result["changes"] == {"availability": {"old": "active", "new": "drain"}}


@pytest.mark.long
def test_f30_a_manager_and_a_worker_leave_in_order_and_the_managers_drop_their_entries(site, kv):
    old = {name: published(kv, name)["node_id"] for name in ("pi3", "pi4")}
    before = writes(site), kv.list(PREFIX)
    ahead = absent(site, "pi3", test=True)
    assert ahead["result"] is None, ahead["comment"]
    assert (writes(site), kv.list(PREFIX)) == before
    begin = len(site.dockerds["pi3"].writes())
    for name, node_id in old.items():
        result = absent(site, name)
        assert result["result"] is True, result["comment"]
        assert name == "pi4" or result["changes"] == ahead["changes"]
        assert site.dockerds[name].info()["LocalNodeState"] == "inactive"
        assert (published(kv, name)["node_id"], published(kv, name)["previous"][-1]) == (None, node_id)
    steps = [line.split("?")[0].rpartition("/")[2] for line in site.dockerds["pi3"].writes()[begin:]]
    assert steps == ["update", "update", "leave"]

    seen = Engine(pi_url(site))
    until(lambda: {node.hostname for node in seen.nodes() if node.state == "down"} == {*old}, 40, "both to be down")
    del site.pillar["rpiomega"]["nodes"]["pi4"]
    kv.put(DEMOTED + "pi4", old["pi4"])
    runs = reconcile(site, "pi1", "pi2")
    assert sorted(node.hostname for node in seen.nodes()) == ["pi1", "pi2"]
    assert kv.list(NODES + "pi4") + kv.list(DEMOTED) == []
    assert published(kv, "pi3")["node_id"] is None
    assert [run.changes for run in reconcile(site, "pi1", "pi2")] == [{}, {}], runs[0].comment
    again = absent(site, "pi3")
    assert (again["result"], again["changes"]) == (True, {})
    assert not [line for log in writes(site).values() for line in log if "force=1" in line or "force=true" in line]

    # The last one stays.
    assert absent(site, "pi2")["result"] is True
    result = absent(site, "pi1")
    assert (result["result"], "last manager" in result["comment"]) == (False, True)
    assert site.dockerds["pi1"].info()["LocalNodeState"] == "active"
