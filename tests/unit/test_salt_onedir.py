"""Salt's packages: the repository and key are the site's, and what its Python lacks is seen."""

import sys
from pathlib import Path

import pytest
from rpiomega.node import openpgp
from rpiomega.node.board import Board
from rpiomega.node.salt_onedir import KEYRING, PYTHON, Onedir

KEY = Path(__file__).parent / "data/signing-key.asc"
FINGERPRINT = "8C0A2905CB4B81EFD65769070A5492EAC361C6AB"


@pytest.fixture
def board(tmp_path):
    return Board(str(tmp_path))


def lines(board, fingerprint=FINGERPRINT):
    repository = {"uri": "http://mirror.test/salt/", "key_url": "http://mirror.test/key", "fingerprint": fingerprint}
    return Onedir(board, "3008", False, repository).check().lines


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
