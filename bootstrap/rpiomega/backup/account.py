"""The account at B2, asked from the workstation, with the code that the nodes use (`omega.b2.worker`).

The admin key is in the memory of this process alone.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from omega.b2 import client, files, worker


class Account:
    """Calls to B2 with one key. `key` is the secret; no error's text has it."""

    def __init__(self, key_id: str, key: str, endpoint: str = "") -> None:
        self._credentials = {"key_id": key_id.strip(), "key": key.strip(), "endpoint": endpoint}

    def ask(self, call: str, subject: str = "B2", **arguments: Any) -> Any:
        """Make one call of `omega.b2.worker.CALLS`; return what it answers. Raise client.B2Error."""
        answer = worker.respond({"account": self._credentials, "call": call, "arguments": arguments})
        if "error" in answer:
            kind = answer["error"]["kind"]
            text = answer["error"]["message"].replace(self._credentials["key"], "(key)")
            error = client.B2Error(kind, text, subject)
            error.cure = CURES.get(kind, error.cure)
            raise error
        return answer["result"]


CURES = {  # the workstation's, where they are not those of a node
    "missing": "pip install 'b2sdk>=2.10' into the environment of rpiomega",
    "denied": "check the key's ID and the key (Backblaze's web console, Application Keys)",
    "not_allowed": "use a key that may do this, see docs/backup.md",
    "clock": "set this machine's clock",
    "unreachable": "check this machine's way to the internet, then run it again",
    "capped": "raise the account's caps in Backblaze's web console (Caps & Alerts), then run it again",
}


def from_file(path: Path) -> tuple[str, str]:
    """Return key ID and key of a file that its owner alone can read: two lines `key_id: ...` and `key: ...`.

    :raises Failure: it is missing, open to others, or has something else
    """
    found = files.read(str(path))
    return found["key_id"], found["key"]


def key_text(key_id: str, key: str) -> str:
    """Return the content of a key file, as `omega.b2.files` writes and reads it."""
    return f"key_id: {json.dumps(key_id)}\nkey: {json.dumps(key)}\n"
