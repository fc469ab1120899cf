"""Opens every repository with the content of a recovery kit and nothing else, here or on the master.

The secrets go over standard input into files in memory; restic's arguments and environment have none.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from dataclasses import dataclass

from rpiomega.errors import NodeError
from rpiomega.report import printable
from rpiomega.ssh import Remote, shell

BOUND = 900.0
OLDEST = (0, 17)
# restic's exit codes (its documentation, "Scripting"): cause and cure.
CODES = {
    10: ("there is no repository", "apply the state `backup` on the master: it makes the repositories"),
    12: ("the recovery phrase does not open it", "apply the state `backup` on the master, then make a new kit"),
}
# Reads phrase and key from standard input into files that only this process' user can read.
OPEN = r"""
umask 077
ulimit -c 0
# What the caller has of these would be used in the place of the kit: the key of a shell's profile, another password.
for name in $(env | sed -n 's/^\(\(AWS\|RESTIC\)_[A-Z0-9_]*\)=.*/\1/p'); do unset "$name"; done
folder=$(mktemp -d /dev/shm/rpiomega-kit.XXXXXX 2>/dev/null || mktemp -d) || exit 93
trap 'rm -rf "$folder"' EXIT
trap 'exit 129' HUP INT TERM
IFS= read -r line && printf '%s\n' "$line" >"$folder/password" && cat >"$folder/aws" || exit 93
export RESTIC_PASSWORD_FILE="$folder/password" AWS_SHARED_CREDENTIALS_FILE="$folder/aws" AWS_DEFAULT_REGION="$REGION"
export RESTIC_CACHE_DIR="$folder/cache" GOGC=20 GOMAXPROCS=1
"""
LOOP = r"""
for node in "$@"; do
  nice -n 19 "$RESTIC" -r "$BASE/$node" --no-lock --json snapshots >"$folder/out" 2>"$folder/err" </dev/null
  printf '%s %s %s %s\n' "$node" $? "$(grep -o '"short_id"' "$folder/out" | wc -l)" "$(tail -n 1 "$folder/err")"
done
"""


@dataclass(frozen=True)
class Opened:
    """A repository: `snapshots` in it, or the `cause` why it did not open and what to do (`cure`)."""

    node: str
    snapshots: int = 0
    cause: str = ""
    cure: str = ""


def local_restic() -> str:
    """Return this machine's restic if it is new enough, else ""."""
    program = shutil.which("restic")
    if not program:
        return ""
    try:
        done = subprocess.run([program, "version"], capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"restic (\d+)\.(\d+)", done.stdout)
    return program if found and (int(found[1]), int(found[2])) >= OLDEST else ""


def here(kit: dict, program: str) -> list[Opened]:
    """Open the repositories of a kit from this machine with its restic."""
    script, secrets = _script(kit, program), given(kit)
    line = ["sh", "-c", script, "sh", *kit["nodes"]]
    try:
        done = subprocess.run(line, input=secrets, capture_output=True, timeout=BOUND, check=False)
    except subprocess.TimeoutExpired:
        raise NodeError(f"the repositories did not open within {BOUND:.0f} s", "check this machine's network") from None
    return _read(kit, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def there(kit: dict, remote: Remote) -> list[Opened]:
    """Open the repositories of a kit from the master with its restic; the kit's content goes over standard input."""
    script = f"set -- {shell(*kit['nodes'])}\n{_script(kit, 'restic')}"
    done = remote.run(remote.as_root(script), stdin=given(kit), timeout=BOUND)
    return _read(kit, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))


def _script(kit: dict, program: str) -> str:
    return opened(kit, program) + LOOP


def opened(kit: dict, program: str) -> str:
    """Return the begin of a script for a kit: `given` is its standard input; then $RESTIC reads $BASE/NODE."""
    base = f"s3:{kit['endpoint'].rstrip('/')}/{kit['bucket']}/hosts"
    values = {"RESTIC": program, "BASE": base, "REGION": kit["region"]}
    return " ".join(f"{name}={shell(value)}" for name, value in values.items()) + OPEN


def given(kit: dict) -> bytes:
    """Return what a script of `opened` reads: the secrets of a kit."""
    aws = f"[default]\naws_access_key_id = {kit['key_id']}\naws_secret_access_key = {kit['key']}\n"
    return f"{kit['recovery']}\n{aws}".encode()


def _read(kit: dict, output: str, stderr: str) -> list[Opened]:
    lines = dict(line.split(" ", 1) for line in output.splitlines() if " " in line)
    if not set(kit["nodes"]) <= set(lines):
        said = (stderr.strip().splitlines() or ["no reason given"])[-1]
        raise NodeError(f"restic did not answer for all nodes ({said})", "run it again; see whether restic is there")
    return [_one(node, lines[node]) for node in kit["nodes"]]


def _one(node: str, line: str) -> Opened:
    code, count, said = [*line.split(" ", 2), "", ""][:3]
    return Opened(node, int(count)) if code == "0" else judged(node, int(code), said)


def judged(node: str, code: int, said: str) -> Opened:
    """Return why a repository did not open, from restic's exit code and the last line it wrote to stderr."""
    # A key that was deleted looks like a repository that is not there: the answer to HEAD has no text.
    if code in CODES and "Access Denied" not in said:
        return Opened(node, 0, *CODES[code])
    if code == 127:
        return Opened(node, 0, "there is no restic", "apply the state `backup` on the master, or install restic here")
    text = re.sub(r'^\{.*"message":"(.*?)".*\}$', r"\1", said.strip()) or f"restic ended with code {code}"
    return Opened(node, 0, printable(text), _cure(text))


def _cure(text: str) -> str:
    if "not valid" in text or "Access Denied" in text or "InvalidAccessKeyId" in text or "Signature" in text:
        return "the key of this kit does not work any more: make a new kit with `rpiomega backup kit`"
    return "check bucket and endpoint of the kit, and the network"
