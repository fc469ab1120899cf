"""What scan makes of packets and network cards; a whole scan is in tests/lab/test_scan_boards.py."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpiomega import scan_hosts, scan_mdns
from rpiomega.scan import Found


def test_a_query_has_the_names_as_labels():
    packet = scan_mdns.query([("raspberrypi.local", scan_mdns.A)])
    assert packet == b"\0\0\0\0\0\1\0\0\0\0\0\0\x0braspberrypi\x05local\0\0\1\0\1"


def answer(*found):
    """Build a response: (labels or pointer, type, data) each."""
    body = b"".join(name + struct.pack("!HHIH", kind, 1, 120, len(data)) + data for name, kind, data in found)
    return struct.pack("!6H", 0, 0x8400, 0, len(found), 0, 0) + body


NAME = b"\x0braspberrypi\x05local\0"


def test_addresses_services_and_reverse_names_are_read():
    packet = answer(
        (NAME, scan_mdns.A, bytes([192, 168, 1, 7])),
        # A name may point at one that stands before it: here at byte 12.
        (b"\xc0\x0c", scan_mdns.SRV, b"\0\0\0\0\0\x16\xc0\x0c"),
        (b"\x017\x011\x03168\x03192\x07in-addr\x04arpa\0", scan_mdns.PTR, b"\xc0\x0c"),
        (b"\xc0\x0c", 28, bytes(16)),
    )
    assert scan_mdns.records(packet) == [
        (scan_mdns.A, "raspberrypi.local", "192.168.1.7"),
        (scan_mdns.SRV, "raspberrypi.local", "raspberrypi.local"),
        (scan_mdns.PTR, "7.1.168.192.in-addr.arpa", "raspberrypi.local"),
    ]


def test_names_that_point_at_each_other_end():
    assert scan_mdns.records(answer((b"\xc0\x0c", scan_mdns.A, bytes(4)))) == []


@given(st.binary(max_size=300))
def test_no_packet_breaks_the_reader(packet):
    scan_mdns.records(packet)


@given(st.binary(max_size=40), st.integers(0, 60))
def test_a_packet_cut_short_gives_what_came_before(tail, cut):
    whole = answer((NAME, scan_mdns.A, bytes([192, 168, 1, 7])))
    found = scan_mdns.records((whole + tail)[: len(whole) - cut] if cut else whole + tail)
    assert found in ([], [(scan_mdns.A, "raspberrypi.local", "192.168.1.7")])


@pytest.mark.parametrize(
    ("host", "board"),
    [
        ({"mac": "DC:A6:32:01:02:03", "maker": scan_hosts.maker("DC:A6:32:01:02:03")}, True),
        ({"maker": scan_hosts.maker("00:11:22:33:44:55")}, False),
        ({"names": ["raspberrypi-3"]}, True),
        ({"names": ["printer"]}, False),
        ({"banner": "OpenSSH_9.2p1 Raspbian-2+deb12u2"}, True),
        ({"banner": "OpenSSH_9.2p1 Debian-2"}, False),
        ({"node": "rpiomega-2"}, True),
    ],
)
def test_what_counts_as_a_board(host, board):
    assert Found("192.168.1.7", **host).board is board


def test_reverse_name():
    assert scan_mdns.reverse("192.168.1.7") == "7.1.168.192.in-addr.arpa"
