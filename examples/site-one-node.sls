#!yaml
# One board that is everything. It keeps the address it got: the router reserves it.
rpiomega:
  cluster: solo
  nodes:
    pi: {host: raspberrypi.local, address: 192.168.1.20, roles: [master, manager]}
  network: {manage: false}
  journal: {storage: volatile, max_use: 32M}      # spares the card
  upgrades: {security: true}
