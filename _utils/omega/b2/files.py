"""Files that hold an application key of B2: for their owner alone.

A secret file is YAML with the keys ``key_id`` and ``key``: what `b2.application_key_present` writes on one side and
what the master's secrets/b2 folder holds on the other.
"""

import json
import os

import yaml

from omega.core import files
from omega.core.errors import Failure


class KeyFileError(Failure):
    """The file is missing, open to others, or holds something else. The text names it and never quotes it."""


def read(path):
    """Return ``{key_id, key}`` of a secret file; KeyFileError if it is not one."""
    try:
        with open(path, encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            content = yaml.load(file, yaml.BaseLoader)  # all is text: an ID may look like a number
    except FileNotFoundError:
        raise KeyFileError(f"there is no file {path}: write the two lines `key_id: ...` and `key: ...` to it") from None
    except OSError as error:
        raise KeyFileError(f"{path} cannot be read ({error.strerror}): see `ls -l {path}`") from None
    except (yaml.YAMLError, UnicodeDecodeError):
        raise KeyFileError(f"{path} is not YAML: write two lines, `key_id: ...` and `key: ...`") from None
    if mode & 0o077:
        raise KeyFileError(f"{path} is open to others (mode {mode:04o}): `chmod 600` it, and replace the key")
    found = content if isinstance(content, dict) else {}
    missing = [key for key in ("key_id", "key") if not found.get(key) or not isinstance(found[key], str)]
    if missing:
        raise KeyFileError(f"{path} lacks {' and '.join(missing)}: write two lines, `key_id: ...` and `key: ...`")
    return {"key_id": content["key_id"], "key": content["key"]}


def key_id(path):
    """Return the key_id a secret file holds, or None."""
    try:
        return read(path)["key_id"]
    except KeyFileError:
        return None


def foreign(path, key_ids):
    """Return why a key's secret may not be written to ``path``: it holds another's, which B2 would not tell again.

    :param key_ids: the keys whose secret may be there
    :return: one line with the next step; None if there is no such file, or it holds one of ``key_ids``
    """
    if not os.path.isfile(path):
        return None
    try:
        found = read(path)["key_id"]
    except KeyFileError as error:
        return f"{error}; it is not overwritten: set it right, move it away, or give another file"
    if found in key_ids:
        return None
    return f"{path} holds the secret of another key, {found}; give another file, or move that one away"


def write(path, key_id, key):
    """Write a secret file with mode 0600 that belongs to whom its folder does, as does a folder made for it."""
    folder = os.path.dirname(os.path.abspath(path))
    if not os.path.isdir(folder):
        os.makedirs(folder, mode=0o700)
        _give(folder, os.path.dirname(folder))
    files.write(os.path.abspath(path), f"key_id: {json.dumps(key_id)}\nkey: {json.dumps(key)}\n", 0o600)
    _give(path, folder)


def _give(path, folder):
    # Salt's packages run the master as a user of its own, and that user has to read what lies in its folder.
    owner = os.stat(folder)
    os.chown(path, owner.st_uid, owner.st_gid)


def environment(account):
    """Return the text of an environment file that the b2 command understands."""
    lines = [f"B2_APPLICATION_KEY_ID={account['key_id']}", f"B2_APPLICATION_KEY={account['key']}"]
    if account["endpoint"]:
        lines.append(f"B2_ENVIRONMENT={account['endpoint']}")
    return "\n".join([*lines, ""])


def read_environment(path):
    """Return the account an environment file of `environment` holds, or None."""
    text = files.read(path)
    found = dict(line.split("=", 1) for line in (text or "").splitlines() if "=" in line)
    if not found.get("B2_APPLICATION_KEY_ID") or not found.get("B2_APPLICATION_KEY"):
        return None
    names = {"key_id": "B2_APPLICATION_KEY_ID", "key": "B2_APPLICATION_KEY", "endpoint": "B2_ENVIRONMENT"}
    return {ours: found.get(theirs, "") for ours, theirs in names.items()}
