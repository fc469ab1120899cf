"""`swap: off`: what starts swap at boot, whoever wrote it, by the parsers of util-linux, systemd and the shell."""

import subprocess
from pathlib import Path

import pytest

from rpiomega.node import fstab
from rpiomega.node.board import Board
from rpiomega.node.step import StepError
from rpiomega.node.steps.swap import Swap, edit_fstab

ROOT = "PARTUUID=deadbeef-02 / ext4 defaults,noatime 0 1\n"
SWAPS = [
    "/dev/sda3 none swap sw 0 0",
    "  /dev/sda3 none swap sw 0 0",
    "\t/dev/sda3\tnone\tswap\tsw\t0\t0",
    "LABEL=swap none swap sw,nofail 0 0",
    "UUID=0b1c none swap defaults,noauto",
    "/my\\040files/swapfile none swap sw 0 0",
    "/swapfile swap swap",
    "/dev/zram0 none swap defaults,pri=100 0 0",
    "/dev/disk/by-label/s#1 none swap sw 0 0 # mine",
]
OTHERS = [
    "# /dev/sda3 none swap sw 0 0",
    "  # /dev/sda3 none swap sw 0 0",
    "/dev/sda4 /mnt/swap ext4 defaults 0 2",
    "/dev/sda5 /srv/none xfs swap 0 0",
    "tmpfs /tmp tmpfs size=64m 0 0",
    "",
    "/dev/sda6 swap",
]


def findmnt(folder, text):
    """Give the devices of the swap entries that util-linux reads in a file."""
    path = folder / "fstab"
    path.write_text(text)
    command = ["findmnt", "--tab-file", path, "--types", "swap", "--noheadings", "--raw", "--output", "SOURCE"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.split("\n")[:-1]


@pytest.mark.parametrize("line", SWAPS)
def test_every_form_of_a_swap_line_is_a_comment_afterwards(tmp_path, line):
    text = f"{ROOT}{line}\n"
    assert len(findmnt(tmp_path, text)) == 1, "util-linux reads it as swap"
    assert edit_fstab(text) == f"{ROOT}# off (rpiomega): {line}\n"
    assert findmnt(tmp_path, edit_fstab(text)) == []


def test_all_other_lines_stay_to_the_byte(tmp_path):
    text = ROOT + "\n".join(OTHERS)
    assert findmnt(tmp_path, text) == []
    assert edit_fstab(text) == text


def test_compressed_swap_that_is_wanted_stays_in_fstab():
    assert edit_fstab("/dev/zram0 none swap sw 0 0\n/swap none swap sw 0 0\n", "zram").splitlines() == [
        "/dev/zram0 none swap sw 0 0",
        "# off (rpiomega): /swap none swap sw 0 0",
    ]


def test_octal_escapes_are_blanks():
    assert fstab.parse("/my\\040files/a\\011b none swap").device == "/my files/a\tb"


@pytest.fixture
def board(tmp_path):
    """A board's folder with fstab."""
    board = Board(str(tmp_path))
    put(board, "/etc/fstab", ROOT)
    return board


def put(board, path, text):
    """Write a file of the board."""
    Path(board.path(path)).parent.mkdir(parents=True, exist_ok=True)
    Path(board.path(path)).write_text(text, encoding="utf-8")


def systemctl(board, *words):
    """Ask systemd of the units in the board's folder."""
    command = ["systemctl", f"--root={board.root}", *words]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout


def settle(board, wanted):
    """Check, apply, verify; a fresh step finds nothing. Give the lines of the first check."""
    step = Swap(board, {"swap": wanted})
    lines = step.check().lines
    step.apply()
    step.verify()
    assert not Swap(board, {"swap": wanted}).check()
    return lines


def test_swap_units_and_services_that_make_swap_are_off_at_the_next_boot(board):
    put(board, "/etc/systemd/system/swap.target", "[Unit]\nDescription=Swap\n")
    install = "[Install]\nWantedBy=swap.target\n"
    put(board, "/etc/systemd/system/srv-swapfile.swap", f"[Swap]\nWhat=/srv/swapfile\n{install}")
    put(board, "/usr/lib/systemd/system/zramswap.service", f"[Service]\nExecStart=/usr/sbin/zramswap start\n{install}")
    put(board, "/usr/lib/systemd/system/dev-sdb1.swap", f"[Swap]\nWhat=/dev/sdb1\n{install}")
    systemctl(board, "enable", "srv-swapfile.swap", "zramswap.service")
    assert settle(board, "off") == ["disable zramswap.service", "disable srv-swapfile.swap"]
    listed = systemctl(board, "list-unit-files", "--no-legend")
    assert "enabled" not in [line.split()[1] for line in listed.splitlines() if "swap." in line or "zram" in line]
    assert board.read("/etc/systemd/system/srv-swapfile.swap"), "the owner's file stays"


def test_compressed_swap_may_start_again(board):
    put(board, "/usr/lib/systemd/system/dev-zram0.swap", "[Swap]\nWhat=/dev/zram0\n")
    systemctl(board, "mask", "dev-zram0.swap")
    assert settle(board, "zram") == ["unmask dev-zram0.swap"]
    assert "masked" not in systemctl(board, "list-unit-files", "--no-legend")


def test_a_file_of_rpi_swap_that_overrules_ours_is_named(board):
    put(board, "/etc/rpi/swap.conf", "[Main]\n#Mechanism=auto\n")
    put(board, "/etc/rpi/swap.conf.d/80-mine.conf", "[Main]\nMechanism=swapfile\n")
    settle(board, "off")
    put(board, "/etc/rpi/swap.conf.d/99-mine.conf", "[Main]\nMechanism = zram+file\n")
    with pytest.raises(StepError) as refused:
        Swap(board, {"swap": "off"}).check()
    assert "it is zram+file instead of none (/etc/rpi/swap.conf.d/99-mine.conf sets it)" in refused.value.cause


@pytest.mark.parametrize("line", ["  CONF_SWAPSIZE=512", "export CONF_SWAPSIZE=512", "\tCONF_SWAPSIZE='512'"])
def test_settings_that_a_shell_reads_are_set_once(board, line):
    put(board, "/etc/dphys-swapfile", f"#CONF_SWAPFILE=/var/swap\n{line}\n")
    settle(board, "off")
    shell = ["sh", "-c", f". {board.path('/etc/dphys-swapfile')}; echo $CONF_SWAPSIZE"]
    assert subprocess.run(shell, capture_output=True, text=True, check=True).stdout == "0\n"
