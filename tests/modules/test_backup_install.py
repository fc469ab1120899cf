"""The vendor's restic from an HTTP server: right, wrong, interrupted. What is in use stays until then."""

import bz2
import hashlib
import http.server
import pathlib
import subprocess
import threading

import pytest
import restic_program

from omega.backup import install, restic

pytestmark = pytest.mark.long


@pytest.fixture(scope="session")
def archive():
    """A real restic as its vendor packs it, and its version."""
    program = pathlib.Path(restic_program.path())
    return bz2.compress(program.read_bytes(), 1), ".".join(map(str, restic.version(str(program))))


@pytest.fixture
def vendor():
    """A server of releases: `files` maps a path to its bytes; `cut`: after how many bytes it ends the connection."""

    class Server(http.server.ThreadingHTTPServer):
        files: dict = {}
        cut = None
        asked: list = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked.append(self.path)
            content = self.server.files.get(self.path)
            if content is None:
                self.send_error(404)
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: self.server.cut])

        def log_message(self, *_):
            pass

    server = Server(("127.0.0.1", 0), Handler)
    server.files, server.asked = {}, []
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def node(states, vendor, tmp_path):
    """node.installed(version, content): the state with this content offered for this machine's architecture."""

    class Node:
        program = tmp_path / "bin/restic"
        stamp = tmp_path / "lib/restic.json"
        name = install.ARCHITECTURES[install.look(distribution=False).architecture]

        def offer(self, version, content, sha256=None):
            vendor.files[f"/v{version}/restic_{version}_linux_{self.name}.bz2"] = content
            return sha256 or hashlib.sha256(content).hexdigest()

        def fetched(self, version, content, sha256=None):
            """What the state does, without the seconds of Salt's loader."""
            digest = self.offer(version, content, sha256)
            facts = install.look(str(self.program), str(self.stamp), distribution=False)
            made = install.plan("vendor", version, {self.name: digest}, vendor.url, facts)
            install.carry_out(made, str(self.program), str(self.stamp))

        def installed(self, version, content, test=False, sha256=None, source="vendor"):
            digest = self.offer(version, content, sha256)
            with states(test=test) as loaded:
                return loaded["backup.restic_installed"](
                    "restic",
                    source=source,
                    version=version,
                    sha256={self.name: digest},
                    mirror=vendor.url,
                    program=str(self.program),
                    stamp=str(self.stamp),
                )

        def left(self):
            folder = self.program.parent
            return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    return Node()


def fake(version):
    """A program that calls itself a restic of this version, packed."""
    return bz2.compress(f"#!/bin/sh\necho restic {version} compiled with go\n".encode())


def test_the_vendors_restic_is_installed_once_and_runs(node, vendor, archive):
    content, version = archive
    foreseen = node.installed(version, content, test=True)
    assert (foreseen["result"], foreseen["changes"]) == (None, {"restic": f"{version} of the vendor"})
    assert not node.left()
    assert not vendor.asked
    made = node.installed(version, content)
    assert (made["result"], made["changes"]) == (True, foreseen["changes"])
    assert node.left() == ["restic"]
    assert node.program.stat().st_mode & 0o7777 == 0o755
    assert ".".join(map(str, restic.version(str(node.program)))) == version
    for test in (True, False):
        assert node.installed(version, content, test=test)["changes"] == {}
    assert len(vendor.asked) == 1


def test_another_release_replaces_it_and_a_damaged_one_is_replaced(node):
    node.fetched("0.30.0", fake("0.30.0"))
    newer = node.installed("0.31.0", fake("0.31.0"))
    assert newer["changes"] == {"restic": "0.31.0 of the vendor"}
    assert b"0.31.0" in node.program.read_bytes()
    assert node.left() == ["restic"]
    node.program.write_bytes(b"bytes of a worn card")
    node.fetched("0.31.0", fake("0.31.0"))
    assert restic.version(str(node.program)) == (0, 31, 0)


def test_a_restic_that_somebody_else_installed_is_kept_as_a_copy(node):
    node.program.parent.mkdir()
    node.program.write_text("#!/bin/sh\necho restic 0.16.0 of mine\n")
    foreseen = node.installed("0.30.0", fake("0.30.0"), test=True)
    made = node.installed("0.30.0", fake("0.30.0"))
    assert made["changes"] == foreseen["changes"]
    assert node.left() == ["restic", "restic.before-rpiomega"]
    assert "of mine" in (node.program.parent / "restic.before-rpiomega").read_text()


def test_the_state_fails_in_one_line_and_reports_no_change(node):
    answer = node.installed("0.31.0", fake("0.31.0"), sha256="0" * 64)
    assert (answer["result"], answer["changes"]) == (False, {})
    assert "has the SHA-256 " in answer["comment"]
    assert "\n" not in answer["comment"]


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("checksum", "has the SHA-256 "),
        ("cut", " ended after 40 of "),
        ("absent", "cannot be fetched (HTTP Error 404"),
        ("refused", "cannot be fetched (<urlopen error [Errno 111] Connection refused>); check DNS, clock and proxy"),
        ("plain", "is no .bz2 file"),
        ("version", "does not run here as restic 0.31.0: restic 0.30.0"),
        ("architecture", "does not run here as restic 0.31.0: [Errno 8] Exec format error"),
    ],
)
def test_a_download_that_is_not_right_leaves_what_was_there(node, vendor, case, said, before):
    if before:
        node.fetched("0.30.0", fake("0.30.0"))
    was = node.program.read_bytes() if before else None
    content, digest = fake("0.31.0"), None
    if case == "checksum":
        digest = "0" * 64
    elif case == "cut":
        vendor.cut = 40
    elif case == "plain":
        content = b"<html>log in to this network</html>"
    elif case == "version":
        content = fake("0.30.0")
    elif case == "architecture":
        content = bz2.compress(b"\x7fELF of another machine")
    elif case == "absent":
        vendor.files = Forgetful()
    elif case == "refused":
        vendor.shutdown()  # else the kernel takes one more connection, for the thread that waits for it
        vendor.server_close()
    with pytest.raises(install.InstallError) as caught:
        node.fetched("0.31.0", content, sha256=digest)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)
    assert node.left() == (["restic"] if before else [])
    if before:
        assert node.program.read_bytes() == was
        assert subprocess.run([node.program, "version"], capture_output=True, text=True).stdout.startswith(
            "restic 0.30"
        )


class Forgetful(dict):
    """Files of a server that has none of them."""

    def get(self, _key, default=None):
        return default


def test_on_this_machine_the_distributions_restic_is_judged_by_its_version(node):
    """bookworm has 0.14, trixie 0.18: whichever runs here, the decision is that of its real package lists."""
    facts = install.look(str(node.program), str(node.stamp))
    new = max(install.numbers(facts.packaged), install.numbers(facts.offered)) >= restic.OLDEST
    answer = node.installed("0.30.0", fake("0.30.0"), test=True, source="distribution")
    if new:
        assert answer["result"] in (None, True)
    else:
        assert answer["result"] is False
        assert "and 0.17.0 or newer is needed; write `backup: {restic: {source: vendor}}`" in answer["comment"]
