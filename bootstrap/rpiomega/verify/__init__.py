"""`rpiomega verify`: the checks of tests/verify on the nodes, in a report a person can read."""
