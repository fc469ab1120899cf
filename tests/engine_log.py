"""The requests that a Docker Engine got, from its log at debug level: what shows that nothing was written."""

from __future__ import annotations

import re
from typing import NamedTuple

# Up to release 28 (moby api/server/middleware/debug.go): msg="Calling GET /v1.41/info"
# From 29 on (moby daemon/server/middleware/debug.go): msg="handling GET request" method=GET … request-url=/v1.51/info
# with the address in quotes where it has an argument. What was refused is logged once more, in other words.
_REQUEST = re.compile(
    r'(?:msg=")?Calling (?P<verb>[A-Z]+) (?P<path>[^ "\\]+)'
    r'|msg="handling (?P<later>[A-Z]+) request".*? request-url="?(?P<url>[^ "\n]+)'
)
# A request that forces something: the docker command writes force=1, the SDK force=True. What a request carries is in a
# line of its own up to release 28.
_FORCED = re.compile(
    r"(swarm/leave\?[^ ]*force=(1|true)|/nodes/[^ ]*force=(1|true)|ForceNewCluster\W{1,4}true)", re.IGNORECASE
)
# Either way as a text that a log of any release contains once a request has come.
ANY_REQUEST = ["Calling GET", "handling GET request"]


class Request(NamedTuple):
    """One request: its method, its path with the arguments, and the line it was read from."""

    verb: str
    path: str
    line: str


class NoRequests(AssertionError):
    """The log shows no request at all, so it is not at debug level or of an unknown form, and proves nothing."""


def so_far(text: str) -> list[Request]:
    """Return every request in a log, oldest first; maybe none yet."""
    matches = ((line, _REQUEST.search(line)) for line in text.splitlines())
    return [Request(one["verb"] or one["later"], one["path"] or one["url"], line) for line, one in matches if one]


def requests(text: str) -> list[Request]:
    """Return every request in a log, oldest first.

    :raises NoRequests: there is none
    """
    found = so_far(text)
    if not found:
        raise NoRequests(f"the engine's log shows no request at all, so it proves nothing: {text[-200:]!r}")
    return found


def writes(text: str) -> list[Request]:
    """Return the requests in a log that asked for a change.

    :raises NoRequests: there is no request at all
    """
    return [request for request in requests(text) if request.verb not in ("GET", "HEAD", "OPTIONS")]


def forced(text: str) -> list[str]:
    """Return the lines of a log by which a swarm, or the removal of a node, was forced.

    :raises NoRequests: there is no request at all
    """
    requests(text)
    return [line for line in text.splitlines() if _FORCED.search(line)]
