"""
The unlock key of an autolocked swarm, as a file on each manager.

An autolocked manager that restarts stays locked until it is given the key, so a power cut would lock the whole
swarm. Each manager therefore keeps the key it reads from its own engine (the engine gives it to managers only)
in KEY_FILE, and `swarm.member` can unlock by it. The key before the last rotation stays in a second file: an
engine that restarts within the moments of a rotation may still be locked with it.
"""

import contextlib
import os

from omega.core import files
from omega.core import pillar as salt_pillar
from omega.swarm.api import MANAGER, SwarmError

KEY_FILE = "/etc/rpiomega/secrets/swarm/unlock-key"
PREVIOUS = ".previous"


def path_of(opts, pillar, path=None):
    """Return the key file's path: the argument, minion configuration `swarm.unlock_key_file`, or KEY_FILE."""
    return path or salt_pillar.setting(opts, pillar, "swarm.unlock_key_file") or KEY_FILE


class Keyring:
    """The key file at `path`, a root-only file; a folder made for it is root-only, another stays as it is."""

    def __init__(self, path=KEY_FILE):
        self.path = path

    def keys(self):
        """Return the keys to try when the engine is locked, the likeliest first; often just one, or none."""
        found = (files.read(path) for path in (self.path, self.path + PREVIOUS))
        return [text.strip() for text in found if text and text.strip()]

    def problem(self, key):
        """Return why the file is not what it should be ("absent", "outdated", "readable by others"), or ""."""
        kept = (files.read(self.path) or "").strip()
        if not kept:
            return "absent"
        if kept != key:
            return "outdated"
        return "readable by others" if (files.mode_of(self.path) or 0) & 0o077 else ""

    def keep(self, key):
        """
        Write `key`; what the file held before becomes the previous key.

        :raises SwarmError: "refused" if it cannot be written
        """
        try:
            self._write(key)
        except OSError as error:
            cause = f"the unlock key is not kept in {self.path}: {error.strerror}"
            cure = "correct that, then call `swarm.keep_unlock_key`, else this manager stays locked after a restart"
            raise SwarmError("refused", f"{cause}; {cure}") from None

    def _write(self, key):
        folder = os.path.dirname(self.path)
        if not os.path.isdir(folder):
            os.makedirs(os.path.dirname(folder), mode=0o700, exist_ok=True)
            os.mkdir(folder, 0o700)
        kept = (files.read(self.path) or "").strip()
        if kept and kept != key:
            files.write(self.path + PREVIOUS, kept + "\n", 0o600)
        files.write(self.path, key + "\n", 0o600)

    def exists(self):
        """Whether any key is kept."""
        return any(os.path.exists(path) for path in (self.path, self.path + PREVIOUS))

    def forget(self):
        """Delete what is kept."""
        for path in (self.path, self.path + PREVIOUS):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)


def rotate(engine, keyring=None):
    """
    Make the swarm a new unlock key and keep it on this node, if there is a keyring.

    :return: hostnames of the other managers, whose files hold the old key until `keep` has run there
    :raises SwarmError: "refused" without autolock
    """
    _locked(engine)
    engine.update_swarm(lambda spec: spec, what="rotating the unlock key", rotateManagerUnlockKey=True)
    if keyring:
        keyring.keep(engine.unlock_key())
    own = engine.local().node_id
    return sorted(node.hostname or node.id for node in engine.nodes() if node.role == MANAGER and node.id != own)


def keep(engine, keyring):
    """Bring the key file of this manager up to date; returns why that was needed, "" if it was not."""
    _locked(engine)
    key = engine.unlock_key()
    problem = keyring.problem(key)
    if problem:
        keyring.keep(key)
    return problem


def _locked(engine):
    spec = engine.cluster()["Spec"]
    if not (spec.get("EncryptionConfig") or {}).get("AutoLockManagers"):
        raise SwarmError("refused", "the swarm is not autolocked, so there is no unlock key: set swarm.spec.autolock")
