"""DTLS records: a datagram to records and back (RFC 6347 §4.1, RFC 9146 §4). What protects them is `protection`."""

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final

from stellwerk.core.errors import PeerError


class ContentType(IntEnum):
    """What a record carries."""

    CHANGE_CIPHER_SPEC = 20
    ALERT = 21
    HANDSHAKE = 22
    APPLICATION_DATA = 23
    TLS12_CID = 25


DTLS_1_0: Final = 0xFEFF
DTLS_1_2: Final = 0xFEFD

MAX_PLAINTEXT: Final = 1 << 14
"""Bytes of a record's content at most (RFC 5246 §6.2.1)."""
MAX_FRAGMENT: Final = MAX_PLAINTEXT + 2048
"""Bytes of a protected fragment at most (RFC 5246 §6.2.3)."""
MAX_SEQUENCE: Final = (1 << 48) - 1
HEADER_BYTES: Final = 13
"""Without a connection ID."""

_MAX_RECORDS: Final = 32
_TLS12_CID: Final = 25
# Type, version, epoch and sequence number as one number, length.
_HEADER: Final = Struct("!BHQH")
_CID_HEADER: Final = Struct("!BHQ")


class RecordFormatError(PeerError):
    """A datagram, or its rest, is no DTLS record. ``rule`` names what is broken; ``whole`` are the records before."""

    def __init__(self, rule: str, whole: "list[Record] | None" = None) -> None:
        self.rule = rule
        self.whole = whole or []
        super().__init__(rule)


@dataclass(slots=True)
class Record:
    """One record as it came. ``version`` and ``type`` may be any; ``cid`` is empty unless the type is `TLS12_CID`."""

    type: int
    version: int
    epoch: int
    sequence: int
    cid: bytes
    fragment: bytes


def split_records(datagram: bytes, cid_length: int) -> list[Record]:
    """The records of ``datagram``, at most 32 and at least one; ``cid_length`` is that of our own connection IDs (0:
    we have none). Raises `RecordFormatError`, with what was whole before the fault."""
    end = len(datagram)
    if end < HEADER_BYTES:
        raise RecordFormatError("shorter than a record header")
    records: list[Record] = []
    at = 0
    while at < end:
        if end - at < HEADER_BYTES:
            raise RecordFormatError("a record header beyond the end", records)
        kind, version, number, length = _HEADER.unpack_from(datagram, at)
        start = at + HEADER_BYTES
        cid = b""
        if kind == _TLS12_CID:
            # RFC 9146 4: nobody sends this type to an end that asked for an empty connection ID, or for none.
            if not cid_length:
                raise RecordFormatError("a connection ID where none was given", records)
            start += cid_length
            if start > end:
                raise RecordFormatError("a connection ID beyond the end", records)
            cid = datagram[at + 11 : start - 2]
            length = datagram[start - 2] << 8 | datagram[start - 1]
        if length > MAX_FRAGMENT:
            raise RecordFormatError("a record longer than 2^14 + 2048 bytes", records)
        at = start + length
        if at > end:
            raise RecordFormatError("a record beyond the end", records)
        records.append(Record(kind, version, number >> 48, number & MAX_SEQUENCE, cid, datagram[start:at]))
        if len(records) == _MAX_RECORDS and at < end:
            raise RecordFormatError("more than 32 records in one datagram", records)
    return records


def encode_record(
    type: int, epoch: int, sequence: int, fragment: bytes, *, version: int = DTLS_1_2, cid: bytes = b""
) -> bytes:
    """The record with ``fragment`` as it is, protected or not. A ``cid`` goes with the type `TLS12_CID` alone."""
    number = epoch << 48 | sequence
    if cid:
        return b"".join((_CID_HEADER.pack(type, version, number), cid, len(fragment).to_bytes(2, "big"), fragment))
    return _HEADER.pack(type, version, number, len(fragment)) + fragment
