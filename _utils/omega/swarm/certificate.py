"""What the files of a swarm node say without the engine: whose it is, how long, whether it is locked, its addresses."""

import datetime
import json
import os


def _path(root_dir, name):
    return os.path.join(root_dir, "swarm", "certificates", name)


def certificate(root_dir):
    """
    Return {"node_id", "role", "cluster_id", "begins", "expires"} of the node certificate below the engine's data
    folder; empty if there is none, or none that can be read. In its subject CN is the NodeID, OU the role, O the
    ClusterID (swarmkit ca/certificates.go); it begins an hour before it was made.
    """
    try:
        from cryptography import x509
        from cryptography.x509.oid import NameOID

        with open(_path(root_dir, "swarm-node.crt"), "rb") as file:
            cert = x509.load_pem_x509_certificate(file.read())
    except (ImportError, OSError, ValueError):
        return {}

    def subject(oid):
        found = cert.subject.get_attributes_for_oid(oid)
        return found[0].value if found else ""

    return {
        "node_id": subject(NameOID.COMMON_NAME),
        "role": subject(NameOID.ORGANIZATIONAL_UNIT_NAME).replace("swarm-", ""),
        "cluster_id": subject(NameOID.ORGANIZATION_NAME),
        "begins": _moment(cert, "not_valid_before"),
        "expires": _moment(cert, "not_valid_after"),
    }


def _moment(cert, name):
    found = getattr(cert, f"{name}_utc", None)  # cryptography 42 and later
    return found or getattr(cert, name).replace(tzinfo=datetime.timezone.utc)


def never_member(root_dir):
    """
    Whether the engine's swarm folder shows that this node never was a member: a join has begun and has not succeeded.

    The engine saves the node certificate as soon as a manager has accepted the node. It opens its list of tasks, and a
    manager its log, only after that (swarmkit node/node.go). False where the folder cannot be seen.
    """
    folder = os.path.join(root_dir, "swarm")
    traces = (_path(root_dir, "swarm-node.crt"), os.path.join(folder, "worker"), os.path.join(folder, "raft"))
    return bool(root_dir) and os.path.isdir(folder) and not any(map(os.path.lexists, traces))


def started_with(root_dir):
    """
    Return what the engine was asked for when it joined or initialised: ListenAddr, DataPathAddr, DataPathPort and more
    (docker-state.json; moby daemon/cluster/noderunner.go); empty if it cannot be read.
    """
    try:
        with open(os.path.join(root_dir, "swarm", "docker-state.json"), encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def autolocked(root_dir):
    """
    Whether the node's key is encrypted with an unlock key: then the swarm has autolock on. None if that is not
    known. (The PEM label shows it; measured on 20.10.)
    """
    try:
        with open(_path(root_dir, "swarm-node.key"), encoding="ascii") as file:
            label = file.readline().strip()
    except (OSError, ValueError):
        return None
    return "ENCRYPTED" in label if label.startswith("-----BEGIN ") else None
