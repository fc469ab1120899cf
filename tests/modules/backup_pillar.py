"""A site with backups whose repositories are local folders, its pillar, and restic as a person would call it."""

import json
import os
import subprocess

import restic_program

NODES = {
    "pi1": {"address": "10.0.0.1", "roles": ["master", "manager"]},
    "pi2": {"address": "10.0.0.2", "roles": ["worker"]},
}
SITE = {"cluster": "omega", "nodes": NODES, "backup": {"bucket": "omega-backup"}}
SETTINGS = {"bucket": "omega-backup", "keep": {"daily": 7, "weekly": 4, "monthly": 6}}
SECRETS = {
    "pi1": "password-of-pi1",
    "pi2": "password-of-pi2",
    "recovery": "eight secret words of the kit",
    "key": "node-key-secret",
    "maintenance": "maintenance-key-secret",
}


def pillar_of(name, repositories):
    """Return the pillar of a node; the repositories are folders below `repositories`."""
    found = {
        "repository": f"{repositories}/{name}",
        "region": "us-west-004",
        "password": SECRETS[name],
        "key_id": "id-of-node",
        "key": SECRETS["key"],
    }
    if name == "pi1":
        found["maintenance"] = {"key_id": "id-of-maintenance", "key": SECRETS["maintenance"]}
        found["recovery"] = SECRETS["recovery"]
        found["passwords"] = {node: SECRETS[node] for node in NODES}
        found["urls"] = {node: f"{repositories}/{node}" for node in NODES}
    return {"rpiomega": SITE, "rpiomega_secrets": {"backup": found}}


def restic(repository, password, *arguments, stdin=None):
    """Run restic; return the finished process, output as text."""
    environment = {**os.environ, "RESTIC_REPOSITORY": str(repository), "RESTIC_PASSWORD": password}
    command = [restic_program.path(), "--no-cache", *arguments]
    return subprocess.run(command, env=environment, input=stdin, capture_output=True, text=True, check=False)


def save(repository, password, time, group="files", host="pi2", content="x", program_tag="rpiomega"):
    """Make one snapshot as a run does, dated `time` ("2026-01-31 02:00:00")."""
    tags = ["--tag", f"{program_tag},group={group},run={time.replace(' ', 'T')},mode=hot"]
    arguments = ["backup", "--time", time, "--host", host, *tags, "--stdin", "--stdin-filename", f"{group}.txt"]
    done = restic(repository, password, *arguments, stdin=content)
    assert done.returncode == 0, done.stderr


def snapshots(repository, password):
    """Return what `restic snapshots --json` shows."""
    done = restic(repository, password, "snapshots", "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
