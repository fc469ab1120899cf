"""Restores a volume and kills itself (SIGKILL) at one moment: `python backup_volume_killed.py MOMENT ARGUMENTS`."""

import json
import os
import pathlib
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "_utils"))
from omega.backup import quiesce, restic, restore_volume, swap
from omega.backup.restore import Wanted
from omega.backup.settings import Places
from omega.docker import engine


def die(*_arguments, **_keywords):
    os.kill(os.getpid(), signal.SIGKILL)


def after(module, name):
    real = getattr(module, name)

    def wrapped(*arguments, **keywords):
        real(*arguments, **keywords)
        die()

    setattr(module, name, wrapped)


def during_the_restore():
    restore_volume._verify = die


def after_the_journal():
    quiesce.paused = die


def while_paused():
    swap.put = die


def before_the_exchange():
    swap.exchange = die


def after_the_exchange():
    after(swap, "exchange")


def between_two_steps():
    real, swap.exchange = os.rename, lambda one, other: False

    def rename(one, other):
        real(one, other)
        if ".before-restore-" in other and swap.STAGING not in one:
            die()

    os.rename = rename


def after_the_swap():
    after(swap, "put")


def before_the_restart():
    restore_volume._restart = die


if __name__ == "__main__":
    moment, name, repository, places = sys.argv[1:]
    globals()[moment]()
    restore_volume.restore_volume(
        restic.Repository(**json.loads(repository)),
        engine.connect(),
        name,
        Wanted(force=True),
        Places(**json.loads(places)),
    )
