"""Salt's packages: the repository and key are the site's, and what its Python lacks is seen."""

import sys
from pathlib import Path

import apt_box
import pytest

from omega.core import apt_rules, openpgp
from rpiomega.node import salt_onedir
from rpiomega.node.board import Board
from rpiomega.node.job_steps import Repository
from rpiomega.node.salt_onedir import KEYRING, PYTHON, Onedir
from rpiomega.node.step import StepError

KEY = Path(__file__).parent / "data/signing-key.asc"
FINGERPRINT = "8C0A2905CB4B81EFD65769070A5492EAC361C6AB"


@pytest.fixture
def board(tmp_path):
    return Board(str(tmp_path))


def lines(board, fingerprint=FINGERPRINT):
    repository = {"uri": "http://mirror.test/salt/", "key_url": "http://mirror.test/key", "fingerprint": fingerprint}
    return Onedir(board, "3008", False, Repository(**repository)).check().lines


def place(board, path, data, mode=0o644):
    target = Path(board.path(path))
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)
    target.chmod(mode)


def test_the_source_is_the_sites_and_held_to_its_release(board):
    found = lines(board)
    assert "+URIs: http://mirror.test/salt/" in found
    assert "+Pin: version 3008.*" in found


def test_a_key_counts_only_with_the_sites_fingerprint(board):
    assert f"fetch the key {FINGERPRINT} to {KEYRING}" in lines(board)
    place(board, KEYRING, openpgp.pinned(KEY.read_bytes(), FINGERPRINT))
    assert not [line for line in lines(board, FINGERPRINT.lower()) if line.startswith("fetch the key")]
    assert [line for line in lines(board, "0" * 40) if line.startswith("fetch the key")]
    place(board, KEYRING, b"cut off")
    assert [line for line in lines(board) if line.startswith("fetch the key")]


@pytest.mark.parametrize(("flags", "missing"), [("", []), ("-I -S", ["docker", "py-consul"])])
def test_libraries_count_only_if_salts_own_python_finds_them(board, flags, missing):
    # A folder of another Python's libraries stays after an upgrade; it must not count.
    place(board, "/opt/saltstack/salt/extras-3.10/docker-7.1.0.dist-info/METADATA", b"Name: docker\n")
    place(board, PYTHON, f'#!/bin/sh\nexec {sys.executable} {flags} "$@"\n'.encode(), 0o755)
    assert [line for line in lines(board) if "salt-pip" in line] == [
        f"install {name} beside Salt (salt-pip)" for name in missing
    ]


# -- with a real apt ----------------------------------------------------------------------------------------


@pytest.fixture
def site(tmp_path, short_folder, monkeypatch):
    """A board whose apt is real, and Salt's repository: site.trust() has key, source and pin written and fetched."""
    box, gpg = apt_box.Box(tmp_path / "board"), apt_box.Gpg(short_folder)
    box.gpg, box.www, box.key = gpg, tmp_path / "www", gpg.make("salt")
    apt_box.publish(box.www, gpg, box.key, "stable", Components="main")
    (tmp_path / "key.asc").write_bytes(gpg.export(box.key, armor=True))
    # `Signed-By` is a path of this machine, below the board's root too.
    (tmp_path / "keys").mkdir()
    (box.root / str(tmp_path)[1:]).mkdir(parents=True)
    (box.root / str(tmp_path)[1:] / "keys").symlink_to(tmp_path / "keys")
    monkeypatch.setattr(salt_onedir, "KEYRING", str(tmp_path / "keys/salt.gpg"))
    monkeypatch.setitem(apt_rules.ENVIRONMENT, "APT_CONFIG", str(box.config))
    box.board = Board(str(box.root))

    def onedir(**more):
        uri, key_url = f"file:{box.www}", f"file://{tmp_path}/key.asc"
        return Onedir(
            box.board, "3008", False, Repository(**{"uri": uri, "key_url": key_url, "fingerprint": box.key, **more})
        )

    box.onedir = onedir
    box.files = lambda: {
        path: path.read_bytes()
        for folder in (box.apt, tmp_path / "keys")
        for path in folder.rglob("*")
        if path.is_file()
    }
    yield box
    gpg.close()


def test_a_leftover_source_with_another_key_is_retired_and_apt_works(site, tmp_path):
    old = f"deb [signed-by=/usr/share/keyrings/salt.gpg] file:{site.www} stable main\n"
    (site.parts / "salt.list").write_text(old)
    former = "deb [signed-by=/k] https://repo.saltproject.io/salt/py3/debian/12/arm64/latest bookworm main\n"
    (site.parts / "saltstack.list").write_text(former)
    onedir = site.onedir()
    assert [line for line in onedir.check().lines if "the entry of /etc/apt/sources.list.d/salt.list" in line]
    onedir._trust()
    assert site.update() == ""
    assert len(onedir.notes) == 2
    assert (site.parts / "salt.list.before-rpiomega.save").read_text() == old
    assert not (site.parts / "salt.list").exists()
    assert not (site.parts / "saltstack.list").exists()
    before = site.files()
    onedir._trust()
    assert site.files() == before


@pytest.mark.parametrize("trouble", ["expired", "suite", "host"])
def test_what_apt_refuses_is_taken_back_and_named(site, tmp_path, trouble):
    beside = site.gpg.make("beside")
    apt_box.publish(tmp_path / "debian", site.gpg, beside)
    (tmp_path / "beside.gpg").write_bytes(site.gpg.export(beside))
    text = f"deb [signed-by={tmp_path}/beside.gpg] file:{tmp_path}/debian trixie stable\n"
    leftover = f"deb [signed-by={tmp_path}/beside.gpg] file:{tmp_path}/debian// trixie stable\n"
    (site.apt / "sources.list").write_text(text)
    more = {}
    if trouble == "expired":
        site.key = site.gpg.make("expired", past=1_600_000_000)
        apt_box.publish(site.www, site.gpg, site.key, "stable", Components="main")
        site.gpg("--faked-system-time", "1600000060", "--quick-set-expire", site.key, "1d")
        (tmp_path / "key.asc").write_bytes(site.gpg.export(site.key, armor=True))
        expected = "fetching package lists: the signing key of .*/www has expired; .*fetches it again"
    elif trouble == "suite":
        more["uri"] = f"file:{tmp_path}/debian"
        (site.parts / "mirror.list").write_text(leftover)
        expected = "fetching package lists: .*/debian has no suite stable; check"
    else:
        more["uri"] = "http://127.0.0.1:9/salt"
        expected = "package source http://127.0.0.1:9/.* does not answer"
    before = site.files()
    with pytest.raises(StepError, match=expected):
        site.onedir(**more)._trust()
    assert site.files() == before
    assert site.update() == ""


@pytest.mark.parametrize("smuggled", [bytes([0xC6, 42, 6]) + bytes(4) + bytes([27, 0, 0, 0, 32]) + bytes(32), "second"])
def test_a_key_beside_the_pinned_one_is_not_written(site, tmp_path, smuggled):
    more = site.gpg.export(site.gpg.make("other")) if smuggled == "second" else smuggled
    (tmp_path / "key.asc").write_bytes(site.gpg.export(site.key) + more)
    before = site.files()
    with pytest.raises(StepError, match="is not Salt's signing key: it holds (a key of version 6|the keys)"):
        site.onedir()._trust()
    assert site.files() == before
    Path(salt_onedir.KEYRING).write_bytes(site.gpg.export(site.key) + more)
    assert not site.onedir()._has_key()
