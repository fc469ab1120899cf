"""Give each node of the site its own secrets, and no other node's.

Configure it on the master::

    ext_pillar:
      - rpiomega: {secrets: /etc/rpiomega/secrets}

Pillar reaches a minion encrypted with that minion's key, so this is the one way a secret leaves the master.
A minion the site file does not name gets nothing. A site file with a wrong key stops every node's states: Salt runs
none with a pillar that has errors.
"""

import omega_secrets
import omega_site
import omega_site_check
from salt.exceptions import SaltRenderError


def ext_pillar(minion_id, pillar, secrets="/etc/rpiomega/secrets"):
    """Return the secrets of ``minion_id``, made on first use.

    :param minion_id: the minion's ID, proved by its accepted key
    :param pillar: what pillar/top.sls gave it; ``rpiomega`` is the site
    :param secrets: the folder that holds the secrets, readable by its owner only
    :return: ``{"rpiomega_secrets": {...}}``, or an empty dict for an unknown minion
    :raises SaltRenderError: one line for each wrong key of the site file
    """
    if "rpiomega" not in pillar:  # no site.sls, or one that did not render: Salt says so itself
        return {}
    site = pillar["rpiomega"]
    wrong = omega_site_check.problems(site)
    if wrong:
        raise SaltRenderError("site.sls: " + "\n".join(wrong))
    if minion_id not in omega_site.nodes(site):
        return {}
    store = omega_secrets.Store(secrets)
    found = {"consul": store.consul_for(site, minion_id)}
    account = store.b2_for(site, minion_id)
    if account:
        found["b2"] = account
    if omega_site.master(site) == minion_id:
        found.update(store.consul_management(site))
    return {"rpiomega_secrets": found}
