"""`rpiomega verify`: testinfra's checks (tests/verify) on every node, in a report a person can read."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as Xml
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path

import click

from rpiomega.site import Site
from rpiomega.ssh import Settings

CHECKS = Path(__file__).resolve().parents[2] / "tests" / "verify"
BOUND = 900


@dataclass
class Node:
    """What came out for one node: sentences."""

    passed: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)


def command(over_ssh, ready) -> click.Command:
    """Return the command; `over_ssh` adds the shared options, `ready` makes site, pool and rows of them."""

    @click.command()
    @over_ssh
    @click.option("--verbose", "-v", is_flag=True, help="Also list what holds.")
    def verify(site_file, nodes, ssh_config, log_dir, jobs, wait, verbose) -> None:
        """Check on every node (or those named) what bootstrap and states promise. Changes nothing.

        Exit codes: 0 everything holds, 1 something does not, 2 bad input.
        """
        if importlib.util.find_spec("testinfra") is None:
            raise click.UsageError("testinfra is not installed: pip install 'rpiomega[lab]' into this environment")
        if not CHECKS.is_dir():
            raise click.UsageError(f"the checks are not in {CHECKS}: run this from a checkout of rpiomega")
        site, pool, bulk = ready(site_file, nodes, ssh_config, log_dir, jobs)
        bulk.close()
        with pool, tempfile.TemporaryDirectory(prefix="rpiomega-verify-") as folder:
            found = run(site, site_file, list(bulk.rows), pool.settings, Path(folder))
        for name in bulk.rows:
            _say(name, found[name], verbose)
        sys.exit(int(any(node.failed or not node.passed for node in found.values())))

    return verify


def run(site: Site, site_file: Path, names: list[str], settings: Settings, folder: Path) -> dict[str, Node]:
    """Run the checks on the nodes `names`; return name -> Node. `folder` takes the files made on the way."""
    config, results = folder / "ssh_config", folder / "results.xml"
    config.write_text(ssh_config(site, names, settings))
    hosts = ",".join(f"ssh://{name}" for name in names)
    arguments = [f"--hosts={hosts}", f"--ssh-config={config}", "--sudo", f"--site={site_file.resolve()}"]
    arguments += [f"--junit-xml={results}", "-o", "junit_logging=no", "-q", "-p", "no:cacheprovider", "--tb=line"]
    command = [sys.executable, "-m", "pytest", str(CHECKS), f"--rootdir={CHECKS}", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=BOUND, check=False)
    except subprocess.TimeoutExpired:
        raise click.ClickException(
            f"the checks took more than {BOUND} s: is a node very slow? rpiomega doctor"
        ) from None
    if not results.exists():
        last = (done.stdout + done.stderr).strip().splitlines()[-1:] or ["no output"]
        raise click.ClickException(f"the checks did not run: {last[0]}")
    return read(results.read_text(), names)


def ssh_config(site: Site, names: list[str], settings: Settings) -> str:
    """Return an ssh_config by which testinfra reaches the nodes by name, at the addresses they keep."""
    include = settings.config or Path.home() / ".ssh" / "config"
    lines = [] if not include.exists() else [f'Include "{include}"']
    for name in names:
        lines += [f"Host {name}", f"    HostName {site.nodes[name].address}"]
    lines += ["Host *", f"    User {settings.user}", f"    Port {settings.port}", "    BatchMode yes"]
    lines += ["    StrictHostKeyChecking accept-new", "    ConnectTimeout 10"]
    if settings.identity:
        lines += [f'    IdentityFile "{settings.identity}"', "    IdentitiesOnly yes"]
    if settings.known_hosts:
        lines += [f'    UserKnownHostsFile "{settings.known_hosts}"']
    return "\n".join(lines) + "\n"


def read(results: str, names: list[str]) -> dict[str, Node]:
    """Turn pytest's JUnit file into name -> Node."""
    found: dict[str, Node] = defaultdict(Node)
    for case in Xml.fromstring(results).iter("testcase"):
        test, _, rest = case.get("name", "").partition("[")
        host = rest.rstrip("]").removeprefix("ssh://").split("-ssh://")[-1]
        node = found[next((name for name in sorted(names, key=len, reverse=True) if host == name), host)]
        sentence = test.removeprefix("test_").replace("_", " ")
        problem = case.find("failure") if case.find("failure") is not None else case.find("error")
        if problem is not None:
            node.failed[sentence] = _cause(problem)
        elif case.find("skipped") is not None:
            node.skipped.append(sentence)
        else:
            node.passed.append(sentence)
    return {name: found[name] for name in [*names, *(name for name in found if name not in names)]}


def _cause(problem: Xml.Element) -> str:
    lines = [line for line in (problem.get("message") or problem.text or "").splitlines() if line.strip()]
    return lines[0].removeprefix("AssertionError: ") if lines else "no reason given"


def _say(name: str, node: Node, verbose: bool) -> None:
    state = click.style("FAILED", fg="red") if node.failed else click.style("holds", fg="green")
    if not node.failed and not node.passed:
        state = click.style("FAILED", fg="red") + ": no check ran"
    click.echo(f"{click.style(name, bold=True)}: {state}: {len(node.passed)} hold, {len(node.failed)} do not")
    for sentence, cause in node.failed.items():
        click.echo(f"  does not hold: {sentence}\n    {cause}")
    for sentence in node.passed if verbose else []:
        click.echo(f"  holds: {sentence}")
