"""The cluster's secrets on the master: made once, kept in files only their owner can read.

One folder, by default ``/etc/rpiomega/secrets``::

    consul/gossip.key  ca.pem  ca-key.pem  management.token
    consul/nodes/<name>/token  cert.pem  key.pem
    b2/<file>                  made by the owner, or by `b2.application_key_present`
    backup/                    delivered by `rpiomega backup init`: omega.secrets.backup

Whoever holds this folder holds the cluster: back it up with the site file.
"""

import base64
import contextlib
import functools
import os
import pathlib
import tempfile
import uuid

from omega.b2 import files
from omega.core import files as core_files
from omega.core import pki
from omega.secrets import backup as backup_secrets
from omega.site import nodes as site_nodes

LOCK_BOUND = 60.0  # seconds; the longest work under the lock is to make a few keys


class Store:
    """The folder of secrets. Every ``*_for`` call makes what is missing, under one lock.

    :param root: path of the folder; made with mode 0700
    """

    def __init__(self, root):
        self.root = pathlib.Path(root)

    @contextlib.contextmanager
    def locked(self):
        """
        Hold the folder's lock: the master renders the pillar of many minions at the same time.

        :raises TimeoutError: another process has held it for LOCK_BOUND seconds
        """
        _folder(self.root)
        os.chmod(self.root, 0o700)
        path = self.root / ".lock"
        with open(path, "w", encoding="utf-8", opener=functools.partial(os.open, mode=0o600)) as lock:
            _give(lock.fileno(), self.root)
            core_files.lock(lock, LOCK_BOUND, _held)
            yield

    def consul_for(self, site, name):
        """Return the Consul secrets of node ``name`` of ``site`` (the pillar's ``rpiomega``).

        :return: dict of str: gossip_key, ca, cert, key (PEM), token (SecretID of the node's ACL token)
        :raises FileNotFoundError: a part of the certificate authority is gone, and nodes have certificates of it
        """
        cluster = site.get("cluster", "omega")
        with self.locked():
            ca, ca_key = self._authority(cluster)
            names, addresses = self._subject(site, name, cluster)
            cert, key = self._certificate(f"consul/nodes/{name}", ca, ca_key, name, names, addresses)
            return {
                "gossip_key": self._once("consul/gossip.key", _gossip_key).decode(),
                "ca": ca.decode(),
                "cert": cert.decode(),
                "key": key.decode(),
                "token": self._once(f"consul/nodes/{name}/token", _uuid).decode(),
            }

    def consul_management(self, site):
        """Return what only the master may know: the management token and every node's token."""
        with self.locked():
            return {
                "management_token": self._once("consul/management.token", _uuid).decode(),
                "node_tokens": {
                    name: self._once(f"consul/nodes/{name}/token", _uuid).decode() for name in site_nodes.nodes(site)
                },
            }

    def rotate_consul_token(self, name):
        """Make a new token for node ``name`` in place of the old one, and return its SecretID."""
        with self.locked():
            path = self.root / f"consul/nodes/{name}/token"
            _write(path, _uuid())
            return path.read_bytes().decode()

    def b2_for(self, site, name):
        """Return the B2 account the site gives node ``name``.

        ``b2.credentials`` of the site maps a node, or ``*`` for all others, to a file of the folder ``b2``.

        :return: ``{key_id, key}``; ``{"problem": ...}`` if the file is no good, so that only state `b2` fails for it;
            None if the site gives the node none, or has ``b2.enabled: false``
        """
        b2 = site.get("b2") or {}
        credentials = (b2.get("credentials") or {}) if b2.get("enabled", True) else {}
        file = credentials.get(name, credentials.get("*"))
        if not file:
            return None
        if file != os.path.basename(file) or file.startswith("."):
            return {"problem": f"b2.credentials names {file!r}: write the bare name of a file in {self.root / 'b2'}"}
        try:
            return files.read(self.root / "b2" / file)
        except files.KeyFileError as error:
            return {"problem": f"on the master, {error}"}

    def backup_for(self, site, name):
        """Return what node ``name`` needs for its backups; the master also gets what maintains all repositories.

        :return: as `omega.secrets.backup.read`; ``{"problem": ...}`` if a file is missing or bad, so that only state
            `backup` fails for it; None if the site has no ``backup.bucket``
        """
        if not (site.get("backup") or {}).get("bucket"):
            return None
        with self.locked():
            try:
                return backup_secrets.read(self.root, site, name, self._once)
            except backup_secrets.BackupSecretsError as error:
                return {"problem": str(error)}

    def _authority(self, cluster):
        """The cluster's CA. Another one in its place would part every node from all others."""
        names = ("consul/ca.pem", "consul/ca-key.pem")
        missing = [name for name in names if not (self.root / name).exists()]
        if missing and (self.root / "consul/nodes").exists():
            cause = f"{self.root / missing[0]} is missing, and nodes have certificates of that authority"
            raise FileNotFoundError(f"{cause}: put it back from the copy of {self.root} (docs/operations.md)")
        return self._pair(*names, lambda: pki.new_ca(cluster))

    @staticmethod
    def _subject(site, name, cluster):
        # Consul's verify_server_hostname takes only server.<datacenter>.<domain> for a server
        # (developer.hashicorp.com/consul/docs/secure/encryption/tls): a worker's certificate has no such name.
        kinds = ["server", "client"] if name in site_nodes.consul_servers(site) else ["client"]
        names = [f"{kind}.{cluster}.consul" for kind in kinds] + [name, "localhost"]
        return names, ["127.0.0.1", site_nodes.address(site, name)]

    def _certificate(self, folder, ca, ca_key, name, dns_names, addresses):
        path = self.root / folder / "cert.pem"
        if path.exists() and not pki.still_good(path.read_bytes(), ca, dns_names, addresses):
            path.unlink()
        return self._pair(
            f"{folder}/cert.pem",
            f"{folder}/key.pem",
            lambda: pki.new_certificate(ca, ca_key, name, dns_names, addresses),
        )

    def _pair(self, public, private, make):
        """Read a certificate and its key; make both if either is missing. The key is written first."""
        public_path, private_path = self.root / public, self.root / private
        if not (public_path.exists() and private_path.exists()):
            certificate, key = make()
            _write(private_path, key)
            _write(public_path, certificate)
        return public_path.read_bytes(), private_path.read_bytes()

    def _once(self, name, make):
        path = self.root / name
        if not path.exists():
            _write(path, make())
        return path.read_bytes().strip()


def _gossip_key():
    # 32 bytes select AES-256 (developer.hashicorp.com/consul/docs/secure/encryption/gossip).
    return base64.b64encode(os.urandom(32))


def _uuid():
    return str(uuid.uuid4()).encode()


def _write(path, content):
    """Write ``content`` to ``path`` with mode 0600, whole or not at all, for whom its folder belongs to."""
    _folder(path.parent)
    handle, temporary = tempfile.mkstemp(dir=path.parent)  # mkstemp: 0600 from the start
    try:
        with open(handle, "wb") as file:
            file.write(content)
            file.flush()
            _give(file.fileno(), path.parent)
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    core_files.sync_folder(path.parent)  # others may have it in a moment: it must not be made once more


def _folder(path):
    """Make the folder ``path`` with mode 0700, and those above it, unless they exist."""
    if not path.is_dir():
        _folder(path.parent)
        path.mkdir(mode=0o700, exist_ok=True)
        _give(path, path.parent)


def _give(path, folder):
    # Salt's packages run the master as a user of its own; what the minion, root, writes here that user has to read.
    if os.geteuid() == 0:
        owner = os.stat(folder)
        os.chown(path, owner.st_uid, owner.st_gid)


def _held(late):
    cause = f"another process has held {late.what} for {late.bound:g} s"
    return TimeoutError(f"{cause}: find it with `lslocks`, end it, then run again")
