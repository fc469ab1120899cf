"""The master's card is lost: the same swarm and the same Consul go on with a new one (docs/operations.md)."""

import json
import subprocess

import pytest

from rpiomega.lab import archives, engine, lifecycle, pi, remote, state

pytestmark = pytest.mark.long
SECRETS = "etc/rpiomega/secrets"
SERVICE = f"--name kept --no-resolve-image --constraint node.hostname=={{}} {archives.SMOKE} sleep 1d"


def new_card(lab):
    """The master as a blank board: what was on its card is gone, its address is the same."""
    client = engine.connect()
    pi.remove(client, pi.find(client, lab, lab.node_names()[0]))
    lifecycle.up(client, state.existing(lab.name), print)


def put_back(cluster):
    with cluster.copy.open("rb") as file:
        over_ssh(cluster, "sudo tar -C / -xpf -", stdin=file)


def over_ssh(cluster, command, **streams):
    """Run a command on the master, with a file as its input or its output."""
    argv = remote.argv(cluster.lab, cluster.master, command)
    subprocess.run(argv, check=True, timeout=60, **streams)


def wrong(returned):
    """{node: [comments]} of the states that did not succeed."""
    found = {
        node: [one["comment"] for one in states.values() if one["result"] is not True]
        if isinstance(states, dict)
        else [states]
        for node, states in returned.items()
    }
    return {node: comments for node, comments in found.items() if comments}


def changed(returned):
    return {
        f"{node} {one['__id__']}": one["changes"]
        for node, states in returned.items()
        for one in states.values()
        if one["changes"]
    }


def ask(cluster, node, function, *arguments):
    command = ["sudo", "salt", "--out=json", "--static", node, function, *arguments]
    return json.loads(cluster.on_master(remote.quote(*command)))[node]


def voters(cluster):
    """The names of Consul's healthy voters."""
    servers = ask(cluster, cluster.master, "consul.servers")["data"]["servers"]
    return sorted(server["name"] for server in servers if server["voter"] and server["healthy"])


def record(cluster):
    """The swarm's record in Consul with its indexes: what was written before, and not again."""
    return ask(cluster, cluster.master, "consul.get", "key=rpiomega/swarm/record")["data"][0]


def task(lab, node):
    """(container, when it began) of the service on its node."""
    command = "sudo docker ps -q --filter name=kept | xargs -r sudo docker inspect -f '{{.Id}} {{.State.StartedAt}}'"
    return remote.run(lab, node, command)


def entries(cluster, node):
    """The swarm's entries as that node sees them, sorted: "NAME Ready Reachable"."""
    lines = remote.run(cluster.lab, node, "sudo docker node ls --format '{{.Hostname}} {{.Status}} {{.ManagerStatus}}'")
    return sorted(line.replace("Leader", "Reachable") for line in lines.splitlines())


@pytest.fixture(scope="module")
def cluster(make_cluster, tmp_path_factory, wait):
    """A finished cluster with a service, and a copy of its secrets."""
    cluster = make_cluster("masterlost", 3)
    assert cluster.bootstrap.returncode == 0, cluster.bootstrap.stdout + cluster.bootstrap.stderr
    assert cluster.rpiomega("accept").returncode == 0
    assert wrong(cluster.apply("first apply")) == {}
    lab, (_, other, last) = cluster.lab, cluster.lab.node_names()
    smoke = next(lab.folder.glob("rpiomega-smoke-*"))
    remote.send(lab, last, smoke, "/tmp/smoke.tar.gz")
    remote.run(lab, last, "sudo docker load -q -i /tmp/smoke.tar.gz")
    remote.run(lab, other, f"sudo docker service create -q --detach {SERVICE.format(last)}")
    wait("the service to run", 60, lambda: task(lab, last))
    # Until then the master is the only voter, and its loss the loss of Consul.
    wait("three voters", 60, lambda: voters(cluster) == sorted(lab.node_names()))
    cluster.task = task(lab, last)
    cluster.id, cluster.record = ask(cluster, other, "swarm.info")["cluster_id"], record(cluster)
    cluster.copy = tmp_path_factory.mktemp("copy") / "secrets.tar"
    with cluster.copy.open("wb") as file:
        over_ssh(cluster, f"sudo tar -C / -cpf - {SECRETS}", stdout=file)
    return cluster


def whole(cluster, wait):
    """The cluster is the one it was: swarm, Consul's data, three voters, three managers, the service's task."""
    names = cluster.lab.node_names()
    wait("three voters again", 60, lambda: voters(cluster) == sorted(names))
    assert ask(cluster, names[1], "swarm.info")["cluster_id"] == cluster.id
    assert record(cluster) == cluster.record
    assert task(cluster.lab, names[-1]) == cluster.task
    assert entries(cluster, names[1]) == sorted(f"{name} Ready Reachable" for name in names)


def test_with_its_secrets_put_back_the_cluster_is_the_old_one(cluster, wait):
    new_card(cluster.lab)
    done = cluster.rpiomega("bootstrap", "--new-master", bound=600)
    assert done.returncode == 0, done.stdout + done.stderr
    put_back(cluster)
    assert cluster.rpiomega("accept").returncode == 0
    assert wrong(cluster.apply("apply on the new card")) == {}
    whole(cluster, wait)
    again = cluster.apply("apply again")
    assert (wrong(again), changed(again)) == ({}, {})
    done = cluster.rpiomega("status")
    assert done.returncode == 0, done.stdout


def test_without_its_secrets_no_second_cluster_begins(cluster, wait):
    new_card(cluster.lab)
    assert cluster.rpiomega("bootstrap", "--new-master", bound=600).returncode == 0
    assert cluster.rpiomega("accept").returncode == 0
    said = wrong(cluster.apply("apply without the secrets"))
    assert "no Consul cluster is started here" in said.pop(cluster.master)[0]
    assert len(said) == 2
    assert all("belongs to a Consul cluster with another" in comments[0] for comments in said.values()), said
    assert cluster.on_master("sudo docker ps -aq") == ""
    assert task(cluster.lab, cluster.lab.node_names()[-1]) == cluster.task

    put_back(cluster)
    cluster.on_master("sudo salt '*' saltutil.refresh_pillar")
    assert wrong(cluster.apply("apply with the secrets")) == {}
    whole(cluster, wait)
