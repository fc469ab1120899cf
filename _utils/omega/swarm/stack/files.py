"""
The files of a stack: where they come from, and which files they refer to.

The docker command itself says what a compose file refers to: it is run on private copies, and each file that it does
not find beside them is fetched from the master's file server. So its own rules for YAML, `${NAME}` and merging decide.
"""

import base64
import json
import os
import re
import shutil

from omega.swarm.api import SwarmError

SALT = "salt://"
# What stacks are called: also the first part of each service's name, which is a DNS name.
_NAME = re.compile(r"[a-z0-9]([a-z0-9_-]{0,61}[a-z0-9])?")
# What Go's os package says of a file that is not there, in every release of the docker command.
_MISSING = re.compile(r"(?:open|stat|lstat) (/.+?): no such file or directory")


def check_name(name):
    """:raises SwarmError: "refused" if a stack cannot be called so"""
    if not _NAME.fullmatch(str(name)):
        raise SwarmError("refused", f"stack {name!r}: its name must be small letters, digits, - and _, up to 63")


class Files:
    """
    Private copies of a stack's compose files.

    :param compose: list; each a mapping (the content itself), an absolute path on this node, or a file of the master:
        `salt://a/b.yml` or `a/b.yml`
    :param folder: an empty folder that only root can read
    :param fetch: function (salt:// address, destination) that copies a file of the master and returns a path of it, or
        "" if there is no such file
    :param home: root's home folder
    :raises SwarmError: "refused" naming the file

    `paths`: for the docker command, in order. `shown`: their names for messages. `working`: the folder that relative
    paths start from, which is the first file's. `root`: the copy of the file server's root, somewhere in `folder`.
    `home`: a link to root's home folder, so that `~` and `${HOME}` can be recognised in what the docker command makes
    of them.
    """

    def __init__(self, compose, folder, fetch, home="/root"):
        items = compose if isinstance(compose, (list, tuple)) else [compose]
        if not items or not all(items):
            raise SwarmError("refused", "compose: name a compose file, or give its content")
        self._fetch, self._environment = fetch, ""
        self._fetched, self._asked = [], set()
        self.folder = os.path.realpath(folder)
        # Deep in it, so that `../../x` still leads into the folder, and is recognised.
        self.root, self.home = os.path.join(self.folder, *"_____", "files"), os.path.join(self.folder, "home")
        os.makedirs(self.root, 0o700)
        os.symlink(home, self.home)
        self.shown = [_shown(item) for item in items]
        self.paths = [self._one(item, number) for number, item in enumerate(items)]
        self.working = os.path.dirname(self.paths[0])

    def _one(self, item, number):
        if isinstance(item, dict):
            path = os.path.join(self.root, f".compose-{number}.yml")
            with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                # As JSON, which is YAML whose strings every reader takes for strings: `1e3`, `on`, `22:22`.
                json.dump(_plain(item), file, ensure_ascii=False, default=str)
            return path
        if item.startswith("/"):
            _check_readable(item)
            return item
        source, mark, environment = self.shown[number].partition("?")
        self._environment = self._environment or mark + environment
        return self._copied(source, mark + environment, "compose file")

    def _copied(self, source, environment, what):
        """Path of a copy of a file of the master, at its place below `root`."""
        path = os.path.join(self.root, os.path.normpath(source[len(SALT) :]))
        os.makedirs(os.path.dirname(path), 0o700, exist_ok=True)
        found = self._fetch(source + environment, path)
        if not found:
            raise SwarmError(
                "refused", f"{source} ({what}): the master has no such file; put it into /srv/rpiomega/files"
            )
        if os.path.realpath(found) != path:  # Salt before 3007 without a master gives the file itself
            shutil.copyfile(found, path)
        return path

    def fetch_missing(self, said):
        """
        Fetch the file that the docker command did not find; True if it shall look again.

        :param said: what the docker command said when it failed
        :raises SwarmError: "refused" if the master does not have the file
        """
        missing = _MISSING.search(said)
        path = os.path.normpath(missing[1]) if missing else ""
        if not path or path in self._asked:
            return False
        if not path.startswith(self.root + os.sep):
            if path.startswith(self.folder + os.sep) and not path.startswith(self.home + os.sep):
                where = os.path.relpath(path, self.working)
                raise SwarmError("refused", f"{where} (named in {self._named()}): it is outside of the master's files")
            return False
        self._asked.add(path)
        source = SALT + os.path.relpath(path, self.root)
        self._fetched.append(self._copied(source, self._environment, f"named in {self._named()}"))
        return True

    def _named(self):
        return ", ".join(self.shown)

    def secrets_of_master(self, noted):
        """Names of the secrets whose content came from a file of the master, which every node can read."""
        contents = set()
        for path in self._fetched:
            with open(path, "rb") as file:
                contents.add(base64.b64encode(file.read()).decode())
        made = [item.body for item in noted if item.kind == "secrets" and item.verb != "remove"]
        return sorted(body.get("Name") or "?" for body in made if body.get("Data") in contents)

    def readable(self, text):
        """`text` with the names of the files as the owner knows them in place of those of the copies."""
        for number, path in enumerate(self.paths):
            text = text.replace(path, self.shown[number])
        return text.replace(self.root + os.sep, SALT).replace(self.home, "~")


def _shown(item):
    if isinstance(item, dict):
        return "the given content"
    if not isinstance(item, str):
        raise SwarmError("refused", f"compose {item!r}: must be a file or a mapping")
    return item if item.startswith(("/", SALT)) else SALT + item


def _check_readable(path):
    try:
        with open(path, "rb") as file:
            file.read(1)
    except OSError as error:
        raise SwarmError("refused", f"compose file {path}: {error.strerror}") from None


def _plain(value):
    """By way of plain types: Salt hands over its own, and YAML has keys that JSON has not."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, (list, tuple)) else value
