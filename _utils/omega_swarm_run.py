"""What the runs of the swarm's states share."""

import contextlib
import logging
import time

from omega_consul import ConsulError
from omega_swarm_docker import SwarmError

log = logging.getLogger(__name__)

POLL = 0.5
CONTEND = 5.0  # seconds in one attempt for the lock; then the record is looked at again


class Failed(Exception):
    """A bound has passed; the text says what was waited for and what was seen last."""


def not_there_yet(error):
    """Return "Docker" or "Consul" if that does not run here, else "". Under test=True other states may yet bring it."""
    return {"no_daemon": "Docker", "unreachable": "Consul"}.get(error.kind, "")


def wait(look, bound, engine):
    """
    Call `look` until it returns nothing; return "", or after `bound` seconds what it said last. An engine that restarts
    and a swarm that elects its leader are waited for, too.

    :param engine: omega_swarm_docker.Engine that `look` asks
    """
    end = time.monotonic() + bound
    while True:
        try:
            last = look()
        except SwarmError as error:
            if not error.transient:
                raise
            last = str(error)
            engine.close()
        if not last or time.monotonic() > end:
            return last or ""
        time.sleep(POLL)


@contextlib.contextmanager
def logged(what):
    """Log what fails in the block instead of raising: it is not worth the run."""
    try:
        yield
    except (SwarmError, ConsulError, OSError) as error:
        log.warning("%s: %s", what, error)
