"""
The first half of a swarm join: a certificate is asked for and never fetched, as on a link that loses the answer.

The manager then keeps an entry without a description, which no engine has (swarmkit ca/server.go: IssueNodeCertificate
adds the node before it signs). One gRPC request by hand, because no gRPC client is among the test's packages: RFC 7540
frames, RFC 7541 literals without Huffman codes, api/ca.proto's fields csr = 2 and token = 3.
"""

from __future__ import annotations

import socket
import ssl
import struct
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

PATH = b"/docker.swarmkit.v1.NodeCA/IssueNodeCertificate"
HEADERS, DATA, SETTINGS, END_STREAM, END_HEADERS, ACK = 1, 0, 4, 1, 4, 1


def _request() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(serialization.Encoding.PEM)


def _field(number: int, value: bytes) -> bytes:
    size, length = len(value), b""
    while size > 127:
        length += bytes([size & 127 | 128])
        size >>= 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + value


def _literal(name: bytes, value: bytes) -> bytes:
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def leave_one(manager: str, token: str, port: int = 2377) -> None:
    """Have the swarm's manager at this address add an entry that no engine has."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    headers = ((b":method", b"POST"), (b":scheme", b"https"), (b":path", PATH), (b":authority", b"swarm-manager"))
    headers += ((b"content-type", b"application/grpc"), (b"te", b"trailers"))
    message = _field(2, _request()) + _field(3, token.encode())
    with socket.create_connection((manager, port), 20) as plain, context.wrap_socket(plain) as link:
        link.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(SETTINGS, 0, 0))
        link.sendall(_frame(HEADERS, END_HEADERS, 1, b"".join(_literal(*header) for header in headers)))
        link.sendall(_frame(DATA, END_STREAM, 1, b"\0" + struct.pack(">I", len(message)) + message))
        answer = b""
        while (headers_at := _frames(answer).get(HEADERS)) is None:  # the answer's headers come with its result
            more = link.recv(65536)
            if not more:
                raise RuntimeError(f"the manager closed the connection: {answer!r}")
            answer += more
    if b"grpc-message" in headers_at:
        raise RuntimeError(f"the manager refused: {headers_at!r}")


def _frames(data: bytes) -> dict[int, bytes]:
    found, at = {}, 0
    while at + 9 <= len(data):
        size = int.from_bytes(data[at : at + 3], "big")
        if at + 9 + size > len(data):
            break
        found[data[at + 3]] = data[at + 9 : at + 9 + size]
        at += 9 + size
    return found


if __name__ == "__main__":
    leave_one(sys.argv[1], sys.stdin.read().strip())
