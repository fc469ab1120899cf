"""A script the kernel's command line starts once: Raspberry Pi OS bookworm and bullseye.

Sources: systemd.run= of kernel-command-line(7), systemd-run-generator(8); the settings of NetworkManager's
keyfiles: nm-settings-keyfile(5); userconf of RPi-Distro/userconf-pi, which Raspberry Pi Imager calls as well.
"""

from __future__ import annotations

import re
import shlex

from rpiomega.firstboot import radio
from rpiomega.firstboot.plan import GROUPS, Plan
from rpiomega.node import firmware, kernel_line
from rpiomega.node.steps.locale import built_in, gen_line, plain

NAME = "firstrun.sh"
USERCONF = "/usr/lib/userconf-pi/userconf"

SCRIPT = """#!/bin/bash
# Written by rpiomega: runs once, at the first boot, then takes itself out of the command line.
# No `set -e`: whatever fails, the board must come up, and this must not run at every boot.
boot={boot}
user={user}
exec >>"$boot/firstrun.log" 2>&1
date

# --- user: the image's first account gets the name; no password, the key below logs in ---
known() {{ getent passwd "$1" >/dev/null; }}
first=$(getent passwd 1000 | cut -d: -f1)
if [ -f {userconf} ] && {{ [ "$first" = "$user" ] || ! known "$user"; }}; then
    # Renames the account everywhere the image has its name, and ends the image's wait for a user.
    {userconf} "$user" ''
fi
if [ -n "$first" ] && known "$first" && ! known "$user"; then
    usermod -l "$user" "$first" && usermod -m -d "/home/$user" "$user"
    groupmod -n "$user" "$first"
    sed -i "s/^$first:/$user:/" /etc/subuid /etc/subgid
    for rule in /etc/sudoers.d/010_pi-nopasswd; do [ ! -f "$rule" ] || sed -i "s/^$first /$user /" "$rule"; done
fi
known "$user" || useradd -m -s /bin/bash "$user"
for group in {groups}; do
    if getent group "$group" >/dev/null; then usermod -aG "$group" "$user"; fi
done
usermod -p '*' -s /bin/bash "$user"
home=$(getent passwd "$user" | cut -d: -f6)
install -d -m 700 -o "$user" -g "$(id -gn "$user")" "$home/.ssh"
cat >"$home/.ssh/authorized_keys" <<'KEYS'
{keys}
KEYS
chown "$user:$(id -gn "$user")" "$home/.ssh/authorized_keys"
chmod 600 "$home/.ssh/authorized_keys"
echo "$user ALL=(ALL) NOPASSWD: ALL" >"/etc/sudoers.d/010_$user-nopasswd"
chmod 440 "/etc/sudoers.d/010_$user-nopasswd"
# The image would ask for a user on the screen before anything else, and say so to each SSH login.
rm -f /etc/ssh/sshd_config.d/rename_user.conf
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
# The firmware may read another file than cmdline.txt, and in a folder (config.txt, os_prefix).
for file in {names} "$boot"/*.txt "$boot"/*/*.txt; do
    if grep -qs "systemd\\.run=$boot/{script}" "$file"; then sed -i {clean} "$file"; fi
done
rm -f "$boot/{script}"
sync
exit 0
"""

NETWORK = """
# --- network ---
if [ -d /etc/NetworkManager/system-connections ]; then
    target=/etc/NetworkManager/system-connections/rpiomega-{interface}.nmconnection
    (umask 077; cat >"$target") <<'NM'
{keyfile}NM
    chmod 600 "$target"
else
    cat >>/etc/dhcpcd.conf <<'DHCPCD'
{dhcpcd}DHCPCD
{supplicant}fi
{radio}
"""

SUPPLICANT = """    (umask 077; cat >/etc/wpa_supplicant/wpa_supplicant.conf) <<'WPA'
{country}ctrl_interface=DIR=/var/run/wpa_supplicant GROUP=netdev
update_config=1
network={{
	ssid={ssid}
	psk={psk}
}}
WPA
"""

LOCALE = """
# --- locale ---
sed -i 's/^# *\\({name} [^ ]*\\) *$/\\1/' /etc/locale.gen
grep -q '^{name} ' /etc/locale.gen || echo '{line}' >>/etc/locale.gen
locale-gen
if locale -a | tr A-Z a-z | tr -d - | grep -qx '{plain}'; then
    touch /etc/default/locale
    sed -i --follow-symlinks '/^LANG=/d;/^LC_ALL=/d' /etc/default/locale
    echo LANG={name} >>/etc/default/locale
fi
"""


def files(plan: Plan, boot: str, lines: tuple[str, ...] = (firmware.DEFAULT,)) -> dict[str, str]:
    """Return file name -> text; `boot` is where the running board mounts its boot partition.

    `lines` are the files on it with the kernel's command line, out of which the script takes itself.
    """
    script = SCRIPT.format(
        boot=boot,
        user=shlex.quote(plan.user),
        userconf=USERCONF,
        groups=" ".join(GROUPS),
        name=plan.name,
        keys="\n".join(plan.keys),
        network=_network(plan),
        time=_time(plan) + _locale(plan),
        names=" ".join(f'"$boot"/{shlex.quote(name)}' for name in lines),
        clean=shlex.quote(_cleaner(boot)),
        script=NAME,
    )
    return {NAME: script, "ssh": ""}


def arguments(boot: str) -> str:
    """Return what the kernel's command line must have at its end."""
    return (
        f"systemd.run={boot}/{NAME} systemd.run_success_action=reboot systemd.run_failure_action=reboot "
        "systemd.unit=kernel-command-line.target"
    )


def _cleaner(boot: str) -> str:
    """Return the sed script that takes `arguments(boot)` out of the line that has them; comments stay."""
    words = [word.replace(".", r"\.").replace("/", r"\/") for word in arguments(boot).split()]
    drop = "".join(rf"s/[[:space:]]*{word}\([[:space:]]\|$\)/\1/;" for word in words)
    return f"/^[[:space:]]*#/b;/{words[0]}/{{{drop}}}"


def edit_line(line: str, boot: str) -> str:
    """Return a command line that starts the script; what an earlier call or another program added for its own first
    script is replaced, all other words stay."""
    ours = set(arguments(boot).split())

    def unwanted(word: str) -> bool:
        return word in ours or re.fullmatch(rf"systemd\.run=\S*/{re.escape(NAME)}", word) is not None

    return kernel_line.replace(kernel_line.replace(line, unwanted), lambda _: False, arguments(boot))


def _network(plan: Plan) -> str:
    if not plan.static and not plan.wifi:
        return ""
    commands = radio.script(plan.wifi.country) if plan.wifi else ""
    supplicant = ""
    if plan.wifi:
        # Before bookworm wpa_supplicant has the wireless networks. A name as hexadecimal digits needs no quotes.
        country = f"country={plan.wifi.country}\n" if plan.wifi.country else ""
        ssid = plan.wifi.ssid.encode().hex()
        supplicant = SUPPLICANT.format(country=country, ssid=ssid, psk=plan.wifi.psk)
    return NETWORK.format(interface=plan.interface, keyfile=_keyfile(plan), dhcpcd=_dhcpcd(plan), radio=commands,
                          supplicant=supplicant)  # fmt: skip


def _keyfile(plan: Plan) -> str:
    kind = "wifi" if plan.wifi else "ethernet"
    lines = [f"[connection]\nid=rpiomega-{plan.interface}\ntype={kind}\ninterface-name={plan.interface}\n"]
    if plan.wifi:
        # As bytes: the format gives some letters a meaning.
        ssid = "".join(f"{byte};" for byte in plan.wifi.ssid.encode())
        lines.append(f"[wifi]\nmode=infrastructure\nssid={ssid}\n")
        lines.append(f"[wifi-security]\nkey-mgmt=wpa-psk\npsk={plan.wifi.psk}\n")
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
    return (
        f"\n# --- time zone ---\nif [ -e /usr/share/zoneinfo/{zone} ]; then\n"
        f"    ln -sf /usr/share/zoneinfo/{zone} /etc/localtime\n    echo {zone} >/etc/timezone\nfi\n"
    )


def _locale(plan: Plan) -> str:
    """Return commands that generate the locale and make it the default once it exists."""
    if not plan.locale:
        return ""
    name = plan.locale
    if built_in(name):
        return f"\n# --- locale ---\necho LANG={name} >/etc/default/locale\n"
    return LOCALE.format(line=gen_line(name), plain=plain(name).lower().replace("-", ""), name=name)
