"""The master's card burns: a blank board and the recovery kit make it the same cluster again (docs/backup.md)."""

import json
import os

import pytest
import yaml
from test_master_lost import ask, changed, new_card, record, task, voters, wrong

from rpiomega.lab import archives, b2_container, engine, lifecycle, pi, remote, state
from tests import restic_program

pytestmark = pytest.mark.long
BUCKET = "lab-master"
SERVICE = f"--name kept --no-resolve-image --constraint node.hostname=={{}} {archives.SMOKE} sleep 1d"
CA = "cd /etc/rpiomega/secrets/consul && sha256sum ca.pem ca-key.pem gossip.key management.token"


def prepare(lab):
    content = yaml.safe_load(lab.site_file.read_text())
    content["rpiomega"]["b2"] = {"endpoint": b2_container.endpoint(lab)}
    content["rpiomega"]["backup"] = {"bucket": BUCKET}
    lab.site_file.write_text(yaml.safe_dump(content, sort_keys=False))


def on(cluster, node, command, bound=120):
    return remote.run(cluster.lab, node, f"sudo sh -c {remote.quote(command)}", bound)


def must(cluster, *arguments, bound=900):
    done = cluster.rpiomega(*arguments, bound=bound)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def cluster(make_cluster, tmp_path_factory, wait):
    """A finished cluster of three with a service and a volume, backed up; its kit is in `kit`."""
    cluster = make_cluster("backupmaster", 3, prepare, b2=True)
    assert cluster.bootstrap.returncode == 0, cluster.bootstrap.stdout + cluster.bootstrap.stderr
    must(cluster, "accept")
    must(cluster, "backup", "init", "--admin-key-file", str(cluster.lab.folder / "b2-admin"))
    assert wrong(cluster.apply("first apply")) == {}
    lab, (master, other, last) = cluster.lab, cluster.lab.node_names()
    smoke = next(lab.folder.glob(f"{archives.SMOKE.replace('/', '-').replace(':', '-')}-*"))
    for node in (master, last):
        remote.send(lab, node, smoke, "/tmp/smoke.tar.gz")
        on(cluster, node, "docker load -q -i /tmp/smoke.tar.gz && rm /tmp/smoke.tar.gz")
    on(cluster, other, f"docker service create -q --detach {SERVICE.format(last)}")
    wait("the service to run", 60, lambda: task(lab, last))
    wait("three voters", 60, lambda: voters(cluster) == sorted(lab.node_names()))
    on(cluster, master, "docker volume create notes && echo kept > /var/lib/docker/volumes/notes/_data/text")
    on(cluster, master, "echo of-pi > /home/pi/letter && chown pi: /home/pi/letter")
    cluster.task, cluster.id = task(lab, last), ask(cluster, other, "swarm.info")["cluster_id"]
    cluster.record = record(cluster)
    cluster.ca = on(cluster, master, CA)
    cluster.finger = on(cluster, master, "sha256sum /etc/salt/pki/master/master.pub")
    must(cluster, "backup", "now")
    cluster.kit = tmp_path_factory.mktemp("kit") / "kit.txt"
    must(cluster, "backup", "kit", "--out", str(cluster.kit))
    return cluster


@pytest.fixture(scope="module")
def restic(tmp_path_factory):
    """A restic of this machine: `rpiomega restore master` reads with it."""
    folder = tmp_path_factory.mktemp("bin")
    (folder / "restic").symlink_to(restic_program.path())
    before = os.environ["PATH"]
    os.environ["PATH"] = f"{folder}:{before}"
    yield
    os.environ["PATH"] = before


def test_a_blank_board_and_the_kit_make_the_same_cluster_again(cluster, restic, wait):
    lab, (master, other, last) = cluster.lab, cluster.lab.node_names()
    new_card(lab)
    shown = must(cluster, "restore", "master", "--kit", str(cluster.kit), "--dry-run")
    assert "would be written" in shown
    done = must(cluster, "restore", "master", "--kit", str(cluster.kit))
    assert "left to do:" in done
    assert "all is there as it was saved" in must(cluster, "restore", "master", "--kit", str(cluster.kit))

    must(cluster, "bootstrap", bound=1800)  # no --new-master, and no acceptance after it
    assert on(cluster, master, "sha256sum /etc/salt/pki/master/master.pub") == cluster.finger
    keys = json.loads(on(cluster, master, "salt-key --out=json -L"))
    assert (sorted(keys["minions"]), keys["minions_pre"]) == (sorted(lab.node_names()), [])
    answers = json.loads(on(cluster, master, "salt --out=json --static '*' test.ping"))
    assert answers == dict.fromkeys(lab.node_names(), True)

    assert wrong(cluster.apply("apply on the new card")) == {}
    wait("three voters again", 60, lambda: voters(cluster) == sorted(lab.node_names()))
    assert on(cluster, master, CA) == cluster.ca
    assert ask(cluster, other, "swarm.info")["cluster_id"] == cluster.id
    assert record(cluster) == cluster.record
    again = cluster.apply("apply again")
    assert (wrong(again), changed(again)) == ({}, {})

    shown = must(cluster, "restore", "node", master, "--yes")
    assert "not restored: /etc" in shown
    assert on(cluster, master, "cat /var/lib/docker/volumes/notes/_data/text /home/pi/letter") == "kept\nof-pi"
    assert task(lab, last) == cluster.task, "the service on the other node never stopped"
    must(cluster, "backup", "now")
    must(cluster, "backup", "kit", "--check", str(cluster.kit))
    assert must(cluster, "status")


def test_a_node_that_was_replaced_gets_its_data_back(cluster, wait):
    """The burnt card of another node: remove --replace, a blank board, and its folders and volumes."""
    lab, (_, node, _) = cluster.lab, cluster.lab.node_names()
    on(cluster, node, "docker volume create data && echo kept > /var/lib/docker/volumes/data/_data/text")
    must(cluster, "backup", "now", node)
    client = engine.connect()
    pi.remove(client, pi.find(client, lab, node))

    def removed():
        return cluster.rpiomega("remove", node, "--replace", "--yes").returncode == 0

    wait(f"the others to call {node} down", 300, removed)
    lifecycle.up(client, state.existing(lab.name), print)
    must(cluster, "bootstrap", node, bound=1800)
    must(cluster, "accept", node)
    assert wrong(cluster.apply("apply on the new board")) == {}
    shown = must(cluster, "restore", "node", node, "--yes")
    assert "volume data" in shown
    assert on(cluster, node, "cat /var/lib/docker/volumes/data/_data/text") == "kept"
