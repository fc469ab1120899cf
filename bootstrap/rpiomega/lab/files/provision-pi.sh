#!/bin/sh
# Runs once in a container of the Debian base: makes it a Raspberry Pi OS Lite look-alike. No Docker, no Salt.
set -eu
here=$(dirname "$0")
. "$here/common.sh"

install_packages $(cat "$here"/packages-pi*)
trust_extra_certificates

# --- a container instead of a board -------------------------------------------------------------------------
install -m 755 "$here/pi-init" /usr/local/sbin/pi-init
systemctl mask --quiet systemd-remount-fs.service dev-hugepages.mount dev-mqueue.mount sys-fs-fuse-connections.mount \
    getty@tty1.service console-getty.service modprobe@.service systemd-modules-load.service \
    apt-daily.timer apt-daily-upgrade.timer e2scrub_all.timer fstrim.timer dpkg-db-backup.timer 2>/dev/null
sed -i 's/^rlimit-/#&/' /etc/avahi/avahi-daemon.conf
mkdir -p /etc/systemd/journald.conf.d
printf '[Journal]\nStorage=persistent\nSystemMaxUse=50M\n' > /etc/systemd/journald.conf.d/lab.conf

# --- user pi -------------------------------------------------------------------------------------------------
id pi >/dev/null 2>&1 || useradd --create-home --shell /bin/bash --groups sudo,adm pi
usermod --password '*' pi          # no password, yet not locked: keys log in
echo 'pi ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/010_pi-nopasswd
chmod 440 /etc/sudoers.d/010_pi-nopasswd

# --- every board is called raspberrypi until somebody names it; identity is made at the first boot --------------
echo raspberrypi > /etc/hostname
printf '127.0.0.1\tlocalhost\n::1\t\tlocalhost ip6-localhost ip6-loopback\n\n127.0.1.1\traspberrypi\n' > /etc/hosts
rm -f /etc/ssh/ssh_host_* /var/lib/dbus/machine-id
: > /etc/machine-id
cat > /etc/systemd/system/regenerate_ssh_host_keys.service <<'UNIT'
[Unit]
Description=Generate the SSH host keys of this board
ConditionPathExists=!/etc/ssh/ssh_host_ed25519_key
Before=ssh.service ssh.socket
[Service]
Type=oneshot
ExecStart=/usr/bin/ssh-keygen -A
[Install]
WantedBy=multi-user.target
UNIT
systemctl enable --quiet regenerate_ssh_host_keys.service ssh.service NetworkManager.service avahi-daemon.service

# --- network: NetworkManager owns eth0 -----------------------------------------------------------------------
install -m 600 /dev/stdin '/etc/NetworkManager/system-connections/Wired connection 1.nmconnection' <<'NM'
[connection]
id=Wired connection 1
type=ethernet
interface-name=eth0
autoconnect-priority=-999

[ipv4]
method=auto

[ipv6]
method=link-local
NM
cat > /etc/NetworkManager/conf.d/lab.conf <<'NM'
[main]
# Without udev (no container has it) NetworkManager leaves veth devices, which is what eth0 is here, alone.
plugins=keyfile
[device-eth0]
match-device=interface-name:eth0
managed=1
NM
systemctl disable --quiet systemd-networkd.service systemd-networkd.socket 2>/dev/null || true

# --- firmware partition ---------------------------------------------------------------------------------------
mkdir -p /boot/firmware
echo 'console=serial0,115200 console=tty1 root=PARTUUID=deadbeef-02 rootfstype=ext4 fsck.repair=yes rootwait' \
    > /boot/firmware/cmdline.txt
printf '# For more options see http://rptl.io/configtxt\ndtparam=audio=on\narm_64bit=1\n' > /boot/firmware/config.txt

# --- cloud-init, set up as on Raspberry Pi OS trixie (bookworm has none): it keeps the name of user-data --------
if command -v cloud-init >/dev/null; then
cat > /etc/cloud/cloud.cfg.d/99_raspberry-pi.cfg <<'CLOUD'
datasource_list: [NoCloud, None]
datasource:
  NoCloud:
    seedfrom: file:///boot/firmware
network: {config: disabled}
CLOUD
printf '#cloud-config\nhostname: raspberrypi\nmanage_etc_hosts: true\nssh_deletekeys: false\n' > /boot/firmware/user-data
printf 'instance-id: rpios-image\n' > /boot/firmware/meta-data
fi

echo 'force-unsafe-io' > /etc/dpkg/dpkg.cfg.d/lab-unsafe-io
clean_up
