"""What a new master gets from its lost one's backup: read with the kit, verified, and made the files of a job."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import posixpath
import tarfile
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

from omega.core.rfc3339 import seconds
from rpiomega.backup.reading import Reader
from rpiomega.errors import NodeError
from rpiomega.node.job_steps import MasterFile
from rpiomega.site import Site, SiteError, load
from rpiomega.ssh import shell

SECRETS, SALT, PILLAR = "/etc/rpiomega/secrets", "/etc/salt", "/srv/rpiomega/pillar"
SITE = f"{PILLAR}/site.sls"
MANIFEST = "/rpiomega-manifest.json"
# restic's archive of a folder lacks the folder itself; that of the secrets has a mode and an owner that count.
READ = (posixpath.dirname(SECRETS), SALT, PILLAR)
# Below /etc/salt: the keys, and what the owner added. The rest comes with Salt, from the bootstrap and the states.
OF_SALT = ("/etc/salt/pki", "/etc/salt/master.d", "/etc/salt/minion.d")
MOST = 32 << 20  # bytes of all files
NEEDED = (f"{SECRETS}/backup/bucket.json", "/etc/salt/pki/master/master.pem", "/etc/salt/pki/master/master.pub", SITE)
ELSEWHERE = (
    ("the formula", "the bootstrap brings it"),
    ("/srv/rpiomega/files", "the bootstrap brings what the site file names"),
    ("/etc/salt/master, /etc/salt/minion", "Salt's packages bring them"),
    ("folders and volumes", "rpiomega restore node {name}"),
    ("Consul and the swarm", "the other servers and managers have them; with none, docs/backup.md has the commands"),
)


@dataclass
class Found:
    """A snapshot of a master's group `salt`, verified. `checked`: files that are those of its manifest."""

    name: str
    row: dict
    cluster: str
    site: str  # the site file's text
    files: list[MasterFile] = field(default_factory=list, repr=False)
    checked: int = 0

    @property
    def at(self) -> str:
        """When it was saved, in this machine's time zone."""
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds(self.row["time"])))


def find(reader: Reader, name: str, at: float) -> Found:
    """Return the newest snapshot of a master, verified to be of the kit's cluster and of that master.

    :param name: the master; "": that of the kit's nodes which saved the group `salt` last
    :param at: seconds since 1970, of that time or older; 0: the newest
    :raises NodeError: there is none, or it is not what it should be; nothing was written
    """
    kit = reader.kit
    if name and name not in kit["nodes"]:
        raise NodeError(
            f"the kit has no node {name}: its nodes are {', '.join(kit['nodes'])}", "give --site, or its kit"
        )
    candidates = []
    for node in [name] if name else kit["nodes"]:
        rows = [row for row in reader.snapshots(node, "salt") if not at or seconds(row["time"]) <= at]
        candidates += [(seconds(row["time"]), node, row) for row in rows[-1:]]
    if not candidates:
        where = f"hosts/{name}" if name else "no repository of the kit"
        cause = f"{where} has {'no' if name else 'a'} snapshot of a master{' of then or before' * bool(at)}"
        raise NodeError(cause, "give another --at, or the site file of the cluster's master with --site")
    _, node, row = max(candidates, key=lambda item: item[0])
    return _verified(reader, node, row)


def _verified(reader: Reader, name: str, row: dict) -> Found:
    kit, where = reader.kit, f"the snapshot {row['id'][:8]} of hosts/{name}"
    at = next((path for path in row["paths"] if path.endswith(MANIFEST)), "")
    manifest = _mapping(reader.read(name, "dump", row["id"], at), at, where) if at else {}
    for what, wanted in (("cluster", kit["cluster"]), ("node", name), ("group", "salt")):
        if manifest.get(what) != wanted:
            cause = f"{where} is of the {what} {manifest.get(what) or '(unknown)'}, not {wanted}"
            raise NodeError(cause, "nothing was written: look whether kit and site file are of one cluster")
    files = [item for place in READ for item in entries(reader.tar(name, row["id"], place))]
    contents = {item.path: base64.b64decode(item.content) for item in files if item.kind == "file"}
    missing = [path for path in NEEDED if not contents.get(path)]
    if missing:
        raise NodeError(f"{where} has no {missing[0]}", "nothing was written: give another --at")
    bucket = _mapping(contents[NEEDED[0]], NEEDED[0], where)
    if (bucket.get("cluster"), bucket.get("bucket")) != (kit["cluster"], kit["bucket"]):
        cause = f"the secrets in {where} are of cluster {bucket.get('cluster')}, bucket {bucket.get('bucket')}"
        raise NodeError(cause, "nothing was written: give another --at")
    checked = _sampled(manifest, contents, {item.path: item for item in files}, where)
    text = contents[SITE].decode(errors="replace")
    site = parsed(text, where)
    if (site.cluster, site.master.name) != (kit["cluster"], name):
        cause = f"the site file in {where} is of cluster {site.cluster}, master {site.master.name}"
        raise NodeError(cause, "nothing was written: give another --at")
    return Found(name, row, site.cluster, text, [item for item in files if _wanted(item.path)], checked)


def _mapping(text: bytes, path: str, where: str) -> dict:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise NodeError(f"{path} in {where} is damaged", "nothing was written: give another --at")
    return found


def _sampled(manifest: dict, contents: dict[str, bytes], files: dict[str, MasterFile], where: str) -> int:
    """Return how many files are those of the manifest's sample; raise NodeError for one that is not."""
    count = 0
    for entry in manifest.get("sample") or ():
        if entry["path"] not in contents:
            continue
        if hashlib.sha256(contents[entry["path"]]).hexdigest() == entry["sha256"]:
            count += 1
        elif len(contents[entry["path"]]) == entry["size"] and not entry["path"].startswith(PILLAR):
            # The group is saved hot: a file that was written meanwhile has another size or is the owner's text.
            cause = f"{entry['path']} in {where} is not what its manifest says"
            raise NodeError(cause, "nothing was written: give another --at")
    if not count and any(path in contents for path in (entry["path"] for entry in manifest.get("sample") or ())):
        raise NodeError(f"no file of {where} is what its manifest says", "nothing was written: give another --at")
    return count


def entries(archive: bytes) -> list[MasterFile]:
    """Return the files, folders and links of a tar archive of restic's. Raise NodeError if they are too large."""
    found, left = [], MOST
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        for member in tar:
            path = posixpath.normpath("/" + member.name)
            owner = {"user": member.uname or "root", "group": member.gname or "root"}
            if member.isdir():
                found.append(MasterFile(path, "folder", member.mode & 0o7777, **owner))
            elif member.issym():
                found.append(MasterFile(path, "link", target=member.linkname))
            stream = tar.extractfile(member) if member.isreg() else None
            if stream:
                left -= member.size
                if left < 0:
                    raise NodeError(
                        f"the master's files are larger than {MOST >> 20} MiB", "take large files out of it"
                    )
                content = base64.b64encode(stream.read()).decode()
                found.append(MasterFile(path, "file", member.mode & 0o7777, **owner, content=content))
    return found


def parsed(text: str, where: str) -> Site:
    """Return the site of a site file's text. Raise NodeError."""
    with tempfile.TemporaryDirectory(prefix="rpiomega-") as folder:
        path = Path(folder, "site.sls")
        path.write_text(text, encoding="utf-8")
        try:
            return load(path)
        except SiteError as error:
            cause = f"the site file in {where} is not sound: {str(error).splitlines()[0]}"
            raise NodeError(cause, "correct your own site file and give it with --site") from None


def refuse_other(site: Site, kit: dict) -> None:
    """Raise NodeError if a site file and a kit are not of one cluster."""
    if site.cluster != kit["cluster"]:
        cause = f"the kit is of cluster {kit['cluster']}, the site file of cluster {site.cluster}"
        raise NodeError(cause, "give the kit of this cluster, or its site file with --site")


def after(site: Site, option: str) -> list[str]:
    """Return the commands that come after a restore of the master. `option`: `` --site FILE`` or empty."""
    login = f"{site.users.admin}@{site.master.address}"
    port = f" -p {site.users.port}" if site.users.port != 22 else ""
    reach = f"ssh{port} {login}"
    return [
        f"rpiomega bootstrap{option}   # brings Salt and the formula; no key changes, so nothing is to be accepted",
        f"{reach} {shell('sudo salt-key -L')}",
        f"{reach} {shell(_ALL.format('test.ping'))}",
        f"{reach} {shell(_ALL.format('state.apply'))}",
        f"rpiomega restore node {site.master.name}{option}",
    ]


_ALL = "sudo salt '*' {}"


def _wanted(path: str) -> bool:
    if path.startswith(f"{READ[0]}/"):
        return path == SECRETS or path.startswith(f"{SECRETS}/")
    if not path.startswith(f"{SALT}/"):
        return path != SALT
    inside = any(path == one or path.startswith(f"{one}/") for one in OF_SALT)
    name = posixpath.basename(path)
    return inside and name != "rpiomega.conf" and not name.startswith("_")
