"""Consul's access control for the cluster: one policy and one token for each node, made on the master.

The SecretIDs come from the master's pillar: they were made before Consul was, so a node's agent can start with its
token before the cluster knows it, and no token ever travels back from Consul.
"""

import os

import omega_consul
import omega_consul_acl
import omega_consul_policies
import omega_files
import omega_site


def cluster_tokens(name, marker, timeout=120):
    """Have a policy and a token for every node of the site. Runs on the master only.

    :param name: a label
    :param marker: path of the file that will say from now on that the cluster exists: no other may be started
    :param timeout: seconds to wait for Consul to have a leader
    :return: Salt's state return; ``changes`` maps a node's name to what changed for it, never a token
    """
    ret = {"name": name, "result": True, "changes": {}, "comment": ""}
    site, secrets = __pillar__.get("rpiomega") or {}, __pillar__.get("rpiomega_secrets") or {}
    management, tokens = secrets.get("management_token"), secrets.get("node_tokens")
    if not management or not tokens:
        ret["comment"] = f"{__opts__['id']} has no management token: only the site's master keeps the ACLs"
        return {**ret, "result": False}
    client = omega_consul.from_salt(__opts__, __pillar__, token=management)
    try:
        client.wait_ready(0 if __opts__["test"] else timeout)
        for node in omega_site.nodes(site):
            changed = _node(client, site, node, tokens[node])
            if changed:
                ret["changes"][node] = changed
        if not os.path.exists(marker):
            ret["changes"]["marker"] = marker
            if not __opts__["test"]:
                omega_files.write(marker, f"{client.leader()}\n", 0o600)
    except omega_consul.ConsulError as error:
        # Before the first start there is nothing to compare with: everything would be made.
        if __opts__["test"] and error.kind in ("unreachable", "no_leader"):
            ret["changes"] = {node: ["policy", "token"] for node in omega_site.nodes(site)}
            return {**ret, "result": None, "comment": f"would make them once Consul runs ({error})"}
        return {**ret, "result": False, "comment": str(error)}
    if not ret["changes"]:
        return {**ret, "comment": f"{len(tokens)} nodes have their policy and token"}
    done = ", ".join(ret["changes"])
    if __opts__["test"]:
        return {**ret, "result": None, "comment": f"would set policy or token of {done}"}
    return {**ret, "comment": f"set policy or token of {done}"}


def _node(client, site, node, token):
    policy = omega_consul_policies.policy_name(node)
    rules = omega_consul_policies.rules(site, node)
    description = f"rpiomega node {node}"
    if __opts__["test"]:
        policy_changes = omega_consul_acl.plan_policy(client, policy, rules)
        token_changes = omega_consul_acl.plan_token(client, token, description=description, policies=[policy])
    else:
        policy_changes = omega_consul_acl.ensure_policy(client, policy, rules)
        token_changes = omega_consul_acl.ensure_token(client, token, description=description, policies=[policy])
    return [what for what, changed in (("policy", policy_changes), ("token", token_changes)) if changed]
