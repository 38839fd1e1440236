"""Protected requests whose context is asked for outside: bounded in number, per question and in time.

A flood of unknown kids leaves nothing behind but what any request leaves in the message layer.
"""

from collections.abc import Callable
from typing import Final, NamedTuple

from stellwerk.coap.duplicates import Inbound
from stellwerk.coap.oscore.option import OscoreOption
from stellwerk.core.ids import PeerId
from stellwerk.core.timers import Timed, Timers

_ARRIVALS_PER_QUESTION: Final = 8
_ANSWERED_WITHIN_S: Final = 30.0
_HELD_BYTES: Final = 8 * 1024 * 1024
"""Of all messages that wait."""


class Arrival(NamedTuple):
    """A protected request that is not read yet: its record in the message layer, and what it says in clear."""

    outer: Inbound
    option: OscoreOption
    payload: bytes


class Question(Timed):
    """One context that is asked for, and the requests that wait for it."""

    __slots__ = ("_forget", "arrivals", "key", "number")

    def __init__(self, number: int, key: tuple[object, ...], forget: Callable[["Question"], None]) -> None:
        super().__init__()
        self.number = number
        self.key = key
        self.arrivals: list[Arrival] = []
        self._forget = forget

    def fire(self, now: float) -> None:
        """Nobody answered."""
        self._forget(self)


class ContextQuestions:
    """All questions of one engine."""

    def __init__(self, timers: Timers, limit: int, dropped: Callable[[Arrival], None]) -> None:
        """``dropped`` is told of each request that waited in vain."""
        self._timers = timers
        self._limit = limit
        self._dropped = dropped
        self._by_number: dict[int, Question] = {}
        self._by_key: dict[tuple[object, ...], Question] = {}
        self._last = 0
        self._held = 0

    def __len__(self) -> int:
        return len(self._by_number)

    def ask(self, arrival: Arrival, carrier: PeerId, now: float) -> tuple[int, bool] | None:
        """Let ``arrival`` wait: the number of its question, and whether that is to be asked now. None: there is no
        room."""
        size = len(arrival.payload)
        if self._held + size > _HELD_BYTES:
            return None
        key = (arrival.option.kid, arrival.option.kid_context, carrier)
        question = self._by_key.get(key)
        if question is not None:
            if len(question.arrivals) >= _ARRIVALS_PER_QUESTION:
                return None
            question.arrivals.append(arrival)
            self._held += size
            return question.number, False
        if len(self._by_number) >= self._limit:
            return None
        self._last += 1
        question = Question(self._last, key, self._expire)
        question.arrivals.append(arrival)
        self._held += size
        self._by_number[question.number] = self._by_key[key] = question
        self._timers.arm(question, now + _ANSWERED_WITHIN_S)
        return question.number, True

    def take(self, number: int) -> list[Arrival]:
        """What waited for the question ``number``, which is answered."""
        question = self._by_number.pop(number, None)
        if question is None:
            return []
        del self._by_key[question.key]
        self._timers.cancel(question)
        self._held -= sum(len(arrival.payload) for arrival in question.arrivals)
        return question.arrivals

    def _expire(self, question: Question) -> None:
        for arrival in self.take(question.number):
            self._dropped(arrival)
