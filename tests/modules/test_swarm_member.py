"""`swarm.member` on four real daemons and a real Consul; F01.. are rows of the list of faults."""

import contextlib
import json
import signal
import time

import engine_log
import pytest
import swarm_site
from dockerds import Dockerds, missing
from swarm_catalog import Catalog
from swarm_site import Site, until

from omega.consul.client import ConsulError
from omega.swarm.api import Engine, SwarmError
from omega.swarm.member import loop
from omega.swarm.member import run as member_run
from omega.swarm.member.look import look
from omega.swarm.record import LOCK, NODES, PREFIX, RECORD, TOKEN, Published, Store, snapshot_of

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "runs")

ROLES = {"pi1": "manager", "pi2": "manager", "pi3": "manager", "pi4": "worker"}
MANAGERS = ["pi1", "pi2", "pi3"]
KILL = "import os, signal; kill = lambda *a, **k: os.kill(os.getpid(), signal.SIGKILL)"
KILL_BEFORE_INTENT = f"{KILL}; import omega.swarm.record as r; r.Store.write_record = kill"
SHORT_LOCK = (
    "import omega.consul.lock as l; hold = l.hold; "
    "l.hold = lambda *a, **k: hold(*a, ttl=10, renew=3, lock_delay=0, **k)"
)
KILL_AFTER_INIT = (
    f"{KILL}; {SHORT_LOCK}; import omega.swarm.api as d; init = d.Engine.init; "
    "d.Engine.init = lambda *a, **k: (init(*a, **k), kill())"
)


consul, kv = swarm_site.consul, swarm_site.kv


@pytest.fixture(scope="module")
def started(consul, tmp_path_factory):
    with Dockerds(list(ROLES)) as dockerds, Catalog(consul, dockerds) as catalog:
        site = Site(dockerds, ROLES, consul, tmp_path_factory.mktemp("site"))
        site.catalog = catalog
        yield site


@pytest.fixture
def site(started, kv):
    """Four fresh daemons, nothing in Consul, all nodes alive."""
    started.restore()
    kv.delete(PREFIX, recurse=True)
    for name in ROLES:
        started.catalog.set(name)
    return started


@pytest.fixture
def formed(site):
    """The finished swarm: three managers and a worker."""
    site.form()
    return site


def comments(results):
    return {name: (result["result"], result["comment"]) for name, result in results.items()}


def state_of(kv):
    """All that Consul holds for the swarm, and its sessions."""
    sessions = kv.request("get", "/v1/session/list")[1]
    return [(entry.key, entry.value, entry.modify_index) for entry in kv.list(PREFIX)], sessions


def state_recorded(kv):
    entry = kv.get(RECORD)
    return entry and entry.json()["state"]


def writes(site):
    return {name: site.dockerds[name].writes() for name in ROLES}


# -- forming ------------------------------------------------------------------------------------------------


def test_f01_all_nodes_at_once_form_one_swarm_and_a_second_run_changes_nothing(site, kv):
    site.set_node("pi4", availability="drain")
    for name, availability in zip(MANAGERS, ("pause", "pause", "keep")):
        site.set_node(name, availability=availability)
    results = site.apply()
    assert [result["result"] for result in results.values()] == [True] * 4, comments(results)
    cluster = kv.get(RECORD).json()["cluster_id"]
    assert site.clusters() == {cluster}
    until(lambda: site.roles_now("pi1") == ROLES, 30, "every node in its role")
    made = [name for name, result in results.items() if "initialised here" in result["changes"]["swarm"]["new"]]
    assert made == [kv.get(RECORD).json()["by"]]
    availability = {node.hostname: node.availability for node in Engine(site.dockerds["pi1"].base_url).nodes()}
    assert availability == {"pi1": "pause", "pi2": "pause", "pi3": "active", "pi4": "drain"}
    for name in ROLES:
        site.set_node(name, availability=None)

    before, logged = (state_of(kv)[0], writes(site)), len(site.dockerds["pi2"].log.read_text())
    again = site.apply()
    assert [(result["result"], result["changes"]) for result in again.values()] == [(True, {})] * 4, comments(again)
    assert (state_of(kv)[0], writes(site)) == before
    asked = [one.path for one in engine_log.requests(site.dockerds["pi2"].log.read_text()[logged:])]
    assert [path.rpartition("/")[2] for path in asked] == ["_ping", "info"], asked

    client = Engine(site.dockerds["pi1"].base_url)
    tokens = client.api.inspect_swarm()["JoinTokens"]
    said = json.dumps([*results.values(), *again.values()]) + site.logs()
    assert "SWMTKN" not in said
    stored = {entry.key: entry.text() for entry in kv.list("")}
    assert not any(tokens["Manager"] in text for text in stored.values())
    assert [key for key, text in stored.items() if "SWMTKN" in text] == [TOKEN]
    assert json.loads(stored[TOKEN])["token"] == tokens["Worker"]


def test_g04_a_worker_token_rotated_by_hand_is_published_by_the_manager_that_waits_for_joiners(site, kv):
    first = site.apply("pi1", gather_timeout=0)["pi1"]
    assert first["result"] is True, first
    engine = Engine(site.dockerds["pi1"].base_url)
    engine.rotate_token("worker")
    assert kv.get(TOKEN).json()["token"] != engine.worker_token()
    joiner = site.member("pi2")
    until(lambda: kv.get(f"{NODES}pi2") and kv.get(f"{NODES}pi2").session, 60, "a run on pi2 to be seen")
    results = {"pi1": site.apply("pi1")["pi1"], "pi2": joiner.result()}
    assert [result["result"] for result in results.values()] == [True, True], comments(results)
    assert (results["pi1"]["changes"]["promoted"], "worker token" in results["pi1"]["changes"]) == (["pi2"], True)
    assert kv.get(TOKEN).json()["token"] == engine.worker_token()
    assert "SWMTKN" not in json.dumps(list(results.values())) + site.logs()


def test_a_manager_that_comes_later_is_promoted_when_a_manager_looks(site, kv):
    first = site.apply("pi1", gather_timeout=2)["pi1"]
    assert first["result"] is True
    assert "pi2 has not joined, though Consul sees it alive: apply the state there" in first["comment"]
    late = site.apply("pi2", promote_timeout=1)["pi2"]
    assert late["result"] is False
    assert "waiting to be promoted" in late["comment"]
    assert "apply the state on pi1 or pi3" in late["comment"]
    assert site.call("pi2", "swarm.promote_waiting").result()["promoted"] == []
    assert site.call("pi1", "swarm.promote_waiting").result()["promoted"] == ["pi2"]
    until(lambda: Engine(site.dockerds["pi2"].base_url).local().control, 30, "pi2 to be a manager")
    after = site.apply("pi2")["pi2"]
    assert (after["result"], after["changes"]["role"]) == (True, {"old": "worker", "new": "manager"})


def test_test_mode_predicts_and_writes_nothing(site, kv):
    before = state_of(kv)
    results = site.apply(test=True)
    assert {name: result["result"] for name, result in results.items()} == dict.fromkeys(ROLES), comments(results)
    assert results["pi4"]["changes"] == {
        "swarm": {"old": "inactive", "new": "member of (new)"},
        "published": {"old": None, "new": "worker"},
    }
    assert (state_of(kv), writes(site)) == (before, {name: [] for name in ROLES})

    site.apply("pi1", gather_timeout=0)
    ahead, done = site.apply("pi4", test=True)["pi4"], site.apply("pi4")["pi4"]
    assert ahead["result"] is None
    assert set(ahead["changes"]) == set(done["changes"])
    assert site.apply("pi4", test=True)["pi4"]["result"] is True


def test_a_worker_waits_only_within_its_bound(site):
    result = site.apply("pi4", bootstrap_timeout=1)["pi4"]
    assert result["result"] is False
    assert "waiting for bootstrap by one of pi1, pi2, pi3" in result["comment"]


# -- interrupted --------------------------------------------------------------------------------------------


def test_f02_holder_killed_before_its_intent(site, kv):
    site.member("pi1", patch=KILL_BEFORE_INTENT).process.wait(60)
    fence = kv.get(LOCK).modify_index
    start = time.monotonic()
    runs = {name: site.member(name) for name in ("pi2", "pi3")}
    # The session's end (twice its TTL) and the lock-delay are 45 s; the bound of 60 s is for boards of their own.
    until(lambda: state_recorded(kv) == "ready", 120 - (time.monotonic() - start), "another manager's swarm on record")
    site.catalog.set("pi1", "critical")  # else it is waited for
    results = {name: run.result() for name, run in runs.items()}
    assert [result["result"] for result in results.values()] == [True, True], comments(results)
    record = kv.get(RECORD).json()
    assert (record["state"], record["by"] in ("pi2", "pi3"), record["fence"] > fence) == ("ready", True, True)
    assert len(site.clusters()) == 1


def test_f03_f04_holder_killed_between_init_and_ready(site, kv):
    site.member("pi1", patch=KILL_AFTER_INIT).process.wait(60)
    assert kv.get(RECORD).json()["state"] == "initializing"
    start = time.monotonic()
    results = site.apply("pi2", "pi4", initializer_timeout=2)
    assert time.monotonic() - start < 60
    for result in results.values():
        assert result["result"] is False
        assert "pi1 may hold a swarm" in result["comment"]
        assert "swarm.bootstrap_takeover pi1" in result["comment"]
    own = site.clusters()
    assert len(own) == 1

    results = site.apply()
    assert [result["result"] for result in results.values()] == [True] * 4, comments(results)
    assert site.clusters() == own == {kv.get(RECORD).json()["cluster_id"]}
    until(lambda: site.roles_now("pi1") == ROLES, 30, "every node in its role")


def test_a_node_lost_after_its_intent_is_given_up_only_by_name(site, kv):
    kv.put(RECORD, {"state": "initializing", "by": "pi1", "fence": 1, "cluster_id": None, "at": ""})
    site.catalog.set("pi1", "critical")
    refused = site.apply("pi2")["pi2"]
    assert (refused["result"], refused["seconds"] < 20) == (False, True), refused
    assert "pi1 may hold a swarm" in refused["comment"]
    wrong = site.call("pi2", "swarm.bootstrap_takeover", "pi3")
    with pytest.raises(AssertionError, match="the open attempt is of pi1, not of pi3"):
        wrong.result()
    assert site.call("pi2", "swarm.bootstrap_takeover", "pi1").result()["new"]["state"] == "vacant"
    assert site.apply("pi2", gather_timeout=0)["pi2"]["result"] is True


def test_an_init_that_fails_leaves_the_way_free_for_others(site, kv):
    failed = site.apply("pi1", address="192.0.2.300")["pi1"]
    assert failed["result"] is False
    assert kv.get(RECORD).json()["state"] == "vacant"
    assert site.apply("pi2", gather_timeout=0)["pi2"]["result"] is True


def test_consul_that_lost_its_keys_gets_the_same_swarm_recorded_again(formed, kv):
    own = formed.clusters()
    kv.delete(PREFIX, recurse=True)
    formed.dockerds["pi3"].stop(signal.SIGKILL)
    results = formed.apply("pi1", "pi2", "pi4")
    assert [result["result"] for result in results.values()] == [True] * 3, comments(results)
    assert {kv.get(RECORD).json()["cluster_id"]} == own


def test_a_new_manager_does_not_initialise_beside_an_unrecorded_swarm(formed, kv):
    kv.delete(PREFIX, recurse=True)
    formed.dockerds["pi3"].wipe()
    result = formed.apply("pi3", bootstrap_timeout=1)["pi3"]
    assert result["result"] is False
    assert "pi1, pi2 already runs a swarm manager" in result["comment"]
    assert formed.dockerds["pi3"].info()["LocalNodeState"] == "inactive"


# -- joining ------------------------------------------------------------------------------------------------


def test_f27_dead_first_manager(formed):
    formed.dockerds["pi1"].unplug()
    formed.dockerds["pi4"].wipe()
    result = formed.apply("pi4")["pi4"]
    assert (result["result"], result["seconds"] < 60) == (True, True), result["comment"]
    assert f"passed over: {formed.dockerds.subnet}.11:2377/tcp" in result["comment"]


def test_f20_a_blocked_port_is_named(formed):
    for name in MANAGERS:
        formed.dockerds[name].block(7946)
    formed.dockerds["pi4"].wipe()
    result = formed.apply("pi4", join_timeout=1)["pi4"]
    assert result["result"] is False
    assert f"{formed.dockerds.subnet}.12:7946/tcp gave no answer" in result["comment"]
    assert formed.dockerds["pi4"].info()["LocalNodeState"] == "inactive"


def test_f28_another_swarm_is_refused_with_both_ids(formed, kv):
    pi4 = formed.dockerds["pi4"]
    pi4.wipe()
    foreign = pi4.client(60).swarm.init(advertise_addr=pi4.address) and pi4.info()["Cluster"]["ID"]
    result = formed.apply("pi4")["pi4"]
    assert result["result"] is False
    assert foreign in result["comment"]
    assert kv.get(RECORD).json()["cluster_id"] in result["comment"]
    assert pi4.info()["Cluster"]["ID"] == foreign


def test_f28_a_worker_of_another_swarm_is_told_too(formed):
    pi3, pi4 = formed.dockerds["pi3"], formed.dockerds["pi4"]
    pi3.wipe()
    pi4.wipe()
    pi3.client(60).swarm.init(advertise_addr=pi3.address)
    foreign, token = pi3.info()["Cluster"]["ID"], pi3.client().swarm.attrs["JoinTokens"]["Worker"]
    pi4.client(40).swarm.join([f"{pi3.address}:2377"], token, advertise_addr=pi4.address)
    result = formed.apply("pi4")["pi4"]
    assert (result["result"], foreign in result["comment"]) == (False, True), result["comment"]


def test_f29_locked_error_and_pending_are_told_apart(formed):
    pi3, pi4 = formed.dockerds["pi3"], formed.dockerds["pi4"]
    locked = {"EncryptionConfig": {"AutoLockManagers": True}}
    Engine(pi3.base_url).update_swarm(lambda spec: {**spec, **locked})
    key = pi3.root / "data/swarm/certificates/swarm-node.key"
    until(lambda: "ENCRYPTED" in key.read_text(), 30, "pi3 to encrypt its key")
    pi3.restart()
    before = writes(formed)
    assert "docker swarm unlock" in formed.apply("pi3")["pi3"]["comment"]
    assert writes(formed) == before

    pi4.stop()
    (pi4.root / "data/swarm/certificates/swarm-node.crt").write_text("not a certificate")
    pi4.start()
    result = formed.apply("pi4")["pi4"]
    assert (result["result"], "broken" in result["comment"]) == (False, True), result["comment"]
    assert writes(formed) == before

    pi4.wipe()
    token = formed.dockerds["pi1"].client().swarm.attrs["JoinTokens"]["Worker"]
    client = pi4.client(40)
    client.api.timeout = 1
    with contextlib.suppress(OSError):
        client.swarm.join([f"{formed.dockerds.subnet}.99:2377"], token, advertise_addr=pi4.address)
    until(lambda: pi4.info()["LocalNodeState"] == "pending", 20, "pi4 to try to join")
    result = formed.apply("pi4", join_timeout=0)["pi4"]
    assert result["result"] is False
    assert "still trying to join" in result["comment"]
    assert f"{formed.dockerds.subnet}.99:2377/tcp" in result["comment"]


def paused(folder, module, function):
    """(patch, reached, go_on): the run touches `reached` when it calls the function and waits for `go_on` to exist."""
    reached, go_on = folder / "reached", folder / "go_on"
    patch = (
        f"import {module.rpartition('.')[0]}, pathlib, time; real = {module}.{function}; "
        f"stop = lambda: (pathlib.Path({str(reached)!r}).touch(), "
        f"[time.sleep(.05) for _ in iter(pathlib.Path({str(go_on)!r}).exists, True)]); "
        f"{module}.{function} = lambda *a, **k: (stop(), real(*a, **k))[1]"
    )
    return patch, reached, go_on


def test_a_decision_to_initialise_that_is_out_of_date_is_not_carried_out(site, tmp_path):
    patch, reached, go_on = paused(tmp_path, "omega.swarm.record.Store", "hold")
    run = site.member("pi2", patch=patch)
    until(reached.exists, 60, "pi2 to decide")
    assert site.apply("pi1", gather_timeout=0, promote_timeout=0)["pi1"]["result"] is True
    own = site.clusters()
    go_on.touch()
    assert site.apply("pi1")["pi1"]["result"] is True
    result = run.result()
    assert result["result"] is True, result["comment"]
    assert site.clusters() == own


def test_f17_a_holder_that_was_frozen_past_its_lock_does_not_initialise(site, kv, tmp_path):
    patch, reached, go_on = paused(tmp_path, "omega.swarm.record.Store", "write_record")
    run = site.member("pi1", patch=f"{SHORT_LOCK}; {patch}", promote_timeout=0)
    until(reached.exists, 60, "pi1 to hold the lock")
    run.process.send_signal(signal.SIGSTOP)
    assert site.apply("pi2", gather_timeout=0)["pi2"]["result"] is True
    record = kv.get(RECORD).value
    go_on.touch()
    run.process.send_signal(signal.SIGCONT)
    assert "waiting to be promoted" in run.result()["comment"]
    assert kv.get(RECORD).value == record
    assert not [line for line in site.dockerds["pi1"].writes() if line.endswith("/swarm/init")]
    assert len(site.clusters()) == 1


def test_f41_daemon_restarted_in_the_middle_of_a_join(formed, tmp_path):
    pi4 = formed.dockerds["pi4"]
    pi4.wipe()
    seen = Engine(formed.dockerds["pi1"].base_url)
    before = len(seen.nodes())
    patch, reached, go_on = paused(tmp_path, "omega.swarm.api.Engine", "join")
    run = formed.member("pi4", patch=patch)
    until(reached.exists, 60, "the run to join")
    pi4.stop(signal.SIGKILL)
    go_on.touch()
    pi4.start()
    result = run.result()
    assert result["result"] is True, result["comment"]
    assert len(seen.nodes()) == before + 1


def test_no_daemon_is_one_clear_line_within_the_bound(site):
    site.dockerds["pi4"].stop()
    result = site.apply("pi4", engine_timeout=2)["pi4"]
    assert (result["result"], result["seconds"] < 20) == (False, True), result
    assert "no Docker Engine answers" in result["comment"]
    assert "journalctl -u docker" in result["comment"]


def test_no_consul_is_one_clear_line_within_the_bound(site, consul):
    with consul.frozen():
        result = site.apply("pi4", consul_timeout=4)["pi4"]
    assert (result["result"], result["seconds"] < 14) == (False, True), result
    assert "Consul" in result["comment"]


# -- presence -----------------------------------------------------------------------------------------------


def present(kv):
    return snapshot_of(kv.list(PREFIX)).published["pi2"].present


@pytest.fixture
def store(consul, kv):
    """Makes the Store of a run on pi2 that shows itself; what it began ends with the test."""
    runs = []

    def begin():
        runs.append(Store(consul.client(), "pi2"))
        runs[-1].show_presence()
        runs[-1].publish(Published(address="192.0.2.2"))
        return runs[-1]

    yield begin
    for run in runs:
        run.end_presence()
    kv.delete(PREFIX, recurse=True)


def test_a_run_after_one_that_was_killed_is_seen_beyond_the_end_of_that_ones_session(kv, store):
    killed, again = store()._session, store()
    kv.session_destroy(killed)  # as its TTL does, at the latest
    assert present(kv)
    again.end_presence()
    assert not present(kv)


def test_a_run_that_stood_still_for_longer_than_its_session_is_seen_again(kv, store):
    run = store()
    kv.session_destroy(run._session)
    assert not present(kv)
    run.publish(Published(role_now="worker"))
    assert present(kv)


def test_a_run_that_consul_did_not_hear_at_first_is_seen_later(site, kv, consul):
    want = member_run.wanted(site.pillar["rpiomega"], "pi2")
    run = member_run.Run(Engine(site.dockerds["pi2"].base_url), Store(consul.client(), "pi2"), want)
    facts = look(run)
    with consul.frozen(), pytest.raises(ConsulError):
        loop._show_presence(run, facts)
    loop._show_presence(run, facts)
    assert present(kv)
    run.store.end_presence()


# -- roles ------------------------------------------------------------------------------------------------


def test_a_role_changed_in_the_site_is_carried_out_both_ways(formed):
    formed.set_role("pi3", "worker")
    ahead, done = formed.apply("pi3", test=True)["pi3"], formed.apply("pi3")["pi3"]
    assert ahead["changes"]["role"] == done["changes"]["role"] == {"old": "manager", "new": "worker"}
    until(lambda: formed.roles_now("pi1").get("pi3") == "worker", 30, "pi3 to be a worker")
    formed.set_role("pi3", "manager")
    results = formed.apply()
    assert [result["result"] for result in results.values()] == [True] * 4, comments(results)
    until(lambda: formed.roles_now("pi1") == ROLES, 30, "every node in its role")


@pytest.mark.parametrize(
    ("before", "changed"),
    [
        ("mmmw", {"pi3": "worker", "pi4": "manager"}),
        ("mmmw", {"pi2": "worker", "pi3": "worker"}),
        ("mwww", {"pi1": "worker", "pi2": "manager"}),
    ],
    ids=["swap one of three", "3 managers to 1", "swap the only manager"],
)
def test_g02_roles_changed_in_one_edit_are_carried_out_by_one_apply_to_all(site, before, changed):
    for name, letter in zip(ROLES, before):
        site.set_role(name, {"m": "manager", "w": "worker"}[letter])
    site.form()
    ids = {node.hostname: node.id for node in Engine(site.dockerds["pi1"].base_url).nodes()}
    for name, role in changed.items():
        site.set_role(name, role)
    wanted = {name: entry["roles"][0] for name, entry in site.pillar["rpiomega"]["nodes"].items()}
    down = [name for name, role in changed.items() if role == "worker"]
    ahead = site.apply(*down, test=True)
    assert {name: ret["changes"]["role"]["new"] for name, ret in ahead.items()} == dict.fromkeys(down, "worker"), ahead
    results = site.apply()
    assert [result["result"] for result in results.values()] == [True] * 4, comments(results)
    manager = next(name for name, role in wanted.items() if role == "manager")
    until(lambda: site.roles_now(manager) == wanted, 60, "every node in its role")
    assert {node.hostname: node.id for node in Engine(site.dockerds[manager].base_url).nodes()} == ids
    again = site.apply()
    assert [(ret["result"], ret["changes"]) for ret in again.values()] == [(True, {})] * 4, comments(again)


def test_f30_a_demotion_that_costs_the_quorum_is_refused_before_the_call(formed):
    formed.dockerds["pi2"].stop(signal.SIGKILL)
    seen = Engine(formed.dockerds["pi1"].base_url)
    until(lambda: not seen.find("pi2").reachable, 60, "pi2 to be seen as unreachable")
    before = writes(formed)
    formed.set_role("pi3", "worker")
    result = formed.apply("pi3")["pi3"]
    assert (result["result"], "1 of 2 managers" in result["comment"]) == (False, True), result["comment"]
    with pytest.raises(AssertionError, match="1 of 2 managers"):
        formed.call("pi1", "swarm.demote", "pi3").result()
    assert writes(formed) == before


# -- the execution module -----------------------------------------------------------------------------------


def test_node_update_keeps_what_it_is_not_asked_to_change(formed):
    first = formed.call("pi1", "swarm.node_update", "pi4", labels={"disk": "ssd"}, availability="drain").result()
    assert first["availability"] == {"old": "active", "new": "drain"}
    formed.call("pi2", "swarm.node_update", "pi4", labels={"zone": "attic"}).result()
    spec = formed.call("pi3", "swarm.node_inspect", "pi4").result()["Spec"]
    assert spec == {"Role": "worker", "Availability": "drain", "Labels": {"disk": "ssd", "zone": "attic"}}


def test_errors_of_the_module_say_what_this_node_is(site):
    site.apply("pi1", "pi4", gather_timeout=0)
    engine = Engine(site.dockerds["pi4"].base_url)
    with pytest.raises(SwarmError, match="this node is a worker of swarm") as caught:
        engine.nodes()
    assert caught.value.kind == "not_manager"
    with pytest.raises(SwarmError, match="in no swarm") as caught:
        Engine(site.dockerds["pi2"].base_url).nodes()
    assert caught.value.kind == "inactive"
    with pytest.raises(SwarmError) as caught:
        Engine("unix:///nowhere/docker.sock").nodes()
    assert caught.value.kind == "no_daemon"
