"""A board whose card was rewritten, with a real master: its old key is deleted there, and it is heard again."""

import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import claims
import pytest

from rpiomega.node.board import Board
from rpiomega.node.steps.minion import Minion

BIN = pathlib.Path(sys.executable).parent
BOUND = 60


@pytest.fixture
def salt():
    """`salt(name, configuration)` starts a daemon of Salt; it gives its folder, short because of sockets."""
    folders, running = [], []

    def start(name, configuration):
        folder = pathlib.Path(tempfile.mkdtemp(prefix="rpo-"))
        folders.append(folder)
        (folder / name).write_text(f"root_dir: {folder}\nuser: root\n{configuration}")
        log = (folder / "log").open("w")
        command = [BIN / f"salt-{name}", "-c", folder]
        running.append(subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True))
        return folder

    yield start
    for process in reversed(running):
        process.terminate()
        process.wait(60)
    for folder in folders:
        shutil.rmtree(folder, ignore_errors=True)


def wait_for(path, where):
    deadline = time.monotonic() + BOUND
    while not path.exists():
        log = (where / "log").read_text()
        assert time.monotonic() < deadline, f"no {path.parent.name}/{path.name} within {BOUND} s; {where.name}: {log}"
        time.sleep(0.2)


@pytest.mark.long
def test_a_board_with_a_new_key_is_heard_as_soon_as_the_old_one_is_deleted(salt):
    publish, answer = claims.free_port(), claims.free_port()
    ports = f"interface: 127.0.0.1\nworker_threads: 1\npublish_port: {publish}\nret_port: {answer}\n"
    master = salt("master", ports)
    keys = master / "etc/salt/pki/master"
    wait_for(keys / "master.pub", master)
    old = keys / "minions/pi1"
    old.parent.mkdir(exist_ok=True)
    shutil.copy(keys / "master.pub", old)  # any key but the board's
    step = Minion(Board("/nowhere"), {"id": "pi1", "master": "127.0.0.1", "kind": "onedir"})
    (written,) = step._files()
    lines = [line for line in written.text.splitlines() if not line.startswith("master_finger")]
    minion = salt("minion", "\n".join(lines) + f"\nmaster_port: {answer}\npublish_port: {publish}\n")
    wait_for(keys / "minions_denied/pi1", minion)
    old.unlink()
    (keys / "minions_denied/pi1").unlink()
    wait_for(keys / "minions_pre/pi1", minion)
