"""Who may do what in the cluster's Consul: a policy and a token for every node, and what nobody's token may see."""

from __future__ import annotations

import uuid

from omega.consul import acl, policies, servers
from omega.site import nodes as site_nodes

# Consul's own (agent/structs/acl.go): it stands for every request without a token, and cannot be deleted.
ANONYMOUS_ACCESSOR = "00000000-0000-0000-0000-000000000002"
ANONYMOUS_SECRET = "anonymous"
# What a node announced as services until it had checks of its own instead. An agent as old as 1.8.7 cannot take them
# off the catalog: it deregisters a service that it does not know any more without a token.
_FORMER = ("docker", "salt-minion")
_NAMESPACE = uuid.UUID("6e0b4f0a-5d0f-5a6b-9a5c-3c8a5b1f7d21")


def accessor(site, node):
    """Return the AccessorID of a node's token: it stays when the secret changes, so that the old secret ends."""
    return str(uuid.uuid5(_NAMESPACE, f"{site.get('cluster', 'omega')}/{node}"))


def tokens(client, site, secrets, test=False):
    """Bring the policies and tokens of all nodes, and of those without a token, to what they should be.

    A node that was taken out of the site keeps its token, with less rights (``omega.consul.policies.rules``). A node
    that is a Raft peer keeps the rights of a server until it has left.

    :param client: with the management token
    :param secrets: ``{node: SecretID}``
    :param test: only say what would change
    :return: ``{node: [what changed]}``, without the nodes for which nothing did
    """
    peers = servers.peers(client)
    changes = {node: _node_token(client, site, node, secrets[node], peers, test) for node in site_nodes.nodes(site)}
    act_policy, act_token = _acts(test)
    for node in policies.departed(site, [policy["Name"] for policy in acl.list_policies(client)]):
        changed = act_policy(client, policies.policy_name(node), policies.rules(site, node, node in peers))
        changes[node] = ["policy"] if changed else []
    for node, service in _former_services(client, changes):
        changes[node].append(f"service {service}")
        if not test:
            body, what = {"Node": node, "ServiceID": service}, f"removing service {service} of {node}"
            client.request("put", "/v1/catalog/deregister", data=body, what=what)
    anonymous = {
        "policy": act_policy(client, policies.ANONYMOUS, policies.ANONYMOUS_RULES),
        "token": act_token(client, ANONYMOUS_SECRET, ANONYMOUS_ACCESSOR, "who has no token", [policies.ANONYMOUS]),
    }
    changes["anonymous"] = [what for what, changed in anonymous.items() if changed]
    return {node: what for node, what in changes.items() if what}


def _former_services(client, nodes):
    """[(node, service)] of what these nodes still announce."""
    found = []
    for service in _FORMER:
        path, what = f"/v1/catalog/service/{service}", f"listing who announces {service}"
        entries = client.request("get", path, acl.CONSISTENT, what=what)[1] or []
        found += [(entry["Node"], service) for entry in entries if entry["ServiceID"] == service]
    return [(node, service) for node, service in found if node in nodes]


def node_token(client, site, node, secret, test=False):
    """Bring one node's policy and token to what they should be; return the list of what changed."""
    return _node_token(client, site, node, secret, servers.peers(client), test)


def _node_token(client, site, node, secret, peers, test):
    act_policy, act_token = _acts(test)
    name = policies.policy_name(node)
    policy = act_policy(client, name, policies.rules(site, node, node in peers))
    token = act_token(client, secret, accessor(site, node), f"rpiomega node {node}", [name])
    return [what for what, changed in (("policy", policy), ("token", token)) if changed]


def _acts(test):
    if test:
        return acl.plan_policy, acl.plan_token
    return acl.ensure_policy, acl.ensure_token
