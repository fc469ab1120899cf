"""Docker's systemd unit: its program and flags, and how it starts, stops and rereads its settings."""

import contextlib
import re
import shlex
import subprocess

from omega.core import files as core_files

UNIT = "docker.service"
CONTAINERD = "containerd.service"
DROP_IN = f"/etc/systemd/system/{UNIT}.d/rpiomega-data-root.conf"
BOUND = 180
ABSENT = 127  # what a shell says of a program that is not there
LATE = 124  # what `timeout` says of one that did not end


class Service:
    """Docker as systemd runs it. What starts something returns what went wrong in words, or None."""

    def program(self):
        """Return ``(path, flags)`` of the unit's command; path None if there is no such unit."""
        shown = _systemctl("show", UNIT, "--property=ExecStart", "--value").stdout
        found = re.search(r"path=(\S+) ; argv\[\]=\S+ ?(.*?) ; ignore_errors", shown)
        if not found:
            return None, []
        words = found[2].split()
        return found[1], expanded(words, _variables()) if any(word.startswith("$") for word in words) else words

    def active(self):
        """Tell whether the engine runs."""
        return _systemctl("is-active", "--quiet", UNIT).returncode == 0

    def restart(self):
        """Restart it, and wait until it says that it is ready."""
        _systemctl("reset-failed", UNIT, "docker.socket")
        return self._do("restart")

    def reload(self):
        """Have it read its settings again."""
        return self._do("reload")

    def stop(self):
        """Stop it, and the socket that would start it again."""
        return self._do("stop", "docker.socket")

    def depend_on(self, text):
        """Have the unit's drop-in hold `text`; None: have none. Return whether anything changed."""
        return _drop_in(DROP_IN, text)

    def containerd_depends_on(self, text):
        """As `depend_on`, of containerd's unit."""
        return _drop_in(DROP_IN.replace(UNIT, CONTAINERD), text)

    def stop_containerd(self):
        """Stop containerd, which no engine uses at the moment; return what went wrong, or None."""
        done = _systemctl("stop", CONTAINERD)
        return done.stderr.strip() if done.returncode else None

    def start_containerd(self):
        """Start containerd; return what went wrong, or None."""
        done = _systemctl("restart", CONTAINERD)
        said = f"`systemctl restart containerd`: {done.stderr.strip()}; see `journalctl -u containerd`"
        return said if done.returncode else None

    def dependence(self):
        """Return the text of the unit's drop-in, or None."""
        return core_files.read(DROP_IN)

    def last_error(self):
        """Return the last line of the engine's log that names an error, or an empty text."""
        log = _run("journalctl", "--unit", UNIT, "--lines", "40", "--output", "cat", "--no-pager").stdout.splitlines()
        said = [line for line in log if re.search(r"failed|unable|invalid|error", line, re.IGNORECASE)]
        # systemd's own lines say only that it failed.
        said = [line for line in said if not line.startswith((UNIT, "Failed to start"))] or said
        return said[-1] if said else ""

    def _do(self, verb, *more):
        done = _systemctl(verb, *more, UNIT)
        if not done.returncode:
            return None
        if done.returncode in (ABSENT, LATE):
            return done.stderr
        return f"`systemctl {verb} docker`: {self.last_error() or done.stderr.strip()}"


def expanded(words, variables):
    """Return a unit's arguments with their variables replaced: $NAME by its words, ${NAME} by one (systemd.service)."""
    made = []
    for word in words:
        name = word.strip("${}")
        if not word.startswith("$"):
            made.append(word)
        elif word.startswith("${"):
            made.append(variables.get(name, ""))
        else:
            made += variables.get(name, "").split()
    return made


def _variables():
    """Return the variables that the unit's command may use, such as DOCKER_OPTS of Debian's /etc/default/docker."""
    shown = _systemctl("show", UNIT, "--property=EnvironmentFiles", "--property=Environment").stdout
    files = re.findall(r"^EnvironmentFiles=(\S+)", shown, re.MULTILINE)
    lines = [line for path in files for line in (core_files.read(path) or "").splitlines()]
    return assigned(lines + re.findall(r"^Environment=(.*)$", shown, re.MULTILINE))


def assigned(lines):
    """Return ``{name: value}`` of the assignments in lines of an environment file; comments are none."""
    found = {}
    for line in lines:
        with contextlib.suppress(ValueError):  # a quote that is not closed: systemd skips such a line
            pairs = (word.partition("=") for word in shlex.split(line, comments=True))
            found.update({name: value for name, equals, value in pairs if equals})
    return found


def _drop_in(path, text):
    if core_files.read(path) == text:
        return False
    if text is None:
        core_files.remove(path)
    else:
        core_files.write(path, text)
    _systemctl("daemon-reload")
    return True


def _systemctl(*arguments):
    return _run("systemctl", *arguments)


def _run(*command):
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=BOUND, check=False)
    except subprocess.TimeoutExpired:
        late = (
            f"`{' '.join(command)}` did not end within {BOUND} s; see `systemctl status docker`, `journalctl -u docker`"
        )
        return subprocess.CompletedProcess(command, LATE, "", late)
    except FileNotFoundError:
        # As where a state is only tried out, with test=True.
        return subprocess.CompletedProcess(command, ABSENT, "", f"no systemd runs here: there is no {command[0]}")
