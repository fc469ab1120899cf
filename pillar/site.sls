#!yaml
# The one file of a site. Salt's pillar and `rpiomega bootstrap` read the same text, so it is plain YAML: no Jinja.
# docs/site.md explains every key, `rpiomega check` says what is wrong. Only `cluster` and `nodes` are needed; the nodes
# and the network here are an example, everything else is the default.
rpiomega:
  cluster: omega

  # One entry per board; its key becomes the host name. address: what it keeps; host: how SSH reaches it now, if not there.
  # One node is the Salt master; 1, 3 or 5 are Swarm managers, the others workers.
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

  # `manage: false` leaves addresses to somebody else (DHCP reservations, for example).
  network:
    prefix: 24
    gateway: 192.168.1.1
    dns: [192.168.1.1]
    manage: true

  # How the workstation logs in: with a key, and `sudo` without a password.
  users:
    admin: pi
    identity: ""
    port: 22

  # Releases stand in quotes.
  salt:
    version: "3008"
    source: auto

  # vendor: Docker's own apt repository; distribution: docker.io
  docker:
    source: vendor
    version: ""

  consul:
    image: hashicorp/consul:1.22.7
    archive: ""

  # The Backblaze B2 command on every node; accounts, buckets and keys: docs/b2.md
  b2:
    enabled: true
    version: "5.0.2"

  packages:
    extra: []

  # Without a remote the master's checkout of this formula is what the bootstrap brought.
  formula:
    remote: ""
    branch: main

  swarm:
    enabled: true

  # Package caches, mirrors and certificate authorities of the site.
  sources:
    apt_proxy: ""
    pip_index: ""
    ca_bundle: ""
