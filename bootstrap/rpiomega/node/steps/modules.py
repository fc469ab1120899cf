"""Kernel modules a swarm's overlay networks need, now and after each boot."""

from __future__ import annotations

import os

from rpiomega.node import job_steps
from rpiomega.node.files import File
from rpiomega.node.step import Diff, Step, StepError

MODULES = ("vxlan",)
PATH = "/etc/modules-load.d/rpiomega.conf"


class Modules(Step):
    """The modules, loaded now and at each boot."""

    name = job_steps.Modules.step
    args: job_steps.Modules

    def check(self) -> Diff:
        diff = self._file().diff(self.board)
        for module in self._missing():
            diff.add(f"load the kernel module {module}")
        return diff

    def apply(self) -> None:
        for module in self._missing():
            tried = self.board.shell.run(["modprobe", module], timeout=15)
            if tried.code:
                cure = "sudo apt-get install linux-modules-extra-raspi (Ubuntu), or boot the kernel of the image"
                raise StepError(f"the kernel module {module} cannot be loaded: {tried.last}", cure)
        self._file().apply(self.board)

    def _missing(self) -> list[str]:
        """Return modules that are not in the running kernel; one built in has a folder as well."""
        return [name for name in MODULES if not os.path.isdir(self.board.path(f"/sys/module/{name}"))]

    def _file(self) -> File:
        return File(PATH, "# Written by rpiomega.\n" + "".join(f"{name}\n" for name in MODULES))
