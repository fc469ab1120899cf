"""One way to reach the Docker Engine of this node, and one way to say why it does not answer."""

import contextlib
import http.client
import time

SOCKET = "unix:///var/run/docker.sock"


class EngineError(Exception):
    """The engine refused or did not answer; the text says what to do next."""


class SdkError(EngineError):
    """The Docker SDK is not there to ask with, so nothing is known of the engine."""


def connect(base_url=SOCKET, timeout=60):
    """Return a Docker SDK client.

    :param base_url: the engine's socket; given always, because SDK 7.2 would follow the CLI's contexts
    :param timeout: seconds one request may take
    :raises SdkError: the SDK is missing
    :raises EngineError: no engine answers
    """
    try:
        import docker
    except ImportError as error:
        raise SdkError(
            "the Python package `docker` is missing beside Salt: run `rpiomega bootstrap` for this node"
        ) from error
    try:
        oldest = docker.constants.MINIMUM_DOCKER_API_VERSION
        client = docker.DockerClient(base_url=base_url, version=oldest, timeout=timeout)
        _speak(client.api)
    except (docker.errors.DockerException, OSError) as error:
        raise EngineError(f"no Docker Engine answers at {base_url}: see `journalctl -u docker` ({error})") from error
    return client


def _speak(api):
    """
    Use the engine's newest API version, which it names with its answer to a ping. The SDK would ask /version, for
    which the engine starts other programs (runc, docker-init).
    """
    answer = api._get(f"{api.base_url}/_ping")
    api._raise_for_status(answer)
    api._version = answer.headers.get("Api-Version") or api._retrieve_server_version()


@contextlib.contextmanager
def asking(what, cure="see `journalctl -u docker`"):
    """Raise whatever the SDK raises meanwhile as EngineError.

    :param what: begins the text, such as ``NAME cannot be pulled``
    :param cure: ends it: the next step
    :raises EngineError: the engine refused, does not answer, or its answer broke off
    """
    import docker
    import urllib3

    broken = (http.client.HTTPException, urllib3.exceptions.HTTPError, docker.errors.StreamParseError)
    try:
        yield
    except (docker.errors.DockerException, OSError, *broken) as error:
        said = " ".join(str(getattr(error, "explanation", None) or error).split())
        raise EngineError(f"{what}: {said}; {cure}") from error


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
