"""The checks themselves, for pytest with testinfra. `tests/verify` of a checkout is a link to this folder."""
