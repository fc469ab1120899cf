"""The least a node's Consul token must be allowed, as ACL rules. Pure."""

from omega.site import nodes as site_nodes

PREFIX = "rpiomega/"
SWARM = PREFIX + "swarm/"
WORKER_TOKEN = SWARM + "worker-token"
RESTART_LOCK = PREFIX + "consul/restart"
NODE = "rpiomega-node-"
# DNS asks without a token. It may learn what DNS tells, on the node itself only, and nothing else.
ANONYMOUS = "rpiomega-anonymous"
ANONYMOUS_RULES = 'node_prefix "" { policy = "read" }\nservice_prefix "" { policy = "read" }\n'


def policy_name(name):
    """Return the name of the policy of node ``name``."""
    return NODE + name


def departed(site, names):
    """Return, sorted, the nodes of the policies called ``names`` that the site does not have (any more)."""
    nodes = {name[len(NODE) :] for name in names if name.startswith(NODE)}
    return sorted(nodes - set(site_nodes.nodes(site)))


def rules(site, name, peer=False):
    """Return the ACL rules (HCL) of node ``name``.

    :param peer: whether the node is a Raft peer now. Until it has left it keeps a server's rights, whatever the site
        file says: with them it sees its peers and takes its turn

    Every node registers itself and its checks, holds sessions of its own, reads the cluster's keys and writes the
    one key that describes it. Only managers write the election's keys, only Consul's servers the key by which they
    take turns; nobody but the master's management token edits ACLs. No node may write a service, whatever its name:
    with that alone Consul lets it overwrite any check of any node, serfHealth too, as a check of that service
    (agent/consul/catalog_endpoint.go, vetRegisterWithACL; done on 1.8.7 and 1.13.9). That ends the node's sessions.

    A node that the site does not have keeps what it needs to leave the swarm and Consul, and no longer reads how to
    join; `rpiomega remove` ends its token and deletes the policy.
    """
    lines = [
        f'node "{name}" {{ policy = "write" }}',
        'node_prefix "" { policy = "read" }',
        f'agent "{name}" {{ policy = "write" }}',
        'service_prefix "" { policy = "read" }',
        f'session "{name}" {{ policy = "write" }}',
        'session_prefix "" { policy = "read" }',
        f'key_prefix "{PREFIX}" {{ policy = "read" }}',
        f'key "{SWARM}nodes/{name}" {{ policy = "write" }}',
    ]
    if name not in site_nodes.nodes(site):
        lines.append(f'key "{WORKER_TOKEN}" {{ policy = "deny" }}')
    manager, server = "manager" in site_nodes.roles(site, name), peer or name in site_nodes.consul_servers(site)
    if manager:
        lines.append(f'key_prefix "{SWARM}" {{ policy = "write" }}')
    if server:
        lines.append(f'key "{RESTART_LOCK}" {{ policy = "write" }}')
    if manager or server:
        lines.append('operator = "read"')
    return "\n".join(lines) + "\n"
