"""Images of the lab: Debian as the base, the virtual Pi and the download cache on top.

Each is made once and tagged with a hash of what went into it, so a change of the recipe makes a new one.
"""

from __future__ import annotations

import hashlib
import io
import os
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import docker
import docker.errors

from rpiomega.lab import engine
from rpiomega.lab.engine import LabError

RELEASES = ("trixie", "bookworm")
# What owns the network of a virtual Pi: the image's own NetworkManager, or what provision-stack.sh puts in its place.
STACKS = ("networkmanager", "netplan", "netplan-nm", "networkd", "dhcpcd")
FILES = Path(__file__).parent / "files"
REPOSITORY = "rpiomega/lab"
Report = Callable[[str], None]


def mirror() -> str:
    """Return the Debian mirror; RPIOMEGA_DEBIAN_MIRROR overrides the public one."""
    return os.environ.get("RPIOMEGA_DEBIAN_MIRROR", "http://deb.debian.org/debian").rstrip("/")


def ensure_pi(client: docker.DockerClient, release: str, report: Report, stack: str = STACKS[0]) -> str:
    """Return the tag of the virtual Pi's image with a network stack, making it first if need be."""
    tag = _ensure(client, "pi", release, ["pi-init", *_package_lists(release)], report)
    if stack == STACKS[0]:
        return tag
    recipe = hashlib.sha256(tag.encode())
    for name in ("provision-stack.sh", "common.sh"):
        recipe.update((FILES / name).read_bytes())
    own = f"{REPOSITORY}:{stack}-{release}-{recipe.hexdigest()[:10]}"
    if not _exists(client, own):
        report(f"making image {own}")
        settings = engine.settings_to_pass_on(*engine.PROXY_VARIABLES) | {"STACK": stack}
        payload = {name: (FILES / name).read_bytes() for name in ("provision-stack.sh", "common.sh")}
        _provision(client, tag, "provision-stack.sh", payload, settings, own)
        _remove_older(client, f"{REPOSITORY}:{stack}-{release}-", own)
    return own


def ensure_cache(client: docker.DockerClient, release: str, report: Report) -> str:
    """Return the tag of the image with the download cache and the lab's DHCP and DNS server."""
    return _ensure(client, "cache", release, ["cache-init"], report)


def ensure_vendor(client: docker.DockerClient, release: str, report: Report, salt: bool = False) -> str:
    """Return the tag of the image with the vendors' repositories: Docker's, and Salt's if asked for."""
    kind, parts = ("vendor-salt", "docker salt") if salt else ("vendor", "docker")
    names = ["vendor_apt.py", *(f"vendor_{part}.py" for part in parts.split())]
    return _ensure(client, kind, release, names, report, {"PARTS": parts, "RELEASE": release}, "provision-vendor.sh")


def ensure_b2(client: docker.DockerClient, release: str, report: Report) -> str:
    """Return the tag of the image for the stand-in for Backblaze B2."""
    return _ensure(client, "b2", release, [], report)


def ensure_base(client: docker.DockerClient, release: str, report: Report) -> str:
    """Return the tag of a Debian base image: the registry's where one answers, else made with mmdebstrap."""
    tag = f"{REPOSITORY}:base-{release}"
    if _exists(client, tag):
        return tag
    if release not in RELEASES:
        raise LabError(f"release {release} is not known: choose one of {', '.join(RELEASES)}")
    if pull(f"debian:{release}-slim", tag):
        report(f"base image debian:{release}-slim from the registry")
    else:
        report(f"no image registry answers: making the {release} base with mmdebstrap")
        _mmdebstrap(client, release, tag)
    return tag


def remove_all(client: docker.DockerClient) -> list[str]:
    """Remove every image of the lab; return their tags."""
    tags = [tag for image in client.images.list(name=REPOSITORY) for tag in image.tags]
    for tag in tags:
        with engine.explained(f"cannot remove image {tag}"):
            client.images.remove(tag, force=True)
    return tags


def _package_lists(release: str) -> list[str]:
    return ["packages-pi", f"packages-pi-{release}"]


def _ensure(client, kind: str, release: str, parts: list[str], report: Report, environment=None, script="") -> str:
    script = script or f"provision-{kind}.sh"
    names = [script, "common.sh", *parts]
    ca = _host_certificates()
    settings = engine.settings_to_pass_on(*engine.PROXY_VARIABLES, *engine.PIP_VARIABLES) | (environment or {})
    recipe = hashlib.sha256(ca + repr(sorted(settings.items())).encode())
    for name in names:
        recipe.update((FILES / name).read_bytes())
    tag = f"{REPOSITORY}:{kind}-{release}-{recipe.hexdigest()[:10]}"
    if _exists(client, tag):
        return tag
    base = ensure_base(client, release, report)
    report(f"making image {tag}")
    payload = {name: (FILES / name).read_bytes() for name in names} | {"host-ca.pem": ca}
    _provision(client, base, script, payload, settings, tag)
    _remove_older(client, f"{REPOSITORY}:{kind}-{release}-", tag)
    return tag


def _provision(client, base: str, script: str, payload: dict[str, bytes], environment, tag: str) -> None:
    with engine.explained(f"cannot make image {tag}"):
        container = client.containers.create(
            base, ["sh", f"/lab/{script}"], environment=environment, labels={engine.LABEL: "image"}
        )
        try:
            container.put_archive("/", archive({f"lab/{name}": data for name, data in payload.items()}))
            container.start()
            code = container.wait(timeout=1200)["StatusCode"]
            if code:
                log = container.logs(tail=15).decode(errors="replace").strip()
                raise LabError(f"cannot make image {tag}: {script} failed with {code}:\n{log}")
            repository, _, name = tag.partition(":")
            container.commit(repository, name, changes=['CMD ["/bin/sh"]'])
        finally:
            container.remove(force=True, v=True)


def _mmdebstrap(client, release: str, tag: str) -> None:
    if not shutil.which("mmdebstrap"):
        raise LabError("mmdebstrap is missing: `apt-get install mmdebstrap`, or use a machine with a registry")
    packages = [name for part in _package_lists(release) for name in (FILES / part).read_text().split()]
    skip = [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale")]
    command = ["mmdebstrap", "--quiet", "--variant=minbase", *skip, f"--include={','.join(packages)}", release]
    if mirror() != "http://deb.debian.org/debian":
        command += ["-", mirror()]
    with tempfile.TemporaryDirectory(prefix="rpiomega-") as folder:
        tarball = Path(folder, "base.tar")
        with tarball.open("wb") as out:
            made = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, timeout=1200, check=False)
        if made.returncode:
            lines = made.stderr.decode(errors="replace").strip().splitlines()
            cause = next((line for line in lines if line.startswith("E:")), lines[-1] if lines else "no message")
            raise LabError(f"mmdebstrap {release} failed: {cause}; check that {mirror()} can be reached")
        repository, _, name = tag.partition(":")
        with engine.explained(f"cannot import {tag}"):
            client.api.import_image_from_file(str(tarball), repository=repository, tag=name)


def pull(reference: str, tag: str) -> bool:
    """Pull an image and tag it; return whether a registry gave it. 20 s of silence count as no registry."""
    try:
        client = docker.from_env(version="auto", timeout=20)
        image = client.images.pull(reference)
        return image.tag(*tag.split(":"))
    except Exception:  # noqa: BLE001 - whatever went wrong, the answer is to make the image here
        return False


def _exists(client, tag: str) -> bool:
    try:
        client.images.get(tag)
        return True
    except docker.errors.ImageNotFound:
        return False


def _remove_older(client, prefix: str, current: str) -> None:
    for image in client.images.list(name=REPOSITORY):
        for tag in image.tags:
            if tag.startswith(prefix) and tag != current:
                try:
                    client.images.remove(tag)
                except docker.errors.APIError:
                    continue  # still used by a running lab


def _host_certificates() -> bytes:
    names = ("SSL_CERT_FILE", "PIP_CERT", "REQUESTS_CA_BUNDLE")
    for path in [os.environ.get(n, "") for n in names] + ["/etc/ssl/certs/ca-certificates.crt"]:
        if path and Path(path).is_file():
            return Path(path).read_bytes()
    return b""


def archive(files: dict[str, bytes]) -> bytes:
    """Return a tar of executable files, path -> content."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o755
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()
