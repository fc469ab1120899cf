"""A restic repository in a folder, with a source to save and the tags that the backup's runs give."""

import os
import pathlib
import struct

import pytest
import restic_program
import restic_repository
import tiny_image

from omega.backup import restic
from omega.docker import engine as docker_engine

# Version 2; then tag, permissions and id of each entry: user::rw-, user:1234:rwx, group::r--, mask::rwx, other::---
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry)
    for entry in ((1, 6, 2**32 - 1), (2, 7, 1234), (4, 4, 2**32 - 1), (16, 7, 2**32 - 1), (32, 0, 2**32 - 1))
)
ODD = (
    b"a b",
    b"new\nline",
    b"bad\xff\xfe",
    b"star*[x]?",
    b"back\\slash",
    b"{{braces}}",
    b"-dash",
    b"quote'\"$(x)",
    "ä€".encode(),
)


class Repo:
    """`repository`: as omega.backup has it; `save` makes a snapshot of paths."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        (self.folder / "password").write_text(f"{restic_repository.PASSWORD}\n")
        self.repository = restic.Repository(
            str(self.folder / "repo"),
            str(self.folder / "password"),
            cache=str(self.folder / "cache"),
            program=restic_program.path(),
        )
        restic_repository.make(self.folder / "repo")

    def save(self, *paths, group="files", mode="hot", time=None):
        """Save paths as a run does; return the snapshot's row."""
        tags = f"rpiomega,group={group},run=1,mode={mode}"
        options = ["--time", time] if time else []
        done = restic.run(
            self.repository, ["backup", "--host", "pi1", "--tag", tags, *options, *map(os.fsdecode, paths)]
        )
        identity = next(event["snapshot_id"] for event in done if event.get("message_type") == "summary")
        return next(row for row in restic.snapshots(self.repository) if row["id"] == identity)

    def packs(self):
        """Return the pack files, the largest first."""
        found = [path for path in (self.folder / "repo/data").rglob("*") if path.is_file()]
        return sorted(found, key=lambda path: path.stat().st_size, reverse=True)


def fill(folder):
    """Put one of each kind of file into a folder: owners, modes, attributes, ACL, hole, links, odd names."""
    base = os.fsencode(str(folder))
    os.makedirs(base, exist_ok=True)
    for name in ODD:
        os.makedirs(os.path.join(base, name + b".d"))
        write(os.path.join(base, name + b".d", name), b"content of " + name)
    with open(os.path.join(base, b"sparse"), "wb") as file:
        file.truncate(8 << 20)
        file.seek(5 << 20)
        file.write(b"in the hole")
    os.link(os.path.join(base, b"sparse"), os.path.join(base, b"hard link"))
    os.symlink("/nowhere/at all", os.path.join(base, b"link"))
    os.mkfifo(os.path.join(base, b"pipe"))
    write(os.path.join(base, b"empty"), b"")
    write(os.path.join(base, b"attributes"), b"x")
    os.setxattr(os.path.join(base, b"attributes"), "user.origin", b"\x00\xff")
    write(os.path.join(base, b"acl"), b"y")
    os.setxattr(os.path.join(base, b"acl"), "system.posix_acl_access", ACL)
    write(os.path.join(base, b"suid"), b"#!")
    os.chown(os.path.join(base, b"suid"), 1234, 4321)
    os.chmod(os.path.join(base, b"suid"), 0o4711)
    os.utime(os.path.join(base, b"suid"), ns=(10**18 + 1, 10**18 + 7))
    os.chown(base, 999, 998)
    os.chmod(base, 0o2770)
    os.setxattr(base, "user.folder", b"too")


def write(path, content):
    with open(path, "wb") as file:
        file.write(content)


def picture(folder):
    """Return name -> everything a restore has to bring back, of a folder or file and all below it."""
    base, found, numbers = os.fsencode(str(folder)), {}, {}
    paths = [base]
    for top, folders, names in os.walk(base):
        paths += [os.path.join(top, name) for name in [*folders, *names]]
    for path in sorted(paths):
        kind = os.lstat(path)
        link = os.path.islink(path)
        regular = (kind.st_mode & 0o170000) == 0o100000
        found[os.path.relpath(path, base)] = (
            kind.st_mode,
            kind.st_uid,
            kind.st_gid,
            kind.st_mtime_ns,
            numbers.setdefault(kind.st_ino, len(numbers)),  # the same of two: one file
            os.readlink(path) if link else None,
            {key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)},
            pathlib.Path(os.fsdecode(path)).read_bytes() if regular else None,
            kind.st_blocks * 512 < kind.st_size if regular else None,  # it has a hole
        )
    return found


# A test file takes these fixtures by an assignment.


@pytest.fixture(scope="module")
def client():
    """The SDK's client of this machine's engine."""
    pytest.importorskip("docker")
    made = docker_engine.connect(timeout=120)
    yield made
    made.close()


@pytest.fixture(scope="module")
def image(client):
    """The tag of the tests' image on that engine."""
    with tiny_image.on_host(client) as tag:
        yield tag
