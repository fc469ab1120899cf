"""Image archives for nodes that reach no registry: Consul, and a tiny web server for the smoke test.

An archive is a gzipped `docker save` tarball in the cache folder.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import tarfile
import tempfile
from dataclasses import dataclass
from pathlib import Path

import docker
import docker.errors

from rpiomega.lab import engine, image
from rpiomega.lab.consul import binary
from rpiomega.lab.engine import LabError
from rpiomega.lab.folders import cache_folder, whole_file
from rpiomega.site.schema import Consul

SMOKE = "rpiomega/smoke:1"
# A program and the shared libraries it names, gathered below /out.
_GATHER = """
set -e
mkdir -p /out/tmp /out/etc /out/usr/bin
chmod 1777 /out/tmp
printf 'root:x:0:0:root:/:/sbin/nologin\\n' > /out/etc/passwd
chmod 755 {program}
cp -L --parents {program} $(ldd {program} 2>/dev/null | grep -o '/[^ ]*') /out
tar -C /out -cf /image.tar .
"""
_BUSYBOX = """
set -e
apt-get update -qq && apt-get install -qq -y --no-install-recommends busybox-static >/dev/null
mkdir -p /out/www /out/bin /out/tmp
cp "$(command -v busybox)" /out/bin/busybox
for applet in $(/out/bin/busybox --list); do ln -s busybox "/out/bin/$applet" 2>/dev/null || true; done
echo 'rpiomega smoke service' > /out/www/index.html
tar -C /out -cf /image.tar .
"""


@dataclass(frozen=True)
class Archive:
    """An image and the file that holds it."""

    image: str
    path: Path


def consul(client: docker.DockerClient, release: str, report: image.Report) -> Archive:
    """Return the archive of the Consul image, made on first use: of a program that is given with RPIOMEGA_CONSUL, else
    the registry's, else of `binary`'s program."""
    wanted, given = Consul().image, bool(os.environ.get("RPIOMEGA_CONSUL"))
    path = _path(wanted)
    if path.exists() and not given:
        return Archive(wanted, path)
    if not given and _pulled(client, wanted):
        report(f"{wanted} from the registry")
        return _save(client, wanted)
    found = binary.ensure()
    name = f"rpiomega/consul:{found.version}"
    if given:  # another build of the same release may have been given before
        name = f"rpiomega/consul:{found.version}-{hashlib.sha256(found.path.read_bytes()).hexdigest()[:12]}"
    if not _path(name).exists():
        report(f"making {name}" if given else f"no image registry answers: making {name}")
        program = "/usr/bin/consul"
        _assemble(client, release, name, _GATHER.format(program=program), {program: found.path}, ["consul"])
    return _save(client, name)


def smoke(client: docker.DockerClient, release: str, report: image.Report) -> Archive:
    """Return the archive of the smoke test's image: busybox, serving /www on port 8080 by default."""
    if not _path(SMOKE).exists():
        report(f"making {SMOKE}")
        serve = ["/bin/busybox", "httpd", "-f", "-p", "8080", "-h", "/www"]
        _assemble(client, release, SMOKE, _BUSYBOX, {}, serve)
    return _save(client, SMOKE)


def _path(name: str) -> Path:
    return cache_folder() / f"{name.replace('/', '-').replace(':', '-')}-{binary.architecture()}.tar.gz"


def _pulled(client, name: str) -> bool:
    repository, _, tag = name.rpartition(":")
    return image.pull(name, f"{repository}:{tag}")


def _assemble(client, release: str, name: str, script: str, files: dict[str, Path], command: list[str]) -> None:
    """Make an image of what `script`, run in the Debian base, leaves in /image.tar."""
    base = image.ensure_base(client, release, lambda line: None)
    with engine.explained(f"cannot make {name}"):
        container = client.containers.create(
            base,
            ["sh", "-c", script],
            environment=engine.settings_to_pass_on(*engine.PROXY_VARIABLES),
            labels={engine.LABEL: "image"},
        )
        try:
            for target, source in files.items():
                container.put_archive("/", image.archive({target.lstrip("/"): source.read_bytes()}))
            container.start()
            if container.wait(timeout=600)["StatusCode"]:
                log = container.logs(tail=10).decode(errors="replace").strip()
                raise LabError(f"cannot make {name}: {log}")
            _import(client, container, name, command)
        finally:
            container.remove(force=True, v=True)


def _import(client, container, name: str, command: list[str]) -> None:
    chunks, _ = container.get_archive("/image.tar")
    with tempfile.TemporaryFile() as outer:
        for chunk in chunks:
            outer.write(chunk)
        outer.seek(0)
        with tarfile.open(fileobj=outer) as tar:
            data = tar.extractfile("image.tar").read()  # type: ignore[union-attr]  # it is a regular file
    repository, _, tag = name.rpartition(":")
    listed = ", ".join(f'"{part}"' for part in command)
    client.api.import_image_from_data(data, repository=repository, tag=tag, changes=[f"CMD [{listed}]"])


def _save(client, name: str) -> Archive:
    path = _path(name)
    if not path.exists():
        with (
            engine.explained(f"cannot save {name}"),
            whole_file(path) as temporary,
            gzip.open(temporary, "wb", compresslevel=1) as packed,
        ):
            for chunk in client.images.get(name).save(named=name):
                packed.write(chunk)
        client.images.remove(name, force=True)
    return Archive(name, path)
