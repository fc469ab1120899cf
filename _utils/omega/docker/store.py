"""Containerd's own folder, where engines since Docker 29 keep images: found, judged, and named in its configuration.

`data-root` does not move it (docs.docker.com/engine/storage/containerd). Which store an engine uses is in its /info,
not in its release: one that was upgraded keeps the former.
"""

import functools
import os
import re
import subprocess
import tempfile

from omega.core import files
from omega.docker import data

CONFIG = "/etc/containerd/config.toml"
DEFAULT = "/var/lib/containerd"
BELOW = "containerd-images"  # of a data root; dockerd has a use of its own for `containerd` there
_BLOBS = "io.containerd.content.v1.content/blobs/sha256"
BOUND = 30


def used(info):
    """Whether an engine keeps its images in containerd.

    :param info: decoded /info; the key is moby's (daemon/containerd/service.go, DriverStatus)
    """
    return ["driver-type", "io.containerd.snapshotter.v1"] in [list(pair) for pair in info.get("DriverStatus") or []]


def root(config=None):
    """Return the folder that containerd uses by its configuration, as its own program reads that.

    :param config: path of config.toml
    """
    config = config or CONFIG
    try:
        return _dumped(config, os.stat(config).st_mtime_ns)
    except FileNotFoundError:
        return _dumped("", 0)


@functools.lru_cache(maxsize=4)
def _dumped(config, _changed):
    try:
        command = ["containerd", *(["--config", config] if config else []), "config", "dump"]
        shown = subprocess.run(command, capture_output=True, text=True, timeout=BOUND, check=False).stdout
    except (OSError, subprocess.TimeoutExpired):
        shown = ""
    found = re.search(r"""^root = (["'])(.+)\1$""", shown.partition("\n[")[0], re.MULTILINE)
    return found[2] if found else DEFAULT


def holds_images(folder):
    """Whether a folder of containerd's has content of images."""
    return bool(data._entries(os.path.join(folder, _BLOBS)))


def image_root(info):
    """Return the folder with an engine's images if its data root does not contain them, else an empty text."""
    return root() if used(info) else ""


def with_root(text, folder, path=None):
    """Return config.toml with another root; everything else in it stays as it is.

    :param text: the file's text, or None
    :param folder: the root
    :param path: the file's path, for the message
    :raises omega.docker.data.DataError: containerd would not use that root all the same, or refuses the file
    """
    lines, end = (text or "version = 2\n").splitlines(keepends=True), 0
    while end < len(lines) and not re.match(r"\s*\[", lines[end]):
        end += 1
    own = [line for line in lines[:end] if not re.match(r"""\s*["']?root["']?\s*=""", line)]
    made = f'root = "{folder}"\n' + "".join(own + lines[end:])
    with tempfile.TemporaryDirectory(prefix="rpiomega-") as scratch:
        trial = os.path.join(scratch, "config.toml")
        files.write(trial, made)
        if (now := root(trial)) != folder:
            raise data.DataError(
                f"docker.data_root: with root = {folder} in {path or CONFIG} containerd uses {now}: one of the files "
                "that it imports names another; see `containerd config dump`, and correct that file"
            )
    return made


class Move:
    """Images on their way from one folder of containerd's to another, with the data root or by themselves."""

    def __init__(self, old, new, along):
        """
        :param along: whether the copy of the data root brings them: they are below it
        """
        self.old, self.new, self.along = old, new, along
        self.text = files.read(CONFIG)
        self.made = with_root(self.text, new)

    def plan(self, allowed, besides=0):
        """Judge the move.

        :param allowed: whether data may be copied
        :param besides: MB that the data root takes on the same disk
        :raises omega.docker.data.DataError: it is not allowed, or does not fit
        """
        if self.along:
            return
        if not allowed:
            raise data.DataError(
                f"docker.data_root: this engine keeps its images in containerd, below {self.old}, which data_root has "
                "to move as well. Write `move_data: true` beside it, then apply again"
            )
        data.fits(self.old, self.new, besides)

    def copy(self):
        """Copy the images; the old ones stay.

        :raises omega.docker.data.DataError: they could not be copied
        """
        if not self.along:
            data.copy(self.old, self.new)

    def place(self):
        """Have containerd use the new folder from its next start on."""
        files.write(CONFIG, self.made, files.mode_of(CONFIG) or 0o644)

    def back(self):
        """Have containerd use the old folder again."""
        if self.text is None:
            files.remove(CONFIG)
        else:
            files.write(CONFIG, self.text, files.mode_of(CONFIG) or 0o644)


def move(old_root, new_root, site, info):
    """Return the Move that a data root asks for, or None: the images are where they should be.

    :param old_root: the data root until now
    :param new_root: the data root from now on
    :param site: whether the site names it
    :param info: decoded /info of the engine as it runs; None: none answers
    """
    if not site and old_root == new_root:
        return None
    now = root()
    below = os.path.join(old_root, BELOW)
    if now == below and old_root != new_root:
        return Move(now, os.path.join(new_root, BELOW), along=True)
    if not site or now == os.path.join(new_root, BELOW) or not holds_images(now):
        return None
    # Of an engine that does not answer, what is below its data root shows where it keeps images.
    in_use = used(info) if info is not None else "images" not in data.holds(old_root)
    return Move(now, os.path.join(new_root, BELOW), along=False) if in_use else None
