"""`swarm.cluster`, `swarm.node` and what rotates keys, tokens and the CA, on real daemons and a real Consul."""

import json
import os
import re
import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
import swarm_site
from consul_server import ConsulServer
from dockerds import Dockerds, missing
from salt.exceptions import CommandExecutionError
from swarm_minion import Minion
from swarm_site import Site, own_ca, until

from omega.swarm import record as swarm_record
from omega.swarm.api import Engine
from omega.swarm.record import RECORD, TOKEN, Store
from omega.swarm.settings.key import Keyring

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "runs")

ROLES = {"pi1": "manager", "pi2": "manager", "pi3": "worker"}
MANAGERS = ["pi1", "pi2"]
FIXED = {"data_path_port": 4790, "default_addr_pool": ["10.55.0.0/16"], "subnet_size": 26}


consul = swarm_site.consul


@pytest.fixture(scope="module")
def site(consul, tmp_path_factory):
    """One swarm for all tests here; each gives its settings back by `swarm`."""
    with Dockerds(list(ROLES)) as dockerds:
        site = Site(dockerds, ROLES, consul, tmp_path_factory.mktemp("site"))
        kv = consul.client()
        for name in ROLES:
            check = {"CheckID": "serfHealth", "Name": "Serf Health Status", "Status": "passing"}
            body = {"Node": name, "Address": dockerds[name].address, "Check": check}
            kv.request("put", "/v1/catalog/register", data=body)
        site.form(**FIXED, listen_address="eth0", data_path_addr="eth0")
        yield site


@pytest.fixture(scope="module")
def minions(site):
    files = {name: str(site.root / name / "secrets" / "swarm" / "unlock-key") for name in ROLES}
    made = {name: Minion(site, name, **{"swarm.unlock_key_file": files[name]}) for name in ROLES}
    for name, minion in made.items():
        minion.grains["ip_interfaces"] = {"eth0": [site.dockerds[name].address]}
    return made


@pytest.fixture(scope="module")
def engines(site):
    return {name: Engine(url) for name, url in site.sockets().items()}


@pytest.fixture(scope="module")
def first_spec(engines):
    return engines["pi1"].cluster()["Spec"]


@pytest.fixture
def swarm(site, engines, minions, first_spec):
    """The minions of a swarm with its first settings."""
    yield minions
    engines["pi1"].update_swarm(lambda spec: {**first_spec, "CAConfig": {**first_spec["CAConfig"], **_counter(spec)}})
    for name in ROLES:
        keyring(minions, name).forget()


def _counter(spec):
    counter = spec["CAConfig"].get("ForceRotate")
    return {"ForceRotate": counter} if counter else {}


def keyring(minions, name):
    return Keyring(minions[name].changed["swarm.unlock_key_file"])


def spec_of(engines, node="pi1"):
    return engines[node].cluster()["Spec"]


def apply(minion, **kwargs):
    return minion.state("swarm.cluster", "omega", **kwargs)


def logged(site):
    return "".join(site.dockerds[name].log.read_text(errors="replace") for name in ROLES) + site.logs()


# -- settings -------------------------------------------------------------------------------------------------


def test_f32_one_setting_is_changed_and_all_others_stay(swarm, engines):
    first = apply(
        swarm["pi1"], autolock=True, cert_expiry="30d", labels={"site": "attic"}, snapshot_interval=5000,
        election_tick=12, heartbeat_tick=2, keep_old_snapshots=2, log_entries_for_slow_followers=300,
        dispatcher_heartbeat="6s",
    )  # fmt: skip
    assert first["result"] is True, first["comment"]
    before = spec_of(engines)
    assert before["EncryptionConfig"]["AutoLockManagers"] is True
    assert before["CAConfig"]["NodeCertExpiry"] == 30 * 86400 * 10**9

    second = apply(swarm["pi2"], task_history=3)
    assert (second["result"], second["changes"]["task_history"]) == (True, {"old": 5, "new": 3})
    assert set(second["changes"]) == {"task_history", "unlock key"}
    assert spec_of(engines) == {**before, "Orchestration": {"TaskHistoryRetentionLimit": 3}}
    third = apply(swarm["pi2"], task_history=3)
    assert (third["result"], third["changes"]) == (True, {})


def test_a_change_by_somebody_else_in_between_is_kept_and_the_update_sent_again(swarm, engines, monkeypatch):
    from omega.swarm.settings import spec as settings_spec

    merged, others = settings_spec.merged, [1, 2]

    def interrupted(spec, wanted):
        if others:
            engines["pi2"].update_swarm(lambda spec: {**spec, "Labels": {"by": f"other-{others.pop()}"}})
        return merged(spec, wanted)

    monkeypatch.setattr(settings_spec, "merged", interrupted)
    ours = apply(swarm["pi1"], task_history=7)
    assert ours["result"] is True, ours["comment"]
    assert spec_of(engines)["Labels"] == {"by": "other-1"}
    assert spec_of(engines)["Orchestration"]["TaskHistoryRetentionLimit"] == 7

    others.extend(range(9))
    refused = apply(swarm["pi1"], task_history=8)
    assert refused["result"] is False
    assert "update out of sequence" in refused["comment"]
    assert spec_of(engines)["Orchestration"]["TaskHistoryRetentionLimit"] == 7


def test_of_managers_that_run_at_once_one_makes_the_change(site, swarm, engines):
    wanted = {"keep_old_snapshots": 4, "cert_expiry": "40d"}
    with ThreadPoolExecutor(3) as pool:
        results = dict(zip(ROLES, pool.map(lambda name: apply(swarm[name], **wanted), ROLES), strict=True))
    assert [result["result"] for result in results.values()] == [True] * 3, results
    made = [name for name, result in results.items() if result["changes"]]
    assert len(made) == 1, results
    assert results[made[0]]["changes"] == {
        "keep_old_snapshots": {"old": 0, "new": 4},
        "cert_expiry": {"old": "2160h", "new": "960h"},
    }
    assert "worker" in results["pi3"]["comment"]


def test_salt_finds_states_and_functions(site, swarm):
    run = site.call("pi1", "state.single", "swarm.cluster", "omega", task_history=2, test=True)
    assert site.call("pi2", "swarm.ca_status").result()["finished"] is True
    result = run.result()
    assert (result["result"], result["changes"]) == (None, {"task_history": {"old": 5, "new": 2}})


def test_test_mode_says_what_a_run_then_does_and_writes_nothing(site, swarm, engines):
    wanted = {
        "autolock": True,
        "task_history": 2,
        "labels": {"a": "1"},
        "dispatcher_heartbeat": 7,
        "external_cas": [{"url": "https://127.0.0.1:9/sign", "options": {"label": "x"}}],
    }
    before, written = spec_of(engines), {name: len(site.dockerds[name].writes()) for name in ROLES}
    predicted = apply(swarm["pi1"], test=True, **wanted)
    assert predicted["result"] is None
    assert spec_of(engines) == before
    assert {name: len(site.dockerds[name].writes()) for name in ROLES} == written
    assert not keyring(swarm, "pi1").exists()
    done = apply(swarm["pi1"], **wanted)
    assert done["result"] is True, done["comment"]
    assert done["changes"] == predicted["changes"]
    assert apply(swarm["pi1"], test=True, **wanted)["changes"] == {}
    cleared = apply(swarm["pi1"], external_cas=[], labels={}, labels_state="replace")
    assert set(cleared["changes"]) == {"external_cas", "labels"}
    assert spec_of(engines)["CAConfig"] == before["CAConfig"]


@pytest.mark.parametrize(
    ("wanted", "said"),
    [
        ({"election_tick": 3, "heartbeat_tick": 3}, "election_tick 3 must be above heartbeat_tick 3"),
        ({"heartbeat_tick": 11}, "election_tick 10 must be above heartbeat_tick 11"),
        ({"cert_expiry": "30m"}, "cert_expiry 1800: must be 3600 or more"),
        ({"cert_expiry": "soon"}, "cert_expiry 'soon': not a duration"),
        ({"task_history": "many"}, "task_history 'many': must be a whole number"),
        ({"autolock": "yes"}, "autolock 'yes': must be true or false"),
        ({"external_cas": [{"url": "http://plain"}]}, "external_cas.0: needs `url`, an https:// address"),
        ({"labels_state": "add"}, "labels_state 'add': must be merge or replace"),
        ({"unlock": "always"}, "unlock 'always': must be keep or never"),
        ({"signing_ca_cert": "/no.pem", "signing_ca_key": "/no.key"}, "signing_ca_cert /no.pem: No such file"),
    ],
)
def test_a_wrong_setting_is_named_and_nothing_is_changed(swarm, engines, wanted, said):
    before = spec_of(engines)
    refused = apply(swarm["pi1"], **wanted)
    assert refused["result"] is False
    assert said in refused["comment"]
    assert spec_of(engines) == before


def test_what_only_init_takes_came_from_the_site_and_a_later_difference_is_told(site, swarm, engines):
    attrs = engines["pi1"].cluster()
    assert (attrs["DataPathPort"], attrs["DefaultAddrPool"], attrs["SubnetSize"]) == (4790, ["10.55.0.0/16"], 26)
    for name in ROLES:
        node = site.dockerds[name]
        kept = json.loads((node.root / "data" / "swarm" / "docker-state.json").read_text())
        assert (kept["ListenAddr"], kept["DataPathAddr"]) == (f"{node.address}:2377", node.address)
        assert not apply(swarm[name], data_path_addr="eth0", **FIXED).get("warnings")
    done = apply(
        swarm["pi1"], data_path_port=4791, default_addr_pool=["10.56.0.0/16"], subnet_size=25, data_path_addr="10.9.9.9"
    )
    assert (done["result"], done["changes"]) == (True, {})
    text = "\n".join(done["warnings"])
    for line in (
        "data_path_port is 4790 in this swarm, the site says 4791",
        "default_addr_pool is 10.55.0.0/16",
        "subnet_size is 26",
        f"data_path_addr is {site.dockerds['pi1'].address} on this node, the site says 10.9.9.9",
    ):
        assert line in text


def test_settings_are_kept_without_consul_and_what_is_not_known_is_told(site, swarm, engines):
    alone = Minion(site, "pi1", **{**swarm["pi1"].changed, "consul.url": "http://127.0.0.1:1"})
    done = apply(alone, task_history=9)
    assert (done["result"], done["changes"]) == (True, {"task_history": {"old": 5, "new": 9}})
    assert "whether Consul has the swarm's worker token is not known" in done["warnings"][0]


# -- unlock key -----------------------------------------------------------------------------------------------


def test_an_unlock_key_that_cannot_be_kept_is_no_change_and_fails(swarm):
    path = "/proc/unlock-key"  # where nobody can make a file
    answer = apply(swarm["pi1"], autolock=True, unlock_key_file=path)
    assert (answer["result"], set(answer["changes"])) == (False, {"autolock"}), answer
    assert f"the unlock key is not kept in {path}: " in answer["comment"]


def test_the_unlock_key_is_kept_by_managers_only_and_said_nowhere(site, swarm, engines, caplog):
    caplog.set_level("DEBUG")
    keyring(swarm, "pi3").keep("left from a former life")
    returns = [apply(swarm["pi1"], autolock=True)]
    assert returns[0]["changes"]["autolock"] == {"old": False, "new": True}
    returns += [apply(swarm[name], autolock=True) for name in ("pi2", "pi3")]
    key = engines["pi1"].unlock_key()
    assert key.startswith("SWMKEY-")
    for name in MANAGERS:
        path = keyring(swarm, name).path
        assert keyring(swarm, name).keys() == [key]
        assert stat.S_IMODE(os.stat(path).st_mode) == 0o600
    assert not keyring(swarm, "pi3").exists()
    assert returns[2]["changes"]["unlock key"]["new"] == "absent"

    kept = site.dockerds["pi2"].root / "data" / "swarm" / "certificates" / "swarm-node.key"
    until(lambda: "ENCRYPTED" in kept.read_text(), 30, "pi2 to encrypt its key")
    site.dockerds["pi2"].restart()
    locked = Engine(site.dockerds["pi2"].base_url)
    assert locked.local().state == "locked"
    stopped = apply(swarm["pi2"], autolock=True)
    assert stopped["result"] is False
    assert "docker swarm unlock" in stopped["comment"]
    returns += [stopped, swarm["pi2"].state("swarm.member", "omega")]
    assert returns[-1]["result"] is True, returns[-1]["comment"]
    until(lambda: locked.local().state == "active" and not locked.local().leaderless, 90, "pi2 to be a manager again")

    rotated = swarm["pi1"].call("swarm.rotate_unlock_key")
    assert rotated == {"outdated": ["pi2"], "next": "salt -L pi2 swarm.keep_unlock_key"}
    new = engines["pi1"].unlock_key()
    assert keyring(swarm, "pi1").keys() == [new, key]
    assert swarm["pi2"].call("swarm.keep_unlock_key") == "outdated"
    assert keyring(swarm, "pi2").keys() == [new, key]
    returns.append(rotated)

    assert not [secret for secret in (key, new) if secret in json.dumps(returns) + logged(site) + caplog.text]
    off = apply(swarm["pi1"], autolock=False)
    assert off["changes"]["unlock key"]["new"] == "absent"
    followed = apply(swarm["pi2"])
    assert followed["changes"] == {"unlock key": {"old": f"kept in {keyring(swarm, 'pi2').path}", "new": "absent"}}
    assert not any(keyring(swarm, name).exists() for name in ROLES)


def test_no_key_is_kept_where_the_site_says_never(swarm, engines):
    apply(swarm["pi1"], autolock=True)
    assert keyring(swarm, "pi1").exists()
    assert apply(swarm["pi1"], autolock=True, unlock="never")["changes"]["unlock key"]["new"] == "absent"
    assert not keyring(swarm, "pi1").exists()


# -- tokens and CA --------------------------------------------------------------------------------------------


def test_consul_follows_a_rotated_worker_token_and_learns_no_manager_token(site, swarm, engines, consul, caplog):
    caplog.set_level("DEBUG")
    kv, before = consul.client(), engines["pi1"].api.inspect_swarm()["JoinTokens"]
    assert swarm["pi1"].call("swarm.rotate_tokens", "worker") is True
    assert swarm["pi2"].call("swarm.rotate_tokens", "manager") is True
    after = engines["pi1"].api.inspect_swarm()["JoinTokens"]
    assert (before["Worker"] != after["Worker"], before["Manager"] != after["Manager"]) == (True, True)
    assert kv.get(TOKEN).json()["token"] == after["Worker"]
    assert not [entry.key for entry in kv.list("") if after["Manager"] in entry.text()]

    engines["pi1"].rotate_token("worker")  # as by hand: `docker swarm join-token --rotate worker`
    healed = apply(swarm["pi2"])
    assert healed["changes"] == {"worker token": {"old": "outdated", "new": "published"}}
    assert kv.get(TOKEN).json()["token"] == engines["pi1"].worker_token()
    assert "SWMTKN" not in json.dumps(healed) + site.logs() + caplog.text


def test_no_token_and_no_ca_is_rotated_without_a_consul_to_publish_it(site, swarm, consul):
    kv, written = consul.client(), site.dockerds["pi1"].writes()
    server = ConsulServer("alone", servers=2)
    with server.leaderless():
        alone = Minion(site, "pi1", **{**swarm["pi1"].changed, "consul.url": server.url})
        for call in (("swarm.rotate_tokens", "worker"), ("swarm.rotate_ca",)):
            with pytest.raises(CommandExecutionError, match="pi1: .*leader"):
                alone.call(*call)
    record = kv.get(RECORD)
    kv.put(RECORD, {**record.json(), "cluster_id": "another"})
    try:
        for call in (("swarm.rotate_tokens", "worker"), ("swarm.rotate_ca",)):
            with pytest.raises(CommandExecutionError, match="is not the one recorded in Consul: nothing is changed"):
                swarm["pi1"].call(*call)
    finally:
        kv.put(RECORD, record.json())
    assert site.dockerds["pi1"].writes() == written


def test_a_token_is_rotated_by_one_manager_at_a_time(site, swarm, engines, consul, monkeypatch):
    kv, before = consul.client(), engines["pi1"].worker_token()
    monkeypatch.setattr(swarm_record, "ROTATION_WAIT", 1)
    with (
        Store(kv, "pi2").hold_rotation(),
        pytest.raises(CommandExecutionError, match="did not get it within 1 s: held by pi2"),
    ):
        swarm["pi1"].call("swarm.rotate_tokens", "worker")
    assert engines["pi1"].worker_token() == kv.get(TOKEN).json()["token"] == before


def test_the_ca_is_rotated_once_per_counter_and_every_node_and_consul_follow(site, swarm, engines, consul):
    before = swarm["pi1"].call("swarm.ca_status")
    predicted = apply(swarm["pi1"], ca_force_rotate=1, test=True)
    assert (predicted["result"], predicted["changes"]["ca"]["new"]) == (None, "a new CA")
    done = apply(swarm["pi1"], ca_force_rotate=1)
    assert done["result"] is True, done["comment"]
    assert set(done["changes"]) == set(predicted["changes"]) == {"ca_force_rotate", "ca", "worker token"}
    after = swarm["pi2"].call("swarm.ca_status")
    assert after["finished"] is True
    assert after["progress"] == "3 of 3 nodes have certificates of it"
    assert (before["fingerprint"], after["fingerprint"]) == tuple(done["changes"]["ca"].values())
    assert consul.client().get(TOKEN).json()["token"] == engines["pi1"].worker_token()
    assert apply(swarm["pi2"], ca_force_rotate=1)["changes"] == {}
    back = apply(swarm["pi2"], ca_force_rotate=0)
    assert (back["result"], "the swarm is at 1 already" in back["comment"]) == (False, True)


@pytest.mark.long  # a second rotation of the CA
def test_the_swarm_takes_a_ca_of_ones_own_and_its_key_is_said_nowhere(site, swarm, engines, tmp_path, caplog):
    caplog.set_level("DEBUG")
    cert, key = own_ca(tmp_path)
    (tmp_path / "other").mkdir()
    _, other = own_ca(tmp_path / "other")
    other.chmod(0o600)
    unfit = apply(swarm["pi1"], signing_ca_cert=str(cert), signing_ca_key=str(other))
    assert (unfit["result"], unfit["changes"]) == (False, {}), unfit["comment"]
    key.chmod(0o644)
    wanted = {"signing_ca_cert": str(cert), "signing_ca_key": str(key)}
    refused = apply(swarm["pi1"], **wanted)
    assert (refused["result"], "others can read it" in refused["comment"]) == (False, True)
    key.chmod(0o600)
    predicted = apply(swarm["pi1"], test=True, **wanted)
    done = apply(swarm["pi1"], **wanted)
    assert done["result"] is True, done["comment"]
    assert done["changes"] == predicted["changes"]
    assert engines["pi2"].cluster()["TLSInfo"]["TrustRoot"].strip() == cert.read_text().strip()
    assert apply(swarm["pi2"], **wanted)["changes"] == {}
    assert apply(swarm["pi2"], labels={"a": "b"})["changes"] == {"labels": {"old": {}, "new": {"a": "b"}}}
    assert engines["pi2"].cluster()["TLSInfo"]["TrustRoot"].strip() == cert.read_text().strip()
    said = json.dumps([unfit, refused, predicted, done]) + logged(site) + caplog.text
    for secret in (key, other):
        assert re.sub(r"-----.*?-----", "", secret.read_text()).split()[1] not in said


@pytest.mark.long  # a node is seen as down only after its heartbeats have failed
def test_the_ca_is_not_rotated_while_a_node_is_down(site, swarm, engines, consul):
    apply(swarm["pi1"], dispatcher_heartbeat=1)
    pi3 = site.dockerds["pi3"]
    pi3.stop()
    try:
        until(lambda: not engines["pi1"].find("pi3").ready, 60, "pi3 to be seen as down")
        before = spec_of(engines)
        refused = apply(swarm["pi1"], ca_force_rotate=9, ca_timeout=2)
        assert refused["result"] is False
        assert "while pi3 cannot be reached" in refused["comment"]
        assert spec_of(engines) == before
        predicted = apply(swarm["pi1"], ca_force_rotate=9, even_if_down=True, test=True)
        begun = apply(swarm["pi1"], ca_force_rotate=9, even_if_down=True)
        assert (begun["result"], begun["changes"]) == (True, predicted["changes"]), begun["comment"]
        assert "still rotating its CA" in "".join(begun["warnings"])
        assert "pi3" in "".join(begun["warnings"])
        # Another manager does not wait for it either, and keeps the unlock key at once.
        other = apply(swarm["pi2"], autolock=True)
        assert (other["result"], set(other["changes"])) == (True, {"autolock", "unlock key"}), other["comment"]
        assert keyring(swarm, "pi2").keys() == [engines["pi1"].unlock_key()]
        assert "pi3" in "".join(other["warnings"])
    finally:
        pi3.start()
    until(lambda: swarm["pi1"].call("swarm.ca_status")["finished"], 60, "the rotation to end with pi3 back")
    done = apply(swarm["pi1"])
    assert (done["result"], done.get("warnings")) == (True, None), done["comment"]
    assert consul.client().get(TOKEN).json()["token"] == engines["pi1"].worker_token()


# -- one node -------------------------------------------------------------------------------------------------


def test_a_node_is_changed_only_where_it_is_asked(site, swarm, engines):
    def node(**kwargs):
        return swarm["pi1"].state("swarm.node", "pi3", **kwargs)

    assert node(labels={"disk": "ssd", "zone": "attic"})["result"] is True
    predicted = node(availability="pause", labels={"zone": "cellar", "fan": True}, test=True)
    written = site.dockerds["pi1"].writes()
    assert (predicted["result"], site.dockerds["pi1"].writes()) == (None, written)
    done = node(availability="pause", labels={"zone": "cellar", "fan": True})
    assert done["changes"] == predicted["changes"]
    assert engines["pi1"].inspect_node(engines["pi1"].find("pi3").id)["Spec"] == {
        "Availability": "pause", "Role": "worker", "Labels": {"disk": "ssd", "zone": "cellar", "fan": "true"},
    }  # fmt: skip
    assert node(availability="pause")["changes"] == {}
    assert node(labels={"zone": "x"}, labels_to_remove=["zone", "disk"])["changes"]["Labels".lower()]["new"] == {
        "fan": "true", "zone": "x",
    }  # fmt: skip
    assert node(labels_state="replace", availability="active")["result"] is True
    assert engines["pi1"].find("pi3").labels == {}


def test_a_change_of_a_node_by_somebody_else_in_between_is_kept(swarm, engines, monkeypatch):
    from omega.swarm.settings import node as settings_node

    changed, others = settings_node.changed, [1]

    def interrupted(spec, **wanted):
        if others and others.pop():
            node = engines["pi2"].find("pi3")
            engines["pi2"].update_node(node.id, lambda spec: {**spec, "Labels": {"by": "other"}})
        return changed(spec, **wanted)

    monkeypatch.setattr(settings_node, "changed", interrupted)
    done = swarm["pi1"].state("swarm.node", "pi3", labels={"ours": 1})
    assert (done["result"], engines["pi1"].find("pi3").labels) == (True, {"by": "other", "ours": "1"})
    assert swarm["pi1"].state("swarm.node", "pi3", labels_to_remove=["by", "ours"])["result"] is True
    assert engines["pi1"].find("pi3").labels == {}


@pytest.mark.long  # a manager is demoted and promoted
def test_the_last_manager_is_not_demoted_and_wrong_values_are_named(swarm, engines):
    def node(name, **kwargs):
        return swarm["pi1"].state("swarm.node", name, **kwargs)

    assert node("pi2", role="worker")["changes"] == {"role": {"old": "manager", "new": "worker"}}
    try:
        for test in (True, False):
            refused = node("pi1", role="worker", test=test)
            assert (refused["result"], "it is the last manager" in refused["comment"]) == (False, True), refused
        until(lambda: not engines["pi2"].local().control, 120, "pi2 to be a worker")
    finally:
        assert node("pi2", role="manager")["result"] is True
    pi2 = engines["pi2"]
    until(lambda: pi2.local().control and not pi2.local().leaderless, 120, "pi2 to be a manager")
    wrong = node("pi3", availability="off")
    assert (wrong["result"], wrong["changes"]) == (False, {})
    assert "availability 'off': must be one of active, pause, drain" in wrong["comment"]
    assert "no node pi9" in node("pi9", availability="drain")["comment"]
