"""State upgrades."""

import re

import pytest

DAY = 24 * 60


PERIODIC = "APT::Periodic::Unattended-Upgrade"


@pytest.fixture
def apt(host):
    """apt's settings, as `apt-config dump` prints them."""
    return host.check_output("apt-config dump").splitlines()


@pytest.fixture
def settings(apt, site):
    """apt's settings where the site has updates."""
    if not site["upgrades"]["security"]:
        pytest.skip("the site has upgrades.security: false")
    return apt


def listed(settings, name):
    return [line.split('"')[1] for line in settings if line.startswith(f"Unattended-Upgrade::{name}:: ")]


def turn(site, name):
    """Return the node's minute of the day for updates, from its place in the site file."""
    hours, minutes = site["upgrades"]["start"].split(":")
    return (int(hours) * 60 + int(minutes) + list(site["nodes"]).index(name) * site["upgrades"]["gap"]) % DAY


def planned(host, timer):
    """Return the minute of the day when a timer elapses, as systemd has it loaded."""
    found = host.check_output(f"systemctl show --property=TimersCalendar {timer}")
    when = re.search(r"OnCalendar=\*-\*-\* (\d\d):(\d\d):00 ", found)
    assert when, f"{timer} has no time of day of its own: {found.partition('=')[2] or 'it is not loaded'}"
    return int(when[1]) * 60 + int(when[2])


def test_updates_come_from_security_archives_only(settings):
    for origin in listed(settings, "Origins-Pattern") + listed(settings, "Allowed-Origins"):
        plain = "-security" in origin or "origin=Rasp" in origin  # the latter have no archive for security alone
        assert plain, f"also from {origin}"
    assert listed(settings, "Origins-Pattern"), "from nowhere"


def test_docker_and_salt_are_held_out(apt, site):
    held = listed(apt, "Package-Blacklist")
    own = ["docker-ce", "docker-ce-cli", "docker.io", "containerd.io", "salt-minion"]
    for package in own + site["upgrades"]["hold"]:
        name = package.rstrip("*")
        assert any(re.match(pattern, name) for pattern in held), f"{package} is not"


def test_nothing_reboots_on_its_own_terms(settings):
    assert 'Unattended-Upgrade::Automatic-Reboot "false";' in settings, "unattended-upgrades reboots by itself"


def test_updates_run_at_the_nodes_own_time(host, settings, site, name):
    assert f'{PERIODIC} "1";' in settings, "apt does not run unattended-upgrades"
    for timer in ("apt-daily.timer", "apt-daily-upgrade.timer"):
        assert host.service(timer).is_running, f"{timer} is not running"
        assert host.service(timer).is_enabled, f"{timer} is not enabled"
    found = planned(host, "apt-daily-upgrade.timer")
    assert found == turn(site, name), f"they run at {found // 60:02}:{found % 60:02}"


def test_updates_that_the_site_took_away_are_off(host, apt, site):
    if site["upgrades"]["security"]:
        pytest.skip("the site has upgrades.security: true")
    own = host.file(site["upgrades"]["config"])
    said = re.search(rf'^{PERIODIC} "(\d)";$', own.content_string if own.exists else "", re.MULTILINE)
    if not said:
        pytest.skip("the node never had them from the site, or its system runs updates of its own")
    assert said[1] == "0", f"{own.path} still switches them on"
    assert f'{PERIODIC} "0";' in apt, "another file in /etc/apt/apt.conf.d switches them on"


def test_reboots_happen_only_at_the_nodes_own_time(host, site, name):
    timer = host.service("rpiomega-reboot.timer")
    assert timer.is_running == site["upgrades"]["reboot"], f"its timer is {'' if timer.is_running else 'not '}running"
    if site["upgrades"]["reboot"]:
        assert timer.is_enabled, "its timer is not enabled"
        found = planned(host, "rpiomega-reboot.timer")
        wanted = (turn(site, name) + site["upgrades"]["gap"] // 2) % DAY
        assert found == wanted, f"they are at {found // 60:02}:{found % 60:02}"
