"""Backups from the workstation: runs of the nodes started and followed, and what is known of them."""
