"""The settings of a Docker Engine: read, compared, and judged by its own program. No file of the system is written."""

import codecs
import json
import os
import re
import subprocess

from omega.core.errors import Failure

# What an engine takes over on SIGHUP (docs.docker.com/reference/cli/dockerd, "Configuration reload behavior").
RELOADABLE = {
    "debug",
    "features",
    "insecure-registries",
    "labels",
    "live-restore",
    "max-concurrent-downloads",
    "max-concurrent-uploads",
    "max-download-attempts",
    "registry-mirrors",
    "shutdown-timeout",
}
# The one feature that is not among them: where images are kept is decided as the engine starts
# (docs.docker.com/engine/storage/containerd).
IMAGE_STORE = "containerd-snapshotter"
NOBODY = 65534
BOUND = 60


class ConfigError(Failure):
    """The settings cannot be used; the text names the file or key and the next step."""


def parse(path, text):
    """Return the mapping that a daemon.json contains; `text` None or empty: an empty one.

    As an engine reads it: a byte order mark is skipped, of a name that is there twice the last value counts, and two
    mappings of one name join (moby daemon/config/config.go, getConflictFreeConfiguration).

    :param text: of omega.core.files.read
    :raises ConfigError: no JSON, or no mapping
    """
    text = _decoded(text or "").strip()
    if not text:
        return {}
    try:
        found = json.loads(text, object_pairs_hook=_joined, parse_constant=_no_json)
    except ValueError as error:
        raise ConfigError(f"{path} is no JSON ({error}): correct it or move it away, then apply again") from error
    if not isinstance(found, dict):
        raise ConfigError(f"{path} contains no mapping: correct it or move it away, then apply again")
    return found


def _decoded(text):
    raw = text.encode("utf-8", "surrogateescape")
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16", "replace")
    return text[1:] if text.startswith("\ufeff") else text


def _joined(pairs):
    found: dict = {}
    for key, value in pairs:
        both = isinstance(value, dict) and isinstance(found.get(key), dict)
        found[key] = {**found[key], **value} if both else value
    return found


def _no_json(constant):
    raise ValueError(f"{constant} is no number of JSON")


def difference(old, new):
    """Return ``{key: {"old": …, "new": …}}`` of the top-level keys that differ; a missing one is None."""
    keys = sorted(set(old) | set(new))
    return {key: {"old": old.get(key), "new": new.get(key)} for key in keys if old.get(key) != new.get(key)}


def needs_restart(changes):
    """Return those keys of a `difference` that an engine takes over only as it starts.

    A key that is gone is one of them: a reload leaves alone what the file does not name (measured on 20.10).
    """
    stores = {_store(features) for features in changes.get("features", {}).values()}
    return sorted(
        key
        for key, change in changes.items()
        if key not in RELOADABLE or change["new"] is None or (key == "features" and len(stores) > 1)
    )


def image_store(ours, found, before, used):
    """Return the site's settings with images kept below its data root, where that takes a setting.

    From Docker 29 on a new installation keeps them in containerd's folder, which the data root does not move
    (docs.docker.com/engine/daemon); earlier releases do so only if told. Nothing is added where the site or somebody
    else has chosen, or where images are in containerd's folder already: the engine would not find them any more.

    :param ours: what the site wants
    :param found: what the file holds now
    :param before: what the site wanted last time, with what was added then
    :param used: whether containerd's folder holds images
    """
    features = ours.get("features", {})
    # What is no mapping is for the engine to refuse.
    chosen = "storage-driver" in {**found, **ours} or not isinstance(features, dict) or IMAGE_STORE in features
    added = _store(before.get("features")) is False
    if "data-root" not in ours or chosen or (not added and (used or _store(found.get("features")) is not None)):
        return ours
    return {**ours, "features": {**features, IMAGE_STORE: False}}


def _store(features):
    return features.get(IMAGE_STORE) if isinstance(features, dict) else None


def validate(settings, dockerd, flags=()):
    """Have the engine's own program judge the settings, with the flags that its service gives it.

    :param settings: mapping
    :param dockerd: path of the program
    :param flags: list; a setting given there as well is an error too
    :raises ConfigError: with the program's words
    """
    # A file without a name: logins of proxies and log drivers may be in it, and a release that cannot validate reads
    # it as another user.
    handle = os.memfd_create("daemon.json")
    try:
        with open(handle, "w", encoding="utf-8", closefd=False) as file:
            json.dump(settings, file)
        path = f"/proc/self/fd/{handle}"
        # --validate came with release 23.
        asked = _run([dockerd, *flags, "--validate", "--config-file", path], pass_fds=[handle])
        if asked.returncode and "unknown flag: --validate" in asked.stderr:
            asked = _older(dockerd, flags, path, handle)
    finally:
        os.close(handle)
    if asked.returncode:
        words = asked.stderr.strip().splitlines() or [f"exit code {asked.returncode}"]
        raise ConfigError(re.sub(r"^.*with file \S+: ", "", words[-1]))


def _older(dockerd, flags, path, handle):
    """Ask a release that cannot validate: without root it reads its settings, then refuses to start."""

    def drop():
        os.setgroups([])
        os.setgid(NOBODY)
        os.setuid(NOBODY)

    asked = _run([dockerd, *flags, "--config-file", path], preexec_fn=drop, pass_fds=[handle])
    if "needs to be started with root" in asked.stderr:
        asked.returncode = 0
    return asked


def _run(command, **options):
    try:
        # No PATH to search, no environment that changes what is read.
        return subprocess.run(command, capture_output=True, text=True, timeout=BOUND, check=False, **options)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ConfigError(f"{command[0]} cannot judge the settings: {error}") from error
