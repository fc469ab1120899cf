"""The root file system grows on a real image: partition table, ext4, mounted while it happens."""

import ctypes
import os
import re
import shutil
import subprocess

import commands
import pytest

from rpiomega.node import disk
from rpiomega.node.board import Board
from rpiomega.node.step import StepError
from rpiomega.node.steps.rootfs import Rootfs, advice

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
    """`card(table)` -> mount point of partition 2 (or `root`) of a 300 MB card; a file is on it."""
    undo = []

    def make(table, root=2, kind="ext4", size=300, written=0):
        """`written`: the image's size in MB when its table was written; a larger card has GPT's second table inside."""
        image, mount = tmp_path / "card.img", tmp_path / "root"
        mount.mkdir()
        with image.open("wb") as stream:
            stream.truncate((written or size) << 20)
        run("sfdisk", "-q", image, text=table)
        os.truncate(image, size << 20)
        loop = run("losetup", "-f", "--show", image).strip()
        undo.append(("losetup", "-d", loop))
        # Not every kernel reads partition tables of loop devices by itself.
        run("partx", "-u", loop)
        undo.append(("partx", "-d", loop))
        if root > 4:
            # As the kernel sees it when it reads the table itself: the extended one does not cover what is inside.
            run("partx", "-d", "--nr", "2", loop)
            run("partx", "-a", "--nr", str(root), loop)
        if not shutil.which(f"mkfs.{kind}"):
            pytest.skip(f"no mkfs.{kind}")
        run(f"mkfs.{kind}", "-q", f"{loop}p{root}")
        run("mount", f"{loop}p{root}", mount)
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
    run("mkswap", before.behind[0])
    step = Rootfs(Board(), {"mount": str(mount)})
    assert not step.check()
    assert f"another partition lies behind it on {before.disk}: {before.disk}p3 (swap)" in step.notes[0]
    assert disk.find(str(mount)) == before


def test_an_image_on_a_larger_card_has_gpts_second_table_moved_to_the_end(card):
    mount = card(GPT, written=120)
    step = Rootfs(Board(), {"mount": str(mount)})
    apply(step, mount)
    step.verify()
    found = disk.find(str(mount))
    assert found.file_system > 250 << 20
    assert "not all of the space" not in run("sfdisk", "--verify", found.disk)


@pytest.mark.parametrize("kind", ["xfs", "btrfs"])
def test_other_file_systems_grow_with_their_own_tools(card, kind):
    mount = card(GPT.replace("163840", "655360"), kind=kind, size=700)
    step = Rootfs(Board(), {"mount": str(mount)})
    before = disk.find(str(mount))
    assert (before.kind, before.number, before.file_system) == (kind, 2, 320 << 20)
    step.apply()
    step.verify()
    assert disk.find(str(mount)).file_system > 600 << 20
    assert (mount / "kept").read_text() == "kept"
    assert not Rootfs(Board(), {"mount": str(mount)}).check()


ROOT_3 = "label: dos\nstart=8192, size=32768, type=c\nstart=40960, size=32768\nstart=73728, size=163840\n"


class ByRaspiConfig(Rootfs):
    """The step on a board that has raspi-config."""

    def _tool(self):
        return "raspi-config"


def test_a_tool_that_ends_with_0_and_does_nothing_is_replaced_by_another(card, own_mounts):
    mount = card(ROOT_3, root=3)
    run("mount", "-t", "tmpfs", "tmpfs", "/usr/local/bin")
    with open("/usr/local/bin/raspi-config", "w", opener=lambda path, flags: os.open(path, flags, 0o755)) as stream:
        stream.write("#!/bin/sh\nexit 0\n")
    step = ByRaspiConfig(Board(), {"mount": str(mount)})
    apply(step, mount)
    step.verify()
    assert disk.find(str(mount)).file_system > 250 << 20


def test_a_partition_inside_an_extended_one_is_left_alone_with_a_reason(card):
    extended = "x2 : start=73728, size=200704, type=5\nx5 : start=75776, size=163840, type=83\n"
    mount = card("label: dos\nx1 : start=8192, size=65536, type=c\n" + extended, root=5)
    step = Rootfs(Board(), {"mount": str(mount)})
    assert not step.check()
    assert "inside an extended partition" in step.notes[0]


MB = 1_000_000
CARD = {"device": "/dev/nvme0n1p2", "disk": "/dev/nvme0n1", "number": 2, "below": "/dev/nvme0n1p2", "last": True}
CARD |= {"partition": 4000 * MB, "size": 4000 * MB, "file_system": 4000 * MB, "room": 0}
ADVICE = [
    ({"kind": "ext4", "room": 900 * MB}, ""),
    ({"kind": "f2fs", "file_system": 3000 * MB}, "1000 MB unused.*resize.f2fs /dev/nvme0n1p2.*while it is mounted"),
    ({"kind": "f2fs"}, ""),
    ({"kind": "bcachefs", "file_system": 0}, "the bcachefs of /dev/nvme0n1p2 is not grown by rpiomega"),
    ({"kind": "ext4", "layer": "LVM", "device": "/dev/mapper/vg-root", "room": 900 * MB},
     "LVM.*900 MB.*growpart /dev/nvme0n1 2; sudo pvresize /dev/nvme0n1p2; .* /dev/mapper/vg-root"),
    ({"kind": "ext4", "layer": "LUKS", "device": "/dev/mapper/root", "room": 900 * MB},
     "cryptsetup resize /dev/mapper/root"),
    ({"kind": "ext4", "layer": "LVM"}, ""),
    ({"kind": "ext4", "layer": "RAID", "file_system": 3000 * MB}, "mdadm --grow"),
    ({"kind": "squashfs", "read_only": True, "room": 900 * MB}, "is read-only"),
]  # fmt: skip


@pytest.mark.parametrize(("facts", "wanted"), ADVICE)
def test_space_that_stays_unused_has_a_reason_and_a_command(facts, wanted):
    said = advice(disk.Disk(**{**CARD, **facts}))
    assert re.search(wanted, said) if wanted else said == ""


def test_a_container_has_no_card():
    assert disk.find("/proc") is None
