"""What a run saves, leaves out and refuses: decisions from facts, without an engine."""

import pytest

from omega.backup import manifest
from omega.backup.facts import Container, Facts, Path, Volume
from omega.backup.plan import plan
from omega.backup.restic_errors import Patience, judge, late
from omega.backup.settings import Settings

FOLDER = Path("folder")


def volume(name, **more):
    return Volume(name, path=f"/docker/volumes/{name}/_data", **more)


def container(name, *volumes, status="running", **labels):
    marks = {f"rpiomega.backup{key and '.' + key}": value for key, value in labels.get("labels", {}).items()}
    return Container(name * 8, name, status, labels=marks, volumes=volumes, binds=labels.get("binds", ()))


def facts(volumes=(), containers=(), paths=None, **more):
    found = {"/home": FOLDER, "/etc": FOLDER, **{item.path: FOLDER for item in volumes}, **(paths or {})}
    more.setdefault("mounts", {"/": "ext4"})
    return Facts(tuple(volumes), tuple(containers), found, docker_root="/docker", **more)


def named(result):
    return {item.name: item for item in (*result.groups, *result.skipped, *result.failed)}


def modes(made, containers, **settings):
    result = plan(facts(made, containers), Settings("pi1", **settings))
    return {item.name: item.mode for item in (*result.groups, *result.failed) if item.name.startswith("volume:")}


# -- the mode of a volume -----------------------------------------------------------------------------------


def test_a_volume_without_a_label_is_paused():
    assert modes([volume("db")], [container("a", "db")]) == {"volume:db": "pause"}


def test_the_site_overrules_labels():
    user = container("a", "db", labels={"": "no"})
    assert modes([volume("db")], [user], volumes={"db": "hot"}) == {"volume:db": "hot"}


def test_of_several_containers_the_one_that_asks_for_most_counts():
    users = [container("a", "db", labels={"": "hot"}), container("b", "db", labels={"": "pause"})]
    assert modes([volume("db")], users) == {"volume:db": "pause"}


def test_no_counts_only_if_no_other_container_asks_for_a_backup():
    users = [container("a", "db", labels={"": "no"}), container("b", "db", labels={"": "hot"})]
    assert modes([volume("db")], users) == {"volume:db": "hot"}
    assert "no" in named(plan(facts([volume("db")], users[:1]), Settings("pi1")))["volume:db"].why


def test_the_volume_of_the_consul_agent_is_left_to_the_group_consul_unless_the_site_asks_for_it():
    agent = Container("c" * 8, "rpiomega-consul", "running", labels={"rpiomega.spec": "1"}, volumes=("kv",))
    here = facts([volume("kv")], [agent])
    assert "the group `consul` has it" in named(plan(here, Settings("pi1")))["volume:kv"].why
    assert named(plan(here, Settings("pi1", volumes={"kv": "hot"})))["volume:kv"].mode == "hot"
    shared = facts([volume("kv")], [agent, container("b", "kv")])
    assert named(plan(shared, Settings("pi1")))["volume:kv"].mode == "pause"


def test_a_mistake_in_a_label_is_reported_and_the_volume_is_saved():
    result = plan(facts([volume("db")], [container("a", "db", labels={"": "Pauze"})]), Settings("pi1"))
    group = named(result)["volume:db"]
    assert group.mode == "pause"
    assert "rpiomega.backup=Pauze of container a" in group.problem


def test_a_mistake_in_a_label_is_reported_in_one_line_also_beside_a_dump():
    labels = [{"": "dump", "dump": "pg_dumpall"}, {"": "du\x1b[31m\nmp" + "x" * 500}]
    users = [container(name, "db", labels=given) for name, given in zip("ab", labels)]
    group = named(plan(facts([volume("db")], users), Settings("pi1")))["volume:db"]
    assert (group.mode, group.problem.isprintable(), len(group.problem) < 200) == ("dump", True, True)
    assert "of container b is none of" in group.problem


def test_volumes_of_containers_that_share_some_are_one_group():
    volumes = [volume(name) for name in ("a", "b", "c", "d")]
    users = [container("x", "a", "b"), container("y", "b", "c"), container("z", "d")]
    result = plan(facts(volumes, users), Settings("pi1"))
    groups = {item.name: [one.name for one in item.volumes] for item in result.groups if item.volumes}
    assert groups == {"volume:a": ["a", "b", "c"], "volume:d": ["d"]}
    assert [item.name for item in named(result)["volume:a"].containers] == ["x", "y"]


# -- what is not here ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("made", "why"),
    [
        (volume("v", options={"type": "nfs", "device": ":/share", "o": "addr=10.0.0.1"}), "another machine (nfs)"),
        (volume("v", options={"type": "cifs", "device": "//nas/share"}), "another machine (cifs)"),
        (volume("v", options={"type": "tmpfs", "device": "tmpfs"}), "in memory"),
        (volume("v", driver="rclone"), "driver rclone"),
        (volume("v", options={"type": "ext4", "device": "/dev/sda1"}), "only while a container uses it"),
        (volume("0" * 64), "without a name"),
    ],
)
def test_a_volume_without_data_on_this_disk_is_skipped_with_the_reason(made, why):
    assert why in named(plan(facts([made]), Settings("pi1")))[f"volume:{made.name}"].why


def test_a_volume_bound_to_a_folder_is_read_there():
    made = volume("v", options={"type": "none", "o": "bind", "device": "/mnt/usb/data"})
    result = plan(facts([made], paths={"/mnt/usb/data": FOLDER}), Settings("pi1"))
    assert named(result)["volume:v"].paths == ("/mnt/usb/data",)
    lost = plan(facts([made]), Settings("pi1"))
    assert "/mnt/usb/data is missing" in named(lost)["volume:v"].cause


def test_a_volume_bound_to_a_folder_of_another_machine_is_skipped():
    made = volume("v", options={"type": "none", "o": "bind", "device": "/mnt/nas/data"})
    here = facts([made], paths={"/mnt/nas/data": FOLDER}, mounts={"/": "ext4", "/mnt/nas": "nfs4"})
    assert "another machine (nfs4)" in named(plan(here, Settings("pi1")))["volume:v"].why


def test_a_disk_of_fstab_that_is_not_mounted_fails_by_name():
    here = facts(paths={"/mnt/usb": Path("folder", empty=True)}, expected=("/", "/mnt/usb"))
    result = plan(here, Settings("pi1", paths=("/home", "/mnt/usb")))
    assert named(result)["files:/mnt/usb"].cause == "/etc/fstab mounts /mnt/usb, which is not mounted"
    assert named(result)["files"].paths == ("/home",)


def test_a_mount_below_a_saved_folder_is_saved_or_named():
    mounts = {"/": "ext4", "/home/pi/nas": "fuse.sshfs", "/home/pi/usb": "ext4", "/home/pi/.cache": "tmpfs"}
    result = plan(facts(mounts=mounts), Settings("pi1", paths=("/home",)))
    assert {item.name for item in result.skipped} == {"/home/pi/nas", "/home/pi/.cache"}
    assert {"/home/pi/nas", "/home/pi/.cache"} <= set(named(result)["files"].exclude)


def test_a_link_is_saved_with_what_it_leads_to():
    here = facts(paths={"/data": Path("folder", real="/mnt/usb/data")})
    assert named(plan(here, Settings("pi1", paths=("/data",))))["files"].paths == ("/data", "/mnt/usb/data")


def test_a_group_that_had_files_and_is_empty_now_fails():
    here = facts([volume("db")], paths={"/docker/volumes/db/_data": Path("folder", empty=True)})
    assert named(plan(here, Settings("pi1")))["volume:db"].paths
    assert "its last snapshot has 7 files" in named(plan(here, Settings("pi1"), {"volume:db": 7}))["volume:db"].cause


def test_a_folder_of_the_host_that_a_container_writes_to_is_named():
    here = facts(containers=[container("a", binds=("/srv/data", "/home/pi/x", "/var/run/docker.sock"))])
    assert [item.name for item in plan(here, Settings("pi1")).skipped] == ["/srv/data"]


def test_managers_save_the_swarm_and_the_master_its_secrets_and_consul():
    paths = {"/docker/swarm": FOLDER, "/etc/salt": FOLDER, "/etc/rpiomega/secrets": FOLDER}
    result = plan(facts(paths=paths, manager=True), Settings("pi1", master=True))
    assert [item.name for item in result.groups] == ["files", "swarm", "salt", "consul"]
    assert named(result)["salt"].paths == ("/etc/salt", "/etc/rpiomega/secrets")


def test_the_repositorys_own_password_is_never_saved():
    assert "/etc/rpiomega/backup" in named(plan(facts(), Settings("pi1")))["files"].exclude


# -- dumps --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("user", "cause"),
    [
        (container("a", "db", labels={"": "dump"}), "no container that uses it has the label rpiomega.backup.dump"),
        (container("a", "db", status="exited", labels={"": "dump", "dump": "x"}), "container a is exited"),
    ],
)
def test_a_dump_that_nothing_can_make_fails_before_the_run(user, cause):
    assert cause in named(plan(facts([volume("db")], [user]), Settings("pi1")))["volume:db"].cause


# -- restic's ends ------------------------------------------------------------------------------------------


ASKED = "\nIs there a repository at the following location?\ns3:https://s3.example/timeout-403/hosts/pi1"


@pytest.mark.parametrize(
    ("code", "message", "kind"),
    [
        (10, "Fatal: repository does not exist: unable to open config file", "no_repository"),
        (11, "unable to create lock in backend: repository is already locked by PID 7", "locked"),
        (12, "Fatal: wrong password or no key found", "wrong_password"),
        (1, "Stat: Access Denied.", "denied"),
        (10, f"Fatal: unable to open config file: Stat: Access Denied.{ASKED}", "denied"),
        (10, f"Fatal: repository does not exist: Stat: The specified key does not exist.{ASKED}", "no_repository"),
        (1, "Stat: 401 Unauthorized", "denied"),
        (1, "The provided token has expired", "denied"),
        (1, "Save(<data/1>): 403 Forbidden: storage cap exceeded", "capped"),
        (1, "Save(<data/1>): 503 Service Unavailable", "busy"),
        (1, "Save(<data/1>): Please reduce your request rate. SlowDown", "busy"),
        (1, 'Get "https://s3.example": dial tcp: lookup s3.example: no such host', "unreachable"),
        (1, "RequestTimeTooSkewed: The difference between the request time and the current time is too large", "clock"),
        (1, "write /repo/data/b6-tmp: no space left on device", "no_space"),
        (1, "Fatal: repository contains errors", "damaged"),
        (130, "interrupted", "killed"),
        (-9, "", "killed"),
        (77, "a code of tomorrow", "bad_request"),
    ],
)
def test_each_end_of_restic_has_its_kind_and_a_cause(code, message, kind):
    failure = judge(code, [], [{"message_type": "exit_error", "code": code, "message": message}])
    assert failure.kind == kind
    assert failure.cause
    assert "\n" not in str(failure)


def test_unreadable_files_are_named_and_a_path_that_is_missing_is_no_success():
    events = [{"message_type": "error", "item": "/a/b", "error": {"message": "open /a/b: permission denied"}}]
    assert judge(3, [], events).kind == "unreadable"
    assert "/a/b" in str(judge(3, [], events))
    assert judge(0, ["/gone does not exist, skipping"], []).kind == "missing_path"
    assert judge(0, [], []) is None


def test_a_restic_that_retries_for_too_long_fails_with_what_it_retried():
    seen = "Load(<config>) returned error, retrying after 1s: dial tcp 10.0.0.1:443: connect: connection refused"
    assert late(60, [seen]).kind == "unreachable"


@pytest.mark.parametrize(
    ("why", "patient", "tired", "kind"),
    [
        ("Stat: 401 Unauthorized", (0, 15, 29), 31, "denied"),
        ("503 Service Unavailable", (0, 100, 200, 299), 301, "busy"),
        ("dial tcp: connect: connection refused", (0, 100, 200, 299), 301, "unreachable"),
    ],
)
def test_what_fails_again_and_again_has_a_bound(why, patient, tired, kind):
    line = "Stat(<config/>) returned error, retrying after 1m0.5s: " + why
    patience = Patience()
    assert [patience.over(line, moment) for moment in patient] == [None] * len(patient)
    assert patience.over(line.replace("<config/>", "<data/1>"), tired) is None  # its first time
    assert patience.over(line, tired).kind == kind
    assert patience.over(line, 5000) is None  # it worked meanwhile


# -- the manifest's sample ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("pattern", "path", "out"),
    [
        ("/home/pi/x", "/home/pi/x/y", True),
        ("/home/pi/x", "/srv/home/pi/x", False),
        ("*.tmp", "/home/a.tmp", True),
        ("node_modules", "/home/a/node_modules/b", True),
        ("node_modules", "/home/a/node_modules2", False),
        ("/home/*/cache", "/home/pi/cache", True),
        ("/home/*/cache", "/home/a/b/cache", False),
        ("/home/**/cache", "/home/a/b/cache", True),
        ("a\\*b", "/home/a*b", True),
        ("a\\*b", "/home/axb", False),
        ("[z-a]", "/home/z", False),
        ("[", "/home/[", True),
    ],
)
def test_patterns_mean_for_the_sample_what_they_mean_for_restic(pattern, path, out):
    assert manifest.excluder([pattern])(path) is out


def test_a_pattern_takes_back_what_those_before_it_leave_out():
    out = manifest.excluder(["*.txt", "!keep.txt", "/home/x"])
    assert [out(f"/home/{name}") for name in ("a.txt", "keep.txt", "x/keep.txt", "b")] == [True, False, True, False]


def test_the_sample_is_bounded_and_counts_everything(tmp_path):
    for number in range(manifest.MOST_FILES + 50):
        (tmp_path / f"f{number}").write_text("x" * number)
    found = manifest.survey([str(tmp_path)])
    assert found["counts"]["files"] == manifest.MOST_FILES + 50
    assert len(found["sample"]) == manifest.MOST_FILES


def test_a_file_that_changed_is_read_again_at_rest(tmp_path):
    one = tmp_path / "one"
    one.write_text("old")
    sample = manifest.survey([str(tmp_path)])["sample"]
    one.write_text("newer")
    assert manifest.settled(sample)[0]["size"] == 5
    one.unlink()
    assert manifest.settled(sample) == []
