"""A master of backups without SSH: the board's real program on a folder in the place of its root."""

import json
import pathlib
import subprocess
import sys
import tempfile
import types

import boto3
import botocore.config
from botocore.exceptions import ClientError

from rpiomega.backup.account import Account
from rpiomega.backup.init import Init, Options
from rpiomega.node import backup_kit
from rpiomega.site import load
from rpiomega.ssh import Remote

SHIM = """
import json, os, subprocess, sys
root, size = sys.argv[1], int(sys.argv[2])
program = os.path.join(root, "node.pyz")
open(program, "wb").write(sys.stdin.buffer.read(size))
job = json.loads(sys.stdin.buffer.readline())
line = json.dumps({**job, "root": root}) + "\\n"
# Its standard input stays open: the end of it would cancel the job.
running = subprocess.Popen([sys.executable, "-I", program], stdin=subprocess.PIPE)
running.stdin.write(line.encode())
running.stdin.flush()
sys.exit(running.wait())
"""


class Board:
    """What `rpiomega.ssh.Remote` is for a board, with `root` in the place of /. `fail`: raised by the next job."""

    as_root = staticmethod(Remote.as_root)

    def __init__(self, root):
        self.root, self.fail, self.jobs = root, None, 0
        self.pool = types.SimpleNamespace(stop=types.SimpleNamespace(is_set=lambda: False))
        (root / "etc/rpiomega/secrets").mkdir(mode=0o700, parents=True)

    def start(self, script):
        self.jobs += 1
        size = next(line for line in script.splitlines() if line.startswith("SIZE=")).partition("=")[2]
        command = [sys.executable, "-c", SHIM, str(self.root), size]
        return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def ended(self, process):
        process.stdin.close()

    def run(self, script, stdin=None, timeout=60):
        script = script.replace(backup_kit.FOLDER, str(self.folder))
        return subprocess.run(["sh", "-c", script], input=stdin, capture_output=True, timeout=timeout, check=False)

    @property
    def folder(self):
        return pathlib.Path(f"{self.root}{backup_kit.FOLDER}")

    def key(self, name):
        """Return key ID and key of a file below secrets/backup."""
        found = backup_kit.key_file((self.folder / name).read_text())
        return found["key_id"], found["key"]

    def bucket(self):
        return json.loads((self.folder / "bucket.json").read_text())


def text(service, names=("pi1", "pi2"), cluster="omega", **backup):
    """Return a site file's text."""
    nodes = {name: {"address": f"192.168.9.{number}"} for number, name in enumerate(names, 10)}
    nodes[names[0]]["roles"] = ["master", "manager"]
    backup = {"bucket": "omega-backup", **backup}
    content = {"cluster": cluster, "nodes": nodes, "backup": backup, "b2": {"endpoint": service.url}}
    return json.dumps({"rpiomega": content})


def site(service, **given):
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder, "site.sls")
        path.write_text(text(service, **given))
        return load(path)


def init(service, board, lines=None, key=None, **given):
    """Run `init` as the command does; return whether anything changed. Options are Init's, the rest the site's."""
    options = Options(**{name: given.pop(name) for name in ("dry_run", "rotate", "change") if name in given})
    wanted = site(service, **given)
    account = Account(*(key or (service.key_id, service.key)), endpoint=service.url)
    return Init(wanted, account, board, options, ([] if lines is None else lines).append).run()


def client(service, key_id, key):
    """Return boto3's S3 client: the second opinion on the S3 front."""
    config = botocore.config.Config(
        signature_version="s3v4", s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}
    )
    return boto3.client(
        "s3", endpoint_url=service.url, aws_access_key_id=key_id, aws_secret_access_key=key,
        region_name="us-west-004", config=config,
    )  # fmt: skip


def refusal(call, **arguments):
    """Return status and code of the error that a call of boto3 raises."""
    try:
        call(**arguments)
    except ClientError as error:
        return error.response["ResponseMetadata"]["HTTPStatusCode"], error.response["Error"]["Code"]
    return None
