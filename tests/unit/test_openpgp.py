"""The pinned fingerprint decides whether a vendor's repository is trusted."""

import base64
import pathlib

import omega_openpgp
import pytest

KEY = (pathlib.Path(__file__).parent / "data/signing-key.asc").read_bytes()
# What `gpg --show-keys` prints for that file.
FINGERPRINT = "8F9DC2086BFE13A64246B290662BCA4F9DB6E9D9"


def test_fingerprint_is_the_one_gpg_prints():
    assert omega_openpgp.primary_fingerprints(KEY) == [FINGERPRINT]


def test_armoured_and_binary_keys_are_the_same_key():
    lines = KEY.decode().splitlines()
    body = lines[lines.index("") + 1 : -1]
    binary = base64.b64decode("".join(line for line in body if not line.startswith("=")))
    assert omega_openpgp.primary_fingerprints(binary) == [FINGERPRINT]


def test_every_primary_key_of_a_file_is_reported():
    # A second key smuggled in behind the pinned one must not go unseen.
    assert omega_openpgp.primary_fingerprints(KEY + b"\n" + KEY) == [FINGERPRINT, FINGERPRINT]


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
    with pytest.raises(omega_openpgp.KeyFileError):
        omega_openpgp.primary_fingerprints(data)
