"""All facts of a board, read side by side, so that one slow answer (DNS, a mirror) holds up no other."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from rpiomega.node import backup
from rpiomega.node.board import Board
from rpiomega.node.doctor import boot, engine, identity, kernel, leftovers, reach, storage
from rpiomega.node.step import StepError

READERS = {
    "identity": identity.read,
    "boot": boot.read,
    "power": boot.power,
    "storage": storage.read,
    "latency": storage.latency,
    "clock": reach.clock,
    "sources": reach.sources,
    "kernel": kernel.read,
    "docker": engine.read,
    "leftovers": leftovers.read,
    "backup": backup.read,
}


def facts(board: Board, args: dict) -> dict:
    """Return name -> what each reader found; a reader that fails gives ``{"error": "..."}``."""
    with ThreadPoolExecutor(max_workers=len(READERS)) as pool:
        found = {name: pool.submit(_one, reader, board, args) for name, reader in READERS.items()}
        result: dict[str, dict | float] = {name: future.result() for name, future in found.items()}
    # Last, right before it is sent: the workstation compares it with its own clock as it arrives.
    result["now"] = time.time()
    return result


def _one(reader: Callable, board: Board, args: dict) -> dict:
    began = time.monotonic()
    try:
        found = reader(board, args)
    except (OSError, ValueError, StepError) as error:
        found = {"error": f"{type(error).__name__}: {error}"}
    found["seconds"] = round(time.monotonic() - began, 2)
    return found
