"""Running the checks of `suite`: over SSH from here, one process per node, or through Salt on the master."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

from rpiomega.errors import NodeError
from rpiomega.site import Node, Site
from rpiomega.ssh import Remote
from rpiomega.ssh_config import known_as, path_value, plain, value

FOLDER = Path(__file__).parent / "suite"
BOUND = 900.0
# On the master. Salt's own Python runs the checks; the tools lie beside it, so that an update of Salt takes none along.
TOOLS = "/opt/rpiomega/verify"
PYTHONS = ("/opt/rpiomega/salt/bin/python", "/opt/saltstack/salt/bin/python3")
FORMULA, SITE = "/srv/rpiomega/formula", "/srv/rpiomega/pillar/site.sls"
THROUGH_SALT = """
for python in {pythons}; do [ -x "$python" ] && break; done
export PYTHONPATH={tools}:{formula}/bootstrap:{formula}/_utils SALT_MASTER_CONFIG=/etc/salt/master
if ! "$python" -c 'import pytest, testinfra' 2>/dev/null; then
  [ {install} = yes ] || exit 94
  "$python" -m pip install --quiet --disable-pip-version-check --target {tools} pytest pytest-testinfra >&2 || exit 94
fi
report=$(mktemp) && trap 'rm -f "$report"' EXIT
cd {formula}
"$python" -m pytest tests/verify --rootdir=tests/verify --hosts={hosts} --site={site} --report="$report" {options} >&2
code=$?
cat "$report"
exit $code
"""
NO_TOOLS = 94
OPTIONS = ["-q", "-p", "no:cacheprovider", "--tb=line"]
# pytest's exit codes that mean it did its work: all passed, some failed, none chosen.
RAN = (0, 1, 5)


@dataclass
class Check:
    """One check on one node: `result` is ok, failed or skipped; `cause` is empty if it holds."""

    state: str
    check: str
    promise: str
    cure: str
    node: str = ""
    result: str = ""
    cause: str = ""


@dataclass
class Found:
    """What came out for one node; `error` if it could not be asked."""

    checks: list[Check] = field(default_factory=list)
    error: NodeError | None = None

    @property
    def failed(self) -> list[Check]:
        """Return the checks that do not hold."""
        return [check for check in self.checks if check.result == "failed"]

    @property
    def passed(self) -> list[Check]:
        """Return the checks that hold."""
        return [check for check in self.checks if check.result == "ok"]

    @property
    def ok(self) -> bool:
        """Return whether everything holds, and anything was looked at."""
        return bool(self.passed) and not self.failed and not self.error


def listed(only: str = "") -> list[Check]:
    """Return all checks there are (`only`: of these names), without a result. Raise NodeError if there are none."""
    done, rows = _pytest(["--collect-only", *(["-k", only] if only else [])])
    if only and done.returncode:
        cause = f"no check is named {only}" if done.returncode in RAN else _last(done).removeprefix("ERROR: ")
        raise NodeError(cause, "rpiomega verify --list")
    if done.returncode:
        raise NodeError(f"the checks cannot be read: {_last(done)}", f"pytest --collect-only {FOLDER}")
    return rows


def over_ssh(site_file: Path, node: Node, remote: Remote, only: str = "") -> list[Check]:
    """Check one node by the connection of `remote`; return its checks.

    `only`: names of checks or files, as pytest's -k takes them. Raise NodeError if the checks could not run.
    """
    config = Path(remote.pool.folder, f"verify-{node.name}")
    config.write_text(ssh_config(remote, node.name))
    arguments = [f"--hosts=ssh://{node.name}", f"--ssh-config={config}", f"--site={site_file.resolve()}"]
    arguments += [] if remote.pool.settings.user == "root" else ["--sudo"]
    done, rows = _pytest(arguments + (["-k", only] if only else []))
    if done.returncode not in RAN:
        raise NodeError(f"the checks did not run: {_last(done)}", "run them by hand: docs/verify.md", "verify")
    return rows


def ssh_config(remote: Remote, name: str) -> str:
    """Return an ssh_config by which testinfra reaches the node, through the connection that `remote` has open."""
    settings, shown = remote.pool.settings, remote.effective()
    lines = [f"Host {name}", f"    HostName {remote.at}", f"    User {settings.user}"]
    lines += [f"    Port {value(shown, 'port', '22')}", f"    HostKeyAlias {known_as(shown)}"]
    lines += [f'    ControlPath "{remote.control_path(remote.at)}"', "    BatchMode yes", "    LogLevel ERROR"]
    lines += [f"    {key} {setting}" for key, setting in plain().items()]
    for key in ("ProxyJump", "ProxyCommand"):
        lines += [f"    {key} {value(shown, key.lower())}"] if value(shown, key.lower()) else []
    if settings.identity:
        lines += [f'    IdentityFile "{settings.identity}"', "    IdentitiesOnly yes"]
    lines += [f"    UserKnownHostsFile {' '.join(path_value(Path(path)) for path in remote.files(shown))}"]
    include = settings.config or Path.home() / ".ssh" / "config"
    lines += [f'Include "{include}"'] if include.exists() else []
    return "\n".join(lines) + "\n"


def through_salt(site: Site, remote: Remote, names: list[str], only: str = "", install: bool = False) -> list[Check]:
    """Check the nodes `names` by the master's Salt; `remote` is the master.

    `install`: bring pytest and testinfra there if they are missing. Raise NodeError if the checks could not run.
    """
    options = [*OPTIONS, *(["-k", shlex.quote(only)] if only else [])]
    everybody = set(names) == set(site.nodes)
    script = THROUGH_SALT.format(
        pythons=" ".join(PYTHONS),
        tools=TOOLS,
        install="yes" if install else "no",
        formula=FORMULA,
        hosts="'salt://*'" if everybody else ",".join(f"salt://{name}" for name in names),
        site=SITE,
        options=" ".join(options),
    )
    done = remote.run(remote.as_root(script), timeout=BOUND)
    if done.returncode == NO_TOOLS:
        cure = "rpiomega verify --salt --install brings them there" if not install else "see the output above"
        raise NodeError(f"pytest and testinfra are not in {TOOLS} on the master", cure, "verify")
    text = done.stdout.decode(errors="replace")
    if done.returncode not in RAN:
        last = (done.stderr.decode(errors="replace").strip().splitlines() or ["no output"])[-1]
        raise NodeError(f"the checks did not run on the master: {last}", "docs/verify.md has the command", "verify")
    return _read(text)


def _pytest(arguments: list[str]) -> tuple[subprocess.CompletedProcess, list[Check]]:
    with tempfile.NamedTemporaryFile(prefix="rpiomega-verify-", suffix=".jsonl") as report:
        command = [sys.executable, "-m", "pytest", str(FOLDER), f"--rootdir={FOLDER}", f"--report={report.name}"]
        try:
            done = subprocess.run(
                [*command, *OPTIONS, *arguments], capture_output=True, text=True, timeout=BOUND, check=False
            )
        except subprocess.TimeoutExpired:
            raise NodeError(f"the checks took more than {BOUND:.0f} s", "rpiomega doctor", "verify") from None
        return done, _read(Path(report.name).read_text(encoding="utf-8"))


def _read(text: str) -> list[Check]:
    return [Check(**json.loads(line)) for line in text.splitlines() if line.startswith("{")]


def _last(done: subprocess.CompletedProcess) -> str:
    return ((done.stdout + done.stderr).strip().splitlines() or ["no output"])[-1]
