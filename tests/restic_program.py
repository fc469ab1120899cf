"""A restic that is new enough, for tests: `path()`. Debian 12 has 0.14: there, Debian 13's package is unpacked."""

import functools
import os
import pathlib
import re
import shutil
import subprocess
import tempfile

OLDEST = (0, 17)
_RELEASE = "trixie"


class NoRestic(Exception):
    """No restic can be had; the text says why."""


@functools.lru_cache(maxsize=1)
def path():
    """
    Return the path of a restic that is OLDEST or newer: RPIOMEGA_RESTIC, else `restic` on PATH, else an unpacked one.

    :raises NoRestic: the given one is too old, or the package cannot be downloaded
    """
    given = os.environ.get("RPIOMEGA_RESTIC")
    if given:
        if not _fits(given):
            raise NoRestic(f"RPIOMEGA_RESTIC={given} is no restic {'.'.join(map(str, OLDEST))} or newer")
        return given
    found = shutil.which("restic")
    if found and _fits(found):
        return found
    # By this name it can be put on PATH.
    cached = _cache() / f"{_RELEASE}-{_architecture()}" / "restic"
    if not _fits(cached):
        cached.parent.mkdir(exist_ok=True)
        _unpack(cached)
    return str(cached)


def _fits(program):
    try:
        done = subprocess.run([str(program), "version"], capture_output=True, text=True, check=False, timeout=60)
    except OSError:
        return False
    numbers = re.search(r"restic (\d+)\.(\d+)", done.stdout)
    return bool(numbers) and (int(numbers[1]), int(numbers[2])) >= OLDEST


def _cache():
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = pathlib.Path(base) / "rpiomega"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _architecture():
    return subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout.strip()


def _mirror():
    return os.environ.get("RPIOMEGA_DEBIAN_MIRROR", "http://deb.debian.org/debian").rstrip("/")


def _unpack(target):
    """Download the package with an apt that has folders of its own, and put its program at `target`."""
    with tempfile.TemporaryDirectory(prefix="restic-") as name:
        box = pathlib.Path(name)
        for folder in ("lists/partial", "cache/archives/partial", "etc"):
            (box / folder).mkdir(parents=True)
        (box / "status").touch()
        keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
        (box / "sources.list").write_text(f"deb [signed-by={keyring}] {_mirror()} {_RELEASE} main\n")
        options = {
            "Dir::Etc::SourceList": box / "sources.list",
            "Dir::Etc::SourceParts": "/dev/null",
            "Dir::State::Lists": box / "lists",
            "Dir::State::Status": box / "status",
            "Dir::Cache": box / "cache",
            "APT::Sandbox::User": "root",
            "APT::Update::Error-Mode": "any",
            "Acquire::Languages": "none",
            "Acquire::Retries": "3",
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled": "false",
        }
        command = ["apt-get", *(part for key, value in options.items() for part in ("-o", f"{key}={value}"))]
        for step in (["update"], ["download", "restic"]):
            done = subprocess.run([*command, *step], cwd=box, capture_output=True, text=True, check=False)
            if done.returncode:
                said = (done.stderr or done.stdout).strip().splitlines()[-1:]
                raise NoRestic(
                    f"restic's package of {_RELEASE} cannot be downloaded from {_mirror()} ({''.join(said)}); set"
                    " RPIOMEGA_DEBIAN_MIRROR to a mirror that answers, or RPIOMEGA_RESTIC to a restic"
                )
        package = next(box.glob("restic_*.deb"))
        subprocess.run(["dpkg-deb", "-x", str(package), str(box / "x")], check=True)
        # Workers of the tests may do this at the same time: the name appears with the whole file.
        whole = target.with_name(f"{target.name}.{os.getpid()}")
        shutil.copy(box / "x/usr/bin/restic", whole)
        os.replace(whole, target)
