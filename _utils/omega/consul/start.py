"""
Whether there is a Consul cluster already, asked before the master starts one.

The file that says so stands with the master's secrets. A reinstalled master without them would start a second cluster
beside the one that lives. So every other node is asked on the port on which only servers listen, as servers ask each
other: a byte that asks for TLS, the handshake, a byte for net/rpc, msgpack (Consul's agent/pool/conn.go: RPCTLS,
RPCConsul). ``Status.Peers`` needs no token, and a server answers it from its own Raft, also without a leader
(agent/consul/status_endpoint.go).
"""

import contextlib
import json
import os
import socket
import ssl
import tempfile
from concurrent.futures import ThreadPoolExecutor

import msgpack

from omega.consul import agent
from omega.consul.client import ConsulError
from omega.core import files
from omega.core.polling import until
from omega.site import nodes as site_nodes

PORT = 8300
CONNECT, ANSWER = 2.0, 5.0  # seconds of one attempt
BOUND = 15.0  # seconds for a server that is there and does not say: it may be starting
RPC_TLS, RPC_CONSUL = b"\x03", b"\x00"
MANUAL = "docs/operations.md, The master's card died"
RESTORE = (
    "put the copy of /etc/rpiomega/secrets back on the master, there `sudo salt '*' saltutil.refresh_pillar`, then "
    f"apply again ({MANUAL})"
)


class _Foreign(Exception):
    """The server is not of this certificate authority."""


def cluster_of(site, node, secrets, port=PORT, bound=BOUND):
    """Return the names of the site's other nodes whose Consul server belongs to a cluster, by this node's secrets.

    :param site: the pillar's ``rpiomega``
    :param node: this node's name
    :param secrets: ``rpiomega_secrets:consul`` of this node
    :param port: the servers' RPC port
    :param bound: seconds for a server that is there and does not say
    :return: sorted list; empty if a cluster may be started. A node that cannot be reached is none that is asked
    :raises ConsulError: "conflict" if a server there has another certificate authority, "timeout" if one does not say
    """
    others = [name for name in site_nodes.nodes(site) if name != node]
    if not others:
        return []
    with tempfile.TemporaryDirectory(prefix="rpiomega-") as folder:  # 0700; ssl takes a key only from a file
        context = _context(folder, secrets)
        with ThreadPoolExecutor(len(others)) as pool:
            found = pool.map(lambda name: _asked(name, site_nodes.address(site, name), port, context, bound), others)
            return sorted(name for name, peers in zip(others, found) if peers)


def other_cluster(folder, secrets):
    """Say why the agent whose configuration is in ``folder`` is of another cluster than ``secrets``; "" if it is not.

    Consul's CA and gossip key are made once in a cluster's life.
    """
    places = (agent.CA, agent.RETIRED[0])
    known = [files.read(os.path.join(folder, place)) for place in places]
    old = {"certificate authority": known[0] or known[1]}
    with contextlib.suppress(ValueError):  # half a file is no reason to keep it
        old["gossip key"] = json.loads(files.read(os.path.join(folder, "consul.json")) or "{}").get("encrypt")
    new = {"certificate authority": secrets["ca"], "gossip key": secrets["gossip_key"]}
    differ = [what for what, value in new.items() if old.get(what) and old[what] != value]
    if not differ:
        return ""
    return (
        f"this node belongs to a Consul cluster with another {' and '.join(differ)} than the master's secrets, and is "
        f"left alone: {RESTORE}; if that cluster is gone for ever, `docker rm -f rpiomega-consul; docker volume rm "
        f"rpiomega-consul; rm -r {folder}` here, then apply again"
    )


def _context(folder, secrets):
    for name in ("cert", "key"):
        files.write(os.path.join(folder, name), secrets[name], 0o600)
    context = ssl.create_default_context(cadata=secrets["ca"])
    context.check_hostname = False  # the authority is the cluster's own and signs nobody else
    context.load_cert_chain(os.path.join(folder, "cert"), os.path.join(folder, "key"))
    return context


def _asked(name, address, port, context, bound):
    """Raft's peers as the server at ``address`` knows them; [] if it has none or nobody listens."""
    where = f"{name} ({address}:{port})"
    cause = f"{where} is a server, and within {bound:g} s it did not say whether it belongs to one"
    cure = "see `docker logs rpiomega-consul` there, then apply again"
    late = ConsulError("timeout", f"no Consul cluster is started here: {cause}", cure)
    try:
        # In a tuple: no peers is an answer, too.
        return until(lambda: (_peers(address, port, context),), bound, passing=_undecided, failure=late)[0]
    except (ConnectionRefusedError, _Silent):
        return []
    except _Foreign as error:
        raise ConsulError(
            "conflict",
            f"no Consul cluster is started here: {where} is a server of one with another certificate authority "
            f"than this master's secrets ({error}): {RESTORE}",
        ) from None


def _undecided(error):
    return isinstance(error, (OSError, ValueError)) and not isinstance(error, ConnectionRefusedError)


class _Silent(Exception):
    """Nobody is there."""


def _peers(address, port, context):
    try:
        plain = socket.create_connection((address, port), CONNECT)
    except ConnectionRefusedError:
        raise
    except OSError as error:
        raise _Silent(str(error)) from None
    with plain:
        plain.settimeout(ANSWER)
        plain.sendall(RPC_TLS)
        try:
            secured = context.wrap_socket(plain)
        except ssl.SSLCertVerificationError as error:
            raise _Foreign(error.verify_message) from None
        with secured:
            call = [{"ServiceMethod": "Status.Peers", "Seq": 0}, {}]
            secured.sendall(RPC_CONSUL + b"".join(msgpack.packb(part) for part in call))
            header, body = _answer(secured)
    if header.get("Error"):
        raise ValueError(header["Error"])
    return list(body or [])


def _answer(connection):
    unpacker, parts = msgpack.Unpacker(raw=False), list[dict]()
    while len(parts) < 2:
        data = connection.recv(65536)
        if not data:
            raise ValueError("it closed the connection")
        unpacker.feed(data)
        parts += unpacker
    return parts
