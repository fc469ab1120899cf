"""The Salt master: configuration, service, key."""

from __future__ import annotations

import os

from rpiomega.node import dropin_salt, job_steps, salt_pip, saltkeys, service
from rpiomega.node.files import File, apply_all
from rpiomega.node.step import Diff, Step, StepError

UNIT = "salt-master.service"
CONF = "/etc/salt/master.d/rpiomega.conf"
# Settings without which the formula does not work; others of our file are the owner's to change.
ESSENTIAL = [
    "file_roots",
    "pillar_roots",
    "module_dirs",
    "pillar_dirs",
    "ext_pillar",
    "reactor",
    "publish_port",
    "ret_port",
    "allow_minion_key_revoke",
    "minimum_auth_version",
]
SECRETS = "/etc/rpiomega/secrets"
KEY_BOUND = 90.0
CONFIG = """# Written by rpiomega's bootstrap.
file_roots:
  base:
    - /srv/rpiomega/formula/salt
    - /srv/rpiomega/files
# The site's own pillar comes first: what it holds is not the formula's to change.
pillar_roots:
  base:
    - /srv/rpiomega/pillar
    - /srv/rpiomega/formula/pillar
module_dirs:
  - /srv/rpiomega/formula
# module_dirs finds the folder pillar/ before _pillar/.
pillar_dirs:
  - /srv/rpiomega/formula/_pillar
ext_pillar:
  - rpiomega:
      secrets: {secrets}
reactor:
  - rpiomega/swarm/joined:
    - /srv/rpiomega/formula/salt/reactor/swarm_joined.sls
# A master used before may say otherwise in /etc/salt/master.
publish_port: 4505
ret_port: 4506
# Keys end by `rpiomega remove` or salt-key; a minion may not take even its own away.
allow_minion_key_revoke: False
# A handful of minions: each worker costs about 50 MB.
worker_threads: 3
# Small boards answer late when all of them work.
timeout: 30
gather_job_timeout: 30
"""


class Master(Step):
    """The running Salt master. `data`: ``master_finger``; it is left in ``board.shared`` as well."""

    name = job_steps.Master.step
    args: job_steps.Master

    def check(self) -> Diff:
        diff = Diff()
        for file in self._files():
            diff += file.diff(self.board)
        path = self.board.path(SECRETS)
        if not os.path.isdir(path):
            diff.add(f"make {SECRETS}, readable by the master alone")
        self._in_force()
        diff += service.check(self.board, UNIT)
        if not diff:
            service.foreign(self.board, UNIT, service.PROGRAMS[self.args.kind].format("salt-master"))
        finger = saltkeys.fingerprint(self.board.read(saltkeys.MASTER_PUB))
        self.data["master_finger"] = self.board.shared["master_finger"] = finger
        return diff

    def apply(self) -> None:
        self._secrets()
        if any(file.diff(self.board) for file in self._files()):
            service.restart_later(self.board, UNIT)
            apply_all(self.board, self._files())
        service.ensure(self.board, UNIT)

        def key() -> tuple[str, str]:
            return saltkeys.fingerprint(self.board.read(saltkeys.MASTER_PUB)), "no key yet"

        self.board.wait("the master to make its key", key, KEY_BOUND, f"see `journalctl -u {UNIT}` on the master")

    def _files(self) -> list[File]:
        text = CONFIG.format(secrets=SECRETS)
        if self._knows("minimum_auth_version"):
            # Without it the master still takes the old, replayable handshake.
            text += "minimum_auth_version: 3\n"
        wanted = [File(CONF, text)]
        return wanted + service.unit_files(self.board, self.args.kind, UNIT, "Salt master", "salt-master")

    def _in_force(self) -> str:
        """Return the user that the master runs as (root until Salt is installed).

        Raise StepError if another file overrules a setting that the formula needs. No file is moved away.
        """
        program = dropin_salt.python(self.board, self.args.kind)
        if not program:
            return "root"
        keys = [*ESSENTIAL, "fileserver_backend", "user"]
        found = dropin_salt.read(self.board, program, "master", CONF, self._files()[0].text, keys)
        for item in dropin_salt.lost(found, ESSENTIAL, CONF):
            raise dropin_salt.refusal(item, CONF)
        if "roots" not in found["values"]["fileserver_backend"]:
            by = [path for path, names, _ in found["files"] if "fileserver_backend" in names]
            cause = f"the master serves no folders: fileserver_backend of {by[-1]} lacks roots"
            raise StepError(cause, f"add roots to it in {by[-1]}, then run the bootstrap again")
        return found["values"]["user"]

    def _knows(self, option: str) -> bool:
        """Return whether this Salt has a master option; it warns about one it does not know."""
        folders = salt_pip.site_packages(self.board) or ["/opt/saltstack/salt/lib/python3.10/site-packages"]
        text = self.board.read(f"{folders[0]}/salt/config/__init__.py") or ""
        return f'"{option}"' in text

    def _secrets(self) -> None:
        os.makedirs(SECRETS, mode=0o700, exist_ok=True)
        os.chmod(SECRETS, 0o700)
        user = self._in_force()
        if user != "root":
            # Salt's packages run the master as an unprivileged user, and that is who makes the secrets.
            cure = f"check that the user {user} exists, whom Salt's option `user` names"
            # All of them: those of a backup were written before Salt brought that user.
            self.board.shell.must(["chown", "-R", f"{user}:", SECRETS], cure)

    def verify(self) -> None:
        super().verify()
        if not self.data["master_finger"]:
            raise StepError("the master has no key", f"see `journalctl -u {UNIT}` on the master")
