"""What a bad network does to datagrams: one decision, shared by every place that plays one."""

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Final, TypeAlias

LOST: Final[tuple[float, ...]] = ()

Pick: TypeAlias = Callable[[bytes], bool]
"""Says of a datagram whether something planned for one applies to it."""


@dataclass(frozen=True, slots=True)
class Conditions:
    """Probabilities in 0..1, times in seconds. The default is a perfect network without any delay.

    A datagram takes ``delay_s``, up to ``jitter_s`` more, and with probability ``reorder`` another ``reorder_delay_s``,
    so that later ones overtake it.
    """

    loss: float = 0.0
    duplication: float = 0.0
    delay_s: float = 0.0
    jitter_s: float = 0.0
    reorder: float = 0.0
    reorder_delay_s: float = 0.5

    def __post_init__(self) -> None:
        for name in ("loss", "duplication", "reorder"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise ValueError(f"{name} is a probability in 0..1, not {getattr(self, name)}")

    @property
    def perfect(self) -> bool:
        """Nothing happens to any datagram."""
        return not (self.loss or self.duplication or self.delay_s or self.jitter_s or self.reorder)


class Impairment:
    """Draws the fate of each datagram from ``conditions`` with a generator of its own, so a seed replays a story."""

    __slots__ = ("_planned", "_random", "conditions", "delivered", "duplicated", "lost")

    def __init__(self, conditions: Conditions, seed: int = 0) -> None:
        self.conditions = conditions
        self.delivered = 0
        self.lost = 0
        self.duplicated = 0
        self._random = Random(seed)
        self._planned: list[Pick] = []

    def drop_next(self, pick: Pick | None = None) -> None:
        """Lose the next datagram (that ``pick`` says yes to), whatever the conditions."""
        self._planned.append(pick or _any)

    def fate(self, datagram: bytes) -> tuple[float, ...]:
        """The delays, in seconds, after which a copy arrives; none when it is lost."""
        for index, pick in enumerate(self._planned):
            if pick(datagram):
                del self._planned[index]
                self.lost += 1
                return LOST
        conditions, draw = self.conditions, self._random.random
        if conditions.loss and draw() < conditions.loss:
            self.lost += 1
            return LOST
        self.delivered += 1
        if conditions.duplication and draw() < conditions.duplication:
            self.duplicated += 1
            return self._delay(), self._delay()
        return (self._delay(),)

    def _delay(self) -> float:
        conditions, draw = self.conditions, self._random.random
        delay = conditions.delay_s
        if conditions.jitter_s:
            delay += draw() * conditions.jitter_s
        if conditions.reorder and draw() < conditions.reorder:
            delay += conditions.reorder_delay_s
        return delay


def is_acknowledgement(datagram: bytes) -> bool:
    """An ACK, empty or with an answer in it (RFC 7252 §3)."""
    return len(datagram) >= 4 and datagram[0] & 0x30 == 0x20


def _any(datagram: bytes) -> bool:
    return True
