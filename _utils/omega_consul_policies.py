"""The least a node's Consul token must be allowed, as ACL rules. Pure."""

import omega_site

PREFIX = "rpiomega/"
SWARM = PREFIX + "swarm/"
RESTART_LOCK = PREFIX + "consul/restart"
# What every node announces of itself.
SERVICES = ("docker", "salt-minion")
# DNS asks without a token. It may learn what DNS tells, on the node itself only, and nothing else.
ANONYMOUS = "rpiomega-anonymous"
ANONYMOUS_RULES = 'node_prefix "" { policy = "read" }\nservice_prefix "" { policy = "read" }\n'


def policy_name(name):
    """Return the name of the policy of node ``name``."""
    return f"rpiomega-node-{name}"


def rules(site, name):
    """Return the ACL rules (HCL) of node ``name``.

    Every node registers itself and its services, holds sessions of its own, reads the cluster's keys and writes the
    one key that describes it. Only managers write the election's keys, only Consul's servers the key by which they
    take turns; nobody but the master's management token edits ACLs.
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
        *(f'service "{service}" {{ policy = "write" }}' for service in SERVICES),
    ]
    manager, server = "manager" in omega_site.roles(site, name), name in omega_site.consul_servers(site)
    if manager:
        lines.append(f'key_prefix "{SWARM}" {{ policy = "write" }}')
    if server:
        lines.append(f'key "{RESTART_LOCK}" {{ policy = "write" }}')
    if manager or server:
        lines.append('operator = "read"')
    return "\n".join(lines) + "\n"
