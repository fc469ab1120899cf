"""The section `backup` of the site file: what is refused, with the key and the next step."""

import re

import pytest
import yaml

from omega.site import check
from rpiomega.site import SiteError, checks, load

GOOD = {
    "cluster": "omega",
    "nodes": {
        "pi1": {"address": "192.168.1.10", "roles": ["master", "manager"]},
        "pi2": {"address": "192.168.1.11", "docker": {"data_root": "/mnt/ssd/docker"}},
    },
}
KEY = {"file": "mine", "capabilities": ["listFiles", "deleteFiles"]}


def text_of(backup, **others):
    return yaml.safe_dump({"rpiomega": {**GOOD, "backup": backup, **others}}, sort_keys=False)


def refused(tmp_path, text):
    path = tmp_path / "site.sls"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SiteError) as caught:
        load(path)
    return str(caught.value).splitlines()


@pytest.mark.parametrize(
    ("backup", "said"),
    [
        ({"bucket": "short"}, 'backup.bucket: "short" is not a bucket name; 6 to 63 letters'),
        ({"bucket": "b2-backups"}, "backup.bucket"),
        ({"bucket": "omega-backup-"}, "none at an end"),
        ({"bucket": "omega_backup"}, "backup.bucket"),
        ({"bucket": "a" * 64}, "backup.bucket"),
        ({"schedule": "2:00"}, 'backup.schedule: "2:00" is not a time of day'),
        ({"volumes": {"db": "stop"}}, "stop (the service at 0 replicas meanwhile) is not there yet: take pause"),
        ({"volumes": {"db": False}}, "backup.volumes.db: False has the wrong type; write text here; put it in quotes"),
        ({"volumes": {"../db": "hot"}}, "is not a volume's name"),
        ({"drill": {"every": "daily"}}, "backup.drill.every: 'daily' is not known; allowed: 'weekly', 'monthly'"),
        ({"paths": ["home"]}, 'backup.paths.0: "home" is not a whole path'),
        ({"paths": ["/srv/"]}, "is not a whole path"),
        ({"paths": ["/"]}, "is not a whole path"),
        ({"paths": ["/srv/../etc"]}, "is not a whole path"),
        ({"paths": ["/home/*"]}, "wildcards go into backup.exclude"),
        ({"paths": ["/etc", "/var/lib/docker"]}, "backup.paths.1: /var/lib/docker is Docker's data, which changes"),
        ({"paths": ["/var/lib/docker/volumes"]}, "delete it: volumes are saved one by one, as backup.volumes says"),
        ({"paths": ["/var"]}, "/var contains Docker's data, /var/lib/docker, which changes while it is copied; add"),
        ({"paths": ["/mnt"]}, "/mnt contains Docker's data, /mnt/ssd/docker"),
        ({"paths": ["/mnt/ssd/docker"]}, "/mnt/ssd/docker is Docker's data"),
        ({"paths": ["/proc"]}, "/proc is no folder of files that stay"),
        ({"paths": ["/run/secrets"]}, "/run/secrets is no folder of files that stay"),
        ({"exclude": [""]}, "backup.exclude.0"),
        ({"exclude": ["a\nb"]}, "is not a pattern of restic; one line"),
        ({"immutable": 60}, "backup.hidden_days: 30: B2 keeps a file for immutable (60) days"),
        ({"immutable": -1}, "backup.immutable"),
        ({"hidden_days": 0}, "backup.hidden_days"),
        ({"max_age": 24}, "backup.max_age"),
        ({"keep": {"daily": 0}}, "backup.keep.daily"),
        ({"ping": "https://me:word-of-mine@example.com/x"}, "backup.ping: what is written here is not a web address"),
        ({"restic": {"version": "0.14.0"}}, '"0.14.0" is not a release of restic from 0.17.0 on'),
        (
            {"restic": {"version": "0.18.1"}},
            "restic.version: no checksum of restic 0.18.1 is known; add backup.restic.",
        ),
        ({"restic": {"version": "0.18.1", "sha256": {"mips": "0" * 64}}}, "backup.restic.sha256"),
        ({"restic": {"version": "0.18.1", "sha256": {"arm": "zz"}}}, "is not a SHA-256"),
        ({"restic": {"sha256": {"arm": "0" * 64}}}, "backup.restic.sha256: it is read for another version"),
        ({"buckt": "x"}, "backup.buckt: unknown key; did you mean `bucket`?"),
    ],
)
def test_a_mistake_names_its_key_and_what_to_write(tmp_path, backup, said):
    lines = refused(tmp_path, text_of(backup))
    assert any(said in line for line in lines), lines
    assert "word-of-mine" not in "".join(lines)


@pytest.mark.parametrize(
    ("b2", "said"),
    [
        ({"buckets": {"Omega-Backup": {}}}, "b2.buckets.Omega-Backup: `rpiomega backup init` sets up omega-backup"),
        (
            {"application_keys": {"k": {**KEY, "bucket": "omega-backup"}}},
            "b2.application_keys.k.capabilities: deleteFiles for omega-backup, so whoever takes over the master",
        ),
    ],
)
def test_what_the_master_keeps_in_b2_may_not_undo_the_buckets_protection(tmp_path, b2, said):
    lines = refused(tmp_path, text_of({"bucket": "omega-backup"}, b2={"credentials": {"pi1": "a"}, **b2}))
    assert any(said in line for line in lines), lines


def test_a_key_that_can_delete_in_all_buckets_is_a_warning_until_the_bucket_is_immutable(tmp_path):
    b2 = {"credentials": {"pi1": "a"}, "application_keys": {"k": {**KEY, "all_buckets": True}}}
    path = tmp_path / "site.sls"
    path.write_text(text_of({"bucket": "omega-backup"}, b2=b2))
    (warning,) = checks.warnings(load(path))
    assert "b2.application_keys.k has deleteFiles for all buckets" in warning
    path.write_text(text_of({"bucket": "omega-backup", "immutable": 14}, b2=b2))
    assert checks.warnings(load(path)) == []


@pytest.mark.parametrize(
    "backup",
    [
        {},
        {"bucket": "omega-backup"},
        {"paths": ["/srv/My Files", "/home/pi/.config"], "exclude": ["*.iso", "/home/*/.cache"]},
        {"paths": ["/var"], "exclude": ["/var/lib/docker/"]},
        {"volumes": {"web_db": "dump", "cache": "no", "media": "hot"}},
        {"immutable": 30},
        {"immutable": 60, "hidden_days": 60},
        {"restic": {"version": "0.18.1", "sha256": {"arm64": "a" * 64}}},
        {"restic": {"source": "distribution", "version": "0.18.1"}},
        {"ping": "https://hc.example.com/ping/1234"},
    ],
)
def test_what_is_right_is_taken_by_the_workstation_and_by_the_master(tmp_path, backup):
    path = tmp_path / "site.sls"
    path.write_text(text_of(backup))
    assert load(path).backup.model_dump(exclude_unset=True) == backup
    assert check.problems(yaml.safe_load(path.read_text())["rpiomega"]) == []


def test_a_mode_that_yaml_reads_as_false_is_quoted_in_the_cure(tmp_path):
    text = text_of({}).replace("backup: {}", "backup: {volumes: {cache: no}}")
    (line,) = refused(tmp_path, text)
    assert re.search(r'backup\.volumes\.cache: False has the wrong type.*"no"', line)
