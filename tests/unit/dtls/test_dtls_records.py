"""Datagrams are whole records, or say where they stop being so."""

import pytest
from dtls_values import cids, u8, u16, u48
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.dtls.records import (
    DTLS_1_0,
    DTLS_1_2,
    MAX_FRAGMENT,
    ContentType,
    Record,
    RecordFormatError,
    encode_record,
    split_records,
)

plain = st.builds(
    Record, u8.filter(lambda t: t != ContentType.TLS12_CID), u16, u16, u48, st.just(b""), st.binary(max_size=40)
)


def encode(record: Record) -> bytes:
    return encode_record(
        record.type, record.epoch, record.sequence, record.fragment, version=record.version, cid=record.cid
    )


@given(st.lists(plain, min_size=1, max_size=5))
@settings(max_examples=50, deadline=None)
def test_what_is_written_is_read(records: list[Record]) -> None:
    assert split_records(b"".join(map(encode, records)), 8) == records


@pytest.mark.spec("RFC 9146 4")
@given(cids.filter(bool), u16, u48, st.binary(max_size=40))
@settings(max_examples=40, deadline=None)
def test_a_connection_id_stands_between_number_and_length(
    cid: bytes, epoch: int, sequence: int, fragment: bytes
) -> None:
    data = encode_record(ContentType.TLS12_CID, epoch, sequence, fragment, cid=cid)
    assert data[11 : 11 + len(cid)] == cid
    assert int.from_bytes(data[11 + len(cid) : 13 + len(cid)], "big") == len(fragment)
    assert split_records(data, len(cid)) == [
        Record(ContentType.TLS12_CID, DTLS_1_2, epoch, sequence, cid, fragment),
    ]


@pytest.mark.spec("RFC 6347 4.1")
def test_the_header_is_the_standards() -> None:
    data = encode_record(ContentType.HANDSHAKE, 1, 0x0203_0405_0607, b"ab", version=DTLS_1_0)
    assert data == bytes.fromhex("16 feff 0001 020304050607 0002 6162")


@given(st.binary(max_size=80), st.integers(0, 20))
@settings(max_examples=50, deadline=None)
def test_any_bytes_are_records_or_an_error(data: bytes, cid_length: int) -> None:
    try:
        records = split_records(data, cid_length)
    except RecordFormatError as error:
        records, rest = error.whole, error.rule
    else:
        rest = ""
    again = b"".join(map(encode, records))
    assert data.startswith(again)
    assert bool(rest) == (len(again) < len(data) or not data)


@pytest.mark.parametrize(
    ("tail", "rule"),
    [
        (b"\x17\xfe\xfd", "a record header beyond the end"),
        (encode_record(23, 0, 0, b"abc")[:-1], "a record beyond the end"),
        (encode_record(25, 0, 0, b"abc", cid=b"12345678")[:20], "a connection ID beyond the end"),
        (encode_record(23, 0, 0, b"")[:-2] + (MAX_FRAGMENT + 1).to_bytes(2, "big"), "a record longer than"),
    ],
)
def test_records_before_a_broken_one_are_whole(tail: bytes, rule: str) -> None:
    first = encode_record(23, 1, 5, b"data")
    with pytest.raises(RecordFormatError, match=rule) as caught:
        split_records(first + tail, 8)
    assert caught.value.whole == split_records(first, 8)


@pytest.mark.spec("RFC 9146 4")
def test_a_connection_id_record_is_none_for_who_gave_no_connection_id() -> None:
    with pytest.raises(RecordFormatError, match="where none was given"):
        split_records(encode_record(ContentType.TLS12_CID, 1, 1, b"x" * 30, cid=b"12345678"), 0)


def test_one_datagram_has_32_records_at_most() -> None:
    one = encode_record(23, 1, 5, b"")
    assert len(split_records(one * 32, 8)) == 32
    with pytest.raises(RecordFormatError, match="more than 32") as caught:
        split_records(one * 33, 8)
    assert len(caught.value.whole) == 32
