"""Each check of tests/verify fails on a node where its promise is broken, and holds again when that is mended.

The nodes are broken as people and power cuts break them: a stopped service, a file gone or too open, a node out of the
swarm. Where the node cannot be broken without losing it, the site file asks for what the node has not.
"""

import json
import subprocess
import sys
from dataclasses import dataclass, field

import pytest
import yaml
from rpiomega import site as sites
from rpiomega.lab import remote
from rpiomega.ssh import Pool, Settings
from rpiomega.verify import checks

pytestmark = pytest.mark.long
BOUND = 120
FIRST, SECOND, LAST = 0, 1, -1
KEPT = "/root/rpiomega-red"
CONSUL = "docker exec -e CONSUL_HTTP_TOKEN rpiomega-consul consul"
AS_MANAGEMENT = "export CONSUL_HTTP_TOKEN=$(cat /etc/rpiomega/secrets/consul/management.token);"
ANONYMOUS = "-id 00000000-0000-0000-0000-000000000002"
RECORD = "rpiomega/swarm/record"
SNAPSHOTS = "/var/lib/rpiomega/consul-snapshots"
# A program that says no in the place of a real one, and the way back.
FAKE = (
    f"fake() {{{{ mv /usr/bin/$1 {KEPT}/$1 && echo 'echo no; exit 1' > /usr/bin/$1 && chmod +x /usr/bin/$1; }}}}; fake"
)
REAL = f"real() {{{{ mv {KEPT}/$1 /usr/bin/$1; }}}}; real"
# Some checks leave containers alone: the node calls itself a board.
BOARD, NO_BOARD = f"{FAKE} systemd-detect-virt", f"{REAL} systemd-detect-virt"


@dataclass
class Break:
    """A way to break promises: `checks` are those that must fail on node `seen`.

    `how` and `mend` are run as root on node `at`; `site` is laid over the site file that the checks read.
    """

    checks: list[str]
    how: str = "true"
    mend: str = "true"
    at: int | tuple = LAST
    seen: int = LAST
    site: dict = field(default_factory=dict)


def gone(path):
    """A file that is no longer there."""
    return {"how": f"mv {path} {KEPT}/gone", "mend": f"mv {KEPT}/gone {path}"}


def edited(path, command):
    """A file that somebody edited: `command` makes its new content of the old one."""
    return {"how": f"cp -p {path} {KEPT}/old && {command} < {KEPT}/old > {path}", "mend": f"cp -p {KEPT}/old {path}"}


BREAKS = {
    "another name": Break(["the_node_has_its_name"], "hostname other", "hostname {node}"),
    "a name lost": Break(["every_node_is_in_the_hosts_file"], **edited("/etc/hosts", "grep -v rpiomega-master")),
    "cloud-init": Break(
        ["cloud_init_leaves_the_name_alone"],
        f"mv /etc/cloud {KEPT}/cloud; mkdir -p /etc/cloud/cloud.cfg.d; touch /etc/cloud/cloud.cfg",
        f"rm -r /etc/cloud; [ ! -e {KEPT}/cloud ] || mv {KEPT}/cloud /etc/cloud",
    ),
    "cmdline of two lines": Break(
        ["the_kernel_command_line_is_one_line_with_the_memory_cgroup"],
        **edited("/boot/firmware/cmdline.txt", "sed '$a quiet'"),
    ),
    "cmdline without the cgroup": Break(
        ["the_kernel_command_line_is_one_line_with_the_memory_cgroup"],
        **edited("/boot/firmware/cmdline.txt", "sed s/cgroup_enable=memory//"),
    ),
    "another network": Break(["the_node_keeps_its_address"], site={"network": {"prefix": 20}}),
    "no apt proxy": Break(["apt_asks_the_sites_cache"], **gone("/etc/apt/apt.conf.d/80rpiomega-proxy")),
    "another time zone": Break(["the_time_zone_is_the_sites"], site={"system": {"timezone": "Pacific/Chatham"}}),
    "passwords": Break(["nobody_logs_in_with_a_password"], site={"system": {"ssh_passwords": "off"}}),
    "minion stopped": Break(
        ["the_minion_runs_at_every_boot"], "systemctl stop salt-minion", "systemctl start salt-minion"
    ),
    "minion disabled": Break(
        ["the_minion_runs_at_every_boot"], "systemctl disable salt-minion", "systemctl enable salt-minion"
    ),
    "minion of anybody": Break(["the_minion_obeys_only_its_master"], **gone("/etc/salt/minion.d/rpiomega.conf")),
    "master stopped": Break(
        ["the_master_and_no_other_runs_a_salt_master"],
        "systemctl stop salt-master",
        "systemctl start salt-master",
        at=FIRST,
        seen=FIRST,
    ),
    "a second master": Break(
        ["the_master_and_no_other_runs_a_salt_master"],
        "systemd-run --quiet --unit salt-master sleep 600",
        "systemctl stop salt-master",
    ),
    "package removed": Break(
        ["the_packages_of_formula_site_role_and_node_are_installed"],
        "dpkg --force-depends --remove python3-pip",
        "apt-get install -qq -y --no-install-recommends python3-pip",
    ),
    "package asked for": Break(
        ["the_packages_of_formula_site_role_and_node_are_installed"],
        site={"packages": {"extra": ["rpiomega-nonesuch"]}},
    ),
    "clock not kept": Break(
        ["the_clock_is_kept_after_every_boot"],
        "systemctl disable chrony systemd-timesyncd",
        "systemctl enable chrony || systemctl enable systemd-timesyncd",
    ),
    "other time servers": Break(
        ["the_clock_follows_the_sites_servers"], site={"time": {"servers": ["ntp.example.com"]}}
    ),
    "clock not synchronised": Break(
        ["the_clock_is_synchronised"], f"{BOARD}; {FAKE} timedatectl", f"{NO_BOARD}; {REAL} timedatectl"
    ),
    "swap on the card": Break(
        ["no_swap_is_on_the_card"],
        f"{BOARD}; echo 'Filename\n/var/swap file 1 0 -2' > {KEPT}/swaps && mount --bind {KEPT}/swaps /proc/swaps",
        f"{NO_BOARD}; umount /proc/swaps",
        site={"system": {"swap": "off"}},
    ),
    "no compressed memory": Break(
        ["compressed_memory_is_there_only_if_the_site_wants_it"], BOARD, NO_BOARD, site={"system": {"swap": "zram"}}
    ),
    "journal elsewhere": Break(["the_journal_is_written_where_the_site_says"], site={"journal": "other storage"}),
    "journal without that limit": Break(
        ["the_journal_takes_no_more_than_the_site_allows"], site={"journal": {"max_use": "7M"}}
    ),
    "no updates": Break(
        [
            "updates_come_from_security_archives_only",
            "docker_and_salt_are_held_out",
            "nothing_reboots_on_its_own_terms",
            "updates_run_at_the_nodes_own_time",
        ],
        site={"upgrades": {"security": True}},
    ),
    "no time for reboots": Break(
        ["reboots_happen_only_at_the_nodes_own_time"], site={"upgrades": {"security": True, "reboot": True}}
    ),
    "no package cache": Break(
        ["apt_looks_for_the_masters_cache", "the_masters_cache_answers"],
        site={"cache": {"packages": True}},
        seen=FIRST,
    ),
    "no registry": Break(
        ["the_engine_asks_the_masters_registry_first", "the_masters_registry_answers"],
        site={"cache": {"images": True}},
        seen=FIRST,
    ),
    "engine of another source": Break(["the_engine_comes_from_where_the_site_says"], site={"docker": "other source"}),
    "docker stopped": Break(
        ["docker_runs_at_every_boot", "the_running_engine_has_read_its_settings", "the_node_is_active_in_its_role"],
        "systemctl stop docker.socket docker",
        "systemctl start docker",
    ),
    "docker disabled": Break(["docker_runs_at_every_boot"], "systemctl disable docker", "systemctl enable docker"),
    "log rotation gone": Break(
        ["the_engines_settings_are_the_sites_with_rotated_logs"], **edited("/etc/docker/daemon.json", "echo '{{}}'")
    ),
    "log driver not in use": Break(
        ["the_running_engine_has_read_its_settings"], site={"docker": {"daemon": {"log-driver": "local"}}}
    ),
    "owner out of the group": Break(
        ["the_owner_uses_docker_without_sudo"], "gpasswd -d pi docker", "gpasswd -a pi docker"
    ),
    "b2 gone": Break(["the_owner_uses_the_b2_command"], **gone("/usr/local/bin/b2")),
    "b2 of the distribution": Break(
        ["the_owner_uses_the_b2_command"],
        f"mv /usr/local/bin/b2 {KEPT}/gone; echo 'echo b2 command line tool, version 3.19' > /usr/local/bin/b2;"
        " chmod +x /usr/local/bin/b2",
        f"mv {KEPT}/gone /usr/local/bin/b2",
    ),
    "b2 of another version": Break(["the_b2_command_has_the_sites_version"], site={"b2": {"version": "4.0.0"}}),
    "an account left": Break(
        ["the_account_is_roots_secret_and_only_where_the_site_gives_one"],
        "touch /etc/rpiomega/b2.env",
        "rm /etc/rpiomega/b2.env",
    ),
    "an account missing": Break(
        ["the_account_is_roots_secret_and_only_where_the_site_gives_one"], site={"b2": {"credentials": {"*": "one"}}}
    ),
    "an account for all to read": Break(
        ["the_account_is_roots_secret_and_only_where_the_site_gives_one"],
        "install -m 644 /dev/null /etc/rpiomega/b2.env",
        "rm /etc/rpiomega/b2.env",
        site={"b2": {"credentials": {"*": "one"}}},
    ),
    "agent stopped": Break(
        [
            "the_agent_runs_and_comes_back_after_a_reboot",
            "there_is_a_leader",
            "without_a_token_nothing_is_told",
            "the_http_api_listens_on_loopback_only",
            "servers_follow_the_number_of_managers",
            "the_record_names_this_swarm",
        ],
        "docker stop rpiomega-consul",
        "docker start rpiomega-consul",
    ),
    "agent without restart": Break(
        ["the_agent_runs_and_comes_back_after_a_reboot"],
        "docker update --restart no rpiomega-consul",
        "docker update --restart always rpiomega-consul",
    ),
    "another image": Break(["the_agent_is_the_sites_image"], site={"consul": {"image": "hashicorp/consul:0.1"}}),
    "another node's agent stopped": Break(
        ["every_node_is_an_alive_member"], "docker stop rpiomega-consul", "docker start rpiomega-consul", at=SECOND
    ),
    "no quorum in Consul": Break(
        ["there_is_a_leader"], "docker stop rpiomega-consul", "docker start rpiomega-consul", at=(FIRST, SECOND)
    ),
    "one manager planned": Break(["servers_follow_the_number_of_managers"], site={"nodes": "one manager"}),
    "api at every address": Break(
        ["the_http_api_listens_on_loopback_only"],
        "systemd-run --quiet --unit rpiomega-red python3 -m http.server --bind {address} 8500",
        "systemctl stop rpiomega-red",
    ),
    "keys for everybody": Break(
        ["without_a_token_nothing_is_told"],
        f'{AS_MANAGEMENT} {CONSUL} acl policy create -name red -rules \'key_prefix "" {{{{ policy = "read" }}}}\''
        f" && {CONSUL} acl token update {ANONYMOUS} -policy-name red",
        f"{AS_MANAGEMENT} {CONSUL} acl policy delete -name red",
        at=FIRST,
    ),
    "secrets for all to read": Break(
        ["secrets_are_readable_by_root_only"],
        "chmod 644 /etc/rpiomega/consul/consul.json",
        "chmod 600 /etc/rpiomega/consul/consul.json",
    ),
    "gossip in the clear": Break(
        ["gossip_is_encrypted_and_access_denied_by_default"],
        **edited("/etc/rpiomega/consul/consul.json", 'sed \'s/"encrypt":/"was":/\''),
    ),
    "access for all": Break(
        ["gossip_is_encrypted_and_access_denied_by_default"],
        **edited("/etc/rpiomega/consul/consul.json", "sed '/default_policy/s/deny/allow/'"),
    ),
    "nobody watches the services": Break(
        ["consul_knows_the_engine_and_the_minion_to_be_well"],
        "systemctl stop rpiomega-consul-health",
        "systemctl start rpiomega-consul-health",
    ),
    "names elsewhere": Break(["dns_answers_for_every_node"], site={"nodes": "other addresses"}),
    "no snapshots": Break(
        ["the_master_keeps_snapshots_to_itself"],
        "systemctl stop rpiomega-consul-snapshot.timer",
        "systemctl start rpiomega-consul-snapshot.timer",
        at=FIRST,
        seen=FIRST,
    ),
    "snapshots for all to read": Break(
        ["the_master_keeps_snapshots_to_itself"],
        f"install -d -m 700 {SNAPSHOTS} && install -m 644 /dev/null {SNAPSHOTS}/red",
        f"rm {SNAPSHOTS}/red && rmdir --ignore-fail-on-non-empty {SNAPSHOTS}",
        at=FIRST,
        seen=FIRST,
    ),
    "out of the swarm": Break(
        ["the_node_is_active_in_its_role", "the_record_names_this_swarm"],
        "docker swarm leave --force",
        "salt-call state.apply swarm && for old in"
        " $(docker node ls --filter name={last} --format '{{{{.Status}}}} {{{{.ID}}}}' | sed -n 's/^Down //p');"
        " do docker node demote $old; docker node rm --force $old; done",
    ),
    "demoted": Break(
        ["the_node_is_active_in_its_role"], "docker node demote {last}", "docker node promote {last}", at=FIRST
    ),
    "another manager demoted": Break(
        ["a_manager_sees_every_node_in_its_role"],
        "docker node demote {last}",
        "docker node promote {last}",
        at=FIRST,
        seen=FIRST,
    ),
    "another node's engine stopped": Break(
        ["a_manager_sees_every_node_ready"],
        "systemctl stop docker.socket docker",
        "systemctl start docker",
        seen=FIRST,
    ),
    "another address planned": Break(
        ["the_swarm_is_reached_at_the_site_files_address"], site={"nodes": "other addresses"}
    ),
    "another record": Break(
        ["the_record_names_this_swarm"],
        f"{AS_MANAGEMENT} {CONSUL} kv get {RECORD} > {KEPT}/record"
        f' && {CONSUL} kv put {RECORD} "$(sed \'s/"cluster_id": *"/&x/\' {KEPT}/record)"',
        f'{AS_MANAGEMENT} {CONSUL} kv put {RECORD} "$(cat {KEPT}/record)"',
        at=FIRST,
    ),
    "a stranger in the swarm": Break(
        ["the_swarm_has_no_nodes_but_the_sites"], site={"nodes": "without the last"}, seen=FIRST
    ),
    "a newer commit": Break(
        ["the_checkout_is_where_its_branch_or_tag_is"],
        f"cd /srv/rpiomega/formula.git && git rev-parse main > {KEPT}/main && git update-ref refs/heads/main main~1",
        f"cd /srv/rpiomega/formula.git && git update-ref refs/heads/main $(cat {KEPT}/main)",
        at=FIRST,
        seen=FIRST,
    ),
    "a file of somebody": Break(
        ["nobody_edited_the_checkout"],
        "touch /srv/rpiomega/formula/mine",
        "rm /srv/rpiomega/formula/mine",
        at=FIRST,
        seen=FIRST,
    ),
    "no schedule": Break(["the_formula_is_looked_at_on_schedule"], site={"formula": {"every": 60}}, seen=FIRST),
    "site file for all to read": Break(
        ["the_site_file_is_closed_to_others"],
        "chmod o+r /srv/rpiomega/pillar/site.sls",
        "chmod o-r /srv/rpiomega/pillar/site.sls",
        at=FIRST,
        seen=FIRST,
    ),
    "secrets folder open": Break(
        ["the_secrets_folder_is_closed"],
        "chmod 755 /etc/rpiomega/secrets",
        "chmod 700 /etc/rpiomega/secrets",
        at=FIRST,
        seen=FIRST,
    ),
    "a secret for all to read": Break(
        ["the_secrets_folder_is_closed"],
        "chmod o+r /etc/rpiomega/secrets/consul/management.token",
        "chmod o-r /etc/rpiomega/secrets/consul/management.token",
        at=FIRST,
        seen=FIRST,
    ),
}


class Looker:
    """Runs single checks on the nodes of a finished lab."""

    def __init__(self, lab, folder):
        self.lab, self.folder = lab, folder
        self.names = lab.node_names()
        self.site = sites.load(lab.site_file)
        users = self.site.users
        settings = Settings(users.admin, identity=lab.key, known_hosts=lab.known_hosts)
        assert users.port == 22
        self.pool = Pool(settings)
        self.remotes = {}

    def look(self, node, wanted, site_file):
        """Return check -> result on one node."""
        name = self.names[node]
        if name not in self.remotes:
            self.remotes[name] = self.pool.remote([self.site.nodes[name].address])
            self.remotes[name].connect(10)
        only = " or ".join(f"test_{check}" for check in wanted)
        found = checks.over_ssh(site_file, self.site.nodes[name], self.remotes[name], only)
        return {check.check: check for check in found if check.check in wanted}

    def run(self, node, script):
        name = self.names[node]
        words = {"node": name, "last": self.names[LAST], "address": self.site.nodes[name].address}
        script = f"umask 077; mkdir -p {KEPT}; {script.format(**words)}"
        return remote.run(self.lab, name, f"sudo sh -c {remote.quote(script)}", bound=180)

    def altered(self, over):
        """Return the site file with `over` laid over it, as a file of its own."""
        made = yaml.safe_load(self.lab.site_file.read_text())["rpiomega"]
        nodes = made["nodes"]
        if over.get("nodes") == "one manager":
            for name in self.names[1:]:
                nodes[name]["roles"] = ["worker"]
        elif over.get("nodes") == "other addresses":
            for entry in nodes.values():
                entry["address"] = "10.9.9.9"
        elif over.get("nodes") == "without the last":
            del nodes[self.names[LAST]]
        elif over.get("journal") == "other storage":
            now = self.run(LAST, "readlink /proc/$(pidof systemd-journald)/fd/* | grep -m1 journal$")
            made["journal"] = {"storage": "persistent" if now.startswith("/run") else "volatile"}
        elif over.get("docker") == "other source":
            now = made.get("docker", {}).get("source", "vendor")
            made["docker"] = {**made.get("docker", {}), "source": {"vendor": "distribution"}.get(now, "vendor")}
        else:
            for key, values in over.items():
                made[key] = {**made.get(key, {}), **values}
        path = self.folder / "site.sls"
        path.write_text(yaml.safe_dump({"rpiomega": made}))
        return path


@pytest.fixture(scope="module")
def looker(finished, tmp_path_factory):
    looker = Looker(finished, tmp_path_factory.mktemp("site"))
    with looker.pool:
        yield looker


def test_every_check_is_broken_by_something_here():
    known = {check.check for check in checks.listed()}
    assert known == {check for each in BREAKS.values() for check in each.checks}


@pytest.mark.parametrize("name", BREAKS)
def test_the_check_sees_what_is_broken_and_what_is_mended(looker, wait, name):
    broken = BREAKS[name]
    at = broken.at if isinstance(broken.at, tuple) else (broken.at,)
    site_file = looker.altered(broken.site) if broken.site else looker.lab.site_file
    try:
        for node in at:
            looker.run(node, broken.how)
        found = {}

        def red():
            found.update(looker.look(broken.seen, broken.checks, site_file))
            return {check: one.result for check, one in found.items()} == dict.fromkeys(broken.checks, "failed")

        wait(f"{broken.checks} to fail", BOUND, red)
        for one in found.values():
            print(f"{one.check}: {one.cause}")
            assert one.cause
            assert one.cure
    finally:
        for node in at:
            looker.run(node, broken.mend)

    def green():
        found = looker.look(broken.seen, broken.checks, looker.lab.site_file)
        return {check for check in broken.checks if found[check].result != "failed"} == set(broken.checks)

    wait(f"{broken.checks} to hold again", BOUND, green)


def test_through_salt_all_holds_as_well_and_no_secret_stays_in_the_job_cache(looker):
    command = [sys.executable, "-m", "rpiomega", "verify", "--salt", "--install", "--json"]
    command += ["--site", str(looker.lab.site_file)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200, check=False)
    report = json.loads(done.stdout)
    broken = {
        name: [each for each in node["checks"] if each["result"] == "failed"] for name, node in report["nodes"].items()
    }
    assert broken == {name: [] for name in looker.names}
    assert report["ok"], report
    # The secrets' files are the patterns, so that no secret gets into an argument list here either.
    search = (
        "for secret in $(find /etc/rpiomega/secrets -name token -o -name '*.token' -o -name gossip.key);"
        " do grep -rlaF -f $secret /var/cache/salt/master/jobs; done; true"
    )
    assert looker.run(FIRST, search) == ""
