"""Follows what a node's systemd runs to its end, also over lost connections: the run belongs to the node."""

from __future__ import annotations

from rpiomega import agent
from rpiomega.bulk import Row
from rpiomega.node.job_steps import JobStep
from rpiomega.ssh import Remote, SshError

# Connections that may be lost one after the other, none of which brought an event.
LOSSES = 5


def follow(remote: Remote, step: JobStep, row: Row, what: str, wait: float) -> dict:
    """Run a step that follows a unit until it has ended, and return its data.

    :param what: for the log of a lost connection, such as ``restore``
    :param wait: seconds to wait for SSH after a connection was lost
    :raises SshError: another one, such as a refused login, or one too many; NodeError, Stopped
    """
    lost = 0

    def event(found: dict) -> None:
        nonlocal lost
        if found["event"] == "progress":
            lost = 0
        row.event(found)

    while True:
        try:
            # A dry run takes no lock of the board: a bootstrap or a status beside it goes on.
            return agent.run(remote, [step], event, dry_run=True)[step.step]["data"]
        except SshError as error:
            lost += 1
            if not error.transient or lost > LOSSES:
                raise
            row.log(f"connection lost ({error.cause}): the {what} goes on, connecting again")
            remote.end_master()
            remote.connect(wait)
