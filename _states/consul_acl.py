"""Consul's access control for the cluster: one policy and one token for each node, made on the master.

The SecretIDs come from the master's pillar: they were made before Consul was, so a node's agent can start with its
token before the cluster knows it, and no token ever travels back from Consul.
"""

import contextlib
import os

from omega.consul import agent, trouble
from omega.consul import client as consul_client
from omega.consul import tokens as consul_tokens
from omega.core import files
from omega.core import pillar as salt_pillar
from omega.site import nodes as site_nodes


@files.disk_errors_returned
def cluster_tokens(name, marker, config_dir, timeout=120, container="rpiomega-consul"):
    """Have a policy and a token for every node of the site, and one policy for who has none. Only on the master.

    :param name: a label
    :param marker: path of the file that will say from now on that the cluster exists: no other may be started
    :param config_dir: path of the agent's configuration folder, of ``consul_agent.configured``
    :param timeout: seconds to wait for Consul to have a leader
    :param container: the agent's, whose last error is named where the wait fails
    :return: Salt's state return; ``changes`` maps a node's name to what changed for it, never a token
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    site, secrets = salt_pillar.site(__pillar__), salt_pillar.secrets(__pillar__)
    management, tokens = secrets.get("management_token"), secrets.get("node_tokens")
    if not management or not tokens:
        ret["comment"] = f"{__opts__['id']} has no management token: only the site's master keeps the ACLs"
        return {**ret, "result": False}
    test, starter = __opts__["test"], os.path.join(config_dir, agent.BOOTSTRAP)
    try:
        client = consul_client.from_salt(__opts__, __pillar__, token=management)
        client.wait_ready(0 if test else timeout, acl=True)
        ret["changes"] = consul_tokens.tokens(client, site, tokens, test)
        if not os.path.exists(marker) or os.path.exists(starter):
            ret["changes"]["marker"] = marker
            if not test:
                files.write(marker, f"{client.leader()}\n", 0o600)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(starter)
    except consul_client.ConsulError as error:
        # Before the first start there is nothing to compare with: everything would be made.
        if test and error.kind in ("unreachable", "no_leader"):
            ret["changes"] = {node: ["policy", "token"] for node in site_nodes.nodes(site)}
            return {**ret, "result": None, "comment": f"would make them once Consul runs ({error})"}
        return {**ret, "result": False, "comment": trouble.explained(error, container)}
    if not ret["changes"]:
        return {**ret, "comment": f"{len(tokens)} nodes have their policy and token"}
    done = ", ".join(ret["changes"])
    if test:
        return {**ret, "result": None, "comment": f"would set policy or token of {done}"}
    return {**ret, "comment": f"set policy or token of {done}"}
