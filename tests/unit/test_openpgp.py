"""The pinned fingerprint decides whether a vendor's repository is trusted."""

import base64
import pathlib

import pytest
from omega.core import openpgp

KEY = (pathlib.Path(__file__).parent / "data/signing-key.asc").read_bytes()
# What `gpg --show-keys` prints for that file.
FINGERPRINT = "8C0A2905CB4B81EFD65769070A5492EAC361C6AB"


def test_fingerprint_is_the_one_gpg_prints():
    assert openpgp.primary_fingerprints(KEY) == [FINGERPRINT]


def binary():
    lines = KEY.decode().splitlines()
    body = lines[lines.index("") + 1 : -1]
    return base64.b64decode("".join(line for line in body if not line.startswith("=")))


def test_armoured_and_binary_keys_are_the_same_key():
    assert openpgp.primary_fingerprints(binary()) == [FINGERPRINT]


def test_a_download_that_broke_off_is_refused():
    # The primary key is whole, what follows is not.
    with pytest.raises(openpgp.KeyFileError, match="middle of a packet"):
        openpgp.primary_fingerprints(binary()[:-10])


def test_every_primary_key_of_a_file_is_reported():
    # A second key smuggled in behind the pinned one must not go unseen.
    assert openpgp.primary_fingerprints(KEY + b"\n" + KEY) == [FINGERPRINT, FINGERPRINT]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html>Please log in to the Wi-Fi</html>",
        KEY[: len(KEY) // 2],
        b"-----BEGIN PGP-----\n\n????\n-----END-----",
    ],
)
def test_anything_else_is_refused(data):
    with pytest.raises(openpgp.KeyFileError):
        openpgp.primary_fingerprints(data)
