"""The way back, run as the board runs it: a program of its own beside its notes."""

import json
import os
import stat
import subprocess
import sys
from pathlib import Path

import commands
import pytest

from rpiomega.node.network import guard


@pytest.fixture
def armed(tmp_path):
    """A folder as `rollback.arm` leaves it, with three files already changed: `armed(**overrides)`."""
    etc, folder = tmp_path / "etc", tmp_path / "state"
    etc.mkdir()
    folder.mkdir()
    program = folder / "guard.py"
    # The unit's place is the system's, where a test may not go; and no address will come back here.
    text = Path(guard.__file__).read_text().replace("/etc/systemd/system", str(etc))
    program.write_text(text.replace("SETTLE = 20", "SETTLE = 1"))
    mine = {"uid": os.getuid(), "gid": os.getgid()}
    (etc / "edited").write_text("new\n")
    (etc / "added").write_text("new\n")
    (etc / "rpiomega-network-guard.service").write_text("unit\n")

    def arm(**overrides):
        pending = {
            "token": "t", "bound": 30, "interface": "lo", "target": "192.168.1.10/24", "before": ["127.0.0.1/8"],
            "files": [
                {"path": str(etc / "edited"), "text": "old \udcff\n", "mode": 0o640, **mine},
                {"path": str(etc / "added"), "text": None, "mode": 0, "uid": 0, "gid": 0},
                {"path": str(etc / "removed"), "text": "was\n", "mode": 0o600, **mine},
            ],
            "activate": [["true"]], "restore": [["touch", str(etc / "restored")]], "boot": [], "restart": [],
        } | overrides  # fmt: skip
        (folder / "pending.json").write_text(json.dumps(pending))

        def run(mode):
            subprocess.run([sys.executable, "-I", program, mode], check=True, timeout=commands.BOUND)

        return etc, folder, run

    return arm


def _went_back(etc):
    assert (etc / "edited").read_bytes() == b"old \xff\n"
    assert stat.S_IMODE((etc / "edited").stat().st_mode) == 0o640
    assert (etc / "removed").read_text() == "was\n"
    assert not (etc / "added").exists()
    assert not (etc / "rpiomega-network-guard.service").exists()


def test_it_puts_every_file_back_as_it_was(armed):
    etc, folder, run = armed()
    run("boot")
    _went_back(etc)
    assert not (folder / "pending.json").exists()
    assert "lost power" in json.loads((folder / "outcome.json").read_text())["why"]
    assert not (etc / "restored").exists()


def test_a_command_that_fails_takes_it_back_at_once_and_is_named(armed):
    etc, folder, run = armed(activate=[["sh", "-c", "echo no such device; exit 4"], ["touch", "never"]])
    run("activate")
    _went_back(etc)
    why = json.loads((folder / "outcome.json").read_text())["why"]
    assert "no such device" in why
    assert (etc / "restored").exists()


def test_a_command_that_works_changes_nothing_of_the_files(armed):
    etc, folder, run = armed()
    run("activate")
    assert (folder / "pending.json").exists() and (etc / "edited").read_text() == "new\n"


def test_what_was_confirmed_is_left_alone(armed):
    etc, folder, run = armed()
    (folder / "pending.json").unlink()
    run("rollback")
    run("boot")
    assert (etc / "edited").read_text() == "new\n" and (etc / "added").exists()


def test_a_guard_that_died_half_way_finishes_the_next_time(armed):
    etc, folder, run = armed()
    (etc / "added").unlink()
    (etc / "edited").write_bytes(b"old \xff\n")
    run("boot")
    _went_back(etc)
