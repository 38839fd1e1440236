"""Flights: what is sent together, repeated together (RFC 6347 §4.2.4), and the records that carry it.

Each repetition has new record numbers and the same messages. While its answer is awaited a flight belongs to its
handshake; the last flight of all, which nothing answers but data, is a `LastFlight` of the session.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from stellwerk.core.ids import PeerId
from stellwerk.core.timers import Timed
from stellwerk.dtls.association import Association
from stellwerk.dtls.fragments import HEADER_BYTES as _FRAGMENT_HEADER
from stellwerk.dtls.fragments import decode_fragments, encode_fragment
from stellwerk.dtls.records import HEADER_BYTES, MAX_SEQUENCE, ContentType, encode_record

_LEAST_FRAGMENT: Final = _FRAGMENT_HEADER + 32
"""A message is cut only if a fragment of this size fits; a shorter one goes into the next datagram."""

REPEAT_AFTER_S: Final = 0.2
"""A flight is not answered again from the cache sooner: what comes in between is a duplicate of the network."""
MOST_ANSWERS: Final = 16
"""How often a flight is answered again from the cache."""


class Outgoing(NamedTuple):
    """What we send in ``epoch``: a handshake message in one fragment, as hashes take it too, or a ChangeCipherSpec.
    ``type``: of its records."""

    epoch: int
    type: int
    content: bytes


CHANGE_CIPHER_SPEC: Final = Outgoing(0, int(ContentType.CHANGE_CIPHER_SPEC), b"\x01")


class PlainWriter:
    """Numbers our records of epoch 0. ``sequence`` is the next number."""

    __slots__ = ("sequence",)

    def __init__(self, sequence: int = 0) -> None:
        self.sequence = sequence

    def seal(self, type: int, plaintext: bytes) -> bytes:
        """The record."""
        sequence = self.sequence
        self.sequence = min(sequence + 1, MAX_SEQUENCE)
        return encode_record(type, 0, sequence, plaintext)


def encode_flight(
    messages: list[Outgoing], plain: PlainWriter, association: Association | None, *, mtu: int, size: int
) -> list[bytes]:
    """The datagrams, of at most ``mtu`` bytes each, with ``size`` bytes in one record at most. One fragment is in one
    record, and several records are in one datagram: that is what constrained clients understand."""
    datagrams: list[bytes] = []
    records: list[bytes] = []
    used = 0
    for epoch, type, content in messages:
        if epoch:
            assert association is not None
            seal, overhead = association.seal, association.overhead
        else:
            seal, overhead = plain.seal, HEADER_BYTES
        rest = content
        while (length := len(rest)) > size or length > mtu - used - overhead:
            room = min(mtu - used - overhead, size)
            if room < _LEAST_FRAGMENT and records:
                datagrams.append(b"".join(records))
                records, used = [], 0
                continue
            piece, rest = _cut(rest, max(room, _FRAGMENT_HEADER + 1))
            records.append(seal(type, piece))
            used += len(records[-1])
        record = seal(type, rest)
        records.append(record)
        used += len(record)
    if records:
        datagrams.append(b"".join(records))
    return datagrams


def _cut(content: bytes, size: int) -> tuple[bytes, bytes]:
    """A fragment as two, the first of ``size`` bytes."""
    fragment = decode_fragments(content)[0]
    at = size - _FRAGMENT_HEADER
    return (
        encode_fragment(fragment._replace(data=fragment.data[:at])),
        encode_fragment(fragment._replace(offset=fragment.offset + at, data=fragment.data[at:])),
    )


class SentFlight:
    """The flight whose answer is awaited, and how often it was sent. ``answered``: the number of the last message of
    the peer's flight before it."""

    __slots__ = ("_answers", "_sent_at", "answered", "messages", "repetitions", "timeout")

    def __init__(self, messages: list[Outgoing], answered: int, timeout: float, now: float) -> None:
        self.messages = messages
        self.answered = answered
        self.timeout = timeout
        """How long its answer is awaited this time."""
        self.repetitions = 0
        self._answers = 0
        self._sent_at = now

    def repeat(self, longest_timeout: float, now: float) -> None:
        """It is sent again for want of an answer (RFC 6347 §4.2.4.1: with twice the timeout)."""
        self.repetitions += 1
        self.timeout = min(2 * self.timeout, longest_timeout)
        self._sent_at = now

    def may_answer_again(self, now: float) -> bool:
        """Whether it is sent again since the peer repeats what it answers; not in the same moment, and not for ever."""
        if not self.messages or now - self._sent_at < REPEAT_AFTER_S or self._answers >= MOST_ANSWERS:
            return False
        self._answers += 1
        self._sent_at = now
        return True


class LastFlight(Timed):
    """The flight that ended a handshake. It is sent again whenever the peer repeats the one before, until the peer
    sends data, and forgotten after a while in any case."""

    __slots__ = (
        "_flight",
        "_mtu",
        "_plain",
        "_size",
        "address",
        "association",
        "on_end",
    )

    def __init__(
        self,
        association: Association,
        flight: SentFlight,
        plain: PlainWriter,
        *,
        mtu: int,
        size: int,
    ) -> None:
        super().__init__()
        self.on_end: Callable[[LastFlight], None] = _nothing
        self.association = association
        self.address: PeerId = association.address
        self._flight = flight
        self._plain = plain
        self._mtu = mtu
        self._size = size

    @property
    def answered(self) -> int:
        """The number of the last message of the flight that it answers."""
        return self._flight.answered

    def repeat(self, now: float) -> list[bytes]:
        """The datagrams once more; none if that was just done, or often enough. Raises `association.Exhausted`."""
        if not self._flight.may_answer_again(now):
            return []
        return encode_flight(self._flight.messages, self._plain, self.association, mtu=self._mtu, size=self._size)

    def fire(self, now: float) -> None:
        """The peer had its time: it does not need this any more."""
        self.on_end(self)


def _nothing(flight: LastFlight) -> None:
    """Nobody wants to know."""
