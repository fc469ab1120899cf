"""State docker."""

import ipaddress
import json
import re

import pytest

from omega.core import openpgp

RECORD = "/var/lib/rpiomega/docker.json"
SOURCE, KEY = "/etc/apt/sources.list.d/docker.sources", "/etc/apt/keyrings/docker.asc"
CLOCK = "/etc/systemd/system/docker.service.d/rpiomega-clock.conf"
DROP_IN = "/etc/systemd/system/docker.service.d/rpiomega-data-root.conf"


@pytest.fixture(scope="module")
def settings(host):
    """What is in daemon.json."""
    file = host.file("/etc/docker/daemon.json")
    assert file.exists, f"{file.path} is not there"
    return json.loads(file.content_string)


@pytest.fixture
def written(host):
    """What the last apply put into daemon.json: the site's settings, and the defaults for what nobody decided."""
    file = host.file(RECORD)
    return json.loads(file.content_string).get("ours") or {} if file.exists else {}


def missing(wanted, found, where=""):
    """Return the first of the wanted settings that is not among those found, in words; others may stand beside them.

    What is null in the site file is the owner's, and log options are texts however the site file has them.
    """
    for key, value in wanted.items():
        path, there = f"{where}{key}", found.get(key)
        if where == "log-opts.":
            value = str(value).lower() if isinstance(value, bool) else str(value)
        if value is None:
            continue
        if isinstance(value, dict) and isinstance(there, dict):
            if words := missing(value, there, f"{path}."):
                return words
        elif there != value:
            return f"{path} is {there!r}, not {value!r}"
    return None


def test_the_engine_comes_from_where_the_site_says(host, docker):
    for package in docker["packages"][docker["source"]]:
        assert host.package(package).is_installed, f"{package} is not installed"


def test_the_source_is_the_sites_and_trusted_for_its_key_alone(host, docker):
    source, key = host.file(SOURCE), host.file(KEY)
    if docker["source"] != "vendor":
        assert not source.exists, f"{SOURCE} is there, with docker.source: distribution"
        assert not key.exists, f"{KEY} is there, with docker.source: distribution"
        return
    assert source.exists, f"{SOURCE} is not there"
    lines = dict(line.split(": ", 1) for line in source.content_string.splitlines() if ": " in line)
    uri = docker["repository"]["uri"]
    assert lines.get("URIs") in (f"{uri}/debian", f"{uri}/ubuntu"), f"{SOURCE} leads to {lines.get('URIs')}"
    assert lines.get("Signed-By") == KEY, f"{SOURCE} trusts {lines.get('Signed-By', 'every key of apt')}"
    assert key.exists, f"{KEY} is not there"
    try:
        found = openpgp.primary_fingerprints(key.content)
    except openpgp.KeyFileError as error:
        pytest.fail(f"{KEY} is not the pinned key: {error}")
    wanted = docker["repository"]["fingerprint"].replace(" ", "").upper()
    assert found == [wanted], f"{KEY} has fingerprint {', '.join(found)}"


def test_the_engine_has_the_sites_version_and_is_held_at_it(host, docker):
    wanted, packages = docker["version"], docker["packages"][docker["source"]]
    if docker["source"] != "vendor" or not wanted:
        pytest.skip("the site names no version")
    found = host.package(packages[0]).version
    release = re.match(r"(?:\d+:)?([\d.]*\d)", found)[1]
    assert wanted == found or f"{release}.".startswith(f"{wanted}."), f"{packages[0]} is {found}, not {wanted}"
    held = host.check_output("apt-mark showhold").split()
    loose = [package for package in packages if package not in held]
    assert loose == [], f"not held: {', '.join(loose)}"


def test_docker_runs_at_every_boot(host):
    service = host.service("docker")
    assert service.is_running, "docker is not running"
    assert service.is_enabled, "docker is not enabled"


def test_docker_starts_after_the_clock_is_set(host):
    for key in ("After", "Wants"):
        found = host.check_output(f"systemctl show docker --property={key}").partition("=")[2].split()
        assert "time-sync.target" in found, f"its unit has no {key}=time-sync.target: {CLOCK} is gone or not loaded"


def test_the_engines_settings_are_the_sites_with_rotated_logs(host, settings, docker, written):
    words = missing(docker["daemon"], settings) or missing(written, settings)
    assert not words, f"in /etc/docker/daemon.json {words}"
    # Somebody decides how logs are kept: the site, the owner's file, the unit's command line, or our default.
    decided = {"log-driver", "log-opts"} & {*settings, *docker["daemon"]}
    command = host.check_output("systemctl show docker --property=ExecStart")
    assert decided or "--log-" in command, "logs grow without bound: neither log-driver nor log-opts in daemon.json"


def test_the_running_engine_has_read_its_settings(docker_info, docker, settings):
    wanted = docker["daemon"].get("log-driver") or settings.get("log-driver")
    if not wanted:
        pytest.skip("neither the site nor daemon.json names a log driver")
    assert docker_info["LoggingDriver"] == wanted, f"it logs to {docker_info['LoggingDriver']}, not to {wanted}"


def images_of(host, docker_info):
    """Return the folder with the engine's images: containerd's where it keeps them there (Docker 29), else its own."""
    if ["driver-type", "io.containerd.snapshotter.v1"] not in docker_info.get("DriverStatus", []):
        return docker_info["DockerRootDir"]
    shown = host.check_output("containerd config dump")
    return re.search(r"""^root = ["'](.+)["']$""", shown, re.MULTILINE)[1]


def test_the_data_is_on_the_sites_disk(host, docker, docker_info):
    wanted, drop_in = docker["data_root"], host.file(DROP_IN)
    if wanted in ("", "/var/lib/docker"):
        assert not drop_in.exists, f"{DROP_IN} is there, which waits for a disk that the site does not name"
        return
    assert docker_info["DockerRootDir"] == wanted, f"it is in {docker_info['DockerRootDir']}"
    images = images_of(host, docker_info)
    assert images.startswith(wanted), f"images are in {images}, not below {wanted}"
    # Without it the engine starts without the disk, and fills the card.
    assert drop_in.exists, f"{DROP_IN} is not there"
    lines = drop_in.content_string.splitlines()
    assert f"RequiresMountsFor={wanted}" in lines, f"{DROP_IN} does not wait for {wanted}"
    needed = next((line.partition("=")[2] for line in lines if line.startswith("AssertPathIsMountPoint=")), "no disk")
    assert host.run(f"mountpoint -q {needed}").rc == 0, f"{needed} is no mount point"


def test_the_engine_asks_the_sites_mirrors(docker, docker_info):
    wanted = [url.rstrip("/") for url in docker["mirrors"]]
    if not wanted:
        pytest.skip("the site names none")
    found = [url.rstrip("/") for url in docker_info["RegistryConfig"]["Mirrors"] or []]
    assert found == wanted, f"it asks {', '.join(found) or 'none'}"


def test_only_the_sites_registries_need_no_certificate(docker, docker_info):
    if not docker["insecure_registries"]:
        pytest.skip("the site names none")
    registries = docker_info["RegistryConfig"]
    # An engine trusts its own host by itself.
    networks = [ipaddress.ip_network(each) for each in registries["InsecureRegistryCIDRs"]]
    found = {str(each) for each in networks if not each.is_loopback}
    found |= {name for name, about in registries["IndexConfigs"].items() if not about["Secure"]}
    wanted = {str(ipaddress.ip_network(each)) if "/" in each else each for each in docker["insecure_registries"]}
    assert found == wanted, f"they are {', '.join(sorted(found)) or 'none'}"


def test_the_owner_uses_docker_without_sudo(host, site):
    user = site["users"]["admin"]
    assert "docker" in host.user(user).groups, f"{user} is not in group docker"
