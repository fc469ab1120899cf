"""Duplicate address detection, frame by frame: who counts as having an address (RFC 5227, section 2.1.1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rpiomega.node.network import arp

OWN, OTHER = bytes.fromhex("0242c0a80001"), bytes.fromhex("0242c0a80002")
ADDRESS = "192.168.1.10"


@pytest.mark.parametrize(
    ("frame", "who"),
    [
        (arp.packet(arp.REPLY, OTHER, ADDRESS, "0.0.0.0", OWN), OTHER),  # it answers our probe
        (arp.packet(arp.REQUEST, OTHER, ADDRESS, "192.168.1.1"), OTHER),  # it asks for others, from the address
        (arp.packet(arp.REQUEST, OTHER, ADDRESS, ADDRESS), OTHER),  # it announces itself
        (arp.packet(arp.REQUEST, OTHER, arp.NOBODY, ADDRESS), OTHER),  # it probes for the same address, as we do
        (arp.packet(arp.REQUEST, OWN, arp.NOBODY, ADDRESS), None),  # our own probe, seen again
        (arp.packet(arp.REQUEST, OTHER, "192.168.1.1", ADDRESS), None),  # somebody looks for it
        (arp.packet(arp.REPLY, OTHER, "192.168.1.11", "0.0.0.0", OWN), None),  # another address
        (arp.packet(arp.REQUEST, OTHER, arp.NOBODY, "192.168.1.11"), None),  # a probe for another address
    ],
)
def test_who_holds_the_address(frame, who):
    assert arp.holder(frame, OWN, ADDRESS) == who


def test_a_probe_is_broadcast_and_claims_nothing():
    frame = arp.packet(arp.REQUEST, OWN, arp.NOBODY, ADDRESS)
    assert frame[:6] == b"\xff" * 6 and frame[6:12] == OWN and frame[12:14] == b"\x08\x06"
    assert arp.parse(frame) == (arp.REQUEST, OWN, "0.0.0.0", ADDRESS)
    assert len(frame) == 42


@given(st.binary(max_size=80))
def test_whatever_is_on_the_wire_is_read_without_a_fault(frame):
    arp.holder(frame, OWN, ADDRESS)
