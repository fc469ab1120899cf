"""Volumes of a real engine restored from a real repository: equal, the old kept, whole whenever it is killed."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import uuid

import backup_repository
import pytest

from omega.backup import compare, fetch, manifest, restore_volume, swap
from omega.backup.pick import RestoreError
from omega.backup.restore import Wanted
from omega.backup.settings import Places
from omega.core.polling import until

pytestmark = [pytest.mark.long, pytest.mark.skipif(os.geteuid() != 0, reason="volumes are of root")]
HERE = pathlib.Path(__file__).parent

client, image = backup_repository.client, backup_repository.image


class Box:
    """A volume with its snapshot, and containers that use it."""

    def __init__(self, client, image, folder):
        self.client, self.image = client, image
        self.name = f"rpiomega-test-{uuid.uuid4().hex[:8]}"
        self.data = pathlib.Path(client.api.create_volume(self.name)["Mountpoint"])
        self.places = Places(settings=str(folder), state=str(folder / "state"), run=str(folder / "run"))
        self.repo = backup_repository.Repo(folder)
        backup_repository.fill(self.data)
        self.saved = backup_repository.picture(self.data)
        self.row = self.save()

    def save(self, canary=None, **head):
        survey = manifest.survey([str(self.data)])
        at = manifest.path(self.places.run, f"volume:{self.name}")
        volume = {"name": self.name, "driver": "local", "options": {}, "labels": {"of": "test"}, "path": str(self.data)}
        content = {"group": f"volume:{self.name}", "mode": "pause", "volumes": [volume], **head}
        self.canary = manifest.write(at, content, survey["sample"], survey["counts"])
        return self.repo.save(self.data, at, group=f"volume:{self.name}", mode="pause")

    def run(self, command="while :; do sleep 1; done", **more):
        return self.client.containers.run(
            self.image,
            ["sh", "-c", command],
            entrypoint="",
            detach=True,
            name=f"{self.name}-{uuid.uuid4().hex[:4]}",
            volumes={self.name: {"bind": "/data"}},
            network_mode="none",
            stop_signal="KILL",
            **more,
        )

    def restore(self, **wanted):
        return restore_volume.restore_volume(
            self.repo.repository, self.client, self.name, Wanted(**wanted), self.places
        )

    def picture(self):
        return backup_repository.picture(self.data)

    def beside(self):
        return sorted(name for name in os.listdir(self.data.parent) if name not in ("_data", "opts.json"))

    def empty(self):
        """Give the volume other data, and no copy of the old beside it."""
        for name in self.beside():
            swap.remove(str(self.data.parent / name))
        swap.remove(str(self.data))
        self.data.mkdir()
        (self.data / "later").write_text("made after the snapshot")
        return self.picture()

    def clear(self):
        for container in self.client.containers.list(all=True, filters={"volume": self.name}):
            container.remove(force=True)


@pytest.fixture(scope="module")
def made(client, image, tmp_path_factory):
    box = Box(client, image, tmp_path_factory.mktemp("volume"))
    yield box
    box.clear()
    client.api.remove_volume(box.name)


@pytest.fixture
def box(made):
    yield made
    made.clear()
    with_journal = restore_volume.journal(made.places, made.name)
    pathlib.Path(with_journal).unlink(missing_ok=True)


def seen_in(container, path="/data/later"):
    return container.exec_run(["sh", "-c", f"[ -e {path} ] && echo there || echo gone"]).output.decode().strip()


def test_a_volume_comes_back_with_everything_of_it_and_the_old_is_kept(box):
    changed = box.empty()
    report = box.restore()
    assert box.picture() == box.saved
    assert backup_repository.picture(report.kept) == changed
    assert box.beside() == [os.path.basename(report.kept)]
    assert not os.path.exists(restore_volume.journal(box.places, box.name))


def test_a_dry_run_says_what_is_done_and_writes_nothing(box):
    box.empty()
    container = box.run()
    before = backup_repository.picture(box.data.parent)
    report = box.restore(dry_run=True)
    assert backup_repository.picture(box.data.parent) == before
    assert report.in_use == [container.name]
    assert [line.split()[0] for line in report.actions] == ["restore", "pause", "keep", "restart"]


def test_a_volume_in_use_is_left_alone_without_force(box):
    changed = box.empty()
    container = box.run()
    with pytest.raises(RestoreError, match=rf"volume {box.name}: used by {container.name}; stop them, or give --force"):
        box.restore()
    assert box.picture() == changed
    assert box.beside() == []


def test_with_force_its_containers_see_the_restored_data(box):
    box.empty()
    container, paused = box.run(), box.run()
    paused.pause()
    assert seen_in(container) == "there"
    box.restore(force=True)
    container.reload()
    paused.reload()
    assert (container.status, paused.status) == ("running", "paused")
    paused.unpause()
    for one in (container, paused):
        assert seen_in(one) == "gone"
        assert seen_in(one, "/data/suid") == "there"
    assert box.picture() == box.saved


def test_a_volume_that_is_gone_is_created_as_the_manifest_says(box):
    box.clear()
    box.client.api.remove_volume(box.name)
    box.restore()
    assert box.picture() == box.saved
    assert box.client.api.inspect_volume(box.name)["Labels"] == {"of": "test"}


def test_data_that_is_not_what_the_manifest_says_is_not_put_in_place(box, monkeypatch):
    changed = box.empty()
    real = fetch.into

    def other(*arguments, **keywords):
        at = real(*arguments, **keywords)
        if at.endswith("_data"):
            found = os.stat(f"{at}/acl")
            pathlib.Path(at, "acl").write_text("z")
            os.utime(f"{at}/acl", ns=(found.st_atime_ns, found.st_mtime_ns))
        return at

    monkeypatch.setattr(fetch, "into", other)
    with pytest.raises(RestoreError, match="acl has another content than the manifest says; nothing was changed"):
        box.restore()
    assert box.picture() == changed
    assert box.beside() == []


def test_no_space(box, monkeypatch):
    changed = box.empty()
    monkeypatch.setattr(fetch, "MARGIN", 1 << 60)
    with pytest.raises(RestoreError, match="MiB are needed and"):
        box.restore()
    assert box.picture() == changed


def test_a_volume_that_is_a_disk_of_its_own_is_left_alone(box):
    before = box.empty()
    assert os.system(f"mount --bind {box.data} {box.data}") == 0
    try:
        with pytest.raises(
            RestoreError, match="_data: it is a mount point, which cannot be renamed; restore its files"
        ):
            box.restore(dry_run=True)
    finally:
        assert os.system(f"umount {box.data}") == 0
    assert box.picture() == before


def test_a_volume_without_a_snapshot_and_one_before_the_first(box):
    with pytest.raises(RestoreError, match="volume other: no snapshot of this node has it"):
        restore_volume.restore_volume(box.repo.repository, box.client, "other", Wanted(), box.places)
    with pytest.raises(RestoreError, match=f"volume {box.name}: the first snapshot of it is of"):
        box.restore(at="2020-01-01")


MOMENTS = (
    "during_the_restore",
    "after_the_journal",
    "while_paused",
    "before_the_exchange",
    "after_the_exchange",
    "between_two_steps",
    "after_the_swap",
    "before_the_restart",
)


@pytest.mark.parametrize("moment", MOMENTS)
def test_killed_at_any_moment_the_volume_is_the_old_or_the_new_one_whole(box, moment):
    changed = box.empty()
    container = box.run()
    repository, places = (json.dumps(dataclasses.asdict(one)) for one in (box.repo.repository, box.places))
    command = [sys.executable, str(HERE / "backup_volume_killed.py"), moment, box.name, repository, places]
    killed = subprocess.run(command, capture_output=True, text=True, timeout=240, check=False)
    assert killed.returncode == -9, killed.stderr
    if moment != "between_two_steps":
        assert box.picture() in (changed, box.saved)
    done = restore_volume.finish(box.client, box.name, box.places)
    new = moment in ("after_the_exchange", "between_two_steps", "after_the_swap", "before_the_restart")
    assert box.picture() == (box.saved if new else changed)
    if moment != "during_the_restore":
        assert ("complete" if new else "undo") in done
    assert restore_volume.finish(box.client, box.name, box.places) == ""
    container.reload()
    assert container.status == "running", "no container stays paused"
    until(lambda: seen_in(container) == ("gone" if new else "there"), 30, "the container to see the volume's data")
    if new:
        assert [backup_repository.picture(box.data.parent / name) for name in box.beside()] == [changed]
    elif moment != "during_the_restore":
        assert box.beside() == []


def test_the_next_restore_of_a_volume_finishes_the_interrupted_one_first(box):
    box.empty()
    repository, places = (json.dumps(dataclasses.asdict(one)) for one in (box.repo.repository, box.places))
    command = [sys.executable, str(HERE / "backup_volume_killed.py"), "after_the_swap", box.name, repository, places]
    assert subprocess.run(command, capture_output=True, timeout=240, check=False).returncode == -9
    report = box.restore()
    assert "complete the restore of" in report.actions[0]
    assert box.picture() == box.saved
    assert len(box.beside()) == 2


def test_a_dump_is_read_by_the_command_of_the_label(box, tmp_path):
    labels = {"rpiomega.backup.restore": 'read line; echo "$line" >/data/restored'}
    container = box.run(labels=labels)
    text = tmp_path / "dump"
    text.write_text("the dumped line\n")
    at = manifest.path(box.places.run, f"volume:{box.name}")
    noted = {"path": str(text), "size": 16, "sha256": compare.sha256(str(text)), "command": "x"}
    volume = {"name": box.name, "containers": [{"name": container.name, "labels": {}}]}
    head = {"group": f"volume:{box.name}", "mode": "dump", "volumes": [volume], "dump": noted}
    manifest.write(at, head, [], {"files": 1, "bytes": 16})
    row = box.repo.save(text, at, group=f"volume:{box.name}", mode="dump")
    text.unlink()
    try:
        report = box.restore()
        assert report.target == f"container {container.name}"
        assert (box.data / "restored").read_text() == "the dumped line\n"
        box.clear()
        with pytest.raises(RestoreError, match="no container with rpiomega.backup.restore runs; start the service"):
            box.restore()
        box.run(labels={"rpiomega.backup.restore": "while read line; do :; done; echo no such table >&2; exit 3"})
        with pytest.raises(RestoreError, match="ended with code 3: no such table"):
            box.restore()
    finally:
        from omega.backup import restic

        restic.run(box.repo.repository, ["forget", row["id"]])
