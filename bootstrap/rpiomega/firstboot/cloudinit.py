"""cloud-init (NoCloud on the boot partition): Raspberry Pi OS since trixie, Ubuntu.

Sources: docs.cloud-init.io (NoCloud, network configuration version 2, module reference), netplan.readthedocs.io.
"""

from __future__ import annotations

import hashlib

import yaml

from rpiomega.firstboot.plan import Plan


def files(plan: Plan) -> dict[str, str]:
    """Return file name -> text; names are relative to the boot partition."""
    user_data = "#cloud-config\n" + _yaml(_user_data(plan))
    network = _yaml(_network(plan))
    # Another instance-id makes cloud-init begin anew: a card that is prepared again takes effect.
    digest = hashlib.sha256((user_data + network).encode()).hexdigest()[:12]
    meta = _yaml({"instance-id": f"{plan.name}-{digest}", "local-hostname": plan.name})
    # An empty file `ssh` switches SSH on in Raspberry Pi OS; elsewhere it is on.
    return {"user-data": user_data, "network-config": network, "meta-data": meta, "ssh": ""}


def _yaml(data: dict) -> str:
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=1000)


def _user_data(plan: Plan) -> dict:
    data: dict = {
        "hostname": plan.name,
        # The bootstrap writes /etc/hosts; rewriting it at each boot would undo that.
        "manage_etc_hosts": False,
        "users": [
            {
                "name": plan.user,
                "groups": "users,adm,sudo",
                "shell": "/bin/bash",
                "sudo": "ALL=(ALL) NOPASSWD:ALL",
                "lock_passwd": True,
                "ssh_authorized_keys": plan.keys,
            }
        ],
        "ssh_pwauth": False,
    }
    if plan.timezone:
        data["timezone"] = plan.timezone
    if plan.locale:
        data["locale"] = plan.locale
    hosts = f"grep -qw {plan.name} /etc/hosts || printf '127.0.1.1\\t%s\\n' {plan.name} >> /etc/hosts"
    data["runcmd"] = [["sh", "-c", hosts], ["systemctl", "enable", "--now", "ssh"]]
    if plan.wifi:
        # Raspberry Pi OS blocks the radio until a country is set.
        country = plan.wifi["country"]
        radio = f"command -v iw >/dev/null && iw reg set {country}; " if country else ""
        data["runcmd"].append(["sh", "-c", f"{radio}command -v rfkill >/dev/null && rfkill unblock wifi; true"])
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
    if plan.wifi["country"]:
        card["regulatory-domain"] = plan.wifi["country"]
    card["access-points"] = {plan.wifi["ssid"]: {"password": plan.wifi["psk"]}}
    # The cable works as well, for the day the secret was wrong.
    spare = {"dhcp4": True, "optional": True}
    return {"version": 2, "ethernets": {"eth0": spare}, "wifis": {plan.interface: card}}
