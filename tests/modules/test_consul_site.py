"""A site's agents as the states configure them: DNS, who may ask without a token, checks, restarts, rotated tokens."""

import concurrent.futures
import contextlib
import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest
from consul_site import ConsulSite, refusal, until
from dockerds import missing

from omega.consul import acl, policies
from omega.consul import client as consul_client
from omega.consul import lock as consul_lock
from omega.consul import servers as consul_servers
from omega.consul import tokens as consul_tokens

FEEDER = str(Path(__file__).resolve().parents[2] / "salt/consul/files/consul_health.py")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(missing()), reason=missing())]
SERVERS = ("pi1", "pi2", "pi3")
MASTER, MANAGER, WORKER = ["master", "manager"], ["manager"], ["worker"]
# One election with raft_multiplier 1: 2.6 to 4.1 s after a kill, less after an orderly end; more on a busy machine.
ELECTION = 20.0

# A DNS query by hand, run inside the node's network: name and type in, answer's records out.
DIG = """
import socket, struct, sys
name = b"".join(bytes([len(part)]) + part.encode() for part in sys.argv[1].split(".")) + b"\\0"
ask = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
ask.settimeout(10)
ask.sendto(struct.pack(">6H", 7, 256, 1, 0, 0, 0) + name + struct.pack(">2H", 1, 1), ("127.0.0.1", 8600))
answer = ask.recv(4096)
count = struct.unpack(">H", answer[6:8])[0]
at = 12 + len(name) + 4
for _ in range(count):
    at += 12
    print(socket.inet_ntoa(answer[at:at + 4]))
    at += 4
"""


@pytest.fixture(scope="module")
def site():
    """Three servers and a worker, ready, all servers voting."""
    with ConsulSite({"pi1": MASTER, "pi2": MANAGER, "pi3": MANAGER, "pi4": WORKER}) as site:
        site.apply()
        consul_servers.wait_good(site["pi1"].management(), SERVERS, 120)
        yield site


@pytest.fixture
def feeder():
    """The program that feeds the checks, as a module; the systemd unit runs the same file."""
    spec = importlib.util.spec_from_file_location("consul_health", FEEDER)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def dig(agent, name):
    """The addresses that the agent of this node answers; none if it does not answer within 10 s."""
    try:
        return set(agent.run("python3", "-c", DIG, name).split())
    except RuntimeError as error:
        if "timed out" not in str(error):
            raise
        return set()


def status_of(agent, check, client=None):
    """{node: status of the check} as the catalog has it."""
    checks = (client or agent.client()).request("get", "/v1/health/state/any")[1]
    return {one["Node"]: one["Status"] for one in checks if (one["CheckID"], one["ServiceID"]) == (check, "")}


def report(agent, check, status):
    """What the feeder tells, through the address that tests can reach."""
    path, body = f"/v1/agent/check/update/{check}", {"Status": status, "Output": "by the test"}
    agent.client().request("put", path, data=body)


def test_a_node_resolves_nodes_and_services_where_all_is_well_without_a_token(site):
    addresses = {agent.name: agent.address for agent in site}
    until(lambda: dig(site["pi4"], "pi2.node.consul") == {addresses["pi2"]}, "a node's name resolves")
    for name in ("pi1", "pi2"):
        site[name].management().request("put", "/v1/agent/service/register", data={"Name": "web"})
        for check in ("docker", "salt-minion"):
            report(site[name], check, "passing")
    until(lambda: dig(site["pi4"], "web.service.consul") == {addresses["pi1"], addresses["pi2"]}, "both answer")
    report(site["pi2"], "salt-minion", "warning")
    report(site["pi1"], "docker", "critical")
    until(lambda: dig(site["pi4"], "web.service.consul") == {addresses["pi2"]}, "the broken one is left out, no other")
    for name in ("pi1", "pi2"):
        site[name].management().request("put", "/v1/agent/service/deregister/web")


def test_without_a_token_a_node_learns_on_which_nodes_docker_works(site):
    anonymous = site["pi4"].client(False)
    for name, status in {"pi2": "passing", "pi3": "critical"}.items():
        report(site[name], "docker", status)
    wanted = {"pi2": "passing", "pi3": "critical"}
    until(lambda: wanted.items() <= status_of(site["pi4"], "docker", anonymous).items(), "both are told")


def test_an_agent_reads_every_file_of_its_configuration_folder(site):
    """Consul's log of its start names files that it skips."""
    starts = {agent.name: (agent.folder / "log").read_text() for agent in site}
    assert [name for name, log in starts.items() if "agent running" not in log] == []
    assert [line for log in starts.values() for line in log.splitlines() if "skipping" in line] == []


TOLD = ("/v1/catalog/nodes", "/v1/catalog/services", "/v1/health/node/pi1", "/v1/agent/members")
NOT_TOLD = (
    "/v1/kv/rpiomega/?recurse", "/v1/kv/rpiomega/?keys", "/v1/session/list", "/v1/agent/self", "/v1/agent/metrics",
    "/v1/query",
)  # fmt: skip


def test_without_a_token_a_worker_learns_what_dns_tells_and_nothing_else(site):
    site["pi1"].management().put("rpiomega/swarm/worker-token", {"token": "worker-join-token"})
    site["pi1"].client().session_create("somebody's", ttl=60)
    anonymous = site["pi4"].client(False)
    seen = {path: _ask(anonymous, path) for path in (*TOLD, *NOT_TOLD)}
    assert [path for path in TOLD if not seen[path]] == []
    assert {path: text for path, text in seen.items() if path in NOT_TOLD and text} == {}
    secrets = [site["pi1"].secrets()[name] for name in ("management_token",)]
    secrets += site["pi1"].secrets()["node_tokens"].values()
    assert not [secret for secret in secrets if secret in str(seen)]
    for write in (
        lambda: anonymous.put("rpiomega/x", b"1"),
        lambda: anonymous.session_create("mine"),
        lambda: anonymous.request("put", "/v1/agent/service/register", data={"Name": "docker"}),
        lambda: anonymous.request("put", "/v1/agent/leave"),
    ):
        assert refusal(write).kind == "denied"


def _ask(client, path):
    """What an address answers, "" if nothing or a refusal."""
    path, _, query = path.partition("?")

    def answered():
        try:
            return client.request("get", path, [(query, "1")] if query else [], accept=(200, 404), raw=True)
        except consul_client.ConsulError as error:
            if error.transient:
                raise
            assert error.kind == "denied", error
            return (403, b"")

    text = (until(answered, f"an answer to {path}")[1] or b"").decode(errors="replace").strip()
    return "" if text in ("[]", "{}", "null") else text


def test_a_worker_cannot_announce_what_is_not_its_to_announce(site):
    worker = site["pi4"].client()
    for body in ({"Name": "consul"}, {"Name": "web"}, {"Name": "docker"}):
        error = refusal(lambda body=body: worker.request("put", "/v1/agent/service/register", data=body))
        assert error.kind == "denied"


def test_a_check_by_script_is_refused_where_the_agent_runs_none_and_says_so(site, load_modules):
    agent = site["pi2"]
    salt = load_modules(**{"consul.url": f"http://{agent.address}:8500", "consul.token": site.management()})
    answer = salt["consul.agent_service_register"](name="redis", check_script="/bin/true", interval="10s")
    assert answer["res"] is False
    assert "Scripts are disabled" in answer["message"]
    assert "redis" not in salt["consul.agent_services"]()["data"]


def test_the_feeder_reports_what_it_sees_with_the_nodes_own_token(site, tmp_path):
    """The program as the unit starts it; only systemd's word is made up."""
    agent, systemctl = site["pi2"], tmp_path / "systemctl"
    systemctl.write_text('#!/bin/sh\n[ "$2" = docker ] && echo active || echo failed\n')
    systemctl.chmod(0o755)
    command = ["env", f"PATH={tmp_path}:{os.environ['PATH']}", sys.executable, "-I", FEEDER, str(agent.config)]
    with subprocess.Popen([*agent.keeper.enter("net"), *command], stdout=subprocess.PIPE, text=True) as feeder:
        try:
            until(lambda: status_of(agent, "docker").get("pi2") == "passing", "the engine of this machine is well")
            until(lambda: output_of(agent, "salt-minion") == "salt-minion.service is failed", "the reason is told")
            assert status_of(agent, "salt-minion")["pi2"] == "warning"
        finally:
            feeder.kill()
            said = feeder.stdout.read()
    assert "agent: takes the reports" in said
    assert agent.secrets()["consul"]["token"] not in said


def output_of(agent, check):
    """The output of a check by the agent itself: the catalog hears of another output only after some minutes."""
    return agent.client().request("get", "/v1/agent/checks")[1][check]["Output"]


def test_checks_are_critical_until_fed_and_again_when_the_feeder_falls_silent(site):
    agent = site["pi3"]
    until(lambda: status_of(agent, "salt-minion").get("pi3") == "critical", "nobody has fed it yet")
    check = {"ID": "docker", "Name": "docker works", "TTL": "3s"}  # the product's 30 s, shortened
    agent.client().request("put", "/v1/agent/check/register", data=check)

    def fed():
        report(agent, "docker", "passing")
        return status_of(agent, "docker")["pi3"] == "passing"

    until(fed, "it is passing")
    until(lambda: status_of(agent, "docker")["pi3"] == "critical", "silence is critical")


def test_the_feeder_sees_an_engine_that_is_stopped_frozen_or_well(feeder, monkeypatch, tmp_path):
    monkeypatch.setattr(feeder, "unit_state", lambda unit: "active" if unit == "docker" else "inactive")
    assert feeder.look("docker") == ("passing", "docker.service is active")
    assert feeder.look("salt-minion") == ("warning", "salt-minion.service is inactive")
    monkeypatch.setattr(feeder, "DOCKER_SOCKET", str(tmp_path / "none"))
    status, why = feeder.look("docker")
    assert status == "critical"
    assert str(tmp_path / "none") in why


def test_all_servers_restarting_at_once_never_lose_the_quorum(site):
    """F11: the leader is away for one election at the most, and two voters are up at every moment."""
    consul_servers.wait_good(site["pi1"].management(), SERVERS, 120)
    starts = {agent.name: agent.starts for agent in site}
    watch = Watch(site)
    results = site.together(lambda agent: agent.in_turn(), *SERVERS)
    watch.end()
    assert {name: problem for name, (problem, _) in results.items()} == dict.fromkeys(SERVERS)
    assert {name: site[name].starts - starts[name] for name in SERVERS} == dict.fromkeys(SERVERS, 1)
    assert {name: site[name].down_with for name in SERVERS} == {name: [name] for name in SERVERS}
    assert watch.longest_without_leader < ELECTION, watch.longest_without_leader
    # Each was healthy before the next one's turn; on a busy machine autopilot may miss one again for a moment.
    servers = consul_servers.wait_good(site["pi1"].management(), SERVERS, 60)
    assert consul_servers.to_spare(servers) == 1


class Watch:
    """Looks at all servers ten times a second: how long nobody knows a leader."""

    def __init__(self, site):
        self.site, self.longest_without_leader = site, 0.0
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        lost = None
        while not self._done.wait(0.1):
            up = [self.site[name] for name in SERVERS if self.site[name].process]
            if any(map(_leader, up)):
                lost = None
                continue
            lost = lost or time.monotonic()
            self.longest_without_leader = max(self.longest_without_leader, time.monotonic() - lost)

    def end(self):
        self._done.set()
        self._thread.join(10)


def _leader(agent):
    try:
        return agent.client(timeout=2).leader()
    except consul_client.ConsulError:
        return None


def test_a_server_waits_for_a_right_that_the_master_grants_in_the_same_apply(site, monkeypatch):
    agent, management = site["pi2"], site["pi1"].management()
    consul_servers.wait_good(management, SERVERS, 120)
    name, rules = policies.policy_name("pi2"), policies.rules(site.site, "pi2")
    older = "".join(line for line in rules.splitlines(True) if policies.RESTART_LOCK not in line)
    hold, refused = consul_lock.hold, threading.Event()

    @contextlib.contextmanager
    def watched(*args, **kwargs):
        try:
            with hold(*args, **kwargs) as lock:
                yield lock
        except consul_client.ConsulError as error:
            assert error.kind == "denied"
            refused.set()
            raise

    monkeypatch.setattr(consul_lock, "hold", watched)
    starts = agent.starts
    acl.ensure_policy(management, name, older)
    try:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            run = pool.submit(agent.in_turn)
            assert refused.wait(120)
            assert agent.starts == starts
            acl.ensure_policy(management, name, rules)
            assert run.result(200)[0] is None
    finally:
        acl.ensure_policy(management, name, rules)
    assert agent.starts == starts + 1


@pytest.mark.long
def test_a_holder_cut_off_from_the_others_stops_before_another_may_begin(site):
    """F17: it gives up at its fence deadline, the next holder comes after that, and it rejoins as it was.

    Gossip may end its session some seconds after the cut; the lock-delay keeps the key closed until the deadline.
    """
    consul_servers.wait_good(site["pi1"].management(), SERVERS, 120)
    key, ttl = "rpiomega/swarm/lock", 10
    cut, other = site["pi2"], site["pi3"]
    with consul_lock.hold(cut.client(), key, "pi2", ttl=ttl, renew=2, lock_delay=ttl, wait=20) as lock:
        cut.run("ip", "link", "set", "eth0", "down")
        try:
            with consul_lock.hold(other.client(), key, "pi3", ttl=ttl, wait=60) as next_lock:
                with pytest.raises(consul_client.ConsulError) as caught:
                    lock.check()
                assert caught.value.kind == "lost"
                assert next_lock.fence > lock.fence
        finally:
            cut.run("ip", "link", "set", "eth0", "up")
            cut.run("ip", "route", "replace", "default", "via", f"{site.subnet}.1")
    consul_servers.wait_good(site["pi1"].management(), SERVERS, 120)


def test_a_server_that_cannot_be_spared_is_left_running(site):
    consul_servers.wait_good(site["pi1"].management(), SERVERS, 120)
    site["pi3"].stop()
    before = site["pi2"].starts
    try:
        until(
            lambda: not consul_servers.find(consul_servers.read(site["pi2"].client()), "pi3").healthy,
            "pi3 is known to be down",
        )
        problem, _ = site["pi2"].in_turn(bound=3)
        assert "pi2 was not restarted" in problem
        assert "pi3" in problem
        assert site["pi2"].starts == before
    finally:
        site["pi3"].start()
    consul_servers.wait_good(site["pi1"].management(), SERVERS, 120)


def test_a_server_whose_agent_hangs_is_left_running(site):
    """All servers may see no answer at the same moment: without turns they would all be away."""
    consul_servers.wait_good(site["pi1"].management(), SERVERS, 120)
    agent = site["pi2"]
    before = agent.starts
    agent.process.send_signal(signal.SIGSTOP)
    try:
        problem, _ = agent.in_turn(bound=3)
    finally:
        agent.process.send_signal(signal.SIGCONT)
    assert "pi2 was not restarted" in problem
    assert "no answer within" in problem
    assert agent.starts == before
    consul_servers.wait_good(site["pi1"].management(), SERVERS, 120)


def test_a_rotated_token_ends_the_old_one_and_the_node_takes_the_new_one(site, load_modules):
    """F16 beside it: what the old token asks for is a permission problem, and no fallback to none."""
    agent = site["pi4"]
    old = agent.secrets()["consul"]["token"]
    own = {"consul.url": f"http://{site['pi1'].address}:8500"}
    salt = load_modules(pillar=site["pi1"].pillar(), **own)
    unknown = salt["consul.rotate_node_token"]("pi9", secrets=str(site.root / "secrets"))
    assert unknown["res"] is False
    assert "pi9" in unknown["message"]
    answer = salt["consul.rotate_node_token"]("pi4", secrets=str(site.root / "secrets"))
    assert answer["res"], answer
    new = agent.secrets()["consul"]["token"]
    assert old != new
    assert old not in str(answer)
    assert new not in str(answer)
    ended = refusal(lambda: agent.client(old).list("rpiomega/"))
    assert ended.kind == "denied"
    assert "unknown to Consul" in str(ended)
    agent.write()
    agent.restart()
    agent.client().wait_ready(120)
    until(lambda: "docker" in _checks_of(site, "pi4"), "the agent registers with its new token")
    assert consul_tokens.tokens(site["pi1"].management(), site.site, site["pi1"].secrets()["node_tokens"]) == {}


def _checks_of(site, name):
    return {check["CheckID"] for check in site["pi1"].client().request("get", f"/v1/health/node/{name}")[1]}


def test_a_token_with_another_accessor_is_moved_to_its_nodes_own(site):
    """Clusters made before accessors were fixed: the same secret, so that nothing has to restart."""
    management, node = site["pi1"].management(), "pi4"
    secret, accessor = site[node].secrets()["consul"]["token"], consul_tokens.accessor(site.site, node)
    management.request("delete", f"/v1/acl/token/{accessor}")
    body = {"SecretID": secret, "AccessorID": str(uuid.uuid4()), "Description": f"rpiomega node {node}",
            "Policies": [{"Name": policies.policy_name(node)}]}  # fmt: skip
    management.request("put", "/v1/acl/token", data=body)
    assert consul_tokens.node_token(management, site.site, node, secret, test=True) == ["token"]
    assert consul_tokens.node_token(management, site.site, node, secret) == ["token"]
    assert consul_tokens.node_token(management, site.site, node, secret) == []
    site[node].client().wait_ready(120)
