"""What an end of restic means: its exit code and the lines it printed, as one kind with a cause and a next step. Pure.

Exit codes: restic's manual, chapter "Scripting" (restic.readthedocs.io): 3 some source unreadable, 10 no repository,
11 locked, 12 wrong password, 130 interrupted; an unknown code is a failure. The messages of the object store are those
of the S3 client library, which restic prints as they are.
"""

from __future__ import annotations

import re

from omega.core.errors import KindOfFailure


class ResticError(KindOfFailure):
    """
    restic failed. `kind` is one of: missing, version, no_repository, locked, wrong_password, denied, unreachable, busy,
    capped, clock, no_space, unreadable, missing_path, dump_failed, damaged, killed, bad_request.

    `events` has what restic printed before (a summary with a `snapshot_id` if it made an incomplete snapshot).
    """

    TRANSIENT = frozenset({"locked", "unreachable", "busy"})

    def __init__(self, kind: str, cause: str, cure: str = "", subject: str = "") -> None:
        super().__init__(kind, cause, cure, subject)
        self.events: list[dict] = []


_CODES = {10: "no_repository", 11: "locked", 12: "wrong_password", 130: "killed"}

# The first that matches names the kind: a cap and a wrong clock are reported by the store as refusals, too.
_MESSAGES = (
    ("dump_failed", r"command failed: |failed to start command"),
    ("no_space", r"no space left on device|disk quota exceeded"),
    ("capped", r"cap[ _]exceeded|usage cap"),
    ("clock", r"RequestTimeTooSkewed|request time and the|not yet valid|clock skew"),
    ("wrong_password", r"wrong password or no key found"),
    ("no_repository", r"repository does not exist"),
    ("locked", r"repository is already locked|unable to create lock"),
    (
        "denied",
        r"AccessDenied|Access Denied|not entitled|InvalidAccessKeyId|SignatureDoesNotMatch|unauthorized|[Ff]orbidden"
        r"|\b40[13]\b|no credentials found|access key .*(invalid|not valid|does not exist)|permission denied",
    ),
    ("busy", r"SlowDown|ServiceUnavailable|InternalError|reduce your request rate|[Tt]oo [Mm]any|\b(429|500|503)\b"),
    (
        "unreachable",
        r"connection refused|no such host|name resolution|server misbehaving|network is unreachable|no route to host"
        r"|timeout|deadline exceeded|connection reset|unexpected EOF|x509|tls: ",
    ),
    (
        "damaged",
        r"contains errors|ciphertext verification|invalid data returned|not found in (the )?(index|repository)"
        r"|damaged|does not match|checksum|no matching ID|unable to load|broken",
    ),
    # restic asks this after every error of the store, too.
    ("no_repository", r"Is there a repository at"),
)

_CURES = {
    "no_repository": "run `salt-call state.apply backup` on the master, which makes the repository of each node",
    "locked": "another run of restic works with this repository; the lock of a dead one ends after 30 minutes",
    "wrong_password": "the repository was made with another password: see /etc/rpiomega/secrets/backup on the master",
    "denied": "the key was deleted or is not for this bucket: run `rpiomega backup init` again on the workstation",
    "unreachable": "check this node's network and name servers; the next run tries again",
    "busy": "the store asks for fewer requests; the next run tries again",
    "capped": "raise the cap of the account on its web page (Caps and Alerts)",
    "clock": "this node's clock is wrong: see `timedatectl`",
    "no_space": "see `df -h` where the repository and /var/cache/rpiomega are",
    "damaged": "run `restic check` for this repository, and keep its data until it is understood",
    "killed": "see `journalctl -u rpiomega-backup` and `dmesg` (a lack of memory?)",
}


def judge(code: int, lines: list[str], events: list[dict]) -> ResticError | None:
    """
    Return why restic failed, or None if it did not.

    :param code: its exit code; negative: the signal that ended it
    :param lines: what it printed on stderr
    :param events: the JSON objects it printed on either stream
    """
    absent = _absent(lines, events)
    if absent:
        return ResticError("missing_path", f"no such path: {_some(absent)}", "correct `backup.paths` in the site file")
    if code == 0:
        return None
    said = [*lines, *(text for text in map(_text, events) if text)]
    cause = _cause(said, events, code)
    if code < 0:
        return ResticError("killed", f"restic was ended by signal {-code}", _CURES["killed"])
    if code == 3:
        items = [str(event.get("item", "")) for event in events if event.get("message_type") == "error"]
        failed = _some([item for item in items if item]) or cause
        return ResticError("unreadable", f"cannot be read: {failed}", "see `ls -l` and `dmesg` for it")
    kind = _CODES.get(code) or kind_of(" ".join([cause, *said])) or "bad_request"
    if kind == "dump_failed":
        cause = _dump_cause(lines, cause)
    return ResticError(kind, cause, _CURES.get(kind, ""))


def kind_of(message: str) -> str:
    """Return the kind that a message of restic or of the store means, or ""."""
    return next((kind for kind, pattern in _MESSAGES if re.search(pattern, message)), "")


def late(seconds: float, lines: list[str]) -> ResticError:
    """Return the error of a restic that had not ended after `seconds`; what it was retrying names the kind."""
    said = [line for line in lines if "signal interrupt" not in line]
    kind = kind_of(" ".join(said[-3:])) or "killed"
    seen = f"; last: {_clean(said[-1])}" if said else ""
    return ResticError(kind, f"restic had not ended after {seconds:g} s{seen}", _CURES.get(kind, ""))


def _absent(lines: list[str], events: list[dict]) -> list[str]:
    """Return the paths that restic skipped because they do not exist (exit code 0 until 0.18, 3 since 0.19)."""
    found = [match[1] for match in (re.match(r"(.+) does not exist, skipping", line) for line in lines) if match]
    for event in events:
        match = (
            re.match(r"(.+) does not exist, skipping", _text(event)) if event.get("message_type") == "error" else None
        )
        if match:
            found.append(match[1])
    return list(dict.fromkeys(found))


def _text(event: dict) -> str:
    error = event.get("error")
    message = error.get("message") if isinstance(error, dict) else error
    return str(event.get("message") or message or "")


def _cause(said: list[str], events: list[dict], code: int) -> str:
    final = [_text(event) for event in events if event.get("message_type") == "exit_error"]
    return _clean((final or said or [f"restic ended with exit code {code}"])[-1])


def _dump_cause(lines: list[str], cause: str) -> str:
    """Return the last line of the command's own stderr with its exit code: `subprocess sh: no such table`."""
    own = [line.partition(": ")[2] for line in lines if line.startswith("subprocess ")]
    ended = re.search(r"(exit status \d+|signal: \w+|failed to start command.*)", cause)
    return "the dump command failed" + (f" ({ended[1]})" if ended else "") + (f": {_clean(own[-1])}" if own else "")


def _clean(message: str) -> str:
    return " ".join(re.sub(r"^(Fatal: |error: )+", "", message.strip()).split())[:400]


def _some(names: list[str]) -> str:
    more = len(names) - 3
    return ", ".join(names[:3]) + (f" and {more} more" if more > 0 else "")
