"""State journal."""

import re

import pytest

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
FOLDERS = {"volatile": "/run/log/journal", "persistent": "/var/log/journal"}


def size(text):
    number, unit = re.fullmatch(r"([\d.]+)([KMG]?)", text).groups()
    return float(number) * UNITS[unit]


def test_the_journal_is_written_where_the_site_says(host, site):
    storage = site["journal"]["storage"]
    if storage == "keep":
        pytest.skip("the site leaves it as it is")
    # What journald has open is where it writes; a folder may be left from before.
    found = host.run("readlink /proc/$(systemctl show --property=MainPID --value systemd-journald)/fd/*").stdout
    files = [path for path in found.splitlines() if path.endswith(".journal")]
    wrong = [path for path in files if not path.startswith(FOLDERS[storage])]
    assert files, "journald has no file open"
    assert wrong == [], f"it writes to {wrong[0]}"


def test_the_journal_takes_no_more_than_the_site_allows(host, site):
    if not site["journal"]["max_use"]:
        pytest.skip("the site names no limit")
    limit = size(site["journal"]["max_use"])
    settings = host.check_output("systemd-analyze cat-config systemd/journald.conf").splitlines()
    for key in ("SystemMaxUse", "RuntimeMaxUse"):
        given = [line.partition("=")[2] for line in settings if line.startswith(f"{key}=")]
        assert given, f"{key} is not set"
        assert size(given[-1]) == limit, f"{key} is {given[-1]}"
