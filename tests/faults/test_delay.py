"""Packets are held back for as long as was asked: real ones, on the loopback of a network namespace of its own."""

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
QUEUE, MEAN, JITTER, QUIET = 7, 0.4, 0.1, 0.8
START = f"""
ip link set lo up && iptables -w -I INPUT -i lo -p udp -j NFQUEUE --queue-num {QUEUE} || exit 77
exec {sys.executable} {HERE / "delay.py"} {QUEUE} {MEAN} {JITTER}"""
# Sends to itself one packet at a time, each after a time in which nothing was sent; prints how long each took.
SEND = f"""
import socket, time
link = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
link.bind(("127.0.0.1", 0))
link.settimeout(5)
for number in range(4):
    time.sleep({QUIET})
    began = time.monotonic()
    link.sendto(b"x", link.getsockname())
    try:
        link.recv(10)
        print(time.monotonic() - began, flush=True)
    except TimeoutError:
        print("lost", flush=True)
        break
"""


@contextlib.contextmanager
def delayed(loss):
    """Yield a function that runs Python where UDP packets are held back and `loss` of them are dropped."""
    command = ["unshare", "--net", "sh", "-c", f"{START} {loss} 60"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            if process.stdout.readline() != "ready\n":
                why = process.stderr.read()
                if process.wait() == 77:
                    pytest.skip(f"no network namespace or no NFQUEUE here: {why.strip()}")
                raise AssertionError(why)
            enter = ["nsenter", f"--net=/proc/{process.pid}/ns/net", sys.executable, "-c"]
            yield lambda code: subprocess.run(
                [*enter, code], capture_output=True, text=True, timeout=60, check=True
            ).stdout.split()
        finally:
            process.kill()


pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="a network namespace with iptables needs root")


def test_a_packet_on_a_quiet_link_is_held_back_as_long_as_was_asked():
    with delayed(loss=0) as run:
        took = [float(word) for word in run(SEND)]
    assert len(took) == 4
    assert min(took) >= MEAN - JITTER, took


def test_a_lost_packet_does_not_arrive():
    with delayed(loss=1) as run:
        assert run(SEND) == ["lost"]
