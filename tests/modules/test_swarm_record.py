"""What stands in Consul as the swarm's record, and is none: one clear line that names the key, no waiting."""

import json

import pytest

from omega.consul.client import ConsulError, Entry
from omega.swarm.record import RECORD, snapshot_of


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (b"", "not JSON"),
        ([], "expected a JSON object"),
        ({"state": "done"}, "unknown state 'done'"),
        ({"state": "ready"}, "ready without a cluster_id"),
        ({"state": "initializing", "fence": 1}, "initializing without the node"),
    ],
)
def test_a_record_that_is_none_is_named(value, said):
    text = value if isinstance(value, bytes) else json.dumps(value).encode()
    with pytest.raises(ConsulError, match=f"{RECORD}: {said}") as caught:
        snapshot_of([Entry(RECORD, text, 7)])
    assert not caught.value.transient
