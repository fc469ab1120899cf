"""A real SSH server on this machine, on a free port, with keys of its own."""

import getpass
import json
import os
import shutil
import socket
import subprocess
import time
import uuid
from dataclasses import dataclass
from pathlib import Path

import claims
import psutil
import pytest
from hypothesis import HealthCheck, settings

from rpiomega.ssh import Pool, Settings

SSHD = "/usr/sbin/sshd"
# The machine may be busy: how long one example takes says nothing.
settings.register_profile("busy", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("busy")


@dataclass
class Server:
    """An sshd: `start` and `stop` it, `settings` to log in."""

    folder: Path
    port: int
    address: str = "127.0.0.1"
    process: subprocess.Popen | None = None

    def start(self):
        """Start and wait until it listens."""
        Path("/run/sshd").mkdir(exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([SSHD, "-D", "-e", "-f", self.folder / "sshd_config"], stderr=log)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex((self.address, self.port)) == 0:
                    return
            assert self.process.poll() is None, (self.folder / "log").read_text()
            time.sleep(0.02)
        pytest.fail(f"sshd does not listen on {self.port}: {(self.folder / 'log').read_text()}")

    def stop(self):
        """Stop it and whoever is logged in."""
        if self.process:
            self.process.terminate()
            self.process.wait(timeout=60)

    def cut(self):
        """Kill the server's end of every connection, as a power cut would."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            if child.name().startswith("sshd"):
                child.kill()

    def settings(self, **other):
        """Return what logs in here."""
        values = {
            "user": getpass.getuser(),
            "port": self.port,
            "identity": self.folder / "key",
            "known_hosts": self.folder / "known_hosts",
            "config": Path("/dev/null"),
        }
        return Settings(**{**values, **other})

    def new_host_key(self, name="host"):
        """Make a host key, over the old one."""
        (self.folder / name).unlink(missing_ok=True)
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.folder / name], check=True)


@pytest.fixture
def sshd(tmp_path):
    """Give a server, not started yet."""
    server = server_in(tmp_path)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def module_sshd(tmp_path_factory):
    """Give a server that a module's tests share, not started yet."""
    server = server_in(tmp_path_factory.mktemp("sshd"))
    yield server
    server.stop()


def server_in(folder):
    """Return a server with keys and configuration in a folder."""
    if not Path(SSHD).exists() or not shutil.which("ssh"):
        pytest.fail("these tests need a real sshd: install openssh-server (its service need not run)")
    server = Server(folder, claims.free_port())
    server.new_host_key()
    server.new_host_key("key")
    (folder / "sshd_config").write_text(
        f"Port {server.port}\nListenAddress 127.0.0.1\nHostKey {folder}/host\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {folder}/key.pub\nStrictModes no\nPasswordAuthentication no\n"
        f"KbdInteractiveAuthentication no\nPermitRootLogin yes\n",
        encoding="utf-8",
    )
    return server


# What a machine of its own has besides its sshd: a boot of its own, and its own /etc/rpiomega.
MACHINE = """#!/bin/sh
exec unshare -mu sh -c '
mount --make-rprivate / && mkdir -p {folder}/etc && mount -t tmpfs none {folder}/etc && cp -a /etc/. {folder}/etc/ &&
mkdir -p {folder}/etc/rpiomega && if [ -e {folder}/mark ]; then cp {folder}/mark {folder}/etc/rpiomega/node.json; fi &&
mount -t tmpfs none /run && mount -t tmpfs none /srv && mkdir -p /var/lib/docker &&
mount -t tmpfs none /var/lib/docker && mount --bind {folder}/etc /etc && cp -a {folder}/root/. / &&
mount --bind {folder}/boot_id /proc/sys/kernel/random/boot_id &&
exec sh -c "$SSH_ORIGINAL_COMMAND"'
"""


@pytest.fixture
def machines(tmp_path):
    """Give a function that starts one machine: machines(NAME, ADDRESS...); all have one port and take one key.

    What is in its folder `root` is in its own /etc, /run, /srv and /var/lib/docker.
    """
    port, started = claims.free_port(), []

    def start(name, *addresses, like=None, mark=None):
        folder = tmp_path / name
        (folder / "root").mkdir(parents=True)
        server = Server(folder, port, addresses[0])
        if like:
            shutil.copy(like.folder / "host", folder / "host")
        else:
            server.new_host_key()
        if not (tmp_path / "key").exists():
            Server(tmp_path, port).new_host_key("key")
        shutil.copy(tmp_path / "key", folder / "key")
        (folder / "boot_id").write_text(f"{uuid.uuid4()}\n")
        if mark:
            (folder / "mark").write_text(json.dumps({"cluster": mark[0], "node": mark[1]}))
        (folder / "machine").write_text(MACHINE.format(folder=folder))
        (folder / "machine").chmod(0o755)
        listen = "".join(f"ListenAddress {address}\n" for address in addresses)
        (folder / "sshd_config").write_text(
            f"Port {port}\n{listen}HostKey {folder}/host\nPidFile none\nUsePAM no\nForceCommand {folder}/machine\n"
            f"AuthorizedKeysFile {tmp_path}/key.pub\nStrictModes no\nPasswordAuthentication no\n"
            f"KbdInteractiveAuthentication no\nPermitRootLogin yes\nAllowTcpForwarding yes\n"
        )
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def pool():
    """Give a function that makes connection pools, closed at the end."""
    pools = []

    def make(settings, **other):
        pools.append(Pool(settings, **other))
        return pools[-1]

    yield make
    for each in pools:
        each.close()
        assert not os.path.exists(each.folder)
