"""Extensions are read as written, once each, and unknown ones kept."""

import pytest
from dtls_values import client_extensions, server_extensions
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.core.cursor import Truncated
from stellwerk.dtls.extensions import Extensions, decode_extensions, encode_extensions
from stellwerk.dtls.vectors import VectorError


def extension(number: int, content: bytes) -> bytes:
    return number.to_bytes(2, "big") + len(content).to_bytes(2, "big") + content


@given(client_extensions, server_extensions)
@settings(max_examples=50, deadline=None)
def test_what_is_written_is_read(client: Extensions, server: Extensions) -> None:
    assert decode_extensions(encode_extensions(client)) == client
    assert decode_extensions(encode_extensions(server, server=True), server=True) == server


# Numbers of extensions that are known, so that more than the unknown is met.
_extension = st.builds(
    extension, st.sampled_from([0, 1, 10, 11, 13, 19, 20, 22, 23, 28, 35, 53, 54, 65281]), st.binary(max_size=8)
)


@given(st.binary(max_size=40) | st.lists(_extension, max_size=4).map(b"".join), st.booleans())
@settings(max_examples=50, deadline=None)
def test_any_bytes_are_extensions_or_an_error(data: bytes, server: bool) -> None:
    try:
        value = decode_extensions(data, server=server, cid_code_points=(54, 53))
    except (VectorError, Truncated):
        return
    assert sorted(encode_extensions(value, server=server)) == sorted(data)


@pytest.mark.parametrize(
    ("client", "server"),
    [
        (extension(0, bytes.fromhex("0006 00 0003 61 2e 62")), extension(0, b"")),
        (extension(1, b"\1"), extension(1, b"\1")),
        (extension(19, bytes.fromhex("02 02 00")), extension(19, b"\2")),
        (extension(20, bytes.fromhex("01 02")), extension(20, b"\2")),
        (extension(54, bytes.fromhex("03 010203")), extension(54, b"\0")),
        (extension(28, b"\x02\x00"), extension(28, b"\x40\x01")),
        (extension(65281, b"\0"), extension(65281, b"\0")),
    ],
)
@pytest.mark.spec("RFC 6066 3", "RFC 6066 4", "RFC 7250 3", "RFC 9146 3", "RFC 8449 4", "RFC 5746 3.2")
def test_extensions_are_the_standards_in_both_directions(client: bytes, server: bytes) -> None:
    assert encode_extensions(decode_extensions(client)) == client
    assert encode_extensions(decode_extensions(server, server=True), server=True) == server
    with pytest.raises((VectorError, Truncated)):
        decode_extensions(client + client)


def test_known_extensions_have_their_meaning() -> None:
    data = b"".join(
        (
            extension(0, bytes.fromhex("0006 00 0003 612e62")),
            extension(1, b"\2"),
            extension(10, bytes.fromhex("0004 0017 001d")),
            extension(11, bytes.fromhex("01 00")),
            extension(13, bytes.fromhex("0004 0403 0503")),
            extension(19, bytes.fromhex("02 02 00")),
            extension(20, bytes.fromhex("01 00")),
            extension(22, b""),
            extension(23, b""),
            extension(28, b"\x02\x00"),
            extension(35, b"ticket"),
            extension(54, b"\3cid"),
            extension(65281, b"\0"),
            extension(4711, b"what"),
        )
    )
    assert decode_extensions(data) == Extensions(
        server_name=b"a.b",
        max_fragment_length=2,
        supported_groups=(23, 29),
        point_formats=(0,),
        signature_algorithms=(0x0403, 0x0503),
        client_certificate_types=(2, 0),
        server_certificate_types=(0,),
        encrypt_then_mac=True,
        extended_master_secret=True,
        record_size_limit=512,
        session_ticket=b"ticket",
        connection_id=b"cid",
        renegotiation_info=b"",
        unknown=((4711, b"what"),),
    )


@pytest.mark.parametrize(
    ("data", "server"),
    [
        (extension(22, b"x"), False),
        (extension(23, b"x"), True),
        (extension(54, b"\3ci"), False),
        (extension(54, b"\1ci"), False),
        (extension(54, b""), False),
        (extension(10, bytes.fromhex("0003 001700")), False),
        (extension(10, bytes.fromhex("0000")), False),
        (extension(13, bytes.fromhex("0002 0403 00")), False),
        (extension(19, bytes.fromhex("0100")), True),
        (extension(19, b"\0"), False),
        (extension(28, b"\0"), False),
        (extension(0, bytes.fromhex("0008 00 0001 61 00 0001 61")), False),
        (extension(0, bytes.fromhex("0004 01 0001 61")), False),
        (extension(0, b"x"), True),
        (b"".join(extension(1000 + n, b"") for n in range(65)), False),
    ],
)
def test_malformed_extensions_are_refused(data: bytes, server: bool) -> None:
    with pytest.raises((VectorError, Truncated)):
        decode_extensions(data, server=server)


def test_a_connection_id_is_understood_under_the_code_points_that_are_told_alone() -> None:
    data = extension(53, b"\3old") + extension(54, b"\3new")
    assert decode_extensions(data).connection_id == b"new"
    early = decode_extensions(data, cid_code_points=(53, 54))
    assert (early.connection_id, early.connection_id_code_point) == (b"old", 53)
    none = decode_extensions(data, cid_code_points=())
    assert none.connection_id is None
    assert [number for number, _ in none.unknown] == [53, 54]
    assert encode_extensions(Extensions(connection_id=b"old", connection_id_code_point=53)) == extension(53, b"\3old")
