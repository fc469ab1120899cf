#!/bin/sh
# Runs once in a container of the Debian base: the lab's download cache (apt and pip) and its DHCP and DNS server.
set -eu
here=$(dirname "$0")
. "$here/common.sh"

echo 'apt-cacher-ng apt-cacher-ng/tunnelenable boolean true' | debconf-set-selections 2>/dev/null || true
install_packages ca-certificates python3 python3-venv apt-cacher-ng dnsmasq-base iproute2
trust_extra_certificates

python3 -m venv /opt/proxpi
PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_DISABLE_PIP_VERSION_CHECK=1 \
    /opt/proxpi/bin/pip install --quiet --no-cache-dir 'proxpi~=1.3' 'waitress~=3.0'

cat >> /etc/apt-cacher-ng/acng.conf <<'ACNG'
CacheDir: /data/apt
LogDir: /data/apt-log
# Repositories over https go through unseen; only Debian's own is worth a cache here.
PassThroughPattern: .*
ReuseConnections: 1
ACNG
install -m 755 "$here/cache-init" /usr/local/sbin/cache-init
clean_up
