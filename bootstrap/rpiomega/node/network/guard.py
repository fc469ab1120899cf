"""The way back: a program that stays on the board until the new address is confirmed. Standard library only, alone.

guard.py activate    make the new configuration effective; go back at once if a command of it fails
guard.py rollback    go back, unless the new address was confirmed (a timer calls this)
guard.py boot        the same before the network starts: power was lost before the confirmation
guard.py radio IFACE wait until NetworkManager has a wireless interface switched on (a command of `activate`)

Beside it: pending.json (what was there, what to run), lock, outcome.json (how it ended).
"""

import fcntl
import json
import os
import subprocess
import sys
import time

FOLDER = "/var/lib/rpiomega/network"
PYTHON = "/usr/bin/python3"
UNIT = "/etc/systemd/system/rpiomega-network-guard.service"
WANTS = "/etc/systemd/system/multi-user.target.wants/rpiomega-network-guard.service"
BOUND = 90
# A DHCP server may take its time.
SETTLE = 20


def main(mode: str, folder: str) -> int:
    """Run one of the modes; return the exit code."""
    with open(os.path.join(folder, "lock"), "a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        path = os.path.join(folder, "pending.json")
        try:
            with open(path, encoding="utf-8") as handle:
                pending = json.load(handle)
        except FileNotFoundError:
            return 0
        if mode == "activate":
            failure = run(pending["activate"], True)
            if not failure:
                return 0
            why = f"the new configuration could not be made effective ({failure})"
        elif mode == "boot":
            why = "the board lost power, or was started again, before the new address was confirmed"
        else:
            why = f"nobody confirmed the new address within {pending['bound']} s"
        restore(pending)
        failure = run(pending["boot" if mode == "boot" else "restore"], False)
        if mode != "boot" and not has_address(pending):
            failure = (failure + "; " if failure else "") + "no address came back before a restart of the service"
            run(pending["restart"], False)
        outcome = {"token": pending["token"], "why": why, "failure": failure, "when": time.time()}
        write(os.path.join(folder, "outcome.json"), json.dumps(outcome), 0o600)
        os.unlink(path)
        disarm()
    return 0


def restore(pending: dict) -> None:
    """Write every file back as it was; what was not there is removed."""
    for item in pending["files"]:
        path = item["path"]
        if item["text"] is None:
            if os.path.lexists(path):
                os.unlink(path)
        else:
            write(path, item["text"], item["mode"], item["uid"], item["gid"])
    os.sync()


def write(path: str, text: str, mode: int, uid: int = 0, gid: int = 0) -> None:
    """Replace a file whole; of a symbolic link the file it leads to."""
    path = os.path.realpath(path)
    temporary = os.path.join(os.path.dirname(path), "." + os.path.basename(path) + ".rpiomega")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(handle, "wb") as stream:
        stream.write(text.encode("utf-8", "surrogateescape"))
        stream.flush()
        os.fchown(stream.fileno(), uid, gid)
        os.fchmod(stream.fileno(), mode)
        os.fsync(stream.fileno())
    os.replace(temporary, path)


def run(commands: list, stop: float) -> str:
    """Run commands one after the other; return the first failure as one line, empty if there is none.

    As in systemd's units, the failure of a command with a `-` before its name does not count.
    """
    failure = ""
    for argv in commands:
        optional, argv = argv[0].startswith("-"), [argv[0].lstrip("-"), *argv[1:]]
        try:
            done = subprocess.run(
                argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=BOUND
            )
            code, output = done.returncode, done.stdout.decode("utf-8", "replace").strip()
        except (OSError, subprocess.TimeoutExpired) as error:
            code, output = -1, str(error)
        print("$", " ".join(argv), "->", code, output, flush=True)
        if code and not optional:
            last = output.splitlines()[-1] if output else f"exit code {code}"
            failure = failure or " ".join(argv[:3]) + ": " + last
            if stop:
                break
    return failure


def has_address(pending: dict) -> bool:
    """Wait for an address of the interface that is not the one given up; return whether there is one."""
    for _ in range(SETTLE):
        shown = subprocess.run(
            ["ip", "-4", "-o", "addr", "show", "dev", pending["interface"], "scope", "global"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
        ).stdout.decode().split()  # fmt: skip
        found = [word for word in shown if "/" in word]
        if any(word in pending["before"] or word != pending["target"] for word in found):
            return True
        time.sleep(1)
    return False


def radio(interface: str, nmcli: str = "nmcli", bound: int = SETTLE) -> int:
    """Wait until NetworkManager can use a wireless interface; return 0, or print the reason and return 1."""
    device = ["-g", "GENERAL.STATE", "device", "show", interface]
    for left in range(bound, 0, -1):
        enabled, hardware, state = (
            subprocess.run(
                [nmcli, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                env=dict(os.environ, LC_ALL="C"),
            ).stdout.decode("utf-8", "replace").strip()
            for words in (["radio", "wifi"], ["-g", "WIFI-HW", "radio"], device)
        )  # fmt: skip
        # nm-device-state: 20 is unavailable, 30 disconnected.
        number = state.split()[0] if state else ""
        if enabled == "enabled" and number.isdigit() and int(number) >= 30:
            return 0
        if left > 1:
            time.sleep(1)
    print(f"Wi-Fi stays off: `nmcli radio wifi` is {enabled}, hardware {hardware}, {interface} is {state or 'missing'}")
    return 1


def disarm() -> None:
    """Remove the unit that runs this program at boot; should power fail before, it finds nothing pending."""
    for path in (WANTS, UNIT):
        if os.path.lexists(path):
            os.unlink(path)


if __name__ == "__main__":
    if sys.argv[1] == "radio":
        sys.exit(radio(sys.argv[2]))
    sys.exit(main(sys.argv[1], os.path.dirname(os.path.abspath(__file__))))
