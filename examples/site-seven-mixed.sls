#!yaml
# Seven boards of different kinds: three managers, four workers. A 32-bit board is among them, for which neither Docker nor
# Salt has packages of its own: `distribution` and `auto` suit all of them. What the site downloads, it downloads once.
rpiomega:
  cluster: lab
  nodes:
    shelf-1: {host: shelf-1.local, address: 10.20.0.11, roles: [master, manager]}   # Raspberry Pi 5, NVMe
    shelf-2: {host: shelf-2.local, address: 10.20.0.12, roles: [manager]}           # Raspberry Pi 5, NVMe
    shelf-3: {host: shelf-3.local, address: 10.20.0.13, roles: [manager]}           # Raspberry Pi 4
    old-pi: {host: 10.20.0.140, address: 10.20.0.21}                                # Raspberry Pi 3, 32-bit
    orange: {host: orange.local, address: 10.20.0.22}                               # Orange Pi 5, Armbian
    nuc: {host: nuc.local, address: 10.20.0.23, interface: enp3s0}                  # a PC with two network cards
    garage: {host: garage.local, address: 10.20.0.24, interface: wlan0, packages: [iw]}   # Raspberry Pi Zero 2 W
  network:
    prefix: 24
    gateway: 10.20.0.1
    dns: [10.20.0.1]
    wifi: {ssid: Workshop, country: DE, secret_file: ~/.config/rpiomega/wifi}
  system: {timezone: Europe/Berlin, locale: en_GB.UTF-8}
  docker:
    source: distribution
    daemon:
      log-opts: {max-size: 5m}
  packages:
    extra: [htop, tmux]
    roles: {manager: [nvme-cli]}
  cache: {images: true}           # the site has a cache for packages already
  time: {servers: [10.20.0.1]}
  journal: {storage: volatile, max_use: 32M}
  sources: {apt_proxy: "http://10.20.0.1:3142"}
