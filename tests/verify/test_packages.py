"""States packages, docker and b2."""

import json
import re


def test_development_packages_are_installed(host, site):
    wanted = site["packages"]["development"] + site["packages"]["extra"]
    assert [package for package in wanted if not host.package(package).is_installed] == []


def test_docker_runs_at_every_boot(host):
    docker = host.service("docker")
    assert docker.is_running
    assert docker.is_enabled


def test_container_logs_are_rotated(host, site):
    settings = json.loads(host.file("/etc/docker/daemon.json").content_string)
    assert settings["log-opts"]["max-size"]
    assert {key: settings.get(key) for key in site["docker"]["daemon"]} == site["docker"]["daemon"]


def test_the_owner_uses_docker_without_sudo(host, site):
    assert "docker" in host.user(site["users"]["admin"]).groups


def test_the_b2_command_works(host, site):
    # Distributions package releases of another syntax under the same name: 4 is the first of today's.
    version = re.search(r"command line tool, version (\d+)", host.check_output("b2 version"))
    assert int(version[1]) >= 4
