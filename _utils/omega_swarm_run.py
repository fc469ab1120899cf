"""What all parts of a run of `swarm.member` share."""

import contextlib
import logging

from omega_consul import ConsulError
from omega_swarm_docker import SwarmError

log = logging.getLogger(__name__)

POLL = 0.5
CONTEND = 5.0  # seconds in one attempt for the lock; then the record is looked at again


class Failed(Exception):
    """A bound has passed; the text says what was waited for and what was seen last."""


@contextlib.contextmanager
def logged(what):
    """Log what fails in the block instead of raising: it is not worth the run."""
    try:
        yield
    except (SwarmError, ConsulError, OSError) as error:
        log.warning("%s: %s", what, error)
