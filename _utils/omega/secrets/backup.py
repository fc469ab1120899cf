"""The secrets of backups in the master's folder ``backup``, as a node's pillar gets them.

`rpiomega backup init` delivers ``bucket.json``, ``nodes/NODE/key``, ``maintenance``, ``reader`` and ``recovery``. The
password of each node's repository is made here, once.
"""

import base64
import json
import os
import pathlib
import re

from omega.b2 import files
from omega.core.errors import Failure
from omega.site import nodes as site_nodes

INIT = "run `rpiomega backup init` on the workstation"
FOLDER = "hosts"  # each node's repository is hosts/NODE in the bucket; the keys are restricted to these prefixes


class BackupSecretsError(Failure):
    """A file of the folder is missing or bad. The text names it and never quotes it."""


def read(root, site, name, once):
    """Return the secrets with which node ``name`` saves, and on the master those that maintain all repositories.

    :param root: the master's folder of secrets
    :param site: the site file's content
    :param once: function of a file's name below ``root`` and a function that makes its content: returns the content
    :return: dict: repository, region, password, key_id, key; for the master also maintenance ({key_id, key}),
        recovery (the passphrase), passwords ({node: password}), urls ({node: repository})
    :raises BackupSecretsError: a file is missing, open to others or bad, or belongs to another cluster or bucket
    """
    folder = pathlib.Path(root) / "backup"
    bucket = _bucket(folder / "bucket.json", site)
    account = _key(folder / "nodes" / name / "key")
    found = {
        "repository": url(bucket, name),
        "region": bucket["region"],
        "password": _password(once, name),
        **account,
    }
    if site_nodes.master(site) == name:
        names = list(site_nodes.nodes(site))
        found["maintenance"] = _key(folder / "maintenance")
        found["recovery"] = _recovery(folder / "recovery")
        found["passwords"] = {node: _password(once, node) for node in names}
        found["urls"] = {node: url(bucket, node) for node in names}
    return found


def url(bucket, name):
    """Return the address of a node's repository, as restic takes it.

    :param bucket: dict with endpoint and bucket
    """
    return f"s3:{bucket['endpoint'].rstrip('/')}/{bucket['bucket']}/{FOLDER}/{name}"


def _bucket(path, site):
    text = _text(path)
    try:
        found = json.loads(text)
        wrong = [key for key in ("cluster", "bucket", "endpoint", "region") if not isinstance(found[key], str)]
    except (ValueError, KeyError, TypeError):
        raise BackupSecretsError(f"on the master, {path} is not what init writes", INIT) from None
    if wrong or not re.fullmatch(r"https?://[^\s/@]+/?", found["endpoint"]):
        raise BackupSecretsError(f"on the master, {path} is not what init writes ({(wrong or ['endpoint'])[0]})", INIT)
    wanted = site["backup"]["bucket"]
    if found["bucket"] != wanted:
        cause = f"on the master, {path} is of the bucket {found['bucket']}, and backup.bucket is {wanted}"
        raise BackupSecretsError(cause, f"{INIT}, or set backup.bucket back")
    if found["cluster"] != site.get("cluster"):
        cause = f"on the master, {path} is of the cluster {found['cluster']}, and this one is {site.get('cluster')}"
        raise BackupSecretsError(cause, f"{INIT} with a bucket of this cluster")
    return found


def _key(path):
    if not path.is_file():
        raise BackupSecretsError(f"on the master, there is no file {path}", INIT)
    try:
        return files.read(path)
    except files.KeyFileError as error:
        raise BackupSecretsError(f"on the master, {error.cause}", error.cure) from None


def _recovery(path):
    lines = _text(path).split("\n")
    if len([line for line in lines if line.strip()]) != 1:
        raise BackupSecretsError(f"on the master, {path} is not one line", "put it back from the recovery kit")
    return lines[0].strip()


def _text(path):
    try:
        with open(path, encoding="utf-8") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            text = file.read()
    except FileNotFoundError:
        raise BackupSecretsError(f"on the master, there is no file {path}", INIT) from None
    except UnicodeDecodeError:
        raise BackupSecretsError(f"on the master, {path} is not text", INIT) from None
    except OSError as error:
        cause = f"on the master, {path} cannot be read ({error.strerror})"
        raise BackupSecretsError(cause, f"see `ls -l {path}`") from None
    if mode & 0o077:
        raise BackupSecretsError(f"on the master, {path} is open to others (mode {mode:04o})", f"`chmod 600 {path}`")
    return text


def _password(once, name):
    # Made before the repository, and never again: a repository opens with the password it was made with.
    return once(f"backup/nodes/{name}/password", _new_password).decode()


def _new_password():
    return base64.urlsafe_b64encode(os.urandom(30))  # 240 bits, no padding
