"""Accept exactly those keys whose fingerprint on the minion, seen over SSH, is the one the master sees."""

from __future__ import annotations

from rpiomega import agent, reach
from rpiomega.bulk import Bulk, Row
from rpiomega.errors import NodeError
from rpiomega.keys import SILENT, UNSYNCED, Key, blame, compare, silent, unsynced
from rpiomega.node import job_steps
from rpiomega.site import Site
from rpiomega.ssh import Pool

KEYS_BOUND = 15.0


def accept(site: Site, pool: Pool, bulk: Bulk, wait: float) -> list[Key]:
    """Compare and accept the keys of the nodes of `bulk`; return them as they are afterwards.

    A node that does not answer or has no key fails in its row; so does one whose key is not the master's. Waits, within
    a bound, until those just accepted answer their master: the next command reaches them. A note says who does not.
    """
    fingers: dict[str, str] = {}

    def ask(row: Row) -> None:
        row.start("finger")
        remote = reach.board(pool, site, site.nodes[row.name], row.log)
        remote.connect(wait)
        finger = agent.run(remote, [job_steps.Finger()], row.event)["finger"]["data"]["finger"]
        if not finger:
            raise NodeError("its Salt minion has no key yet", f"run `rpiomega bootstrap {row.name}` first")
        fingers[row.name] = finger

    if not bulk.run(ask, pool.cancel) or not fingers:
        return []
    keys = compare(pool, site, fingers, KEYS_BOUND)
    good = {key.name: key.own for key in keys if key.state == "waiting"}
    if good:
        remote = reach.board(pool, site, site.master)
        remote.connect(wait)
        agent.run(remote, [job_steps.Accept(good)], lambda event: None)
        for name in silent(pool, site, sorted(good)):
            bulk.rows[name].notes.append(SILENT)
        # A first `state.apply NAME` would not bring our modules by itself.
        for name in unsynced(pool, site, sorted(good)):
            bulk.rows[name].notes.append(UNSYNCED.format(name))
        keys = compare(pool, site, fingers, 0)
    blame(bulk, keys, site.master, KEYS_BOUND)
    return keys
