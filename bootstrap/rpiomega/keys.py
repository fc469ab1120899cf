"""Minions' keys as the master has them, beside those seen on the boards; and who answers the master with its key."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from rpiomega import agent, reach
from rpiomega.bulk import Bulk
from rpiomega.errors import NodeError
from rpiomega.node import job_steps
from rpiomega.site import Node, Site
from rpiomega.ssh import Pool

ANSWER_BOUND = 30.0
SILENT = f"no answer to the master within {ANSWER_BOUND:.0f} s: see `journalctl -u salt-minion` there"
UNSYNCED = "{0} has not synced its modules: `sudo salt {0} saltutil.sync_all` on the master"


@dataclass
class Key:
    """A minion's key: fingerprint on the minion, and state -> fingerprint of what the master holds."""

    name: str
    own: str
    seen: dict[str, str] = field(default_factory=dict)

    @property
    def state(self) -> str:
        """Return waiting, accepted, rejected, "unknown" (no key yet) or "mismatch"."""
        for state, finger in self.seen.items():
            if finger == self.own and state != "denied":
                return state
        return "mismatch" if self.seen else "unknown"


def compare(pool: Pool, site: Site, fingers: dict[str, str], bound: float) -> list[Key]:
    """Ask the master which keys it holds, at most `bound` seconds until all are there. Raise NodeError, SshError."""
    remote = reach.board(pool, site, site.master)
    remote.connect(10)
    done = agent.run(remote, [job_steps.Keys(fingers, bound)], lambda event: None)
    return [Key(name, fingers[name], seen) for name, seen in done["keys"]["data"]["seen"].items()]


def blame(bulk: Bulk, keys: list[Key], master: Node, bound: float) -> None:
    """Make a key that the master does not hold as the board has it the failure of its node; `bound`: see `compare`."""
    for key in keys:
        row = bulk.rows[key.name]
        if row.state == "done" and key.state in ("mismatch", "unknown", "rejected"):
            row.error, row.state = _key_error(key, master, bound), "failed"
            row.log(f"FAILED keys: {row.error}")


def silent(pool: Pool, site: Site, names: list[str]) -> list[str]:
    """Wait, ANSWER_BOUND seconds at most, until these minions answer the master; return those that do not."""
    if not names:
        return []
    remote = reach.board(pool, site, site.master)
    remote.connect(10)
    step = job_steps.Answering({name: site.nodes[name].address for name in names}, ANSWER_BOUND)
    return agent.run(remote, [step], lambda event: None)["answering"]["data"]["silent"]


def unsynced(pool: Pool, site: Site, names: Iterable[str]) -> list[str]:
    """Have those of these minions that are connected to the master sync their modules; return who did not."""
    remote = reach.board(pool, site, site.master)
    remote.connect(10)
    step = job_steps.Synced({name: site.nodes[name].address for name in names})
    return agent.run(remote, [step], lambda event: None)["synced"]["data"]["unsynced"]


def _key_error(key: Key, master: Node, bound: float) -> NodeError:
    if key.state == "unknown":
        cause = f"the master has not seen this minion's key within {bound:.0f} s"
        cure = f"check that {master.address}:4505 and :4506 can be reached from the board; `journalctl -u salt-minion`"
        return NodeError(cause, cure, "keys")
    if key.state == "rejected":
        return NodeError("its key was rejected on the master", f"`salt-key -d {key.name}` there, then again", "keys")
    held = ", ".join(f"{state} {finger}" for state, finger in key.seen.items())
    cure = f"if the board was rewritten, `sudo salt-key -d {key.name}` on the master, then run the bootstrap again"
    return NodeError(f"the master holds another key under this name ({held}; the board's is {key.own})", cure, "keys")
