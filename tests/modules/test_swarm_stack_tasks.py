"""How `swarm.stack` judges the services of a stack, with engines whose containers really fail."""

import re
import socket
import subprocess
import sys

import pytest
import stack_site
from dockerds import missing
from stack_site import IMAGE, JUDGE, SLEEP, deploy
from swarm_site import until

from omega.swarm.api import SwarmError
from omega.swarm.stack.tasks import Judge

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "runs")

AGAIN = {"condition": "any", "delay": "5s"}
OUTSIDE = {"outside": {"external": True, "name": "host"}}
PORT = 9080
_LISTEN = (
    "import socket, sys, time; s = socket.create_server(('0.0.0.0', int(sys.argv[1]))); print('up'); time.sleep(900)"
)


site, minion, engine = stack_site.site, stack_site.minion, stack_site.engine


@pytest.fixture
def gone(minion):
    """The stack `web` is removed at the end."""
    yield
    removed = minion.state("swarm.stack_absent", "web", timeout=180)
    assert removed["result"] is True, removed["comment"]


def shell(line, mode="replicated", restart=None, **more):
    """A service that runs a line of the shell."""
    wanted = {"mode": mode, "restart_policy": restart or AGAIN, **more.pop("deploy", {})}
    command = [word.replace("$", "$$") for word in ("/bin/sh", "-c", line)]
    return {
        "image": IMAGE,
        "command": command,
        "networks": ["outside"],
        "stop_grace_period": "1s",
        "deploy": wanted,
        **more,
    }


def compose(**services):
    volumes = {"late": {"driver_opts": {"type": "none", "o": "bind", "device": "/no/device"}}}
    return {"version": "3.8", "services": services, "networks": OUTSIDE, "volumes": volumes}


BAD = {  # name: (service, what its clause is)
    "crash": (
        shell("exit 3"),
        r"0 of 1 tasks run, last error on pi\d: .*exit \(3\) \(see `docker service logs web_crash",
    ),
    "gcrash": (
        shell("exit 3", "global"),
        r"0 of 2 tasks run, last error on pi\d: .*exit \(3\) \(see `docker service log",
    ),
    "late": (shell("sleep 3; exit 4"), r"0 of 1 tasks run, last error on pi\d: .*exit \(4\)"),
    "glate": (shell("sleep 3; exit 4", "global"), r"0 of 2 tasks run, last error on pi\d: .*exit \(4\)"),
    "ends": (shell("exit 0"), r"0 of 1 tasks run, the last task on pi\d ended with exit code 0 \(correct `command` so"),
    "once": (shell("exit 5", restart={"condition": "none"}), r"0 of 1 .*exit \(5\), and none is started again \(see"),
    "gonce": (
        shell("exit 5", "global", {"condition": "none"}),
        r"0 of 2 .*exit \(5\), and none is started again \(see",
    ),
    "thrice": (
        shell("exit 6", "global", {**AGAIN, "max_attempts": 2}),
        r"0 of 2 .*exit \(6\), and none is started again",
    ),
    "killed": (
        shell("exit 137"),
        r"0 of 1 tasks run, .*exit \(137\) \(killed, as for lack of memory .*`dmesg` on pi\d",
    ),
    "image": (
        shell("exit 0", "global", image="127.0.0.1:1/none:1"),
        r"0 of 2 tasks run, last error on pi\d: No such image: 127.0.0.1:1/none:1 \(does `docker pull` of it work",
    ),
    "mount": (
        shell("exit 0", "global", volumes=["/no/such:/x"]),
        r"0 of 2 .*invalid mount config.*exist: /no/such \(create /no/such on pi\d and on each other node",
    ),
    "volume": (shell("exit 0", volumes=["late:/x"]), r"0 of 1 .*failed to mount local volume.*\(correct `driver_opts`"),
    "command": ({**shell("x"), "command": ["/bin/none"]}, r"0 of 1 .*/bin/none.*\(correct `command` or `entrypoint`"),
    "ill": (
        shell("sleep 99", "global", healthcheck={"test": ["CMD", "/bin/none"], "interval": "1s", "retries": 1}),
        r"0 of 2 .*unhealthy container \(the healthcheck fails",
    ),
    "placed": (
        shell("sleep 99", deploy={"placement": {"constraints": ["node.labels.disk == ssd"]}}),
        r"0 of 1 .*constraints not satisfied on 2 nodes\) \(compare `placement`",
    ),
    "large": (
        shell("sleep 99", deploy={"resources": {"reservations": {"memory": "9000G"}}}),
        r"0 of 1 .*insufficient resources on 2 nodes\) \(ask for less",
    ),
}


@pytest.mark.long  # sixteen services fail again and again
def test_each_way_to_fail_is_named_with_its_node_and_the_next_step(minion, engine, gone):
    made = deploy(minion, "web", compose=compose(**{name: service for name, (service, _) in BAD.items()}), wait=False)
    assert made["result"] is True, made["comment"]
    lacks = dict(BAD)

    def all_named():
        found = dict(clause.split(": ", 1) for clause in Judge(engine, "web", True).unfinished())
        for name in [name for name in lacks if re.match(lacks[name][1], found.get(f"web_{name}", ""))]:
            del lacks[name]
        print({name: found.get(f"web_{name}") for name in lacks})
        return not lacks

    until(all_named, 180, "each failure to be named")
    # One that lives for seconds is seen as one that fails again and again also where nothing is deployed again.
    for _ in range(5):
        found = "; ".join(Judge(engine, "web", False).unfinished())
        assert all(f"web_{name}: 0 of" in found for name in ("gcrash", "once", "gonce", "thrice", "image", "mount"))
    failed = deploy(minion, "web", compose=compose(**{name: service for name, (service, _) in BAD.items()}), timeout=8)
    assert failed["result"] is False
    assert "not all services run after 8 s" in failed["comment"]
    for name in BAD:
        assert f"web_{name}: 0 of" in failed["comment"], name


def test_a_port_that_another_program_has_fails_a_global_service(site, minion, engine, gone):
    keeper = site.dockerds["pi2"].keeper
    with subprocess.Popen(
        [*keeper.enter("net"), sys.executable, "-c", _LISTEN, str(PORT)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout
        service = {
            "image": IMAGE,
            "command": SLEEP,
            "stop_grace_period": "1s",
            "ports": [{"target": 80, "published": PORT, "mode": "host"}],
            "deploy": {"mode": "global", "restart_policy": AGAIN},
        }
        until(lambda: _listens(site.dockerds["pi2"].address), 30, "the port to be taken")
        failed = deploy(minion, "web", compose={"version": "3.8", "services": {"each": service}}, timeout=40)
        holder.kill()
    assert failed["result"] is False, failed["comment"]
    assert re.search(r"web_each: [01] of 2 tasks run, last error on pi2: .*address already in use", failed["comment"])
    assert "another program on pi2 has the port: find it with `ss -ltnup`" in failed["comment"]
    again = deploy(minion, "web", compose={"version": "3.8", "services": {"each": service}}, timeout=120)
    assert (again["result"], again["changes"]) == (True, {}), again["comment"]


def _listens(address):
    with socket.socket() as tried:
        return tried.connect_ex((address, PORT)) == 0


def test_what_is_meant_to_end_or_to_run_nowhere_is_no_failure(site, minion, engine, gone):
    nowhere = {"placement": {"constraints": ["node.labels.disk == ssd"]}}
    services = {
        "app": shell("sleep 999"),
        "none": shell("sleep 999", deploy={"replicas": 0}),
        "done": shell("exit 0", restart={"condition": "none"}),
        "gdone": shell("exit 0", "global", {"condition": "on-failure"}),
        "elsewhere": shell("sleep 999", "global", deploy=nowhere),
        "job": shell("exit 0", "replicated-job", {"condition": "none"}, deploy={"replicas": 3}),
        "gjob": shell("sleep 999", "global-job", {"condition": "none"}),
    }
    if not JUDGE:
        del services["job"], services["gjob"]
    done = deploy(minion, "web", compose=compose(**services), timeout=120, docker=JUDGE or "docker")
    assert done["result"] is True, done["comment"]
    (warning,) = done["warnings"]
    assert "service web_elsewhere runs on no node: none is ready and active and meets its constraints" in warning
    again = deploy(minion, "web", compose=compose(**services), test=True, docker=JUDGE or "docker")
    assert (again["result"], again["changes"], again["comment"]) == (True, {}, "stack web is as wanted"), again


def test_a_node_that_is_drained_or_paused_is_not_waited_for(site, minion, engine, gone):
    node = engine.find("pi2").id
    engine.update_node(node, lambda spec: {**spec, "Availability": "drain"})
    try:
        services = {"each": shell("sleep 999", "global"), "one": shell("sleep 999")}
        done = deploy(minion, "web", compose=compose(**services), timeout=120)
        assert done["result"] is True, done["comment"]
        engine.update_node(node, lambda spec: {**spec, "Availability": "pause"})
        assert Judge(engine, "web", False).unfinished() == []
    finally:
        engine.update_node(node, lambda spec: {**spec, "Availability": "active"})
    until(lambda: not Judge(engine, "web", False).unfinished() and len(_on("pi2", engine)) == 1, 60, "a task on pi2")


def _on(name, engine):
    node = engine.find(name).id
    tasks = engine.listed("tasks", {"node": node, "desired-state": "running"})
    return [task for task in tasks if task["Status"]["State"] == "running"]


@pytest.mark.skipif(not JUDGE, reason="no docker command here knows jobs")
def test_a_job_that_fails_is_a_failure(minion, engine, gone):
    services = {
        "job": shell("exit 5", "replicated-job", {"condition": "on-failure", "delay": "1s"}),
        "gjob": shell("exit 5", "global-job", {"condition": "none"}),
    }
    failed = deploy(minion, "web", compose=compose(**services), timeout=30, docker=JUDGE)
    assert failed["result"] is False
    assert re.search(r"web_job: 0 of 1 tasks run, last error on pi\d: .*exit \(5\)", failed["comment"])
    assert re.search(r"web_gjob: 0 of 2 tasks run, last error on pi\d: .*exit \(5\)", failed["comment"])


def test_an_update_that_the_engine_stops_names_its_cause(minion, engine, gone):
    pausing = {"update_config": {"failure_action": "pause", "monitor": "2s"}}
    good = compose(app=shell("sleep 999", "global", deploy=pausing))
    assert deploy(minion, "web", compose=good)["result"] is True
    failed = deploy(minion, "web", compose=compose(app=shell("exit 7", "global", deploy=pausing)))
    assert failed["result"] is False
    assert "service web_app: the engine reports its update as paused" in failed["comment"]
    assert "docker service logs web_app" in failed["comment"]
    assert failed["changes"], "what was sent is listed"
    with pytest.raises(SwarmError, match="paused"):
        Judge(engine, "web", False).unfinished()
