"""
The one way to wait for a condition: look, pause, look again; after a bound, an error that says what was seen last.

Standard library only: the board's steps use it too.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from omega.core.errors import Failure, line

PAUSE = 0.5


class NotYet(Exception):
    """Raised by a look: not finished; the text says what was seen instead."""


class TimedOut(Failure):
    """The bound has passed. `what` was awaited for `bound` seconds, `seen` last; `error` if the last look raised it."""

    def __init__(
        self, what: str, bound: float, seen: str = "", error: BaseException | None = None, cure: str = ""
    ) -> None:
        super().__init__(f"waited {max(round(bound, 1), 0):g} s for {what}; last seen: {seen or 'nothing'}", cure)
        self.what, self.bound, self.seen, self.error = what, bound, seen, error


def transient(error: BaseException) -> bool:
    """Return whether an error says of itself that it passes (omega.core.errors.Failure.transient)."""
    return getattr(error, "transient", False)


def until(
    look: Callable[[], Any],
    bound: float,
    what: str = "its end",
    passing: Any = transient,
    pause: float = PAUSE,
    failure: Failure | Callable[[TimedOut], BaseException | None] | None = None,
    clock: Callable[[], float] | None = None,
    sleep: Callable[[float], object] | None = None,
) -> Any:
    """
    Call `look` until it returns something true; return that.

    It is called at least once; none begins after the bound, and a quick one is made at its end.

    :param look: takes nothing; returns a true value when finished, else a false one, or raises NotYet with what it saw
    :param bound: seconds
    :param what: is awaited, such as ``a leader``
    :param passing: the errors of `look` that are waited out: a class, a tuple of classes, or a function that takes the
        error and returns whether it is; other errors are raised at once
    :param pause: seconds between two looks
    :param failure: the error to raise instead of TimedOut: a Failure, to whose cause is added what was seen last, or a
        function that takes the TimedOut and returns the error
    :param clock: returns seconds, instead of time.monotonic
    :param sleep: pauses, instead of time.sleep; one that raises ends the waiting
    :raises TimedOut: `look` was not finished within `bound`
    """
    clock, sleep = clock or time.monotonic, sleep or time.sleep
    end = clock() + bound
    while True:
        seen: str = ""
        error: Exception | None = None
        try:
            result = look()
            if result:
                return result
        except NotYet as not_yet:
            seen = str(not_yet)
        except Exception as raised:
            if not (isinstance(raised, passing) if isinstance(passing, (type, tuple)) else passing(raised)):
                raise
            said = line(raised.cause, subject=raised.subject) if isinstance(raised, Failure) else str(raised)
            seen, error = said or type(raised).__name__, raised
        left = end - clock()
        if left <= 0:
            late = TimedOut(what, bound, seen, error)
            if isinstance(failure, Failure):
                failure.cause += f": {seen}" * bool(seen)
                raise failure
            raise (failure(late) if failure else None) or late
        sleep(min(pause, left))


def seeing(probe: Callable[[], tuple[Any, Any]]) -> Callable[[], Any]:
    """Return a look for `until`.

    :param probe: takes nothing; returns (result, what it saw); the result is false until it is finished
    """

    def look() -> Any:
        result, seen = probe()
        if not result:
            raise NotYet(seen)
        return result

    return look


def until_clear(
    look: Callable[[], Any], bound: float, passing: Any = transient, pause: float = PAUSE, **options: Any
) -> Any:
    """
    Call `look` until it returns something false; return that, or after `bound` seconds the problem that is left.

    :param look: takes nothing; returns the problem: its text, or the things that are not right
    :param options: and the other arguments: as of `until`
    :return: what `look` returned last, or the text of the error that it raised last, its cure included
    """
    problem = None

    def cleared() -> bool:
        nonlocal problem
        problem = look()
        return not problem

    try:
        until(cleared, bound, passing=passing, pause=pause, **options)
    except TimedOut as late:
        return str(late.error) if late.error else problem
    return problem
