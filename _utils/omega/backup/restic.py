"""restic on this node: runs it, reads its JSON, raises `ResticError`. No secret is in argv or in the environment."""

from __future__ import annotations

import ctypes
import json
import os
import re
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import IO, Any

from omega.backup.restic_errors import Patience, ResticError, judge, late

FOLDER = "/etc/rpiomega/backup"
OLDEST = (0, 17, 0)  # --stdin-from-command and the exit codes 10 to 12 came with 0.17

# Measured with 922 MB in 8,153 files: 94 MB of memory instead of 168 MB.
_ENVIRONMENT = {"GOGC": "20", "GOMAXPROCS": "1", "RESTIC_PROGRESS_FPS": "2", "LC_ALL": "C.UTF-8"}
_OPTIONS = ("-o", "s3.connections=2", "--pack-size", "8", "--retry-lock", "30m", "--json")
_INSTALL = "set `backup.restic.source: vendor` in the site file, and apply the state `backup`"
_LIBC = ctypes.CDLL(None)  # loaded before any fork: in the child of a process with threads nothing may take a lock
_PR_SET_PDEATHSIG = 1  # prctl(2)
_KEPT_LINES = 200
PATIENCE = Patience  # makes the bound of what one restic tries again; tests have less
_GRACE = 20  # seconds that restic has for the removal of its lock


@dataclass(frozen=True)
class Repository:
    """Where a repository is, and the files that have its secrets."""

    url: str
    password_file: str
    aws_file: str = ""
    region: str = ""
    cache: str = "/var/cache/rpiomega/restic"
    program: str = "restic"


def own(folder: str | None = None) -> Repository:
    """Return this node's repository.

    :param folder: has `repository`, `password`, `aws` and `settings.json`; None: FOLDER
    :raises ResticError: bad_request: a file is missing or cannot be read
    """
    where = folder or FOLDER
    url = _read(os.path.join(where, "repository")).strip()
    settings = json.loads(_read(os.path.join(where, "settings.json"), "{}") or "{}")
    aws = os.path.join(where, "aws")
    return Repository(
        url=url,
        password_file=os.path.join(where, "password"),
        aws_file=aws if os.path.exists(aws) else "",
        region=str(settings.get("region") or ""),
    )


def run(
    repository: Repository,
    arguments: Sequence[str],
    on_event: Callable[[dict], Any] | None = None,
    stdin_file: str | IO | None = None,
    seconds: float | None = None,
) -> list[dict]:
    """Run restic on a repository; return the JSON objects it printed, without the status lines.

    What the store refuses again and again ends restic after the bound that `Patience` gives.

    A line that is no JSON becomes ``{"text": line}``.

    :param arguments: the command and its own options, such as ``["backup", "/home"]``
    :param on_event: takes each status line, at most two a second
    :param stdin_file: a path or an open file that restic reads as its standard input
    :param seconds: the bound; None: no bound
    :raises ResticError: by exit code and message; its `events` has what restic printed
    """
    environment = _environment(repository)
    with ExitStack() as stack:
        if isinstance(stdin_file, str):
            stdin_file = stack.enter_context(open(stdin_file, "rb"))
        try:
            process = subprocess.Popen(
                [repository.program, *_OPTIONS, *arguments],
                stdin=stdin_file or subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=environment,
                text=True,
                errors="replace",
                preexec_fn=_end_with_parent,
            )
        except OSError as error:
            raise _not_started(repository.program, error) from None
        return _follow(process, on_event, seconds)


def version(program: str = "restic") -> tuple[int, int, int]:
    """Return restic's version.

    :raises ResticError: missing: there is no such program; version: it is older than OLDEST or says nothing
    """
    try:
        done = subprocess.run([program, "version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _not_started(program, error) from None
    found = re.search(r"restic (\d+)\.(\d+)\.(\d+)", done.stdout)
    if not found:
        raise ResticError("version", f"`{program} version` prints no version", _INSTALL)
    numbers = (int(found[1]), int(found[2]), int(found[3]))
    if numbers < OLDEST:
        have, need = (".".join(map(str, item)) for item in (numbers, OLDEST))
        raise ResticError("version", f"restic {have} is too old, {need} or newer is needed", _INSTALL)
    return numbers


def snapshots(repository: Repository, tags: Iterable[str] = (), latest: int = 0) -> list[dict]:
    """Return snapshots as `restic snapshots --json` does, oldest first.

    :param tags: those that a snapshot must have, all of them
    :param latest: at most this many of each host and set of paths; 0: all
    """
    wanted = list(tags)
    options = ["--tag", ",".join(wanted)] if wanted else []
    options += ["--latest", str(latest)] if latest else []
    found = [item for item in run(repository, ["snapshots", *options]) if "time" in item]
    return sorted(found, key=lambda item: str(item["time"]))


def unlock(repository: Repository) -> None:
    """Remove the locks of processes that have ended. restic itself waits for them, and then fails.

    It knows them by their process on the same host, else by their age (30 minutes without a sign of life).

    :raises ResticError: as `run`
    """
    run(repository, ["unlock"], seconds=300)


def _end_with_parent() -> None:
    """In the child: end when the parent does. A restic that outlived it would go on while containers write again.

    At SIGINT restic makes no snapshot and removes its lock (its manual, exit code 130).
    """
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGINT)


def _not_started(program: str, error: Exception) -> ResticError:
    if isinstance(error, FileNotFoundError):
        return ResticError("missing", f"there is no program {program}", "apply the state `backup` on this node")
    return ResticError("missing", f"{program} cannot be started ({error})", "apply the state `backup` on this node")


def _read(path: str, default: str | None = None) -> str:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        if default is not None:
            return default
        raise ResticError(
            "bad_request", f"there is no file {path}: this node has no backups set up", "apply the state `backup`"
        ) from None
    except OSError as error:
        raise ResticError("bad_request", f"{path} cannot be read ({error.strerror})", f"see `ls -l {path}`") from None


def _environment(repository: Repository) -> dict[str, str]:
    for path in filter(None, (repository.password_file, repository.aws_file)):
        _read(path)  # restic's own message would not say what to do
    # Nothing else of ours: a variable of the caller could hold another repository or a secret.
    own = {key: os.environ[key] for key in ("HOME", "PATH", "TMPDIR", "SSL_CERT_FILE") if key in os.environ}
    own.update(_ENVIRONMENT, RESTIC_REPOSITORY=repository.url, RESTIC_PASSWORD_FILE=repository.password_file)
    own["RESTIC_CACHE_DIR"] = repository.cache
    if repository.aws_file:
        own["AWS_SHARED_CREDENTIALS_FILE"] = repository.aws_file
    if repository.region:
        own["AWS_DEFAULT_REGION"] = repository.region
    return own


def _follow(process: subprocess.Popen, on_event: Callable[[dict], Any] | None, seconds: float | None) -> list[dict]:
    """Read both streams until the process ends; return its events or raise its failure."""
    lines: list[str] = []
    errors: list[dict] = []
    events: list[dict] = []
    given_up: list[ResticError] = []
    reader = threading.Thread(target=_read_errors, args=(process, lines, errors, given_up), daemon=True)
    reader.start()
    expired = threading.Event()
    timer = threading.Timer(seconds, _expire, (process, expired)) if seconds else None
    if timer:
        timer.daemon = True
        timer.start()
    try:
        _read_events(process.stdout, events, on_event)
        code = process.wait()
    except BaseException:
        _end(process)
        raise
    finally:
        if timer:
            timer.cancel()
        reader.join(_GRACE)
    if code and given_up:
        problem: ResticError | None = given_up[0]
    else:
        problem = late(seconds or 0, lines) if expired.is_set() and code else judge(code, lines, [*events, *errors])
    if problem:
        problem.events = [*events, *errors]
        raise problem
    return events


def _read_events(stream: Any, events: list[dict], on_event: Callable[[dict], Any] | None) -> None:
    unread: list[str] = []
    for line in stream:
        found = _objects(line)
        if found is None:
            unread.append(line)  # `restic cat config` prints one object on several lines
            continue
        for event in found:
            if event.get("message_type") != "status":
                events.append(event)
            elif on_event:
                on_event(event)
    whole = _objects("".join(unread)) if unread else None
    events += whole if whole is not None else [{"text": line.rstrip("\n")} for line in unread if line.strip()]


def _read_errors(process: subprocess.Popen, lines: list[str], errors: list[dict], given_up: list[ResticError]) -> None:
    patience = PATIENCE()
    for line in process.stderr or ():
        problem = None if given_up else patience.over(line.strip(), time.monotonic())
        if problem:
            given_up.append(problem)
            threading.Thread(target=_end, args=(process,), daemon=True).start()
        found = _objects(line)
        if found:
            errors += found
        elif line.strip():
            lines.append(line.strip())
        del lines[:-_KEPT_LINES], errors[:-_KEPT_LINES]


def _objects(text: str) -> list[dict] | None:
    """Return the objects of a JSON text, [] for `null`; None if it is no JSON of objects."""
    try:
        value = json.loads(text)
    except ValueError:
        return None
    if value is None:
        return []
    found = value if isinstance(value, list) else [value]
    return found if all(isinstance(item, dict) for item in found) else None


def _expire(process: subprocess.Popen, expired: threading.Event) -> None:
    expired.set()
    _end(process)


def _end(process: subprocess.Popen) -> None:
    """Interrupt restic, which then removes its lock; kill it if it does not end."""
    if process.poll() is not None:
        return
    process.send_signal(signal.SIGINT)
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
