"""`rpiomega backup`: encrypted backups of every node to Backblaze B2, and the proof that they can be restored."""

from __future__ import annotations

import click

from rpiomega.commands import backup_keys, backup_runs


@click.group()
def backup() -> None:
    """Back up all nodes to Backblaze B2, show what is saved, and prove that it can be restored."""


for _command in (backup_runs.now, backup_runs.status, backup_runs.list_, backup_runs.drill):
    backup.add_command(_command)
for _command in (backup_keys.init, backup_keys.kit, backup_keys.past):
    backup.add_command(_command)
