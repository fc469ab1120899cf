"""The Salt master: configuration, service, key."""

from __future__ import annotations

import os
import re

from rpiomega.node import salt_pip, saltkeys, service
from rpiomega.node.files import File, apply_all
from rpiomega.node.step import Diff, Step, StepError

UNIT = "salt-master.service"
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
# Keys end by `rpiomega remove` or salt-key; a minion may not take even its own away.
allow_minion_key_revoke: False
# A handful of minions: each worker costs about 50 MB.
worker_threads: 3
# Small boards answer late when all of them work.
timeout: 30
gather_job_timeout: 30
"""


class Master(Step):
    """Argument: `kind` (onedir or pip). `data`: ``master_finger``; it is left in ``board.shared`` as well."""

    name = "master"

    def check(self) -> Diff:
        diff = Diff()
        for file in self._files():
            diff += file.diff(self.board)
        path = self.board.path(SECRETS)
        if not os.path.isdir(path):
            diff.add(f"make {SECRETS}, readable by the master alone")
        diff += service.check(self.board, UNIT)
        finger = saltkeys.fingerprint(self.board.read(saltkeys.MASTER_PUB))
        self.data["master_finger"] = self.board.shared["master_finger"] = finger
        return diff

    def apply(self) -> None:
        self._secrets()
        if any(file.diff(self.board) for file in self._files()):
            service.owe_restart(self.board, UNIT)
            apply_all(self.board, self._files())
        service.ensure(self.board, UNIT)

        def key():
            return saltkeys.fingerprint(self.board.read(saltkeys.MASTER_PUB)), "no key yet"

        self.board.wait("the master to make its key", key, KEY_BOUND, f"see `journalctl -u {UNIT}` on the master")

    def _files(self) -> list[File]:
        text = CONFIG.format(secrets=SECRETS)
        if self._knows("minimum_auth_version"):
            # Without it the master still takes the old, replayable handshake.
            text += "minimum_auth_version: 3\n"
        wanted = [File("/etc/salt/master.d/rpiomega.conf", text)]
        if self.args["kind"] == "pip":
            unit = service.unit_text("Salt master", "salt-master")
            wanted.append(File(f"/etc/systemd/system/{UNIT}", unit))
        return wanted

    def _knows(self, option: str) -> bool:
        """Return whether this Salt has a master option; it warns about one it does not know."""
        folders = salt_pip.site_packages(self.board) or ["/opt/saltstack/salt/lib/python3.10/site-packages"]
        text = self.board.read(f"{folders[0]}/salt/config/__init__.py") or ""
        return f'"{option}"' in text

    def _secrets(self) -> None:
        os.makedirs(SECRETS, mode=0o700, exist_ok=True)
        os.chmod(SECRETS, 0o700)
        user = re.search(r"^user:\s*(\w+)", self.board.read("/etc/salt/master") or "", re.MULTILINE)
        if user and user.group(1) != "root":
            # Salt's packages run the master as an unprivileged user, and that is who makes the secrets.
            cure = f"check that user {user.group(1)} exists"
            self.board.shell.must(["chown", f"{user.group(1)}:", SECRETS], cure)

    def verify(self) -> None:
        super().verify()
        if not self.data["master_finger"]:
            raise StepError("the master has no key", f"see `journalctl -u {UNIT}` on the master")
