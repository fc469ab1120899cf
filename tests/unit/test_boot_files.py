"""Which file a board boots with: config.txt decides, a generated file is changed at its source, damage is named."""

import subprocess
from pathlib import Path

import pytest

from rpiomega.node import boot_files, firmware
from rpiomega.node.board import Board
from rpiomega.node.kernel_line import FLAGS
from rpiomega.node.step import StepError
from rpiomega.node.steps.cmdline import Cmdline
from rpiomega.node.steps.doctor import collect

LINE = "console=serial0,115200 console=tty1 root=PARTUUID=deadbeef-02 rootfstype=ext4 rootwait"
WITH = f"{LINE} {' '.join(FLAGS)}"
MODEL = "Raspberry Pi 5 Model B Rev 1.0\0"
OFF = {"sys/fs/cgroup/cgroup.controllers": "cpu io pids\n", "proc/device-tree/model": MODEL}
UBUNTU = "[all]\narm_64bit=1\nkernel=vmlinuz\ncmdline=cmdline.txt\nos_prefix=current/\n\n[tryboot]\nos_prefix=new/\n"


@pytest.fixture
def board(tmp_path):
    """`board(files)` -> a Board whose root has them (and the memory cgroup off)."""

    def make(files):
        for name, text in {**OFF, **files}.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, newline="")
        return Board(str(tmp_path))

    return make


def texts(board):
    """Give path -> text of every file of a board, copies left out."""
    files = [path for path in Path(board.root).rglob("*") if path.is_file() and path.suffix != ".before-rpiomega"]
    return {f"/{path.relative_to(board.root)}": path.read_bytes().decode() for path in files}


def changed(board):
    """Run the step; give path -> text of the files it changed."""
    step, before = Cmdline(board, {}), texts(board)
    step.check()
    assert texts(board) == before  # looking changes nothing
    step.apply()
    step.verify()
    return {path: text for path, text in texts(board).items() if text != before.get(path)}


def test_only_the_first_line_of_cmdline_txt_changes_and_a_copy_is_kept(board):
    old = f"{LINE}\n#console=tty1 root=/dev/mmcblk0p2 rootwait\n\nroot=/dev/sda2\n"
    found = board({"boot/firmware/cmdline.txt": old, "proc/cmdline": LINE})
    assert changed(found) == {"/boot/firmware/cmdline.txt": old.replace(LINE, WITH)}
    assert found.read("/boot/firmware/cmdline.txt.before-rpiomega") == old
    assert collect.boot.read(found, {})["cmdline"]["ignored"] == ["root=/dev/sda2"]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (f"{LINE}\r\n# x\r\n", f"{WITH}\r\n# x\r\n"),
        (LINE, f"{WITH}\n"),
        (f"\n \n{LINE}\n", f"\n \n{WITH}\n"),
        (f"{LINE}\0\0\n", f"{WITH}\0\0\n"),
        (f"\t{LINE}  \n", f"\t{WITH}  \n"),
        (f'{LINE} a="b  c"\n', f'{LINE} a="b  c" {" ".join(FLAGS)}\n'),
        (f"{LINE} x\x0by\x85z\u2028\n", f"{LINE} x\x0by\x85z\u2028 {' '.join(FLAGS)}\n"),
        (f"{LINE} cgroup_disable=memory cgroup_memory=0\n", f"{LINE} cgroup_memory=0 {' '.join(FLAGS)}\n"),
        (f"{WITH}", f"{WITH}"),
    ],
)
def test_cmdline_txt_as_other_programs_leave_it(old, new):
    assert boot_files.edit_cmdline(old) == new


@pytest.mark.parametrize("text", ["", "\n\n", "\0" * 512, " \t\n"])
def test_a_damaged_cmdline_txt_is_refused_with_its_name(board, text):
    found = board({"boot/firmware/cmdline.txt": text})
    with pytest.raises(StepError, match="/boot/firmware/cmdline.txt .*(empty|NUL)"):
        Cmdline(found, {}).check()
    assert collect.boot.read(found, {})["problem"][0].startswith("/boot/firmware/cmdline.txt")


def test_a_command_line_without_room_is_refused(board, monkeypatch):
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    line = f"{LINE} {'a' * (2030 - len(LINE))}"
    with pytest.raises(StepError, match="at most 2047 bytes"):
        Cmdline(board({"boot/firmware/cmdline.txt": line}), {}).check()
    # What the firmware put in front of it counts as well.
    line = line[:1900]
    with pytest.raises(StepError, match="at most 2047 bytes"):
        Cmdline(board({"boot/firmware/cmdline.txt": line, "proc/cmdline": f"{'b' * 200} {line}\n"}), {}).check()


CONFIGS = [
    ("arm_64bit=1\n", "Raspberry Pi 5 Model B", ["cmdline.txt"]),
    ("cmdline=mine.txt\n", "", ["mine.txt"]),
    ("#cmdline=mine.txt\n", "", ["cmdline.txt"]),
    ("[pi4]\ncmdline=mine.txt\n[all]\n", "Raspberry Pi 5 Model B", ["cmdline.txt"]),
    ("[pi4]\ncmdline=mine.txt\n[all]\n", "Raspberry Pi 400 Rev 1.0", ["mine.txt"]),
    ("[PI4]\r\ncmdline=mine.txt\r\n", "Raspberry Pi 4 Model B Rev 1.5", ["mine.txt"]),
    ("[pi4]\n[pi5]\ncmdline=mine.txt\n", "Raspberry Pi 5 Model B", ["mine.txt"]),
    ("[cm4]\ncmdline=mine.txt\n", "Raspberry Pi Compute Module 4 Rev 1.0", ["mine.txt"]),
    ("[cm4]\ncmdline=mine.txt\n", "Raspberry Pi 4 Model B Rev 1.5", ["cmdline.txt"]),
    ("[pi02]\ncmdline=mine.txt\n", "Raspberry Pi Zero 2 W Rev 1.0", ["mine.txt"]),
    ("[pi3+]\ncmdline=mine.txt\n", "Raspberry Pi 3 Model B Plus Rev 1.3", ["mine.txt"]),
    ("[none]\ncmdline=mine.txt\n", "", ["cmdline.txt"]),
    ("[tryboot]\ncmdline=mine.txt\n", "", ["cmdline.txt"]),
    ("include more.txt\n", "", ["mine.txt"]),
    ("[pi4]\ninclude more.txt\n", "Raspberry Pi 3 Model B", ["cmdline.txt"]),
    ("include config.txt\n", "", ["cmdline.txt"]),
    ("os_prefix=current/\n", "", ["current/cmdline.txt"]),
    ("os_prefix=nowhere/\n", "", ["cmdline.txt"]),
    ("os_prefix=../../\n", "", ["cmdline.txt"]),
    (UBUNTU, "Raspberry Pi 5 Model B", ["current/cmdline.txt"]),
    ("[gpio4=1]\ncmdline=mine.txt\n", "Raspberry Pi 5 Model B", ["cmdline.txt", "mine.txt"]),
    ("[0x12345678]\ncmdline=mine.txt\n[all]\ncmdline=mine.txt\n", "Raspberry Pi 5 Model B", ["mine.txt"]),
    ("[pi4]\n[gpio4=1]\ncmdline=mine.txt\n", "Raspberry Pi 5 Model B", ["cmdline.txt"]),
]


@pytest.mark.parametrize(("config", "model", "wanted"), CONFIGS)
def test_config_txt_names_the_file_the_firmware_reads(config, model, wanted):
    files = dict.fromkeys(("cmdline.txt", "mine.txt", "current/cmdline.txt", "new/cmdline.txt"), "root=x\n")
    files |= {"config.txt": config, "more.txt": "cmdline=mine.txt\n"}
    assert firmware.command_lines(files.get, model) == wanted


def test_ubuntus_waiting_boot_files_get_the_flags_too_and_its_stale_file_does_not(board):
    files = {f"boot/firmware/{name}cmdline.txt": LINE for name in ("", "current/", "new/", "old/")}
    found = board({**files, "boot/firmware/config.txt": UBUNTU, "boot/firmware/new/state": "unknown\n"})
    assert set(changed(found)) == {"/boot/firmware/current/cmdline.txt", "/boot/firmware/new/cmdline.txt"}
    assert found.read("/boot/firmware/cmdline.txt") == LINE


def test_the_prefix_this_system_was_started_with_counts_where_config_txt_has_none(board):
    files = {"boot/firmware/cmdline.txt": LINE, "boot/firmware/next/cmdline.txt": LINE}
    found = board({**files, "proc/device-tree/chosen/os_prefix": "next/\0"})
    assert set(changed(found)) == {"/boot/firmware/next/cmdline.txt"}


def test_debians_generated_cmdline_txt_gets_the_flags_with_its_source(board):
    hook = 'cmdline_custom="/etc/default/raspi-extra-cmdline"\n'
    found = board({"boot/firmware/cmdline.txt": LINE, "etc/kernel/postinst.d/z50-raspi-firmware": hook})
    assert changed(found) == {
        "/boot/firmware/cmdline.txt": f"{WITH}\n",
        "/etc/default/raspi-extra-cmdline": f"{' '.join(FLAGS)}\n",
    }


@pytest.mark.parametrize(
    "files",
    [
        {"boot/cmdline.txt": "DO NOT EDIT THIS FILE\n\nThe file has moved to /boot/firmware/cmdline.txt\n"},
        {
            "etc/fstab": "PARTUUID=x-01 /boot/firmware vfat defaults 0 2\n",
            "proc/self/mountinfo": "21 1 8:2 / / rw - ext4 /dev/sda2 rw\n",
            "boot/firmware/cmdline.txt": LINE,
        },
    ],
)
def test_a_boot_partition_that_is_not_mounted_is_named_and_nothing_below_it_changed(board, files):
    with pytest.raises(StepError, match="not mounted") as found:
        Cmdline(board(files), {}).check()
    assert "mount /boot/firmware" in found.value.cure


def test_after_a_reboot_without_effect_the_file_is_called_the_wrong_one(board):
    step = Cmdline(board({"boot/firmware/cmdline.txt": WITH, "proc/cmdline": "root=/dev/sda1 quiet\n"}), {})
    assert not step.check()
    assert "was not started with the command line of /boot/firmware/cmdline.txt" in step.notes[0]
    assert "reboot" not in step.data


ARMBIAN = [
    ("verbosity=1\n", "verbosity=1\nextraargs={}\n"),
    ("#extraargs=root=/dev/old\n", "#extraargs=root=/dev/old\nextraargs={}\n"),
    ("extraargs = a\nx=1", "extraargs = a\nx=1\nextraargs={}\n"),
    ("extraargs=a\nextraargs=b\nx=1\n", "extraargs=a\nextraargs=b {}\nx=1\n"),
    ("  extraargs=a b\r\nx=1\r\n", "  extraargs=a b {}\r\nx=1\r\n"),
    ("extraargs=\nx=1\n", "extraargs={}\nx=1\n"),
]


@pytest.mark.parametrize(("old", "new"), ARMBIAN)
def test_armbian_env_has_the_flags_in_the_line_that_is_effective(old, new):
    new = new.format(" ".join(FLAGS))
    assert boot_files.edit_armbian(old) == new
    assert boot_files.edit_armbian(new) == new


SHELL = [
    "",
    'GRUB_CMDLINE_LINUX=""\n',
    "GRUB_CMDLINE_LINUX=quiet # mine\n",
    "GRUB_CMDLINE_LINUX='a=b c=\"d e\"'\n".replace('"', ""),
    '#GRUB_CMDLINE_LINUX="old"\nGRUB_CMDLINE_LINUX="one"\nGRUB_CMDLINE_LINUX="two cgroup_disable=memory"\nX=1',
    '  export GRUB_CMDLINE_LINUX="x"\n',
]


@pytest.mark.parametrize("text", SHELL)
def test_a_shell_reads_the_flags_from_its_settings_file(tmp_path, text):
    path = tmp_path / "grub"
    show = ["sh", "-ec", f'. {path}; printf %s "$GRUB_CMDLINE_LINUX"']
    path.write_text(text)
    old = subprocess.run(show, capture_output=True, text=True, check=True).stdout
    path.write_text(boot_files.edit_variable(text, "GRUB_CMDLINE_LINUX"))
    new = subprocess.run(show, capture_output=True, text=True, check=True).stdout
    assert new.split() == [word for word in old.split() if word != "cgroup_disable=memory"] + list(FLAGS)
    kept = [line for line in text.split("\n") if "cgroup_disable" not in line][:-2]
    assert path.read_text().split("\n")[: len(kept)] == kept


@pytest.mark.parametrize("value", ['"$OTHER a"', '"a" "b"', "a\\ b", '"`date`"'])
def test_a_settings_file_that_is_a_program_is_left_to_its_owner(value):
    with pytest.raises(StepError, match="cannot be edited safely"):
        boot_files.edit_variable(f"GRUB_CMDLINE_LINUX={value}\n", "GRUB_CMDLINE_LINUX")


def test_a_fragment_that_overrides_the_settings_file_is_the_one_that_changes(board):
    grub, fragment = 'GRUB_CMDLINE_LINUX="a"\n', 'GRUB_CMDLINE_LINUX="b"\n'
    files = {"etc/default/grub": grub, "etc/default/grub.d/50-cloud.cfg": fragment}
    assert set(changed(board(files))) == {"/etc/default/grub.d/50-cloud.cfg"}


def test_extlinux_conf_gets_the_flags_in_its_default_entry_only(board):
    entry = "label {0}\n\tlinux /vmlinuz\n#\tappend root=old\n\tappend root=/dev/sda1 {0}\n"
    text = "DEFAULT two\n" + entry.format("one") + entry.format("two")
    found = board({"boot/extlinux/extlinux.conf": text})
    assert changed(found)["/boot/extlinux/extlinux.conf"] == text.replace("sda1 two", f"sda1 two {' '.join(FLAGS)}")


def test_where_u_boot_update_makes_extlinux_conf_its_settings_change(board):
    files = {"boot/extlinux/extlinux.conf": "label l0\nappend root=x\n", "usr/sbin/u-boot-update": ""}
    assert changed(board(files)) == {"/etc/default/u-boot": f'U_BOOT_PARAMETERS="ro quiet {" ".join(FLAGS)}"\n'}
    again = board({"etc/default/u-boot": "", "etc/kernel/cmdline": "root=x ro\n"})
    assert set(changed(again)) == {"/etc/kernel/cmdline"}


def test_extlinux_conf_may_have_tabs(board):
    text = "default\tl1\nlabel l0\n\tappend root=/dev/sda2\nlabel\tl1\n\tlinux /b\n\tappend\troot=/dev/sda1 ro\n"
    found = board({"boot/extlinux/extlinux.conf": text})
    assert changed(found)["/boot/extlinux/extlinux.conf"] == text.replace("sda1 ro", f"sda1 ro {' '.join(FLAGS)}")


def test_another_entry_of_extlinux_conf_never_gets_the_flags_in_place_of_the_default_one(board):
    text = "default l1\nlabel l1\n linux /b\nlabel l2\n append root=/dev/sda2\n"
    found = board({"boot/extlinux/extlinux.conf": text})
    with pytest.raises(StepError, match="extlinux.conf has no `append` line in its default entry l1"):
        Cmdline(found, {}).check()


def test_fstab_may_write_the_boot_partitions_folder_with_a_slash(board):
    files = {"etc/fstab": " LABEL=system-boot /boot/firmware/ vfat defaults 0 1\n", "proc/self/mountinfo": "",
             "boot/firmware/cmdline.txt": LINE}  # fmt: skip
    with pytest.raises(StepError, match="not mounted at /boot/firmware"):
        Cmdline(board(files), {}).check()


def test_a_file_that_config_txt_names_and_that_is_not_there_is_the_error(board):
    files = {"boot/firmware/config.txt": "cmdline=mine.txt\n", "boot/firmware/cmdline.txt": LINE}
    with pytest.raises(StepError, match="/boot/firmware/config.txt names a file for the kernel's command line that is"):
        Cmdline(board(files), {}).check()
