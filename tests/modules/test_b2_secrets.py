"""Which node gets which B2 account, from the master's secrets through the ext_pillar."""

import os
import pathlib

import pytest
import yaml
from salt.exceptions import SaltRenderError

from omega.b2 import client, files
from omega.secrets import store

ROOT = pathlib.Path(__file__).resolve().parents[2]
NODES = {
    "m": {"address": "10.0.0.1", "roles": ["master", "manager"]},
    "w": {"address": "10.0.0.2", "roles": ["worker"]},
}


@pytest.fixture
def give(tmp_path, load_pillar):
    """Return the B2 part of a node's pillar under the given `b2.credentials`."""
    folder = tmp_path / "secrets/b2"
    for name in ("admin", "backup"):
        files.write(folder / name, f"{name}-id", f"{name}-key")

    def give(node, **credentials):
        site = {"cluster": "omega", "nodes": NODES, "b2": {"credentials": credentials}}
        return load_pillar(node, site, tmp_path / "secrets").get("rpiomega_secrets", {}).get("b2")

    give.folder = folder
    return give


@pytest.fixture
def load_pillar(tmp_path):
    """The ext_pillar as the master loads it; `sent` is what the minion sends along."""

    def load(node, site, secrets, sent=None):
        import salt.config
        import salt.loader

        (tmp_path / "site.sls").write_text(yaml.safe_dump({"rpiomega": site}))
        opts = salt.config.master_config(None)
        opts.update(pillar_dirs=[str(ROOT / "_pillar")], module_dirs=[], id=node)
        opts["pillar_roots"] = {"base": [str(tmp_path)]}
        return salt.loader.pillars(opts, {})["rpiomega"](node, {"rpiomega": sent or site}, secrets=str(secrets))

    return load


def test_a_node_gets_the_account_the_site_names(give):
    assert give("m", m="admin", **{"*": "backup"}) == {"key_id": "admin-id", "key": "admin-key"}
    assert give("w", m="admin", **{"*": "backup"}) == {"key_id": "backup-id", "key": "backup-key"}


def test_nobody_else_gets_one(give):
    assert give("w", m="admin") is None
    assert give("stranger", m="admin", **{"*": "backup"}) is None
    assert give("w") is None


def test_nobody_gets_one_where_b2_is_off(give, load_pillar, tmp_path):
    site = {"cluster": "omega", "nodes": NODES, "b2": {"enabled": False, "credentials": {"*": "admin"}}}
    assert "b2" not in load_pillar("m", site, tmp_path / "secrets")["rpiomega_secrets"]


def test_a_missing_file_stops_only_what_needs_it(give):
    found = give("w", w="none")
    assert str(give.folder / "none") in found["problem"]
    with pytest.raises(client.B2Error, match="on the master, there is no file .* apply the state b2 again") as error:
        client.account({"rpiomega_secrets": {"b2": found}})
    assert "b2.credentials" not in str(error.value), "the owner has named it there"


def test_a_file_that_others_can_read_is_refused(give):
    (give.folder / "admin").chmod(0o640)
    assert "chmod 600" in give("m", m="admin")["problem"]


@pytest.mark.parametrize("text", ["secret-text", "key_id: secret-text", "{", "key_id:\nkey: secret-text"])
def test_a_file_with_something_else_is_refused_without_showing_it(give, text):
    (give.folder / "admin").write_text(text)
    problem = give("m", m="admin")["problem"]
    assert "key_id" in problem
    assert "secret-text" not in problem


@pytest.mark.parametrize("key_id", ["001400000000000000000001", "0x14", "1e5", "no", "2026-01-02"])
def test_an_id_that_looks_like_something_else_is_taken_as_it_is_written(give, key_id):
    (give.folder / "admin").write_text(f"key_id: {key_id}\nkey: K001\n")
    assert give("m", m="admin") == {"key_id": key_id, "key": "K001"}


@pytest.mark.parametrize("name", ["../consul/management.token", "/etc/shadow", ".hidden"])
def test_no_file_outside_the_folder_is_read(give, name):
    with pytest.raises(SaltRenderError, match=r"b2\.credentials\.m: what is written here is not the name of a file"):
        give("m", m=name)
    site = {"nodes": NODES, "b2": {"credentials": {"m": name}}}
    assert "bare name" in store.Store(str(give.folder.parent)).b2_for(site, "m")["problem"]


def test_a_secret_file_is_closed_and_keeps_any_text(tmp_path):
    path = tmp_path / "new/key"
    files.write(path, "id", 'k"ey: #\\')
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert files.read(path) == {"key_id": "id", "key": 'k"ey: #\\'}
    assert yaml.safe_load(path.read_text())["key_id"] == "id"


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files away needs root")
def test_a_secret_file_belongs_to_whom_the_masters_secrets_do(tmp_path):
    secrets = tmp_path / "secrets"
    secrets.mkdir(mode=0o700)
    os.chown(secrets, 65534, 65534)
    files.write(secrets / "b2/key", "id", "key")
    assert {(secrets / "b2").stat().st_uid, (secrets / "b2/key").stat().st_uid} == {65534}


def test_an_environment_file_is_read_back(tmp_path):
    account = {"key_id": "id", "key": "k=ey", "endpoint": "http://127.0.0.1:1"}
    (tmp_path / "env").write_text(files.environment(account))
    assert files.read_environment(tmp_path / "env") == account
    assert files.read_environment(tmp_path / "none") is None


def test_f38_a_minion_that_sends_a_site_along_gets_no_more_by_it(load_pillar, tmp_path):
    """`salt-call pillar.items pillar=...` reaches the ext_pillar: root on a worker could call itself the master."""
    site = {"cluster": "omega", "nodes": NODES}
    worker = next(name for name, node in NODES.items() if "master" not in node["roles"])
    sent = {"cluster": "omega", "nodes": {worker: {"address": "192.0.2.1", "roles": ["master", "manager"]}}}
    secrets = tmp_path / "secrets"
    plain = load_pillar(worker, site, secrets)
    assert "management_token" not in str(plain)
    assert load_pillar(worker, site, secrets, sent) == plain
