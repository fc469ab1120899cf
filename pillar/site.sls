#!yaml
# The one file of a site. Salt's pillar and `rpiomega bootstrap` read the same text, so it is plain YAML: no Jinja.
# `rpiomega check` validates it. Every section but `cluster` and `nodes` may be left out; the values below are
# an example for `nodes` and the defaults elsewhere.
rpiomega:
  # Short name of the cluster: small letters, digits, hyphens.
  cluster: omega

  # One entry per board. The key becomes host name, Salt minion ID, Consul and Swarm node name.
  #   address  the IPv4 address the node has (or will have) in the cluster
  #   host     how SSH reaches it now, if not at its address: a name of your ssh_config, NAME.local, or an address
  #   roles    master   carries the Salt master; exactly one node
  #            manager  Swarm manager; have 1, 3 or 5 of them
  #            worker   Swarm worker; the default. A node is manager or worker, never both.
  nodes:
    rpiomega-master:
      address: 192.168.1.10
      host: raspberrypi.local
      roles: [master, manager]
    rpiomega-2:
      address: 192.168.1.11
      roles: [manager]
    rpiomega-3:
      address: 192.168.1.12
      roles: [manager]
    rpiomega-4:
      address: 192.168.1.13
      roles: [worker]

  # The network all nodes are in. `manage: false` leaves addresses to somebody else (DHCP reservations, for example).
  network:
    prefix: 24
    gateway: 192.168.1.1
    dns: [192.168.1.1]
    manage: true

  # How the workstation logs in: key login and `sudo` without password are needed.
  # `identity` (a private key) and `known_hosts` are paths, relative to this file; empty means: as ssh does it.
  users:
    admin: pi
    identity: ""
    known_hosts: ""
    port: 22

  # version  "3008" is its newest point release, "3008.3" exactly that one; in quotes
  # source   onedir (the project's packages, arm64 and amd64 only), pip (a venv, anywhere), auto (onedir where it can)
  salt:
    version: "3008"
    source: auto

  # source   vendor (Docker's own apt repository) or distribution (docker.io)
  # version  empty for the newest, else a version as apt shows it
  # daemon   merged into /etc/docker/daemon.json
  docker:
    source: vendor
    version: ""
    daemon: {}

  # image    pinned; archive: a `docker save` file of it, relative to this file, for sites without a registry
  consul:
    image: hashicorp/consul:1.21.5
    archive: ""

  # The Backblaze B2 command on every node; an empty version means the newest.
  # credentials       which node may use which account: {NODE or "*": FILE}; FILE lies on the master in
  #                   /etc/rpiomega/secrets/b2, mode 0600, and holds two lines: `key_id: ...` and `key: ...`
  # buckets           kept by the master: {NAME: {type: allPrivate, lifecycle_rules: [...]}}
  # application_keys  kept by the master: {NAME: {capabilities: [...], bucket: NAME, name_prefix: "", file: FILE}};
  #                   the secret goes to FILE on the master, so `credentials` can give it to a node
  b2:
    enabled: true
    version: ""
    credentials: {}
    buckets: {}
    application_keys: {}

  # Debian packages every node gets besides the formula's own.
  packages:
    extra: []

  # Where the master's checkout of this formula follows from. Without a remote it holds what the bootstrap brought.
  # branch   a branch or a tag
  # signers  public keys, one of which must have signed a commit before it is used; each is a line as ssh-keygen's
  #          allowed signers have it (`NAME ssh-ed25519 AAAA...`) or an armored OpenPGP public key. Empty: not asked for
  # every    minutes between two looks at the remote; 0: only with `state.apply`
  formula:
    remote: ""
    branch: main
    signers: []
    every: 0

  swarm:
    enabled: true

  # Caches and mirrors of the site, set up on every node before anything is downloaded.
  # apt_proxy  http://HOST:PORT of a package cache; pip_index: a mirror's simple index
  # ca_bundle  PEM file with extra certificate authorities, relative to this file (TLS-inspecting proxies)
  sources:
    apt_proxy: ""
    pip_index: ""
    ca_bundle: ""
