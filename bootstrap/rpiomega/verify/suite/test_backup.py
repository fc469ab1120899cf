"""State backup."""

import json
import re
import time

import pytest

FOLDER = "/etc/rpiomega/backup"
STATE = "/var/lib/rpiomega/backup/state.json"
FILES = ("repository", "password", "aws", "settings.json")


@pytest.fixture
def wanted(site):
    """The site has backups."""
    if not site["backup"]["bucket"]:
        pytest.skip("the site has no backup.bucket")


@pytest.mark.usefixtures("wanted")
def test_restic_is_new_enough(host):
    found = host.run("restic version")
    version = re.search(r"restic (\d+)\.(\d+)\.\d+", found.stdout)
    assert version, (
        f"`restic version` says {(found.stderr.strip() or found.stdout.strip() or 'nothing').splitlines()[-1]}"
    )
    # --stdin-from-command and the exit codes for a missing repository, a lock and a wrong password came with 0.17.
    assert (int(version[1]), int(version[2])) >= (0, 17), f"it is version {version[0].split()[1]}"


def test_the_secrets_of_backups_are_roots_and_only_where_the_site_has_a_bucket(host, site, node):
    there = [name for name in FILES if host.file(f"{FOLDER}/{name}").exists]
    if not site["backup"]["bucket"]:
        assert there == [], f"{FOLDER}/{there[0]} is there, and the site has no backup.bucket"
        return
    lacking = [name for name in FILES if name not in there]
    assert lacking == [], f"{FOLDER}/{lacking[0]} is not there"
    every = host.check_output(f"find {FOLDER} -printf '%m %u %p\\n'").splitlines()
    for line in every:
        mode, user, path = line.split(" ", 2)
        assert user == "root", f"{path} belongs to {user}"
        assert mode in ("600", "700"), f"{path} has mode {mode}"
    others = host.file(f"{FOLDER}/maintenance").exists
    assert others == ("master" in node["roles"]), f"{FOLDER}/maintenance is {'there' if others else 'not there'}"


@pytest.mark.usefixtures("wanted")
def test_the_timers_of_backups_run_at_the_sites_times(host, site, node):
    drill, master = site["backup"]["drill"]["every"] != "off", "master" in node["roles"]
    for name, active in (("backup", True), ("backup-drill", drill), ("backup-forget", master)):
        timer = host.service(f"rpiomega-{name}.timer")
        assert timer.is_running == active, f"rpiomega-{name}.timer is {'not ' if active else ''}active"
        assert timer.is_enabled == active, f"rpiomega-{name}.timer is {'not ' if active else ''}enabled"
    shown = host.check_output("systemctl show --property=TimersCalendar rpiomega-backup.timer")
    assert f"OnCalendar=*-*-* {site['backup']['schedule']}:00 " in shown, f"rpiomega-backup.timer has {shown}"


@pytest.mark.cure("on the node: sudo systemctl start rpiomega-backup; journalctl -u rpiomega-backup")
@pytest.mark.usefixtures("wanted")
def test_the_newest_backup_is_not_overdue(host, site):
    found = host.file(STATE)
    assert found.exists, "no run has ended on this node yet"
    state = json.loads(found.content_string)
    cause = (state.get("last") or {}).get("cause") or "no cause is recorded"
    assert state.get("success"), f"no run has succeeded on this node yet: {cause}"
    hours = (time.time() - state["success"]) / 3600
    limit = site["backup"]["max_age"]
    assert hours <= limit, f"the newest backup is {hours:.0f} h old, and backup.max_age is {limit} h: {cause}"
