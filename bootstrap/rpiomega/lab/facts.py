"""What each node of a finished lab says of itself, for the table at the demo's end and for the tests."""

from __future__ import annotations

import json

from rpiomega.lab import remote, sitefile
from rpiomega.lab.state import Lab

# One JSON line per node. The agent's own token goes from file to environment on the node, into no argument list.
_SCRIPT = r"""
sudo python3 - <<'PY'
import json, os, re, subprocess

def out(*argv, **environment):
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=30, env={**os.environ, **environment})
    except (OSError, subprocess.TimeoutExpired) as err:
        return "", str(err)
    return done.stdout.strip(), done.stderr.strip()

facts = {"hostname": os.uname().nodename}
text, facts["docker_error"] = out("docker", "info", "--format", "{{json .}}")
info = json.loads(text or "{}")
swarm = info.get("Swarm") or {}
facts["docker"] = info.get("ServerVersion", "")
facts["swarm"] = swarm.get("LocalNodeState", "")
facts["manager"] = bool(swarm.get("ControlAvailable"))
facts["cluster_id"] = (swarm.get("Cluster") or {}).get("ID", "")
facts["node_id"] = swarm.get("NodeID", "")
text, error = out("b2", "version")
found = re.search(r"version ([0-9.]+)", text)
facts["b2"] = found.group(1) if found else ""
try:
    with open("/etc/rpiomega/consul/consul.json") as file:
        token = json.load(file)["acl"]["tokens"]["agent"]
except (OSError, ValueError, KeyError):
    token = ""
text, facts["consul_error"] = out(
    "docker", "exec", "-e", "CONSUL_HTTP_TOKEN", "rpiomega-consul", "consul", "members", CONSUL_HTTP_TOKEN=token
)
rows = [line.split() for line in text.splitlines()[1:]]
facts["consul_members"] = {row[0]: row[2] for row in rows if len(row) > 3}
facts["consul_servers"] = [row[0] for row in rows if len(row) > 3 and row[3] == "server"]
print(json.dumps(facts))
PY
"""


def gather(lab: Lab) -> dict[str, dict]:
    """Return node -> facts: hostname, docker, swarm, manager, cluster_id, node_id, b2, consul_members, ..."""
    return {node: json.loads(text) for node, text in remote.run_everywhere(lab, _SCRIPT).items()}


def table(lab: Lab, facts: dict[str, dict]) -> str:
    """Return the facts as a table of text."""
    names = lab.node_names()
    rows = [("NODE", "ADDRESS", "ROLES", "SWARM", "CONSUL", "DOCKER", "B2")]
    for position, name in enumerate(names):
        fact = facts[name]
        member = fact["consul_members"].get(name, "absent")
        kind = "server" if name in fact["consul_servers"] else "client"
        rows.append(
            (
                name,
                lab.node_address(name),
                ",".join(sitefile.roles(position, len(names))),
                f"{fact['swarm'] or 'none'}/{'manager' if fact['manager'] else 'worker'}",
                f"{member}/{kind}" if member != "absent" else member,
                fact["docker"] or "absent",
                fact["b2"] or "absent",
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows)
    return "\n".join(line.rstrip() for line in lines)
