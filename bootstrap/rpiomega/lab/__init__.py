"""Virtual Pis: one container per board, with systemd, sshd and NetworkManager of its own."""
