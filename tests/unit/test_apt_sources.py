"""One entry for the packages of a vendor, whatever other entries the system has: judged by a real apt."""

import pathlib
import subprocess

import apt_box
import pytest

from omega.core import apt_sources
from omega.core import apt_sources as sources

OURS = "/etc/apt/sources.list.d/docker.sources"
KEY = "/etc/apt/keyrings/docker.asc"
URI = "https://download.docker.com/linux/debian"
STANZA = f"Types: deb\nURIs: {URI}\nSuites: trixie\nComponents: stable\nSigned-By: {KEY}\n"
PARTS = "/etc/apt/sources.list.d"
THEIRS = "/usr/share/keyrings/docker-archive-keyring.gpg"
DEBIAN = "deb http://deb.debian.org/debian trixie main\n"


@pytest.fixture
def box(tmp_path):
    """A real apt, into which box.put writes files and box.change a Change."""
    made = apt_box.Box(tmp_path)

    def put(files):
        for path, text in files.items():
            if text is None:
                (tmp_path / path[1:]).unlink()
            else:
                (tmp_path / path[1:]).write_bytes(text.encode("utf-8", "surrogateescape"))

    made.put = put
    made.exists = lambda path: (tmp_path / path[1:]).exists()
    made.replace = lambda stanza=STANZA, also=(): sources.replace(
        sources.read(str(tmp_path)), OURS, stanza, [URI], KEY, also, made.exists
    )
    return made


def docker_targets(box):
    return [uri for uri in box.targets() if "docker" in uri]


def test_both_sides_have_one_reader():
    assert pathlib.Path(apt_sources.__file__).resolve() == pathlib.Path(sources.__file__).resolve()


# Each is an entry of public guides or a variant of one; apt refuses those of the first group beside ours.
CONFLICTING = {
    "get.docker.com": ("docker.list", f"deb [arch=amd64 signed-by={THEIRS}] {URI} trixie stable\n"),
    "another scheme": ("docker.list", f"deb [signed-by={THEIRS}] {URI.replace('https', 'http')} trixie stable\n"),
    "a login": (
        "docker.list",
        f"deb [signed-by={THEIRS}] https://me:pw@download.docker.com/linux/debian trixie stable\n",
    ),
    "blanks": ("docker.list", f"\t deb   [ arch=amd64  signed-by={THEIRS} ]   {URI}/   trixie   stable # mine\n"),
    "quotes": ("docker.list", f'deb [signed-by={THEIRS}] "{URI}" trixie stable\n'),
    "sources": ("deb-src.list", f"deb-src [signed-by={THEIRS}] {URI} trixie stable test\n"),
    "among others": ("extra.list", f"{DEBIAN}deb [signed-by={THEIRS}] {URI} trixie stable\n"),
    "main file": ("../sources.list", f"# mine\n{DEBIAN}deb [signed-by={THEIRS}] {URI} trixie stable\n"),
    "deb822": ("a.sources", f"Types: deb\nURIs: {URI}/\nSuites: trixie\nComponents: stable\nSigned-By: {THEIRS}\n"),
    "deb822, odd": (
        "a.sources",
        f"# Docker\n\nTYPES: deb deb-src\nuris:\n http://deb.debian.org/debian\n# why\n {URI}\nSuites: trixie\n"
        f" bookworm\nComponents: stable\nsigned-by: {THEIRS}\nEnabled: yes\n",
    ),
    "deb822, several": (
        "a.sources",
        f"Types: deb\nURIs: http://deb.debian.org/debian\nSuites: trixie\nComponents: main\n\n"
        f"Types: deb\nURIs: {URI}\nSuites: trixie\nComponents: stable\nSigned-By: {THEIRS}\n\n\n"
        f"Types: deb\nURIs: http://deb.debian.org/debian-security\nSuites: trixie-security\nComponents: main\n",
    ),
    "own name": (
        "docker.sources",
        f"Types: deb\nURIs: {URI}\nSuites: trixie\nComponents: stable\nSigned-By: {THEIRS}\n",
    ),
}
BESIDE = {
    "apt-key": ("docker.list", f"deb {URI} trixie stable\n"),
    "another suite": ("docker.list", f"deb [signed-by={THEIRS}] {URI} bookworm stable\n"),
    "a port": ("docker.list", f"deb [signed-by={THEIRS}] {URI.replace('.com', '.com:443')} trixie stable\n"),
    "another case": (
        "docker.list",
        f"deb [signed-by={THEIRS}] https://Download.Docker.com/linux/debian trixie stable\n",
    ),
    "two slashes": (
        "docker.list",
        f"deb [signed-by={THEIRS}] https://download.docker.com//linux/debian// trixie stable\n",
    ),
}


@pytest.mark.parametrize("name", [*CONFLICTING, *BESIDE])
def test_any_other_entry_is_retired_with_a_copy_and_apt_reads_the_rest(box, name):
    file, text = {**CONFLICTING, **BESIDE}[name]
    box.put({f"{PARTS}/{file}": text})
    others = [uri for uri in box.targets() if "docker" not in uri.lower()]
    if file != "docker.sources":
        box.put({OURS: STANZA})
        refused = box.get("indextargets").returncode
        assert bool(refused) == (name in CONFLICTING)
        box.put({OURS: None})
    change = box.replace()
    box.put(change.files)
    assert {uri for uri in box.targets() if "docker" in uri.lower()} == {
        f"{URI}/dists/trixie/stable/{index}" for index in indexes()
    }
    assert [uri for uri in box.targets() if "docker" not in uri.lower()] == others
    copies = list(box.parts.parent.rglob("*.save"))
    assert [path.read_text() for path in copies] == [text]
    assert f"{PARTS}/{file}".replace(f"{PARTS}/../", "/etc/apt/") in change.remarks[0]
    assert "\n" not in change.remarks[0]
    assert "Ignoring file" not in box.get("indextargets").stderr
    assert box.replace().files == {}


def indexes():
    return [f"binary-{apt_box.architecture()}/Packages", "binary-all/Packages", "i18n/Translation-en"]


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("docker.list", f"# deb [signed-by={THEIRS}] {URI} trixie stable\n"),
        ("docker.list.save", f"deb {URI} trixie stable\n"),
        ("docker list.list", f"deb {URI} trixie stable\n"),
        ("a.sources", f"Enabled: no\nTypes: deb\nURIs: {URI}\nSuites: trixie\nComponents: stable\n"),
        ("a.sources", f"#Types: deb\n#URIs: {URI}\n#Suites: trixie\n#Components: stable\n"),
        ("other.list", "deb https://download.docker.com/linux/debian-other trixie stable\n"),
        ("other.list", "deb https://download.docker.com:8443/linux/debian trixie stable\n"),
        ("other.list", "deb https://mirror.example/download.docker.com/linux/debian trixie stable\n"),
    ],
)
def test_what_apt_does_not_read_and_what_only_looks_alike_stays(box, file, text):
    box.put({f"{PARTS}/{file}": text})
    change = box.replace()
    assert list(change.files) == [OURS]
    assert change.remarks == []
    box.put(change.files)
    assert box.get("indextargets").returncode == 0


def test_a_vendors_former_addresses_are_retired_as_well(box):
    old = "deb [signed-by=/k] https://repo.saltproject.io/salt/py3/debian/12/arm64/latest bookworm main\n"
    box.put({f"{PARTS}/salt.list": old, f"{PARTS}/near.list": old.replace("repo.", "my-repo.")})
    change = box.replace(also=["repo.saltproject.io"])
    assert set(change.files) == {f"{PARTS}/salt.list", f"{PARTS}/salt.list.before-rpiomega.save", OURS}


def test_an_earlier_copy_is_never_overwritten(box):
    text = BESIDE["apt-key"][1]
    for number in range(3):
        box.put({f"{PARTS}/docker.list": f"# {number}\n{text}"})
        box.put(box.replace().files)
    assert sorted(path.read_text()[:3] for path in box.parts.glob("*.save")) == ["# 0", "# 1", "# 2"]


def test_what_the_owner_has_added_to_our_file_stays(box):
    box.put({OURS: STANZA})
    more = "Types: deb\nURIs: http://deb.debian.org/debian\nSuites: trixie\nComponents: main\n"
    box.put({OURS: f"{STANZA}\n{more}"})
    box.put(box.replace(STANZA.replace("trixie", "forky")).files)
    assert {uri.split("/dists/")[1].split("/")[0] for uri in docker_targets(box)} == {"forky"}
    assert [uri for uri in box.targets() if "debian.org" in uri]
    assert not list(box.parts.glob("*.save"))
    box.put(box.replace(None).files)
    assert docker_targets(box) == []
    assert [uri for uri in box.targets() if "debian.org" in uri]


def test_our_own_entry_moves_without_a_copy_unless_the_owner_has_changed_it(box):
    box.put({OURS: STANZA.replace("download.docker.com", "old.mirror")})
    change = box.replace()
    assert change.files == {OURS: STANZA}
    box.put({OURS: STANZA.replace("Components: stable", "Components: stable test")})
    assert sorted(box.replace().files) == [OURS, f"{OURS}.before-rpiomega.save"]


def test_removal_leaves_the_entries_of_others(box):
    for name in ("get.docker.com", "deb822"):
        file, text = CONFLICTING[name]
        box.put({f"{PARTS}/{file}": text})
    box.put({OURS: STANZA})
    assert box.replace(None).files == {OURS: None}


def test_bytes_that_are_no_text_survive(box):
    box.put({f"{PARTS}/extra.list": f"# caf\udce9\n{DEBIAN}deb {URI} trixie stable\n"})
    box.put(box.replace().files)
    assert (box.parts / "extra.list").read_bytes() == b"# caf\xe9\n" + DEBIAN.encode()


@pytest.mark.parametrize("uri", ["http://[::1", "cdrom:[Debian 13]/", "file:/srv/x", "", "mirror+file:/m.list", "a b"])
def test_odd_addresses_are_compared_and_never_fail(uri):
    assert sources.same(uri, uri)
    assert not sources.same(uri, URI)


def test_this_systems_own_entries_are_read_as_apt_reads_them():
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(SITE) $(RELEASE)"], check=True, capture_output=True, text=True
    ).stdout.splitlines()
    found = [
        (sources.normal(uri), suite)
        for path, text in sources.read().items()
        for entry in sources.entries(path, text)
        if entry.enabled
        for uri in entry.uris
        for suite in entry.suites
    ]
    assert {(sources.normal(line.split()[0]), line.split()[1]) for line in listed} <= set(found)
