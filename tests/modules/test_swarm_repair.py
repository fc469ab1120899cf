"""`swarm.member` on memberships that are damaged, on four real daemons and a real Consul; F.. are rows of the list of
faults. salt-call runs in each node's own network and hostname, because addresses are judged."""

import contextlib
import datetime
import re
import signal
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from consul_server import ConsulServer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from dockerds import Dockerds, missing
from swarm_site import Site

from omega.consul import client as consul_client
from omega.core.polling import until
from omega.swarm.api import Engine
from omega.swarm.member import loop, roles
from omega.swarm.member import run as member_run
from omega.swarm.record import DEMOTED, NODES, PREFIX, RECORD, Store

pytestmark = [pytest.mark.long, pytest.mark.skipif(bool(missing()), reason=missing() or "runs")]

ROLES = {"pi1": "manager", "pi2": "manager", "pi3": "manager", "pi4": "worker"}


@pytest.fixture(scope="module")
def dockerds():
    with Dockerds(list(ROLES)) as started:
        yield started


@pytest.fixture(scope="module")
def consul(dockerds):
    with ConsulServer(acl=True, address=f"{dockerds.subnet}.1") as server:
        yield server


@pytest.fixture(scope="module")
def kv(consul):
    return consul.client()


@pytest.fixture(scope="module")
def started(dockerds, consul, tmp_path_factory):
    return Site(dockerds, ROLES, consul, tmp_path_factory.mktemp("site"), inside=True)


@pytest.fixture
def site(started, kv):
    """Four fresh daemons and nothing in Consul."""
    for daemon in started.dockerds:
        started.set_node(daemon.name, address=daemon.address)
    started.restore()
    kv.delete(PREFIX, recurse=True)
    for name in ROLES:
        set_alive(kv, started, name)
    return started


@pytest.fixture
def formed(site):
    """The finished swarm: three managers and a worker."""
    site.form()
    return site


def set_alive(kv, site, name, status="passing"):
    """Let Consul's catalog see a node as a member of its own: only the server itself runs here."""
    check = {"CheckID": "serfHealth", "Name": "Serf Health Status", "Status": status}
    kv.request(
        "put", "/v1/catalog/register", data={"Node": name, "Address": site.dockerds[name].address, "Check": check}
    )


@contextlib.contextmanager
def announced(kv, site, statuses):
    """While the block runs Consul's catalog holds these {name: status}: it drops after a minute what no agent keeps."""
    over = threading.Event()

    def announce():
        while True:
            for name, status in dict(statuses).items():
                set_alive(kv, site, name, status)
            if over.wait(1):
                return

    thread = threading.Thread(target=announce)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()


def engine(site, name):
    return Engine(site.dockerds[name].base_url)


def entries(site, name, seen_by="pi1"):
    """{NodeID: Node} of all entries with that hostname."""
    return {node.id: node for node in engine(site, seen_by).nodes() if node.hostname == name}


def reachable(site, seen_by="pi1"):
    return sorted(node.hostname for node in engine(site, seen_by).nodes() if node.reachable)


def refused(site, name, *words, **arguments):
    """The state fails there, says all `words`, and asks neither daemon nor Consul to change anything."""
    before = {each: site.dockerds[each].writes() for each in ROLES}
    for test in (True, False):
        result = site.apply(name, test=test, **arguments)[name]
        assert (result["result"], result["changes"]) == (False, {}), result
        assert not [word for word in words if word not in result["comment"]], result["comment"]
    assert {each: site.dockerds[each].writes() for each in ROLES} == before
    return result


def move(site, name, last):
    """The board gets another address and its engine restarts; returns the address."""
    address = f"{site.dockerds.subnet}.{last}"
    site.dockerds[name].readdress(address)
    site.dockerds[name].restart()
    return address


# -- F31: the address changed -------------------------------------------------------------------------------


def test_f31_the_address_of_a_worker_changed(formed, kv):
    old, before = formed.dockerds["pi4"].address, formed.dockerds["pi4"].info()["NodeID"]
    new = move(formed, "pi4", 44)
    said = (f"the site says {old}", "no interface of it has that address", f"it has {new}")
    refused(formed, "pi4", *said)
    formed.ask_consul_at("http://127.0.0.1:1", "pi4")  # its agent, bound to the old address, cannot start
    refused(formed, "pi4", *said, "no agent answers")
    formed.ask_consul_at(formed.consul_url, "pi4")
    formed.set_node("pi4", address=new)
    refused(formed, "pi4", f"knows pi4 at {old}", f"say {new}", "readdress=True")
    ahead = formed.apply("pi4", readdress=True, test=True)["pi4"]
    done = formed.apply("pi4", readdress=True)["pi4"]
    assert (ahead["result"], done["result"]) == (None, True), done["comment"]
    assert ahead["changes"]["address"] == done["changes"]["address"] == {"old": old, "new": new}
    now = formed.dockerds["pi4"].info()
    assert (now["NodeAddr"], kv.get(f"{NODES}pi4").json()["previous"]) == (new, [before])
    again = formed.apply("pi4", readdress=True)["pi4"]
    assert (again["result"], again["changes"]) == (True, {})


def wishes(entry):
    return entry.session and entry.json().get("wish")


def test_f31_the_address_of_a_manager_changed(formed, kv):
    old, before = formed.dockerds["pi3"].address, formed.dockerds["pi3"].info()["NodeID"]
    new = move(formed, "pi3", 43)
    formed.set_node("pi3", address=new)
    refused(formed, "pi3", f"knows pi3 at {old}", f"say {new}", "readdress=True")
    alone = formed.apply("pi3", readdress=True, promote_timeout=2)["pi3"]
    assert alone["result"] is False
    assert "apply the state on pi1 or pi2 at the same time" in alone["comment"]

    run = formed.member("pi3", readdress=True)
    until(lambda: wishes(kv.get(f"{NODES}pi3")), 60, "a run on pi3 to wish its demotion")
    helped = formed.apply("pi1")["pi1"]
    result = run.result()
    assert (helped["result"], result["result"]) == (True, True), (helped["comment"], result["comment"])
    assert (helped["changes"]["demoted"], helped["changes"]["promoted"]) == (["pi3"], ["pi3"])
    assert result["changes"]["address"] == {"old": old, "new": new}
    until(lambda: reachable(formed) == ["pi1", "pi2", "pi3"], 30, "three reachable managers")
    assert entries(formed, "pi3")[before].role == "worker"
    assert kv.get(f"{NODES}pi3").json()["previous"] == [before]
    assert formed.apply("pi3")["pi3"]["changes"] == {}


def test_g06_a_manager_that_moved_while_its_engine_runs_learns_of_its_demotion_by_a_restart(formed, kv):
    pi3, old = formed.dockerds["pi3"], formed.dockerds["pi3"].address
    node_id, new = pi3.info()["NodeID"], f"{formed.dockerds.subnet}.43"
    pi3.readdress(new)
    formed.set_node("pi3", address=new)
    until(lambda: engine(formed, "pi3").local().leaderless, 60, "pi3 to lose its leader")
    seen, restarts = [], []

    def restart(node):
        restarts.append(node)
        formed.dockerds[node].restart()

    run = run_of(formed, "pi3", restart=restart, readdress=True)
    until(lambda: seen.append(loop.predict(run)) or seen[-1][0] is None, 60, "a prediction")
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(loop.apply, run_of(formed, "pi3", restart=restart, readdress=True))
        until(lambda: wishes(kv.get(f"{NODES}pi3")), 60, "a run on pi3 to wish its demotion")
        helped = formed.apply("pi1")["pi1"]
        result, comment = running.result()
    assert (helped["result"], result) == (True, True), (helped["comment"], comment)
    assert restarts == ["pi3"]
    assert pi3.info()["NodeAddr"] == new
    assert kv.get(f"{NODES}pi3").json()["previous"] == [node_id]
    until(lambda: reachable(formed) == ["pi1", "pi2", "pi3"], 60, "three reachable managers")
    assert set(seen[-1][2]) == {"address", "swarm", "published", "role"}, (old, seen[-1])


def test_g06_a_manager_that_was_demoted_before_the_run_has_its_engine_restarted_at_once(formed, kv):
    pi3 = formed.dockerds["pi3"]
    node_id, new = pi3.info()["NodeID"], f"{formed.dockerds.subnet}.43"
    pi3.readdress(new)
    formed.set_node("pi3", address=new)
    until(lambda: engine(formed, "pi3").local().leaderless, 60, "pi3 to lose its leader")
    roles.release(engine(formed, "pi1"), Store(kv, "pi1"), "pi3", node_id)
    until(lambda: len(engine(formed, "pi1").local().managers) == 2, 60, "pi3 to be no manager any more")
    result, comment = loop.apply(run_of(formed, "pi3", readdress=True))
    assert result is False
    assert "run `sudo systemctl restart docker` there" in comment
    run = run_of(formed, "pi3", restart=lambda node: pi3.restart(), readdress=True)
    result, comment, ahead = loop.predict(run)
    assert result is None, comment
    assert (set(ahead), "its engine does not notice" in comment) == (
        {"engine", "address", "swarm", "published", "role"},
        True,
    )
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(loop.apply, run)
        until(lambda: kv.get(f"{NODES}pi3").json()["role_now"] == "worker", 90, "pi3 to have joined again")
        assert formed.apply("pi1")["pi1"]["changes"]["promoted"] == ["pi3"]
        result, comment = running.result()
    assert (result, set(run.changes)) == (True, set(ahead)), comment
    assert kv.get(f"{DEMOTED}pi3") is None


def test_f31_the_only_manager_is_left_to_the_operator(site):
    assert site.apply("pi1", gather_timeout=0)["pi1"]["result"] is True
    old = site.dockerds["pi1"].address
    site.set_node("pi1", address=move(site, "pi1", 41))
    refused(site, "pi1", "it is the only manager", f"give it {old} back", "docs/operations.md", readdress=True)


def test_f31_a_manager_keeps_its_place_while_another_is_down(formed):
    new = f"{formed.dockerds.subnet}.43"
    formed.dockerds["pi3"].run("ip", "address", "add", f"{new}/24", "dev", "eth0")
    formed.set_node("pi3", address=new)
    formed.dockerds["pi2"].stop(signal.SIGKILL)
    until(lambda: "pi2" not in reachable(formed, "pi3"), 60, "pi2 to be seen as unreachable")
    refused(formed, "pi3", "only while all other managers can be reached; pi2 cannot", readdress=True)


def test_f30_surplus_managers_that_step_down_at_the_same_moment_leave_the_quorum(site, consul, monkeypatch):
    """No lock of ours does this, for Consul lets a worker write none: the engine does (swarmkit: CanRemoveMember)."""
    site.set_role("pi4", "manager")
    site.tokens["pi4"] = site._token(consul, "pi4")
    site.form()
    site.dockerds["pi4"].stop(signal.SIGKILL)
    until(lambda: reachable(site) == ["pi1", "pi2", "pi3"], 60, "pi4 to be seen as unreachable")
    both, step_down = threading.Barrier(2), roles.step_down
    decided = set()

    def together(run, facts):
        if run.want.node not in decided:
            decided.add(run.want.node)
            both.wait(60)
        step_down(run, facts)

    monkeypatch.setattr(roles, "step_down", together)
    for name in ("pi2", "pi3"):
        site.set_role(name, "worker")
    bounds = member_run.Bounds(promote=20)
    runs = [run_of(site, name, bounds) for name in ("pi2", "pi3")]
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(loop.apply, runs))
    assert sorted(result for result, _ in results) == [False, True], results
    late, (_, comment) = next(pair for pair in zip(("pi2", "pi3"), results) if not pair[1][0])
    assert "still a manager after 20 s" in comment or "only 1 of 2 managers would be reachable" in comment
    assert reachable(site) == sorted(["pi1", late])
    site.dockerds["pi4"].start()
    until(lambda: "pi4" in reachable(site), 60, "pi4 to be back")
    result, comment = loop.apply(run_of(site, late))
    assert result is True, comment
    assert reachable(site) == ["pi1", "pi4"]


# -- F34: the certificate expired ---------------------------------------------------------------------------


def expire(daemon):
    """Give the node, at its next start, a certificate of its own name and key that ended an hour ago; returns when."""
    folder = daemon.root / "data/swarm/certificates"
    pem = (folder / "swarm-node.key").read_text()
    pem = re.sub(r"(?m)^(kek-version|raft-dek): .*\n+", "", pem)
    key = serialization.load_pem_private_key(pem.encode(), None)
    cert = x509.load_pem_x509_certificate((folder / "swarm-node.crt").read_bytes())
    end = datetime.datetime.now(datetime.timezone.utc).replace(microsecond=0) - datetime.timedelta(hours=1)
    builder = x509.CertificateBuilder(cert.issuer, cert.subject, key.public_key(), cert.serial_number)
    builder = builder.not_valid_before(end - datetime.timedelta(hours=2)).not_valid_after(end)
    daemon.stop()
    made = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    (folder / "swarm-node.crt").write_bytes(made)
    daemon.start()
    return end.strftime("%Y-%m-%d %H:%M:%S UTC")


@pytest.mark.parametrize("name", ["pi4", "pi3"])
def test_f34_expired_certificate(formed, kv, name):
    daemon = formed.dockerds[name]
    before, end = daemon.info()["NodeID"], expire(daemon)
    until(lambda: daemon.info()["LocalNodeState"] == "error", 30, "the engine to say what it makes of it")
    refused(formed, name, f"certificate of {name} expired at {end}", "rejoin=True")
    ahead = formed.apply(name, rejoin=True, test=True)[name]
    run = formed.member(name, rejoin=True)
    if ROLES[name] == "manager":
        until(lambda: kv.get(f"{NODES}{name}").json()["role_now"] == "worker", 60, f"{name} to have joined again")
        assert formed.apply("pi1")["pi1"]["changes"]["promoted"] == [name]
    done = run.result()
    assert (ahead["result"], done["result"]) == (None, True), (ahead["comment"], done["comment"])
    assert set(ahead["changes"]) == set(done["changes"])
    assert kv.get(f"{NODES}{name}").json()["previous"] == [before]
    assert daemon.info()["LocalNodeState"] == "active"
    assert formed.apply(name)[name]["changes"] == {}


@pytest.mark.parametrize("name", ["pi4", "pi3"])
def test_g08_an_engine_that_started_with_a_wrong_clock_is_restarted_once_the_clock_is_right(formed, kv, name):
    daemon = formed.dockerds[name]
    file, node_id = daemon.root / "data/swarm/certificates/swarm-node.crt", daemon.info()["NodeID"]
    valid = file.read_bytes()
    expire(daemon)
    until(lambda: daemon.info()["LocalNodeState"] == "error", 30, "the engine to say what it makes of it")
    file.write_bytes(valid)  # by the clock, the certificate is valid now; the engine does not look again
    refused_restart, comment = loop.apply(run_of(formed, name))
    assert refused_restart is False
    assert "sudo systemctl restart docker" in comment
    assert "swarm leave" not in comment
    run = run_of(formed, name, restart=lambda node: formed.dockerds[node].restart())
    result, comment, ahead = loop.predict(run)
    assert (result, "restart the engine" in comment) == (None, True), comment
    result, comment = loop.apply(run)
    assert (result, set(run.changes)) == (True, set(ahead)), (comment, run.changes, ahead)
    assert daemon.info()["NodeID"] == node_id, "it left"


def test_g01_what_was_a_member_does_not_leave_though_its_certificate_is_gone(formed):
    daemon = formed.dockerds["pi4"]
    expire(daemon)
    until(lambda: daemon.info()["LocalNodeState"] == "error", 30, "the engine to say what it makes of it")
    (daemon.root / "data/swarm/certificates/swarm-node.crt").unlink()
    refused(formed, "pi4", "run `docker swarm leave` by hand")


def test_f34_a_manager_stays_where_the_others_are_no_quorum(formed):
    formed.dockerds["pi2"].stop(signal.SIGKILL)
    expire(formed.dockerds["pi3"])
    refused(formed, "pi3", "only 1 of 3 managers would keep the swarm", "2377/tcp", rejoin=True)


# -- F29: locked --------------------------------------------------------------------------------------------


def lock(site, name):
    """Autolock on, and the node's engine restarted; returns the unlock key."""
    seen = engine(site, name)
    seen.update_swarm(lambda spec: {**spec, "EncryptionConfig": {"AutoLockManagers": True}})
    key, file = seen.unlock_key(), site.dockerds[name].root / "data/swarm/certificates/swarm-node.key"
    until(lambda: "ENCRYPTED" in file.read_text(), 60, f"{name} to encrypt its key")
    site.dockerds[name].restart()
    assert site.dockerds[name].info()["LocalNodeState"] == "locked"
    return key


def test_f29_a_locked_manager_is_unlocked_with_the_kept_key(formed, tmp_path):
    file = tmp_path / "unlock-key"
    key = lock(formed, "pi3")
    refused(formed, "pi3", "locked", "docker swarm unlock", f"no key is kept in {file}", unlock_key_file=str(file))
    file.write_text(key)
    file.chmod(0o644)
    refused(formed, "pi3", f"{file} is not used", "chmod 600", unlock_key_file=str(file))
    file.chmod(0o600)
    file.write_text("SWMKEY-1-" + "A" * 43)
    wrong = formed.apply("pi3", unlock_key_file=str(file))["pi3"]
    assert (wrong["result"], f"the key in {file} does not unlock" in wrong["comment"]) == (False, True), wrong[
        "comment"
    ]
    file.write_text(key)
    ahead = formed.apply("pi3", unlock_key_file=str(file), test=True)["pi3"]
    done = formed.apply("pi3", unlock_key_file=str(file))["pi3"]
    assert (ahead["result"], done["result"]) == (None, True), done["comment"]
    assert set(ahead["changes"]) == set(done["changes"]) == {"swarm state"}
    assert formed.dockerds["pi3"].info()["LocalNodeState"] == "active"
    said = str([ahead, done, wrong]) + formed.logs()
    assert "SWMKEY" not in said


# -- F20, F42: what is checked before -----------------------------------------------------------------------


def test_f20_a_manager_to_be_that_cannot_be_dialled_is_not_promoted(formed):
    pi3 = formed.dockerds["pi3"]
    formed.set_role("pi3", "worker")
    assert formed.apply("pi3")["pi3"]["result"] is True
    formed.set_role("pi3", "manager")
    for port in (2377, 7946):
        pi3.block(port)
        waiting = formed.member("pi3", promote_timeout=20)
        promoter = formed.apply("pi1", promote_timeout=15)["pi1"]
        assert "promoted" not in promoter["changes"]
        assert f"pi3 is not promoted: {pi3.address}:{port}/tcp gave no answer" in promoter["comment"]
        waiting.kill()
        pi3.unblock(port)


def test_f42_too_little_space_keeps_a_node_out_and_a_worker_a_worker(formed, kv):
    formed.set_role("pi3", "worker")
    assert formed.apply("pi3")["pi3"]["result"] is True
    formed.set_role("pi3", "manager")
    low = formed.apply("pi3", min_free_mb=10**9)["pi3"]
    assert low["result"] is False
    assert "it stays a worker: only" in low["comment"]
    assert "MiB are free in" in low["comment"]
    promoter = formed.apply("pi1")["pi1"]
    assert "pi3 is not promoted: only" in promoter["comment"]
    assert engine(formed, "pi1").find("pi3").role == "worker"
    formed.dockerds["pi4"].wipe()
    refused(formed, "pi4", "MiB are free in", min_free_mb=10**9)
    kept = formed.apply("pi2", min_free_mb=10**9)["pi2"]
    assert kept["result"] is True


# -- F41: daemons restarted in the middle of a promotion ----------------------------------------------------


def test_f41_daemons_killed_in_the_middle_of_a_promotion(formed, kv):
    formed.set_role("pi3", "worker")
    assert formed.apply("pi3")["pi3"]["result"] is True
    formed.set_role("pi3", "manager")
    waiting = formed.member("pi3")
    until(lambda: kv.get(f"{NODES}pi3").session, 60, "pi3 to wait for its promotion")
    promoting = formed.member("pi1")
    until(lambda: engine(formed, "pi2").find("pi3").role == "manager", 60, "pi1 to promote pi3")
    for name in ("pi3", "pi1"):
        formed.dockerds[name].stop(signal.SIGKILL)
    for name in ("pi3", "pi1"):
        formed.dockerds[name].start()
    for run in (waiting, promoting):
        result = run.result()
        assert result["result"] is True, result["comment"]
    until(lambda: reachable(formed) == ["pi1", "pi2", "pi3"], 60, "three reachable managers")
    assert sorted(node.hostname for node in engine(formed, "pi1").nodes()) == sorted(ROLES)


# -- F22, F23: quorum lost ----------------------------------------------------------------------------------


def leaderless(site, name):
    until(lambda: engine(site, name).local().leaderless, 90, f"{name} to have no leader")


def test_f22_quorum_lost_is_told_with_the_count_and_heals_alone(formed):
    for name in ("pi2", "pi3"):
        formed.dockerds[name].stop(signal.SIGKILL)
    leaderless(formed, "pi1")
    result = refused(formed, "pi1", "1 of 3 managers can be reached, 2 needed", f"{formed.dockerds.subnet}.12:2377/tcp")
    assert result["seconds"] < 60
    formed.dockerds["pi2"].start()
    until(lambda: not engine(formed, "pi1").local().leaderless, 60, "a leader")
    healed = formed.apply("pi1", "pi2", test=True)
    assert {name: (result["result"], result["changes"]) for name, result in healed.items()} == {
        "pi1": (True, {}),
        "pi2": (True, {}),
    }


@contextlib.contextmanager
def apart(site, one, other):
    """While the block runs these two managers' Raft does not meet, though both answer everybody else."""
    drop = ("INPUT", "-p", "tcp", "--dport", "2377", "-j", "DROP", "-s")
    pairs = [(site.dockerds[one], site.dockerds[other]), (site.dockerds[other], site.dockerds[one])]
    for daemon, peer in pairs:
        daemon.run("iptables", "-I", *drop, peer.address)
    try:
        yield
    finally:
        for daemon, peer in pairs:
            daemon.run("iptables", "-D", *drop, peer.address)


def run_of(site, name, bounds=None, restart=None, **allowed):
    """A run of `swarm.member` in this process, which reaches all nodes."""
    store = Store(consul_client.connect(site.consul_url, site.tokens[name]), name)
    want = member_run.wanted(site.pillar["rpiomega"], name, **allowed)
    given = {"bounds": bounds, "restart": restart}
    return member_run.Run(engine(site, name), store, want, **{key: value for key, value in given.items() if value})


def test_an_election_is_waited_for_where_a_quorum_can_be_reached(formed):
    formed.dockerds["pi3"].stop(signal.SIGKILL)
    with ThreadPoolExecutor(2) as pool:
        with apart(formed, "pi1", "pi2"):
            leaderless(formed, "pi1")
            run, ahead = run_of(formed, "pi1"), run_of(formed, "pi1")
            runs = pool.submit(loop.apply, run), pool.submit(loop.predict, ahead)
            until(lambda: "settle" in run.since and "settle" in ahead.since, 60, "both to wait for the election")
        (result, comment), predicted = (each.result() for each in runs)
    assert (result, run.changes) == (True, {}), comment
    assert predicted == (True, comment, {})


def test_f23_quorum_lost_for_ever(formed, kv):
    own = kv.get(RECORD).json()
    lost = {name: kv.get(NODES + name).json()["node_id"] for name in ("pi2", "pi3")}
    refusal(formed, "pi1", "has a leader", own["cluster_id"])
    for name in lost:
        formed.dockerds[name].stop(signal.SIGKILL)
    leaderless(formed, "pi1")
    refusal(formed, "pi1", "confirm is", "another")
    with announced(kv, formed, dict.fromkeys(ROLES, "passing")):
        refusal(formed, "pi1", "pi2, pi3 alive in Consul", own["cluster_id"])
    with announced(kv, formed, {"pi1": "passing", "pi2": "critical", "pi3": "critical"}):
        done = formed.call("pi1", "swarm.force_new_cluster", own["cluster_id"]).result()
    assert (done["cluster_id"], done["fence"]["new"] > own["fence"]) == (own["cluster_id"], True)
    assert (set(done["given_up"]), done["removed"], done["left"]) == (set(lost.values()), ["pi2", "pi3"], [])
    assert reachable(formed) == ["pi1"]
    until(lambda: engine(formed, "pi1").find("pi4").ready, 60, "the worker to have found its only manager")

    formed.dockerds["pi3"].start()
    formed.dockerds["pi2"].wipe()
    refused(formed, "pi3", "was given up", "docker swarm leave --force")
    formed.dockerds["pi3"].wipe()
    runs = {name: formed.member(name) for name in lost}
    until(lambda: all(kv.get(NODES + name).session for name in lost), 60, "both to be on their way")
    helped = formed.apply("pi1")["pi1"]
    assert sorted(helped["changes"]["promoted"]) == ["pi2", "pi3"], helped["comment"]
    for run in runs.values():
        result = run.result()
        assert result["result"] is True, result["comment"]
    assert reachable(formed) == ["pi1", "pi2", "pi3"]
    assert formed.clusters() == {own["cluster_id"]}


def refusal(site, name, words, cluster_id):
    before = site.dockerds[name].writes()
    with pytest.raises(AssertionError, match=words):
        site.call(name, "swarm.force_new_cluster", cluster_id).result()
    assert site.dockerds[name].writes() == before


def test_f23_an_autolocked_swarm_is_not_forced(formed, kv):
    cluster_id = kv.get(RECORD).json()["cluster_id"]
    engine(formed, "pi1").update_swarm(lambda spec: {**spec, "EncryptionConfig": {"AutoLockManagers": True}})
    for name in ("pi2", "pi3"):
        formed.dockerds[name].stop(signal.SIGKILL)
    leaderless(formed, "pi1")
    refusal(formed, "pi1", "autolock is on", cluster_id)
