"""SSH hardening, as an option: no password logins, once key login is proven."""

from __future__ import annotations

import os
import pwd
import re

from rpiomega.node import files
from rpiomega.node.files import File
from rpiomega.node.step import Diff, Step, StepError

MAIN = "/etc/ssh/sshd_config"
# sshd takes the first value it reads (sshd_config(5)), so this must sort before 50-cloud-init.conf.
PATH = "/etc/ssh/sshd_config.d/10-rpiomega.conf"
# Kept until the running sshd has read its files: `sshd -T` tells of these alone.
OWED = "/var/lib/rpiomega/reload-ssh"
TEXT = """# Written by rpiomega (system.ssh_passwords of the site file).
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin prohibit-password
"""


class Sshd(Step):
    """Arguments: `passwords` (``keep`` or ``off``), `user`, `proven` (a key login over a new connection worked)."""

    name = "sshd"

    def check(self) -> Diff:
        diff, off = Diff(), self.args.get("passwords") == "off"
        # Only what we have written ourselves is taken back.
        if not off and not self.board.exists(PATH):
            if self.board.exists(OWED):
                diff.add("reload sshd: a run before was cut short")
            return diff
        if off and not re.search(r"^\s*Include\s+/etc/ssh/sshd_config\.d/", self.board.read(MAIN) or "", re.M | re.I):
            cure = f"put `Include /etc/ssh/sshd_config.d/*.conf` at the top of {MAIN}"
            raise StepError(f"{MAIN} reads no folder of settings", cure)
        diff += self._file(off).diff(self.board)
        if not diff and self.board.exists(OWED):
            diff.add("reload sshd: a run before was cut short")
        if off and not diff and self._effective() == "yes":
            diff.add("reload sshd: it still takes passwords")
        return diff

    def apply(self) -> None:
        off = self.args.get("passwords") == "off"
        if off:
            self._proven()
        before = self.board.read(PATH)
        files.write(self.board.path(OWED), "")
        self._file(off).apply(self.board)
        if self.board.live:
            checked = self.board.shell.run(["sshd", "-t"], timeout=15)
            if checked.code:
                File(PATH, before, 0o644).apply(self.board)
                os.unlink(OWED)
                raise StepError(f"sshd refuses its configuration: {checked.last}", "see `sshd -t` on the board")
            # Reload: sessions that are open stay open.
            self.board.shell.must(["systemctl", "reload-or-restart", "ssh"], "see `journalctl -u ssh`", timeout=30)
        os.unlink(self.board.path(OWED))

    def verify(self) -> None:
        super().verify()
        if self.args.get("passwords") == "off" and self._effective() == "yes":
            raise StepError("sshd still takes passwords", "another file sets it first: `sudo sshd -T | grep -i passw`")

    def _proven(self) -> None:
        user = self.args["user"]
        if not self.args.get("proven"):
            cause = "password logins stay on: no key login has been proven"
            raise StepError(cause, f"log in as {user} with a key first (`ssh-copy-id {user}@BOARD`)")
        if self.board.live and not self._keys(user):
            cause = f"password logins stay on: {user} has no key in ~/.ssh/authorized_keys"
            raise StepError(cause, f"`ssh-copy-id {user}@BOARD`, or set system.ssh_passwords to keep")

    def _keys(self, user: str) -> int:
        home = pwd.getpwnam(user).pw_dir
        text = self.board.read(os.path.join(home, ".ssh", "authorized_keys")) or ""
        return sum(bool(line.strip()) and not line.startswith("#") for line in text.splitlines())

    def _effective(self) -> str:
        """Return what sshd itself says about password logins."""
        if not self.board.live:
            return ""
        shown = self.board.shell.run(["sshd", "-T"], timeout=15).output
        found = re.search(r"^passwordauthentication (\S+)", shown, re.MULTILINE | re.IGNORECASE)
        return found.group(1) if found else ""

    def _file(self, off: bool) -> File:
        return File(PATH, TEXT if off else None, 0o644)
