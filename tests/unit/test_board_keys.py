"""Keys the board's part compares: a vendor's signing key, Salt's fingerprints."""

import base64
from pathlib import Path

import pytest
import salt.utils.crypt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from rpiomega.node import pgp, saltkeys
from rpiomega.node.steps import keys

KEY = (Path(__file__).parent / "data/signing-key.asc").read_bytes()
# What `gpg --show-keys` prints for that file.
FINGERPRINT = "8C0A2905CB4B81EFD65769070A5492EAC361C6AB"


def test_fingerprint_of_a_signing_key_is_the_one_gpg_prints():
    assert pgp.fingerprints(KEY) == [FINGERPRINT]
    assert pgp.fingerprints(pgp.dearmor(KEY)) == [FINGERPRINT]


def test_a_second_key_behind_the_first_is_seen():
    binary = pgp.dearmor(KEY)
    assert pgp.fingerprints(binary + binary) == [FINGERPRINT] * 2


@pytest.mark.parametrize("data", [b"<html>not found</html>", pgp.dearmor(KEY)[:-7], b"\xc6", base64.b64encode(KEY)])
def test_what_is_no_whole_key_is_refused(data):
    with pytest.raises(ValueError, match=r"packet|cut off"):
        pgp.fingerprints(data)


def test_salt_fingerprint_is_salts_own(tmp_path):
    public = rsa.generate_private_key(65537, 2048).public_key()
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "minion.pub").write_bytes(pem)
    expected = salt.utils.crypt.pem_finger(str(tmp_path / "minion.pub"))
    assert saltkeys.fingerprint(pem.decode()) == expected
    # Salt strips the last line end from the copy the master keeps.
    assert saltkeys.fingerprint(pem.decode().rstrip("\n")) == expected


@pytest.mark.parametrize("text", [None, "", "-----BEGIN PUBLIC KEY-----\n"])
def test_a_key_half_written_has_no_fingerprint(text):
    assert saltkeys.fingerprint(text) == ""


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ('{"pi1": true, "pi2": false}', [True, False]),
        ('[WARNING ] something unclosed {1}\n{\n    "pi1": true\n}\nERROR: one did not return\n', [False, False]),
        ('[WARNING ] something unclosed\n{\n    "pi1": true\n}\nERROR: pi2 did not return\n', [True, False]),
        ("No minions matched the target.\n", [False, False]),
        ("", [False, False]),
    ],
)
def test_who_answered_is_read_among_warnings(output, expected):
    assert [keys.answers(output).get(name, False) for name in ("pi1", "pi2")] == expected
