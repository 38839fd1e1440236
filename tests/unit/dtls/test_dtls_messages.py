"""Handshake messages are read as written; any bytes are a message or a named error."""

from collections.abc import Callable
from typing import Any

import pytest
from dtls_values import client_extensions, server_extensions, u8, u16
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.dtls import messages as m
from stellwerk.dtls.fragments import Fragment, decode_fragments, encode_fragment, transcript_form
from stellwerk.dtls.messages import HandshakeFormatError

randoms = st.binary(min_size=32, max_size=32)
u16s = st.lists(u16, min_size=1, max_size=4).map(tuple)
points = st.binary(min_size=1, max_size=70)
signatures = st.binary(max_size=72)
named = st.binary(min_size=1, max_size=20)

# name of the codec: values
MESSAGES: dict[str, st.SearchStrategy[Any]] = {
    "client_hello": st.builds(
        m.ClientHello,
        u16,
        randoms,
        st.binary(max_size=32),
        st.binary(max_size=32),
        u16s,
        named,
        client_extensions,
    ),
    "server_hello": st.builds(m.ServerHello, u16, randoms, st.binary(max_size=32), u16, u8, server_extensions),
    "hello_verify_request": st.builds(m.HelloVerifyRequest, u16, st.binary(max_size=255)),
    "certificate": st.builds(m.Certificate, st.lists(named, max_size=m.MAX_CHAIN).map(tuple)),
    "raw_key": st.binary(max_size=99),
    "certificate_request": st.builds(
        m.CertificateRequest,
        st.lists(u8, min_size=1, max_size=3).map(tuple),
        u16s,
        st.lists(named, max_size=3).map(tuple),
    ),
    "server_key_exchange_ecdhe": st.builds(m.ServerKeyExchangeEcdhe, u16, points, u16, signatures),
    "server_key_exchange_psk": st.builds(m.ServerKeyExchangePsk, st.binary(max_size=20)),
    "client_key_exchange_ecdhe": st.builds(m.ClientKeyExchangeEcdhe, points),
    "client_key_exchange_psk": st.builds(m.ClientKeyExchangePsk, st.binary(max_size=128)),
    "certificate_verify": st.builds(m.CertificateVerify, u16, signatures),
    "new_session_ticket": st.builds(m.NewSessionTicket, st.integers(0, (1 << 32) - 1), st.binary(max_size=40)),
    "finished": st.builds(m.Finished, st.binary(min_size=12, max_size=12)),
    "server_hello_done": st.just(m.ServerHelloDone()),
}
messages = st.sampled_from(sorted(MESSAGES)).flatmap(lambda name: st.tuples(st.just(name), MESSAGES[name]))


def decoder(name: str) -> Callable[[bytes], Any]:
    return getattr(m, f"decode_{name}")


def encoder(name: str) -> Callable[[Any], bytes]:
    return getattr(m, f"encode_{name}")


def test_every_codec_is_among_those_tested() -> None:
    decoders = {name.removeprefix("decode_") for name in dir(m) if name.startswith("decode_")}
    assert decoders - {"fragments", "extensions"} == set(MESSAGES)


@pytest.mark.spec("RFC 5246 7.4", "RFC 6347 4.3.2")
@given(messages)
@settings(max_examples=60, deadline=None)
def test_what_is_written_is_read(message: tuple[str, Any]) -> None:
    name, value = message
    assert decoder(name)(encoder(name)(value)) == value


@given(messages, st.data())
@settings(max_examples=60, deadline=None)
def test_a_message_with_its_end_cut_off_or_a_byte_too_many_is_malformed(
    message: tuple[str, Any], data: st.DataObject
) -> None:
    name, value = message
    body = encoder(name)(value)
    hello_end = len(body)
    if name.endswith("_hello"):
        # A hello may end where its extensions would begin.
        hello_end -= len(encoder(name)(value)) - len(encoder(name)(_bare(value)))
    end = data.draw(st.integers(0, len(body)))
    with pytest.raises(HandshakeFormatError):
        decoder(name)(body + b"\0" if end in (len(body), hello_end) else body[:end])


def _bare(hello: m.ClientHello | m.ServerHello) -> Any:
    if isinstance(hello, m.ClientHello):
        return m.ClientHello(
            hello.version, hello.random, hello.session_id, hello.cookie, hello.suites, hello.compression
        )
    return m.ServerHello(hello.version, hello.random, hello.session_id, hello.suite, hello.compression)


@given(st.sampled_from(sorted(MESSAGES)), st.binary(max_size=60), st.data())
@settings(max_examples=60, deadline=None)
def test_any_body_is_a_message_or_an_error(name: str, body: bytes, data: st.DataObject) -> None:
    if data.draw(st.booleans()):
        # Close to something well-formed there is more to get wrong.
        changed = bytearray(encoder(name)(data.draw(MESSAGES[name])))
        if changed:
            changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(u8)
        body = bytes(changed)
    try:
        value = decoder(name)(body)
    except HandshakeFormatError:
        return
    again = encoder(name)(value)
    # An empty block of extensions is left out, and their order is ours.
    assert sorted(again) == sorted(body) or body.removesuffix(b"\0\0") == again


def test_errors_name_message_and_rule() -> None:
    with pytest.raises(HandshakeFormatError, match=r"^Finished: ends too early$"):
        m.decode_finished(b"short")
    with pytest.raises(HandshakeFormatError, match=r"^ServerHelloDone: 1 bytes too many$"):
        m.decode_server_hello_done(b"x")


@pytest.mark.spec("RFC 4279 5.3")
def test_a_psk_identity_longer_than_128_octets_is_malformed() -> None:
    longest = m.ClientKeyExchangePsk(b"i" * 128)
    assert m.decode_client_key_exchange_psk(m.encode_client_key_exchange_psk(longest)) == longest
    with pytest.raises(HandshakeFormatError, match="a PSK identity of 129 bytes"):
        m.decode_client_key_exchange_psk(b"\0\x81" + b"i" * 129)


def test_a_chain_has_ten_certificates_at_most() -> None:
    with pytest.raises(HandshakeFormatError, match="more than 10 certificates"):
        m.decode_certificate(m.encode_certificate(m.Certificate((b"c",) * 11)))


@pytest.mark.spec("RFC 7250 3")
def test_a_raw_public_key_stands_alone_in_its_certificate_message() -> None:
    assert m.encode_raw_key(b"spki") == b"\0\0\4spki"
    assert m.decode_raw_key(b"\0\0\0") == b""


@pytest.mark.spec("RFC 8422 5.4")
def test_what_is_signed_of_a_key_exchange_is_curve_type_group_and_point() -> None:
    exchange = m.ServerKeyExchangeEcdhe(23, b"\4point", 0x0403, b"sig")
    assert exchange.signed_params == bytes.fromhex("03 0017 06") + b"\4point"
    assert m.encode_server_key_exchange_ecdhe(exchange) == exchange.signed_params + b"\4\3\0\3sig"
    with pytest.raises(HandshakeFormatError, match="a curve without name"):
        m.decode_server_key_exchange_ecdhe(b"\1" + m.encode_server_key_exchange_ecdhe(exchange)[1:])


@st.composite
def fragments(draw: st.DrawFn) -> Fragment:
    data = draw(st.binary(min_size=1, max_size=30))
    offset = draw(st.integers(0, 1 << 20))
    return Fragment(draw(u8), offset + len(data) + draw(st.integers(0, 1000)), draw(u16), offset, data)


@pytest.mark.spec("RFC 6347 4.2.2", "RFC 6347 4.2.3")
@given(st.lists(fragments(), min_size=1, max_size=5))
@settings(max_examples=60, deadline=None)
def test_several_fragments_share_a_record(several: list[Fragment]) -> None:
    assert decode_fragments(b"".join(map(encode_fragment, several))) == several


@given(st.binary(max_size=60))
@settings(max_examples=60, deadline=None)
def test_any_record_holds_fragments_or_an_error(data: bytes) -> None:
    try:
        found = decode_fragments(data)
    except HandshakeFormatError:
        return
    assert b"".join(map(encode_fragment, found)) == data


@pytest.mark.spec("RFC 6347 4.2.2", "RFC 6347 4.2.6")
def test_the_header_is_the_standards() -> None:
    assert encode_fragment(Fragment(11, 0x010203, 4, 5, b"ab")) == bytes.fromhex("0b 010203 0004 000005 000002 6162")
    assert transcript_form(14, 3, b"") == bytes.fromhex("0e 000000 0003 000000 000000")


@pytest.mark.parametrize(
    ("record", "rule"),
    [
        ("", "a header beyond the end"),
        ("0e 000000 0003 000000 0000", "a header beyond the end"),
        ("0e 000002 0003 000000 000002 61", "a fragment beyond the end"),
        ("0e 000002 0003 000001 000002 6161", "a fragment beyond its message"),
        ("0e 000002 0003 000001 000000", "a fragment of nothing"),
        ("0e 000000 0003 000000 000000" * 33, "more than 32 in one record"),
    ],
)
def test_broken_fragments_are_refused(record: str, rule: str) -> None:
    with pytest.raises(HandshakeFormatError, match=rule):
        decode_fragments(bytes.fromhex(record))


def test_secrets_do_not_show() -> None:
    assert "secret" not in repr(m.NewSessionTicket(1, b"secret"))
