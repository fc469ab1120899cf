"""A Consul binary, kept in the cache folder.

By default Debian's last packaged release: every Debian mirror has it, and it needs no build. RPIOMEGA_CONSUL names
another program, which stays where it is. With RPIOMEGA_CONSUL_FROM_SOURCE=1 and a Go toolchain, a release with today's
configuration syntax, built from the Go module proxy.
"""

from __future__ import annotations

import hashlib
import io
import os
import platform
import re
import shutil
import subprocess
import tarfile
import urllib.error
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from rpiomega.lab import image
from rpiomega.lab.engine import LabError
from rpiomega.lab.folders import alone, cache_folder, whole_file

PACKAGED = "1.8.7"
_DEB = "pool/main/c/consul/consul_1.8.7+dfsg1-2+b3_{}.deb"
_ARCHIVE = "http://archive.debian.org/debian"  # where suites go in the end
_SHA256 = {
    "amd64": "e4e888bba104daba1d9161f49bfc52649a7e4efd45b1a7ead5bc54f2cb9c89d9",
    "arm64": "7318cfa77a7ba6f71dd096e44353279de246ffc6561216ace42353685dcf8255",
}
_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
# The newest line that builds as a module of others: Consul's go.mod replaces its own sub-modules by folders, which
# only counts inside its repository, and from 1.14 on their published versions do not fit each other.
SOURCE = "1.13.9"
_CONSUL = "github.com/hashicorp/consul"
_SUBMODULES = ("api@v1.15.3", "sdk@v0.11.0")
_MODULE = Path(__file__).parent.parent / "files" / "consul-from-source"
_BUILD_BOUND = 3600


@dataclass(frozen=True)
class Binary:
    """A Consul program: where it is, and its version without a leading v."""

    path: Path
    version: str


def ensure() -> Binary:
    """Return a Consul binary for this machine: the given one, or one that is fetched or built the first time.

    Raises LabError if that is not possible.
    """
    if given := os.environ.get("RPIOMEGA_CONSUL"):
        return _given(Path(given))
    if os.environ.get("RPIOMEGA_CONSUL_FROM_SOURCE", "") not in ("", "0"):
        return _built(SOURCE)
    return _packaged(architecture())


def _given(path: Path) -> Binary:
    try:
        said = subprocess.run([path, "version"], capture_output=True, text=True, timeout=60, check=False).stdout
    except (OSError, subprocess.TimeoutExpired) as err:
        raise LabError(f"RPIOMEGA_CONSUL={path} does not run: {err}") from err
    found = re.match(r"Consul v([\w.+-]+)", said)
    if not found:
        raise LabError(f"RPIOMEGA_CONSUL={path} is not Consul: `{path} version` says {said.strip()[:80]!r}")
    return Binary(path.resolve(), found[1].partition("+")[0])


def architecture() -> str:
    """Return this machine's architecture as Debian calls it; raise LabError for one without a packaged Consul."""
    machine = platform.machine()
    if machine not in _MACHINES:
        raise LabError(f"no Consul is packaged for {machine}: the lab runs on {' and '.join(_MACHINES)}")
    return _MACHINES[machine]


def _packaged(arch: str) -> Binary:
    path = cache_folder() / f"consul-{PACKAGED}-{arch}" / "consul"
    if not path.exists():
        package = _download(_DEB.format(arch), _SHA256[arch])
        with whole_file(path) as temporary:
            temporary.write_bytes(_member(package, "./usr/bin/consul"))
            temporary.chmod(0o755)
    return Binary(path, PACKAGED)


def _download(name: str, sha256: str) -> bytes:
    problem = ""
    for base in (image.mirror(), _ARCHIVE):
        try:
            with urllib.request.urlopen(f"{base}/{name.replace('+', '%2B')}", timeout=60) as answer:
                data = answer.read()
        except (urllib.error.URLError, OSError) as err:
            problem = problem or f"{base}/{name}: {err}"
            continue
        if hashlib.sha256(data).hexdigest() == sha256:
            return data
        problem = f"{base}/{name}: its SHA-256 is not the pinned one"
    raise LabError(f"{problem}; set RPIOMEGA_DEBIAN_MIRROR to a mirror that has it")


def _member(package: bytes, name: str) -> bytes:
    """Return one file of a Debian package, which is an ar(5) archive with the files in data.tar.*."""
    offset = 8
    while offset < len(package):
        header = package[offset : offset + 60]
        size = int(header[48:58])
        if header[:16].startswith(b"data.tar"):
            with tarfile.open(fileobj=io.BytesIO(package[offset + 60 : offset + 60 + size])) as data:
                return data.extractfile(name).read()  # type: ignore[union-attr]  # it is a regular file
        offset += 60 + size + size % 2
    raise LabError(f"the Consul package holds no {name}")


def _built(version: str) -> Binary:
    path = cache_folder() / f"consul-{version}-{architecture()}" / "consul"
    if path.exists():
        return Binary(path, version)
    if not shutil.which("go"):
        raise LabError("RPIOMEGA_CONSUL_FROM_SOURCE is set but there is no `go`: install Go, or unset it")
    with alone(lambda line: None, 2 * _BUILD_BOUND, "consul-source.lock", "build of Consul"):
        if not path.exists():  # nobody else has built it meanwhile
            _build(version, path)
    return Binary(path, version)


def _build(version: str, path: Path) -> None:
    work = cache_folder() / "consul-source"
    shutil.rmtree(work, ignore_errors=True)
    shutil.copytree(_MODULE, work)
    flags = f"-s -w -X {_CONSUL}/version.GitDescribe=v{version}"
    with whole_file(path) as temporary:
        for command in (
            ["go", "get", f"{_CONSUL}@v{version}", *(f"{_CONSUL}/{module}" for module in _SUBMODULES)],
            ["go", "build", "-trimpath", "-ldflags", flags, "-o", str(temporary), _CONSUL],
        ):
            done = subprocess.run(
                command,
                cwd=work,
                env=os.environ | {"CGO_ENABLED": "0", "GOFLAGS": "-mod=mod"},
                capture_output=True,
                text=True,
                timeout=_BUILD_BOUND,
                check=False,
            )
            if done.returncode:
                cause = _first_error(done.stderr)
                raise LabError(f"`{' '.join(command[:2])}` of Consul {version} failed: {cause}; unset the variable")


def _first_error(text: str) -> str:
    """Return what stopped Go: it reports downloads and warnings on the same stream, and causes at a chain's end."""
    lines = [
        line.strip() for line in text.splitlines() if not re.match(r"go: (downloading|warning|added|upgraded)", line)
    ]
    return next((line for line in lines if " reading http" in line), lines[0] if lines else "no message")
