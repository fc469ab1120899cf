"""Ports and subnets for test processes that run side by side: what one has claimed no other gets."""

import contextlib
import random
import socket

_held = []


def claim(name):
    """
    Return whether nobody on this machine has `name`; this process then has it until it ends, however that happens.

    A Unix socket in the abstract namespace (unix(7)) holds it: the kernel lets one process bind it, and leaves nothing.
    """
    holder = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    try:
        holder.bind(f"\0rpiomega-tests {name}")
    except OSError:
        holder.close()
        return False
    _held.append(holder)
    return True


def free_port():
    """Return a TCP and UDP port of the loopback that nobody uses, below those that the kernel gives to clients."""
    for port in random.sample(range(20000, 32000), 12000):
        with contextlib.ExitStack() as stack, contextlib.suppress(OSError):
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                stack.enter_context(socket.socket(type=kind)).bind(("127.0.0.1", port))
            if claim(f"port {port}"):
                return port
    raise AssertionError("no port from 20000 to 31999 is free")
