"""A worker in wrong hands."""

import json

import leaks
import pytest
from cluster import SERVICE
from nodes import FOLDER, HERE, SALT_PYTHON
from test_swarm import set_cluster, unlocked

# What must come back of an attempt, or it has not worked and proves nothing; {…} is filled in by the test.
CONTROLS = {
    "mine": '"local"',
    "pillar_of_others": "{own token}",
    "publish": '"local"',
    "peer_runner": '"local"',
    "consul_keys": "{cluster}",
    "consul_snapshot": "Permission denied",
    "jobs": "state.apply",
    "spoofed_grains": "swarm.member",
    "stolen_session": "{session}",
    "keys_of_others": "Permission denied",
    "catalog_of_others": "Permission denied",
    "file_server": "top.sls",
    "push_a_file": '"local"',
    "master_internals": "state_top",
    "engine": "not a swarm manager",
    "memory": "{own token}",
    "rogue_server": "EventMemberJoin",
    "environments": "PATH=",
    "forged_events": '"local": true',
}


def test_f38_root_on_a_worker_gets_no_secret_of_others(fault, cluster):
    """Nine ways and more (attack.py), each tried for real; what came back is searched for every secret by value.

    Each way also has to bring back what a worker may have (CONTROLS): one that does not work would prove nothing.
    """
    worker, other = cluster.workers[0], cluster.managers[-1]
    unlocked(fault, cluster)
    assert set_cluster(cluster, "autolock=True")["result"] is True
    cluster.must_apply(*cluster.managers, sls="swarm")  # they keep the key; and there are jobs of others
    leaks.note(cluster)
    assert "unlock key" in cluster.secrets
    rights = seats(cluster)
    kept = {key: cluster.ask(other, ["consul", "GET", f"/v1/kv/rpiomega/swarm/{key}?raw"])[0] for key in KEYS}
    for name in ("probe.py", "attack.py"):
        cluster.put(worker, f"{FOLDER}/{name}", (HERE / name).read_text())
    tidy = f"rm -rf {FOLDER}/attack.py {FOLDER}/gave.json /etc/salt/grains"
    fault.undo_later("what the attack left", lambda: cluster.run(worker, tidy))
    fault.undo_later("the rogue server's seat", lambda: unseat(cluster))
    denied = f"/etc/salt/pki/master/minions_denied/{other}"  # what the master keeps of the attempt with that name
    fault.undo_later("the key that was refused", lambda: cluster.run(cluster.master, f"rm -f {denied}"))
    fault.begins("root on a worker tries every way in tests/faults/attack.py, with autolock on")
    holder = fault.holder(other, "rpiomega/swarm/faults/lock", hold=400)
    address = cluster.address(cluster.master)
    session = cluster.wait("the lock to be held", 60, lambda: [one for one in holder.lines() if one["event"] == "held"])
    words = f"{other} {address} {FOLDER}/gave.json {' '.join(applies(cluster))}"
    job = cluster.later(worker, f"{SALT_PYTHON} {FOLDER}/attack.py {words}")
    # While the worker listens, there is something to hear: applies, and everything the managers do in them.
    cluster.wait("the attack to begin", 60, lambda: cluster.run(worker, f"ls {FOLDER}/gave.json", check=False).out)
    while not job.over():
        cluster.apply(*cluster.managers, sls="swarm")
        assert fault.since() < 1200, "the attack does not end"
    assert job.result(10).code == 0, job.result(10).err[-500:]
    lines = cluster.run(worker, f"cat {FOLDER}/gave.json", 60).out.splitlines()
    fault.begins(fault.injected)  # what it can have broken shows, or is mended, from its end on
    fault.recovers("a whole cluster", lambda: not cluster.problems())
    leaks.note(cluster)
    secrets = {name: values for name, values in cluster.secrets.items() if leaks.foreign(worker, name)}
    secrets.pop("worker token")  # by which every node of the site may join
    fill = {
        "{own token}": list(cluster.secrets[f"Consul token of {worker}"])[-1],
        "{cluster}": cluster.record()["cluster_id"],
        "{session}": session[0]["session"],
    }
    obtained, attempts, idle = {}, {}, {}
    for line in lines:
        said = json.loads(line)
        text = said["gave"] + said["gave"].replace("\\n", "\n").replace('\\"', '"')
        got = [name for name, values in secrets.items() if any(value in text for value in values)]
        name = said["attempt"].split(":")[0]
        attempts[name] = got or "nothing"
        control = fill.get(CONTROLS[name], CONTROLS[name])
        if said["broken"] or control not in text:
            idle[name] = said["broken"] or f"no {CONTROLS[name]} in {said['gave'][:600]}"
        print(
            f"F38: {said['attempt']}: {', '.join(got) or 'no secret of others'} ({len(said['gave'])} bytes came back)"
        )
        obtained |= {name: got} if got else {}
    assert idle == {}, "attempts that do not work, and prove nothing"
    assert set(attempts) == set(CONTROLS)
    fault.measured["ways tried"] = len(attempts)
    fault.measured["ways that gave a secret"] = len(obtained)
    assert obtained == {}
    assert seats(cluster) == rights, "the attack promoted or demoted somebody"
    now = {key: cluster.ask(other, ["consul", "GET", f"/v1/kv/rpiomega/swarm/{key}?raw"])[0] for key in KEYS}
    assert now == kept
    assert not [line for line in holder.lines() if line["event"] == "lost"], holder.read()
    assert [one for one in servers(cluster) if one["Node"] == "rogue" and one["Voter"]] == []
    unknown = cluster.ask(other, ["consul", "GET", "/v1/kv/rpiomega/swarm/?keys"])[0][1]
    assert not [key for key in unknown if "unknown" in key], unknown


def applies(cluster):
    """Job IDs of the last applies, which were not the worker's."""
    listed = cluster.run(cluster.master, "salt-run --out=json jobs.list_jobs search_function=state.apply", 60).out
    return sorted(json.loads(listed))[-3:]


KEYS = ("record", "worker-token", "nodes/rpiomega-master", "nodes/rpiomega-2", "nodes/rpiomega-3")


def servers(cluster):
    """Consul's servers as Raft knows them."""
    path = "/v1/operator/raft/configuration"
    return cluster.consul(cluster.master, "GET", path, token="management")["Servers"]


def unseat(cluster):
    """Take the rogue server out of Raft's configuration, if it got into it."""
    for one in servers(cluster):
        if one["Node"] not in cluster.managers:
            path = f"/v1/operator/raft/peer?address={one['Address']}"
            cluster.consul(cluster.master, "DELETE", path, token="management")
    cluster.ask(cluster.master, ["consul", "PUT", "/v1/agent/force-leave/rogue?prune", None, "management"])


def seats(cluster):
    """Name -> role and availability in the swarm."""
    return {
        node["name"]: (node["role"], node["availability"]) for node in cluster.nodes_seen() if node["state"] != "down"
    }


def test_f39_an_unknown_node_with_the_workers_token_gets_no_work(fault, cluster):
    """A fifth engine joins with a stolen worker token; the next apply pauses it, reports it and changes the token."""
    address = f"{cluster.address(cluster.master)}:2377"
    node, name = cluster.workers[0], "pi9"
    stranger = Stranger(fault, cluster, node, name)
    stolen = cluster.docker(cluster.leading(), "GET", "/swarm")["JoinTokens"]["Worker"]
    fault.begins("an engine that no site names joins with the worker token")
    said = stranger.join(address, stolen)
    cluster.wait(f"the stranger to be a member, which was told: {said}", 60, lambda: name in seats(cluster))
    returned = cluster.must_apply(sls="swarm")
    fault.recovers("the stranger to be paused", lambda: seats(cluster)[name] == ("worker", "pause"))
    text = json.dumps(returned)
    assert name in text, "nobody reports the stranger"
    now = cluster.docker(cluster.leading(), "GET", "/swarm")["JoinTokens"]["Worker"]
    assert now != stolen, "the worker token is the one that was stolen"
    published = cluster.consul(cluster.master, "GET", "/v1/kv/rpiomega/swarm/worker-token?raw")
    assert published["token"] == now
    fault.measured["tasks of older services it was given before the pause"] = len(tasks(cluster, name))
    secret = f"{SERVICE}-secret"
    fault.undo_later("the service with a secret", lambda: forget(cluster, secret))
    serve(cluster, secret)
    cluster.wait("the service to run on every node", 90, lambda: len(cluster.tasks(secret)) == len(cluster.names))
    assert tasks(cluster, name, secret) == [], "a task with a secret for the stranger"
    # Only the pause keeps it away.
    cluster.run(cluster.leading(), f"docker node update --availability active {stranger.id()}")
    cluster.wait("the stranger, let in by hand, to get a task", 60, lambda: tasks(cluster, name, secret))


def serve(cluster, name):
    """Run a global service with a secret of that name."""
    manager = cluster.leading()
    cluster.run(manager, f"head -c 12 /dev/urandom | docker secret create {name} -")
    create = f"docker service create --quiet --detach --name {name} --mode global --no-resolve-image --secret {name}"
    cluster.run(manager, f"{create} --stop-grace-period 1s {cluster.image()} sleep 1000000")


def forget(cluster, name):
    """Remove the service and its secret."""
    cluster.run(cluster.leading(), f"docker service rm {name}; docker secret rm {name}", 60)


def tasks(cluster, node, service=""):
    """States of all tasks that a node of that name was given, whatever became of them; of one service, or of all."""
    ids = {one["id"] for one in cluster.nodes_seen() if one["name"] == node}
    manager = cluster.leading()
    of = cluster.docker(manager, "GET", f"/services/{service}")["ID"] if service else ""
    listed = [one for one in cluster.docker(manager, "GET", "/tasks") if one.get("NodeID") in ids]
    return [one["Status"]["State"] for one in listed if one["ServiceID"] == of or not of]


class Stranger:
    """A second engine on a node, with a name, a network and a state of its own."""

    def __init__(self, fault, cluster, node, name):
        self.cluster, self.node, self.name = cluster, node, name
        self.top = f"{FOLDER}/{name}"
        done = cluster.run(node, self._script(), 90, check=False)
        fault.undo_later("the stranger", self.remove)
        if done.code:
            pytest.skip(f"a second engine does not run inside a virtual Pi here: {done.err[-200:]}")

    def _script(self):
        """A network namespace behind the node's own address, and an engine in it (`ip netns exec` hides cgroups).

        NetworkManager would ask DHCP about a new interface, and take its address away for that.
        """
        return f"""
set -e
ip netns add {self.name}
ip link add st0 type veth peer name st1 netns {self.name}
if systemctl -q is-active NetworkManager; then
  timeout 20 sh -c 'until nmcli device set st0 managed no; do sleep 0.1; done'
fi
ip addr add 10.99.77.1/24 dev st0; ip link set st0 up
ip -n {self.name} addr add 10.99.77.2/24 dev st1; ip -n {self.name} link set st1 up
ip -n {self.name} link set lo up; ip -n {self.name} route add default via 10.99.77.1
sysctl -qw net.ipv4.ip_forward=1
iptables -w -t nat -A POSTROUTING -s 10.99.77.0/24 ! -o st0 -j MASQUERADE
iptables -w -I FORWARD -i st0 -j ACCEPT; iptables -w -I FORWARD -o st0 -j ACCEPT
mkdir -p {self.top}
systemd-run -q --collect --unit {self.name} -p PrivateMounts=yes \
  nsenter --net=/run/netns/{self.name} unshare -um sh -c \
  'hostname {self.name}; mount -t tmpfs tmpfs /run; exec dockerd -H unix://{self.top}/sock --data-root {self.top}/data \
  --exec-root /run/d --pidfile {self.top}/pid --bridge none --config-file /dev/null --iptables=false'
for i in $(seq 120); do docker -H unix://{self.top}/sock info >/dev/null 2>&1 && exit 0; sleep 0.5; done; exit 1
"""

    def join(self, address, token):
        """Join a swarm, return what was said; an engine that takes longer than 20 s goes on by itself."""
        command = f"docker -H unix://{self.top}/sock swarm join --advertise-addr 10.99.77.2 --token {token} {address}"
        done = self.cluster.run(self.node, command, 60, check=False)
        return " ".join([done.out, done.err]).replace(token, "[token]").strip()

    def id(self):
        """Its node ID."""
        return next(one["id"] for one in self.cluster.nodes_seen() if one["name"] == self.name)

    def remove(self):
        """End the engine, remove its entry as the operator that the report asked."""
        ids = [one["id"] for one in self.cluster.nodes_seen() if one["name"] == self.name]
        self.cluster.run(
            self.node,
            f"docker -H unix://{self.top}/sock swarm leave; systemctl stop {self.name}; ip link del st0; "
            f"ip netns del {self.name}; iptables -w -t nat -D POSTROUTING -s 10.99.77.0/24 ! -o st0 -j MASQUERADE; "
            f"iptables -w -D FORWARD -i st0 -j ACCEPT; iptables -w -D FORWARD -o st0 -j ACCEPT; rm -rf {self.top}",
            60,
            check=False,
        )
        for one in ids:
            self.cluster.wait(
                "the stranger to be down",
                60,
                lambda one=one: all(n["state"] == "down" for n in self.cluster.nodes_seen() if n["id"] == one),
            )
            self.cluster.run(self.cluster.leading(), f"docker node rm {one}", check=False)
