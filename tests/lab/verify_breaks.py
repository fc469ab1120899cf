"""How to break everything that `rpiomega verify` checks, and to repair it again.

The nodes are broken as people and power cuts break them: a stopped service, a file gone or too open, a node out of the
swarm. Where the node cannot be broken without losing it, the site file asks for what the node has not.
"""

from dataclasses import dataclass, field

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
ZRAM = "/etc/systemd/zram-generator.conf"
UPDATES, LATER = "/etc/apt/apt.conf.d/60rpiomega-upgrades", "/etc/apt/apt.conf.d/99rpiomega-red"
PERIODIC = "APT::Periodic::Unattended-Upgrade"
DROP_IN = "/etc/systemd/system/docker.service.d"
GIVEN = {"b2": {"credentials": {"*": "one"}}}
SAVED = {"backup": {"bucket": "omega-backup"}}
OWNERS_ACCOUNT = (
    'runuser -u pi -- python3 -c \'import os, sqlite3; path = os.path.expanduser("~pi/.b2_account_info");'
    ' made = sqlite3.connect(path); made.execute("CREATE TABLE account (account_id_or_app_key_id TEXT)");'
    ' made.execute("INSERT INTO account VALUES (1)"); made.commit(); os.chmod(path, 0o600)\''
)
# Some checks leave containers alone: the node calls itself a board.
BOARD, NO_BOARD = f"{FAKE} systemd-detect-virt", f"{REAL} systemd-detect-virt"


@dataclass
class Break:
    """A way to break a node: `checks` are those that must fail on node `seen`.

    `how` and `repair` are run as root on node `at`; `site` is laid over the site file that the checks read. Without one
    they hold after `repair`, except where the lab is `without` the thing: there they are skipped.
    """

    checks: list[str]
    how: str = "true"
    repair: str = "true"
    at: int | tuple = LAST
    seen: int = LAST
    site: dict = field(default_factory=dict)
    without: bool = False


def gone(path, after="true"):
    """A file that is no longer there; `after` lets its program know, each time."""
    return {"how": f"mv {path} {KEPT}/gone && {after}", "repair": f"mv {KEPT}/gone {path} && {after}"}


def edited(path, command):
    """A file that somebody edited: `command` makes its new content of the old one."""
    return {"how": f"cp -p {path} {KEPT}/old && {command} < {KEPT}/old > {path}", "repair": f"cp -p {KEPT}/old {path}"}


BREAKS = {
    "another name": Break(["the_node_has_its_name"], "hostname other", "hostname {node}"),
    "a name lost": Break(["every_node_is_in_the_hosts_file"], **edited("/etc/hosts", "grep -v rpiomega-master")),
    "cloud-init": Break(
        ["cloud_init_leaves_the_name_alone"],
        f"mv /etc/cloud {KEPT}/cloud; mkdir -p /etc/cloud/cloud.cfg.d; touch /etc/cloud/cloud.cfg",
        f"rm -r /etc/cloud; [ ! -e {KEPT}/cloud ] || mv {KEPT}/cloud /etc/cloud",
    ),
    "cmdline without a root in its first line": Break(
        ["the_kernel_command_line_has_a_root_and_the_memory_cgroup"],
        **edited("/boot/firmware/cmdline.txt", "sed 's/ root=/\\nroot=/'"),
    ),
    "cmdline without the cgroup": Break(
        ["the_kernel_command_line_has_a_root_and_the_memory_cgroup"],
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
    "no bound for the clock": Break(
        ["the_boot_waits_for_the_clock_and_not_for_ever"],
        **gone("/etc/systemd/system/systemd-time-wait-sync.service.d/rpiomega.conf", "systemctl daemon-reload"),
    ),
    "other time servers": Break(
        ["the_clock_follows_the_sites_servers"], site={"time": {"servers": ["ntp.example.com"]}}
    ),
    "clock not synchronised": Break(
        ["the_clock_is_synchronised"],
        f"{BOARD}; {FAKE} timedatectl",
        f"{NO_BOARD}; {REAL} timedatectl",
        without=True,
    ),
    "ntpd with servers": Break(
        ["the_clock_is_kept_after_every_boot", "the_clock_follows_the_sites_servers"],
        f"[ ! -e /usr/sbin/chronyd ] || mv /usr/sbin/chronyd {KEPT}/chronyd; touch /usr/sbin/ntpd",
        f"rm /usr/sbin/ntpd; [ ! -e {KEPT}/chronyd ] || mv {KEPT}/chronyd /usr/sbin/chronyd",
        site={"time": {"servers": ["ntp.example.com"]}},
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
    "compressed memory left for the next boot": Break(
        ["compressed_memory_is_set_up_for_the_next_boot_only_if_the_site_wants_it"],
        f"echo '# Written by rpiomega' > {ZRAM}",
        f"rm {ZRAM}",
    ),
    "no compressed memory at the next boot": Break(
        ["compressed_memory_is_set_up_for_the_next_boot_only_if_the_site_wants_it"], site={"system": {"swap": "zram"}}
    ),
    "journal elsewhere": Break(["the_journal_is_written_where_the_site_says"], site={"journal": "other storage"}),
    "journal without that limit": Break(
        ["the_journal_takes_no_more_than_the_site_allows"], site={"journal": {"max_use": "7M"}}
    ),
    "no updates": Break(
        [
            "updates_come_from_security_archives_only",
            "nothing_reboots_on_its_own_terms",
            "updates_run_at_the_nodes_own_time",
        ],
        site={"upgrades": {"security": True}},
    ),
    "anybody's updates of Docker": Break(["docker_and_salt_are_held_out"], **gone(UPDATES)),
    "updates that go on": Break(
        ["updates_that_the_site_took_away_are_off"],
        f"cp -p {UPDATES} {KEPT}/updates; echo '{PERIODIC} \"0\";' >> {UPDATES}; echo '{PERIODIC} \"1\";' > {LATER}",
        f"mv {KEPT}/updates {UPDATES}; rm {LATER}",
        without=True,
    ),
    "updates left on": Break(
        ["updates_that_the_site_took_away_are_off"],
        f"cp -p {UPDATES} {KEPT}/updates; echo '{PERIODIC} \"1\";' >> {UPDATES}",
        f"mv {KEPT}/updates {UPDATES}",
        without=True,
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
    "source for all keys": Break(
        ["the_source_is_the_sites_and_trusted_for_its_key_alone"],
        **edited("/etc/apt/sources.list.d/docker.sources", "grep -v Signed-By"),
    ),
    "another key pinned": Break(
        ["the_source_is_the_sites_and_trusted_for_its_key_alone"],
        site={"docker": {"repository": {"fingerprint": "0" * 40}}},
    ),
    "another version": Break(
        ["the_engine_has_the_sites_version_and_is_held_at_it"], site={"docker": {"version": "19.03"}}
    ),
    "the version not held": Break(
        ["the_engine_has_the_sites_version_and_is_held_at_it"], site={"docker": "version that is there"}
    ),
    "data elsewhere": Break(["the_data_is_on_the_sites_disk"], site={"docker": {"data_root": "/mnt/disk"}}),
    "a disk left to wait for": Break(
        ["the_data_is_on_the_sites_disk"],
        f"mkdir -p {DROP_IN} && touch {DROP_IN}/rpiomega-data-root.conf",
        f"rm {DROP_IN}/rpiomega-data-root.conf",
    ),
    "other mirrors": Break(
        ["the_engine_asks_the_sites_mirrors"], site={"docker": {"mirrors": ["http://mirror.example"]}}
    ),
    "a registry without certificate": Break(
        ["only_the_sites_registries_need_no_certificate"],
        site={"docker": {"insecure_registries": ["registry.example:5000", "10.9.0.0/16"]}},
    ),
    "docker stopped": Break(
        ["docker_runs_at_every_boot", "the_running_engine_has_read_its_settings", "the_node_is_active_in_its_role"],
        "systemctl stop docker.socket docker",
        "systemctl start docker",
    ),
    "docker without a wait for the clock": Break(
        ["docker_starts_after_the_clock_is_set"], **gone(f"{DROP_IN}/rpiomega-clock.conf", "systemctl daemon-reload")
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
    "an account missing": Break(["the_account_is_roots_secret_and_only_where_the_site_gives_one"], site=GIVEN),
    "an account for all to read": Break(
        ["the_account_is_roots_secret_and_only_where_the_site_gives_one"],
        "install -m 644 /dev/null /etc/rpiomega/b2.env",
        "rm /etc/rpiomega/b2.env",
        site=GIVEN,
    ),
    "no account of the owner": Break(["the_owners_command_has_the_account_closed_to_others"], site=GIVEN),
    "another account of the owner": Break(
        ["the_owners_command_has_the_account_closed_to_others"],
        f"{OWNERS_ACCOUNT}; echo B2_APPLICATION_KEY_ID=2 > /etc/rpiomega/b2.env",
        "rm ~pi/.b2_account_info /etc/rpiomega/b2.env",
        site=GIVEN,
    ),
    "an account of the owner for all to read": Break(
        ["the_owners_command_has_the_account_closed_to_others"],
        f"{OWNERS_ACCOUNT}; chmod 644 ~pi/.b2_account_info",
        "rm ~pi/.b2_account_info",
        site=GIVEN,
    ),
    "no restic": Break(["restic_is_new_enough"], site=SAVED),
    "secrets of backups left": Break(
        ["the_secrets_of_backups_are_roots_and_only_where_the_site_has_a_bucket"],
        "mkdir -p /etc/rpiomega/backup; touch /etc/rpiomega/backup/password",
        "rm -r /etc/rpiomega/backup",
    ),
    "secrets of backups missing": Break(
        ["the_secrets_of_backups_are_roots_and_only_where_the_site_has_a_bucket"], site=SAVED
    ),
    "no timers of backups": Break(["the_timers_of_backups_run_at_the_sites_times"], site=SAVED),
    "never saved": Break(["the_newest_backup_is_not_overdue"], site=SAVED),
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
        f" && {CONSUL} acl token update {ANONYMOUS} -merge-policies -policy-name red",
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
