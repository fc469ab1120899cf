"""Decisions of backups without a daemon: which restic is installed, which snapshots may be forgotten."""

import re

import pytest

from omega.backup import install, retention
from rpiomega.site.backup import Restic

A, B = "a" * 64, "b" * 64
NOW = 1_800_000_000.0  # 2027-01-15 08:00 UTC
KEEP = {"daily": 7, "weekly": 4, "monthly": 6}


def facts(**changed):
    """A Raspberry Pi with bookworm and nothing of restic."""
    bare = {
        "architecture": "arm64",
        "suite": "bookworm",
        "packaged": "",
        "offered": "0.14.0-1+b1",
        "stamp": {},
        "binary": "",
    }
    return install.Facts(**{**bare, **changed})


def decide(source="auto", version="0.19.1", sha256=None, mirror="", **changed):
    return install.plan(source, version, sha256 or {}, mirror, facts(**changed))


OURS = {"stamp": {"version": "0.19.1", "archive": install.SHA256["0.19.1"]["arm64"], "binary": B}, "binary": B}


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        # bookworm: the vendor's, whatever package is there
        ({}, {"restic": "0.19.1 of the vendor"}),
        ({"packaged": "0.14.0-1+b1"}, {"restic": "0.19.1 of the vendor"}),
        ({**OURS}, {}),
        # damaged by the card: installed again, and what is there is not known to be ours
        ({**OURS, "binary": A}, {"restic": "0.19.1 of the vendor", install.PROGRAM: "kept as a copy, replaced"}),
        ({**OURS, "version": "0.19.2", "sha256": {"arm64": A}}, {"restic": "0.19.2 of the vendor"}),
        ({**OURS, "sha256": {"arm64": A}}, {"restic": "0.19.1 of the vendor"}),
        ({"binary": A}, {"restic": "0.19.1 of the vendor", install.PROGRAM: "kept as a copy, replaced"}),
        # trixie: its package
        ({"suite": "trixie", "offered": "0.18.0-1+b2"}, {"restic": "package 0.18.0-1+b2"}),
        ({"packaged": "0.18.0-1+b2", "offered": "0.18.0-1+b2"}, {}),
        ({"packaged": "0.18.0-1+b2", "offered": ""}, {}),
        ({"packaged": "0.14.0-1", "offered": "0.18.0-1~bpo12+1"}, {"restic": "package 0.18.0-1~bpo12+1"}),
        # upgraded from bookworm: /usr/local/bin would go on to be the one that runs
        ({**OURS, "packaged": "0.18.0-1", "offered": "0.18.0-1"}, {install.PROGRAM: "removed"}),
        (
            {"binary": A, "packaged": "0.18.0-1", "offered": "0.18.0-1"},
            {install.PROGRAM: "kept as a copy, replaced"},
        ),
        ({"source": "vendor", "packaged": "0.18.0-1", "offered": "0.18.0-1"}, {"restic": "0.19.1 of the vendor"}),
        ({"source": "distribution", "packaged": "0.18.0-1"}, {}),
    ],
)
def test_the_restic_that_is_installed(given, wanted):
    assert decide(**given).changes == wanted


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (
            {"source": "distribution"},
            "bookworm has restic 0.14.0-1+b1, and 0.17.0 or newer is needed; write `backup: {re",
        ),
        ({"source": "distribution", "packaged": "0.16.4-1"}, "bookworm has restic 0.16.4-1, and"),
        ({"source": "distribution", "offered": ""}, "no package source of bookworm offers restic"),
        ({"architecture": "riscv64"}, "no binary of restic is known for riscv64; known: amd64"),
        ({"version": "0.18.1"}, "no checksum of restic 0.18.1 for arm64 is known; add `arm64: ...`"),
        ({"version": "0.18.1", "sha256": {"arm": A}}, "no checksum of restic 0.18.1 for arm64 is known"),
    ],
)
def test_a_restic_that_cannot_be_had_is_said_with_the_cure(given, said):
    with pytest.raises(install.InstallError) as caught:
        decide(**given)
    assert said in str(caught.value)


def test_the_vendors_file_is_that_of_the_architecture():
    for debian, vendor in (("amd64", "amd64"), ("arm64", "arm64"), ("armhf", "arm")):
        made = decide(architecture=debian)
        assert made.url == f"{install.RELEASES}/v0.19.1/restic_0.19.1_linux_{vendor}.bz2"
        assert made.archive == install.SHA256["0.19.1"][vendor]
    assert decide(mirror="http://10.0.0.9/restic/").url.startswith("http://10.0.0.9/restic/v0.19.1/")


def test_the_default_release_is_one_whose_checksums_are_known():
    assert Restic().version == install.NEWEST_TESTED
    assert set(install.SHA256[Restic().version]) == set(install.ARCHITECTURES.values())


# -- retention ----------------------------------------------------------------------------------------------


def snapshot(time, group="files", number=1, tags=None):
    tags = ["rpiomega", f"group={group}", f"run={time}", "mode=hot"] if tags is None else tags
    return {"id": f"{number:08x}" * 8, "time": time, "hostname": "pi2", "tags": tags}


def test_one_call_a_group_with_nothing_but_keep_within():
    calls = retention.plan(
        [
            snapshot("2027-01-14T02:00:00Z"),
            snapshot("2027-01-15T02:00:00Z"),
            snapshot("2027-01-15T02:01:00Z", "volume:db"),
        ],
        KEEP,
        NOW,
    )
    assert [call[call.index("--tag") + 1] for call in calls] == ["rpiomega,group=files", "rpiomega,group=volume:db"]
    for call in calls:
        assert call[0] == "forget"
        keeps = [item for item in call if item.startswith("--keep")]
        assert keeps == ["--keep-within-daily", "--keep-within-weekly", "--keep-within-monthly"]
        assert re.search(r"daily 7d .*weekly 28d .*monthly 6m", " ".join(call))


def test_what_is_not_wanted_is_not_asked_for_and_foreign_snapshots_are_no_group():
    (call,) = retention.plan([snapshot("2027-01-14T02:00:00Z")], {"daily": 1, "weekly": 0, "monthly": 0}, NOW)
    assert [item for item in call if item.startswith("--keep")] == ["--keep-within-daily"]
    assert retention.plan([], KEEP, NOW) == []
    assert retention.plan([snapshot("2027-01-14T02:00:00Z", tags=["mine", "group=files"])], KEEP, NOW) == []
    assert retention.plan([{**snapshot("2027-01-14T02:00:00Z"), "tags": None}], KEEP, NOW) == []


@pytest.mark.parametrize(
    ("time", "late"),
    [
        ("2027-01-15T08:59:59.123456789Z", False),
        ("2027-01-15T09:00:01Z", True),
        ("2027-01-15T10:30:00.5+02:00", False),  # 08:30 UTC
        ("2027-01-15T04:30:00.123456789-05:00", True),  # 09:30 UTC
        ("2099-01-01T00:00:00Z", True),
    ],
)
def test_a_snapshot_is_late_from_an_hour_after_now_on(time, late):
    snapshots = [snapshot("2027-01-14T02:00:00Z"), snapshot(time, number=2, tags=[])]
    if not late:
        assert len(retention.plan(snapshots, KEEP, NOW)) == 1
        return
    with pytest.raises(retention.RetentionError) as caught:
        retention.plan(snapshots, KEEP, NOW)
    assert caught.value.kind == "future"
    assert f"snapshot 00000002 of pi2 is dated {time[:16]}, and it is 2027-01-15 08:00 UTC here" in str(caught.value)


def test_a_clock_that_is_behind_is_named_with_how_many_snapshots():
    snapshots = [snapshot(f"2027-01-1{day}T02:00:00Z", number=day) for day in (2, 3, 4)]
    with pytest.raises(retention.RetentionError, match="with 2 more, and it is 1970-01-01 00:00 UTC here.*timedatectl"):
        retention.plan(snapshots, KEEP, 0)
