#!/bin/sh
# Gets a Debian or Ubuntu machine ready for `make demo` and `make test`: packages, .venv, a Docker daemon.
#
#   sh bootstrap/workstation.sh lab|test     what is missing is installed (as root) or named (as anybody else)
#   sh bootstrap/workstation.sh salt 3007    .venv-3007: what tests/modules needs, with another release of Salt
#   sh bootstrap/workstation.sh stop         stops the Docker daemon, if it was this script that started it
set -eu
cd "$(dirname "$0")/.."
pidfile=/run/rpiomega-dockerd.pid
log=/var/log/rpiomega-dockerd.log

say() { echo "workstation: $*" >&2; }
have() { command -v "$1" >/dev/null 2>&1; }
docker_answers() { .venv/bin/python -c 'import docker; docker.from_env(version="auto").ping()' 2>/dev/null; }

missing_packages() {
    python3 -c 'import ensurepip, venv' 2>/dev/null || echo python3-venv
    have ssh || echo openssh-client
    have ip || echo iproute2
    have iptables || echo iptables
    have mmdebstrap || echo mmdebstrap
    [ -n "${DOCKER_HOST:-}" ] || [ -S /run/docker.sock ] || have dockerd || echo docker.io
    [ -e /etc/ssl/certs/ca-certificates.crt ] || echo ca-certificates
    if [ "$1" = test ]; then
        have git || echo git
        [ -x /usr/sbin/sshd ] || echo openssh-server
        have gpg || echo gnupg
        have growpart || echo cloud-guest-utils
        have sfdisk || echo fdisk
        have mkfs.ext4 || echo e2fsprogs
        have mkfs.btrfs || echo btrfs-progs
        have mkfs.xfs || echo xfsprogs
        have netplan || echo netplan.io
        have dockerd || echo docker.io
        # For a systemd of the tests' own, which need not be this machine's first process.
        [ -x /usr/lib/systemd/systemd ] || [ -x /lib/systemd/systemd ] || echo systemd
        have sqlite3 || echo sqlite3
        have gcc || echo gcc libc6-dev
        python3 -c 'import sysconfig, os, sys; sys.exit(not os.path.exists(sysconfig.get_path("include") + "/Python.h"))' ||
            echo python3-dev
    fi
}

# Asks nothing: configuration files of this machine's owner stay as they are.
apt_get() {
    DEBIAN_FRONTEND=noninteractive apt-get -o DPkg::Lock::Timeout=120 -o Dpkg::Use-Pty=0 \
        -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold "$@" </dev/null
}

install_packages() {
    missing=$(missing_packages "$1" | sort -u | tr '\n' ' ')
    [ -n "$missing" ] || return 0
    if [ "$(id -u)" != 0 ]; then
        say "missing: $missing- as root: apt-get install --no-install-recommends $missing"
        exit 1
    fi
    have apt-get || { say "missing: $missing- install them with this system's package manager"; exit 1; }
    say "installing $missing"
    apt_get update -qq
    # shellcheck disable=SC2086
    apt_get install -qq -y --no-install-recommends $missing >/dev/null
}

# Since trixie the docker command is a package of its own; tests, test-kitchen and people use it, the lab does not.
install_docker_command() {
    if ! have docker; then
        if [ "$(id -u)" != 0 ] || ! have apt-get; then
            [ "$1" = lab ] && return 0
            say "missing: the docker command (docker-cli or docker.io)"
            exit 1
        fi
        apt_get install -qq -y --no-install-recommends docker-cli >/dev/null
    fi
}

check_owner() {
    for path in .venv .lab; do
        [ ! -e "$path" ] || [ -w "$path" ] || {
            say "$PWD/$path belongs to $(stat -c %U "$path"), not to $(id -un): sudo chown -R $(id -un) $path"
            exit 1
        }
    done
}

# make_venv FOLDER EXTRA [REQUIREMENT]
make_venv() {
    python3 -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { say "Python 3.11 or newer is needed"; exit 1; }
    stamp=$1/.rpiomega-$2
    want=$(cat setup.cfg setup.py pyproject.toml | cksum)
    [ -x "$1/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$want" ] && return 0
    say "making $1 with extra \`$2\`${3:+ and $3}"
    [ -x "$1/bin/python" ] || python3 -m venv "$1"
    PIP_DISABLE_PIP_VERSION_CHECK=1 "$1/bin/pip" install --quiet --editable ".[$2]" ${3:+"$3"}
    echo "$want" > "$stamp"
}

start_docker() {
    docker_answers && return 0
    if [ "$(id -u)" != 0 ]; then
        say "no Docker daemon answers user $(id -un): start it, or: sudo usermod -aG docker $(id -un), and log in again"
        exit 1
    fi
    if [ -d /run/systemd/system ]; then
        systemctl enable --now docker
    else
        say "starting dockerd (log: $log)"
        rm -f /run/docker.pid
        setsid dockerd >"$log" 2>&1 </dev/null &
        echo $! > "$pidfile"
    fi
    tries=120
    until docker_answers; do
        tries=$((tries - 1))
        if [ $tries = 0 ] || { [ -e "$pidfile" ] && ! kill -0 "$(cat "$pidfile")" 2>/dev/null; }; then
            say "dockerd does not come up; the last it said: $(grep -E 'level=(error|fatal)|failed' "$log" | tail -n 1)"
            exit 1
        fi
        sleep 0.5
    done
}

stop_docker() {
    [ -e "$pidfile" ] || return 0
    pid=$(cat "$pidfile")
    if [ "$(cat "/proc/$pid/comm" 2>/dev/null)" = dockerd ]; then
        say "stopping dockerd"
        kill "$pid"
        tries=60
        while kill -0 "$pid" 2>/dev/null && [ $tries -gt 0 ]; do tries=$((tries - 1)); sleep 0.5; done
    fi
    rm -f "$pidfile"
}

case ${1:-} in
    lab | test)
        check_owner
        install_packages "$1"
        install_docker_command "$1"
        make_venv .venv "$1"
        start_docker
        ;;
    salt)
        install_packages test
        install_docker_command test
        check_owner
        make_venv ".venv-${2:?which release? as in: workstation.sh salt 3007}" modules "salt~=$2.0"
        ;;
    stop) stop_docker ;;
    *) sed -n '2,6p' "$0"; exit 2 ;;
esac
