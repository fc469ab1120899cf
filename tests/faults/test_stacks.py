"""Faults of stacks: services that fail where nobody looks, files that the engine refuses half-way."""

import json

from nodes import FOLDER

STACK = "faults"  # the name that `Cluster.single` gives a state
FILE = f"{FOLDER}/stack.yml"
PORT = 18080
LISTEN = f"import socket, time; s = socket.create_server(('0.0.0.0', {PORT})); print('up', flush=True); time.sleep(900)"


def deploy(fault, cluster, manager, services, configs=None, timeout=30):
    """Write a compose file on a manager and deploy it; return the state's return."""
    fault.undo_later("the stack", lambda: cluster.single(cluster.leading(), "swarm.stack_absent"))
    text = {"version": "3.8", "services": services, **({"configs": configs} if configs else {})}
    cluster.put(manager, FILE, json.dumps(text))
    options = (f"compose={FILE}", "resolve_image=never", f"timeout={timeout}")
    return cluster.single(manager, "swarm.stack", *options)


def services(cluster):
    """Names of the stack's services."""
    found = cluster.docker(cluster.leading(), "GET", "/services")
    return sorted(one["Spec"]["Name"] for one in found if one["Spec"]["Name"].startswith(f"{STACK}_"))


def test_g05_a_global_service_that_fails_on_every_node(fault, cluster):
    manager = cluster.leading()
    service = {"image": cluster.image(), "command": ["sh", "-c", "exit 3"], "deploy": {"mode": "global"}}
    fault.begins("a stack with a global service that ends at once on every node")
    failed = deploy(fault, cluster, manager, {"crash": service})
    assert failed["result"] is False, failed
    assert "0 of 4 tasks run" in failed["comment"] and "non-zero exit (3)" in failed["comment"], failed["comment"]
    assert f"`docker service logs {STACK}_crash`" in failed["comment"], failed["comment"]
    good = deploy(fault, cluster, manager, {"crash": {**service, "command": ["sleep", "1000000"]}}, timeout=60)
    assert good["result"] is True, good
    fault.recovers("its tasks on all nodes", lambda: len(cluster.tasks(f"{STACK}_crash")) == len(cluster.names))


def test_g05_a_global_service_whose_port_one_node_has_taken(fault, cluster):
    manager, node = cluster.leading(), cluster.workers[0]
    job = cluster.later(node, f'exec python3 -c "{LISTEN}"')
    fault.undo_later("the listener", lambda: job.signal("TERM"))
    cluster.wait("the listener", 20, lambda: "up" in job.read())
    ports = [{"target": 80, "published": PORT, "mode": "host"}]
    service = {"image": cluster.image(), "command": ["sleep", "1000000"], "ports": ports, "deploy": {"mode": "global"}}
    fault.begins(f"a stack with a global service whose port a program of {node} has")
    failed = deploy(fault, cluster, manager, {"web": service})
    assert failed["result"] is False, failed
    assert f"last error on {node}:" in failed["comment"], failed["comment"]
    assert f"{PORT}" in failed["comment"] and "address already in use" in failed["comment"], failed["comment"]
    job.signal("TERM")
    good = deploy(fault, cluster, manager, {"web": service}, timeout=90)
    assert good["result"] is True, good
    fault.recovers("its tasks on all nodes", lambda: len(cluster.tasks(f"{STACK}_web")) == len(cluster.names))


def test_g10_bad_files_of_a_stack(fault, cluster):
    manager = cluster.leading()
    good = {"image": cluster.image(), "command": ["sleep", "1000000"]}
    fault.begins("compose files that are wrong, and one that the engine refuses half-way")
    wrong = {
        "an unknown option": ({**good, "nope": 1}, ("nope", "take `nope` out or correct it")),
        "a wrong mode": ({**good, "deploy": {"mode": "each"}}, ("Unknown mode: each", "use `replicated` or `global`")),
        "a path that no node has": ({**good, "volumes": ["~/html:/x"]}, ("~/html", "write the path")),
        "no image": ({"command": ["sleep", "1"]}, ("app", "`image:`")),
    }
    for what, (service, said) in wrong.items():
        refused = deploy(fault, cluster, manager, {"app": service})
        assert (refused["result"], refused["changes"]) == (False, {}), (what, refused)
        assert not [clause for clause in said if clause not in refused["comment"]], (what, refused["comment"])
    assert services(cluster) == []
    unmet = {**good, "deploy": {"placement": {"constraints": ["node.role is manager"]}}}
    content = {"c": {"file": "./c.txt"}}
    cluster.put(manager, f"{FOLDER}/c.txt", "content")
    half = deploy(fault, cluster, manager, {"app": {**unmet, "configs": ["c"]}}, content)
    assert (half["result"], set(half["changes"])) == (False, {f"config {STACK}_c", f"network {STACK}_default"}), half
    assert "write `node.role == manager`" in half["comment"], half["comment"]
    assert f"(done before: config {STACK}_c, network {STACK}_default; it stays)" in half["comment"], half["comment"]
    whole = deploy(fault, cluster, manager, {"app": {**good, "configs": ["c"]}}, content, timeout=60)
    assert (whole["result"], set(whole["changes"])) == (True, {f"service {STACK}_app"}), whole
    fault.recovers("the stack of the corrected file to run", lambda: services(cluster) == [f"{STACK}_app"])
