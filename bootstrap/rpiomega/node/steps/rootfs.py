"""The root file system fills its card. Images that grew at their first boot pass with nothing to do.

Sources: raspi-config's do_expand_rootfs (RPi-Distro/raspi-config), Armbian's armbian-resize-filesystem unit,
growpart(1), partx(8), resize2fs(8), xfs_growfs(8), btrfs-filesystem(8).
"""

from __future__ import annotations

from rpiomega.node import apt, boards, disk, job_steps
from rpiomega.node.disk import Disk
from rpiomega.node.step import Diff, Step, StepError

# Images leave a little behind the last partition: alignment, and GPT's second table.
SLACK = 16 << 20
ARMBIAN = "armbian-resize-filesystem"
ARMBIAN_KEPT = ("/root/.no_rootfs_resize", "/root/.rootfs_resize")
RASPI_ONCE = "/etc/init.d/resize2fs_once"
EXT = ("ext2", "ext3", "ext4")
# The layer that a file system is on, and what grows it by hand.
BY_HAND = {
    "LVM": "`sudo growpart {disk} {number}; sudo pvresize {below}; sudo lvextend -r -l +100%FREE {device}`",
    "LUKS": "`sudo growpart {disk} {number}; sudo cryptsetup resize {device}; sudo resize2fs {device}`",
    "RAID": "`sudo mdadm --grow {device} --size=max` after its partitions have grown",
    "f2fs": "`sudo resize.f2fs {device}` on another machine: f2fs cannot grow while it is mounted",
}


def advice(found: Disk) -> str:
    """Return one sentence on space that this step leaves unused, and what uses it; empty where there is none."""
    short = found.size - found.file_system if found.file_system else 0
    at = f"the {found.kind} of {found.device}"
    if found.layer:
        if max(found.room, short) <= SLACK:
            return ""
        hand = BY_HAND.get(found.layer, "the tools of its layer").format(**vars(found))
        unused = _mb(max(found.room, short))
        return f"{at} is on {found.layer}, which rpiomega does not grow ({unused} MB unused): {hand}"
    if found.read_only:
        return f"{at} is read-only and does not grow" if max(found.room, short) > SLACK else ""
    if found.logical and found.room > SLACK:
        return f"{at} does not grow: {found.below} is inside an extended partition, which `sudo parted` grows"
    if not found.last:
        names = ", ".join(f"{name} (swap)" if disk.is_swap(name) else name for name in found.behind)
        return f"{found.device} cannot grow: another partition lies behind it on {found.disk}: {names}"
    if found.kind not in (*EXT, "xfs", "btrfs"):
        if found.file_system and short <= SLACK and found.room <= SLACK:
            return ""
        hand = BY_HAND.get(found.kind, "see the manual of its tools").format(**vars(found))
        left = f" ({_mb(short + found.room)} MB unused)" if found.file_system else ""
        return f"{at} is not grown by rpiomega{left}: {hand}"
    return ""


class Rootfs(Step):
    """The root file system, as large as its disk allows. `data`: ``reboot`` (needed, with the reason)."""

    name = job_steps.Rootfs.step
    args: job_steps.Rootfs

    def check(self) -> Diff:
        diff, found = Diff(), self._disk()
        self.notes[:] = []
        self.data.clear()
        if found is None:
            self._refuse_memory()
            return diff
        kept = self._kept()
        said = kept or advice(found)
        if said:
            self.notes.append(said)
        if kept or found.layer or found.read_only or found.logical:
            return diff
        if found.number and found.room > SLACK:
            diff.add(f"grow partition {found.number} of {found.disk} by {_mb(found.room)} MB")
        if found.kind in (*EXT, "xfs", "btrfs") and found.file_system and found.partition - found.file_system > SLACK:
            diff.add(f"grow the {found.kind} of {found.device}: {_mb(found.file_system)} -> {_mb(found.partition)} MB")
        if diff and self._scheduled():
            self.notes.append("the root file system grows with the next boot")
            self.data["reboot"] = "the root file system grows with the next boot"
            return Diff()
        return diff

    def apply(self) -> None:
        found = self._disk()
        tool = self._tool()
        self.board.log(f"growing with {tool}")
        if tool == "raspi-config":
            self.board.shell.run(["raspi-config", "nonint", "do_expand_rootfs"], timeout=120, finish=True)
            if self.board.exists(RASPI_ONCE):
                return
            # It ends with 0 and does nothing where the root is not where it expects it.
            self.board.log("raspi-config did nothing: growing with growpart")
        elif tool == "armbian":
            cure = f"`journalctl -u {ARMBIAN}` on the board"
            self.board.shell.must(["systemctl", "enable", "--quiet", ARMBIAN], cure)
            if self._scheduled():
                return
            self.board.log(f"{ARMBIAN} is not enabled: growing with growpart")
        if found:
            self._grow(found)

    def verify(self) -> None:
        # raspi-config and Armbian do it, or the last part of it, with the next boot.
        left = self.check()
        if left:
            raise StepError(f"the root file system did not grow: {left.lines[0]}", "see `lsblk` and this node's log")

    def _disk(self) -> Disk | None:
        if not self.board.live:
            return None
        return disk.find(self._mount())

    def _mount(self) -> str:
        return self.args.mount or "/"

    def _refuse_memory(self) -> None:
        """Raise StepError where the root is an overlay in memory: nothing that is installed would last."""
        if not self.board.live or self.board.container() or disk.kind(self._mount()) != "overlay":
            return
        words = (self.board.read("/proc/cmdline") or "").split()
        if "boot=overlay" in words or any(word.startswith("overlayroot=tmpfs") for word in words):
            cause = "the root file system is an overlay in memory: all changes are lost with the next boot"
            cure = "switch it off (`sudo raspi-config nonint do_overlayfs 1`, or overlayroot.conf), reboot, then again"
            raise StepError(cause, cure)
        self.notes.append("the root file system is an overlay: rpiomega does not grow it")

    def _kept(self) -> str:
        """Return why the owner of an Armbian board does not want its root to grow, empty if nothing says so."""
        if self.args.mount or not self._unit(ARMBIAN):
            return ""
        kept = [path for path in ARMBIAN_KEPT if self.board.exists(path)]
        return f"{kept[0]} says how large the root file system is to be: it stays as it is" if kept else ""

    def _tool(self) -> str:
        """Return the first tool of the board's profile that is there."""
        if self.args.mount:
            return "growpart"
        for tool in boards.find(self.board)["rootfs"]:
            if tool == "raspi-config" and self.board.has("raspi-config"):
                return tool
            if tool == "armbian" and self._unit(ARMBIAN):
                return tool
        return "growpart"

    def _unit(self, unit: str) -> bool:
        return any(
            self.board.exists(f"{folder}/{unit}.service") for folder in ("/lib/systemd/system", "/etc/systemd/system")
        )

    def _scheduled(self) -> bool:
        """Return whether the next boot will do it."""
        if self.args.mount:
            return False
        if self.board.exists(RASPI_ONCE):
            return True
        if not self._unit(ARMBIAN):
            return False
        return self.board.shell.run(["systemctl", "is-enabled", "-q", ARMBIAN]).code == 0

    def _grow(self, found: Disk) -> None:
        if found.number and found.room > SLACK:
            self._grow_partition(found)
        now = self._disk() or found
        command = {
            "xfs": ["xfs_growfs", self._mount()],
            "btrfs": ["btrfs", "filesystem", "resize", "max", self._mount()],
        }.get(now.kind, ["resize2fs", now.device] if now.kind in EXT else None)
        if command is None:
            return  # check() has a note on it
        result = self.board.shell.run(command, timeout=900, finish=True)
        if result.code:
            said = [line for line in result.output.splitlines() if line.startswith(f"{command[0]}:")]
            cure = f"run `sudo {' '.join(command)}` on the board and see what it says"
            raise StepError(f"{now.device} does not grow: {(said or [result.last])[0]}", cure)

    def _grow_partition(self, found: Disk) -> None:
        if not self.board.has("growpart"):
            # growpart calls sfdisk, which Debian has packed apart since bookworm.
            apt.install(self.board, ["cloud-guest-utils", "fdisk"])
        command = ["growpart", found.disk, str(found.number)]
        result = self.board.shell.run(command, timeout=120, finish=True)
        # Code 1 is "NOCHANGE": another tool was quicker.
        if result.code > 1 or (result.code == 1 and "NOCHANGE" not in result.output):
            raise StepError(f"`{' '.join(command)}` failed: {result.last}", f"see `sudo sfdisk -l {found.disk}`")
        if (self._disk() or found).room > SLACK:
            # The table on the card has grown, the kernel has still the old one.
            cure = "reboot the board, then again"
            self.board.shell.must(["partx", "--update", "--nr", str(found.number), found.disk], cure)


def _mb(size: int) -> int:
    return size // 1_000_000
