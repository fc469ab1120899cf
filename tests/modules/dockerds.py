"""Several real Docker daemons on one machine, each with its own address, hostname and state.

Every node is one set of Linux namespaces (network, mount, PID, UTS) kept open by a small process. A further
network namespace holds the bridge that joins them, so the host's own bridges and firewall rules stay out of
the way; the host gets one leg with the first address. Nothing is named in the kernel: when the process that
made the nodes ends, however it ends, the keepers die with it and the kernel removes the rest.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import claims
import docker
import engine_log

START_BOUND = 120.0  # seconds until a daemon answers; an unloaded machine needs about two
PREPARE = "mount -t tmpfs tmpfs /run && hostname {name} && echo ready && while :; do sleep 3600; done"


# Another engine than this machine's: containerd, runc and docker-proxy are taken from its folder where they are there.
DOCKERD = os.environ.get("RPIOMEGA_DOCKERD") or "dockerd"


def _dockerd() -> list[str]:
    folder = os.path.dirname(DOCKERD)
    return ["env", f"PATH={os.path.abspath(folder)}:{os.environ['PATH']}", DOCKERD] if folder else [DOCKERD]


class Unsupported(RuntimeError):
    """This machine cannot run such daemons; the text says what is missing."""


def missing() -> str:
    """What this machine lacks to run the daemons, empty if nothing does."""
    if os.geteuid() != 0:
        return "root is needed for network namespaces"
    absent = [tool for tool in (DOCKERD, "ip", "nsenter", "unshare") if not shutil.which(tool)]
    return f"not installed: {', '.join(absent)}" if absent else ""


# Loaded before any fork: in the child of a process with threads nothing may take a lock.
_LIBC = ctypes.CDLL(None, use_errno=True)


def _die_with_parent() -> None:
    _LIBC.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def _run(*argv: str) -> str:
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _free_subnet() -> str:
    """A /24 without a route, that no test beside this one has chosen and is about to use."""
    for number in range(256):
        subnet = f"10.98.{number}"
        if claims.claim(subnet) and not _run("ip", "route", "show", "root", f"{subnet}.0/24"):
            return subnet
    raise Unsupported("every subnet of 10.98.0.0/16 is in use")


class Keeper:
    """A process that holds a set of namespaces open."""

    def __init__(self, name: str, flags: tuple[str, ...], prepare: str) -> None:
        # The thread that forks must outlive the child: PR_SET_PDEATHSIG follows the thread, not the process.
        self.process = subprocess.Popen(
            ["unshare", *flags, "sh", "-c", prepare.format(name=name)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=_die_with_parent,
        )
        if self.process.stdout.readline().strip() != "ready":
            self.process.kill()
            raise Unsupported(f"no namespaces for {name}: {self.process.stderr.read().strip()}")
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        self.pid = int(children[0]) if "--fork" in flags else self.process.pid

    def enter(self, *kinds: str) -> list[str]:
        return ["nsenter", "--target", str(self.pid), *(f"--{kind}" for kind in kinds), "--"]

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


class Daemon:
    """One node: a namespace set and the dockerd in it."""

    def __init__(self, name: str, address: str, root: Path) -> None:
        self.name, self.address, self.root = name, address, root
        root.mkdir(parents=True)
        self.socket = root / "docker.sock"
        self.log = root / "dockerd.log"
        self.base_url = f"unix://{self.socket}"
        if len(str(self.socket)) > 100:
            raise Unsupported(f"socket path too long for a UNIX socket: {self.socket}")
        self.keeper = Keeper(
            name, ("--net", "--mount", "--uts", "--pid", "--fork", "--kill-child", "--mount-proc"), PREPARE
        )
        self.dockerd: subprocess.Popen | None = None

    def run(self, *argv: str) -> str:
        """Run a command in this node's namespaces and return what it prints."""
        return _run(*self.keeper.enter("net", "mount", "uts", "pid"), *argv)

    def client(self, timeout: float = 10) -> docker.DockerClient:
        return docker.DockerClient(base_url=self.base_url, timeout=timeout)

    def info(self) -> dict:
        """Swarm part of this daemon's /info."""
        client = self.client()
        try:
            return client.info()["Swarm"]
        finally:
            client.close()

    def start(self, wait: bool = True) -> None:
        (self.root / "dockerd.pid").unlink(missing_ok=True)
        argv = [
            *self.keeper.enter("net", "mount", "uts", "pid"),
            *(*_dockerd(), "--debug", "--host", self.base_url, "--data-root", str(self.root / "data")),
            *("--exec-root", "/run/docker", "--pidfile", str(self.root / "dockerd.pid")),
            *("--config-file", str(self.root / "daemon.json"), "--bridge", "none", "--iptables=true"),
        ]
        if not (self.root / "daemon.json").exists():
            (self.root / "daemon.json").write_text("{}")
        with self.log.open("ab") as log:
            self.dockerd = subprocess.Popen(argv, stdout=log, stderr=log)
        if wait:
            self.wait_ready()

    def wait_ready(self) -> None:
        end, last = time.monotonic() + START_BOUND, "no answer yet"
        while time.monotonic() < end:
            if self.dockerd.poll() is not None:
                raise Unsupported(f"dockerd on {self.name} ended: {self._tail()}")
            try:
                self.info()
                return
            except (docker.errors.DockerException, OSError) as err:
                last = str(err)
            time.sleep(0.1)
        raise RuntimeError(f"dockerd on {self.name} did not answer within {START_BOUND:.0f} s: {last}\n{self._tail()}")

    def send_signal(self, number: int) -> None:
        self.run("kill", f"-{number}", (self.root / "dockerd.pid").read_text().strip())

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End the daemon; its state stays."""
        if self.dockerd and self.dockerd.poll() is None:
            self.send_signal(number)
            self.dockerd.wait(timeout=120)

    def restart(self) -> None:
        self.stop()
        self.start()

    def wipe(self) -> None:
        """Restart the daemon as one that never was in a swarm."""
        self.stop(signal.SIGKILL)
        shutil.rmtree(self.root / "data" / "swarm", ignore_errors=True)
        self.start()

    def unplug(self) -> None:
        """Take the node off the network; the daemon goes on."""
        self.run("ip", "link", "set", "eth0", "down")

    def plug(self) -> None:
        self.run("ip", "link", "set", "eth0", "up")

    def readdress(self, address: str) -> None:
        """Give the node another address, as DHCP may; `address` stays what it was first."""
        gateway = address.rpartition(".")[0] + ".1"
        self.run("ip", "address", "flush", "dev", "eth0")
        self.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
        self.run("ip", "route", "replace", "default", "via", gateway)

    def block(self, port: int, protocol: str = "tcp") -> None:
        """Drop what arrives at one port."""
        self.run("iptables", "-I", "INPUT", "-p", protocol, "--dport", str(port), "-j", "DROP")

    def unblock(self, port: int, protocol: str = "tcp") -> None:
        self.run("iptables", "-D", "INPUT", "-p", protocol, "--dport", str(port), "-j", "DROP")

    def writes(self) -> list[str]:
        """Every request that asked this daemon to change something, from its own debug log."""
        return [f"{one.verb} {one.path}" for one in engine_log.writes(self.log.read_text(errors="replace"))]

    def _tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-8:])

    def close(self) -> None:
        self.keeper.close()
        if self.dockerd:
            self.dockerd.wait(timeout=120)


class Dockerds:
    """Context manager: `with Dockerds(["pi1", "pi2"]) as nodes: nodes["pi1"].client()`.

    :param names: hostnames of the nodes; their addresses are `<subnet>.11`, `.12`, ... in this order
    :param subnet: first three numbers of a /24 that nothing else on this machine uses; default: a free one
    """

    def __init__(self, names: list[str], subnet: str | None = None) -> None:
        lack = missing()
        if lack:
            raise Unsupported(lack)
        self.subnet = subnet or _free_subnet()
        self.root = Path(tempfile.mkdtemp(prefix="dockerds-"))
        self.nodes: dict[str, Daemon] = {}
        self.fabric: Keeper | None = None
        try:
            self._wire(names)
        except BaseException:
            self.close()
            raise

    def _wire(self, names: list[str]) -> None:
        self.fabric = Keeper("fabric", ("--net",), "echo ready && exec sleep infinity")
        inside = self.fabric.enter("net")
        host_leg = f"ds{self.fabric.pid}"
        _run("ip", "link", "add", host_leg, "type", "veth", "peer", "name", "host", "netns", str(self.fabric.pid))
        _run("ip", "address", "add", f"{self.subnet}.1/24", "dev", host_leg)
        _run("ip", "link", "set", host_leg, "up")
        _run(*inside, "ip", "link", "add", "bridge", "type", "bridge")
        for link in ("bridge", "host"):
            _run(*inside, "ip", "link", "set", link, "up")
        _run(*inside, "ip", "link", "set", "host", "master", "bridge")
        for position, name in enumerate(names):
            node = Daemon(name, f"{self.subnet}.{11 + position}", self.root / name)
            self.nodes[name] = node
            port, peer = f"port{position}", str(node.keeper.pid)
            _run(*inside, "ip", "link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", peer)
            _run(*inside, "ip", "link", "set", port, "master", "bridge", "up")
            node.run("ip", "address", "add", f"{node.address}/24", "dev", "eth0")
            for link in ("lo", "eth0"):
                node.run("ip", "link", "set", link, "up")
            node.run("ip", "route", "add", "default", "via", f"{self.subnet}.1")

    def start(self) -> None:
        for node in self.nodes.values():
            node.start(wait=False)
        with ThreadPoolExecutor() as pool:
            list(pool.map(Daemon.wait_ready, self.nodes.values()))

    def __enter__(self) -> Dockerds:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_exc) -> None:
        self.close()

    def __getitem__(self, name: str) -> Daemon:
        return self.nodes[name]

    def __iter__(self):
        return iter(self.nodes.values())

    def close(self) -> None:
        for node in self.nodes.values():
            node.close()
        if self.fabric:
            self.fabric.close()
        shutil.rmtree(self.root, ignore_errors=True)

    def forget_swarm(self) -> None:
        """Bring every node back to a daemon that never was in a swarm (faster than new nodes)."""
        for node in self.nodes.values():
            node.plug()
            node.readdress(node.address)
            node.run("iptables", "-F", "INPUT")
            node.stop(signal.SIGKILL)
            shutil.rmtree(node.root / "data" / "swarm", ignore_errors=True)
            node.log.unlink(missing_ok=True)
        self.start()


if __name__ == "__main__":
    with Dockerds(sys.argv[1:] or ["pi1", "pi2", "pi3"]) as started:
        for daemon in started:
            print(daemon.name, daemon.address, daemon.base_url, daemon.client().info()["Name"])
