"""cloud-init (NoCloud on the boot partition): Raspberry Pi OS since trixie, Ubuntu.

Sources: docs.cloud-init.io (NoCloud, network configuration version 2, module reference), netplan.readthedocs.io;
cloudinit/sources/DataSourceNoCloud.py and cloudinit/sources/__init__.py (what the kernel's command line overrides);
Raspberry Pi Imager (``ds=nocloud;i=`` since 2.0.10, singular ``user``).
"""

from __future__ import annotations

import hashlib
import re

import yaml

from rpiomega.firstboot import radio
from rpiomega.firstboot.plan import GROUPS, Plan
from rpiomega.node import kernel_line
from rpiomega.node.steps.locale import built_in, gen_line

# Words of the kernel's command line by which cloud-init takes other data than what is on the boot partition.
_SOURCE = re.compile(r'"?(ds|ci\.ds|ci\.datasource)=.*')
_OFF = re.compile(r'"?(cloud-init=disabled|network-config=.*)')
# A seed on this very card is ours to write.
_HERE = re.compile(r'"?ds=nocloud(-net)?;([^"]*;)?(s|seedfrom)=(file://)?/boot(/firmware)?/?[;"]?.*')


def files(plan: Plan) -> dict[str, str]:
    """Return file name -> text; names are relative to the boot partition."""
    meta = _yaml({"instance-id": instance_id(plan), "local-hostname": plan.name, "dsmode": "local"})
    # An empty file `ssh` switches SSH on in Raspberry Pi OS; elsewhere it is on.
    return {"user-data": _texts(plan)[0], "network-config": _texts(plan)[1], "meta-data": meta, "ssh": ""}


def instance_id(plan: Plan) -> str:
    """Return the instance-id: another one for other settings, so that a card that is prepared again takes effect."""
    return f"{plan.name}-{hashlib.sha256(''.join(_texts(plan)).encode()).hexdigest()[:12]}"


def edit_line(line: str, identity: str) -> str:
    """Return a kernel command line that lets cloud-init take the boot partition's files as those of a new instance.

    An instance-id on the command line outranks the one of meta-data, and makes cloud-init trust what it has cached: it
    becomes ours. Another source of data goes, as does what switches cloud-init or its network configuration off. A
    line without such words stays: cloud-init then reads the boot partition at each boot.
    """
    seed = next((found for found in map(_seed, kernel_line.words(line)) if found), "")
    sourced = any(_SOURCE.fullmatch(word) for word in kernel_line.words(line))
    new = f"ds=nocloud;i={identity}{seed}" if sourced else ""
    return kernel_line.replace(line, lambda word: bool(_SOURCE.fullmatch(word) or _OFF.fullmatch(word)), new)


def overrides(line: str, name: str) -> list[str]:
    """Return sentences on the words of the owner that `edit_line` takes out of file `name`."""
    lost = [
        word
        for word in kernel_line.words(line)
        if _OFF.fullmatch(word)
        or (_SOURCE.fullmatch(word) and not re.fullmatch(r'"?ds=nocloud(-net)?(;(i|instance-id)=[^;]*)?;?"?', word)
            and not _seed(word))
    ]  # fmt: skip
    return [f"{word} in {name} would keep cloud-init from these files: taken out, a copy is kept" for word in lost]


def _seed(word: str) -> str:
    return ";s=file:///boot/firmware/" if _HERE.fullmatch(word) else ""


def _texts(plan: Plan) -> tuple[str, str]:
    return "#cloud-config\n" + _yaml(_user_data(plan)), _yaml(_network(plan))


def _yaml(data: dict) -> str:
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=1000)


def _user_data(plan: Plan) -> dict:
    data: dict = {
        "hostname": plan.name,
        # The bootstrap writes /etc/hosts; rewriting it at each boot would undo that.
        "manage_etc_hosts": False,
        # `user`, not `users`: the image's first account keeps its groups (video, gpio, i2c...).
        "user": {
            "name": plan.user,
            "shell": "/bin/bash",
            "sudo": "ALL=(ALL) NOPASSWD:ALL",
            "lock_passwd": True,
            "ssh_authorized_keys": plan.keys,
        },
        "ssh_pwauth": False,
    }
    if plan.timezone:
        data["timezone"] = plan.timezone
    if plan.locale:
        data["locale"] = plan.locale
    if plan.locale and not built_in(plan.locale):
        # cloud-init runs `locale-gen NAME`; Debian's takes no name and generates what this file lists.
        line = gen_line(plan.locale)
        script = f"grep -qx '{line}' /etc/locale.gen || echo '{line}' >> /etc/locale.gen"
        data["bootcmd"] = [["cloud-init-per", "instance", "rpiomega-locale", "sh", "-c", script]]
    hosts = f"grep -qw {plan.name} /etc/hosts || printf '127.0.1.1\\t%s\\n' {plan.name} >> /etc/hosts"
    groups = (
        f"for group in {' '.join(GROUPS)}; do "
        f"if getent group $group >/dev/null; then usermod -aG $group {plan.user}; fi; done"
    )
    # Raspberry Pi OS changes its first account by a program of its own, which knows no sudo rules.
    rule = f"/etc/sudoers.d/010_{plan.user}-nopasswd"
    sudo = f"umask 227; echo '{plan.user} ALL=(ALL) NOPASSWD: ALL' > {rule}"
    commands = [hosts, groups, sudo]
    if plan.wifi:
        # As early as may be, and again where NetworkManager was on its way then.
        script = radio.script(plan.wifi.country)
        data.setdefault("bootcmd", []).append(["cloud-init-per", "instance", "rpiomega-radio", "sh", "-c", script])
        commands.append(script)
    data["runcmd"] = [["sh", "-c", command] for command in commands] + [["systemctl", "enable", "--now", "ssh"]]
    return data


def _network(plan: Plan) -> dict:
    # `optional`: a board without its cable must not wait minutes at each boot.
    card: dict = {"dhcp4": not plan.static, "optional": True}
    if plan.static:
        card["addresses"] = [f"{plan.address}/{plan.prefix}"]
        card["routes"] = [{"to": "default", "via": plan.gateway}]
        card["nameservers"] = {"addresses": plan.dns}
    if not plan.wifi:
        return {"version": 2, "ethernets": {plan.interface: card}}
    if plan.wifi.country:
        card["regulatory-domain"] = plan.wifi.country
    card["access-points"] = {plan.wifi.ssid: {"password": plan.wifi.psk}}
    # The cable works as well, for the day the secret was wrong.
    spare = {"dhcp4": True, "optional": True}
    return {"version": 2, "ethernets": {"eth0": spare}, "wifis": {plan.interface: card}}
