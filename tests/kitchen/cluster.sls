#!yaml
rpiomega:
  cluster: kitchen
  nodes:
    kitchen-master: {address: 10.250.0.1, roles: [master, manager]}
    kitchen-manager: {address: 10.250.0.2, roles: [manager]}
    kitchen-worker: {address: 10.250.0.3}
  network: {manage: false}
  users: {admin: kitchen}
