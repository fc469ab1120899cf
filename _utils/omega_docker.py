"""One way to reach the Docker Engine of this node, and one way to say why it does not answer."""

import time

SOCKET = "unix:///var/run/docker.sock"


class EngineError(Exception):
    """The engine refused or did not answer; the text says what to do next."""


def connect(base_url=SOCKET, timeout=60):
    """Return a Docker SDK client.

    :param base_url: the engine's socket; given always, because SDK 7.2 would follow the CLI's contexts
    :param timeout: seconds one request may take
    :raises EngineError: the SDK is missing, or no engine answers
    """
    try:
        import docker
    except ImportError as error:
        raise EngineError(
            "the Python package `docker` is missing beside Salt: run `rpiomega bootstrap` for this node"
        ) from error
    try:
        client = docker.DockerClient(base_url=base_url, timeout=timeout)
        client.ping()
    except (docker.errors.DockerException, OSError) as error:
        raise EngineError(f"no Docker Engine answers at {base_url}: see `journalctl -u docker` ({error})") from error
    return client


def wait(look, bound):
    """Call `look` until it returns None; return None, or after `bound` seconds what it said last.

    An engine that does not answer yet is something to wait for, too.
    """
    end = time.monotonic() + bound
    while True:
        try:
            last = look()
        except EngineError as error:
            last = str(error)
        if last is None or time.monotonic() >= end:
            return last
        time.sleep(0.25)
