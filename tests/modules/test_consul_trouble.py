"""An agent that does not come back is named with its own last error, wherever somebody waits for it."""

import io
import json
import re
import tarfile
import uuid

import consul_server
import pytest
import tiny_image
from consul_site import ConsulSite, until
from dockerds import missing

from omega.consul import restart, servers, trouble

docker = pytest.importorskip("docker")
SITE = {"cluster": "omega", "nodes": {"pi1": {"address": "192.0.2.1", "roles": ["master", "manager"]}}}
NOBODY = "http://127.0.0.1:1"  # no agent answers there
PANIC = """\
2026-11-28T10:00:00.000Z [ERROR] agent: something earlier
panic: failed to apply request: []byte{0x25}

goroutine 91 [running]:
github.com/hashicorp/consul/agent/consul/fsm.(*FSM).Apply(0xc0006f2180, 0xc000d0e5f0)
"""


@pytest.fixture
def broken():
    """The name of a container of a real agent whose configuration is wrong: it ends again and again."""
    engine = docker.DockerClient(base_url="unix:///var/run/docker.sock")
    tag = f"rpiomega/test-{uuid.uuid4().hex[:12]}:1"
    engine.api.import_image_from_data(_consul_image(), repository=tag.partition(":")[0], tag="1")
    name = f"rpiomega-test-{uuid.uuid4().hex[:8]}"
    agent = engine.containers.run(
        tag, ["agent", "-config-dir=/etc/consul"], name=name, entrypoint=["consul"], detach=True,
        network_mode="none", restart_policy={"Name": "always"},
    )  # fmt: skip
    try:
        until(lambda: agent.reload() or agent.attrs["RestartCount"], "it was started again")
        yield name
    finally:
        agent.remove(force=True)
        engine.images.remove(tag, force=True)


def _consul_image():
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", dereference=True) as tar:
        for path in tiny_image.libraries(consul_server.binary()):
            tar.add(path)
        tar.add(consul_server.binary(), "usr/bin/consul")
        text = json.dumps({"data_dir": "/data", "no_such_key": True}).encode()
        info = tarfile.TarInfo("etc/consul/consul.json")
        info.size = len(text)
        tar.addfile(info, io.BytesIO(text))
    return buffer.getvalue()


def test_waiting_for_an_agent_that_ends_again_and_again_names_its_last_error(broken, states):
    secrets = {"management_token": "m-secret", "node_tokens": {"pi1": "n-secret"}}
    pillar = {"rpiomega": SITE, "rpiomega_secrets": secrets, "consul.url": NOBODY}
    with states(pillar=pillar, minion_id="pi1") as loaded:
        waits = [
            loaded["consul_agent.ready"](broken, 1),
            loaded["consul_acl.cluster_tokens"]("consul", "/nonexistent/m", "/nonexistent", 1, container=broken),
        ]
    for answer in waits:
        assert (answer["result"], answer["changes"]) == (False, {})
        ended = re.search(rf"{broken} (is \w+, exit code 1|was started \d+ times again); ", answer["comment"])
        assert ended and "; the last error in its log: " in answer["comment"], answer["comment"]
        assert "no_such_key" in answer["comment"]
        assert "\n" not in answer["comment"]


def test_an_agent_without_a_container_is_called_so():
    assert trouble.last_error("rpiomega-none-such") == "there is no container rpiomega-none-such"


@pytest.mark.parametrize(
    ("log", "ended", "found"),
    [
        (PANIC, True, "panic: failed to apply request: []byte{0x25}"),
        (PANIC.partition("panic")[0], False, "2026-11-28T10:00:00.000Z [ERROR] agent: something earlier"),
        ("2026-11-28T10:00:00.000Z [INFO]  agent: all is well\n", False, ""),
        ("==> failed to parse /etc/consul/consul.json: 1 error:\n\t* invalid config key tls\n\n", True,
         "* invalid config key tls"),
        ("", True, ""),
    ],
)  # fmt: skip
def test_the_line_that_tells_most_is_shown(log, ended, found):
    assert trouble.worst(log.splitlines(), ended) == found


@pytest.mark.slow
@pytest.mark.skipif(bool(missing()), reason=missing())
def test_a_server_that_does_not_come_back_after_its_turn_is_named_with_its_error():
    with ConsulSite({"pi1": ["master", "manager"], "pi2": ["manager"], "pi3": ["manager"]}) as site:
        site.apply()
        servers.wait_good(site["pi1"].management(), ("pi1", "pi2", "pi3"), 120)
        problem, _ = restart.in_turn(
            site["pi2"].client(), "pi2", site["pi2"].stop, 3, ails=lambda: "rpiomega-consul is restarting, exit code 2"
        )
    assert "pi2 was restarted and is not back as a healthy voter" in problem
    assert "; rpiomega-consul is restarting, exit code 2); no other server restarts" in problem
