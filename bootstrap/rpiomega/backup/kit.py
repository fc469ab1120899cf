"""The recovery kit: one page with all that opens the repositories when master and workstation are gone."""

from __future__ import annotations

import io
import json
import re
import time

import segno

from omega.core.errors import Failure
from rpiomega.backup import phrase
from rpiomega.errors import NodeError
from rpiomega.node import backup_kit
from rpiomega.ssh import Remote

NAMES = {  # line of the page -> field
    "cluster": "cluster",
    "bucket": "bucket",
    "endpoint": "endpoint",
    "region": "region",
    "key id": "key_id",
    "key": "key",
    "recovery phrase": "recovery",
    "nodes": "nodes",
}
PAGE = """\
rpiomega recovery kit of cluster {cluster}, {date}

Whoever has this page can read every backup, and delete none. Keep it on paper, away from the boards.

{lines}
check: {check}

Test it now, and after each change of keys or nodes:
    rpiomega backup kit --check FILE        (or `-`, and type the page's lines)

Restore by hand, on any machine with restic 0.17 or newer:
    export AWS_ACCESS_KEY_ID='{key_id}'  AWS_SECRET_ACCESS_KEY='(the key above)'  AWS_DEFAULT_REGION={region}
    export RESTIC_REPOSITORY=s3:{endpoint}/{bucket}/hosts/{first}     # another node: its name at the end
    restic --no-lock snapshots                                # asks for the password: the recovery phrase above
    restic --no-lock restore latest --tag group=files --target ./restored

If an attacker deleted or overwrote backups, read the bucket as it was before (docs/backup.md):
    rpiomega backup past {first} --kit FILE --at '2026-05-01 03:00' --into ./repository
"""


def fields(remote: Remote) -> dict:
    """Return the kit's fields (backup_kit.FIELDS) from the master's files. They are in no job, event or log."""
    files = " && ".join(f"cat {name} && printf '\\0'" for name in ("bucket.json", "reader", "recovery"))
    script = f"cd {backup_kit.FOLDER} && {files} && ls -d nodes/*/key"
    done = remote.run(remote.as_root(script))
    if done.returncode:
        said = (done.stderr.decode(errors="replace").strip().splitlines() or ["no reason given"])[-1]
        raise NodeError(f"the master's secrets for backups cannot be read ({said})", backup_kit.INIT)
    try:
        bucket, reader, recovery, paths = done.stdout.decode().split("\0")
        key = backup_kit.key_file(reader)
        known = json.loads(bucket)
        found = {name: known[name] for name in ("cluster", "bucket", "endpoint", "region")}
        found |= {"key_id": key["key_id"], "key": key["key"], "recovery": phrase.read(recovery)}
    except (ValueError, KeyError, TypeError):  # no traceback: its text could quote a secret
        cause = f"bucket.json or reader in {backup_kit.FOLDER} of the master is damaged"
        raise NodeError(cause, f"move the damaged file away, then {backup_kit.INIT}") from None
    nodes = [path.split("/")[1] for path in paths.split("\n") if path]
    return found | {"nodes": sorted(nodes)}


def page(found: dict, now: float) -> str:
    """Return the kit as text. `now`: seconds since 1970."""
    values = {name: " ".join(found[field]) if field == "nodes" else found[field] for name, field in NAMES.items()}
    lines = "\n".join(f"{name + ':':<17}{value}" for name, value in values.items())
    date = time.strftime("%Y-%m-%d", time.localtime(now))
    first = found["nodes"][0] if found["nodes"] else "NODE"
    plain = {name: found[name] for name in ("cluster", "key_id", "region", "bucket", "endpoint")}
    return PAGE.format(**plain, date=date, lines=lines, check=backup_kit.digest(found)[:8], first=first)


def code(found: dict) -> str:
    """Return the kit as a QR code, in SVG; it has the JSON that `read` takes."""
    out = io.BytesIO()
    text = json.dumps(found | {"check": backup_kit.digest(found)[:8]}, separators=(",", ":"))
    segno.make(text, error="m", micro=False).save(out, kind="svg", scale=4, title=f"rpiomega kit {found['cluster']}")
    return out.getvalue().decode()


def read(text: str) -> dict:
    """Return a kit's fields from its page, from lines typed from it, or from its QR code's text.

    :raises Failure: a line is missing, or what it says cannot be right; the text quotes no secret
    """
    found = _json(text) if text.lstrip().startswith("{") else _lines(text)
    missing = [name for name, field in NAMES.items() if not found.get(field)]
    if missing:
        raise Failure(f"the kit has no line `{missing[0]}:`", "type all lines of the page's table")
    found["recovery"] = phrase.read(found["recovery"])
    for name, pattern in (("endpoint", r"https?://[^\s/@]+/?"), ("bucket", r"[A-Za-z0-9-]{6,63}"), ("region", r"\S+")):
        if not re.fullmatch(pattern, found[name]):
            raise Failure(f"the kit's {name} cannot be right", "compare it with the page")
    wrong = [name for name in found["nodes"] if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", name)]
    if wrong:
        raise Failure(f"{wrong[0]} cannot be the name of a node", "compare it with the page")
    check = found.pop("check", "")
    if check and check != backup_kit.digest(found)[:8]:
        raise Failure(
            "the kit's check does not fit: a line has a mistake", "compare key, endpoint and nodes with the page"
        )
    return found


def _json(text: str) -> dict:
    try:
        found = json.loads(text)
        kept = {name: found[name] for name in backup_kit.FIELDS}
        if not isinstance(kept["nodes"], list) or not all(isinstance(one, str) for one in _texts(kept)):
            raise TypeError
    except (ValueError, KeyError, TypeError, RecursionError):
        raise Failure("this is not the text of a kit's QR code", "scan it again, or type the page's lines") from None
    return kept | {"check": str(found.get("check") or "")}


def _texts(kept: dict) -> list:
    return [part for value in kept.values() for part in (value if isinstance(value, list) else [value])]


def _lines(text: str) -> dict:
    names = "|".join([*NAMES, "check"])
    found: dict = {}
    for name, value in re.findall(rf"^({names}):[ \t]*(\S.*?)[ \t]*$", text, re.MULTILINE):
        found.setdefault(NAMES.get(name, name), value)
    found["nodes"] = found.get("nodes", "").split()
    return found
