"""`rpiomega verify`: the checks of `suite` on the nodes, in a report a person can read."""
