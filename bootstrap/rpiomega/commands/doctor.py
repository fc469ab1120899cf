"""`rpiomega doctor`."""

from __future__ import annotations

import sys
import time

import click
from click.core import ParameterSource

from rpiomega.bulk import Bulk
from rpiomega.commands.options import over_ssh, ready
from rpiomega.doctor import report
from rpiomega.doctor.finding import Finding
from rpiomega.doctor.fix import Fixer
from rpiomega.doctor.run import Doctor


@click.command()
@over_ssh
@click.option("--fix", is_flag=True, help="Cure what is safe to cure: clock, boot flags, kernel modules.")
@click.option("--strict", is_flag=True, help="Warnings count as errors.")
@click.option("--json", "as_json", is_flag=True, help="Findings and all facts as JSON on standard output.")
def doctor(site_file, nodes, ssh_config, log_dir, jobs, wait, fix, strict, as_json) -> None:
    """Examine all nodes (or those named) side by side; name what is wrong, why it matters, and the cure.

    Changes nothing without --fix. Exit codes: 0 nothing worse than a warning, 1 an error was found (with --strict
    also a warning) or a node could not be examined, 2 bad input, 130 interrupted.
    """
    site, pool, bulk = ready(site_file, nodes, ssh_config, log_dir, jobs)
    if click.get_current_context().get_parameter_source("wait") is ParameterSource.DEFAULT:
        wait = 0.0  # a board that is down is a finding, not something to wait for
    out, bulk = bulk.console, bulk.aside()
    began = time.monotonic()
    fixed: dict[str, list[str]] = {}
    with pool:
        examined, finished = _examine(site, pool, bulk, wait)
        findings = examined.findings(bulk)
        fixer = Fixer(site, pool, findings)
        if finished and fix and fixer.wanted:
            repair = bulk.aside(fixer.wanted)
            finished = fixer.run(repair)
            fixed = fixer.done
            repair.close()
            if finished:
                bulk = bulk.aside()
                examined, finished = _examine(site, pool, bulk, wait)
                findings = examined.findings(bulk) + _not_fixed(repair)
    seconds = time.monotonic() - began
    bulk.close()
    if as_json:
        click.echo(report.as_json(findings, examined, fixed, seconds))
    else:
        for node, steps in fixed.items():
            out.print(f"fixed {node}: {' '.join(steps) or 'nothing'}", highlight=False)
        report.text(out, findings, len(examined.facts), seconds)
    bad = ("error", "warning") if strict else ("error",)
    sys.exit(130 if not finished else int(any(found.severity in bad for found in findings)))


def _examine(site, pool, bulk: Bulk, wait: float) -> tuple[Doctor, bool]:
    doctor = Doctor(site, pool, wait)
    return doctor, doctor.run(bulk)


def _not_fixed(repair: Bulk) -> list[Finding]:
    return [
        Finding(row.name, f"fix-{row.error.step}", "error", row.error.cause, "it could not be fixed", row.error.cure)
        for row in repair.failed()
        if row.error
    ]
