"""
Repositories for tests whose keys take no time: `make`.

restic takes half a second of CPU and 64 MiB to open a repository: `init` measures the machine and chooses scrypt's
parameters by it. A key file says which parameters it was made with, so one with the smallest opens at once. The format
is that of restic's design document ("Keys, Encryption and MAC"): AES-256-CTR, then Poly1305-AES over the ciphertext.
"""

import atexit
import base64
import functools
import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import tempfile

import restic_program
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.poly1305 import Poly1305

PASSWORD = "for tests only"
QUICK = {"N": 2, "r": 1, "p": 1}


def make(folder, *passwords):
    """Make a repository that each of these passwords opens, in a folder that is not there yet; none: PASSWORD."""
    template, key, plain = _template()
    shutil.copytree(template, folder)
    for password in passwords or (PASSWORD,):
        _write(pathlib.Path(folder, "keys"), key, plain, password)


def _write(folder, key, plain, password):
    made = {**key, **QUICK, "salt": base64.b64encode(os.urandom(64)).decode()}
    made["data"] = base64.b64encode(_sealed(plain, _derived(made, password))).decode()
    text = json.dumps(made).encode()
    # A key's name is the SHA-256 of its file.
    target = folder / hashlib.sha256(text).hexdigest()
    target.write_bytes(text)
    target.chmod(0o600)


@functools.lru_cache(maxsize=1)
def _template():
    """Return the folder of a repository without keys, the key that it was made with, and what that key's file hides."""
    folder = tempfile.mkdtemp(prefix="restic-")
    atexit.register(shutil.rmtree, folder)
    command = [restic_program.path(), "--no-cache", "-r", f"{folder}/repository", "init"]
    environment = {**os.environ, "RESTIC_PASSWORD": PASSWORD}
    subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    (file,) = pathlib.Path(folder, "repository/keys").iterdir()
    key = json.loads(file.read_text())
    plain = _opened(base64.b64decode(key["data"]), _derived(key, PASSWORD))
    assert plain is not None
    file.unlink()
    return f"{folder}/repository", key, plain


def _derived(key, password):
    salt = base64.b64decode(key["salt"])
    cost = {"n": key["N"], "r": key["r"], "p": key["p"]}
    return hashlib.scrypt(password.encode(), salt=salt, **cost, dklen=64, maxmem=1 << 30)


def _mac(keys, nonce, text):
    pad = Cipher(algorithms.AES(keys[32:48]), modes.ECB()).encryptor().update(nonce)
    return Poly1305.generate_tag(keys[48:64] + pad, text)


def _counted(keys, nonce, text):
    return Cipher(algorithms.AES(keys[:32]), modes.CTR(nonce)).encryptor().update(text)


def _opened(data, keys):
    nonce, text, mac = data[:16], data[16:-16], data[-16:]
    return _counted(keys, nonce, text) if _mac(keys, nonce, text) == mac else None


def _sealed(plain, keys):
    nonce = os.urandom(16)
    text = _counted(keys, nonce, plain)
    return nonce + text + _mac(keys, nonce, text)
