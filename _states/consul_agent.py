"""The Consul agent of a node: its configuration folder, and the moment it is ready for use.

The configuration holds secrets, so it is built here from the node's own pillar and never passes through a
rendered SLS, a file diff or a return.
"""

import os

import omega_consul
import omega_consul_agent
import omega_files
import omega_site


def configured(name, image, marker):
    """Have the agent's configuration folder as the site and this node's secrets say.

    :param name: path of the folder on the node, mode 0700, files 0600
    :param image: the agent's container image; its version decides the syntax
    :param marker: path of the file that says the cluster exists (see ``consul_acl.cluster_tokens``)
    :return: Salt's state return; ``changes`` names files, never their text

    .. code-block:: yaml

        consul.config:
          consul_agent.configured:
            - name: /etc/rpiomega/consul
            - image: hashicorp/consul:1.21.5
            - marker: /etc/rpiomega/secrets/consul/bootstrapped
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": f"{name} is as it should be"}
    node, site = __opts__["id"], __pillar__.get("rpiomega") or {}
    secrets = __pillar__.get("rpiomega_secrets") or {}
    problem = _missing(node, site, secrets)
    if problem:
        return {**ret, "result": False, "comment": problem}
    management = secrets.get("management_token")
    config = omega_consul_agent.build(
        site, node, image, secrets["consul"], management, bootstrap=_may_bootstrap(name, site, node, marker)
    )
    wanted = omega_consul_agent.files(config, secrets["consul"])
    stale = [file for file, text in wanted.items() if not _is(os.path.join(name, file), text)]
    if not stale:
        return ret
    ret["changes"] = {"files": sorted(stale)}
    if __opts__["test"]:
        return {**ret, "result": None, "comment": f"{name}: would write {', '.join(sorted(stale))}"}
    os.makedirs(name, mode=0o700, exist_ok=True)
    os.chmod(name, 0o700)
    for file in stale:
        omega_files.write(os.path.join(name, file), wanted[file], 0o600)
    return {**ret, "comment": f"{name}: wrote {', '.join(sorted(stale))}"}


def ready(name, timeout=300):
    """Wait until the local agent answers, its cluster has a leader and this node's token is known.

    Changes nothing, so it runs the same way under ``test=True`` but does not wait there.

    :param name: a label; by habit the container's name
    :param timeout: seconds to wait at the most
    :return: Salt's state return; on failure the comment holds the last thing seen
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": "Consul is ready"}
    client = omega_consul.from_salt(__opts__, __pillar__)
    try:
        client.wait_ready(0 if __opts__["test"] else timeout)
    except omega_consul.ConsulError as error:
        if __opts__["test"]:
            return {**ret, "result": None, "comment": f"would wait for Consul: {error}"}
        return {**ret, "result": False, "comment": str(error)}
    return ret


def _missing(node, site, secrets):
    if node not in omega_site.nodes(site):
        return f"{node} is not among the site's nodes: add it to pillar/site.sls under rpiomega:nodes"
    if omega_site.master(site) is None:
        return "no node of the site has the role master: give it to one in pillar/site.sls"
    if not secrets.get("consul"):
        return (
            f"the master gave {node} no Consul secrets: check ext_pillar `rpiomega` in "
            "/etc/salt/master.d/rpiomega.conf and restart salt-master"
        )
    return None


def _may_bootstrap(folder, site, node, marker):
    """Only the master starts a cluster, and only once in the life of its secrets.

    A re-imaged master with ``bootstrap_expect`` 1 would elect itself beside the living cluster; once the
    cluster exists a marker stands with the secrets, so a master whose secrets were restored joins instead.
    What the folder says already stays: Consul ignores it once it has data.
    """
    if node != omega_site.master(site):
        return False
    present = omega_files.read(os.path.join(folder, "consul.json"))
    if present is not None:
        return '"bootstrap_expect"' in present
    return not os.path.exists(marker)


def _is(path, text):
    return omega_files.read(path) == text and omega_files.mode_of(path) == 0o600
