"""A device that gets it wrong now and then: late, silent, refusing or talking nonsense."""

from random import Random
from typing import Final, TypeAlias

from stellwerk.coap import codes
from stellwerk.coap.actions import Drop, Respond

Twisted: TypeAlias = tuple[float, Respond | Drop]
"""Seconds to wait, then what to do."""

_REFUSALS: Final = (codes.NOT_FOUND, codes.METHOD_NOT_ALLOWED, codes.INTERNAL_SERVER_ERROR, codes.BAD_REQUEST)
_LATE_S: Final = (0.5, 6.0)


class Faults:
    """Spoils the part ``rate`` (0..1) of what a device says."""

    __slots__ = ("_random", "_rate", "committed")

    def __init__(self, rate: float, seed: int) -> None:
        self._rate = rate
        self._random = Random(seed)
        self.committed = 0

    def twist(self, answer: Respond) -> Twisted:
        """``answer``, or something worse."""
        if self._random.random() >= self._rate:
            return 0.0, answer
        self.committed += 1
        kind = self._random.randrange(4)
        if kind == 0:
            return self._random.uniform(*_LATE_S), answer
        if kind == 1:
            return 0.0, Drop(answer.exchange)
        if kind == 2 or not answer.payload:
            return 0.0, Respond(answer.exchange, self._random.choice(_REFUSALS))
        answer.payload = self.garble(answer.payload)
        return 0.0, answer

    def spoil(self, payload: bytes) -> bytes:
        """``payload``, or bytes that break its format."""
        if self._random.random() >= self._rate:
            return payload
        self.committed += 1
        return self.garble(payload)

    def garble(self, payload: bytes) -> bytes:
        """Cut short, with a broken byte."""
        keep = self._random.randrange(1, max(2, len(payload)))
        return payload[: keep - 1] + bytes([payload[keep - 1] ^ 0xA5])
