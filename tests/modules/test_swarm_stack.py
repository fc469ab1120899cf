"""`swarm.stack` and `swarm.stack_absent` with the docker CLI, daemons that run real containers, and a real Consul."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
import stack_site
import yaml
from dockerds import missing
from stack_site import COMMANDS, IMAGE, MANAGERS, SLEEP, deploy, running, small, writes
from swarm_minion import Minion
from swarm_site import until

from omega.swarm import waits
from omega.swarm.stack import hints

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "runs")

RICH = """
version: "3.8"
services:
  web:
    image: 127.0.0.1:1/tiny:1
    command: ["/bin/sleep", "1000"]
    environment: {MODE: "${MODE}", PASSWORD: "${PASSWORD}"}
    networks: {inner: {aliases: [www]}}
    volumes: ["data:/data"]
    configs: [{source: conf, target: /etc/conf}]
    secrets: [sec]
    healthcheck: {test: ["CMD", "/bin/sleep", "0"], interval: 1s, retries: 3}
    extra_hosts: ["x:10.0.0.1", "a:10.0.0.2"]
    cap_drop: [NET_ADMIN, CHOWN]
    stop_grace_period: 1s
    deploy:
      replicas: 1
      endpoint_mode: dnsrr
      labels: {tier: front}
      update_config: {parallelism: 1, failure_action: rollback, monitor: 3s}
      rollback_config: {parallelism: 1}
      restart_policy: {condition: any, delay: 1s}
      resources: {limits: {memory: 50M}}
      placement: {constraints: [node.role == manager]}
  each:
    image: 127.0.0.1:1/tiny:1
    command: ["/bin/sleep", "1000"]
    init: true
    stop_grace_period: 1s
    ports: [{target: 80, published: 8080, mode: host}]
    deploy: {mode: global}
networks: {inner: {attachable: true}}
volumes: {data: {}}
configs: {conf: {file: ./conf.txt}}
secrets: {sec: {file: "${FOLDER}/sec.txt"}}
"""
SECRET = "sesame-4711-open"
ENV = {"MODE": "on", "PASSWORD": SECRET}


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    with running(tmp_path_factory.mktemp("site")) as site:
        for name in MANAGERS:
            folder = site.root / name / "states" / "web"
            folder.mkdir()
            (folder / "compose.yml").write_text(RICH)
            (folder / "conf.txt").write_text("first\n")
        yield site


@pytest.fixture(scope="module")
def minions(site):
    return {name: Minion(site, name) for name in MANAGERS}


engine = stack_site.engine


@pytest.fixture
def stack(minions, engine):
    """The stack `small`, running; removed at the end."""
    made = deploy(minions["pi1"])
    assert made["result"] is True, made["comment"]
    yield minions["pi1"]
    gone = minions["pi1"].state("swarm.stack_absent", "small", timeout=180)
    assert gone["result"] is True, gone["comment"]


def spec(engine, name):
    return next(item["Spec"] for item in engine.services() if item["Spec"]["Name"] == name)


def change_by_hand(engine, name, change):
    service = next(item for item in engine.services() if item["Spec"]["Name"] == name)
    url = engine.api._url("/services/{0}/update", service["ID"])
    answer = engine.api._post_json(url, change(service["Spec"]), params={"version": service["Version"]["Index"]})
    answer.raise_for_status()


def test_managers_at_once_deploy_a_stack_once_as_predicted_and_no_more_after(site, minions, engine, caplog):
    (site.root / "sec.txt").write_text(SECRET[::-1])
    env = {**ENV, "FOLDER": str(site.root)}
    wanted = {"compose": "web/compose.yml", "env": env}
    before = writes(site)
    with caplog.at_level("DEBUG"):
        predicted = deploy(minions["pi1"], "web", test=True, **wanted)
    assert SECRET not in caplog.text
    assert (predicted["result"], writes(site)) == (None, before), predicted["comment"]
    assert predicted["changes"] == {
        "service web_web": {"old": None, "new": IMAGE},
        "service web_each": {"old": None, "new": IMAGE},
        "network web_inner": {"old": None, "new": "present"},
        "network web_default": {"old": None, "new": "present"},
        "config web_conf": {"old": None, "new": "present"},
        "secret web_sec": {"old": None, "new": "present"},
    }
    with ThreadPoolExecutor(2) as pool:
        results = list(pool.map(lambda name: deploy(minions[name], "web", **wanted), MANAGERS))
    assert [result["result"] for result in results] == [True, True], results
    assert [result["changes"] for result in results if result["changes"]] == [predicted["changes"]]
    assert not any("warnings" in result for result in results), results
    assert spec(engine, "web_web")["TaskTemplate"]["ContainerSpec"]["Env"] == ["MODE=on", f"PASSWORD={SECRET}"]
    running = engine.listed("tasks", {"desired-state": "running"})
    assert [task["Status"]["State"] for task in running] == ["running"] * 3

    written = writes(site)
    for command in COMMANDS:
        for test in (True, False):
            again = deploy(minions["pi2"], "web", docker=command, test=test, **wanted)
            assert (again["result"], again["changes"]) == (True, {}), (command, again)
    assert writes(site) == written

    other = {**env, "PASSWORD": f"{SECRET}-2"}
    changed = deploy(minions["pi2"], "web", compose="web/compose.yml", env=other, test=True)
    assert changed["changes"] == {
        "service web_web": {
            "TaskTemplate.ContainerSpec.Env": {"old": ["PASSWORD=[hidden]"], "new": ["PASSWORD=[hidden]"]}
        }
    }
    compose = site.root / "pi2" / "states" / "web" / "compose.yml"
    compose.write_text(RICH.replace("attachable: true", "attachable: false"))
    assert deploy(minions["pi2"], "web", test=True, **wanted)["changes"] == {}, "the CLI leaves a network as it is"
    config = site.root / "pi2" / "states" / "web" / "conf.txt"
    config.write_text("second\n")
    refused = deploy(minions["pi2"], "web", **wanted)
    assert (refused["result"], writes(site)) == (False, written)
    assert "config web_conf has another content, and a config cannot be changed" in refused["comment"]
    text = json.dumps([predicted, results, changed, refused])
    assert not [secret for secret in (SECRET, SECRET[::-1]) if secret in text]

    predicted = minions["pi1"].state("swarm.stack_absent", "web", test=True)
    assert (predicted["result"], writes(site)) == (None, written)
    with ThreadPoolExecutor(2) as pool:
        gone = list(pool.map(lambda name: minions[name].state("swarm.stack_absent", "web", timeout=180), MANAGERS))
    assert [result["result"] for result in gone] == [True, True], gone
    removed = [name for result in gone for name in result["changes"]]
    assert sorted(removed) == sorted(predicted["changes"]), (
        "each removal is reported by the manager that made it, and no other"
    )
    assert {"service web_each", "network web_inner", "config web_conf", "secret web_sec"} < set(predicted["changes"])
    assert [item for kind in ("services", "configs", "secrets") for item in engine.listed(kind)] == []
    until(lambda: engine.listed("tasks") == [], 30, "no task to be left")
    assert not [item for item in engine.listed("networks") if item["Name"].startswith("web_")]
    again = minions["pi2"].state("swarm.stack_absent", "web")
    assert (again["result"], again["changes"], again["comment"]) == (True, {}, "there is no stack web")


def test_a_change_by_hand_is_seen_in_test_mode_and_undone(site, stack, engine):
    def by_hand(spec):
        task = spec["TaskTemplate"]
        container = {**task["ContainerSpec"], "Env": ["X=1"]}
        mode = {"Replicated": {"Replicas": 0}}
        return {**spec, "Mode": mode, "TaskTemplate": {**task, "ContainerSpec": container}}

    before = spec(engine, "small_app")
    change_by_hand(engine, "small_app", by_hand)
    written = writes(site)
    predicted = deploy(stack, test=True)
    assert (predicted["result"], writes(site)) == (None, written)
    assert predicted["changes"] == {
        "service small_app": {
            "Mode.Replicated.Replicas": {"old": "0", "new": "1"},
            "TaskTemplate.ContainerSpec.Env": {"old": ["X=[hidden]"], "new": []},
        }
    }
    done = deploy(stack)
    assert (done["result"], done["changes"]) == (True, predicted["changes"]), done["comment"]
    assert spec(engine, "small_app") == before


@pytest.mark.long  # a second service comes and goes
def test_services_left_out_are_removed_only_with_prune(stack, engine):
    two = small()
    two["services"]["more"] = two["services"]["app"]
    assert set(deploy(stack, compose=two)["changes"]) == {"service small_more"}
    assert deploy(stack)["changes"] == {}
    assert deploy(stack, prune=True)["changes"] == {"service small_more": {"old": IMAGE, "new": None}}
    assert [item["Spec"]["Name"] for item in engine.services()] == ["small_app"]


@pytest.mark.long  # the engine waits before it replaces a task
def test_a_second_file_is_laid_over_the_first(stack, engine, tmp_path):
    over = tmp_path / "over.yml"
    over.write_text('version: "3.8"\nservices: {app: {labels: {site: attic}}}\n')
    done = deploy(stack, compose=[small(), str(over)])
    assert done["changes"] == {
        "service small_app": {"TaskTemplate.ContainerSpec.Labels.site": {"old": None, "new": "attic"}}
    }
    assert spec(engine, "small_app")["TaskTemplate"]["ContainerSpec"]["Labels"]["site"] == "attic"


@pytest.mark.long  # its bound passes
def test_services_that_do_not_start_fail_within_the_bound_with_the_engines_words(stack, engine):
    began = time.monotonic()
    failed = deploy(stack, compose=small(image="127.0.0.1:1/none:1"), timeout=4)
    assert failed["result"] is False
    assert time.monotonic() - began < 30
    assert "small_app: 0 of 1 tasks run" in failed["comment"]
    assert "No such image: 127.0.0.1:1/none:1" in failed["comment"]
    ahead = deploy(stack, compose=small(image="127.0.0.1:1/none:1"), test=True)
    assert (ahead["result"], "small_app: 0 of 1 tasks run" in ahead["comment"]) == (True, True), ahead
    assert deploy(stack, compose=small(image="127.0.0.1:1/none:1"), wait=False)["result"] is True


@pytest.mark.long  # the engine watches an update for a while
def test_an_update_that_the_engine_rolls_back_is_a_failure(stack, engine):
    wanted = {"update_config": {"failure_action": "rollback", "monitor": "2s"}}
    assert deploy(stack, compose=small(deploy=wanted))["result"] is True
    failed = deploy(stack, compose=small(deploy=wanted, command=["/bin/none"]))
    assert failed["result"] is False
    assert "service small_app: the engine reports its update as rollback" in failed["comment"]
    again = deploy(stack, compose=small(deploy=wanted, command=["/bin/none"]), test=True)
    assert set(again["changes"]["service small_app"]) == {"TaskTemplate.ContainerSpec.Args"}


@pytest.mark.parametrize(
    ("compose", "said"),
    [
        ("none.yml", "salt://none.yml (compose file): the master has no such file"),
        ("/none.yml", "compose file /none.yml: No such file or directory"),
        ([], "compose: name a compose file"),
        ({"version": "3.8", "services": {"a": {"image": "x", "wrong": 1}}}, "Additional property wrong is not allowed"),
        ({"version": "3.8", "services": {"a": {"image": "${X?not set}"}}}, "not set"),
        ("secret.yml", "salt://key (named in salt://secret.yml): the master has no such file"),
        ("broken.yml", "correct the YAML there (salt://broken.yml)"),
        ("latin.yml", "; save the file as UTF-8 text (salt://latin.yml)"),
        ("flat.yml", "stack wrong: docker stack deploy: services.a must be a mapping"),
        ("listed.yml", "stack wrong: docker stack deploy: configs must be a mapping"),
        ("lacks.yml", "salt://gone.env (named in salt://lacks.yml): the master has no such file"),
    ],
)
def test_a_wrong_compose_file_is_named_and_nothing_is_sent(site, minions, compose, said):
    states = site.root / "pi1" / "states"
    (states / "secret.yml").write_text("version: '3.8'\nservices: {}\nsecrets: {key: {file: ./key}}\n")
    (states / "broken.yml").write_text("services: {\n ] }")
    (states / "latin.yml").write_bytes(b"services: {}  # caf\xe9\n")
    (states / "flat.yml").write_text("version: '3.8'\nservices: {a: nginx}\n")
    (states / "listed.yml").write_text("version: '3.8'\nservices: {}\nconfigs: [a]\n")
    (states / "lacks.yml").write_text("version: '3.8'\nservices: {a: {image: x, env_file: gone.env}}\n")
    before = writes(site)
    refused = minions["pi1"].state("swarm.stack", "wrong", compose=compose)
    assert (refused["result"], writes(site)) == (False, before)
    assert said in refused["comment"]


def test_a_failure_is_told_without_the_commands_remarks_on_itself():
    said = (  # docker 26.1.5
        "Since --detach=false was not specified, tasks will be created in the background.\n"
        "In a future release, --detach=false will become the default.\n"
        'failed to create service web_web: ContainerSpec: "Bad_Image:1" is not a valid repository/tag\n'
    )
    assert hints.failure(said).startswith("failed to create service web_web: ContainerSpec:")


def test_wrong_names_and_options_are_named(minions, monkeypatch):
    for kwargs, said in (
        ({"name": "Web!"}, "stack 'Web!': its name must be small letters"),
        ({"name": "web", "resolve_image": "often"}, "resolve_image 'often': must be one of always, changed, never"),
        ({"name": "web", "docker": "/no/docker"}, "/no/docker is not installed"),
    ):
        refused = deploy(minions["pi1"], **kwargs)
        assert (refused["result"], refused["changes"]) == (False, {})
        assert said in refused["comment"]
    monkeypatch.setattr(waits, "PATIENCE", 0)
    outside = minions["pi1"].state("swarm.stack", "web", compose=small(), base_url="unix:///no/docker.sock")
    assert "no Docker Engine answers at unix:///no/docker.sock" in outside["comment"]


def test_a_minion_finds_the_file_of_the_master_and_the_site_names_it(site, engine):
    (site.root / "pi1" / "states" / "app").mkdir()
    (site.root / "pi1" / "states" / "app" / "small.yml").write_text(yaml.safe_dump(small()))
    before = writes(site)
    run = site.call("pi1", "state.single", "swarm.stack", "small", compose=["app/small.yml"], test=True)
    result = run.result()
    assert (result["result"], writes(site)) == (None, before), result["comment"]
    assert result["changes"] == {"service small_app": {"old": None, "new": IMAGE}}


def test_options_reach_the_command_and_nothing_secret_its_arguments(minions, tmp_path):
    command, said = tmp_path / "docker", tmp_path / "said"
    command.write_text(f'#!/bin/sh\necho "$DOCKER_CONFIG $TAG $*" >> {said}\nexec docker "$@"\n')
    command.chmod(0o755)
    asked = {"prune": True, "with_registry_auth": True, "resolve_image": "always", "home": "/somewhere"}
    predicted = deploy(minions["pi1"], docker=str(command), env={"TAG": SECRET}, test=True, **asked)
    assert predicted["result"] is None, predicted["comment"]
    (line,) = said.read_text().splitlines()
    home, tag, *arguments = line.split()
    assert (home, tag, arguments[-1]) == ("/somewhere/.docker", SECRET, "small")
    assert arguments[:6] == ["stack", "deploy", "--resolve-image", "always", "--prune", "--with-registry-auth"]
    assert SECRET not in " ".join(arguments)


@pytest.mark.long  # a job runs
def test_the_end_of_a_job_is_not_waited_for(stack, engine):
    task = {"ContainerSpec": {"Image": IMAGE, "Command": SLEEP}, "RestartPolicy": {"Condition": "none"}}
    label = {"com.docker.stack.namespace": "small"}
    made = {"Name": "small_job", "Labels": label, "TaskTemplate": task, "Mode": {"ReplicatedJob": {}}}
    engine.api._post_json(engine.api._url("/services/create"), made).raise_for_status()
    assert deploy(stack, timeout=60)["result"] is True
