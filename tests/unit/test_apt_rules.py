"""Each error of apt and dpkg has a cause and a next step: as this system's programs print it, and as apt 3 does."""

import http.server
import re
import subprocess
import tempfile
import threading

import apt_box
import pytest

from omega.core import apt_rules as rules

PAST = 1_600_000_000


@pytest.fixture(scope="module")
def gpg():
    with tempfile.TemporaryDirectory() as home:
        made = apt_box.Gpg(home)
        made.good, made.other = made.make("good"), made.make("other")
        made.expired, made.revoked = made.make("expired", past=PAST), made.make("revoked")
        yield made
        made.close()


@pytest.fixture
def box(tmp_path, gpg):
    """A real apt; box.source(signer, key, ...) gives it the repository `file:.../www`."""
    made = apt_box.Box(tmp_path / "board")
    made.www = tmp_path / "www"

    def source(signer, key=None, suite="trixie", **fields):
        apt_box.publish(made.www, gpg, signer, suite, **fields)
        keyring = made.apt / "keyrings/vendor.gpg"
        keyring.write_bytes(gpg.export(key or signer))
        (made.parts / "vendor.list").write_text(f"deb [signed-by={keyring}] file:{made.www} {suite} stable\n")

    made.source = source
    return made


def explained(output):
    cause, cure = rules.explain(output)
    assert "\n" not in cause + cure
    assert "{" not in cause + cure
    assert cure
    return cause


def test_a_key_that_has_expired(box, gpg):
    box.source(gpg.expired)
    assert box.update() == ""
    gpg("--faked-system-time", str(PAST + 60), "--quick-set-expire", gpg.expired, "1d")
    (box.apt / "keyrings/vendor.gpg").write_bytes(gpg.export(gpg.expired))
    assert explained(box.update()) == f"the signing key of file:{box.www} has expired"
    assert "/etc/apt/keyrings" in rules.explain(box.update())[1]


def test_a_key_that_was_revoked(box, gpg):
    box.source(gpg.revoked)
    with open(f"{gpg.home}/openpgp-revocs.d/{gpg.revoked}.rev", encoding="ascii") as file:
        gpg("--import", data=file.read().replace(":-----BEGIN", "-----BEGIN").encode())
    (box.apt / "keyrings/vendor.gpg").write_bytes(gpg.export(gpg.revoked))
    assert explained(box.update()) == f"the signing key of file:{box.www} was revoked"


def test_another_key_than_the_one_trusted(box, gpg):
    box.source(gpg.other, gpg.good)
    # gpgv names a key by its last 16 digits, sqv by all.
    said = re.fullmatch(
        rf"file:{box.www} is signed by key (\w+), which its entry does not trust", explained(box.update())
    )
    assert said and gpg.other.endswith(said[1]) and len(said[1]) >= 16


def test_a_file_that_was_changed_on_its_way(box, gpg):
    box.source(gpg.good)
    path = box.www / "dists/trixie/InRelease"
    path.write_text(path.read_text().replace("Components: stable", "Components: stabl3"))
    assert explained(box.update()).startswith(f"the signature of file:{box.www} does not fit")


@pytest.mark.parametrize("field", ["Suite", "Codename", "Origin", "Label", "Version"])
def test_a_release_that_calls_itself_something_else(box, gpg, field):
    box.source(gpg.good, **{field: "one"})
    assert box.update() == ""
    box.source(gpg.good, **{field: "two"})
    # Newer releases of apt accept another Suite and Version by default.
    output = box.get("-o", f"Acquire::AllowReleaseInfoChange::{field}=false", "update").stderr
    assert explained(output) == f"file:{box.www} has changed its {field} from 'one' to 'two'"
    assert "apt-get update --allow-releaseinfo-change`" in rules.explain(output)[1]
    assert box.get("update", "--allow-releaseinfo-change").returncode == 0


def test_a_clock_that_is_behind_and_a_mirror_that_is(box, gpg):
    box.source(gpg.good, Date="Sat, 01 Jan 2044 00:00:00 UTC")
    assert "is from the future" in explained(box.update())
    box.source(gpg.good, suite="bookworm", Valid_Until="Sat, 01 Jan 2023 00:00:00 UTC")
    assert "is out of date" in explained(box.update())


def test_a_suite_that_does_not_exist_and_a_host_that_does_not_answer(box, gpg):
    box.source(gpg.good)
    text = (box.parts / "vendor.list").read_text()
    (box.parts / "vendor.list").write_text(text.replace("trixie", "forky"))
    assert explained(box.update()) == f"file:{box.www} has no suite forky"
    (box.parts / "vendor.list").write_text("deb http://127.0.0.1:9/debian trixie main\n")
    assert explained(box.update()).startswith(
        "the package source http://127.0.0.1:9/debian/dists/trixie/InRelease does not"
    )


def test_a_repository_that_is_configured_twice(box, gpg):
    box.source(gpg.good)
    (box.parts / "twice.list").write_text(f"deb [signed-by=/k] file:{box.www} trixie stable\n")
    assert explained(box.update()).startswith(f"file:{box.www}/ trixie is configured twice, with Signed-By /k and ")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.list", "nonsense\n"),
        ("a.list", "rpm http://x y\n"),
        ("a.list", "deb http://x\n"),
        ("a.sources", "Types: deb\nURIs: http://x\n"),
        ("a.sources", "nonsense\n"),
    ],
)
def test_a_file_apt_cannot_read(box, name, text):
    (box.parts / name).write_text(text)
    assert explained(box.update()) == f"apt cannot read {box.parts}/{name}"


def test_a_package_nobody_has(box):
    done = box.get("install", "no-such-package")
    assert explained(done.stdout + done.stderr) == "no package source has no-such-package"


STANZA = "Package: keeper\nStatus: {}\nVersion: 1\nArchitecture: all\nMaintainer: t\nDescription: none\n\n"
DAMAGED = ["garbage\n\x00", "Version: 1\nStatus: install ok installed\n\n"]


@pytest.mark.parametrize("text", DAMAGED)
@pytest.mark.parametrize("program", ["apt-get", "dpkg"])
def test_a_damaged_status_of_dpkg_is_never_to_be_removed(box, dpkg, text, program, tmp_path):
    if program == "dpkg":
        path = tmp_path / "admin/status"
        path.write_text(text)
        done = dpkg("--configure", "-a")
    else:
        path = box.root / "var/lib/dpkg/status"
        path.parent.mkdir(parents=True)
        path.write_text(text)
        done = box.get("-o", f"Dir::State::status={path}", "--simulate", "install", "keeper")
    assert explained(done.stdout + done.stderr) == f"{path} is damaged, as after a power cut or by a worn card"
    cure = rules.explain(done.stdout + done.stderr)[1]
    assert "/var/backups/dpkg.status.0" in cure
    assert "*.disabled" not in cure


@pytest.mark.parametrize("text", DAMAGED)
def test_a_damaged_package_list_is_fetched_again(box, gpg, text):
    box.source(gpg.good)
    assert box.update() == ""
    (release,) = (box.root / "var/lib/apt/lists").glob("*InRelease")
    index = f"stable_binary-{apt_box.architecture()}_Packages"
    path = release.with_name(release.name.replace("InRelease", index))
    path.write_text(text)
    done = box.get("--simulate", "install", "keeper")
    assert explained(done.stdout + done.stderr) == f"the package list {path} is damaged"
    assert "sudo apt-get update" in rules.explain(done.stdout + done.stderr)[1]


def test_a_package_that_is_half_installed(box):
    path = box.root / "var/lib/dpkg/status"
    path.parent.mkdir(parents=True)
    path.write_text(STANZA.format("install reinstreq half-installed"))
    done = box.get("-o", f"Dir::State::status={path}", "--simulate", "install")
    assert explained(done.stdout + done.stderr) == "keeper is half-installed, and no package source has it"
    assert "dpkg --remove --force-remove-reinstreq keeper`" in rules.explain(done.stdout + done.stderr)[1]


def test_a_pin_and_a_configuration_that_apt_cannot_read(box):
    (box.apt / "preferences.d/own").write_text("Pin: version 1\nPin-Priority: 1\n\n")
    done = box.get("--simulate", "install", "keeper")
    assert explained(done.stderr) == f"apt cannot read {box.apt}/preferences.d/own"
    (box.apt / "preferences.d/own").unlink()
    with box.config.open("a") as file:
        file.write("{};\n")
    assert explained(box.get("--simulate", "install", "keeper").stderr) == f"apt cannot read {box.config}"


def test_a_repository_with_two_degrees_of_trust(box):
    (box.parts / "a.list").write_text("deb [trusted=yes] http://a.example/x trixie main\n")
    (box.parts / "b.list").write_text("deb [trusted=no] http://a.example/x trixie contrib\n")
    assert explained(box.update()) == "http://a.example/x/ trixie is configured twice, with different values of Trusted"


def answering(status, body=b""):
    """Return a web server that gives every request this answer; its attribute `url`."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments):
            pass

    made = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{made.server_port}/x"
    threading.Thread(target=made.serve_forever, daemon=True).start()
    return made


@pytest.mark.parametrize(
    ("status", "body", "said", "step"),
    [
        (401, b"", "the package source {} refuses this node (401 Unauthorized", "apt_auth.conf"),
        (403, b"", "the package source {} refuses this node (403 Forbidden", "sources.apt_proxy"),
        (200, b"<html>Log in</html>", "{}: something else answers than", "captive portal"),
    ],
)
def test_a_source_that_wants_a_login_and_a_portal(box, status, body, said, step):
    with answering(status, body) as server:
        (box.parts / "a.list").write_text(f"deb {server.url} trixie main\n")
        output = box.update()
        assert explained(output).startswith(said.format(f"{server.url}/dists/trixie/InRelease"))
        assert step in rules.explain(output)[1]
        server.shutdown()


# Printed by apt 3.0.3 of trixie, whose verifier is sqv, for repositories as above.
SQV = "Sub-process /usr/bin/sqv returned an error code (1), error message is: "
KEY = "D621DF0A6B17749AA5EFA85F77D705EFF4412FCD"


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (
            f"Signing key on {KEY} is bad:            The primary key is not live   because: Expired on 2020-09-14",
            "the signing key of https://a.example has expired",
        ),
        (
            f'Signing key on {KEY} is bad:            Invalid key: "certificate is revoked"',
            "the signing key of https://a.example was revoked",
        ),
        (
            f"Missing key {KEY}, which is needed to verify signature.",
            f"https://a.example is signed by key {KEY}, which its entry does not trust",
        ),
        (
            "Verifying signature:            Message has been manipulated",
            "the signature of https://a.example does not fit: a proxy has changed the file, or the mirror is being "
            "updated",
        ),
        (
            f"Signing key on {KEY} is bad: Policy rejected",
            f"the signature of https://a.example is not accepted ({SQV}Signing key on {KEY} is bad: Policy rejected)",
        ),
    ],
)
def test_what_apt_3_says(message, cause):
    output = (
        f"Err:1 https://a.example trixie InRelease\n  {SQV}{message}\nReading package lists...\n"
        f"W: OpenPGP signature verification failed: https://a.example trixie InRelease: {SQV}{message}\n"
        "E: The repository 'https://a.example trixie InRelease' is not signed.\n"
    )
    assert explained(output) == cause


# -- dpkg ---------------------------------------------------------------------------------------------------


@pytest.fixture
def dpkg(tmp_path, monkeypatch):
    """A dpkg with a root of its own; dpkg.package(version, text): a package with `text` as its configuration file."""
    for folder in ("root", "admin/info", "admin/updates"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "admin/status").touch()
    monkeypatch.setenv("DPKG_ADMINDIR", str(tmp_path / "admin"))
    monkeypatch.setenv("DPKG_ROOT", str(tmp_path / "root"))

    def package(version, text):
        tree = tmp_path / f"tree-{version}"
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "etc").mkdir()
        (tree / "etc/minion").write_text(text)
        (tree / "DEBIAN/control").write_text(
            f"Package: keeper\nVersion: {version}\nArchitecture: all\nMaintainer: t <t@e.org>\nDescription: none\n"
        )
        (tree / "DEBIAN/conffiles").write_text("/etc/minion\n")
        subprocess.run(["dpkg-deb", "-Znone", "--build", tree, f"{tree}.deb"], check=True, capture_output=True)
        return f"{tree}.deb"

    def run(*arguments, command=("dpkg",)):
        return subprocess.run(
            [*command, *arguments], stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )

    run.package, run.file = package, tmp_path / "root/etc/minion"
    return run


def status(dpkg):
    return dpkg("-W", "-f", "${db:Status-Status} ${Version}", "keeper", command=("dpkg-query",)).stdout


def test_an_edited_configuration_file_stays_and_the_package_is_configured(dpkg):
    assert dpkg("-i", dpkg.package("1", "one\n")).returncode == 0
    dpkg.file.write_text("the owner's\n")
    newer = dpkg.package("2", "two\n")
    asked = dpkg("-i", newer)
    assert explained(asked.stdout + asked.stderr) == "keeper asks which version of its configuration file to use"
    assert status(dpkg) == "unpacked 2"
    done = dpkg("--configure", "-a", command=rules.DPKG)
    assert done.returncode == 0, done.stderr
    assert (status(dpkg), dpkg.file.read_text()) == ("installed 2", "the owner's\n")
    # One that was not touched follows the package.
    dpkg.file.write_text("two\n")
    assert dpkg("-i", dpkg.package("3", "three\n"), command=rules.DPKG).returncode == 0
    assert dpkg.file.read_text() == "three\n"


def test_an_interrupted_dpkg_is_seen(dpkg, tmp_path):
    assert rules.interrupted() is False
    (tmp_path / "admin/updates/tmp.i").touch()
    assert rules.interrupted() is False
    (tmp_path / "admin/updates/0001").touch()
    assert rules.interrupted() is True


def test_a_script_that_fails_is_named(dpkg, tmp_path):
    deb = dpkg.package("1", "one\n")
    script = tmp_path / "tree-1/DEBIAN/postinst"
    script.write_text("#!/bin/sh\nexit 3\n")
    script.chmod(0o755)
    subprocess.run(["dpkg-deb", "-Znone", "--build", tmp_path / "tree-1", deb], check=True, capture_output=True)
    done = dpkg("-i", deb)
    assert explained(done.stdout + done.stderr).startswith("dpkg failed at keeper (--install: ")
