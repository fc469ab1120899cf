"""A card that has turned read-only, as a worn one does: states fail in one line that names the file."""

import inspect
import os
import subprocess

import pytest
from omega.core import apt_sources, pki

SITE = {"cluster": "omega", "nodes": {"pi1": {"address": "10.0.0.1", "roles": ["master", "manager"]}}}


@pytest.fixture
def card(tmp_path):
    """A file system that takes no writes; beforehand, card.mkdir() and so on."""
    if os.geteuid():
        pytest.skip("root is needed for a file system of its own")
    path = tmp_path / "card"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", path], check=True)
    (path / "vendor.sources").write_text(
        f"Types: deb\nURIs: http://127.0.0.1:1\nSuites: stable\nComponents: main\nSigned-By: {path}/vendor.asc\n"
    )
    (path / "vendor.asc").touch()
    subprocess.run(["mount", "-o", "remount,ro", path], check=True)
    yield path
    subprocess.run(["umount", path], check=True)


@pytest.fixture
def call(states):
    def call(state, *arguments, **settings):
        ca = pki.new_ca("omega")[0].decode()
        secrets = {"consul": {"gossip_key": "k", "token": "t", "ca": ca, "cert": "c", "key": "k"}}
        with states(pillar={"rpiomega": SITE, "rpiomega_secrets": secrets}, minion_id="pi1") as loaded:
            inspect.unwrap(loaded[state]).__globals__.update(settings)
            return loaded[state](*arguments)

    return call


def failed(answer, path):
    assert (answer["result"], answer["changes"]) == (False, {}), answer
    assert answer["comment"].startswith(f"{answer['name']}: Read-only file system {path}")
    assert "see `df` and `dmesg` on this node" in answer["comment"]
    assert "\n" not in answer["comment"]


def test_states_that_write_fail_in_one_line(call, card, monkeypatch):
    answer = call("consul_agent.configured", str(card / "consul"), "consul:1.21.5", str(card / "marker"))
    failed(answer, card / "consul")
    monkeypatch.setattr(apt_sources, "PARTS", str(card))
    answer = call("apt_repository.absent", "vendor", KEYRINGS=str(card))
    failed(answer, card / "vendor.sources")
    failed(call("consul_resolver.absent", str(card / "vendor.asc")), card / "vendor.asc")
