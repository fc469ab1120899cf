"""The root file system grows on a real image: partition table, ext4, mounted while it happens."""

import ctypes
import os
import shutil
import subprocess

import commands
import pytest
from rpiomega.node import disk
from rpiomega.node.board import Board
from rpiomega.node.step import StepError
from rpiomega.node.steps.rootfs import Rootfs

TOOLS = ("losetup", "sfdisk", "mkfs.ext4", "growpart", "partx")
pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or not os.path.exists("/dev/loop-control") or not all(map(shutil.which, TOOLS)),
    reason=f"needs root, loop devices, {', '.join(TOOLS)}",
)
# A card as an image writes it: FAT for the firmware, ext4 for the rest, nothing behind it.
DOS = "label: dos\nlabel-id: 0xdeadbeef\nstart=8192, size=65536, type=c\nstart=73728, size=163840, type=83\n"
GPT = "label: gpt\nstart=8192, size=65536\nstart=73728, size=163840\n"
MORE = "start=237568, size=40960, type=83\n"


CLONE_NEWNS = 0x20000  # linux/sched.h


@pytest.fixture
def own_mounts():
    """Mounts of this test's own: in a mount namespace that another test makes meanwhile the card would stay in use."""
    libc, folder = ctypes.CDLL(None, use_errno=True), os.getcwd()
    with open("/proc/self/ns/mnt") as before:
        assert libc.unshare(CLONE_NEWNS) == 0, os.strerror(ctypes.get_errno())
        try:
            run("mount", "--make-rprivate", "/")
            yield
        finally:
            assert libc.setns(before.fileno(), CLONE_NEWNS) == 0, os.strerror(ctypes.get_errno())
            os.chdir(folder)


@pytest.fixture
def card(tmp_path, own_mounts):
    """`card(table)` -> mount point of partition 2 of a 300 MB card; a file is on it."""
    undo = []

    def make(table):
        image, mount = tmp_path / "card.img", tmp_path / "root"
        mount.mkdir()
        with image.open("wb") as stream:
            stream.truncate(300 << 20)
        run("sfdisk", "-q", image, text=table)
        loop = run("losetup", "-f", "--show", image).strip()
        undo.append(("losetup", "-d", loop))
        # Not every kernel reads partition tables of loop devices by itself.
        run("partx", "-u", loop)
        undo.append(("partx", "-d", loop))
        run("mkfs.ext4", "-q", f"{loop}p2")
        run("mount", f"{loop}p2", mount)
        undo.append(("umount", mount))
        (mount / "kept").write_text("kept")
        return mount

    yield make
    for command in reversed(undo):
        run(*command)


def run(*command, text=None):
    """Run a command that has to succeed, give its output."""
    words = [str(word) for word in command]
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False, timeout=commands.BOUND)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


def apply(step, mount):
    """Apply the step. The kernel grows a mounted ext4 only for CAP_SYS_RESOURCE, which containers may lack: there
    the last command is run on the unmounted file system instead."""
    with open("/proc/self/status", encoding="ascii") as status:
        capable = int(next(line.split()[1] for line in status if line.startswith("CapEff")), 16) >> 24 & 1
    if capable:
        step.apply()
        return
    with pytest.raises(StepError, match="does not grow: resize2fs: Permission denied"):
        step.apply()
    device = disk.find(str(mount)).device
    run("umount", mount)
    run("e2fsck", "-fy", device)
    run("resize2fs", device)
    run("mount", device, mount)


@pytest.mark.parametrize("table", [DOS, GPT], ids=["dos", "gpt"])
def test_partition_and_file_system_grow_and_nothing_is_lost(card, table):
    mount = card(table)
    before = disk.find(str(mount))
    step = Rootfs(Board(), {"mount": str(mount)})
    planned = step.check().lines
    assert len(planned) == 1 and "grow partition 2" in planned[0]
    assert disk.find(str(mount)) == before  # looking changes nothing
    apply(step, mount)
    step.verify()
    after = disk.find(str(mount))
    assert before.file_system == 80 << 20
    # ext4 grows by whole block groups.
    assert after.file_system > after.partition - (8 << 20) > 250 << 20
    assert (mount / "kept").read_text() == "kept"
    assert os.statvfs(mount).f_blocks * os.statvfs(mount).f_frsize > 200 << 20
    if table is DOS:
        # The kernel finds its root by this number (root=PARTUUID=...).
        assert "0xdeadbeef" in run("sfdisk", "-l", after.disk)
    assert not Rootfs(Board(), {"mount": str(mount)}).check()


def test_a_file_system_smaller_than_its_partition_grows(card):
    mount = card(DOS)
    device = disk.find(str(mount)).device
    run("umount", mount)
    run("e2fsck", "-fy", device)
    run("resize2fs", device, "40M")
    run("mount", device, mount)
    run("growpart", disk.find(str(mount)).disk, "2")
    step = Rootfs(Board(), {"mount": str(mount)})
    assert "grow the ext4" in step.check().lines[0]
    apply(step, mount)
    step.verify()
    assert disk.find(str(mount)).file_system > 250 << 20


def test_a_partition_behind_it_is_never_touched(card):
    mount = card(DOS + MORE)
    before = disk.find(str(mount))
    step = Rootfs(Board(), {"mount": str(mount)})
    assert not step.check()
    assert "another partition lies behind it" in step.notes[0]
    assert disk.find(str(mount)) == before


def test_a_container_has_no_card():
    assert disk.find("/proc") is None
