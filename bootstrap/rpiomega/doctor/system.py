"""One board by itself: boot, memory, clock, disk, word size."""

from __future__ import annotations

from collections.abc import Iterator

from rpiomega.doctor.finding import Finding
from rpiomega.node.kernel_line import FLAGS

OFFSET, OFFSET_FATAL = 5.0, 3600.0
SPACE, SPACE_FATAL = 2000, 1000  # MB
BOOT_SPACE = 20
# Measured medians of good cards are 3 to 30 ms; Consul's and Swarm's leaders wait for each write.
LATENCY, LATENCY_FATAL, LATENCY_WORST = 100.0, 500.0, 2000.0
MANAGER_MEMORY = 900  # MB


def cmdline(node: str, facts: dict) -> Iterator[Finding]:
    """The line of cmdline.txt that the firmware reads names a root; what else is in the file has no effect."""
    found, problem = facts["boot"]["cmdline"], facts["boot"].get("problem")
    if problem:
        yield Finding(node, "cmdline", "error", problem[0], "the board may not start again", problem[1])
    if not found:
        return
    if not found["root"] and not problem:
        yield Finding(
            node,
            "cmdline",
            "error",
            f"the first line of {found['path']} names no root file system (root=...)",
            "the firmware reads the first line only: the board will not start again",
            "put `root=PARTUUID=...` of `findmnt -no SOURCE /` (see `blkid`) into the first line",
        )
    ignored = found.get("ignored", [])
    if ignored:
        yield Finding(
            node,
            "cmdline",
            "warning",
            f"{found['path']} has {found['lines']} lines; without effect: {ignored[0][:60]}",
            "the firmware reads the first line only",
            f"on {node}, move the words you want to the end of the first line, and put `#` before the others",
        )


def memory_cgroup(node: str, facts: dict) -> Iterator[Finding]:
    """The memory controller is effective, not merely asked for."""
    boot = facts["boot"]
    if boot["memory_cgroup"]:
        return
    what, why = "the memory cgroup is not effective", "Docker cannot limit or account a container's memory"
    if boot["container"]:
        yield Finding(node, "memory-cgroup", "note", what, why, "a container's host decides: nothing to do in here")
    elif boot["reboot"] and not boot["flags_missing"]:
        cure = f"rpiomega bootstrap --reboot {node}"
        yield Finding(node, "memory-cgroup", "error", f"{what}: {boot['reboot']}", why, cure)
    elif boot["cmdline"] or boot["flags_missing"]:
        cure = f"rpiomega bootstrap --reboot {node}   (adds {' '.join(FLAGS)})"
        yield Finding(node, "memory-cgroup", "error", what, why, cure, fix="cmdline" if boot["flags_missing"] else "")
    else:
        cure = f"add `{' '.join(FLAGS)}` to the kernel's command line by hand, then reboot"
        yield Finding(
            node,
            "memory-cgroup",
            "error",
            f"{what}, and {boot['model'] or 'this board'} has no boot file known to rpiomega",
            why,
            cure,
        )


def userland(node: str, facts: dict) -> Iterator[Finding]:
    """64-bit programs on a 64-bit kernel."""
    boot = facts["boot"]
    small = boot["bits"] == 32 or boot["userland"] in ("armhf", "armel", "i386")
    if not small:
        return
    why = "Docker's own packages ended with release 28 for 32-bit Raspberry Pi OS, and Salt has no packages there"
    if boot["machine"] in ("aarch64", "x86_64"):
        what = f"32-bit system ({boot['userland'] or 'unknown'}) on a 64-bit kernel ({boot['machine']})"
        yield Finding(
            node,
            "userland",
            "warning",
            what,
            why,
            f"write the 64-bit image to the card: `rpiomega firstboot {node} -o DIR` prepares it",
        )
    else:
        yield Finding(
            node,
            "userland",
            "note",
            f"32-bit board ({boot['machine']})",
            why,
            "set `docker: {source: distribution}` in the site file; Salt comes by pip",
        )


def memory(node: str, facts: dict, manager: bool) -> Iterator[Finding]:
    """A manager has room for Consul, Docker and Salt."""
    total = facts["boot"]["memory_mb"]
    if manager and 0 < total < MANAGER_MEMORY:
        yield Finding(
            node,
            "memory",
            "warning",
            f"a manager with {total} MB of memory",
            "Salt, Consul and the engine need about 400 MB of it; a full board loses the quorum its vote",
            f"give {node} the role worker in the site file, or use a larger board",
        )


def clock(node: str, facts: dict) -> Iterator[Finding]:
    """The clock is right and stays right."""
    offset, state = facts["clock"]["offset"], facts["clock"]
    container = facts["boot"]["container"]
    why = "nodes that disagree on the time refuse each other's certificates and tokens"
    if abs(offset) > OFFSET:
        severity = "error" if abs(offset) > OFFSET_FATAL else "warning"
        what = f"the clock is {offset:+.0f} s from the workstation's" + (
            ", although it is synchronised: is the workstation right?" if state["synchronised"] else ""
        )
        cure = "set the host's clock" if container else f"rpiomega doctor {node} --fix"
        yield Finding(
            node, "clock-offset", severity, what, why, cure, fix="" if state["synchronised"] or container else "clock"
        )
    if container or state["synchronised"]:
        return
    if state["can"] and not state["on"]:
        yield Finding(
            node,
            "clock-sync",
            "warning",
            "time synchronisation is switched off",
            why,
            "sudo timedatectl set-ntp true",
            fix="clock",
        )
    elif not state["server"]:
        said = "; ".join(f"{server}: {reason}" for server, reason in state["refused"].items()) or "none configured"
        yield Finding(
            node,
            "clock-sync",
            "warning",
            f"not synchronised, no time server answers ({said})",
            why + "; a board without a battery starts years behind",
            "let UDP port 123 out, or set `NTP=` in /etc/systemd/timesyncd.conf to a server of your network",
        )
    else:
        yield Finding(
            node,
            "clock-sync",
            "note",
            f"not synchronised yet, though {state['server']} answers",
            why,
            "wait a minute after boot; else `systemctl status systemd-timesyncd`",
        )


def storage(node: str, facts: dict) -> Iterator[Finding]:
    """Enough room, writable, and quick enough."""
    yield from file_systems(node, facts["storage"]["file_systems"])
    yield from _latency(node, facts["latency"])


def file_systems(node: str, found: dict) -> Iterator[Finding]:
    """Yield each file system that is read-only, full or without inodes."""
    for path, state in found.items():
        if state["read_only"]:
            yield _read_only(node, path)
        yield from _space(node, path, state)
        if state["inodes"] is not None and state["inodes"] < 5:
            yield Finding(
                node,
                "inodes",
                "error",
                f"{state['inodes']} % of the inodes of {path} are free",
                "no new file can be made although there is space",
                f"on {node}: sudo du --inodes -xd3 {path} | sort -n | tail",
            )


def _read_only(node: str, path: str) -> Finding:
    if path.startswith("/boot"):
        why = "no kernel and no boot setting can be written; the kernel does this to a damaged file system"
        cure = f"on {node}: sudo umount {path} && sudo fsck.vfat -a $(findmnt -nso SOURCE {path}) && sudo mount {path}"
        return Finding(node, "read-only", "error", f"{path} is read-only", why, cure)
    why = "nothing can be installed or saved here; the kernel does this when a card fails"
    cure = f"on {node}: sudo dmesg | grep -iE 'mmc|ext4|I/O error'   - then check or replace the card"
    return Finding(node, "read-only", "error", f"{path} is read-only", why, cure)


def _space(node: str, path: str, found: dict) -> Iterator[Finding]:
    what = f"{found['free_mb']} of {found['total_mb']} MB free on {path}"
    if path.startswith("/boot"):
        if found["free_mb"] < BOOT_SPACE:
            cure = f"ls -la {path}   - then remove what is not the firmware's or the kernel's"
            yield Finding(node, "space", "warning", what, "a kernel update will not fit", cure)
    elif found["free_mb"] < SPACE:
        severity = "error" if found["free_mb"] < SPACE_FATAL else "warning"
        why = "a full disk stops Docker, Consul's log and package updates"
        cure = "sudo apt-get clean; docker system df   - does the root file system fill the card? "
        yield Finding(node, "space", severity, what, why, f"{cure}rpiomega bootstrap {node} --dry-run")


def _latency(node: str, found: dict) -> Iterator[Finding]:
    if "error" in found:
        yield Finding(
            node,
            "latency",
            "error",
            f"a small write to /var/tmp fails: {found['error']}",
            "nothing can be installed",
            "df -h; sudo dmesg | tail",
        )
        return
    median, worst = found["median_ms"], found["worst_ms"]
    if median > LATENCY or worst > LATENCY_WORST:
        yield Finding(
            node,
            "latency",
            "error" if median > LATENCY_FATAL else "warning",
            f"a small write is safe after {median:.0f} ms (median; worst {worst:.0f} ms)",
            "Consul and Swarm leaders wait for each write; slow ones lose elections",
            "use a card of class A2 or a USB SSD; see what writes now with `sudo iotop -o`",
        )
