"""Faults of Salt: its master away, a minion killed in the middle."""

import subprocess
import time

import engine_log
import yaml
from cluster import MEMBER, changes, returned_by
from invariants import logged
from nodes import FOLDER
from results import ROOT
from test_host import ready
from test_swarm import leaderless, leave

PAUSE = """

# Added by a test: stop where the lock is held.
def _stop(real):
    def paused(*arguments, **options):
        import os, time
        open("{base}.reached", "w").write(str(os.getpid()))
        while not os.path.exists("{base}.go"):
            time.sleep(0.05)
        return real(*arguments, **options)
    return paused


Store.write_record = _stop(Store.write_record)
"""


def test_f35_the_master_goes_away_during_an_apply(fault, cluster):
    node = cluster.workers[0]
    leave(fault, cluster, node)
    began = time.time()
    cluster.run(cluster.master, f"salt --async --out=json {node} state.apply swarm", 60)
    asked = lambda: [one.path for one in engine_log.so_far(logged(cluster, node, began))]  # noqa: E731
    cluster.wait("the job's states to run", 60, lambda: any(path.endswith("/info") for path in asked()))
    fault.begins(f"salt-master stopped while an apply lets {node} join the swarm")
    fault.stop_unit(cluster.master, "salt-master")
    fault.recovers("the job to do its work", lambda: ready(cluster, node) == 1)
    assert not cluster.problems()
    cluster.wait("the job to end, after it could not report", 300, lambda: not running(cluster, node))
    fault.measured["the job gave up to report, s"] = round(fault.since(), 1)
    refused = masterless(fault, cluster, node)
    assert "belongs to a Consul cluster with another certificate authority" in refused, refused
    assert not cluster.problems()
    leader = cluster.leading()
    other = next(name for name in cluster.managers if name != leader)
    fault.restart_docker(leader)
    cluster.wait("the swarm to have a leader without a master", 60, lambda: not leaderless(cluster, other))


def masterless(fault, cluster, node):
    """Apply Consul's states from a checkout on a node, as docs/masterless.md says; return why they refuse."""
    folder, made = f"{FOLDER}/checkout", "/etc/rpiomega/secrets/consul"
    fault.undo_later("the checkout", lambda: cluster.run(node, f"rm -rf {folder} {made}"))
    cluster.run(node, f"test ! -e {made} && mkdir -p {folder}")
    tree = subprocess.run(["git", "-C", str(ROOT), "archive", "HEAD"], check=True, capture_output=True).stdout
    cluster.container(node).put_archive(folder, tree)
    cluster.put(node, f"{folder}/pillar/site.sls", cluster.lab.site_file.read_text())
    command = f"cd {folder} && salt-call --id {node} --out=json --log-level=quiet state.apply consul"
    returned = returned_by(cluster.run(node, command, 120, check=False))
    assert "Traceback" not in str(returned), returned
    return next(one["comment"] for one in returned.values() if one["__id__"] == "consul.config")


def running(cluster, node):
    """Job IDs that run on a node, from its minion's own files."""
    return cluster.run(node, "ls /var/cache/salt/minion/proc 2>/dev/null", 20, check=False).out.split()


def test_f36_a_minion_is_killed_while_its_job_holds_the_lock(fault, cluster):
    """The job is a real one of the minion, stopped by a change to the node's own copy of a module."""
    first, other = cluster.managers[1:]
    base, copy = "/var/lib/faults/pause", "/var/cache/salt/minion/extmods/utils/omega/swarm/record.py"

    def restore():
        cluster.run(first, f"rm -f {base}.*; systemctl start salt-minion", 60)
        cluster.wait_salt([first])
        cluster.run(cluster.master, f"salt {first} saltutil.sync_utils", 120)
        cluster.run(first, "systemctl restart salt-minion", 60)
        cluster.wait_salt([first])

    fault.undo_later("the node's copy of the module", restore)
    record = cluster.record()
    path = "/v1/kv/rpiomega/swarm/record"
    fault.undo_later("the record", lambda: cluster.record() or cluster.must_apply(cluster.master, sls="swarm"))
    cluster.run(
        first, f"rm -f {base}.*; cat >>{copy} <<'PY'{PAUSE.format(base=base)}PY\nsystemctl restart salt-minion", 60
    )
    cluster.wait_salt([first])
    cluster.consul(cluster.master, "DELETE", path, token="management")
    cluster.run(cluster.master, f"salt --async {first} state.apply swarm", 60)
    reached = lambda: cluster.run(first, f"cat {base}.reached", 10, check=False).out  # noqa: E731
    pid = cluster.wait("the job to hold the lock", 90, reached)
    assert cluster.run(first, f"cat /proc/{pid}/cgroup", check=False).out.endswith("salt-minion.service")
    fault.begins(f"all processes of salt-minion of {first} killed while its job holds the lock")
    cluster.run(first, "systemctl kill -s KILL salt-minion; systemctl stop salt-minion", 60)
    assert cluster.run(first, f"test -e /proc/{pid}", check=False).code, "the job has outlived the kill"
    job = fault.holder(other, "rpiomega/swarm/lock", hold=1)

    def next_one():
        return [line for line in job.lines() if line["event"] == "held"]

    fault.recovers("the lock to be free again", next_one)
    assert cluster.must_apply(cluster.master, sls="swarm")[cluster.master][key(cluster)]["result"] is True
    assert cluster.record()["cluster_id"] == record["cluster_id"]
    assert cluster.record()["fence"] > record["fence"]


def key(cluster):
    """The state's ID in a return."""
    returned = cluster.applied[-1]["returned"][cluster.master]
    return next(name for name in returned if name.startswith(MEMBER))


def test_g11_a_site_file_that_is_refused_reaches_no_node(fault, cluster):
    node = cluster.workers[0]
    kept = cluster.lab.site_file.read_text()
    there = "sha256sum /srv/rpiomega/pillar/site.sls"
    before = cluster.run(cluster.master, there).out
    fault.undo_later("the site file", lambda: cluster.lab.site_file.write_text(kept))
    document = yaml.safe_load(kept)
    nodes = document["rpiomega"]["nodes"]
    document["rpiomega"]["nodes"] = {"kitchen" if name == node else name: entry for name, entry in nodes.items()}
    cluster.lab.site_file.write_text(yaml.safe_dump(document, sort_keys=False))
    fault.begins(f"{node} renamed to kitchen in the site file, then `rpiomega bootstrap`")
    done = cluster.rpiomega("bootstrap", check=False)
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode and f"rpiomega remove {node}" in said, said[-1500:]
    assert cluster.run(cluster.master, there).out == before
    assert changes(cluster.must_apply()) == {}
    fault.recovers("all nodes as they were", lambda: not cluster.problems())
