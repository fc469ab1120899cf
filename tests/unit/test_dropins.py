"""Files of an earlier use of a board that overrule ours: found by the programs' own readers, named or moved away."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from omega.core import dropin
from rpiomega.node import dropin_salt, dropin_sshd, salt_onedir, service
from rpiomega.node.board import Board
from rpiomega.node.doctor import identity
from rpiomega.node.files import File
from rpiomega.node.job_steps import Repository
from rpiomega.node.step import StepError
from rpiomega.node.steps import sshd
from rpiomega.node.steps.master import Master
from rpiomega.node.steps.minion import CONF, Minion
from rpiomega.node.steps.sources import Sources

FINGER = ":".join(["ab"] * 32)
MINION = {"id": "pi1", "master": "192.168.1.10", "master_finger": FINGER, "kind": "onedir"}
# What Salt's own reader is asked for afterwards.
READ = "import sys, salt.config as c; o = c.minion_config(sys.argv[1]); print(*[o[k] for k in sys.argv[2:]])"


@pytest.fixture
def board(tmp_path):
    """A board's folder, with the Python that runs Salt where the packages have it."""
    board = Board(str(tmp_path))
    put(board, salt_onedir.PYTHON, f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    os.chmod(board.path(salt_onedir.PYTHON), 0o755)
    put(board, "/etc/salt/minion", "# all comments\n")
    return board


def put(board, path, text):
    """Write a file of the board."""
    Path(board.path(path)).parent.mkdir(parents=True, exist_ok=True)
    Path(board.path(path)).write_text(text, encoding="utf-8")


def configured(board):
    """Run the step's part without systemd; return its notes."""
    step = Minion(board, MINION)
    step.check()
    step.board.shell.must = lambda *args, **options: None
    board.wait = lambda *args: None
    (Path(board.root) / "var/lib/rpiomega").mkdir(parents=True, exist_ok=True)
    with pytest.MonkeyPatch.context() as once:
        once.setattr(service, "ensure", lambda *args: None)
        step.apply()
    step.check()
    return step.notes


def salt_says(board, *keys):
    """Give what Salt reads of the whole configuration."""
    command = [sys.executable, "-W", "ignore", "-c", READ, board.path("/etc/salt/minion"), *keys]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout.split()


@pytest.mark.parametrize(
    "name, text",
    [
        ("zz-old.conf", "master: 10.9.9.9\n"),
        ("salt.conf", "master:\n  - 10.9.9.8\n  - 10.9.9.9\nmaster_type: failover\n"),
        ("zz-masterless.conf", "file_client: local\nfile_roots: {base: [/srv/salt]}\n"),
        ("zz-id.conf", "id: another\n"),
        ("zz-finger.conf", "  master_finger: 'cd:cd'\n  hash_type: md5\n"),
    ],
)
def test_a_minions_leftover_is_moved_away_and_kept(board, name, text):
    path = f"/etc/salt/minion.d/{name}"
    put(board, path, text)
    put(board, "/etc/salt/minion.d/zz-mine.conf", "grains: {rack: attic}\n")
    assert f"move {path} away: it is left from another use of this board" in Minion(board, MINION).check().lines
    notes = configured(board)
    assert salt_says(board, "id", "master", "file_client", "master_finger", "master_type", "hash_type") == [
        "pi1",
        "192.168.1.10",
        "remote",
        FINGER,
        "str",
        "sha256",
    ]
    assert board.read(f"{path}.before-rpiomega") == text
    assert [note for note in notes if path in note]
    assert board.read("/etc/salt/minion.d/zz-mine.conf"), "a file that overrules nothing stays"
    assert not any("move" in line for line in Minion(board, MINION).check().lines)


def test_what_is_read_before_ours_stays_and_has_no_effect(board):
    main = "master: 10.9.9.9\nmaster_type: failover\nhash_type: md5\nfile_client: local\nappend_domain: lan\n"
    put(board, "/etc/salt/minion", f"{main}verify_master_pubkey_sign: True\n")
    put(board, "/etc/salt/minion.d/masterless.conf", "file_client: local\n")
    put(board, "/etc/salt/minion_id", "another\n")
    configured(board)
    said = salt_says(board, "id", "file_client", "master", "hash_type", "verify_master_pubkey_sign")
    assert said == ["pi1", "remote", "192.168.1.10", "sha256", "False"]
    assert board.read("/etc/salt/minion.d/masterless.conf")


@pytest.mark.parametrize(
    "path, text",
    [
        ("/etc/salt/minion.d/zz-mixed.conf", "master: 10.9.9.9\ngrains: {rack: attic}\n"),
        ("/etc/salt/extra/a.conf", "master: 10.9.9.9\n"),
    ],
)
def test_what_is_not_only_a_leftover_is_named_and_stays(board, path, text):
    put(board, path, text)
    put(board, "/etc/salt/minion", "include: extra/*.conf\n")
    with pytest.raises(StepError) as refused:
        Minion(board, MINION).check()
    assert f"master of {CONF} is not in force: it is 10.9.9.9 instead of 192.168.1.10 ({path} sets it)" in str(
        refused.value
    )
    assert f"take master out of {path}" in refused.value.cure
    assert board.read(path) == text


@pytest.mark.parametrize("value", ["conf.d/*.conf", "minion.d/[a-f]*.conf"])
def test_a_folder_that_salt_does_not_read_is_named(board, value):
    put(board, "/etc/salt/minion", f"default_include: {value}\n")
    with pytest.raises(StepError, match="Salt does not read /etc/salt/minion.d/.*: default_include in /etc/salt/minio"):
        Minion(board, MINION).check()


def test_a_file_that_salt_cannot_read_is_named(board):
    put(board, "/etc/salt/minion.d/a.conf", "master: [1\n")
    with pytest.raises(StepError, match=r"^Salt cannot read /etc/salt/minion.d/a.conf: "):
        Minion(board, MINION).check()


def test_two_leftovers_of_one_name_are_both_kept(board):
    put(board, "/etc/salt/minion.d/zz.conf.before-rpiomega", "first\n")
    put(board, "/etc/salt/minion.d/zz.conf", "second\n")
    assert dropin_salt.retire(board, "/etc/salt/minion.d/zz.conf") == "/etc/salt/minion.d/zz.conf.before-rpiomega-2"
    assert board.read("/etc/salt/minion.d/zz.conf.before-rpiomega") == "first\n"


@pytest.mark.parametrize(
    "path, text, key",
    [
        ("/etc/salt/master.d/a.conf", "file_roots: {base: [/srv/salt]}\n", "file_roots"),
        ("/etc/salt/master.d/zz.conf", "ret_port: 4606\n", "ret_port"),
        ("/etc/salt/master", "fileserver_backend: [gitfs]\n", "fileserver_backend"),
    ],
)
def test_a_masters_setting_that_hides_the_formula_is_named(board, path, text, key):
    put(board, path, text)
    with pytest.raises(StepError) as refused:
        Master(board, {"kind": "onedir"}).check()
    assert key in refused.value.cause and path in refused.value.cause and path in refused.value.cure


def test_a_masters_folders_behind_ours_and_other_settings_stay(board):
    put(board, "/etc/salt/master.d/zz.conf", "file_roots: {base: [/srv/salt]}\nworker_threads: 9\n")
    put(board, "/etc/salt/master", "file_roots: {base: [/srv/other]}\nfileserver_backend: [gitfs, roots]\n")
    Master(board, {"kind": "onedir"}).check()


def test_a_unit_and_links_of_salt_from_pip_go_when_the_packages_come(board):
    unit, link = "/etc/systemd/system/salt-minion.service", board.path("/usr/local/bin/salt-call")
    put(board, unit, service.unit_text("Salt minion", "salt-minion"))
    os.makedirs(os.path.dirname(link))
    os.symlink("/opt/rpiomega/salt/bin/salt-call", link)
    assert f"remove {unit}" in Minion(board, MINION).check().lines
    repository = {"uri": "http://salt", "key_url": "http://salt/key", "fingerprint": "AB"}
    lines = salt_onedir.Onedir(board, "3008", False, Repository(**repository)).check().lines
    assert "remove the link /usr/local/bin/salt-call: it leads to another installation of Salt" in lines
    put(board, unit, "[Service]\nExecStart=/usr/bin/salt-minion\n")
    assert f"remove {unit}" not in Minion(board, MINION).check().lines, "the owner's"


# -- apt and systemd's files -------------------------------------------------------------------------------


def lost(board, path):
    """Give (key, value in force, file that sets it) of what a file of ours lacks."""
    return [(item.key, item.value, item.file) for item in dropin.lost(path, board.ask, board.root)]


@pytest.mark.parametrize("path", ["/etc/apt/apt.conf", "/etc/apt/apt.conf.d/99proxy", "/etc/apt/apt.conf.d/90a.conf"])
def test_a_proxy_that_overrules_the_sites_is_named(board, path):
    put(board, path, 'Acquire { http { Proxy "http://old:3142"; }; };\n')
    put(board, "/etc/apt/apt.conf.d/99proxy.bak", 'Acquire::http::Proxy "http://unread:1";\n')
    step = Sources(board, {"apt_proxy": "http://cache:3142"})
    assert step.check()
    step.apply()
    with pytest.raises(StepError) as refused:
        step.verify()
    assert f"it is http://old:3142 instead of http://cache:3142 ({path} sets it)" in refused.value.cause
    os.unlink(board.path(path))
    step.verify()


def test_apts_lists_are_compared_item_by_item(board):
    path = "/etc/apt/apt.conf.d/60rpiomega-upgrades"
    put(board, path, 'APT::Periodic::Unattended-Upgrade "1";\nUnattended-Upgrade::Package-Blacklist { "salt-"; };\n')
    put(board, "/etc/apt/apt.conf.d/50unattended-upgrades", 'Unattended-Upgrade::Package-Blacklist { "vim"; };\n')
    assert lost(board, path) == []
    put(board, "/etc/apt/apt.conf.d/99mine", "#clear Unattended-Upgrade::Package-Blacklist;\n")
    assert lost(board, path) == [("Unattended-Upgrade::Package-Blacklist::", "", "/etc/apt/apt.conf.d/99mine")]


@pytest.mark.parametrize("folder", ["etc", "run", "usr/lib"])
def test_a_later_file_of_systemd_is_named(board, folder):
    path = "/etc/systemd/journald.conf.d/zz-rpiomega.conf"
    put(board, "/etc/systemd/journald.conf", "[Journal]\nStorage=none\n")
    put(board, path, "# Written by rpiomega\n[Journal]\nStorage=persistent\nSystemMaxUse=50M\n")
    put(board, "/etc/systemd/journald.conf.d/40-rpi.conf", "[Journal]\nStorage=volatile\n")
    assert lost(board, path) == []
    later = f"/{folder}/systemd/journald.conf.d/zzz.conf"
    put(
        board,
        later,
        "# /etc/systemd/journald.conf is the main file\n[Journal]\n  Storage = volatile\n;SystemMaxUse=1\n",
    )
    assert lost(board, path) == [("Storage", "volatile", later)]
    os.makedirs(board.path("/etc/systemd/journald.conf.d"), exist_ok=True)
    put(board, later, "[Journal]\nSystemMaxUse=\n")
    assert lost(board, path) == [("SystemMaxUse", "", later)]


def test_time_servers_add_up_unless_a_file_begins_the_list_again(board):
    path = "/etc/systemd/timesyncd.conf.d/zz-rpiomega.conf"
    put(board, "/etc/systemd/timesyncd.conf", "[Time]\n")
    put(board, path, "[Time]\nNTP=10.0.0.1 10.0.0.2\n")
    put(board, "/etc/systemd/timesyncd.conf.d/zzz.conf", "[Time]\nNTP=10.0.0.9\n")
    assert lost(board, path) == []
    put(board, "/etc/systemd/timesyncd.conf.d/zzz.conf", "[Time]\nNTP=\nNTP=10.0.0.9\n")
    assert lost(board, path) == [("NTP", "10.0.0.9", "/etc/systemd/timesyncd.conf.d/zzz.conf")]


def test_chronys_folder_counts_where_its_main_file_names_it(board):
    path = "/etc/chrony/sources.d/rpiomega.sources"
    put(board, path, "server 10.0.0.1 iburst\n")
    put(board, "/etc/chrony/chrony.conf", "# sourcedir /etc/chrony/sources.d\npool 2.debian.pool.ntp.org iburst\n")
    assert lost(board, path) == [("sourcedir /etc/chrony/sources.d", "", "/etc/chrony/chrony.conf")]
    put(board, "/etc/chrony/chrony.conf", "  SourceDir /etc/chrony/sources.d\n")
    assert lost(board, path) == []


# -- sshd --------------------------------------------------------------------------------------------------

WANTED = dict(line.split(" ", 1) for line in sshd.TEXT.splitlines() if not line.startswith("#"))


@pytest.fixture
def ssh(tmp_path):
    """A configuration of sshd with our file in its folder; give (main file, our file, function to write another)."""
    folder = tmp_path / "ssh"
    (folder / "sshd_config.d").mkdir(parents=True)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / "host"], check=True)
    main, ours = folder / "sshd_config", folder / "sshd_config.d/10-rpiomega.conf"
    main.write_text(f'  include "{folder}/sshd_config.d/*.conf"\nHostKey {folder}/host\nUsePAM no\n')
    ours.write_text(sshd.TEXT)

    def write(name, text):
        (folder / name).write_text(text)
        return folder / name

    return main, ours, write


def overruled(ssh, user="root"):
    """Ask the real sshd."""
    main, ours, _ = ssh
    Path("/run/sshd").mkdir(exist_ok=True)
    return [
        (item.key, item.value, item.file) for item in dropin_sshd.lost(str(main), str(ours), Board().ask, user, WANTED)
    ]


def test_an_sshd_with_our_file_alone_has_its_settings_in_force(ssh):
    assert overruled(ssh) == []
    ssh[2]("sshd_config.d/50-cloud-init.conf", "PasswordAuthentication yes\n")
    assert overruled(ssh) == [], "sshd takes the first value"
    assert dropin_sshd.includes(str(ssh[0]), str(ssh[1].parent))


def test_a_file_before_ours_is_named(ssh):
    file = ssh[2]("sshd_config.d/05-old.conf", "# PasswordAuthentication yes\n  passwordauthentication=yes\n")
    assert overruled(ssh) == [("PasswordAuthentication", "yes", f"{file} line 2")]


@pytest.mark.parametrize(
    "match",
    ["User root", "User ro*,!backup", "Address 192.168.1.0/24", "Group root", "all", "LocalPort 22", "Host *.lan"],
)
def test_a_match_block_is_named(ssh, match):
    file = ssh[2]("sshd_config.d/60-nas.conf", f"X11Forwarding no\nMatch {match}\n\tPasswordAuthentication yes\n")
    assert overruled(ssh) == [("PasswordAuthentication", "yes", f"{file} line 3 (Match {match})")]


def test_a_match_block_for_somebody_else_is_found_at_the_end_of_the_main_file(ssh):
    main = ssh[0]
    main.write_text(f"{main.read_text()}Match User backup Address 10.0.0.0/8\n  KbdInteractiveAuthentication yes\n")
    assert overruled(ssh, "pi") == [
        ("KbdInteractiveAuthentication", "yes", f"{main} line 5 (Match User backup Address 10.0.0.0/8)")
    ]


def test_an_include_inside_of_a_match_block_is_not_for_all(ssh):
    main = ssh[0]
    main.write_text(f"Match User backup\n{main.read_text()}")
    assert not dropin_sshd.includes(str(main), str(ssh[1].parent))


def test_a_file_of_ours_that_is_absent_is_lost_nowhere(board):
    assert lost(board, "/etc/apt/apt.conf.d/80rpiomega-proxy") == []
    assert not File("/etc/nothing", None).diff(board)


# -- the doctor --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text, wanted",
    [
        ("  master: 10.9.9.9  # old\n  id: a\n", {"master": "10.9.9.9", "id": "a"}),
        (
            "master:\n  - 10.9.9.8\n  - '10.9.9.9'\nfile_client: local\n",
            {"master": "10.9.9.8, 10.9.9.9", "file_client": "local"},
        ),
        ("---\nmaster:\n- 10.9.9.8\nid: 'b'\n", {"master": "10.9.9.8", "id": "b"}),
        ('"master": [m1, "m2"]\n', {"master": "m1, m2"}),
        ("#master: salt\ngrains:\n  id: inner\n  master: inner\n", {}),
    ],
)
def test_the_doctor_reads_a_minions_file_as_salt_does(text, wanted):
    assert identity.settings(text) == wanted
    loaded = yaml.safe_load(text)
    assert {key: loaded.get(key) for key in wanted} == {
        key: value.split(", ") if isinstance(loaded[key], list) else value for key, value in wanted.items()
    }
