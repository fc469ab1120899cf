"""The `rpiomega` command: one file for each subcommand in `commands`; what happens is in the modules they call."""

from __future__ import annotations

from typing import Any

import click

from rpiomega import version
from rpiomega.commands import (
    accept,
    address,
    backup,
    bootstrap,
    check,
    doctor,
    firstboot,
    remove,
    restore,
    roster,
    scan,
    status,
    verify,
)


def _version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:
    if wanted:
        click.echo(f"rpiomega {version.text()}")
        context.exit()


class Commands(click.Group):
    """The commands, of which one that is interrupted ends with exit code 130, also at a question."""

    def invoke(self, context: click.Context) -> Any:
        """Run the command that the arguments name."""
        try:
            return super().invoke(context)
        except (KeyboardInterrupt, EOFError, click.Abort):
            click.echo("\ninterrupted", err=True)
            context.exit(130)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--version", is_flag=True, is_eager=True, expose_value=False, callback=_version, help="Show the version.")
def main() -> None:
    """Turn Raspberry Pis into one cluster. Exit codes: 0 done, 1 a node failed, 2 bad input, 130 interrupted."""


def _add_lab() -> None:
    """Add `rpiomega lab` if what it needs is installed; say what is missing otherwise."""
    try:
        from rpiomega.commands.lab import lab
    except ImportError as error:
        missing = error.name or str(error)

        @main.command(name="lab", context_settings={"ignore_unknown_options": True})
        @click.argument("arguments", nargs=-1)
        def lab(arguments: tuple[str, ...]) -> None:
            """Virtual Pis on this machine (not installed)."""
            raise click.ClickException(f"rpiomega lab needs `{missing}`: pip install 'rpiomega[lab]'")

    else:
        main.add_command(lab)


for _module in (
    accept,
    address,
    backup,
    bootstrap,
    check,
    doctor,
    firstboot,
    remove,
    restore,
    roster,
    scan,
    status,
    verify,
):
    main.add_command(getattr(_module, _module.__name__.rpartition(".")[2]))
_add_lab()
