"""SSH hardening, as an option: no password logins, once key login is proven."""

from __future__ import annotations

import os
import pwd

from rpiomega.node import dropin_sshd, files, job_steps
from rpiomega.node.files import File
from rpiomega.node.step import Diff, Step, StepError

MAIN = "/etc/ssh/sshd_config"
# sshd takes the first value it reads (sshd_config(5)), so this must sort before 50-cloud-init.conf.
PATH = "/etc/ssh/sshd_config.d/10-rpiomega.conf"
# Kept until the running sshd has read its files: `sshd -T` tells of these alone.
OWED = "/var/lib/rpiomega/reload-ssh"
ROOT = "PermitRootLogin prohibit-password\n"
TEXT = f"""# Written by rpiomega (system.ssh_passwords of the site file).
PasswordAuthentication no
KbdInteractiveAuthentication no
{ROOT}"""
# What an owner may have for root that lets no password in either, and no more than ours does.
STRICT = ("no", "forced-commands-only")


class Sshd(Step):
    """Password logins off, or our file for that gone."""

    name = job_steps.Sshd.step
    args: job_steps.Sshd

    def check(self) -> Diff:
        diff, off = Diff(), self.args.passwords == "off"
        # Only what we have written ourselves is taken back.
        if not off and not self.board.exists(PATH):
            if self.board.exists(OWED):
                diff.add("reload sshd: a run before was cut short")
            return diff
        if off and not dropin_sshd.includes(self.board.path(MAIN), os.path.dirname(PATH)):
            cure = f"put `Include /etc/ssh/sshd_config.d/*.conf` at the top of {MAIN}"
            raise StepError(f"{MAIN} reads no folder of settings", cure)
        diff += self._file(off).diff(self.board)
        if not diff and self.board.exists(OWED):
            diff.add("reload sshd: a run before was cut short")
        if off and not diff:
            self._in_force()
        return diff

    def apply(self) -> None:
        off = self.args.passwords == "off"
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

    def _proven(self) -> None:
        user = self.args.user
        if not self.args.proven:
            cause = "password logins stay on: no key login has been proven"
            raise StepError(cause, f"log in as {user} with a key first (`ssh-copy-id {user}@BOARD`)")
        if self.board.live and not self._keys(user):
            cause = f"password logins stay on: {user} has no key in ~/.ssh/authorized_keys"
            raise StepError(cause, f"`ssh-copy-id {user}@BOARD`, or set system.ssh_passwords to keep")

    def _keys(self, user: str) -> int:
        home = pwd.getpwnam(user).pw_dir
        text = self.board.read(os.path.join(home, ".ssh", "authorized_keys")) or ""
        return sum(line.strip()[:1] not in ("", "#") for line in text.splitlines())

    def _in_force(self) -> None:
        """Raise StepError if another file, or a Match block for some connections, overrules our settings."""
        if not self.board.live:
            return
        wanted = dict(line.split(" ", 1) for line in self._text().splitlines() if not line.startswith("#"))
        try:
            lost = dropin_sshd.lost(MAIN, PATH, self.board.ask, self.args.user, wanted)
        except ValueError as error:
            raise StepError(f"sshd refuses its configuration: {error}", "see `sshd -t` on the board") from None
        if lost:
            cure = f"{lost[0].cure(PATH)}, or set system.ssh_passwords to keep"
            raise StepError(lost[0].cause(PATH), cure)

    def _file(self, off: bool) -> File:
        return File(PATH, self._text() if off else None, 0o644)

    def _text(self) -> str:
        """Return our file's text: without the setting for root where the owner's is stricter, as the first counts."""
        found = (line.value.lower() for line in dropin_sshd.lines(self.board.path(MAIN))
                 if line.keyword == "permitrootlogin" and not line.match and line.file != PATH)  # fmt: skip
        return TEXT.replace(ROOT, "") if next(found, "") in STRICT else TEXT
