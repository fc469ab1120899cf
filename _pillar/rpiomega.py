"""Give each node of the site its own secrets, and no other node's.

Configure it on the master::

    ext_pillar:
      - rpiomega: {secrets: /etc/rpiomega/secrets}

Pillar reaches a minion encrypted with that minion's key, so this is the one way a secret leaves the master.
A minion the site file does not name gets nothing. A site file that is missing or wrong stops every node's states: Salt
runs none with a pillar that has errors.

Who gets what is read from the site file itself. The pillar that Salt hands over already holds what the minion sent
along (``pillar=`` of a salt-call): root on a worker could call itself the master there.
"""

import os
import sys

# Its own minion's copies stand on a master's path (salt.config.insert_system_path): older ones, until that syncs.
sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "_utils"))

from salt.exceptions import SaltRenderError

from omega.core import modules
from omega.secrets import store as secrets_store
from omega.site import check, file
from omega.site import nodes as site_nodes


def ext_pillar(minion_id, pillar, secrets="/etc/rpiomega/secrets", masters_site=""):
    """Return the secrets of ``minion_id``, made on first use.

    :param minion_id: the minion's ID, proved by its accepted key
    :param pillar: what pillar/top.sls gave it, and what the minion sent along: says nothing about who it is
    :param secrets: the folder that holds the secrets, readable by its owner only
    :param masters_site: for a run from a checkout: the site file of a master; where it exists, the run is refused
    :return: ``{"rpiomega_secrets": {...}, "rpiomega_modules": digest}``, or an empty dict for an unknown minion
    :raises SaltRenderError: one line for each wrong key of the site file, or for what the whole file lacks
    """
    if masters_site and os.path.exists(masters_site):
        # The Saltfile of a checkout counts wherever salt-call is run in it, so also in the one that the master serves.
        raise SaltRenderError(
            f"this node is the master of a cluster, and {masters_site} is its site file, not the one of this checkout: "
            "run the same command from another folder, as `cd`; to be without a master, see docs/masterless.md"
        )
    folders = (__opts__.get("pillar_roots") or {}).get("base") or []
    if not folders:
        return {}
    try:
        site = file.read(folders[0])
    except ValueError as error:
        raise SaltRenderError(str(error)) from None
    wrong = check.problems(site) or file.clashes(site)
    if wrong:
        raise SaltRenderError("site.sls: " + "\n".join(wrong))
    if minion_id not in site_nodes.nodes(site):
        return {}
    store = secrets_store.Store(secrets)
    found = {"consul": store.consul_for(site, minion_id)}
    account = store.b2_for(site, minion_id)
    if account:
        found["b2"] = account
    backup = store.backup_for(site, minion_id)
    if backup:
        found["backup"] = backup
    if site_nodes.master(site) == minion_id:
        found.update(store.consul_management(site))
    roots = (__opts__.get("file_roots") or {}).get("base") or []
    return {"rpiomega_secrets": found, "rpiomega_modules": modules.served(roots)}
