#!yaml
# Three boards, all managers: any one may fail. The bootstrap gives them their addresses.
rpiomega:
  cluster: home
  nodes:
    rpiomega-master: {host: 192.168.1.57, address: 192.168.1.10, roles: [master, manager]}
    rpiomega-2: {host: 192.168.1.58, address: 192.168.1.11, roles: [manager]}
    rpiomega-3: {host: 192.168.1.59, address: 192.168.1.12, roles: [manager]}
  network: {gateway: 192.168.1.1, dns: [192.168.1.1, 9.9.9.9]}
  system: {timezone: Europe/Berlin, swap: zram, ssh_passwords: "off"}
  # Updates at 03:00, 03:30 and 04:00; a node that needs it reboots a quarter of an hour later, if the other managers are there.
  upgrades: {security: true, reboot: true, start: "03:00"}
  # What the boards download, they download once.
  cache: {packages: true, images: true}
