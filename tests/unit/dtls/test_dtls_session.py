"""A session is the same after it was bytes."""

import pytest
from dtls_values import cids, u16
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.core.identity import CertificateIdentity, PskIdentity, RawKeyIdentity
from stellwerk.core.ids import PeerId
from stellwerk.dtls.prf import KeyBlock
from stellwerk.dtls.session import (
    SessionFormatError,
    SessionSecrets,
    SessionState,
    decode_secrets,
    decode_session,
    encode_secrets,
    encode_session,
)
from stellwerk.dtls.suites import SUITES

u63 = st.integers(0, (1 << 63) - 1)
texts = st.text("ab: \u00e9\U0001f600", max_size=8)
identities = st.one_of(
    st.builds(PskIdentity, st.binary(max_size=128)),
    st.builds(RawKeyIdentity, st.binary(min_size=1, max_size=91)),
    st.builds(
        CertificateIdentity,
        st.lists(st.binary(min_size=1, max_size=30), min_size=1, max_size=10).map(tuple),
        texts,
        st.lists(texts, max_size=3).map(tuple),
    ),
)
addresses = st.builds(
    PeerId,
    st.just("udp"),
    st.sampled_from(["192.0.2.1", "2001:db8::1"]),
    u16,
    st.sampled_from(["", "198.51.100.1"]),
    u16,
)


def keys_of(number: int) -> KeyBlock:
    suite = SUITES[number]
    return KeyBlock(
        b"c" * suite.mac_key_length,
        b"s" * suite.mac_key_length,
        b"C" * suite.key_length,
        b"S" * suite.key_length,
        b"i" * suite.fixed_iv_length,
        b"j" * suite.fixed_iv_length,
    )


secrets = st.builds(
    SessionSecrets,
    st.binary(min_size=8, max_size=8),
    st.binary(max_size=32),
    st.sampled_from(list(SUITES)),
    st.binary(min_size=48, max_size=48),
    st.booleans(),
    st.booleans(),
    identities,
    u63,
    u63,
)
states = secrets.flatmap(
    lambda s: st.builds(
        SessionState,
        st.just(s),
        st.booleans(),
        st.just(keys_of(s.suite)),
        u16,
        u16,
        u63,
        st.integers(-1, (1 << 63) - 1),
        cids,
        cids,
        addresses,
        u16,
        u16,
        u16,
    )
)


@given(states)
@settings(max_examples=30, deadline=None)
def test_what_is_written_is_read(state: SessionState) -> None:
    assert decode_session(encode_session(state)) == state
    assert decode_secrets(encode_secrets(state.secrets)) == state.secrets


@given(states, st.data())
@settings(max_examples=30, deadline=None)
def test_a_session_cut_off_is_none(state: SessionState, data: st.DataObject) -> None:
    whole = encode_session(state)
    end = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(SessionFormatError):
        decode_session(whole[:end])
    with pytest.raises(SessionFormatError):
        decode_session(whole + b"\0")
    with pytest.raises(SessionFormatError):
        decode_secrets(encode_secrets(state.secrets) + b"\0")


@given(st.binary(max_size=40) | st.tuples(states, u16, st.integers(0, 255)))
@settings(max_examples=30, deadline=None)
def test_any_bytes_are_a_session_or_an_error(case: bytes | tuple[SessionState, int, int]) -> None:
    if isinstance(case, tuple):
        changed = bytearray(encode_session(case[0]))
        changed[case[1] % len(changed)] = case[2]
        case = bytes(changed)
    for decode in (decode_session, decode_secrets):
        try:
            decode(case)
        except SessionFormatError:
            continue


def test_a_form_of_a_later_version_says_so() -> None:
    with pytest.raises(SessionFormatError, match="version 2"):
        decode_session(b"\2" + bytes(200))


PSK_STATE = SessionState(
    SessionSecrets(b"12345678", b"t" * 32, 0xC0A8, b"M" * 48, True, False, PskIdentity(b"dev1"), 5, 1_800_000_000),
    False,
    keys_of(0xC0A8),
    1,
    1,
    1 << 48 | 1024,
    1 << 48 | 3,
    b"12345678",
    b"",
    PeerId("udp", "192.0.2.1", 5000, "198.51.100.1", 5684),
)


def test_a_psk_session_is_small_and_its_secrets_do_not_show() -> None:
    assert len(encode_session(PSK_STATE)) < 256
    assert not any(secret in repr(PSK_STATE) for secret in ("MMM", "CCC", "SSS"))


def test_every_byte_of_a_session_means_something() -> None:
    whole = encode_session(PSK_STATE)
    for place in range(len(whole)):
        changed = bytearray(whole)
        changed[place] ^= 0x80
        try:
            assert decode_session(bytes(changed)) != PSK_STATE
        except SessionFormatError:
            continue
