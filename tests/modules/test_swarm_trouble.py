"""Swarm states while an engine refuses, stands still or restarts: two real daemons and a real Consul."""

import contextlib
import datetime
import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import ailing_engine
import pytest
import swarm_site
from dockerds import Dockerds, missing
from swarm_minion import Minion
from swarm_site import Site, until

from omega.consul import client as consul_client
from omega.swarm import absent, removal, waits
from omega.swarm.api import Engine, SwarmError
from omega.swarm.member import loop
from omega.swarm.member import run as member_run
from omega.swarm.record import NODES, PREFIX, RECORD, TOKEN, Store
from omega.swarm.settings import run as settings_run
from omega.swarm.settings import spec
from omega.swarm.settings.key import Keyring
from omega.swarm.stack import run as stack_run
from omega.swarm.stack.diff import NAMESPACE

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "runs")

ROLES = {"pi1": "manager", "pi2": "worker"}


consul = swarm_site.consul


@pytest.fixture(scope="module")
def started(consul, tmp_path_factory):
    with Dockerds(list(ROLES)) as dockerds:
        yield Site(dockerds, ROLES, consul, tmp_path_factory.mktemp("site"))


@pytest.fixture
def kv(consul):
    return consul.client()


@pytest.fixture
def site(started, kv):
    """Fresh daemons, nothing in Consul."""
    started.restore()
    kv.delete(PREFIX, recurse=True)
    return started


@pytest.fixture(scope="module")
def fresh(started):
    """Daemons in no swarm, for tests that change nothing."""
    started.restore()
    return started


def engine_of(site, name):
    return Engine(site.dockerds[name].base_url)


def member(site, name, engine=None, **bounds):
    """A run of swarm.member in this process."""
    store = Store(consul_client.connect(site.consul_url, site.tokens[name]), name)
    want = member_run.wanted(site.pillar["rpiomega"], name)
    return member_run.Run(engine or engine_of(site, name), store, want, member_run.Bounds(gather=0, **bounds))


def made(run):
    result, comment = loop.apply(run) if isinstance(run, member_run.Run) else run.run()
    assert result is True, comment


@contextlib.contextmanager
def taken(daemon, port):
    """While the block runs the node's port belongs to a socket that does not listen."""
    code = f"import socket; s = socket.socket(); s.bind(('', {port})); print(flush=True); input()"
    argv = [*daemon.keeper.enter("net"), sys.executable, "-c", code]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        yield
        process.communicate("\n")


# -- the engine refuses or stands still -----------------------------------------------------------------------


def test_an_init_that_the_engine_refuses_is_told_in_its_words(site, kv):
    with taken(site.dockerds["pi1"], 2377):
        result, comment = loop.apply(member(site, "pi1"))
    assert (result, "0.0.0.0:2377: bind: address already in use" in comment) == (False, True), comment
    assert kv.get(RECORD).json()["state"] == "vacant"


class Late(Engine):
    """An engine that carries out the first request to initialise only when the second one comes."""

    asked = 0

    def init(self, *args, **kwargs):
        self.asked += 1
        if self.asked == 1:
            raise SwarmError("timeout", "no answer in time")
        super().init(*args, **kwargs)
        super().init(*args, **kwargs)


def test_an_init_without_an_answer_stays_the_nodes_own_attempt(site, kv, monkeypatch):
    written, write = [], Store.write_record

    def noted(store, lock, state, *args, **kwargs):
        written.append(state)
        return write(store, lock, state, *args, **kwargs)

    monkeypatch.setattr(Store, "write_record", noted)
    made(member(site, "pi1", Late(site.dockerds["pi1"].base_url)))
    assert written == ["initializing", "initializing", "ready"]
    assert site.clusters() == {kv.get(RECORD).json()["cluster_id"]}


@pytest.mark.long  # the engine tries for 10 s
def test_a_join_that_is_refused_is_tried_again_with_the_token_that_is_the_right_one_by_then(site, kv):
    made(member(site, "pi1"))
    pi2, right = site.dockerds["pi2"], kv.get(TOKEN).json()
    prefix, version, digest, secret = right["token"].split("-")
    stale = "-".join((prefix, version, digest[:-1] + ("a" if digest[-1] != "a" else "b"), secret))  # of another CA
    kv.put(TOKEN, {**right, "token": stale})
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(made, member(site, "pi2"))
        until(lambda: any("/swarm/join" in line for line in pi2.writes()), 30, "an attempt to join")
        kv.put(TOKEN, right)
        run.result()
    assert sum("/swarm/join" in line for line in pi2.writes()) == 2


class Restarting(Engine):
    """An engine that restarts right before its `count`th request of one sort."""

    def __init__(self, daemon, what, count=1):
        super().__init__(daemon.base_url)
        self.daemon, self.what, self.count = daemon, what, count

    def _call(self, what, *args, **kwargs):
        self.count -= what == self.what
        if self.count == 0:
            self.count = -1
            self.daemon.stop()
            self.daemon.start(wait=False)
        return super()._call(what, *args, **kwargs)


@pytest.mark.long  # the engine restarts three times
def test_waits_go_on_while_the_engine_restarts(site, tmp_path):
    made(member(site, "pi1"))
    made(member(site, "pi2"))
    stores = {name: Store(consul_client.connect(site.consul_url, site.tokens[name]), name) for name in ROLES}
    pi1, store, settled = site.dockerds["pi1"], stores["pi1"], engine_of(site, "pi1")
    node_id = settled.find("pi2").id
    made(absent.Leaver(Restarting(site.dockerds["pi2"], "reading /info"), stores["pi2"]))
    until(lambda: settled.find(node_id).state == "down", 30, "pi2 to be down")
    store.write_demoted("pi2", node_id)
    dropped = removal.drop(Restarting(pi1, "listing the nodes", 2), store, "pi2")
    assert (dropped, [node.hostname for node in settled.nodes()]) == ([node_id], ["pi1"])
    assert store.snapshot().demoted == {}

    template = {"ContainerSpec": {"Image": "none:1"}, "RestartPolicy": {"Condition": "none"}}
    settled.api.create_service(template, name="web_app", labels={NAMESPACE: "web"})
    made(stack_run.Absent(Restarting(pi1, "listing the tasks"), store, "web", 30))

    wanted = {**dict.fromkeys(spec.NAMES), "labels_state": "merge", "task_history": 3}
    engine, keyring = Restarting(pi1, "inspecting the swarm"), Keyring(str(tmp_path / "key"))
    made(settings_run.Cluster(engine, wanted, keyring, store))
    assert settled.cluster()["Spec"]["Orchestration"]["TaskHistoryRetentionLimit"] == 3


# -- a join that goes on in the background --------------------------------------------------------------------


def failed_in_the_background(site, name):
    """Have a node join while the only manager's port is silent: the engine tries on, and fails (20.10: after 35 s)."""
    pi1 = site.dockerds["pi1"]
    pi1.block(2377)
    with pytest.raises(SwarmError, match="continue in the background"):
        engine_of(site, name).join(pi1.address, engine_of(site, "pi1").worker_token(), site.dockerds[name].address)
    until(lambda: site.dockerds[name].info()["LocalNodeState"] == "error", 60, "the join to fail")
    pi1.unblock(2377)


@pytest.mark.long  # the engine gives up after half a minute
def test_g01_a_join_that_failed_in_the_background_is_given_up_and_made_again(site):
    made(member(site, "pi1"))
    failed_in_the_background(site, "pi2")
    result, comment, ahead = loop.predict(member(site, "pi2"))
    assert (result, "give up a join that has failed" in comment) == (None, True), comment
    run = member(site, "pi2")
    made(run)
    assert set(ahead) == set(run.changes) == {"swarm state", "swarm", "published"}
    assert "DeadlineExceeded" in run.changes["swarm state"]["old"]
    assert site.roles_now("pi1") == ROLES


class Silenced(Engine):
    """An engine whose manager is silent from the moment at which it asks to join until the join has failed."""

    asked = 0

    def __init__(self, site, name):
        super().__init__(site.dockerds[name].base_url)
        self.manager = site.dockerds["pi1"]

    def join(self, *args, **kwargs):
        self.asked += 1
        if self.asked == 1:
            self.manager.block(2377)
        super().join(*args, **kwargs)

    def leave(self):
        super().leave()
        self.manager.unblock(2377)


@pytest.mark.long  # the engine gives up after half a minute
def test_g01_a_join_that_fails_in_the_background_is_made_again_in_the_same_run(site):
    made(member(site, "pi1"))
    engine = Silenced(site, "pi2")
    run = member(site, "pi2", engine)
    made(run)
    assert engine.asked == 2
    assert set(run.changes) == {"swarm", "published"}
    assert site.roles_now("pi1") == ROLES


# -- a worker token that was rotated by hand ------------------------------------------------------------------


def test_g04_a_joiner_whose_token_is_refused_says_so_and_asks_the_managers(site):
    made(member(site, "pi1"))
    engine_of(site, "pi1").rotate_token("worker")
    called, run = [], member(site, "pi2", join=12)
    run.notify = called.append
    result, comment = loop.apply(run)
    assert result is False
    assert "refuses the worker token in Consul" in comment
    assert "apply the state on pi1" in comment
    assert "SWMTKN" not in comment
    assert called == ["pi2"] * len(called) != []
    assert sum("/swarm/join" in line for line in site.dockerds["pi2"].writes()) <= 3


def test_a_failure_of_consul_is_not_retried_with_the_patience_for_engines():
    calls = []

    def act():
        calls.append(1)
        raise consul_client.ConsulError("unreachable", "no agent")

    with pytest.raises(consul_client.ConsulError):
        waits.retried(act, Engine("unix:///no/docker.sock"))
    assert calls == [1]


# -- a clock that nobody has confirmed ------------------------------------------------------------------------


def unconfirmed(site, name, **bounds):
    run = member(site, name, **bounds)
    run.synchronised = lambda: False
    return run


def test_g08_a_node_waits_for_its_clock_and_joins_where_there_is_no_time_server(site):
    made(unconfirmed(site, "pi1", clock=1))
    result, comment, _ = loop.predict(unconfirmed(site, "pi2"))
    assert (result, "waiting until the clock is synchronised" in comment) == (None, True), comment
    result, comment = loop.apply(unconfirmed(site, "pi2", clock=1))
    assert (result, "its clock is not synchronised" in comment) == (True, True), comment
    again = unconfirmed(site, "pi2", clock=1)
    assert loop.apply(again)[0] is True
    assert again.changes == {}


def test_g08_a_node_whose_clock_is_behind_that_of_others_does_not_join(site, kv):
    made(member(site, "pi1"))
    entry = kv.get(f"{NODES}pi1").json()
    later = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(days=40)
    kv.put(f"{NODES}pi1", {**entry, "at": later.isoformat(timespec="seconds")})
    result, comment = loop.apply(unconfirmed(site, "pi2", clock=1))
    assert result is False
    assert f"pi1 wrote to Consul at {later:%Y-%m-%d %H:%M:%S} UTC" in comment
    assert "timedatectl set-time" in comment
    assert not [line for line in site.dockerds["pi2"].writes() if "/swarm/" in line]
    run = member(site, "pi2")
    run.synchronised = lambda: True  # then it is pi1 whose clock is wrong
    made(run)


# -- test mode, before there is what the state needs ----------------------------------------------------------

NO_DOCKER = {"swarm.docker_url": "unix:///no/docker.sock"}
NO_CONSUL = {"consul.url": "http://127.0.0.1:1"}
COMPOSE = {"compose": {"version": "3.8", "services": {"app": {"image": "x"}}}}


def test_managers_that_do_not_agree_in_time_are_asked_again_and_reported():
    said = "rpc error: code = DeadlineExceeded desc = context deadline exceeded"  # on a network that loses packets
    swarm = {"ID": "s", "Version": {"Index": 1}, "Spec": {}}
    failing = pytest.raises(SwarmError, match="rotating the worker token: .*DeadlineExceeded.*`rpiomega doctor`")
    with ailing_engine.serve(known={"/swarm": swarm}, says=said) as url, failing as caught:
        Engine(url).rotate_token("worker")
    assert (caught.value.kind, caught.value.transient) == ("timeout", True)


@pytest.mark.parametrize(
    ("function", "lacks", "said"),
    [
        ("swarm.member", NO_DOCKER, "pi1: once Docker runs (no Docker Engine answers"),
        ("swarm.member", NO_CONSUL, "pi1: once Consul runs ("),
        ("swarm.tended", NO_DOCKER, "pi1: once Docker runs (no Docker Engine answers"),
        ("swarm.nodes_managed", NO_DOCKER, "pi1: once Docker runs (no Docker Engine answers"),
        ("swarm.node", NO_DOCKER, "pi1: once Docker runs (no Docker Engine answers"),
        ("swarm.absent", NO_DOCKER, "pi1: once Docker runs (no Docker Engine answers"),
        ("swarm.absent", NO_CONSUL, "pi1: once Consul runs ("),
        ("swarm.cluster", NO_DOCKER, "pi1: once Docker runs (no Docker Engine answers"),
        ("swarm.cluster", {}, "pi1: once swarm.member has made it a member (this node is in no swarm)"),
        ("swarm.stack", NO_DOCKER, "pi1: once Docker runs (no Docker Engine answers"),
        ("swarm.stack", {}, "pi1: once swarm.member has made it a manager (this node is in no swarm)"),
        ("swarm.stack_absent", {}, "pi1: once swarm.member has made it a manager (this node is in no swarm)"),
    ],
)
def test_test_mode_on_a_new_node_predicts_what_the_states_before_bring(fresh, function, lacks, said):
    began = time.monotonic()
    more = COMPOSE if function == "swarm.stack" else {}
    result = Minion(fresh, "pi1", **lacks).state(function, "web", test=True, **more)
    assert (result["result"], result["changes"], said in result["comment"]) == (None, {}, True), result
    assert time.monotonic() - began < 20, "it waited for what is not there: PATIENCE is 30 s"
    assert fresh.dockerds["pi1"].writes() == []


# -- force-new-cluster ----------------------------------------------------------------------------------------


def test_a_manager_made_the_only_one_keeps_the_addresses_it_was_started_with(site):
    pi1, engine = site.dockerds["pi1"], engine_of(site, "pi1")
    pi1.run("ip", "address", "add", "192.0.2.1/24", "dev", "eth0")
    file = pi1.root / "data" / "swarm" / "docker-state.json"
    engine.init(pi1.address, listen_address=pi1.address, data_path_addr="192.0.2.1", data_path_port=4790)
    engine.force_new_cluster(engine.local())
    after = json.loads(file.read_text())
    assert {key: after[key] for key in ("ListenAddr", "AdvertiseAddr", "DataPathAddr", "DataPathPort")} == {
        "ListenAddr": f"{pi1.address}:2377",
        "AdvertiseAddr": f"{pi1.address}:2377",
        "DataPathAddr": "192.0.2.1",
        "DataPathPort": 4790,
    }
