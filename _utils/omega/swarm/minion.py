"""What a minion's configuration and pillar mean for the functions and states `swarm`: its engine, Consul, errors."""

import functools

from omega.consul import client
from omega.consul.client import ConsulError
from omega.swarm.api import SOCKET, Engine, SwarmError
from omega.swarm.record import Store
from omega.swarm.settings import key

ERRORS = (SwarmError, ConsulError)


def url(opts, pillar, base_url=None):
    """Return the engine's socket: the argument, minion configuration `swarm.docker_url`, or the local one."""
    return base_url or opts.get("swarm.docker_url") or pillar.get("swarm.docker_url") or SOCKET


def engine(opts, pillar, base_url=None):
    """Return the Engine of this minion; it connects at the first call."""
    return Engine(url(opts, pillar, base_url))


def store(opts, pillar, node=None):
    """Return the Store of this minion, or of `node`."""
    return Store(client.from_salt(opts, pillar), node or opts["id"])


def keyring(opts, pillar, path=None):
    """Return the Keyring of this minion: the argument, or as omega.swarm.settings.key.path_of."""
    return key.Keyring(key.path_of(opts, pillar, path))


def site(pillar):
    """Return the pillar's `rpiomega`."""
    return pillar.get("rpiomega") or {}


def salt_errors(function):
    """Return the execution function with the project's errors as Salt's, which the CLI shows without a traceback."""
    from salt.exceptions import CommandExecutionError

    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        try:
            return function(*args, **kwargs)
        except ERRORS as error:
            raise CommandExecutionError(f"{function.__globals__['__opts__']['id']}: {error}") from error

    return wrapper
