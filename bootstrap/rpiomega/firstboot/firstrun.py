"""A script the kernel's command line starts once: Raspberry Pi OS bookworm and bullseye.

Sources: systemd.run= of kernel-command-line(7), systemd-run-generator(8); the settings of NetworkManager's
keyfiles: nm-settings-keyfile(5).
"""

from __future__ import annotations

import re
import shlex

from rpiomega.firstboot.plan import Plan

NAME = "firstrun.sh"
_OURS = re.compile(r"\s+systemd\.(run|run_success_action|run_failure_action|unit)=\S+")

SCRIPT = """#!/bin/bash
# Written by rpiomega: runs once, at the first boot, then takes itself out of the command line.
# No `set -e`: whatever fails, the board must come up, and this must not run at every boot.
boot={boot}
user={user}
exec >>"$boot/firstrun.log" 2>&1
date

# --- user: the image's first account gets the name; no password, the key below logs in ---
first=$(getent passwd 1000 | cut -d: -f1)
if [ -n "$first" ] && [ "$first" != "$user" ] && ! getent passwd "$user" >/dev/null; then
    usermod -l "$user" -d "/home/$user" -m "$first"
    groupmod -n "$user" "$first"
fi
getent passwd "$user" >/dev/null || useradd -m -s /bin/bash -G users,adm,sudo "$user"
usermod -p '*' -s /bin/bash "$user"
usermod -aG adm,sudo "$user"
home=$(getent passwd "$user" | cut -d: -f6)
install -d -m 700 -o "$user" -g "$(id -gn "$user")" "$home/.ssh"
cat >"$home/.ssh/authorized_keys" <<'KEYS'
{keys}
KEYS
chown "$user:$(id -gn "$user")" "$home/.ssh/authorized_keys"
chmod 600 "$home/.ssh/authorized_keys"
echo "$user ALL=(ALL) NOPASSWD: ALL" >"/etc/sudoers.d/010_$user-nopasswd"
chmod 440 "/etc/sudoers.d/010_$user-nopasswd"
# The image would ask for a user on the screen before anything else.
systemctl disable --now userconfig 2>/dev/null
systemctl enable getty@tty1 2>/dev/null

# --- name ---
old=$(cat /etc/hostname)
echo {name} >/etc/hostname
hostname {name}
sed -i "s/^127\\.0\\.1\\.1[[:space:]].*/127.0.1.1\\t{name}/" /etc/hosts
grep -qw {name} /etc/hosts || printf '127.0.1.1\\t{name}\\n' >>/etc/hosts

# --- SSH: keys only ---
mkdir -p /etc/ssh/sshd_config.d
echo 'PasswordAuthentication no' >/etc/ssh/sshd_config.d/10-rpiomega.conf
systemctl enable ssh
{network}{time}
# --- done: never again ---
ours='systemd\\.(run|run_success_action|run_failure_action|unit)'
sed -i -E "s/[[:space:]]+$ours=[^[:space:]]+//g" "$boot/cmdline.txt"
rm -f "$boot/{script}"
sync
exit 0
"""

KEYFILE = """
# --- network ---
if [ -d /etc/NetworkManager/system-connections ]; then
umask 077
cat >/etc/NetworkManager/system-connections/rpiomega-{interface}.nmconnection <<'NM'
{keyfile}NM
chmod 600 /etc/NetworkManager/system-connections/rpiomega-{interface}.nmconnection
{country}else
cat >>/etc/dhcpcd.conf <<'DHCPCD'
{dhcpcd}DHCPCD
fi
"""


def files(plan: Plan, boot: str) -> dict[str, str]:
    """Return file name -> text; `boot` is where the running board mounts its boot partition."""
    script = SCRIPT.format(
        boot=boot,
        user=shlex.quote(plan.user),
        name=plan.name,
        keys="\n".join(plan.keys),
        network=_network(plan),
        time=_time(plan),
        script=NAME,
    )
    return {NAME: script, "ssh": ""}


def arguments(boot: str) -> str:
    """Return what the kernel's command line must have at its end."""
    return (
        f"systemd.run={boot}/{NAME} systemd.run_success_action=reboot systemd.run_failure_action=reboot "
        "systemd.unit=kernel-command-line.target"
    )


def edit_cmdline(text: str, boot: str) -> str:
    """Return a command line that starts the script, as one line; what an earlier call added is replaced."""
    line = " ".join(_OURS.sub("", f" {' '.join(text.split())}").split())
    return f"{line} {arguments(boot)}\n"


def _network(plan: Plan) -> str:
    if not plan.static and not plan.wifi:
        return ""
    country = ""
    if plan.wifi and plan.wifi["country"]:
        country = (
            f"command -v raspi-config >/dev/null && raspi-config nonint do_wifi_country {plan.wifi['country']}\n"
            "command -v rfkill >/dev/null && rfkill unblock wifi\n"
        )
    return KEYFILE.format(interface=plan.interface, keyfile=_keyfile(plan), dhcpcd=_dhcpcd(plan), country=country)


def _keyfile(plan: Plan) -> str:
    kind = "wifi" if plan.wifi else "ethernet"
    lines = [f"[connection]\nid=rpiomega-{plan.interface}\ntype={kind}\ninterface-name={plan.interface}\n"]
    if plan.wifi:
        # As bytes: the format gives some letters a meaning.
        ssid = "".join(f"{byte};" for byte in plan.wifi["ssid"].encode())
        lines.append(f"[wifi]\nmode=infrastructure\nssid={ssid}\n")
        lines.append(f"[wifi-security]\nkey-mgmt=wpa-psk\npsk={plan.wifi['psk']}\n")
    if plan.static:
        dns = "".join(f"{server};" for server in plan.dns)
        address = f"address1={plan.address}/{plan.prefix},{plan.gateway}"
        lines.append(f"[ipv4]\nmethod=manual\n{address}\ndns={dns}\n")
    else:
        lines.append("[ipv4]\nmethod=auto\n")
    return "\n".join(lines)


def _dhcpcd(plan: Plan) -> str:
    if not plan.static:
        return ""
    return (
        f"\ninterface {plan.interface}\nstatic ip_address={plan.address}/{plan.prefix}\n"
        f"static routers={plan.gateway}\nstatic domain_name_servers={' '.join(plan.dns)}\n"
    )


def _time(plan: Plan) -> str:
    if not plan.timezone:
        return ""
    zone = shlex.quote(plan.timezone)
    return f"\nln -sf /usr/share/zoneinfo/{zone} /etc/localtime\necho {zone} >/etc/timezone\n"
