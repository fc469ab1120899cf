"""Time zone."""

from __future__ import annotations

import os

from rpiomega.node import job_steps
from rpiomega.node.files import File
from rpiomega.node.step import Diff, Step, StepError

ZONES = "/usr/share/zoneinfo"
LOCALTIME = "/etc/localtime"


class Timezone(Step):
    """The time zone that the site wants."""

    name = job_steps.Timezone.step
    args: job_steps.Timezone

    def check(self) -> Diff:
        diff, wanted = Diff(), self.args.timezone
        if not wanted:
            return diff
        if not self.board.exists(f"{ZONES}/{wanted}"):
            cause = f"the board knows no time zone {wanted}"
            raise StepError(cause, "see `timedatectl list-timezones`; a minimal image may lack the package tzdata")
        now = self._now()
        if now != wanted:
            diff.add(f"time zone {now or 'unset'} -> {wanted}")
        if self.board.exists("/etc/timezone"):
            diff += File("/etc/timezone", f"{wanted}\n").diff(self.board)
        return diff

    def apply(self) -> None:
        wanted, link = self.args.timezone, self.board.path(LOCALTIME)
        if self._now() != wanted:
            temporary = f"{link}.rpiomega"
            if os.path.lexists(temporary):
                os.unlink(temporary)
            os.symlink(f"{ZONES}/{wanted}", temporary)
            os.replace(temporary, link)
        if self.board.exists("/etc/timezone"):
            File("/etc/timezone", f"{wanted}\n").apply(self.board)

    def _now(self) -> str:
        link = self.board.path(LOCALTIME)
        # Relative in Debian's own installations, absolute by timedatectl.
        return os.readlink(link).partition("zoneinfo/")[2] if os.path.islink(link) else ""
