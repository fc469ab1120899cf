"""What an end of restic means: its exit code and the lines it printed, as one kind with a cause and a next step. Pure.

Exit codes: restic's manual, chapter "Scripting" (restic.readthedocs.io): 3 some source unreadable, 10 no repository,
11 locked, 12 wrong password, 130 interrupted; an unknown code is a failure. The messages of the object store are those
of the S3 client library, which restic prints as they are.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field

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
        r"AccessDenied|Access Denied|not entitled|InvalidAccessKeyId|SignatureDoesNotMatch"
        r"|[Uu]nauthorized|[Ff]orbidden|token has expired"
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

# What the store refuses says nothing about what is in the repository, whatever restic makes of it.
_REFUSALS = ("capped", "clock", "denied", "busy", "unreachable")

_CURES = {
    "no_repository": "run `salt-call state.apply backup` on the master, which makes the repository of each node",
    "locked": "another run of restic works with this repository; the lock of a dead one ends after 30 minutes",
    "wrong_password": "the repository was made with another password: see /etc/rpiomega/secrets/backup on the master",
    # The store's answer to a question about one file has no text: a wrong clock looks like a wrong key.
    "denied": "see `timedatectl` whether this node's clock is right; if it is, its key was deleted or is of another "
    "bucket: run `rpiomega backup init` again on the workstation",
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
    text = " ".join([cause, *said])
    refused = kind_of(text, _REFUSALS) if code == 10 else ""
    kind = refused or _CODES.get(code) or kind_of(text) or "bad_request"
    if kind == "dump_failed":
        cause = _dump_cause(lines, cause)
    return ResticError(kind, cause, _CURES.get(kind, ""))


def kind_of(message: str, kinds: Collection[str] = ()) -> str:
    """Return the kind that a message of restic or of the store means, or ""; `kinds`: only one of these."""
    # A bucket may be called timeout-403.
    text = re.sub(r"(s3:)?https?://[^\s\"']+", "URL", re.sub(r"(following location\?)\s*\S+", r"\1", message))
    return next((kind for kind, word in _MESSAGES if (not kinds or kind in kinds) and re.search(word, text)), "")


@dataclass
class Patience:
    """
    How long restic tries one thing again and again; by itself it goes on for a quarter of an hour.

    :param refused: seconds after which a refusal, which no waiting ends, is the result
    :param other: seconds for a store that asks for fewer requests or does not answer
    """

    refused: float = 30.0
    other: float = 300.0
    _since: dict[str, tuple[float, float]] = field(default_factory=dict)

    def over(self, line: str, now: float) -> ResticError | None:
        """Take a line that restic printed at `now` (seconds); return the failure if it has tried for too long."""
        match = re.match(r"(.+?) returned error, retrying after ([\d.hmsµnu]+): (.*)", line)
        if not match:
            return None
        what, delay, why = match[1], _seconds(match[2]), _clean(match[3])
        since, until = self._since.get(what, (now, now))
        since = since if now <= until else now  # it had worked meanwhile, which restic does not always print
        self._since[what] = (since, now + delay + _SLACK)
        kind = kind_of(why) or "bad_request"
        if now - since < (self.refused if kind in ("denied", "capped", "clock") else self.other):
            return None
        return ResticError(kind, f"{what} failed again and again for {now - since:.0f} s: {why}", _CURES.get(kind, ""))


_SLACK = 90.0  # seconds that one try of restic may take


def _seconds(duration: str) -> float:
    """Return the seconds of a duration as Go prints it: 1m2.5s, 947.68722ms."""
    units = {"h": 3600, "m": 60, "s": 1, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9}
    parts = re.findall(r"([\d.]+)(ms|us|µs|ns|h|m|s)", duration)
    return float(sum(float(number) * units[unit] for number, unit in parts))


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
