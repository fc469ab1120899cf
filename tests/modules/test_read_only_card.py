"""A card that has become read-only, as a worn one does: states fail in one line, `status` and doctor name it."""

import inspect
import os
import subprocess

import pytest

from omega.core import apt_sources, pki
from rpiomega.doctor import system
from rpiomega.node.board import Board
from rpiomega.node.doctor import storage

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
    assert "the kernel makes a failing card read-only" in answer["comment"]
    assert "see `df` and `dmesg` on this node" in answer["comment"]
    assert "\n" not in answer["comment"]


def test_states_that_write_fail_in_one_line(call, card, monkeypatch):
    answer = call("consul_agent.configured", str(card / "consul"), "consul:1.21.5", str(card / "marker"))
    failed(answer, card / "consul")
    monkeypatch.setattr(apt_sources, "PARTS", str(card))
    answer = call("apt_repository.absent", "vendor", KEYRINGS=str(card))
    failed(answer, card / "vendor.sources")
    failed(call("consul_resolver.absent", str(card / "vendor.asc")), card / "vendor.asc")


def named(board, **arguments):
    """{(check, severity): what} of a board's file systems, as `status` and doctor judge them."""
    found = storage.read(board, arguments)["file_systems"]
    return {(one.check, one.severity): one.what for one in system.file_systems("pi1", found)}


@pytest.fixture
def board(tmp_path):
    """A board with a file system of its own, mounted twice at /var/lib/docker; mounts(*arguments) mounts more there."""
    if os.geteuid():
        pytest.skip("root is needed for a file system of its own")
    root, done = tmp_path / "board", []

    def mounts(folder, *arguments):
        path = root / folder
        path.mkdir(parents=True, exist_ok=True)
        subprocess.run(["mount", *arguments, path], check=True)
        done.append(path)
        return path

    mounts("", "-t", "tmpfs", "-o", "size=3g,nr_inodes=1000", "tmpfs")
    yield Board(str(root)), mounts
    for path in reversed(done):
        subprocess.run(["umount", path], check=True)


def test_g12_a_read_only_root_is_an_error_with_its_cure(board):
    board, mounts = board
    assert named(board) == {}
    subprocess.run(["mount", "-o", "remount,ro", board.path("/")], check=True)
    assert named(board) == {("read-only", "error"): "/ is read-only"}


@pytest.mark.parametrize("folder", ["/etc", "/boot/firmware", "/var/lib/docker", "/mnt/disk/docker"])
def test_g12_a_folder_that_is_read_only_by_itself_is_named(board, folder):
    board, mounts = board
    path = mounts(folder.lstrip("/"), "--bind", board.path("/"))
    subprocess.run(["mount", "-o", "remount,bind,ro", path], check=True)
    said = named(board, folders=["/mnt/disk/docker"])
    assert said[("read-only", "error")] == f"{folder} is read-only"


def test_g12_no_space_and_no_inodes_are_errors_as_well(board):
    board, mounts = board
    for count in range(990):
        open(os.path.join(board.path("/"), str(count)), "w").close()
    assert "of the inodes of / are free" in named(board)[("inodes", "error")]
    mounts("var/lib/docker", "-t", "tmpfs", "-o", "size=20m", "tmpfs")
    assert "free on /var/lib/docker" in named(board)[("space", "error")]
