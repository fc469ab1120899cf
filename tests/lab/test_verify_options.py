"""With every option of the site on, all checks hold; with them taken away again as well, and nothing of them goes on.

`test_verify_red.py` sees checks fail on a lab that has most options off. Here one virtual Pi has them all.
"""

import json
import os

import pytest
import yaml
from salt.utils.dictupdate import update

from rpiomega.lab import demo, engine, remote, vendor

pytestmark = pytest.mark.long
# A container has the clock and the swap of its host; Backblaze is not reached from here.
NOT_HERE = {
    "the_clock_is_synchronised",
    "no_swap_is_on_the_card",
    "compressed_memory_is_there_only_if_the_site_wants_it",
    "the_owners_command_has_the_account_closed_to_others",
}
TAKEN_AWAY = "updates_that_the_site_took_away_are_off"
DISK = "/mnt/disk"
# What the node keeps when the site is without options again: its engine does not leave the disk unasked.
KEPT = ("docker", "consul")
LAST_UPDATES = "/var/lib/systemd/timers/stamp-apt-daily-upgrade.timer"
APPLY = "sudo salt-call --out=json state.apply"


def options(lab):
    """Return a site's options, each of them on."""
    versions = vendor.repositories(engine.connect(), lab)["docker"]["versions"]
    cache = yaml.safe_load(lab.site_file.read_text())["rpiomega"]["sources"]["apt_proxy"]
    return {
        "system": {"timezone": "Europe/Berlin", "swap": "zram", "ssh_passwords": "off"},
        "docker": {
            "version": versions[-1],
            "mirrors": ["http://mirror.example:5000"],
            "insecure_registries": ["registry.example:5000", "10.9.0.0/16"],
            "data_root": f"{DISK}/docker",
            "daemon": {"log-opts": {"max-size": "5m"}},
        },
        "consul": {"snapshots": {"keep": 3}},
        "packages": {"extra": ["tree"], "roles": {"manager": ["jq"]}},
        # What is behind the registry only has to answer.
        "cache": {"packages": True, "images": True, "upstream": cache},
        "upgrades": {"security": True, "reboot": True, "start": "03:10", "hold": ["linux-image-*"]},
        "time": {"servers": ["ntp.example.com"]},
        "journal": {"storage": "volatile", "max_use": "32M"},
        "formula": {"every": 60},
    }


class Node:
    """One virtual Pi, the whole cluster, and the two sites it gets."""

    def __init__(self, cluster):
        self.cluster, self.lab = cluster, cluster.lab
        self.plain = self.lab.site_file.read_text()

    def site(self, **over):
        """Write the lab's site file, with `over` laid over what `lab up` wrote."""
        made = update(yaml.safe_load(self.plain)["rpiomega"], over)
        self.lab.site_file.write_text(yaml.safe_dump({"rpiomega": made}))

    def bootstrap(self):
        """Bring the site file to the node."""
        done = self.cluster.rpiomega("bootstrap", bound=600)
        assert done.returncode == 0, done.stdout + done.stderr

    def verified(self):
        """Return what `rpiomega verify` says: check -> result, failures with their cause."""
        done = self.cluster.rpiomega("verify", "--json", bound=600)
        (report,) = json.loads(done.stdout)["nodes"].values()
        assert not report["error"], report["error"]
        return {row["check"]: row["cause"] if row["result"] == "failed" else row["result"] for row in report["checks"]}

    def apply(self, *more):
        """Apply all states; return what did not end well, and how many changed something."""
        text = remote.run(self.lab, self.cluster.master, f"{APPLY} {' '.join(more)}", demo.APPLY_BOUND, check=False)
        (states,) = json.loads(text).values()
        assert isinstance(states, dict), states
        failed = {name: one["comment"] for name, one in states.items() if one["result"] is False}
        return failed, [name for name, one in states.items() if one["changes"] or one["result"] is None]


@pytest.fixture(scope="module")
def node(make_cluster):
    """The virtual Pi after its first apply, with every option on."""
    node = Node(make_cluster("options", 1))
    node.site(**options(node.lab))
    node.bootstrap()
    node.cluster.on_master(f"sudo mkdir {DISK} && sudo mount -t tmpfs none {DISK}")
    stamps = os.path.dirname(LAST_UPDATES)
    node.cluster.on_master(f"sudo mkdir -p {stamps} && sudo touch --date '2 days ago' {LAST_UPDATES}")
    demo.accept(node.lab)
    failed, _ = node.apply()
    assert failed == {}
    return node


def test_with_every_option_on_all_checks_hold(node):
    found = node.verified()
    assert {check: result for check, result in found.items() if result not in ("ok", "skipped")} == {}
    assert {check for check, result in found.items() if result == "skipped"} == NOT_HERE | {TAKEN_AWAY}


def test_updates_begin_at_their_time_and_not_beside_the_apply_that_brings_it(node):
    """Two days old, they are overdue by any time of day."""
    begun = node.cluster.on_master("systemctl show -P ActiveEnterTimestamp apt-daily-upgrade.timer")
    assert begun.strip(), "the timer does not run"
    assert node.cluster.on_master("systemctl show -P ExecMainStartTimestamp apt-daily-upgrade.service").strip() == ""


def test_a_second_apply_has_nothing_to_do(node):
    assert node.apply("test=True") == ({}, [])


def test_another_time_of_day_that_has_passed_already_reboots_nothing(node, wait):
    """systemd begins at once what would have been since the timer elapsed last: here an hour ago, by hand."""
    run, timer = node.cluster.on_master, "rpiomega-reboot.timer"
    said = "sudo journalctl --quiet --output cat --unit rpiomega-reboot.service"
    calendar = 'OnCalendar=*-*-* $(date -d "-2 hours" +%T)\\nPersistent=true'
    run(f'sudo sed -i "s/^OnCalendar=.*/{calendar}/" /etc/systemd/system/{timer}')
    run(f'sudo touch --date "1 hour ago" {os.path.dirname(LAST_UPDATES)}/stamp-{timer}')
    run(f"sudo systemctl daemon-reload && sudo systemctl restart {timer}")
    wanted = options(node.lab)
    wanted["upgrades"].update(start=run('date -d "-45 minutes" +%H:%M').strip(), gap=30)  # the reboot: half a gap later
    node.site(**wanted)
    node.bootstrap()
    run("sudo touch /run/reboot-required /run/as-before")
    try:
        failed, changed = node.apply("upgrades")
        assert (failed, len(changed) > 1) == ({}, True), changed
        wait("the timer to have elapsed", 60, lambda: "this node reboots at" in run(said))
        run("ls /run/as-before")
    finally:
        run("sudo rm -f /run/reboot-required")


def test_taken_away_again_all_holds_and_nothing_of_it_goes_on(node):
    node.site(**{key: options(node.lab)[key] for key in KEPT})
    node.bootstrap()
    failed, _ = node.apply()
    assert failed == {}
    found = node.verified()
    assert {check: result for check, result in found.items() if result not in ("ok", "skipped")} == {}
    # The package is still there, as are Debian's own settings for it.
    assert found[TAKEN_AWAY] == "ok"
    assert node.cluster.on_master("ls /usr/bin/unattended-upgrade").strip()
    assert node.apply("test=True") == ({}, [])


def test_a_clock_of_ntpd_is_left_alone_and_not_looked_at(node):
    node.cluster.on_master("sudo mv /usr/sbin/chronyd /usr/sbin/chronyd.away; sudo touch /usr/sbin/ntpd")
    found = node.verified()
    assert found["the_clock_is_kept_after_every_boot"] == "skipped"
    assert node.apply("test=True") == ({}, [])
