"""Containers by specification: what should run, hashed into a label, compared with what does run."""

import hashlib
import json
import os

LABEL = "rpiomega.spec"


def fingerprint(spec, image_id, config):
    """Return a hash of everything that, changed, needs a new container.

    :param spec: dict of the container's settings
    :param image_id: the ID of the image it shall run
    :param config: paths of files or folders it reads only at its start
    """
    digest = hashlib.sha256()
    digest.update(json.dumps([spec, image_id], sort_keys=True).encode())
    for path in sorted(_files(config)):
        digest.update(path.encode())
        with open(path, "rb") as file:
            digest.update(hashlib.sha256(file.read()).digest())
    return digest.hexdigest()


def _files(paths):
    for path in paths:
        if os.path.isdir(path):
            yield from (os.path.join(path, name) for name in os.listdir(path) if not name.startswith("."))
        elif os.path.exists(path):
            yield path


def spec_of(image, entrypoint, command, network_mode, user, cap_drop, volumes, restart):
    """Return the SDK's arguments of a container, all but its name and labels."""
    return {
        "image": image,
        "entrypoint": entrypoint,
        "command": command,
        "network_mode": network_mode,
        "user": user,
        "cap_drop": cap_drop,
        "volumes": volumes,
        "restart_policy": {"Name": restart},
    }
