"""Runs on a node: look for secrets by value. They come in on standard input as JSON and are never printed.

    python3 secrets_search.py FOLDER... < {"name": ["value", ...], ...}

Looks into the files below each FOLDER, and with the words `environ` and `journal` into the environment of every process
and the journal. Prints a JSON list of [name of the secret, where, whether everybody can read it]: that is asked of the
file and of the folders from FOLDER on. Standard library only.
"""

import json
import mmap
import os
import subprocess
import sys

BLOCK = 1 << 20
HEAD = 9  # by so many first bytes values are looked for together: join tokens all begin alike


def names_in(content, secrets):
    """Return the sorted names of the secrets that are in bytes or a mapped file."""
    heads, found = {}, set()
    for name, values in secrets.items():
        for value in values:
            heads.setdefault(value[:HEAD], []).append((name, value))
    for head, pairs in heads.items():
        at = content.find(head)
        while at >= 0:
            found |= {name for name, value in pairs if content[at : at + len(value)] == value}
            at = content.find(head, at + 1)
    return sorted(found)


def in_file(path, secrets, found, is_open):
    """Search one file, whatever its size; `is_open`: everybody can enter its folder."""
    try:
        with open(path, "rb") as file:
            status = os.fstat(file.fileno())
            if status.st_size == 0:
                return
            is_open = is_open and bool(status.st_mode & 0o004)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                found += [[name, path, is_open] for name in names_in(content, secrets)]
    except (OSError, ValueError):
        return  # gone in the meantime, or nothing that can be mapped


def in_folder(top, secrets, found):
    """Search a folder; other file systems than the one it is on are entered only as arguments of their own."""
    device = os.lstat(top).st_dev
    entered = {}
    for folder, folders, files in os.walk(top):
        entered[folder] = entered.get(os.path.dirname(folder), True) and bool(os.stat(folder).st_mode & 0o001)
        folders[:] = [name for name in folders if _same(os.path.join(folder, name), device)]
        for name in files:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                in_file(path, secrets, found, entered[folder])


def _same(path, device):
    try:
        return os.lstat(path).st_dev == device
    except OSError:
        return False


def in_environ(secrets, found):
    """Search environment and arguments of all processes but this one and its parents."""
    own = {os.getpid(), os.getppid()}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        for kind in ("environ", "cmdline"):
            try:
                with open(f"/proc/{pid}/{kind}", "rb") as file:
                    text = file.read()
            except OSError:
                continue
            if int(pid) not in own:
                found += [[name, f"/proc/{pid}/{kind}", False] for name in names_in(text, secrets)]


def in_journal(secrets, found):
    """Search the journal, in pieces that overlap by the longest secret."""
    overlap = max(len(value) for values in secrets.values() for value in values)
    with subprocess.Popen(["journalctl", "--no-pager", "-o", "cat"], stdout=subprocess.PIPE) as process:
        rest, hits = b"", set()
        while piece := process.stdout.read(BLOCK):
            text = rest + piece
            hits.update(names_in(text, secrets))
            rest = text[-overlap:]
    found += [[name, "journal", False] for name in sorted(hits)]


def main(places):
    """Search all places."""
    secrets = {name: [value.encode() for value in values] for name, values in json.load(sys.stdin).items()}
    found = []
    for place in places:
        if place == "environ":
            in_environ(secrets, found)
        elif place == "journal":
            in_journal(secrets, found)
        elif os.path.isdir(place):
            in_folder(place, secrets, found)
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1:])
