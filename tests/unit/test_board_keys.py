"""Keys the board's part compares: Salt's fingerprints, and who answered."""

import pytest
import salt.utils.crypt
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from rpiomega.node import saltkeys
from rpiomega.node.steps import keys


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
