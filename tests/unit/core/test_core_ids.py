"""Peers as text and back."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.core.ids import PeerId, decode_peer, encode_peer

PEERS = st.builds(
    PeerId,
    st.sampled_from(["udp", "tcp"]),
    st.ip_addresses().map(str),
    st.integers(0, 65535),
    st.one_of(st.just(""), st.ip_addresses().map(str)),
    st.integers(0, 65535),
)


@given(PEERS)
@settings(max_examples=80, deadline=None)
def test_a_stored_peer_is_the_same_peer(peer: PeerId) -> None:
    assert decode_peer(encode_peer(peer)) == peer
    assert "\n" not in encode_peer(peer)


@given(st.text(max_size=40))
@settings(max_examples=80, deadline=None)
def test_any_other_text_is_a_value_error_and_nothing_else(text: str) -> None:
    with contextlib.suppress(ValueError):
        decode_peer(text)


@pytest.mark.parametrize(
    ("peer", "text"),
    [
        (PeerId("udp", "192.0.2.1", 5683), "udp://192.0.2.1:5683"),
        (PeerId("udp", "2001:db8::1", 5683), "udp://[2001:db8::1]:5683"),
        (PeerId("udp", "fe80::1%eth0", 1), "udp://[fe80::1%eth0]:1"),
    ],
)
def test_a_peer_reads_like_an_address(peer: PeerId, text: str) -> None:
    assert str(peer) == text
    assert decode_peer(encode_peer(peer)) == peer
