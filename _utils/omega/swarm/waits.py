"""What the runs of the swarm's states share."""

import contextlib
import logging

from omega.consul.client import ConsulError
from omega.core.errors import Failure
from omega.core.polling import NotYet, until, until_clear
from omega.swarm.api import SwarmError, describe

log = logging.getLogger(__name__)

POLL = 0.5
PATIENCE = 30.0  # seconds for an engine that restarts and a swarm that elects its leader
CONTEND = 5.0  # seconds in one attempt for the lock; then the record is looked at again


class Failed(Failure):
    """A bound has passed; the text says what was waited for and what was seen last."""


def not_there_yet(error):
    """Return "Docker" or "Consul" if that does not run here, else "". Under test=True other states may yet bring it."""
    return {"no_daemon": "Docker", "unreachable": "Consul"}.get(error.kind, "")


def retried(act, engine, test=False):
    """
    Return `act()`, called again while the engine restarts or the swarm elects its leader; with `test`, where other
    states may yet bring Docker, an engine that is not there is not waited for.

    :param engine: omega.swarm.api.Engine that `act` asks
    :raises SwarmError: what waiting does not repair; what has not been repaired after PATIENCE seconds
    """

    def passing(error):
        if not isinstance(error, SwarmError) or test and not_there_yet(error):
            return False
        return error.transient and error.kind != "conflict"  # then what is written has been read again often enough

    # In a tuple: whatever it returns is a result.
    return until(closing(lambda: (act(),), engine), PATIENCE, passing=passing, failure=lambda late: late.error)[0]


def wait(look, bound, engine):
    """
    Call `look` until it returns nothing; return "", or after `bound` seconds the problem it returned last. An engine
    that restarts and a swarm that elects its leader are waited for, too.

    :param engine: omega.swarm.api.Engine that `look` asks
    """
    return until_clear(closing(look, engine), bound) or ""


def until_led(engine, bound, what, error):
    """
    Return the Local of this manager once its engine has a leader and knows the ClusterID.

    :param what: has been done before, for the error's text
    :param error: takes that text, returns the error to raise after `bound` seconds
    """

    def led():
        local = engine.local()
        if not local.control or not local.cluster_id or local.leaderless:
            raise NotYet(describe(local))
        return local

    def failure(late):
        return error(f"after {what}: {late.seen} ({late.bound:g} s have passed)")

    return until(led, bound, passing=(), failure=failure)


def closing(look, engine):
    """Return `look`, which asks `engine`, so that after an error the next look makes a new connection."""

    def looked():
        try:
            return look()
        except SwarmError:
            engine.close()
            raise

    return looked


@contextlib.contextmanager
def logged(what):
    """Log what fails in the block instead of raising: it is not worth the run."""
    try:
        yield
    except (SwarmError, ConsulError, OSError) as error:
        log.warning("%s: %s", what, error)
