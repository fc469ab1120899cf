"""The pinned fingerprint decides whether a vendor's repository is trusted: with keys of real gpg, and with real apt."""

import base64
import io
import pathlib
import subprocess
import sys
import tempfile
import zipfile

import apt_box
import pytest

from omega.core import openpgp
from rpiomega import agent

KEY = (pathlib.Path(__file__).parent / "data/signing-key.asc").read_bytes()
# What `gpg --show-keys` prints for that file.
FINGERPRINT = "8C0A2905CB4B81EFD65769070A5492EAC361C6AB"
KEYRINGS = pathlib.Path("/usr/share/keyrings")
ARMOR = b"PGP PUBLIC KEY BLOCK"


@pytest.fixture(scope="module")
def gpg(tmp_path_factory):
    """A gpg with keys of each kind."""
    with tempfile.TemporaryDirectory() as home:
        made = apt_box.Gpg(home)
        made.fingerprints = {name: made.make(f"{name} <{name}@example.org>", name) for name in ("rsa3072", "ed25519")}
        made("--quick-add-key", made.fingerprints["rsa3072"], "rsa3072", "sign", "never")
        made("--quick-add-key", made.fingerprints["rsa3072"], "cv25519", "encr", "never")
        made("--quick-add-uid", made.fingerprints["rsa3072"], "another name <other@example.org>")
        yield made
        made.close()


def packet(tag, body, size=None):
    """A packet as others write it: the length in as few bytes as it takes."""
    size = len(body) if size is None else size
    if size < 192:
        return bytes([0xC0 | tag, size]) + body
    if size < 8384:
        return bytes([0xC0 | tag, ((size - 192) >> 8) + 192, (size - 192) & 0xFF]) + body
    return bytes([0xC0 | tag, 0xFF]) + size.to_bytes(4, "big") + body


def key(version, tag=6):
    """A key of another version that is well-formed: Ed25519 of RFC 9580 (6), of LibrePGP (5), or RSA (2 to 4)."""
    material = b"\x00\x00\x00\x20" + bytes(32) if version > 4 else bytes([0, 8, 255, 0, 2, 3])
    days = b"\x00\x00" if version < 4 else b""
    algorithm = 27 if version > 4 else 1
    return packet(tag, bytes([version]) + (1_700_000_000).to_bytes(4, "big") + days + bytes([algorithm]) + material)


def indeterminate(tag, body):
    return bytes([0x80 | tag << 2 | 3]) + body


def partial(tag, body):
    """`body`, of at least 512 bytes, as a part of 512 bytes and the rest."""
    return bytes([0xC0 | tag, 0xE0 | 9]) + body[:512] + packet(tag, body[512:])[1:]


def test_the_board_gets_the_reader_with_its_program(tmp_path):
    (tmp_path / "node.pyz").write_bytes(agent.zipapp())
    with zipfile.ZipFile(io.BytesIO(agent.zipapp())) as archive:
        assert archive.read("omega/core/openpgp.py") == pathlib.Path(openpgp.__file__).read_bytes()
    code = (
        "import sys; sys.path.insert(0, 'node.pyz'); from rpiomega.node import salt_onedir; print(salt_onedir.KEYRING)"
    )
    done = subprocess.run([sys.executable, "-I", "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.startswith("/etc/apt/keyrings/")


@pytest.mark.parametrize("name", ["rsa3072", "ed25519"])
@pytest.mark.parametrize("armor", [True, False])
def test_the_fingerprint_is_the_one_gpg_prints_and_gpg_reads_the_same_key_from_what_is_written(gpg, name, armor):
    data, fingerprint = gpg.export(gpg.fingerprints[name], armor=armor), gpg.fingerprints[name]
    assert openpgp.primary_fingerprints(data) == [fingerprint]
    written = openpgp.pinned(data, fingerprint.lower())
    assert shown(gpg, written) == shown(gpg, data) == shown(gpg, openpgp.armored(written).encode())
    assert openpgp.pinned(written, fingerprint) == written


def shown(gpg, data):
    """What gpg reads from a file: keys, names, signatures."""
    return gpg("--with-colons", "--with-sig-list", "--show-keys", data=data)


@pytest.mark.parametrize("before", [b"\xef\xbb\xbf", b"Our key:\n", b"Comment: key\n\n"])
def test_what_stands_before_an_armor_is_named(before):
    with pytest.raises(openpgp.KeyFileError, match="there is something before its armor"):
        openpgp.primary_fingerprints(before + openpgp.armored(b"").encode())


def test_a_vendors_armor_with_headers_and_carriage_returns_is_read():
    dressed = KEY.replace(b"BLOCK-----\n", b"BLOCK-----\nVersion: BCPG v1.68\nComment: a: b\n", 1).replace(
        b"\n", b"\r\n"
    )
    assert openpgp.pinned(dressed, FINGERPRINT) == openpgp.pinned(KEY, FINGERPRINT)


@pytest.mark.parametrize("keyring", sorted(KEYRINGS.glob("debian-*.gpg")), ids=lambda path: path.name)
def test_the_keyrings_of_this_system_are_understood(gpg, keyring):
    rows = [row.split(":") for row in shown(gpg, keyring.read_bytes()).splitlines()]
    kinds = [row for row in rows if row[0] in ("pub", "sub", "fpr")]
    primary = [row[9] for before, row in zip(kinds, kinds[1:]) if (before[0], row[0]) == ("pub", "fpr")]
    assert openpgp.primary_fingerprints(keyring.read_bytes()) == primary


def test_revoked_and_expired_keys_are_the_pinned_ones_and_left_to_apt(gpg, short_folder):
    other = apt_box.Gpg(short_folder)
    for name, expire, past in (("revoked", "never", None), ("expired", "1d", 1_600_000_000)):
        fingerprint = other.make(name, expire=expire, past=past)
        if name == "revoked":
            text = (
                (short_folder / f"openpgp-revocs.d/{fingerprint}.rev").read_text().replace(":-----BEGIN", "-----BEGIN")
            )
            other("--import", data=text.encode())
        data = other.export(fingerprint)
        assert shown(other, openpgp.pinned(data, fingerprint)) == shown(other, data)
    other.close()


# -- what is refused ----------------------------------------------------------------------------------------


def test_another_key_or_a_second_one_is_refused_by_name(gpg):
    one, two = gpg.fingerprints.values()
    with pytest.raises(openpgp.KeyFileError, match=f"holds key {two}, pinned is {one}"):
        openpgp.pinned(gpg.export(two), one)
    for both in (gpg.export(one) + gpg.export(two), gpg.export(two) + gpg.export(one), gpg.export(one) * 2):
        with pytest.raises(openpgp.KeyFileError, match="holds the keys .*pinned is .* alone"):
            openpgp.pinned(both, one)


@pytest.mark.parametrize(
    ("what", "addition"),
    [
        ("key of version 6", key(6)),
        ("key of version 5", key(5)),
        ("key of version 3", key(3)),
        ("key of version 2", key(2)),
        ("key of version 6", key(6, tag=14)),
        ("key of version 3", key(3, tag=14)),
        ("key of version none", packet(6, b"")),
        ("key of 70000 bytes", packet(6, b"\x04" + bytes(69_999))),
        ("key of 3 bytes", packet(14, b"\x04\x00\x00")),
        ("secret key", key(4, tag=5)),
        ("secret subkey", key(4, tag=7)),
        ("compressed", packet(8, b"\x00" + key(6))),
        ("trust packet", packet(12, b"\x00\x00gpg\x01")),
        ("type 0", packet(0, b"")),
        ("type 4", packet(4, bytes(13))),
        ("type 10", packet(10, b"PGP")),
        ("type 11", packet(11, b"b\x00" + bytes(4))),
        ("type 21", packet(21, bytes(8))),
        ("type 60", packet(60, b"private use")),
        ("signature of version 3", packet(2, b"\x03\x05\x13" + bytes(20))),
        ("signature of version 6", packet(2, b"\x06\x13" + bytes(40))),
        ("signature of version none", packet(2, b"")),
        ("signature of something else", packet(2, b"\x04\x00\x01\x08" + bytes(40))),
        ("signature that is cut off", packet(2, b"\x04\x13\x01\x08\xff\xff" + bytes(40))),
        ("signature that is cut off", packet(2, b"\x04\x13\x01\x08")),
        ("indeterminate length", indeterminate(6, key(6)[2:])),
        ("partial length", partial(13, bytes(600))),
        ("middle of a packet", packet(13, b"short", size=100)),
        ("middle of a packet", b"\xc6"),
        ("middle of a packet", b"\xc6\xc0"),
        ("middle of a packet", b"\xc6\xff\x00"),
        ("middle of a packet", b"\x99\x01"),
        ("no packet", b"\n"),
        ("no packet", b"\x00" * 8),
        ("no packet", b"-----BEGIN PGP PUBLIC KEY BLOCK-----"),
    ],
)
@pytest.mark.parametrize("armor", [True, False])
def test_what_is_not_understood_is_refused_beside_the_pinned_key(what, addition, armor):
    data = openpgp.pinned(KEY, FINGERPRINT) + addition
    data = openpgp.armored(data).encode() if armor else data
    with pytest.raises(openpgp.KeyFileError, match=what):
        openpgp.pinned(data, FINGERPRINT)


@pytest.mark.parametrize("order", ["before", "between"])
def test_the_place_of_an_unknown_packet_does_not_matter(order):
    whole = openpgp.pinned(KEY, FINGERPRINT)
    end = 6 + int.from_bytes(whole[2:6], "big")
    for addition in (key(6), key(3), packet(12, b"\x00\x00")):
        data = addition + whole if order == "before" else whole[:end] + addition + whole[end:]
        with pytest.raises(openpgp.KeyFileError):
            openpgp.pinned(data, FINGERPRINT)


@pytest.mark.parametrize(
    "data",
    [
        KEY + KEY,
        KEY + b"and more\n",
        b"a comment\n" + KEY,
        KEY + KEY.replace(ARMOR, b"PGP MESSAGE"),
        KEY.replace(ARMOR, b"PGP MESSAGE"),
        KEY.replace(ARMOR, b"PGP PRIVATE KEY BLOCK"),
        KEY.replace(b"-----END " + ARMOR, b"-----END PGP MESSAGE"),
        KEY.replace(b"BLOCK-----\n\n", b"BLOCK-----\n"),
        KEY.replace(b"BLOCK-----\n\n", b"BLOCK-----\nno header\n\n"),
        KEY[: len(KEY) // 2],
        KEY[:-20],
        b"-----BEGIN PGP-----\n\n????\n-----END-----",
        b"-----BEGIN " + ARMOR + b"-----\n\n?\n-----END " + ARMOR + b"-----\n",
        b"-----BEGIN " + ARMOR + b"-----\n\n=AAAA\n-----END " + ARMOR + b"-----\n",
        b"-----BEGIN " + ARMOR + b"-----\n\n-----END " + ARMOR + b"-----\n",
        b"-----BEGIN " + ARMOR + b"-----\n\nA\n-----END " + ARMOR + b"-----\n",
        b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
        b"",
        b"<html>Please log in to the Wi-Fi</html>",
        base64.b64encode(KEY),
    ],
)
def test_anything_else_is_refused(data):
    for call in (openpgp.primary_fingerprints, lambda data: openpgp.pinned(data, FINGERPRINT)):
        with pytest.raises(openpgp.KeyFileError):
            call(data)


def test_every_cut_of_a_key_is_refused_or_is_a_whole_shorter_key():
    whole = openpgp.pinned(KEY, FINGERPRINT)
    for length in range(len(whole)):
        try:
            assert openpgp.pinned(whole[:length], FINGERPRINT) == whole[:length]
        except openpgp.KeyFileError:
            continue


# -- and apt ------------------------------------------------------------------------------------------------


@pytest.fixture
def box(tmp_path, gpg):
    """A real apt with one repository, signed by `signer`, and `Signed-By` a file; box.trusts(signer, data)."""
    made = apt_box.Box(tmp_path / "board")

    def trusts(signer, data, kind):
        apt_box.publish(tmp_path / "www", gpg, signer)
        keyring = made.apt / f"keyrings/test.{kind}"
        keyring.write_bytes(data)
        (made.parts / "test.list").write_text(f"deb [signed-by={keyring}] file:{tmp_path}/www trixie stable\n")
        return made.update()

    made.trusts = trusts
    return made


@pytest.mark.parametrize("data", [b"# our key\n", b"700", b"?", b"not found\n", b"<html>", b'{"error": 404}'])
def test_a_text_that_is_no_key_is_called_that(data):
    with pytest.raises(openpgp.KeyFileError, match="it is no OpenPGP key"):
        openpgp.primary_fingerprints(data)


@pytest.mark.parametrize("filler", [b"\n", b"\r\n \t", b" ", b"\n=AAAA", b"A: b\n", b"A\n", b"=", b"\r"])
@pytest.mark.parametrize("end", [b"", b"-----END " + ARMOR + b"-----\n"])
def test_an_answer_of_a_megabyte_is_judged_at_once(filler, end):
    answer = b"-----BEGIN " + ARMOR + b"-----\n\n" + filler * (10**6 // len(filler)) + b"\n" + end
    code = "import sys; from omega.core import openpgp; openpgp.primary_fingerprints(sys.stdin.buffer.read())"
    root = pathlib.Path(openpgp.__file__).parents[2]
    done = subprocess.run(
        [sys.executable, "-c", code], input=answer, cwd=root, capture_output=True, check=False, timeout=30
    )
    assert b"KeyFileError" in done.stderr


@pytest.mark.parametrize("headers", [b"Comment:\n", b"X-Made-By: a\nHash: SHA256\n", b"Version: 1 \t\n"])
@pytest.mark.parametrize("line", [b"\n", b"\r\n", b"\r", b" \n"])
def test_spellings_of_an_armor(headers, line):
    dressed = KEY.replace(b"BLOCK-----\n", b"BLOCK-----\n" + headers, 1).replace(b"\n", line)
    assert openpgp.pinned(dressed, FINGERPRINT) == openpgp.pinned(KEY, FINGERPRINT)


def test_a_keyring_of_many_keys_is_named_in_a_short_line():
    keys = b"".join(packet(6, bytes([4, 0, 0, 0, number, 22, 1])) for number in range(100))
    with pytest.raises(openpgp.KeyFileError, match="and 95 more, pinned is ") as refused:
        openpgp.pinned(keys, FINGERPRINT)
    assert len(str(refused.value)) < 400


@pytest.mark.parametrize("name", ["rsa3072", "ed25519"])
def test_apt_accepts_what_is_written_as_binary_and_as_text(box, gpg, name):
    fingerprint = gpg.fingerprints[name]
    written = openpgp.pinned(gpg.export(fingerprint, armor=True), fingerprint)
    assert box.trusts(fingerprint, written, "gpg") == ""
    assert box.trusts(fingerprint, openpgp.armored(written).encode(), "asc") == ""


def test_apt_trusts_every_key_of_a_file_and_none_of_what_is_written_beside_the_pinned_one(box, gpg):
    pinned, other = gpg.fingerprints.values()
    both = gpg.export(pinned) + gpg.export(other)
    assert box.trusts(other, both, "gpg") == ""
    refused = box.trusts(other, openpgp.pinned(gpg.export(pinned), pinned), "gpg")
    assert "NO_PUBKEY" in refused or "needed to verify signature" in refused  # of gpgv, of sqv


def test_a_subkey_that_the_pinned_key_did_not_bind_signs_nothing(box, gpg):
    pinned, other = gpg.fingerprints.values()
    (body,) = [body for tag, body in openpgp._packets(gpg.export(other)) if tag == 6]
    binding = [body for tag, body in openpgp._packets(gpg.export(pinned)) if tag == 2 and body[1] == 0x18][0]
    smuggled = gpg.export(pinned) + packet(14, body) + packet(2, binding)
    assert box.trusts(other, openpgp.pinned(smuggled, pinned), "gpg") != ""
