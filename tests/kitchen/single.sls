#!yaml
rpiomega:
  cluster: kitchen
  nodes:
    kitchen-single: {address: 10.250.0.1, roles: [master, manager]}
  network: {manage: false}
  users: {admin: kitchen}
