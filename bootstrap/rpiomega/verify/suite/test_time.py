"""State time."""

import pytest

# Containers have their host's clock, and systemd starts no client there.
CONTAINER = "systemd-detect-virt --container --quiet"
NTPD = ("/usr/sbin/ntpd", "/usr/sbin/openntpd")
BOUND = "1min 30s"  # salt/time, as systemd prints it


@pytest.fixture(scope="module")
def client(host, site):
    """The service that keeps the node's clock."""
    if host.file("/usr/sbin/chronyd").exists:
        return "chrony"
    if any(host.file(path).exists for path in NTPD):
        assert not site["time"]["servers"], "ntpd keeps it, whose servers the formula does not set: remove its package"
        pytest.skip("the site names no time servers, and ntpd is left alone")
    return "systemd-timesyncd"


def test_the_clock_is_kept_after_every_boot(host, client):
    assert host.service(client).is_enabled, f"{client} is not enabled"
    if host.run(CONTAINER).rc:
        assert host.service(client).is_running, f"{client} is not running"


def test_the_boot_waits_for_the_clock_and_not_for_ever(host, client):
    unit = {"chrony": "chrony-wait"}.get(client, "systemd-time-wait-sync")
    if client == "chrony" and not host.file(f"/usr/lib/systemd/system/{unit}.service").exists:
        pytest.skip(f"chrony's package has no {unit}")
    assert host.service(unit).is_enabled, f"{unit} is not enabled"
    found = host.check_output(f"systemctl show {unit} --property=TimeoutStartUSec").partition("=")[2]
    assert found == BOUND, f"{unit} may take {found}, not {BOUND}"


def test_the_clock_follows_the_sites_servers(host, site, client):
    servers = site["time"]["servers"]
    if not servers:
        pytest.skip("the site names no time servers")
    if client == "chrony":
        found = host.check_output("cat /etc/chrony/chrony.conf /etc/chrony/sources.d/*.sources")
        given = {line.split()[1] for line in found.splitlines() if line.startswith("server ")}
    else:
        found = host.check_output("systemd-analyze cat-config systemd/timesyncd.conf")
        lines = [line for line in found.splitlines() if line.startswith("NTP=")]
        given = set(lines[-1].removeprefix("NTP=").split()) if lines else set()
    missing = [server for server in servers if server not in given]
    assert missing == [], f"{client} does not know {', '.join(missing)}"


@pytest.mark.cure("on {node}: timedatectl timesync-status, or chronyc sources, says which server does not answer")
def test_the_clock_is_synchronised(host):
    if host.run(CONTAINER).rc == 0:
        pytest.skip("a container has its host's clock")
    found = host.check_output("timedatectl show --property=NTPSynchronized --value")
    assert found == "yes", "systemd says that it is not"
