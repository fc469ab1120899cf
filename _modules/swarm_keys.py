"""
Keys, join tokens and the CA of this node's Docker Swarm, and how to make new ones.

Part of the module `swarm`, with the rules of swarm.py: no function returns or takes a token or a key, and errors are
CommandExecutionError with the next step.
"""

from salt.exceptions import CommandExecutionError

from omega.swarm import minion
from omega.swarm.settings import ca, key

__virtualname__ = "swarm"


def __virtual__():
    return __virtualname__


def _engine(base_url):
    return minion.engine(__opts__, __pillar__, base_url)


def _store():
    return minion.store(__opts__, __pillar__)


def _keyring():
    """Keyring of this node, None where the site says that no key is kept."""
    spec = (minion.site(__pillar__).get("swarm") or {}).get("spec") or {}
    return None if spec.get("unlock") == "never" else minion.keyring(__opts__, __pillar__)


@minion.salt_errors
def rotate_tokens(role, base_url=None):
    """
    Rotate a join token: nobody can join with the old one any more. A new worker token is written to Consul, where
    joining nodes read it, so nothing is changed while Consul cannot be written; a manager token is not published. On a
    manager.

    :param role: worker or manager
    :param base_url: the engine's socket; default `swarm.docker_url` of the minion's configuration, then the local one
    :return: True; never a token
    :raises CommandExecutionError: another role; no engine or no Consul answers; this node is no manager; the swarm has
        no leader, or is not the recorded one

    CLI Example:

    .. code-block:: bash

        salt rpiomega-master swarm.rotate_tokens worker
    """
    ca.rotate_token(_engine(base_url), _store(), role)
    return True


@minion.salt_errors
def rotate_unlock_key(base_url=None):
    """
    Rotate the key of an autolocked swarm, and keep it on this manager. On a manager; run what `next` says at
    once: until then the other managers hold the old key, and would stay locked after a restart.

    :param base_url: the engine's socket; default `swarm.docker_url` of the minion's configuration, then the local one
    :return: dict: outdated (other managers), next (the command); never a key
    :raises CommandExecutionError: autolock is off; no engine answers; this node is no manager; the swarm has no leader;
        the file cannot be written

    CLI Example:

    .. code-block:: bash

        salt rpiomega-master swarm.rotate_unlock_key
    """
    keyring = _keyring()
    others = key.rotate(_engine(base_url), keyring)
    following = f"salt -L {','.join(others)} swarm.keep_unlock_key" if others and keyring else ""
    return {"outdated": others, "next": following}


@minion.salt_errors
def keep_unlock_key(base_url=None):
    """
    Bring this manager's file with the unlock key up to date, as the state `swarm.cluster` does.

    :param base_url: the engine's socket; default `swarm.docker_url` of the minion's configuration, then the local one
    :return: why that was needed ("absent", "outdated", "readable by others"), or "" if it was not; never a key
    :raises CommandExecutionError: the site says that no key is kept; autolock is off; no engine answers; this node is
        no manager; the swarm has no leader

    CLI Example:

    .. code-block:: bash

        salt -L rpiomega-2,rpiomega-3 swarm.keep_unlock_key
    """
    keyring = _keyring()
    if keyring is None:
        raise CommandExecutionError(f"{__opts__['id']}: the site says swarm.spec.unlock: never, so no key is kept")
    return key.keep(_engine(base_url), keyring)


@minion.salt_errors
def ca_status(base_url=None):
    """
    Whether all nodes have certificates of the swarm's CA. On a manager.

    :param base_url: the engine's socket; default `swarm.docker_url` of the minion's configuration, then the local one
    :return: dict: finished (bool), progress (one clause), fingerprint (of the CA certificate)
    :raises CommandExecutionError: no engine answers; this node is no manager; the swarm has no leader

    CLI Example:

    .. code-block:: bash

        salt rpiomega-master swarm.ca_status
    """
    engine = _engine(base_url)
    finished, progress = ca.progress(engine)
    root = ca.root_of(engine.cluster())
    return {"finished": finished, "progress": progress, "fingerprint": ca.fingerprint(root)}


@minion.salt_errors
def rotate_ca(timeout=600, even_if_down=False, base_url=None):
    """
    Make the swarm a new CA, wait until every node has a certificate of it, and write the worker token, which names the
    CA, to Consul. On a manager. Refused while a node is down, because it would not end, and without Consul.

    :param timeout: seconds to wait; the rotation goes on after them
    :param even_if_down: True: begin although nodes are down
    :param base_url: the engine's socket; default `swarm.docker_url` of the minion's configuration, then the local one
    :return: dict: old, new (fingerprints of the CA certificates); never a key
    :raises CommandExecutionError: a node is down; it has not ended within `timeout`; no engine or no Consul answers;
        this node is no manager; the swarm has no leader, or is not the recorded one

    CLI Example:

    .. code-block:: bash

        salt -t 660 rpiomega-master swarm.rotate_ca
    """
    old, new = ca.rotate_ca(_engine(base_url), _store(), timeout, even_if_down)
    return {"old": old, "new": new}
