"""Consul for the lab: a binary for tests on this machine, and an image archive for the nodes."""
