"""The configuration of a Consul agent, as data. Pure: site and secrets in, a dict out."""

import json

from omega.consul import versions
from omega.site import nodes

CONFIG_DIR = "/etc/consul"  # inside the container
DATA_DIR = "/var/lib/consul"
# Consul reads the .json files of its configuration folder, reports any other as skipped at each start, and leaves
# sub-folders alone (hashicorp/consul, agent/config/builder.go: sourcesFromPath).
CA, CERT, KEY = "tls/ca.pem", "tls/cert.pem", "tls/key.pem"
FILES = ("consul.json", CA, CERT, KEY)
# Where the PEM files were before. Nobody reads them once consul.json names the new places.
RETIRED = ("ca.pem", "cert.pem", "key.pem")
BOOTSTRAP = "bootstrap.json"
# Units that every node has a check for, fed every 10 s by salt/consul/files/consul_health.py.
CHECKED = ("docker", "salt-minion")
CHECK_TTL = "30s"


def version_of(image):
    """Return the ``(major, minor)`` an image's tag names; a tag without a version counts as current."""
    return (versions.of_name(image) or (1, 99))[:2]


def build(site, name, image, secrets, management_token=None, raft_multiplier=5, checked=CHECKED):
    """Build the agent configuration of one node.

    :param site: the pillar's ``rpiomega``
    :param name: this node's name
    :param image: the container image; its tag decides the syntax
    :param secrets: ``rpiomega_secrets:consul`` of the node
    :param management_token: given only to the server that makes the cluster
    :param raft_multiplier: factor of Raft's time-outs; Consul's own default is 5
    :param checked: units of the node that have a check, which somebody on the node feeds
    :return: dict for ``consul.json``
    """
    version = version_of(image)
    servers = nodes.consul_servers(site)
    server = name in servers
    address = nodes.address(site, name)
    config = {
        "datacenter": site.get("cluster", "omega"),
        "node_name": name,
        "data_dir": DATA_DIR,
        "server": server,
        "bind_addr": address,
        "client_addr": "127.0.0.1",
        "retry_join": [nodes.address(site, peer) for peer in servers if peer != name],
        "retry_interval": "5s",
        "encrypt": secrets["gossip_key"],
        "acl": _acl(version, secrets["token"], management_token if server else None),
        # A reboot is not a removal: the node keeps its place.
        "leave_on_terminate": False,
        "skip_leave_on_interrupt": True,
        "disable_update_check": True,
        "log_level": "INFO",
        "checks": [_check(unit, secrets["token"]) for unit in checked],
    }
    config.update(_tls(version))
    if server:
        # A dead server stays listed until somebody says it is gone: removing it must be a decision.
        config["autopilot"] = {"cleanup_dead_servers": False, "min_quorum": len(servers)}
        config["performance"] = {"raft_multiplier": raft_multiplier}
    return config


def _check(unit, token):
    """The TTL check of a unit, critical until it is fed. It is the node's and not a service's: see the policies. It
    registers with its own token: the agent's is for the agent's work only
    (developer.hashicorp.com/consul/docs/security/acl/tokens)."""
    return {"id": unit, "name": f"{unit} works", "ttl": CHECK_TTL, "token": token}


def _acl(version, token, management_token):
    tokens = {"agent": token}
    if management_token:
        # Renamed in 1.11 (developer.hashicorp.com/consul/docs/reference/agent/configuration-file/acl).
        tokens["initial_management" if version >= (1, 11) else "master"] = management_token
    return {"enabled": True, "default_policy": "deny", "down_policy": "extend-cache", "tokens": tokens}


def _tls(version):
    files = {
        "ca_file": f"{CONFIG_DIR}/{CA}",
        "cert_file": f"{CONFIG_DIR}/{CERT}",
        "key_file": f"{CONFIG_DIR}/{KEY}",
        "verify_incoming": True,
        "verify_outgoing": True,
    }
    # The tls stanza came with 1.12; the top-level keys went deprecated with it.
    if version >= (1, 12):
        return {"tls": {"defaults": files, "internal_rpc": {"verify_server_hostname": True}}}
    return {**files, "verify_server_hostname": True}


def files(config, secrets, bootstrap=False):
    """Return ``{path in the agent's configuration folder: text}``, in the order in which they are written: consul.json
    names the others, and Docker may start the agent again at any moment.

    :param bootstrap: let this server start a cluster by itself. That stands in a file of its own, taken away once
        there is a cluster: a server that lost its data would start a second one
    """
    texts = {
        CA: secrets["ca"],
        CERT: secrets["cert"],
        KEY: secrets["key"],
        "consul.json": json.dumps(config, indent=2, sort_keys=True) + "\n",
    }
    return {**texts, BOOTSTRAP: '{"bootstrap_expect": 1}\n'} if bootstrap else texts
