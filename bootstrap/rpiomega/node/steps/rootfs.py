"""The root file system fills its card. Images that grew at their first boot pass with nothing to do.

Sources: raspi-config's do_expand_rootfs (RPi-Distro/raspi-config), Armbian's armbian-resize-filesystem unit,
growpart(1) and resize2fs(8).
"""

from __future__ import annotations

from rpiomega.node import apt, boards, disk
from rpiomega.node.disk import Disk
from rpiomega.node.step import Diff, Step, StepError

# Images leave a little behind the last partition: alignment, and GPT's second table.
SLACK = 16 << 20
ARMBIAN = "armbian-resize-filesystem"
RASPI_ONCE = "/etc/init.d/resize2fs_once"


class Rootfs(Step):
    """Argument: `mount`, the root's mount point if not ``/``. `data`: ``reboot`` (needed, with the reason)."""

    name = "rootfs"

    def check(self) -> Diff:
        diff, found = Diff(), self._disk()
        self.notes[:] = []
        if found is None:
            return diff
        if found.number and found.room > SLACK:
            diff.add(f"grow partition {found.number} of {found.disk} by {_mb(found.room)} MB")
        if found.file_system and found.partition - found.file_system > SLACK:
            diff.add(f"grow the {found.kind} of {found.device}: {_mb(found.file_system)} -> {_mb(found.partition)} MB")
        if diff and self._scheduled():
            self.notes.append("the root file system grows with the next boot")
            self.data["reboot"] = "the root file system grows with the next boot"
            return Diff()
        if not found.last:
            self.notes.append(f"{found.device} cannot grow: another partition lies behind it on {found.disk}")
        return diff

    def apply(self) -> None:
        found = self._disk()
        tool = self._tool()
        self.board.log(f"growing with {tool}")
        if tool == "raspi-config":
            cure = "run `sudo raspi-config nonint do_expand_rootfs` on the board and see what it says"
            self.board.shell.must(["raspi-config", "nonint", "do_expand_rootfs"], cure, timeout=120, finish=True)
        elif tool == "armbian":
            cure = f"`journalctl -u {ARMBIAN}` on the board"
            self.board.shell.must(["systemctl", "enable", "--quiet", ARMBIAN], cure)
        else:
            self._grow(found)

    def verify(self) -> None:
        # raspi-config and Armbian do it, or the last part of it, with the next boot.
        left = self.check()
        if left:
            raise StepError(f"the root file system did not grow: {left.lines[0]}", "see `lsblk` and this node's log")

    def _disk(self) -> Disk | None:
        if not self.board.live:
            return None
        mount = self.args.get("mount", "/")
        return disk.find(mount)

    def _tool(self) -> str:
        """Return the first tool of the board's profile that is there."""
        if "mount" in self.args:
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
        if "mount" in self.args:
            return False
        if self.board.exists(RASPI_ONCE):
            return True
        if not self._unit(ARMBIAN):
            return False
        return self.board.shell.run(["systemctl", "is-enabled", "-q", ARMBIAN]).code == 0

    def _grow(self, found: Disk) -> None:
        if found.number and found.room > SLACK:
            self._grow_partition(found)
        now = self._disk()
        if now.kind in ("ext2", "ext3", "ext4"):
            cure = f"run `sudo resize2fs {now.device}` on the board and see what it says"
            result = self.board.shell.run(["resize2fs", now.device], timeout=900, finish=True)
            if result.code:
                said = [line for line in result.output.splitlines() if line.startswith("resize2fs:")]
                raise StepError(f"{now.device} does not grow: {(said or [result.last])[0]}", cure)
        else:
            self.notes.append(f"{now.kind} is not grown by rpiomega: see the manual of its tools")

    def _grow_partition(self, found: Disk) -> None:
        if not self.board.has("growpart"):
            # growpart calls sfdisk, which Debian has packed apart since bookworm.
            apt.install(self.board, ["cloud-guest-utils", "fdisk"])
        command = ["growpart", found.disk, str(found.number)]
        result = self.board.shell.run(command, timeout=120, finish=True)
        # Code 1 is "NOCHANGE": another tool was quicker.
        if result.code > 1 or (result.code == 1 and "NOCHANGE" not in result.output):
            raise StepError(f"`{' '.join(command)}` failed: {result.last}", f"see `sudo sfdisk -l {found.disk}`")


def _mb(size: int) -> int:
    return size // 1_000_000
