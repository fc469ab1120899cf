"""What is read from an engine's log, of any release: a check that nothing was written has to see what was."""

import engine_log
import pytest
from dockerds import Dockerds, missing

# As release 29.7 writes them (logrus' text format, `handling POST request` since 29.0).
LATER = """\
time="2026-08-30T10:00:00.1Z" level=debug msg="handling GET request" method=GET module=api request-url=/v1.44/info vars="map[version:1.44]"
time="2026-08-30T10:00:01.2Z" level=debug msg="handling POST request" form-data="{\\"AdvertiseAddr\\":\\"10.0.0.1\\",\\"ForceNewCluster\\":true}" method=POST module=api request-url=/v1.44/swarm/init vars="map[version:1.44]"
time="2026-08-30T10:00:01.3Z" level=debug msg="error response for POST request" error-response="no" method=POST module=api request-url=/v1.44/swarm/init status=503 vars="map[version:1.44]"
time="2026-08-30T10:00:02.4Z" level=debug msg="handling POST request" method=POST module=api request-url="/v1.44/swarm/leave?force=1" vars="map[version:1.44]"
time="2026-08-30T10:00:03.5Z" level=debug msg="handling DELETE request" method=DELETE module=api request-url=/v1.44/nodes/abc vars="map[name:abc]"
time="2026-08-30T10:00:04.6Z" level=debug msg="handling HEAD request" method=HEAD module=api request-url=/_ping vars="map[]"
"""  # noqa: E501


def test_the_writes_of_todays_engines_are_seen():
    assert [(one.verb, one.path) for one in engine_log.writes(LATER)] == [
        ("POST", "/v1.44/swarm/init"),
        ("POST", "/v1.44/swarm/leave?force=1"),
        ("DELETE", "/v1.44/nodes/abc"),
    ]
    assert [one.path for one in engine_log.requests(LATER)][0] == "/v1.44/info"
    assert any(control in LATER for control in engine_log.ANY_REQUEST)
    assert [line.partition(" msg")[0][5:28] for line in engine_log.forced(LATER)] == [
        '"2026-08-30T10:00:01.2Z',
        '"2026-08-30T10:00:02.4Z',
    ]


@pytest.mark.parametrize("text", ["", 'time="2026" level=info msg="API listen on /run/docker.sock"\n'])
def test_a_log_without_requests_proves_nothing(text):
    with pytest.raises(engine_log.NoRequests):
        engine_log.writes(text)
    with pytest.raises(engine_log.NoRequests):
        engine_log.forced(text)
    assert engine_log.so_far(text) == []


@pytest.mark.skipif(bool(missing()), reason=missing() or "")
def test_the_writes_of_the_engine_of_this_machine_are_seen():
    with Dockerds(["engine"]) as nodes:
        daemon = nodes["engine"]
        client = daemon.client()
        try:
            client.info()
            assert daemon.writes() == []
            client.volumes.create("seen").remove()
            client.swarm.init(advertise_addr=daemon.address)
            assert engine_log.forced(daemon.log.read_text()) == []
            client.swarm.leave(force=True)
            assert len(engine_log.forced(daemon.log.read_text())) == 1
            client.swarm.init(advertise_addr=daemon.address, force_new_cluster=True)
            assert len(engine_log.forced(daemon.log.read_text())) == 2
            client.swarm.leave(force=True)
        finally:
            client.close()
        verbs = [(one.partition(" ")[0], one.rpartition("/")[2]) for one in daemon.writes()]
        swarm = [("POST", "init"), ("POST", "leave?force=True")]
        assert verbs == [("POST", "create"), ("DELETE", "seen"), *swarm, *swarm]
        assert any(control in daemon.log.read_text() for control in engine_log.ANY_REQUEST)
