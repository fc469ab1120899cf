"""Runs on a node: look for secrets by value. They come in on standard input as JSON and are never printed.

    python3 secrets_search.py FOLDER... < {"name": "value", ...}

Looks into the files below each FOLDER, and with the words `environ` and `journal` into the environment of every process
and the journal. Prints a JSON list of [name of the secret, where]. Standard library only.
"""

import json
import mmap
import os
import subprocess
import sys

BLOCK = 1 << 20


def in_file(path, secrets, found):
    """Search one file, whatever its size."""
    try:
        with open(path, "rb") as file:
            if os.fstat(file.fileno()).st_size == 0:
                return
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                found += [[name, path] for name, value in secrets.items() if content.find(value) >= 0]
    except (OSError, ValueError):
        return  # gone in the meantime, or nothing that can be mapped


def in_folder(top, secrets, found):
    """Search a folder; other file systems than the one it is on are entered only as arguments of their own."""
    device = os.lstat(top).st_dev
    for folder, folders, files in os.walk(top):
        folders[:] = [name for name in folders if _same(os.path.join(folder, name), device)]
        for name in files:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                in_file(path, secrets, found)


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
                found += [[name, f"/proc/{pid}/{kind}"] for name, value in secrets.items() if value in text]


def in_journal(secrets, found):
    """Search the journal, in pieces that overlap by the longest secret."""
    overlap = max(map(len, secrets.values()))
    with subprocess.Popen(["journalctl", "--no-pager", "-o", "cat"], stdout=subprocess.PIPE) as process:
        rest, hits = b"", set()
        while piece := process.stdout.read(BLOCK):
            text = rest + piece
            hits |= {name for name, value in secrets.items() if value in text}
            rest = text[-overlap:]
    found += [[name, "journal"] for name in sorted(hits)]


def main(places):
    """Search all places."""
    secrets = {name: value.encode() for name, value in json.load(sys.stdin).items() if value}
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
