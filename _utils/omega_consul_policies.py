"""The least a node's Consul token must be allowed, as ACL rules. Pure."""

import omega_site

PREFIX = "rpiomega/"
SWARM = PREFIX + "swarm/"


def policy_name(name):
    """Return the name of the policy of node ``name``."""
    return f"rpiomega-node-{name}"


def rules(site, name):
    """Return the ACL rules (HCL) of node ``name``.

    Every node registers itself, holds sessions of its own, reads the cluster's keys and writes the one key that
    describes it. Only managers write the election's keys; nobody but the master's management token edits ACLs.
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
    if "manager" in omega_site.roles(site, name):
        lines += [f'key_prefix "{SWARM}" {{ policy = "write" }}', 'operator = "read"']
    return "\n".join(lines) + "\n"
