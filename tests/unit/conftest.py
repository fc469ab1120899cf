"""A real SSH server on this machine, on a free port, with keys of its own."""

import getpass
import os
import shutil
import socket
import subprocess
import time
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
    process: subprocess.Popen | None = None

    def start(self):
        """Start and wait until it listens."""
        Path("/run/sshd").mkdir(exist_ok=True)
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([SSHD, "-D", "-e", "-f", self.folder / "sshd_config"], stderr=log)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
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
    if not Path(SSHD).exists() or not shutil.which("ssh"):
        pytest.fail("these tests need a real sshd: install openssh-server (its service need not run)")
    server = Server(tmp_path, claims.free_port())
    server.new_host_key()
    server.new_host_key("key")
    (tmp_path / "sshd_config").write_text(
        f"Port {server.port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nPidFile none\nUsePAM no\n"
        f"AuthorizedKeysFile {tmp_path}/key.pub\nStrictModes no\nPasswordAuthentication no\n"
        f"KbdInteractiveAuthentication no\nPermitRootLogin yes\n",
        encoding="utf-8",
    )
    yield server
    server.stop()


@pytest.fixture
def pool():
    """Give a function that makes connection pools, closed at the end."""
    pools = []

    def make(settings):
        pools.append(Pool(settings))
        return pools[-1]

    yield make
    for each in pools:
        each.close()
        assert not os.path.exists(each.folder)
