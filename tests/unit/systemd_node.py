"""
A node for tests: a real sshd and a real systemd, with /etc, /run and /var/lib of their own, in namespaces.

systemd runs as a user instance, which needs no machine of its own; `systemctl` there means that one. The program of
both units (`RUN`) does what a test's `play` says, and stands for the formula's backup, which is tested elsewhere.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from rpiomega.node.backup import UNITS

# systemd moves all processes of the cgroup it starts in to one below it, so that must be one of its own. It does not
# start where that cannot be had: a process of another PID namespace is a 0 in cgroup.procs (cgroups(7)).
LACK = "no cgroup of its own for systemd"
SETUP = """
set -e
for group in {groups}; do
  echo 0 >"$group/cgroup.procs" || {{ echo "{lack}: $group takes no process"; exit 1; }}
done
used() {{ [ ! -e "$1/cgroup.procs" ] || echo "$1$(sed -n "s/^[0-9]*:$2://p" /proc/self/cgroup)"; }}
for taken in $(used /sys/fs/cgroup; used /sys/fs/cgroup/unified; used /sys/fs/cgroup/systemd name=systemd); do
  case $taken in
  */{group}) ! grep -qx 0 "$taken/cgroup.procs" && own=1 && continue ;;
  esac
  echo "{lack}: it would take $taken"
  exit 1
done
[ -n "${{own:-}}" ] || {{ echo "{lack}: there are no cgroups"; exit 1; }}
mount --make-rprivate /
mount --bind {folder}/etc /etc
mount --bind {folder}/lib /var/lib
# What this machine's owner has in a login shell is no part of a node, and does not bear to be killed.
[ ! -e ~/.bashrc ] || mount --bind /dev/null ~/.bashrc
mount -t tmpfs none /run
mkdir -p /run/sshd /run/systemd/system /run/user/0/systemd/user /run/rpiomega/backup
cp {folder}/units/* /run/user/0/systemd/user/
cp {systemctl} {folder}/real
mount --bind {folder}/systemctl {systemctl}
export XDG_RUNTIME_DIR=/run/user/0 HOME={folder}/home
SYSTEMD_UNIT_PATH=/run/user/0/systemd/user: {systemd} --user --unit=basic.target --log-target=console &
until {systemctl} list-units >/dev/null 2>&1; do sleep 0.05; done
{systemctl} start {timers}
exec {sshd} -D -e -f {folder}/sshd_config
"""
SYSTEMCTL = """#!/bin/sh
export XDG_RUNTIME_DIR=/run/user/0
exec {folder}/real --user "$@"
"""
SERVICE = """[Service]
Type=oneshot
ExecStart={python} {folder}/run.py {what}
Restart=on-failure
RestartSec=30min
"""
TIMER = "[Timer]\nOnCalendar=02:00\n"
RUN = """
import fcntl, json, os, pathlib, sys, time
what, folder, run = sys.argv[1], pathlib.Path({folder!r}), pathlib.Path("/run/rpiomega/backup")
state = pathlib.Path("/var/lib/rpiomega/backup/state.json")
lock = open(run / "lock", "w")
fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
(folder / "starts").open("a").write(what + chr(10))

def write(path, data):
    path.with_suffix(".new").write_text(json.dumps(data))
    path.with_suffix(".new").rename(path)

def wait(name):
    deadline = time.monotonic() + 60
    while not (folder / name).exists():
        if time.monotonic() > deadline:
            sys.exit("the test never wrote " + name)
        time.sleep(0.02)

began = time.time()
write(run / "progress.json", {{"id": str(began), "what": "save", "group": "files", "percent": 50}})
wait("go")
result = json.loads((folder / "go").read_text())
if result is None:
    sys.exit("no such program: restic")
known = json.loads(state.read_text()) if state.exists() else {{"version": 1}}
result = {{"id": str(began), "started": began, "ended": time.time(), **result}}
known["last" if what == "backup" else "drill"] = result
if result["ok"]:
    known["success" if what == "backup" else "proven"] = result["ended"]
write(state, known)
sys.exit(0 if result["ok"] else 1)
"""
BOUND = 120
SITE = """
rpiomega:
  cluster: home
  nodes:
    pi-1: {{address: 127.0.0.1, roles: [master, manager]}}
  network: {{prefix: 8, manage: false}}
  users: {{admin: {user}, port: {port}, identity: {key}, known_hosts: {folder}/known_hosts}}
  backup: {{bucket: {bucket}}}
"""


class SystemdNode:
    """The node; `start` it first. `server`: what `sshd` of conftest gives, not started."""

    def __init__(self, server):
        self.server, self.folder, self.group = server, server.folder, f"rpiomega-test-{server.port}"
        self.process, self.groups = None, []

    def start(self):
        """Start systemd and sshd, wait until sshd listens."""
        folder, programs = self.folder, {name: _program(name) for name in ("systemctl", "sshd", "systemd")}
        for name in ("lib/rpiomega/backup", "units", "home"):
            (folder / name).mkdir(parents=True)
        shutil.copytree("/etc", folder / "etc", symlinks=True, ignore_dangling_symlinks=True)
        (folder / "etc/hostname").write_text("pi-1\n")
        (folder / "etc/rpiomega/backup").mkdir(parents=True, exist_ok=True)
        (folder / "etc/rpiomega/backup/settings.json").write_text("{}")
        (folder / "systemctl").write_text(SYSTEMCTL.format(folder=folder))
        (folder / "systemctl").chmod(0o755)
        (folder / "run.py").write_text(RUN.format(folder=str(folder)))
        for what, unit in UNITS.items():
            service = SERVICE.format(python=sys.executable, folder=folder, what=what)
            (folder / f"units/{unit}.service").write_text(service)
            (folder / f"units/{unit}.timer").write_text(TIMER)
        timers = " ".join(f"{unit}.timer" for unit in UNITS.values())
        # A PID namespace: all of it ends with this process.
        line = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "sh", "-c"]
        with (folder / "log").open("ab") as log:
            self.groups = [group for group in map(self._group, cgroups()) if group]
            shown = " ".join(map(str, self.groups))
            values = {"folder": folder, "group": self.group, "groups": shown, "lack": LACK, "timers": timers}
            script = SETUP.format(**values, **programs)
            self.process = subprocess.Popen([*line, script], stdout=log, stderr=log)
        self.until("the node's sshd to listen", lambda: b"Server listening" in (folder / "log").read_bytes())

    def _group(self, parent):
        """Make a cgroup below `parent`, None where this machine lets nobody make one."""
        try:
            (parent / self.group).mkdir()
        except OSError:
            return None
        return parent / self.group

    def reset(self):
        """Forget all that was played so far."""
        self.systemctl("stop", *(f"{unit}.service" for unit in UNITS.values()))
        self.systemctl("reset-failed")
        for name in ("go", "starts", "lib/rpiomega/backup/state.json"):
            (self.folder / name).unlink(missing_ok=True)
        self.inside("rm", "-f", "/run/rpiomega/backup/progress.json")
        (self.folder / "etc/rpiomega/backup/settings.json").write_text("{}")
        self.systemctl("start", *(f"{unit}.timer" for unit in UNITS.values()))

    def until(self, what, look):
        """Wait until `look()` is true."""
        deadline = time.monotonic() + BOUND
        while not (seen := look()):
            if self.process.poll() is not None or time.monotonic() > deadline:
                said = (self.folder / "log").read_text(errors="replace")
                lack = next((line for line in said.splitlines() if line.startswith(LACK)), "")
                (pytest.skip if lack else pytest.fail)(lack or f"waited for {what}: {said[-3000:]}")
            time.sleep(0.02)
        return seen

    def play(self, result):
        """Let the run that waits, or the next one, end with this result; None: it ends without one."""
        (self.folder / "new").write_text(json.dumps(result))
        (self.folder / "new").rename(self.folder / "go")

    def rewind(self):
        """Let the next run wait for `play` again."""
        (self.folder / "go").unlink()

    def starts(self):
        """Return what was started so far: ["backup", "drill", ...]."""
        file = self.folder / "starts"
        return file.read_text().split() if file.exists() else []

    def state(self):
        """Return the node's state.json."""
        return json.loads((self.folder / "lib/rpiomega/backup/state.json").read_text())

    def systemctl(self, *words):
        """Run systemctl on the node."""
        self.inside("systemctl", *words)

    def inside(self, *command):
        """Run a command on the node."""
        sshd = next(
            child.pid for child in psutil.Process(self.process.pid).children(recursive=True) if child.name() == "sshd"
        )
        line = ["nsenter", "--mount", "--pid", f"--target={sshd}", *command]
        subprocess.run(line, check=True, capture_output=True, text=True, timeout=BOUND)

    def kill_run(self):
        """Kill the program of the run, as the kernel does when memory is short."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                if str(self.folder / "run.py") in child.cmdline():
                    child.send_signal(signal.SIGKILL)

    def cut(self):
        """Kill the server's end of every login, as a lost network does to a session."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):  # its other end may have gone first
                if any(mark in " ".join(child.cmdline()) for mark in ("@notty", "[priv]")):
                    child.kill()

    def stop(self):
        """End everything that was started."""
        if self.process:
            self.process.kill()
            self.process.wait(timeout=BOUND)
        for top in self.groups:
            below = [Path(folder) for folder, _, _ in os.walk(top, topdown=False)]
            self.gone(below)

    @staticmethod
    def gone(folders):
        """Remove cgroups, deepest first, once the kernel has reaped their processes."""
        deadline = time.monotonic() + BOUND
        for folder in folders:
            while folder.exists():
                try:
                    folder.rmdir()
                except OSError:
                    assert time.monotonic() < deadline, f"{folder} still has processes"
                    time.sleep(0.02)


def cgroups():
    """Return this process's cgroup in each hierarchy that systemd uses: the only one of version 2, or its own two."""
    lines = Path("/proc/self/cgroup").read_text().splitlines()
    own = {line.split(":")[1]: line.split(":", 2)[2] for line in lines}
    roots = {"/sys/fs/cgroup": "", "/sys/fs/cgroup/unified": "", "/sys/fs/cgroup/systemd": "name=systemd"}
    found = [Path(f"{root}{own[name]}") for root, name in roots.items() if name in own]
    return [path for path in found if (path / "cgroup.procs").exists()]


def _program(name):
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/lib/systemd:/lib/systemd")
    if not found:
        pytest.fail(f"this test needs a real {name}: install the packages systemd and openssh-server")
    return str(Path(found))
