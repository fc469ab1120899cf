#!/bin/sh
# Runs once in a container of the Debian base: the environment of the stand-in for Backblaze B2.
set -eu
here=$(dirname "$0")
. "$here/common.sh"

install_packages ca-certificates python3 python3-venv
trust_extra_certificates
python3 -m venv /opt/b2
PIP_CERT=/etc/ssl/certs/ca-certificates.crt PIP_DISABLE_PIP_VERSION_CHECK=1 \
    /opt/b2/bin/pip install --quiet --no-cache-dir 'b2sdk>=2.10'
clean_up
