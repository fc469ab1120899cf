"""One way to reach the Docker Engine of this node, and one way to say why it does not answer."""

import contextlib
import http.client
import json
import socket

from omega.core.errors import Failure
from omega.core.polling import until_clear

SOCKET = "unix:///var/run/docker.sock"


class EngineError(Failure):
    """The engine refused or did not answer; the text says what to do next."""


class AbsentError(EngineError):
    """No engine answers, so it cannot be asked, and nothing runs that could be disturbed."""


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


class LocalConnection(http.client.HTTPConnection):
    """An HTTP connection to a Unix socket."""

    def __init__(self, path, timeout):
        super().__init__("localhost", timeout=timeout)
        self.path = path

    def connect(self):
        """Connect, as the standard library would to a host."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


def info(base_url=SOCKET, timeout=60):
    """Return what the engine says of itself (GET /info, docs.docker.com/reference/api/engine).

    It needs no SDK: on a board that salt-ssh sets up there is none, and the engine is put there all the same.

    :param base_url: the engine's Unix socket
    :param timeout: seconds for each of the two requests
    :return: mapping
    :raises AbsentError: no engine answers
    :raises EngineError: one answers, and does not say
    """
    try:
        _get(base_url, "/_ping", timeout)
    except (OSError, http.client.HTTPException) as error:
        raise AbsentError(f"no Docker Engine answers at {base_url}: see `journalctl -u docker` ({error})") from error
    try:
        status, body = _get(base_url, "/info", timeout)
        answer = json.loads(body)
        said = "" if status == http.client.OK else answer["message"]
    except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
        said = str(error) or type(error).__name__
    if said:
        raise EngineError(f"the engine at {base_url} says nothing of itself: {said}; see `journalctl -u docker`")
    return answer


def _get(base_url, path, timeout):
    with contextlib.closing(LocalConnection(base_url.partition("://")[2], timeout)) as connection:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read()


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
        raise EngineError(said, cure, what) from error


def wait(look, bound):
    """Call `look` until it returns None; return None, or after `bound` seconds the problem it returned last.

    An engine that does not answer yet is waited for, too.
    """
    return until_clear(look, bound, EngineError, 0.25)
