"""A container image of a few hundred kilobytes, made from this machine's own `sleep` and `sh`."""

import contextlib
import io
import re
import subprocess
import tarfile
import uuid

TAG = "rpiomega/tiny:1"
PROGRAMS = ("/bin/sleep", "/bin/sh")


def build(client, tag=TAG):
    """Import an image that holds `sleep`, `sh` and the libraries they need; return its tag."""
    client.api.import_image_from_data(root(), repository=tag.split(":")[0], tag=tag.split(":")[1])
    return tag


@contextlib.contextmanager
def on_host(client):
    """Yield the tag of such an image for this test alone: others use this machine's engine meanwhile."""
    tag = build(client, f"rpiomega/tiny:{uuid.uuid4().hex[:12]}")
    try:
        yield tag
    finally:
        client.images.remove(tag, force=True)


def root(**more):
    """Return the image's files as a tar archive.

    :param more: {path in the image, with _ for /: path of a program here, which comes with its libraries}
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", dereference=True) as tar:
        for path in [*PROGRAMS, *libraries(*PROGRAMS, *more.values())]:
            tar.add(path)
        for target, path in more.items():
            tar.add(path, target.replace("_", "/"))
    return buffer.getvalue()


def libraries(*programs):
    """Return the paths of the shared libraries that programs need; none for a static one."""
    listed = [subprocess.run(["ldd", one], capture_output=True, text=True, check=False).stdout for one in programs]
    return sorted(set(re.findall(r"(/\S+) \(", "".join(listed))))
