"""The board's address: who owns an interface, what that owner's files should contain, and the way back.

One file per owner (`networkmanager`, `netplan`, `networkd`, `dhcpcd`), all with the same methods (`stack.Stack`).
Beside each is the edit itself, a pure function of the files' texts (`keyfile`, `netplan_edit`, `network_file`,
`supplicant`). It replaces what it understands and keeps everything else as it is, or raises StepError naming file and
key. What is edited of the owner's is kept as ``NAME.before-rpiomega`` (`concealed`). `device` and `ifupdown` say which
interfaces are refused.
"""
