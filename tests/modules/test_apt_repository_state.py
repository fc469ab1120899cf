"""`apt_repository.present`: a key is trusted for its fingerprint, wherever it came from."""

import functools
import hashlib
import http.server
import inspect
import pathlib
import shutil
import socket
import subprocess
import threading

import pytest

from omega.core import apt_sources, openpgp

KEY = pathlib.Path(__file__).parents[1] / "unit/data/signing-key.asc"
FINGERPRINT = "8C0A2905CB4B81EFD65769070A5492EAC361C6AB"


@pytest.fixture
def server(tmp_path):
    """A web server that offers the key, and a captive portal's page."""
    folder = tmp_path / "www"
    folder.mkdir()
    (folder / "key.asc").write_bytes(KEY.read_bytes())
    (folder / "portal").write_text("<html>Log in to the Wi-Fi</html>")
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as httpd:
        threading.Thread(target=httpd.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{httpd.server_port}"
        httpd.shutdown()


@pytest.fixture
def present(states, tmp_path, monkeypatch):
    # The state's own paths, under a root of the test.
    monkeypatch.setattr(apt_sources, "PARTS", str(tmp_path / "sources"))
    monkeypatch.setattr(apt_sources, "MAIN", str(tmp_path / "sources.list"))

    def call(function, *arguments, test=False, refresh=False, **more):
        with states(test=test) as loaded:
            inspect.unwrap(loaded[function]).__globals__["KEYRINGS"] = str(tmp_path / "keyrings")
            return loaded[function](*arguments, refresh=refresh, **more)

    def present(key_url, fingerprint=FINGERPRINT, test=False):
        source = ("vendor", "https://example.org/debian", "trixie", ["stable"], key_url, fingerprint)
        return call("apt_repository.present", *source, test=test)

    present.call = call
    present.absent = lambda name: call("apt_repository.absent", name)
    return present


def test_the_source_names_its_one_key(present, server, tmp_path):
    assert present(f"{server}/key.asc")["result"] is True
    source = (tmp_path / "sources/vendor.sources").read_text()
    assert f"Signed-By: {tmp_path}/keyrings/vendor.asc" in source
    key = (tmp_path / "keyrings/vendor.asc").read_bytes()
    assert openpgp.primary_fingerprints(key) == [FINGERPRINT]
    assert present(f"{server}/key.asc")["changes"] == {}


def test_another_key_is_not_trusted_and_nothing_is_written(present, server, tmp_path):
    answer = present(f"{server}/key.asc", fingerprint="0" * 40)
    assert answer["result"] is False
    assert FINGERPRINT in answer["comment"]
    assert not (tmp_path / "keyrings").exists()
    assert not (tmp_path / "sources").exists()


def test_a_captive_portal_is_suspected(present, server):
    answer = present(f"{server}/portal")
    assert answer["result"] is False
    assert "captive portal" in answer["comment"]


def test_a_binary_key_is_written_as_the_armored_one_is(present, server, tmp_path):
    (tmp_path / "www/key.gpg").write_bytes(openpgp.pinned(KEY.read_bytes(), FINGERPRINT))
    assert present(f"{server}/key.gpg")["result"] is True
    text = (tmp_path / "keyrings/vendor.asc").read_text()
    assert present(f"{server}/key.asc")["changes"] == {}
    assert (tmp_path / "keyrings/vendor.asc").read_text() == text


# A well-formed key of version 6 (RFC 9580): gpgv passes it over, sqv trusts it.
SMUGGLED = bytes([0xC6, 42, 6]) + bytes(4) + bytes([27, 0, 0, 0, 32]) + bytes(32)


def test_a_key_of_another_version_beside_the_pinned_one_is_refused(present, server, tmp_path):
    key = openpgp.pinned(KEY.read_bytes(), FINGERPRINT) + SMUGGLED
    (tmp_path / "www/two.asc").write_text(openpgp.armored(key))
    answer = present(f"{server}/two.asc")
    assert (answer["result"], answer["changes"]) == (False, {})
    assert "key of version 6" in answer["comment"]
    assert not (tmp_path / "keyrings").exists()
    present(f"{server}/key.asc")
    (tmp_path / "keyrings/vendor.asc").write_text(openpgp.armored(key))
    assert list(present(f"{server}/key.asc")["changes"]) == [f"{tmp_path}/keyrings/vendor.asc"]
    assert openpgp.primary_fingerprints((tmp_path / "keyrings/vendor.asc").read_bytes()) == [FINGERPRINT]


def test_the_vendors_own_text_of_the_pinned_key_needs_no_network(present, server, tmp_path):
    assert present(f"{server}/key.asc")["result"] is True
    (tmp_path / "keyrings/vendor.asc").write_bytes(KEY.read_bytes())
    assert present("http://127.0.0.1:9/key.asc")["result"] is True
    assert present("http://127.0.0.1:9/key.asc")["changes"] == {}


def test_an_unreachable_key_names_its_address(present):
    answer = present("http://127.0.0.1:9/key.asc")
    assert answer["result"] is False
    assert "http://127.0.0.1:9/key.asc" in answer["comment"]


def test_an_answer_that_is_no_http_is_named(present):
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer():
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                connection.sendall(b"SSH-2.0-OpenSSH_9.9\r\n")

        threading.Thread(target=answer, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/key.asc"
        answer = present(url)
    assert answer["result"] is False
    assert f"the signing key cannot be fetched from {url} (SSH-2.0-OpenSSH_9.9" in answer["comment"]


@pytest.mark.parametrize("other", [b"something else", b"\x99\xff\x00 is binary"])
def test_a_key_somebody_exchanged_is_put_right(present, server, tmp_path, other):
    present(f"{server}/key.asc")
    (tmp_path / "keyrings/vendor.asc").write_bytes(other)
    assert list(present(f"{server}/key.asc")["changes"]) == [f"{tmp_path}/keyrings/vendor.asc"]


def test_a_repository_that_is_no_longer_wanted_leaves_nothing(present, server, tmp_path):
    present(f"{server}/key.asc")
    answer = present.absent("vendor")
    assert sorted(answer["changes"]) == [f"{tmp_path}/keyrings/vendor.asc", f"{tmp_path}/sources/vendor.sources"]
    assert not list(tmp_path.glob("*/vendor.*"))
    assert present.absent("vendor")["changes"] == {}


def test_test_mode_fetches_and_writes_nothing(present, tmp_path):
    answer = present("http://127.0.0.1:9/key.asc", test=True)
    assert answer["result"] is None
    assert not (tmp_path / "keyrings").exists()


@pytest.fixture
def apt(present, server, tmp_path, short_folder, monkeypatch):
    """An apt of its own, and a signed repository with the one suite `trixie`; apt(uri, suite) has it as source."""
    config = {
        "Dir": tmp_path / "apt",
        "Dir::State::status": "/var/lib/dpkg/status",
        "Dir::Etc::sourcelist": tmp_path / "sources.list",
        "Dir::Etc::sourceparts": tmp_path / "sources",
        "APT::Sandbox::User": "root",
        "Acquire::Retries": "0",
    }
    (tmp_path / "apt.conf").write_text("".join(f'{key} "{value}";\n' for key, value in config.items()))
    for folder in ("apt/var/lib/apt/lists/partial", "apt/var/cache/apt/archives/partial", "apt/etc/apt", "sources"):
        (tmp_path / folder).mkdir(parents=True)
    monkeypatch.setenv("APT_CONFIG", str(tmp_path / "apt.conf"))
    fingerprint = sign(tmp_path, short_folder)

    def source(uri, suite, name="vendor", **more):
        arguments = (name, uri, suite, ["stable"], f"{server}/own.asc", fingerprint)
        return present.call("apt_repository.present", *arguments, refresh=True, **more)

    return source


def update():
    """What apt prints if it refuses any source, else an empty text."""
    command = ["apt-get", "-o", "APT::Update::Error-Mode=any", "update"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stderr if done.returncode else ""


@pytest.mark.parametrize("name", ["docker.list", "docker.sources", "vendor.sources", "../sources.list"])
def test_a_second_entry_with_another_key_is_retired_with_a_copy_and_apt_works(apt, server, tmp_path, name):
    entry = f"deb [arch=amd64 signed-by=/usr/share/keyrings/docker.gpg] {server}/ trixie stable\n"
    if name.endswith(".sources"):
        entry = f"Types: deb\nURIs: {server}/\nSuites: trixie\nComponents: stable\nSigned-By: /k.gpg\n"
    path = tmp_path / "sources" / name
    path.write_text(entry)
    (tmp_path / "sources/former.list").write_text("deb https://apt.docker.example/repo debian-trixie main\n")
    answer = apt(server, "trixie", also=["apt.docker.example"])
    assert answer["result"] is True, answer
    assert update() == ""
    assert f"a copy of the file is {path.resolve()}.before-rpiomega.save" in answer["comment"]
    assert path.with_name(f"{path.name}.before-rpiomega.save").read_text() == entry
    assert not (tmp_path / "sources/former.list").exists()
    assert apt(server, "trixie", also=["apt.docker.example"])["changes"] == {}


def test_a_login_in_an_address_is_in_no_return_and_its_file_stays_unreadable_to_others(apt, server, tmp_path):
    login = server.replace("//", "//me:hunter2-not-shown@")
    path = tmp_path / "sources/docker.list"
    path.write_text(f"deb [signed-by=/k.gpg] {login} trixie stable\ndeb file:{tmp_path}/www trixie stable\n")
    path.chmod(0o600)
    answer = apt(server, "trixie")
    assert answer["result"] is True, answer
    assert "//me:[hidden]@" in answer["comment"]
    assert "hunter2" not in str(answer)
    copy = path.with_name("docker.list.before-rpiomega.save")
    assert [oct(file.stat().st_mode & 0o777) for file in (path, copy)] == ["0o600", "0o600"]
    # So are the files that come back.
    refused = apt(login, "forky")
    assert (refused["result"], path.stat().st_mode & 0o777) == (False, 0o600)
    assert "hunter2" not in refused["comment"]


def test_a_list_that_is_a_link_stays_one(apt, server, tmp_path):
    path, elsewhere = tmp_path / "sources/docker.list", tmp_path / "dotfiles.list"
    elsewhere.write_text(f"# mine\ndeb [signed-by=/k.gpg] {server} trixie stable\ndeb file:{tmp_path}/www trixie x\n")
    path.symlink_to(elsewhere)
    assert "is retired" in apt(server, "trixie")["comment"]
    assert path.is_symlink()
    assert server not in elsewhere.read_text()


def everything(tmp_path):
    folders = (tmp_path / "sources", tmp_path / "keyrings")
    return {path: path.read_text() for folder in folders if folder.exists() for path in folder.iterdir()}


@pytest.mark.parametrize("other", ["no entry of its own", "an earlier one of ours"])
def test_everything_comes_back_if_apt_refuses_the_new_entry(apt, server, tmp_path, other):
    if other == "an earlier one of ours":
        assert apt(server, "trixie")["result"] is True
    own = tmp_path / "beside.asc"
    own.write_text((tmp_path / "www/own.asc").read_text())
    (tmp_path / "sources/docker.list").write_text(f"deb [signed-by={own}] {server}/mirror trixie stable\n")
    shutil.copytree(tmp_path / "www/dists", tmp_path / "www/mirror/dists")
    before = everything(tmp_path)
    assert update() == ""
    answer = apt(f"{server}/mirror", "forky")
    assert (answer["result"], answer["changes"]) == (False, {}), answer
    assert f"{server}/mirror has no suite forky; check" in answer["comment"]
    assert answer["comment"].endswith("the former files are back")
    assert everything(tmp_path) == before
    assert update() == ""


def test_a_list_of_sources_that_another_made_unreadable_is_named_and_nothing_is_left_there(apt, server, tmp_path):
    (tmp_path / "sources/other.list").write_text("nonsense\n")
    answer = apt(server, "trixie")
    assert (answer["result"], answer["changes"]) == (False, {}), answer
    assert f"apt cannot read {tmp_path}/sources/other.list; correct that file" in answer["comment"]
    assert [path.name for path in everything(tmp_path)] == ["other.list"]


def test_test_mode_names_what_would_be_retired(apt, present, server, tmp_path):
    (tmp_path / "sources/docker.list").write_text(f"deb {server} trixie stable\n")
    before = everything(tmp_path)
    arguments = ("vendor", server, "trixie", ["stable"], f"{server}/own.asc", FINGERPRINT)
    answer = present.call("apt_repository.present", *arguments, test=True)
    assert answer["result"] is None
    assert f"{tmp_path}/sources/docker.list" in answer["changes"]
    assert "is retired" in answer["comment"]
    assert everything(tmp_path) == before


def sign(folder, home):
    """Sign an empty suite with a key made for it, offer both, and return the key's fingerprint."""

    def gpg(*arguments):
        command = ["gpg", "--homedir", home, "--batch", "--quiet", "--passphrase", "", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    suite = folder / "www/dists/trixie"
    architecture = subprocess.run(["dpkg", "--print-architecture"], check=True, capture_output=True, text=True).stdout
    packages = f"stable/binary-{architecture.strip()}/Packages"
    (suite / packages).parent.mkdir(parents=True)
    (suite / packages).touch()
    gpg("--quick-generate-key", "repository@example.org", "ed25519", "sign", "never")
    (folder / "www/own.asc").write_text(gpg("--armor", "--export"))
    listed = f"SHA256:\n {hashlib.sha256().hexdigest()} 0 {packages}\n"
    (folder / "release").write_text(
        f"Suite: trixie\nComponents: stable\nArchitectures: {architecture}Date: Sat, 01 Jan 2022 00:00:00 UTC\n{listed}"
    )
    gpg("--clearsign", "--output", str(suite / "InRelease"), str(folder / "release"))
    subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True)
    return next(line for line in gpg("--with-colons", "--list-keys").splitlines() if line[:3] == "fpr").split(":")[9]


def test_a_repository_that_apt_refuses_is_taken_back_and_named(apt, server, tmp_path):
    answer = apt(server, "no-such-suite")
    assert (answer["result"], answer["changes"]) == (False, {}), answer
    assert f"apt refuses {server} no-such-suite" in answer["comment"]
    assert f"{server} has no suite no-such-suite; check the address and the suite" in answer["comment"]
    assert "\n" not in answer["comment"]
    assert list((tmp_path / "sources").iterdir()) == []
    subprocess.run(["apt-get", "update"], check=True, capture_output=True)


def test_a_former_source_comes_back_with_its_lists(apt, server, tmp_path):
    assert apt(server, "trixie")["result"] is True
    before = (tmp_path / "sources/vendor.sources").read_text()
    lists = tmp_path / "apt/var/lib/apt/lists"
    have = [path.name for path in lists.glob("*InRelease")]
    assert have
    for uri, suite in ((server, "no-such-suite"), ("http://127.0.0.1:9", "trixie")):
        answer = apt(uri, suite)
        assert (answer["result"], answer["changes"]) == (False, {}), answer
        assert f"apt refuses {uri} {suite}" in answer["comment"]
        assert (tmp_path / "sources/vendor.sources").read_text() == before
        assert [path.name for path in lists.glob("*InRelease")] == have


def test_a_key_with_which_apt_refuses_the_source_is_taken_back_as_well(apt, present, server, tmp_path):
    assert apt(server, "trixie")["result"] is True
    key = tmp_path / "keyrings/vendor.asc"
    before = key.read_text()
    arguments = ("vendor", server, "trixie", ["stable"], f"{server}/key.asc", FINGERPRINT)
    for _ in range(2):
        answer = present.call("apt_repository.present", *arguments, refresh=True)
        assert (answer["result"], answer["changes"]) == (False, {}), answer
        assert f"apt refuses {server} trixie" in answer["comment"]
        assert key.read_text() == before


def test_a_source_is_not_blamed_for_another(apt, server, tmp_path):
    (tmp_path / "sources/other.list").write_text("deb file:/no/such/repository trixie main\n")
    answer = apt(server, "trixie")
    assert answer["result"] is True, answer
    assert "apt refuses another source: file:/no/such/repository has no suite trixie" in answer["comment"]
    assert list(answer["changes"])
