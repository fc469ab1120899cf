"""
Consul: keys, transactions, sessions, locks, elections, the agent, catalog, health, ACLs, snapshots.

It replaces the ``consul`` module that Salt had in core until 3007, with the same functions and arguments. The
functions are written, each with its documentation, in ``_utils/omega_consul_exec_*.py``; here they get the
arguments all of them share, and Salt's configuration:

consul_url
    of the agent; default: ``consul.url`` of the minion's configuration or pillar, else http://127.0.0.1:8500
token
    ACL token; default: ``consul.token`` of the minion's configuration or pillar, else pillar
    ``rpiomega_secrets:consul:token``. Arguments stay in the master's job cache: rather configure it.

Every function returns ``{"res": bool, ...}`` with ``data`` or ``message`` (and ``kind`` where it failed:
unreachable, no_leader, timeout, denied, not_found, conflict, lost, bad_request) within the time-out
``consul.timeout``, 3 seconds by default. Reads are consistent unless ``stale=True``. No return holds a token.

Requires py-consul.
"""

import omega_consul
import omega_consul_exec
import omega_consul_exec_acl
import omega_consul_exec_agent
import omega_consul_exec_catalog
import omega_consul_exec_kv
import omega_consul_exec_session

__virtualname__ = "consul"
__func_alias__ = {"list_": "list"}

_SOURCES = (
    omega_consul_exec_kv,
    omega_consul_exec_session,
    omega_consul_exec_agent,
    omega_consul_exec_catalog,
    omega_consul_exec_acl,
)


def __virtual__():
    try:
        omega_consul.load_library()
    except omega_consul.ConsulError as error:
        return False, str(error)
    return __virtualname__


def _connect(consul_url, token):
    client = omega_consul.from_salt(__opts__, __pillar__, consul_url, token)
    client.name = __opts__.get("id")
    return client


for _source in _SOURCES:
    for _function in _source.FUNCTIONS:
        globals()[_function.__name__] = omega_consul_exec.expose(_function, _connect)
