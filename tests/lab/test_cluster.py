"""The main job: bootstrap, accept, apply - and what must hold then."""

import json

import commands

from rpiomega.lab import demo, remote, smoke


def changed(returned):
    """Return node -> what each state with changes reported."""
    return {
        node: [{key: state["changes"]} for key, state in states.items() if state.get("changes")]
        if isinstance(states, dict)
        else states
        for node, states in returned.items()
    }


def failed(returned):
    """Return node -> the comments of the states that did not succeed."""
    return {
        node: [f"{key}: {state['comment']}" for key, state in states.items() if state.get("result") is not True]
        if isinstance(states, dict)
        else states
        for node, states in returned.items()
    }


def status(cluster):
    """Return what `rpiomega status` says."""
    return commands.parsed(cluster.rpiomega("status", "--json"))


def nothing(cluster):
    return dict.fromkeys(cluster.lab.node_names(), [])


def test_bootstrap_brings_every_node_to_its_name(cluster):
    assert cluster.bootstrap.returncode == 0, cluster.bootstrap.stdout + cluster.bootstrap.stderr
    names = remote.run_everywhere(cluster.lab, "hostname")
    assert names == {name: name for name in cluster.lab.node_names()}


def test_keys_are_accepted_by_their_fingerprints_and_no_others(accepted):
    keys = json.loads(accepted.on_master("sudo salt-key --out=json -L"))
    assert sorted(keys["minions"]) == sorted(accepted.lab.node_names())
    assert keys["minions_pre"] == ["stranger"]
    accepted.on_master("sudo salt-key -y -d stranger")


def test_one_apply_succeeds_on_all_nodes_at_once(applied):
    assert failed(applied.first) == nothing(applied)
    print(f"first apply: {applied.times['first apply']:.0f} s")


def test_every_promise_is_kept_on_every_node(applied):
    done = applied.rpiomega("verify", "--json", bound=600)
    report = commands.parsed(done)
    broken = {
        name: [check for check in node["checks"] if check["result"] == "failed"]
        for name, node in report["nodes"].items()
    }
    assert broken == nothing(applied)
    assert (done.returncode, report["ok"]) == (0, True), done.stdout[-3000:]


def test_there_is_exactly_one_swarm(applied):
    seen = status(applied)
    assert seen["findings"] == []
    assert (seen["swarm"]["voters"], seen["swarm"]["up"], seen["swarm"]["quorum"]) == (3, 3, True)
    for node in seen["nodes"]:
        assert node["swarm"] in ("manager", "manager, leader")
        assert node["consul"] in ("alive, server", "alive, leader")
        assert node["b2"].split(".")[0].isdigit()


def test_a_second_apply_changes_nothing(applied):
    second = applied.apply("second apply")
    assert failed(second) == nothing(applied)
    assert changed(second) == nothing(applied)
    print(f"second apply: {applied.times['second apply']:.0f} s")


def test_a_service_answers_on_every_node_and_the_overlay_carries_traffic(applied):
    with smoke.service(applied.lab):
        assert smoke.answers(applied.lab) == {name: name for name in applied.lab.node_names()}
        assert len(smoke.overlay_traffic(applied.lab)) == 6


def test_a_node_comes_back_from_a_reboot_by_itself(applied, wait):
    """Name, minion, Consul and swarm: all there again without an apply."""
    node = applied.lab.node_names()[2]
    applied.reboot(node)
    assert remote.run(applied.lab, node, "hostname") == node

    def whole():
        seen = status(applied)
        row = next(row for row in seen["nodes"] if row["name"] == node)
        return row["swarm"].startswith("manager") and row["consul"].startswith("alive") and not seen["findings"]

    wait(f"{node} to be a manager and a Consul member again", 240, whole)
    demo.wait_connected(applied.lab)
    ready = applied.on_master("sudo docker node ls --format '{{.Hostname}} {{.Status}} {{.ManagerStatus}}'")
    rows = [line.split() for line in ready.splitlines()]
    assert [row[1] for row in rows] == ["Ready"] * 3
    assert sorted(row[2] for row in rows) == ["Leader", "Reachable", "Reachable"]


def test_bootstrap_again_changes_nothing(applied):
    assert applied.rpiomega("bootstrap", bound=600).returncode == 0
    assert changed(applied.apply("apply after bootstrap")) == nothing(applied)
