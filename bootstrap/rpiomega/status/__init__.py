"""`rpiomega status`: what the nodes say of their cluster, put together on the workstation."""
