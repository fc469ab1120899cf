"""Faults of the swarm that leave it in one piece."""

import json
import re
from pathlib import Path

import leaks
import setups
from leaks import UNLOCK
from nodes import FOLDER, SALT_PYTHON

SPREAD = "faults-spread"


def spread(fault, cluster, *constraints):
    """Run a service of four tasks that may move, where `constraints` allow; it ends with the fault."""
    manager = cluster.leading()
    fault.undo_later(SPREAD, lambda: cluster.run(cluster.leading(), f"docker service rm {SPREAD}"))
    where = "".join(f" --constraint '{constraint}'" for constraint in constraints)
    create = f"docker service create --quiet --detach --name {SPREAD} --replicas 4 --no-resolve-image"
    cluster.run(manager, f"{create}{where} {cluster.image()} sleep 1000000")
    cluster.wait("four tasks to run", 60, lambda: len(running(cluster)) == 4)


def running(cluster):
    """Node of each running task of the spread service, as long as the node has power."""
    counts = [(node, len(text.split())) for node, text in cluster.tasks(SPREAD).items()]
    return [node for node, count in counts for _ in range(count)]


def test_f21_the_leader_dies_and_the_others_serve_on(fault, cluster):
    spread(fault, cluster)
    leader = cluster.leading()
    survivor = next(name for name in cluster.managers if name != leader)
    fault.begins(f"power of {leader}, the swarm's leader, cut")
    fault.power_off(leader)

    def new_leader():
        return [node["name"] for node in cluster.nodes_seen(survivor) if node["leader"] and node["reachable"]]

    now = fault.recovers("another manager to lead", new_leader)
    fault.measured["new leader, s"] = fault.seconds
    assert now != [leader]
    fault.recovers("the dead node's tasks to run elsewhere", lambda: len(running(cluster)) == 4)


def test_f22_two_of_three_managers_die_and_nothing_is_forced(fault, cluster):
    survivor, *lost = cluster.managers
    workers = cluster.tasks()
    fault.begins(f"power of {' and '.join(lost)} cut")
    fault.power_off(*lost)
    cluster.wait("the last manager to see that there is no leader", 60, lambda: leaderless(cluster, survivor))
    result = cluster.member(survivor)
    assert result["result"] is False, result
    assert "quorum" in result["comment"] or "no leader" in result["comment"], result["comment"]
    returned = round(result["duration"] / 1000, 1)
    assert returned <= fault.bound, f"the state returned after {returned} s"
    fault.measured["state returned after, s"] = returned
    said = json.loads(cluster.rpiomega("status", "--json", check=False).stdout)
    assert (said["swarm"]["quorum"], said["swarm"]["up"], said["swarm"]["voters"]) == (False, 1, 3), said["swarm"]
    assert {n: cluster.tasks().get(n) for n in cluster.workers} == {n: workers[n] for n in cluster.workers}
    fault.begins(f"power of {' and '.join(lost)} cut, then of {lost[0]} given back")
    fault.power_on(lost[0])
    fault.recovers("the swarm to have a leader again", lambda: not leaderless(cluster, survivor))
    assert cluster.member(survivor)["result"] is True


def leaderless(cluster, node):
    """Whether a manager cannot list the nodes."""
    return cluster.ask(node, ["docker", "GET", "/nodes"])[0][0] != 200


def leave(fault, cluster, node):
    """Take a worker out of the swarm by hand; what it leaves behind is removed as the fault is healed."""
    fault.touched.add(node)
    old = next(one["id"] for one in cluster.nodes_seen() if one["name"] == node)
    cluster.run(node, "docker swarm leave")

    def forget():
        cluster.wait("the old entry to be down", 60, lambda: down(cluster, old))
        # The managers remove it too, as they find it.
        cluster.run(cluster.leading(), f"docker node rm {old}", check=False)
        cluster.wait("the old entry to go", 10, lambda: old not in [one["id"] for one in cluster.nodes_seen()])

    fault.undo_later("entry of the node that left", forget)


def down(cluster, node_id):
    """Whether the swarm sees an entry as down, or has none of that ID."""
    return all(one["state"] == "down" for one in cluster.nodes_seen() if one["id"] == node_id)


def test_f27_the_first_managers_are_dead_and_a_node_joins_through_another(fault, cluster):
    node = cluster.workers[0]
    leave(fault, cluster, node)
    dead = sorted(cluster.managers)[:2]  # the order in which a node tries them
    fault.begins(f"{node} cannot reach {' and '.join(dead)} at 2377 and 7946 while it joins")
    for manager in dead:
        for port in (2377, 7946):
            fault.rule(node, f"OUTPUT -d {cluster.address(manager)} -p tcp --dport {port} -j DROP")
    result = cluster.member(node)
    assert result["result"] is True, result["comment"]
    fault.recovers(f"{node} to be ready", lambda: node in [one["name"] for one in cluster.nodes_seen() if up(one)])
    for manager in dead:
        assert f"{cluster.address(manager)}:2377" in result["comment"], result["comment"]


def up(entry):
    """Whether an entry of the swarm's list is ready."""
    return entry["state"] == "ready"


def test_f30_a_demotion_that_would_cost_the_quorum_is_refused(fault, cluster):
    _, dead, last = cluster.managers
    fault.begins(f"power of {dead} cut, then {last} shall become a worker")
    fault.power_off(dead)
    cluster.wait(f"{dead} to be unreachable", 60, lambda: not reachable(cluster, dead))
    began = fault.since()
    result = cluster.member(last, "role=worker")
    fault.seconds = round(fault.since() - began, 1)
    assert result["result"] is False
    assert "1 of 2 managers" in result["comment"], result["comment"]
    done = cluster.call(cluster.master, "swarm.demote", last, check=False)
    assert "1 of 2 managers" in str(done), done
    seen = {one["name"]: one["role"] for one in cluster.nodes_seen()}
    assert seen[last] == "manager"
    assert fault.seconds < fault.bound


def reachable(cluster, name):
    """Whether the swarm's managers reach one."""
    return next(one["reachable"] for one in cluster.nodes_seen() if one["name"] == name)


def spec(cluster):
    """The swarm's settings."""
    return cluster.docker(cluster.leading(), "GET", "/swarm")["Spec"]


def set_cluster(cluster, *arguments):
    """Apply `swarm.cluster` with these settings on the master by salt-call; return the state's return."""
    return cluster.single(cluster.master, "swarm.cluster", *arguments)


def unlocked(fault, cluster):
    """Have autolock off again as the fault is healed; the key it had by then is known to be looked for."""

    def off():
        leaks.note(cluster)
        assert set_cluster(cluster, "autolock=False")["result"] is True

    fault.undo_later("autolock", off)


def test_f32_one_setting_changes_and_all_others_stay(fault, cluster):
    unlocked(fault, cluster)
    fault.undo_later("settings", lambda: set_cluster(cluster, "cert_expiry=90d", "task_history=5", "heartbeat_tick=1"))
    wanted = ("autolock=True", "cert_expiry=1000h", "heartbeat_tick=2", "labels={faults: yes}")
    first = set_cluster(cluster, *wanted)
    assert first["result"] is True, first["comment"]
    before = spec(cluster)
    assert before["EncryptionConfig"]["AutoLockManagers"] is True
    fault.begins("with autolock on, only the task history changed through swarm.cluster")
    result = set_cluster(cluster, "task_history=3")
    fault.seconds = round(fault.since(), 1)
    assert result["result"] is True, result["comment"]
    after = spec(cluster)
    assert after["Orchestration"].pop("TaskHistoryRetentionLimit") == 3
    before["Orchestration"].pop("TaskHistoryRetentionLimit", None)
    assert after == before
    assert fault.seconds < fault.bound


def test_f29_locked_broken_and_pending_are_three_different_things(fault, cluster):
    """Locked and broken here; pending, which needs an engine that never ends joining, in tests/modules (f29)."""
    node, manager = cluster.workers[0], cluster.managers[-1]
    fault.touched.update([node, manager])
    certificate = "/var/lib/docker/swarm/certificates/swarm-node.crt"

    def mend():
        restore = f"mv {certificate}.kept {certificate}; systemctl start docker"
        cluster.run(node, f"systemctl stop docker.socket docker; {restore}", 120)

    fault.begins(f"certificate of {node} overwritten, its engine restarted")
    fault.undo_later("certificate", mend)
    broken = f"cp -p {certificate} {certificate}.kept; echo x >{certificate}; systemctl start docker"
    cluster.run(node, f"systemctl stop docker.socket docker; {broken}", 120)
    result = cluster.member(node)
    assert (result["result"], "broken" in result["comment"]) == (False, True), result["comment"]
    fault.seconds = round(fault.since(), 1)
    unlocked(fault, cluster)
    assert set_cluster(cluster, "autolock=True")["result"] is True
    key = cluster.docker(cluster.leading(), "GET", "/swarm/unlockkey")["UnlockKey"]
    kept = cluster.call(manager, "state.apply", "swarm", check=False)
    fault.restart_docker(manager)
    cluster.wait("the manager to be locked", 60, lambda: cluster.look([manager])[manager]["state"] == "locked")
    hidden = f"{FOLDER}/hidden"
    fault.undo_later("the kept key", lambda: cluster.run(manager, f"test ! -e {hidden} || mv {hidden}/* {UNLOCK}", 20))
    cluster.run(manager, f"mkdir -m 700 {hidden} && mv {UNLOCK}* {hidden}/")
    result = cluster.member(manager)
    assert (result["result"], "locked" in result["comment"]) == (False, True), result["comment"]
    assert "docker swarm unlock" in result["comment"] and "\n" not in result["comment"], result["comment"]
    assert cluster.look([manager])[manager]["state"] == "locked"
    cluster.run(manager, f"mv {hidden}/* {UNLOCK} && rmdir {hidden}")
    mended = cluster.member(manager)
    assert mended["result"] is True, mended["comment"]
    assert cluster.look([manager])[manager]["state"] == "active"
    fault.measured["a locked manager"] = "stays locked without the kept key, is unlocked with it"
    assert key not in str(kept) + str(result) + str(mended)


# -- entries of the node list ---------------------------------------------------------------------------------


def findings(cluster, check):
    """Return the findings of `rpiomega status` of one kind."""
    said = json.loads(cluster.rpiomega("status", "--json", check=False).stdout)
    return [found for found in said["findings"] if found["check"] == check]


def reconciled(cluster, patch=""):
    """Have a manager reconcile the nodes; return what `swarm.reconcile_nodes` returned."""
    return cluster.call(cluster.leading(), "swarm.reconcile_nodes", patch=patch)


def test_g03_a_worker_removed_by_hand_leaves_and_joins_again(fault, cluster):
    node = cluster.workers[0]
    fault.touched.add(node)
    fault.operator = True
    lost = cluster.look([node])[node]["node_id"]
    fault.begins(f"docker node rm --force of {node}, which is ready")
    cluster.run(cluster.leading(), f"docker node rm --force {lost}")
    (found,) = findings(cluster, "unlisted")
    assert (found["node"], found["severity"], lost in found["what"]) == (node, "error", True), found
    said = reconciled(cluster)
    assert f"the node list has no entry {lost}" in said["comment"], said
    cluster.must_apply(node)
    fault.recovers(
        f"{node} to be listed as ready",
        lambda: [one for one in cluster.nodes_seen() if one["name"] == node and up(one)],
    )
    assert cluster.look([node])[node]["node_id"] != lost
    fault.recovers(f"{node} to get tasks", lambda: node in cluster.tasks())
    reconciled(cluster)
    assert findings(cluster, "unlisted") == []
    assert reconciled(cluster)["changes"] == {}


def nameless(cluster):
    """NodeIDs of the entries without a hostname."""
    listed = cluster.docker(cluster.leading(), "GET", "/nodes")
    return {item["ID"] for item in listed if not (item.get("Description") or {}).get("Hostname")}


def test_g07_entries_that_broken_joins_left_are_removed(fault, cluster):
    manager = cluster.leading()
    script = Path(__file__).parents[1] / "modules" / "ghost.py"
    cluster.put(manager, f"{FOLDER}/ghost.py", script.read_text())
    fault.begins("three certificates asked for with the worker token and never fetched")
    ask = f"docker swarm join-token -q worker | {SALT_PYTHON} {FOLDER}/ghost.py {cluster.lab.node_address(manager)}"
    cluster.run(manager, f"for turn in 1 2 3; do {ask} || exit 1; done")
    left = nameless(cluster)
    assert len(left) == 3
    (found,) = findings(cluster, "unfinished-join")
    command = re.search(r"docker node rm( [a-z0-9]+)+", found["cure"])[0]
    assert set(command.split()[3:]) == left
    young = reconciled(cluster)
    assert (young["result"], young["changes"], nameless(cluster)) == (True, {}, left), young
    first = min(left)
    cluster.run(manager, f"docker node rm {first}")
    aged = reconciled(cluster, patch="import omega.swarm.nodes.plan as plan; plan.JOIN_ENDS = 1")
    assert aged["result"] is True and len(aged["changes"]["removed"]) == 2, aged
    fault.recovers("no entry without a hostname", lambda: not nameless(cluster))
    assert findings(cluster, "unfinished-join") == []


def test_g09_a_hostname_changed_by_hand_is_named_and_pauses_nobody(fault, cluster):
    node = cluster.workers[0]
    node_id = cluster.look([node])[node]["node_id"]
    back = f"hostnamectl set-hostname {node} || hostname {node}"
    fault.undo_later(f"hostname of {node}", lambda: cluster.run(node, back))
    fault.begins(f"hostname of {node} set to kitchen, its engine restarted")
    cluster.run(node, "hostnamectl set-hostname kitchen || hostname kitchen")
    fault.restart_docker(node)

    def entry():
        return next(one for one in cluster.nodes_seen() if one["id"] == node_id)

    cluster.wait("the swarm to see the hostname", 90, lambda: entry()["name"] == "kitchen" and up(entry()))
    said = reconciled(cluster)
    assert (said["result"], said["changes"], entry()["availability"]) == (True, {}, "active"), said
    assert f"{node} calls itself kitchen" in said["comment"], said
    (found,) = findings(cluster, "hostname")
    assert (found["node"], f"sudo hostnamectl set-hostname {node}" in found["cure"]) == (node, True), found
    cluster.run(node, back)
    fault.recovers("the swarm to see its own name again", lambda: entry()["name"] == node and up(entry()))
    assert "calls itself" not in reconciled(cluster)["comment"]
    assert findings(cluster, "hostname") == []


def test_g06_a_managers_address_is_changed_in_the_site_file(fault, cluster):
    node, new = cluster.managers[-1], cluster.lab.address(199)
    setups.move_address(fault, cluster, node, new)
    fault.begins(f"the address of {node} changed by site file and bootstrap, `swarm.readdress: true`, then an apply")
    cluster.must_apply()
    fault.recovers("three managers, one at the new address", lambda: seat(cluster, node) == (new, True))
    assert cluster.must_apply()


def seat(cluster, node):
    """(address that the swarm knows, manager?) of a node's engine."""
    swarm = cluster.docker(node, "GET", "/info")["Swarm"]
    return swarm["NodeAddr"], swarm["ControlAvailable"]
