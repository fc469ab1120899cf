"""Calls to Backblaze B2 through b2sdk, which lives in the environment of the `b2` command and nowhere else.

b2sdk needs Python 3.10, and libraries put beside Salt are lost when a package of Salt brings another Python
(saltstack/salt#70513). So each call is one short run of `omega.b2.worker` by that environment's Python, the credentials
on its standard input. The command on the PATH tells where the environment is.
"""

import json
import os
import shutil
import subprocess

from omega.core.errors import KindOfFailure

# The longest call empties a bucket; one request to B2 has bounds of its own.
SECONDS, PURGE_SECONDS = 150, 3600
NEXT = {
    "missing": "run `salt-call state.apply b2`; it needs Python 3.10 and b2 4.5 or newer",
    "no_credentials": "name them under b2.credentials in the site file, see docs/b2.md",
    "bad_file": "once that is right, apply the state b2 again (docs/b2.md)",
    "denied": "check key_id and key in the master's secrets/b2 folder",
    "not_allowed": "use a key with the capability this needs (`salt-call b2.account` shows what this one has)",
    "not_found": "check the name, and that the key's account is the one that has it",
    "taken": "bucket names are unique over all accounts: choose another",
    "conflict": "somebody changed it at the same time: run it again",
    "capped": "raise the account's caps in Backblaze's web console",
    "clock": "set this node's clock",
    "unreachable": "check DNS, proxy and the way to the internet of this node",
    "bad_request": "check the values given",
}


class B2Error(KindOfFailure):
    """A call that failed. ``kind`` is a key of ``NEXT``; the text is one line and holds no key."""

    def __init__(self, kind, cause, subject="B2"):
        super().__init__(kind, cause, NEXT[kind], subject)


def account(pillar):
    """Return ``{key_id, key, endpoint}`` of this node from its pillar; B2Error if the site gives it none."""
    found = (pillar.get("rpiomega_secrets") or {}).get("b2") or {}
    if found.get("problem"):
        raise B2Error("bad_file", found["problem"])
    if not found.get("key_id") or not found.get("key"):
        raise B2Error("no_credentials", "this node has no credentials")
    endpoint = ((pillar.get("rpiomega") or {}).get("b2") or {}).get("endpoint", "")
    return {"key_id": found["key_id"], "key": found["key"], "endpoint": endpoint}


def python():
    """Return the Python of the b2 command's environment; B2Error if there is no such command."""
    path = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/local/bin"])
    command = shutil.which("b2", path=path)
    if command is None:
        raise B2Error("missing", "there is no b2 command here")
    found = os.path.join(os.path.dirname(os.path.realpath(command)), "python")
    if not os.access(found, os.X_OK):
        raise B2Error("missing", f"{command} is not in a Python environment of its own")
    return found


def ask(credentials, call, subject="B2", user=None, seconds=SECONDS, **arguments):
    """Make one call and return what b2sdk answers.

    :param credentials: what `account` returns
    :param call: a name of ``omega.b2.worker.CALLS``, or ``remember``/``remembered``
    :param subject: what an error shall name: ``bucket NAME``
    :param user: the system's user to make the call as
    :param seconds: bound of the whole call
    :return: JSON data
    :raises B2Error: with cause and next step
    """
    worker = os.path.join(os.path.dirname(os.path.abspath(__file__)), "worker.py")
    request = {"account": credentials, "call": call, "arguments": arguments, "user": user}
    try:
        done = subprocess.run(
            [python(), "-I", worker],
            input=json.dumps(request),
            capture_output=True,
            text=True,
            timeout=seconds,
            env=_environment(),
            cwd="/",
            check=False,
        )
        answer = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        raise B2Error("unreachable", f"no answer to {call} within {seconds} s", subject) from None
    except ValueError:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise B2Error("missing", _scrub(f"{python()} does not run b2sdk: {last}", credentials), subject) from None
    if "error" in answer:
        raise B2Error(answer["error"]["kind"], _scrub(answer["error"]["message"], credentials), subject)
    return answer["result"]


def _environment():
    """Leave out what would choose another account, library or Python; keep proxies and certificates."""
    return {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("B2_", "PYTHON", "SALT_")) and name != "LD_LIBRARY_PATH"
    }


def _scrub(text, credentials):
    return text.replace(credentials["key"], "(key)")
