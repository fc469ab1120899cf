"""Backups, from `backup init` to a restored volume: three virtual Pis and the lab's stand-in for Backblaze B2."""

import io
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from b2sdk.v3 import B2Api, InMemoryAccountInfo

from rpiomega.lab import archives, b2_container, remote

pytestmark = pytest.mark.long

BUCKET = "lab-backup"
STATE = "/var/lib/rpiomega/backup/state.json"
SEARCH = Path(__file__).parents[1] / "faults" / "secrets_search.py"
WRITER = "while :; do date +%s > /data/new; mv /data/new /data/a; done"
# Where the secrets of backups belong; everywhere else they are leaks.
PLACES = ("/etc/rpiomega/backup/", "/etc/rpiomega/secrets/backup/", "/var/cache/salt/master/pillar/")
FOLDERS = ("/etc", "/var", "/run", "/srv", "/tmp", "/home", "/root", "/opt/rpiomega")


def prepare(lab):
    """Add backups to a lab's site file."""
    content = yaml.safe_load(lab.site_file.read_text())
    content["rpiomega"]["b2"] = {"endpoint": b2_container.endpoint(lab)}
    content["rpiomega"]["backup"] = {"bucket": BUCKET, "volumes": {"cache": "no"}}
    lab.site_file.write_text(yaml.safe_dump(content, sort_keys=False))


class Backups:
    """A cluster whose site file has backups, and what docs/backup.md types."""

    def __init__(self, cluster):
        self.lab, self.master, self.bootstrap = cluster.lab, cluster.master, cluster.bootstrap
        self.rpiomega, self.apply, self.on_master = cluster.rpiomega, cluster.apply, cluster.on_master

    def must(self, *arguments, bound=600):
        """Run `rpiomega ARGUMENTS`, which has to succeed; return what it printed."""
        done = self.rpiomega(*arguments, bound=bound)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def status(self):
        """Return what `rpiomega backup status --json` says."""
        return json.loads(self.rpiomega("backup", "status", "--json").stdout)

    def on(self, node, command, bound=120, check=True):
        """Run a command on a node as root, return its output."""
        return remote.run(self.lab, node, f"sudo sh -c {remote.quote(command)}", bound, check)

    def state(self, node):
        """Return a node's state.json."""
        return json.loads(self.on(node, f"cat {STATE}"))


@pytest.fixture(scope="module")
def backups(make_cluster):
    """A cluster after init and the first apply, with something to save on its second node."""
    made = Backups(make_cluster("backup", 3, prepare, b2=True))
    assert made.bootstrap.returncode == 0, made.bootstrap.stdout + made.bootstrap.stderr
    made.must("accept")
    made.must("backup", "init", "--admin-key-file", str(made.lab.folder / "b2-admin"))
    made.first = made.apply("first apply")
    made.node = made.lab.node_names()[1]
    archive = next(made.lab.folder.glob(f"{archives.SMOKE.replace('/', '-').replace(':', '-')}-*"))
    remote.send(made.lab, made.node, archive, "/tmp/image.tar.gz")
    made.on(made.node, "docker load -q -i /tmp/image.tar.gz && rm /tmp/image.tar.gz")
    run = f"docker run -d --restart unless-stopped {{}} {archives.SMOKE} sh -c"
    made.on(made.node, f"{run.format('--name writer -v notes:/data')} '{WRITER}'")
    made.on(made.node, f"{run.format('--name cacher -v cache:/data')} 'echo old > /data/x; sleep 1000000'")
    dump = "--name db -v db_data:/data -l rpiomega.backup=dump -l rpiomega.backup.dump='cat /data/rows; sleep 20'"
    made.on(made.node, f"{run.format(dump)} 'echo rows > /data/rows; sleep 1000000'")
    made.on(made.node, "echo first > /home/pi/notes.txt; chown pi: /home/pi/notes.txt; chmod 640 /home/pi/notes.txt")
    return made


@pytest.fixture(scope="module")
def saved(backups):
    """The cluster after its first `rpiomega backup now`; `now` is its JSON."""
    backups.now = json.loads(backups.must("backup", "now", "--json", bound=900))
    return backups


def test_init_and_apply_succeed_and_change_nothing_when_they_are_run_again(backups):
    wrong = {
        node: [f"{key}: {state['comment']}" for key, state in states.items() if state.get("result") is not True]
        for node, states in backups.first.items()
    }
    assert wrong == dict.fromkeys(backups.lab.node_names(), [])
    again = backups.must("backup", "init", "--admin-key-file", str(backups.lab.folder / "b2-admin"))
    assert "nothing to do" in again
    second = backups.apply("second apply")
    changed = {node: [key for key, state in states.items() if state.get("changes")] for node, states in second.items()}
    assert changed == dict.fromkeys(backups.lab.node_names(), [])


def test_before_the_first_run_every_node_is_reported_and_its_timer_is_set(backups):
    done = backups.rpiomega("backup", "status", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 1
    assert {one["node"] for one in found["findings"] if one["check"] == "backup-never"} == {*backups.lab.node_names()}
    assert not [one for one in found["findings"] if one["check"] == "backup-timer"]
    for node in found["nodes"].values():
        assert 0 < node["next"] - time.time() < 26 * 3600


def test_a_timer_starts_a_run_while_the_salt_master_is_stopped(backups, wait):
    node, drop_in = backups.node, "/run/systemd/system/rpiomega-backup.timer.d"
    soon = "[Timer]\\nOnCalendar=\\nOnCalendar=*:*:0/20\\nRandomizedDelaySec=0\\n"
    backups.on_master("sudo systemctl stop salt-master")
    try:
        backups.on(node, f"mkdir -p {drop_in} && printf '{soon}' > {drop_in}/soon.conf && systemctl daemon-reload")
        backups.on(node, "systemctl restart rpiomega-backup.timer")
        wait(f"the timer of {node}", 300, lambda: backups.status()["nodes"][node]["success"])
    finally:
        backups.on(node, f"rm -r {drop_in} && systemctl daemon-reload && systemctl restart rpiomega-backup.timer")
        backups.on_master("sudo systemctl start salt-master")
    wait("the run's end", 300, lambda: not backups.status()["nodes"][node]["running"])


def test_now_saves_every_group_of_every_node(saved):
    results = saved.now["results"]
    assert set(results) == {*saved.lab.node_names()}
    master = {group["name"] for group in results[saved.master]["groups"]}
    assert master >= {"files", "swarm", "consul", "salt"}
    mine = {group["name"]: group for group in results[saved.node]["groups"]}
    assert set(mine) >= {"files", "swarm", "volume:notes", "volume:db_data"}
    assert {name: group["cause"] for name, group in mine.items() if not group["ok"]} == {}
    assert (mine["volume:notes"]["mode"], mine["volume:db_data"]["mode"]) == ("pause", "dump")
    assert 0 < mine["volume:notes"]["paused_seconds"] < 5
    assert {"name": "volume:cache", "why": "not to be saved (`no`)"} in results[saved.node]["skipped"]
    assert saved.on(saved.node, "docker inspect -f '{{.State.Paused}}' writer") == "false"


def test_status_is_no_error_then_and_has_its_columns(saved):
    done = saved.rpiomega("backup", "status", "--json")
    found = json.loads(done.stdout)
    assert done.returncode == 0, found["findings"]
    assert {one["check"] for one in found["findings"]} <= {"drill-never", "backup-kit"}
    header, *rows = saved.must("status").splitlines()
    assert header.split()[-2:] == ["BACKUP", "PROVEN"]
    assert all(" min" in row for row in rows[:3])


def test_list_shows_the_snapshots_of_a_volume_up_to_a_moment(saved):
    shown = json.loads(saved.must("backup", "list", "--volume", "notes", "--json"))
    assert shown[saved.master] == []
    mine = shown[saved.node]
    assert {one["group"] for one in mine} == {"volume:notes"}
    at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(mine[0]["time"] + 1))
    before = json.loads(saved.must("backup", "list", saved.node, "--at", at, "--json"))[saved.node]
    assert mine[0]["id"] in {one["id"] for one in before}
    assert json.loads(saved.must("backup", "list", saved.node, "--at", "2020-01-01", "--json"))[saved.node] == []


def test_a_run_goes_on_without_the_command_that_started_it_and_another_follows_it(saved, wait):
    before = saved.state(saved.node)["last"]["id"]
    line = [sys.executable, "-m", "rpiomega", "backup", "now", saved.node, "--site", str(saved.lab.site_file)]
    process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait("the run to begin", 120, lambda: saved.status()["nodes"][saved.node]["running"] == "backup")
    process.kill()
    process.wait(timeout=30)
    done = saved.rpiomega("backup", "now", saved.node, bound=300)
    assert done.returncode == 0, done.stdout
    assert "a backup was running already" in done.stdout
    assert saved.state(saved.node)["last"]["id"] != before


def test_a_file_and_a_folder_come_back_as_they_were(saved):
    saved.on(saved.node, "echo broken > /home/pi/notes.txt; chmod 600 /home/pi/notes.txt")
    saved.must("restore", "file", f"{saved.node}:/home/pi/notes.txt", "--yes")
    assert saved.on(saved.node, "cat /home/pi/notes.txt; stat -c '%U %a' /home/pi/notes.txt") == "first\npi 640"
    assert "broken" in saved.on(saved.node, "cat /home/pi/notes.txt.before-restore-*")
    saved.must("restore", "file", f"{saved.node}:/home/pi", "--to", "/tmp/before", "--yes")
    assert "first" in saved.on(saved.node, "grep -rh . /tmp/before --include=notes.txt")


def test_a_volume_comes_back_whole_and_its_containers_go_on(saved, wait):
    refused = saved.rpiomega("restore", "volume", "notes", "--yes")
    assert refused.returncode == 1
    assert "writer" in refused.stdout + refused.stderr
    saved.on(saved.node, "docker stop -t 1 writer")
    saved.must("restore", "volume", "notes", "--yes")
    folder = "/var/lib/docker/volumes/notes/_data"
    assert int(saved.on(saved.node, f"cat {folder}/a")) <= saved.state(saved.node)["last"]["ended"]
    saved.on(saved.node, "docker start writer")
    last = saved.on(saved.node, f"cat {folder}/a")
    wait("the writer to write again", 60, lambda: saved.on(saved.node, f"cat {folder}/a") != last)


def test_the_kit_opens_every_repository(saved, tmp_path):
    kit = tmp_path / "kit.txt"
    saved.must("backup", "kit", "--out", str(kit))
    assert kit.stat().st_mode & 0o777 == 0o600
    checked = saved.must("backup", "kit", "--check", str(kit))
    assert all(f"{node}: opens" in checked for node in saved.lab.node_names())
    assert not [one for one in saved.status()["findings"] if one["check"] == "backup-kit"]


def test_a_drill_proves_every_node(saved):
    shown = saved.must("backup", "drill", bound=900)
    assert all(f"{node}: proven" in shown for node in saved.lab.node_names())
    assert not [one for one in saved.status()["findings"] if one["check"].startswith("drill")]


def test_no_secret_is_where_it_does_not_belong(saved):
    """Searched by value: files, job cache, journal; argv and environment while a run and a drill work."""
    secrets = _secrets(saved)
    text = json.dumps(secrets)
    for what in ("now", "drill"):
        line = [sys.executable, "-m", "rpiomega", "backup", what, "--site", str(saved.lab.site_file)]
        process = subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        looks = 0
        while process.poll() is None:
            found = [hit for node in saved.lab.node_names() for hit in _search(saved, node, text, "environ")]
            assert found == []
            looks += 1
        assert looks > 2
    for node in saved.lab.node_names():
        hits = _search(saved, node, text, *FOLDERS, "journal")
        assert [hit for hit in hits if not hit[1].startswith(PLACES)] == []
        assert [hit for hit in hits if hit[2]] == []


def test_a_flipped_byte_in_the_bucket_turns_the_drill_red(saved):
    """Last of all: the damage stays."""
    _flip(saved, f"hosts/{saved.node}/data/")
    done = saved.rpiomega("backup", "drill", saved.node, bound=900)
    assert done.returncode == 1, done.stdout
    red = saved.rpiomega("backup", "status", "--json")
    checks = {(one["node"], one["check"]): one for one in json.loads(red.stdout)["findings"]}
    assert red.returncode == 1
    assert checks[saved.node, "drill-failed"]["severity"] == "error"
    assert saved.rpiomega("status").returncode == 1


def _secrets(cluster):
    """Return name -> [value] of the master's secrets of backups, without what is no secret (IDs, addresses)."""
    folder = "/etc/rpiomega/secrets/backup"
    found = {}
    for path in cluster.on(cluster.master, f"find {folder} -type f ! -name '*.json'").split():
        content = cluster.on(cluster.master, f"cat {path}")
        fields = dict(line.split(": ", 1) for line in content.splitlines() if ": " in line)
        found[path.removeprefix(folder)] = [fields.get("key", content.strip()).strip("\"'")]
    assert len(found) >= 3 + 2 * len(cluster.lab.node_names()), sorted(found)
    assert min(len(value[0]) for value in found.values()) > 20
    return found


def _search(cluster, node, secrets, *places):
    remote.send(cluster.lab, node, SEARCH, "/tmp/secrets_search.py")
    line = remote.argv(cluster.lab, node, f"sudo nice -n 19 python3 /tmp/secrets_search.py {' '.join(places)}")
    done = subprocess.run(line, input=secrets, capture_output=True, text=True, timeout=300, check=True)
    return json.loads(done.stdout)


def _flip(cluster, prefix):
    """Change one byte in the middle of every pack, as a damaged store would."""
    key = dict(line.split(": ") for line in (cluster.lab.folder / "b2-admin").read_text().splitlines())
    api = B2Api(InMemoryAccountInfo())
    api.authorize_account(key["key_id"].strip('"'), key["key"].strip('"'), realm=b2_container.endpoint(cluster.lab))
    bucket = api.get_bucket_by_name(BUCKET)
    for version, _ in list(bucket.ls(prefix, recursive=True)):
        content = bytearray(_content(bucket, version.file_name))
        content[len(content) // 2] ^= 1
        bucket.upload_bytes(bytes(content), version.file_name)


def _content(bucket, name):
    target = io.BytesIO()
    bucket.download_file_by_name(name).save(target)
    return target.getvalue()
