# Shared by the provisioning scripts.

# install_packages NAME...: only what is missing, so a base that holds everything needs no network.
install_packages() {
    missing=
    for package; do
        dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
    done
    [ -n "$missing" ] || return 0
    export DEBIAN_FRONTEND=noninteractive
    echo force-unsafe-io > /etc/dpkg/dpkg.cfg.d/provision
    apt-get update -q
    apt-get install -q -y -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold \
        --no-install-recommends $missing </dev/null
    rm -f /etc/dpkg/dpkg.cfg.d/provision
}

# Certificates that the host trusts beyond Debian's own (a TLS-inspecting proxy, a company's authority).
trust_extra_certificates() {
    [ -s "$here/host-ca.pem" ] || return 0
    python3 - "$here/host-ca.pem" <<'PY'
import pathlib, re, sys
cut = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.S)
known = set()
for path in pathlib.Path("/usr/share/ca-certificates").rglob("*.crt"):
    known.update("".join(c.split()) for c in cut.findall(path.read_text()))
for number, cert in enumerate(cut.findall(pathlib.Path(sys.argv[1]).read_text())):
    if "".join(cert.split()) not in known:
        pathlib.Path(f"/usr/local/share/ca-certificates/host-{number}.crt").write_text(cert + "\n")
PY
    update-ca-certificates 2>/dev/null | tail -n 1
}

clean_up() {
    apt-get clean
    rm -rf /var/lib/apt/lists/* /var/cache/apt/*.bin /var/log/*.log /var/log/apt/* /etc/apt/apt.conf.d/99mmdebstrap
}
