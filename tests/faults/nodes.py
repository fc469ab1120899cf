"""Commands on the lab's nodes as root, without SSH or network: through the engine that runs them."""

from __future__ import annotations

import io
import json
import tarfile
import threading
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import docker

from rpiomega.lab import engine, pi

HERE = Path(__file__).parent
FOLDER = "/var/lib/faults"  # on a node's disk: survives the loss of power
SALT_PYTHON = "$(for p in /opt/rpiomega/salt/bin/python /opt/saltstack/salt/bin/python3; do [ -x $p ] && echo $p; done)"


class Failed(AssertionError):
    """A command on a node failed; the text has node, command and cause."""


class Unsupported(Failed):
    """This kernel cannot do what a fault needs."""


# What a look at a node, or an act on it, can end with.
TROUBLE = (Failed, OSError, RuntimeError, engine.LabError)


@dataclass
class Done:
    """What a command came to."""

    code: int
    out: str
    err: str


class Nodes:
    """The nodes of a lab."""

    def __init__(self, lab) -> None:
        self.lab = lab
        self._local = threading.local()

    @property
    def names(self) -> list[str]:
        """Names in the site's order."""
        return self.lab.node_names()

    @property
    def client(self) -> docker.DockerClient:
        """A connection of this thread; long commands are silent for minutes."""
        if not hasattr(self._local, "client"):
            self._local.client = docker.from_env(version="auto", timeout=1800)
        return self._local.client

    def container(self, node: str):
        """The node's container."""
        return pi.find(self.client, self.lab, node)

    def is_on(self, node: str) -> bool:
        """Whether the node has power."""
        return self.container(node).status == "running"

    def on(self) -> list[str]:
        """Nodes that have power."""
        return [name for name in self.names if self.is_on(name)]

    def run(self, node: str, command: str, bound: float = 60, check: bool = True) -> Done:
        """Run a shell command as root; after `bound` seconds it is killed and counts as failed (code 124 or 137)."""
        argv = ["timeout", "-k", "2", str(bound), "bash", "-c", command]
        texts = {1: b"", 2: b""}

        def take(stream: int, data: bytes) -> None:
            texts[stream] += data

        try:
            code = engine.execute(self.container(node), argv, take)
            done = Done(code, *(texts[stream].decode(errors="replace").strip() for stream in (1, 2)))
        except engine.LabError as error:
            done = Done(125, "", str(error))
        if check and done.code:
            raise Failed(f"{node}: `{command[:120]}` ended with {done.code}: {(done.err or done.out)[-400:]}")
        return done

    def later(self, node: str, command: str) -> Job:
        """Start a shell command as root and return at once."""
        job = Job(self, node, f"{FOLDER}/jobs/{uuid.uuid4().hex[:12]}")
        wrapped = f"({command}) >{job.path}.out 2>{job.path}.err; echo $? >{job.path}.rc"
        quoted = wrapped.replace("'", "'\\''")
        self.run(node, f"mkdir -p {FOLDER}/jobs; setsid bash -c '{quoted}' >/dev/null 2>&1 & echo $! >{job.path}.pid")
        return job

    def put(self, node: str, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file on a node, also on one without power."""
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as tar:
            member = tarfile.TarInfo(path.lstrip("/"))
            member.size, member.mode, member.mtime = len(text.encode()), mode, int(time.time())
            tar.addfile(member, io.BytesIO(text.encode()))
        self.container(node).put_archive("/", buffer.getvalue())

    def equip(self, node: str) -> None:
        """Bring what the tests run on a node."""
        for name in ("probe.py", "holder.py", "snapshot.py"):
            self.put(node, f"{FOLDER}/{name}", (HERE / name).read_text())

    def ask(self, node: str, *requests: list, bound: float = 40) -> list[list]:
        """Ask a node's engine and Consul agent (probe.py): [status, answer] of each request."""
        quoted = json.dumps(requests).replace("'", "'\\''")
        done = self.run(node, f"python3 {FOLDER}/probe.py '{quoted}'", bound, check=False)
        try:
            return json.loads(done.out)
        except ValueError:
            return [[0, f"{node} does not answer: {(done.err or done.out or 'off or frozen')[-200:]}"]] * len(requests)

    def docker(self, node: str, method: str, path: str, body=None):
        """One request to a node's engine; Failed unless it succeeds."""
        return self._one(node, ["docker", method, path, body])

    def consul(self, node: str, method: str, path: str, body=None, token="agent"):
        """One request to a node's Consul agent; Failed unless it succeeds."""
        return self._one(node, ["consul", method, path, body, token])

    def _one(self, node: str, request: list):
        status, answer = self.ask(node, request)[0]
        if not 200 <= status < 300:
            raise Failed(f"{node}: {' '.join(request[:3])} gave {status}: {str(answer)[:300]}")
        return answer


class Job:
    """A command under way on a node."""

    def __init__(self, nodes: Nodes, node: str, path: str) -> None:
        self.nodes, self.node, self.path = nodes, node, path

    def read(self) -> str:
        """What it has printed so far."""
        return self.nodes.run(self.node, f"cat {self.path}.out", check=False).out

    def lines(self) -> list[dict]:
        """What it has printed so far, as JSON lines; one that is not whole yet is left out."""
        found = []
        for line in self.read().splitlines():
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
        return found

    def over(self) -> bool:
        """Whether it has ended by itself."""
        return self.nodes.run(self.node, f"test -e {self.path}.rc", check=False).code == 0

    def result(self, bound: float) -> Done:
        """Wait until it has ended; Failed after `bound` seconds."""
        end = time.monotonic() + bound
        while not self.over():
            if time.monotonic() > end:
                raise Failed(f"{self.node}: a command has not ended after {bound:g} s; so far: {self.read()[-300:]}")
            time.sleep(0.5)
        text = self.nodes.run(self.node, f"cat {self.path}.rc; cat {self.path}.err >&2", check=False)
        return Done(int(text.out or 1), self.read(), text.err)

    def signal(self, name: str) -> None:
        """Send a signal to all of its processes."""
        self.nodes.run(self.node, f"kill -{name} -- -$(cat {self.path}.pid)", check=False)
