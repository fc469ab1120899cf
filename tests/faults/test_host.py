"""Faults of the nodes themselves: engine restarted, power of all lost."""

import json
import random
import threading
import time

from cluster import returned_by
from nodes import FOLDER
from test_losses import CERTIFICATES, expire
from test_swarm import leave, reachable, running, spread


def test_f41_the_engine_restarts_in_the_middle_of_a_join(fault, cluster):
    node = cluster.workers[0]
    leave(fault, cluster, node)
    pause = fault.pause_at(node, "omega.swarm.api.Engine.join")
    job = cluster.call_later(node, "state.single", "swarm.member", "faults", patch=pause.patch)
    pause.wait()
    fault.begins(f"engine of {node} restarted as it sends its request to join")
    pause.go()
    fault.restart_docker(node)
    result = next(iter(returned_by(job.result(fault.bound)).values()))
    assert result["result"] is True, result["comment"]
    fault.recovers("the node to be ready", lambda: ready(cluster, node) == 1)
    assert ready(cluster, node) == 1


def ready(cluster, name):
    """How many entries of that name are ready."""
    return sum(one["name"] == name and one["state"] == "ready" for one in cluster.nodes_seen())


def test_f45_all_nodes_lose_power_and_come_back_in_any_order(fault, cluster):
    ids = {node: fact["node_id"] for node, fact in cluster.look().items()}
    skew = random.Random(45)
    delays = {node: skew.uniform(0, 60) for node in cluster.names}
    fault.power_off(*cluster.names)
    fault.begins("power of all nodes cut, given back after " + ", ".join(f"{d:.0f} s" for d in delays.values()))

    def later(node):
        time.sleep(delays[node])
        fault.power_on(node)

    threads = [threading.Thread(target=later, args=(node,)) for node in cluster.names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    last = max(delays.values())
    fault.recovers("the cluster to be whole, without an apply", lambda: not cluster.problems())
    fault.measured["after the last node got power, s"] = round(fault.seconds - last, 1)
    assert {node: fact["node_id"] for node, fact in cluster.look().items()} == ids


DATA, OLD = "/var/lib/docker", f"{FOLDER}/disk"
SMALL_MB = 1024
STOP = "systemctl stop docker.socket docker"


def fill(fault, cluster, node):
    """Give an engine a small disk of its own until the fault is healed, with all it had on the old one, and fill it."""
    fault.touched.add(node)
    move = f"mkdir -p {OLD} && mount --bind {DATA} {OLD}"
    move += f" && mount -t tmpfs -o size={SMALL_MB}m tmpfs {DATA} && cp -a {OLD}/. {DATA}/"
    # What swarm and Consul have told the others since must not be forgotten; the rest is as it was.
    keep = "".join(f"rm -rf {OLD}/{part}; cp -a {DATA}/{part} {OLD}/; " for part in ("swarm", "volumes"))
    back = f"{STOP}; rm -f {DATA}/filler; {keep}umount {DATA} && umount {OLD}; systemctl start docker"
    fault.undo_later(f"disk of {node}", lambda: cluster.run(node, back, 300))
    cluster.run(node, f"{STOP}; {move}; systemctl start docker", 300)
    cluster.wait(f"{node} on its small disk", 120, lambda: not cluster.problems())
    full = cluster.run(node, f"dd if=/dev/zero of={DATA}/filler bs=64k", 120, check=False)
    assert "No space left" in full.err, full


def back_home(fault, cluster, node):
    """Have a node in its swarm again as the fault is healed, after what was injected later is undone."""
    fault.undo_later(f"{node} in the swarm", lambda: cluster.must_apply(node, sls="swarm"))


def test_f42_a_managers_disk_is_full(fault, cluster):
    """A worker's disk is full as well: it may not become a manager, nor come back once it has left."""
    full, worker = cluster.managers[-1], cluster.workers[0]
    others = [node for node in cluster.managers if node != full]
    back_home(fault, cluster, worker)
    for node in (full, worker):
        fill(fault, cluster, node)
    fault.begins(f"the disks of manager {full} and of worker {worker} filled to the last byte")
    spread(fault, cluster, f"node.hostname!={full}", f"node.hostname!={worker}")
    fault.recovers("a new service to run", lambda: len(running(cluster)) == 4)
    assert all(cluster.ask(node, ["docker", "GET", "/nodes"])[0][0] == 200 for node in others)
    fault.measured["the full manager"] = "reachable" if reachable(cluster, full) else "unreachable"
    cluster.wait("Consul to have a leader", 30, lambda: cluster.look([worker])[worker]["leader"])
    promoted = cluster.member(worker, "role=manager")
    assert promoted["result"] is False
    assert "it stays a worker: only" in promoted["comment"], promoted["comment"]
    leave(fault, cluster, worker)
    joined = cluster.member(worker)
    assert joined["result"] is False
    assert "MiB are free" in joined["comment"] and "swarm.min_free_mb" in joined["comment"], joined["comment"]
    assert fault.since() < fault.bound


def test_f43_docker_with_the_nftables_backend(fault, cluster):
    node = cluster.workers[0]
    back_home(fault, cluster, node)
    leave(fault, cluster, node)
    settings = "/etc/docker/daemon.json"
    fault.undo_later(settings, lambda: cluster.run(node, f"mv {settings}.kept {settings}"))
    edit = f"import json; d = json.load(open('{settings}')); d['firewall-backend'] = 'nftables'; print(json.dumps(d))"
    cluster.run(node, f'cp -p {settings} {settings}.kept; python3 -c "{edit}" >/tmp/d && cat /tmp/d >{settings}')
    fault.begins(f"firewall-backend nftables in daemon.json of {node}, which is about to join")
    result = cluster.member(node)
    fault.seconds = round(fault.since(), 1)
    assert result["result"] is False
    assert "Swarm needs the iptables backend" in result["comment"], result["comment"]
    assert cluster.look([node])[node]["state"] == "inactive"
    assert fault.seconds < fault.bound


def mask(fault, cluster, node, path, fake):
    """Cover a path of a node with what `fake` mounts there, until the mask is taken off or the fault healed."""
    fault.undo_later(f"{path} of {node}", lambda: cluster.run(node, f"! mountpoint -q {path} || umount {path}"))
    cluster.run(node, f"path={path}; {fake}")


def test_f44_no_memory_cgroup_or_no_vxlan(fault, cluster):
    node = cluster.workers[0]
    back_home(fault, cluster, node)
    leave(fault, cluster, node)
    empty = "mkdir -p $path && mount -t tmpfs tmpfs $path"
    mask(fault, cluster, node, "/sys/module", empty)
    lists = "cd $path && mkdir $(uname -r) && touch $(uname -r)/modules.dep"
    mask(fault, cluster, node, "/lib/modules", f"{empty} && {lists}")
    fault.begins(f"no vxlan module on {node}, which is about to join")
    result = cluster.member(node)
    fault.seconds = round(fault.since(), 1)
    assert result["result"] is False
    assert "no vxlan module" in result["comment"] and "reboot" in result["comment"], result["comment"]
    assert cluster.look([node])[node]["state"] == "inactive"
    assert fault.seconds < fault.bound
    cluster.run(node, "umount /sys/module /lib/modules")
    result = cluster.member(node)
    assert result["result"] is True, result["comment"]
    # No fake of a cgroup file serves an engine: runc insists on the real ones. Many a container has no memory cgroup.
    if cluster.docker(node, "GET", "/info")["MemoryLimit"]:
        fault.measured["no memory cgroup"] = "not to be had here; tests/modules/test_swarm_check.py, -k f44"
        return
    said = " ".join([result["comment"], *result.get("warnings", [])])
    assert "cgroup_enable=memory cgroup_memory=1" in said and "reboot" in said, said
    fault.measured["no memory cgroup"] = "joined, with a warning that names the flags and the reboot"


def test_g12_a_card_becomes_read_only(fault, cluster):
    """A bind stands in for the card: the kernel remounts no file system read-only on which files are open to write."""
    node, file = cluster.workers[0], "/etc/rpiomega/consul/consul.json"
    fault.undo_later(f"mode of {file}", lambda: cluster.run(node, f"chmod 600 {file}"))
    cluster.run(node, f"chmod 640 {file}")  # something that the state has to write
    fault.undo_later("/etc", lambda: cluster.run(node, "! mountpoint -q /etc || umount -l /etc"))
    cluster.run(node, "mount --rbind /etc /etc && mount -o remount,bind,ro /etc")
    fault.begins(f"/etc of {node} mounted read-only")

    def named():
        found = json.loads(cluster.rpiomega("status", "--json", check=False).stdout)["findings"]
        return [one for one in found if (one["node"], one["check"]) == (node, "read-only")]

    finding = fault.recovers("status to name it", named)[0]
    assert finding["severity"] == "error" and "/etc is read-only" in finding["what"] and "dmesg" in finding["cure"]
    failed = cluster.apply(node, sls="consul")[node]
    config = next(one for key, one in failed.items() if key.startswith("consul_agent_|-consul.config_|-"))
    assert config["result"] is False
    assert "Read-only file system" in config["comment"] and "`dmesg`" in config["comment"], config["comment"]
    cluster.run(node, "umount -l /etc")
    cluster.must_apply(node, sls="consul")
    assert not named()


def test_g08_an_engine_started_with_a_wrong_clock(fault, cluster):
    """Virtual Pis have this machine's clock: the certificate is one that ended, until the engine has started."""
    node = cluster.workers[0]
    before = cluster.look([node])[node]["node_id"]
    shown = cluster.run(node, "systemctl show --value --property=After,Wants docker systemd-time-wait-sync").out
    assert shown.count("time-sync.target") >= 2, shown
    bound = "systemctl show --value --property=TimeoutStartUSec systemd-time-wait-sync"
    assert cluster.run(node, bound).out == "1min 30s"
    cluster.run(node, f"cp -p {CERTIFICATES}/swarm-node.crt {FOLDER}/kept.crt")
    fault.undo_later("certificate", lambda: cluster.run(node, f"cp -p {FOLDER}/kept.crt {CERTIFICATES}/swarm-node.crt"))
    expire(fault, cluster, node)
    cluster.wait("the engine's verdict", 60, lambda: cluster.look([node])[node]["state"] == "error")
    cluster.run(node, f"cp -p {FOLDER}/kept.crt {CERTIFICATES}/swarm-node.crt")
    fault.begins(
        f"the engine of {node} started with a clock by which its certificate is not valid; then the clock is right"
    )
    result = cluster.member(node)
    assert result["result"] is True, result["comment"]
    assert "engine" in result["changes"], result["changes"]
    fault.recovers("the node to be ready", lambda: ready(cluster, node) == 1)
    assert cluster.look([node])[node]["node_id"] == before
