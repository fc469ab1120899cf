"""Faults of the stand-in, switched on by a test or over its control address."""

from __future__ import annotations

import threading
from dataclasses import dataclass

# kind -> status, S3 code, message. `slow` delays, `cut` closes the connection in the middle of the answer.
ANSWERS = {
    "unavailable": (503, "ServiceUnavailable", "no tomes available"),
    "slow_down": (503, "SlowDown", "Please reduce your request rate"),
    "too_many": (429, "TooManyRequests", "Too many requests"),
    "capped": (403, "AccessDenied", "Cannot upload files, storage cap exceeded. See the Caps & Alerts page"),
    "skewed": (
        403,
        "RequestTimeTooSkewed",
        "The difference between the request time and the current time is too large",
    ),
    "revoked": (403, "InvalidAccessKeyId", "The key is not valid"),
    "expired": (401, "ExpiredToken", "The provided token has expired"),
}
KINDS = (*ANSWERS, "slow", "cut")


@dataclass
class Fault:
    """`times`: how many requests it hits, -1 for all; `on`: text in "METHOD /path" of those; `seconds`: of `slow`;
    `retry_after`: seconds of that header, None for none.
    """

    kind: str
    times: int = -1
    on: str = ""
    seconds: float = 1.0
    retry_after: int | None = None


class Faults:
    """The faults that are switched on."""

    def __init__(self):
        self._lock, self._on = threading.Lock(), []
        self.hits = 0

    def add(self, kind, **options):
        """Switch a fault on; options are those of `Fault`. Raise ValueError for an unknown kind."""
        if kind not in KINDS:
            raise ValueError(f"there is no fault {kind}: one of {', '.join(KINDS)}")
        with self._lock:
            self._on.append(Fault(kind, **options))

    def clear(self):
        """Switch all off."""
        with self._lock:
            self._on.clear()

    def take(self, method, path):
        """Return the fault that hits a request, or None."""
        with self._lock:
            for fault in self._on:
                if fault.times != 0 and fault.on in f"{method} {path}":
                    fault.times -= fault.times > 0
                    self.hits += 1
                    return fault
        return None
