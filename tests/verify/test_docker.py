"""State docker."""

import json


def test_the_engine_comes_from_where_the_site_says(host, site, node):
    docker, own = site["docker"], node.get("docker", {}).get("source", "site")
    for package in docker["packages"][docker["source"] if own == "site" else own]:
        assert host.package(package).is_installed, f"{package} is not installed"


def test_docker_runs_at_every_boot(host):
    docker = host.service("docker")
    assert docker.is_running, "docker is not running"
    assert docker.is_enabled, "docker is not enabled"


def test_the_engines_settings_are_the_sites_with_rotated_logs(host, site):
    settings = json.loads(host.file("/etc/docker/daemon.json").content_string)
    for key, value in site["docker"]["daemon"].items():
        assert settings.get(key) == value, f"{key} in /etc/docker/daemon.json is {settings.get(key)!r}"
    assert settings.get("log-opts", {}).get("max-size"), "logs grow without bound: no max-size in daemon.json"


def test_the_running_engine_has_read_its_settings(docker_info, site):
    wanted = site["docker"]["daemon"].get("log-driver")
    assert docker_info["LoggingDriver"] == wanted, f"it logs to {docker_info['LoggingDriver']}, not to {wanted}"


def test_the_owner_uses_docker_without_sudo(host, site):
    user = site["users"]["admin"]
    assert "docker" in host.user(user).groups, f"{user} is not in group docker"
