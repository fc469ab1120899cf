"""The board's address: who owns an interface, what that owner's files should say, and the way back.

One file per owner (`networkmanager`, `netplan`, `networkd`, `dhcpcd`), all with the same methods (`stack.Stack`).
Only files of our own are written; where the owner has but one file (dhcpcd) or would add our address to another
(netplan), that file is edited and the original kept beside it as ``NAME.before-rpiomega``.
"""
