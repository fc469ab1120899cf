"""What is reported of a board that does not come back, by a real SSH server: after a reboot, after a new address."""

import threading
import time

import pytest

from rpiomega import move
from rpiomega.errors import NodeError, Stopped
from rpiomega.node import job_steps
from rpiomega.reboot import identity, wait_back

HERE = "127.0.0.1"
MOVE = job_steps.Network(address="192.0.2.7", prefix=24, gateway="192.0.2.1")
PENDING = {"pending": "0123", "interface": "lo"}
ERROR = NodeError("no route", "check")


@pytest.fixture
def remote(sshd, pool):
    """A machine that can be logged in to once the server is started."""
    return pool(sshd.settings()).remote([HERE])


def undone(remote, bound=2.0):
    """Return the error about a new address that was not confirmed."""
    remote.at = HERE
    return move._undone(remote, MOVE, PENDING, ERROR, time.monotonic() + bound, lambda event: None)


def test_a_board_in_its_new_boot_is_back(sshd, remote):
    sshd.start()
    wait_back(remote, b"the boot of before", 30)


def test_a_board_that_does_not_reboot_is_named_after_the_bound(sshd, remote):
    sshd.start()
    remote.connect(0)
    with pytest.raises(NodeError, match="^not back 1 s after its reboot: still the boot of before; look at its screen"):
        wait_back(remote, identity(remote), 1)


def test_a_board_that_stays_silent_is_named_with_the_last_thing_seen(remote):
    with pytest.raises(NodeError, match="^not back 1 s after its reboot: 127.0.0.1 is up, but no SSH server") as caught:
        wait_back(remote, b"", 1)
    assert caught.value.step == "reboot"


def test_whatever_else_ssh_says_is_waited_out_after_a_reboot(sshd, remote):
    sshd.start()
    with pytest.raises(NodeError, match="^not back 1 s after its reboot: no host key of 127.0.0.1 is known"):
        wait_back(remote.moved(HERE), b"", 1)


def test_the_wait_for_a_reboot_ends_when_the_user_stops_it(remote):
    threading.Timer(1, remote.pool.cancel).start()
    with pytest.raises(Stopped):
        wait_back(remote, b"", 60)


def test_a_board_at_neither_address_is_reported_with_both_reasons(remote):
    error = undone(remote)
    assert error.cause.startswith("it answers neither at 192.0.2.7 (no route) nor at 127.0.0.1 (127.0.0.1 is up, but")
    assert "switch the board off and on" in error.cure


def test_a_board_that_has_not_gone_back_is_not_called_silent(sshd, remote):
    sshd.start()
    remote.connect(0)
    error = undone(remote)
    assert error.cause == "192.0.2.7 not confirmed (no route); the board answers at 127.0.0.1, and has not gone back"


def test_the_reason_stays_when_the_user_stops_the_wait_for_the_old_address(remote):
    threading.Timer(1, remote.pool.cancel).start()
    assert undone(remote, 60) is ERROR
