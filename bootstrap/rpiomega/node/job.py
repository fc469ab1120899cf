"""Run a job: read it, take the board's lock, go through its steps, report each as a JSON line."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import sys
import threading
import time
import traceback

from rpiomega.node import job_steps
from rpiomega.node.board import Board
from rpiomega.node.step import Cancelled, StepError
from rpiomega.node.steps import STEPS

LOCK = "/run/rpiomega-bootstrap.lock"
LOCK_BOUND = 120.0
DEFECT = "this is a defect of rpiomega: see this node's log"

_lock = threading.Lock()
# Credentials inside a URL (a package mirror's) go to no log.
_CREDENTIALS = re.compile(r"(https?://)[^/@\s:]+:[^/@\s]+@")


def emit(event: str, **values) -> None:
    """Write one event; a broken pipe means that the workstation is gone."""
    line = _CREDENTIALS.sub(r"\1***@", json.dumps({"event": event, **values}, ensure_ascii=True))
    with _lock:
        try:
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        except OSError:
            os._exit(1)


def main() -> int:
    """Run the job given on standard input; return 0 if all steps went well, 1 otherwise."""
    os.umask(0o022)
    line, received = sys.stdin.readline(), time.monotonic()
    try:
        job = json.loads(line)
    except ValueError:
        emit("failed", step="start", cause="no job arrived", cure="run the bootstrap again")
        return 1
    cancelled = threading.Event()
    threading.Thread(target=_watch, args=(cancelled,), daemon=True).start()
    board = Board(job.get("root", "/"), log=lambda text: emit("log", text=text), cancelled=cancelled, tell=emit)
    board.shared["began"] = received
    emit("facts", **board.facts())
    try:
        with _locked(board, job):
            return _run(board, job)
    except ValueError as error:
        emit("failed", step="start", cause=f"the job is not one: {error}", cure=DEFECT)
    except StepError as error:
        emit("failed", step="start", cause=error.cause, cure=error.cure)
    except Cancelled:
        emit("cancelled", step="start")
    return 1


def _watch(cancelled: threading.Event) -> None:
    """End early once the workstation closes our standard input or the connection is lost."""
    with contextlib.suppress(OSError, ValueError):
        while sys.stdin.readline():
            pass
    cancelled.set()


@contextlib.contextmanager
def _locked(board: Board, job: dict):
    """Hold the board's lock: two bootstraps at once would undo each other's work. A dry run reads only."""
    if job.get("dry_run") or not board.live:
        yield
        return
    with open(LOCK, "a+", encoding="utf-8") as handle:

        def take():
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True, ""
            except BlockingIOError:
                handle.seek(0)
                return False, handle.read().strip() or "no word from its holder"

        board.wait("the lock of another bootstrap on this board", take, LOCK_BOUND, "wait for it to end, or kill it")
        handle.truncate(0)
        handle.write(f"process {os.getpid()} since {time.strftime('%H:%M:%S')}\n")
        handle.flush()
        yield


def _run(board: Board, job: dict) -> int:
    for args in [job_steps.read(item) for item in job["steps"]]:
        name = args.step
        step = STEPS[name](board, args)
        emit("start", step=name)
        began = time.monotonic()
        try:
            outcome = _one(step, job.get("dry_run", False))
        except StepError as error:
            emit("failed", step=name, cause=error.cause, cure=error.cure)
            return 1
        except Cancelled:
            emit("cancelled", step=name)
            return 1
        except Exception as error:  # noqa: BLE001 - a defect of a step must reach the log with its place
            emit("log", text=traceback.format_exc())
            cause = f"{type(error).__name__}: {error}"
            emit("failed", step=name, cause=cause, cure=DEFECT)
            return 1
        seconds = round(time.monotonic() - began, 2)
        emit("done", step=name, seconds=seconds, notes=step.notes, data=step.data, **outcome)
        if board.cancelled.is_set():
            emit("cancelled", step=name)
            return 1
    return 0


def _one(step, dry_run: bool) -> dict:
    diff = step.check()
    if not diff:
        return {"status": "ok", "diff": []}
    if dry_run:
        return {"status": "would change", "diff": diff.lines}
    step.apply()
    step.verify()
    return {"status": "changed", "diff": diff.lines}
