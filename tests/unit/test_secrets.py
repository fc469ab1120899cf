"""The master's secrets: made once, closed to others, each node its own."""

import concurrent.futures
import datetime
import fcntl
import os
import pathlib
import socket
import ssl
import threading

import pytest
from cryptography import x509

from omega.core import pki
from omega.secrets import store as secrets_store

SITE = {
    "cluster": "omega",
    "nodes": {
        "m": {"address": "10.0.0.1", "roles": ["master", "manager"]},
        "a": {"address": "10.0.0.2", "roles": ["manager"]},
        "b": {"address": "10.0.0.3", "roles": ["manager"]},
        "w": {"address": "10.0.0.4", "roles": ["worker"]},
    },
}


@pytest.fixture
def store(tmp_path):
    return secrets_store.Store(tmp_path / "secrets")


def names_of(certificate):
    extension = x509.load_pem_x509_certificate(certificate.encode()).extensions
    return extension.get_extension_for_class(x509.SubjectAlternativeName).value.get_values_for_type(x509.DNSName)


def test_secrets_are_made_once_even_when_all_minions_ask_at_once(store):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: store.consul_for(SITE, "a"), range(16)))
    assert all(answer == answers[0] for answer in answers)


def test_nobody_else_can_read_them(store):
    store.consul_for(SITE, "a")
    store.consul_management(SITE)
    modes = {path.stat().st_mode & 0o077 for path in store.root.rglob("*") if path.is_file()}
    assert modes == {0}
    assert store.root.stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files away needs root")
def test_what_root_writes_belongs_to_whom_the_folder_does(store):
    """Salt's packages run the master as a user of its own; the minion, as root, rotates a token."""
    store.root.mkdir(mode=0o700)
    os.chown(store.root, 65534, 65534)
    store.rotate_consul_token("w")
    paths = list(store.root.rglob("*"))
    assert store.root / "consul/nodes/w/token" in paths
    assert {(path.stat().st_uid, path.stat().st_gid) for path in paths} == {(65534, 65534)}


def test_a_lock_that_is_never_released_is_waited_for_within_a_bound(store, monkeypatch):
    monkeypatch.setattr(secrets_store, "LOCK_BOUND", 0.3)
    store.root.mkdir()
    with open(store.root / ".lock", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(TimeoutError, match=r"held the lock .*/\.lock for 0.3 s.*run again"):
            store.consul_for(SITE, "w")
    assert store.consul_for(SITE, "w")


def test_nodes_share_the_gossip_key_but_no_token(store):
    first, second = store.consul_for(SITE, "a"), store.consul_for(SITE, "w")
    assert first["gossip_key"] == second["gossip_key"]
    assert first["token"] != second["token"]
    assert store.consul_management(SITE)["node_tokens"]["w"] == second["token"]
    assert store.consul_management(SITE)["management_token"] not in str([first, second])


def test_only_a_server_may_speak_as_a_server(store):
    assert "server.omega.consul" in names_of(store.consul_for(SITE, "b")["cert"])
    assert "server.omega.consul" not in names_of(store.consul_for(SITE, "w")["cert"])


def test_a_new_address_brings_a_new_certificate_but_keeps_the_token(store):
    before = store.consul_for(SITE, "w")
    moved = {**SITE, "nodes": {**SITE["nodes"], "w": {"address": "10.0.0.44", "roles": ["worker"]}}}
    after = store.consul_for(moved, "w")
    assert after["cert"] != before["cert"]
    assert after["token"] == before["token"]
    assert after["ca"] == before["ca"]


def test_a_certificate_near_its_end_is_replaced(store, monkeypatch):
    before = store.consul_for(SITE, "w")
    later = pki._utcnow() + datetime.timedelta(days=pki.NODE_DAYS - pki.RENEW_DAYS + 1)
    monkeypatch.setattr(pki, "_utcnow", lambda: later)
    assert store.consul_for(SITE, "w")["cert"] != before["cert"]


@pytest.mark.parametrize("junk", [b"", b"\xff\x00", b"-----BEGIN CERTIFICATE-----\nAAAA"])
def test_a_certificate_that_the_card_lost_is_made_anew(store, junk):
    before = store.consul_for(SITE, "a")
    (store.root / "consul/nodes/a/cert.pem").write_bytes(junk)
    after = store.consul_for(SITE, "a")
    assert after["cert"] != before["cert"]
    assert (after["ca"], after["token"]) == (before["ca"], before["token"])


@pytest.mark.parametrize("name", ["ca.pem", "ca-key.pem"])
def test_an_authority_that_nodes_have_certificates_of_is_not_replaced(store, name):
    store.consul_for(SITE, "a")
    files = {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()}
    files.pop(store.root / "consul" / name)
    (store.root / "consul" / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"consul/{name} is missing.*from the copy"):
        store.consul_for(SITE, "b")
    assert {path: path.read_bytes() for path in store.root.rglob("*") if path.is_file()} == files


def test_a_secret_has_its_name_on_the_disk_before_anybody_gets_it(store, monkeypatch):
    synced, fsync = set(), os.fsync

    def spy(handle):
        place = pathlib.Path(os.readlink(f"/proc/self/fd/{handle}"))
        synced.update(place.iterdir() if place.is_dir() else ())
        fsync(handle)

    monkeypatch.setattr(os, "fsync", spy)
    store.consul_management(SITE)
    store.root = store.root.with_name("other")
    store.consul_for(SITE, "a")
    made = {path for path in store.root.parent.rglob("*") if path.is_file() and path.name != ".lock"}
    assert len(made) > len(SITE["nodes"]) + 5
    assert made <= synced


def test_two_nodes_can_talk_tls_and_a_stranger_cannot(store, tmp_path):
    assert handshake(tmp_path, store.consul_for(SITE, "m"), store.consul_for(SITE, "w"))
    stranger = secrets_store.Store(tmp_path / "other").consul_for(SITE, "w")
    stranger["ca"] = store.consul_for(SITE, "m")["ca"]
    assert not handshake(tmp_path, store.consul_for(SITE, "m"), stranger)


def context(folder, purpose, secrets):
    folder.mkdir(exist_ok=True)
    for name in ("ca", "cert", "key"):
        (folder / name).write_text(secrets[name])
    made = ssl.create_default_context(purpose, cafile=folder / "ca")
    made.load_cert_chain(folder / "cert", folder / "key")
    made.verify_mode = ssl.CERT_REQUIRED
    return made


def handshake(folder, server, client):
    """Say whether a TLS client and server with these secrets accept each other."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.settimeout(10)
    outcome = []

    def serve():
        try:
            with context(folder / "s", ssl.Purpose.CLIENT_AUTH, server).wrap_socket(ours, server_side=True) as tls:
                outcome.append(tls.recv(2) == b"hi")
        except (ssl.SSLError, OSError):
            outcome.append(False)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        wrap = context(folder / "c", ssl.Purpose.SERVER_AUTH, client).wrap_socket
        with wrap(theirs, server_hostname="server.omega.consul") as tls:
            tls.send(b"hi")
            thread.join(10)
    except (ssl.SSLError, OSError):
        theirs.close()
    thread.join(10)
    return outcome == [True]
