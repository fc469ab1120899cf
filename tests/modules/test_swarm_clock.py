"""What this node's clock is compared with before it makes or takes certificates, and the files of a join under way."""

import datetime

import pytest

from omega.swarm import clock
from omega.swarm.certificate import never_member

NOW = datetime.datetime(2026, 1, 2, 12, tzinfo=datetime.timezone.utc)


@pytest.mark.parametrize(
    ("seen", "said"),
    [
        ({}, ""),
        ({"pi1": "2026-01-02T12:20:00+00:00"}, ""),
        ({"pi1": "2025-06-01T00:00:00+00:00"}, ""),
        ({"pi1": "2026-01-02T12:40:00+00:00", "pi2": "2026-03-01T00:00:00+00:00"}, "pi2 wrote to Consul at 2026-03-01"),
        ({"pi1": "2026-01-02T14:00:00+01:00"}, "pi1 wrote to Consul at 2026-01-02 13:00:00 UTC"),
        ({"pi1": "", "pi2": "yesterday", "pi3": "2027-01-01T00:00:00"}, ""),
    ],
)
def test_a_clock_is_behind_when_another_node_has_written_later(seen, said):
    found = clock.behind(NOW, seen)
    assert (bool(found), said in found) == (bool(said), True), found


@pytest.mark.parametrize(
    ("traces", "never"),
    [
        ((), True),
        (("docker-state.json", "certificates/swarm-root-ca.crt"), True),
        (("certificates/swarm-node.crt",), False),
        (("worker/tasks.db",), False),
        (("raft/wal-v3-encrypted/0.wal",), False),
    ],
)
def test_only_a_folder_without_a_trace_of_membership_proves_that_there_was_none(tmp_path, traces, never):
    (tmp_path / "swarm").mkdir()
    for trace in traces:
        (tmp_path / "swarm" / trace).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / "swarm" / trace).touch()
    assert never_member(str(tmp_path)) is never
    assert not never_member(str(tmp_path / "elsewhere"))
    assert not never_member("")
