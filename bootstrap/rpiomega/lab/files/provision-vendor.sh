#!/bin/sh
# Runs once in a container of the Debian base: apt repositories laid out and signed as the vendors' own, holding Debian's
# programs (and a Salt from the Python package index) under the vendors' package names.
# Environment: PARTS, some of "docker salt"; RELEASE, Debian's code name.
set -eu
here=$(dirname "$0")
. "$here/common.sh"

install_packages ca-certificates python3 gpg gpg-agent
trust_extra_certificates
# Each build has a path of its own: a cache between it and a node never gives what another build held.
root=/srv/www/$(od -An -N4 -tx1 /dev/urandom | tr -d ' ')
mkdir -p "$root"
case " $PARTS " in *" salt "*) install_packages python3-venv gcc libc6-dev python3-dev ;; esac
apt-get update -q
for part in $PARTS; do
    python3 "$here/vendor_$part.py" "$RELEASE" "$root/$part"
done
clean_up
