#!/bin/sh
# Runs once in a container of the virtual Pi's image: hands eth0 from NetworkManager to another network stack.
# Environment: STACK. How each stack finds its interface is what the respective system's first boot writes.
set -eu
here=$(dirname "$0")
. "$here/common.sh"
profile='/etc/NetworkManager/system-connections/Wired connection 1.nmconnection'

use_networkd() {
    install_packages systemd-resolved
    systemctl disable --quiet NetworkManager.service NetworkManager-wait-online.service
    systemctl mask --quiet NetworkManager.service
    rm -f "$profile"
    systemctl enable --quiet systemd-networkd.service systemd-resolved.service
    # Docker binds its own file over this one while the image is made: the link is made at the first boot.
    printf 'L+ /etc/resolv.conf - - - - ../run/systemd/resolve/stub-resolv.conf\n' > /etc/tmpfiles.d/lab-resolv.conf
}

netplan() {
    install_packages netplan.io
    install -m 600 /dev/stdin /etc/netplan/50-cloud-init.yaml
}

case $STACK in
    netplan)        # Ubuntu: netplan in front of systemd-networkd
        use_networkd
        netplan <<'YAML'
network:
  version: 2
  ethernets:
    eth0:
      dhcp4: true
      optional: true
YAML
        ;;
    netplan-nm)     # Raspberry Pi OS trixie, Ubuntu desktop: netplan in front of NetworkManager
        rm -f "$profile"
        netplan <<'YAML'
network:
  version: 2
  renderer: NetworkManager
  ethernets:
    eth0:
      dhcp4: true
YAML
        ;;
    networkd)       # Armbian minimal, Debian's cloud images
        use_networkd
        cat > /etc/systemd/network/80-wired.network <<'UNIT'
[Match]
Name=eth* en*

[Network]
DHCP=ipv4
UNIT
        ;;
    dhcpcd)         # Raspberry Pi OS bullseye and before
        install_packages dhcpcd
        systemctl disable --quiet NetworkManager.service NetworkManager-wait-online.service
        systemctl mask --quiet NetworkManager.service
        rm -f "$profile"
        systemctl enable --quiet dhcpcd.service
        # dhcpcd built with udev waits for it to announce eth0, and no container has it.
        printf '\n# The lab has no udev.\nnodev\n' >> /etc/dhcpcd.conf
        ;;
    *)
        echo "no such stack: $STACK" >&2
        exit 2
        ;;
esac
clean_up
