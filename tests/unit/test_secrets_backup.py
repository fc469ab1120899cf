"""The secrets of backups in the pillar: each node its own, the master those of all, and one line for a bad file."""

import json
import os

import pytest

from omega.b2 import files
from omega.secrets import store as secrets_store

SITE = {
    "cluster": "omega",
    "nodes": {
        "m": {"address": "10.0.0.1", "roles": ["master", "manager"]},
        "w": {"address": "10.0.0.2", "roles": ["worker"]},
    },
    "backup": {"bucket": "omega-backup"},
}
BUCKET = {
    "cluster": "omega",
    "bucket": "omega-backup",
    "bucket_id": "b1",
    "endpoint": "https://s3.us-west-004.backblazeb2.com",
    "region": "us-west-004",
    "made": 1,
}


def put(path, text, mode=0o600):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


@pytest.fixture
def store(tmp_path):
    """A store with everything that init delivers."""
    root = tmp_path / "secrets"
    put(root / "backup/bucket.json", json.dumps(BUCKET))
    put(root / "backup/recovery", "eight words of the kit\n")
    for name in ("maintenance", "reader", "nodes/m/key", "nodes/w/key"):
        files.write(str(root / "backup" / name), f"id-of-{name}", f"key-of-{name}")
    return secrets_store.Store(root)


def test_a_site_without_a_bucket_has_no_secrets_of_backups(store):
    assert store.backup_for({**SITE, "backup": {}}, "w") is None
    assert not list(store.root.rglob("password"))


def test_each_node_gets_its_own_and_the_master_those_of_all(store):
    mine, masters = store.backup_for(SITE, "w"), store.backup_for(SITE, "m")
    assert mine == {
        "repository": "s3:https://s3.us-west-004.backblazeb2.com/omega-backup/hosts/w",
        "region": "us-west-004",
        "password": (store.root / "backup/nodes/w/password").read_text(),
        "key_id": "id-of-nodes/w/key",
        "key": "key-of-nodes/w/key",
    }
    assert len(mine["password"]) == 40
    assert mine["password"] != masters["password"]
    assert masters["maintenance"] == {"key_id": "id-of-maintenance", "key": "key-of-maintenance"}
    assert masters["recovery"] == "eight words of the kit"
    assert masters["passwords"] == {"m": masters["password"], "w": mine["password"]}
    assert masters["urls"]["w"] == mine["repository"]
    assert store.backup_for(SITE, "w") == mine  # made once
    assert {path.stat().st_mode & 0o077 for path in store.root.rglob("*") if path.is_file()} == {0}


@pytest.mark.parametrize(
    ("path", "text", "mode", "said"),
    [
        ("bucket.json", None, 0, "there is no file {}; run `rpiomega backup init` on the workstation"),
        ("bucket.json", "{", 0o600, "{} is not what init writes; run"),
        ("bucket.json", "[]", 0o600, "{} is not what init writes; run"),
        ("bucket.json", json.dumps({**BUCKET, "endpoint": "ftp://x"}), 0o600, "{} is not what init writes (endpoint)"),
        ("bucket.json", json.dumps({**BUCKET, "region": None}), 0o600, "{} is not what init writes (region)"),
        ("bucket.json", json.dumps({**BUCKET, "bucket": "other-one"}), 0o600, "is of the bucket other-one, and"),
        ("bucket.json", json.dumps({**BUCKET, "cluster": "alpha"}), 0o600, "is of the cluster alpha, and this one"),
        ("bucket.json", json.dumps(BUCKET), 0o644, "{} is open to others (mode 0644); `chmod 600 {}`"),
        ("nodes/m/key", None, 0, "there is no file {}; run `rpiomega backup init`"),
        ("nodes/m/key", "key: only-this\n", 0o600, "{} lacks key_id"),
        ("maintenance", None, 0, "there is no file {}; run"),
        ("recovery", None, 0, "there is no file {}; run"),
        ("recovery", "one\nsecond-word\n", 0o600, "{} is not one line; put it back from the recovery kit"),
        ("recovery", "", 0o600, "{} is not one line"),
    ],
)
def test_a_bad_file_is_named_with_the_next_step_and_not_quoted(store, path, text, mode, said):
    where = store.root / "backup" / path
    os.unlink(where)
    if text is not None:
        put(where, text, mode)
    found = store.backup_for(SITE, "m")
    assert list(found) == ["problem"]
    assert said.format(where, where) in found["problem"]
    assert "on the master" in found["problem"]
    assert not any(secret in found["problem"] for secret in ("only-this", "second-word", "eight", "key-of"))
    assert "\n" not in found["problem"]
