"""OpenSSH's ProxyCommand for lab nodes: connect to the first of some addresses that answers, hand the socket over.

    ProxyUseFdpass yes
    ProxyCommand python3 dial.py 192.168.140.111 192.168.140.11

A node has its own address once it has been bootstrapped, a leased one before. Trying the port first and connecting
again would look like a scan: sshd of OpenSSH 9.8 and newer locks out who connects often without logging in.
"""

import socket
import sys

BOUND = 3.0


def main(addresses):
    """Pass a connected socket to the ssh process at the other end of standard output."""
    cause = None
    for address in addresses:
        try:
            connection = socket.create_connection((address, 22), timeout=BOUND)
        except OSError as error:
            cause = error
            continue
        connection.setblocking(True)
        with socket.socket(fileno=sys.stdout.fileno()) as ssh:
            socket.send_fds(ssh, [b"\0"], [connection.fileno()])
        return
    sys.exit(f"none of {', '.join(addresses)} answers on port 22: {cause}")


if __name__ == "__main__":
    main(sys.argv[1:])
