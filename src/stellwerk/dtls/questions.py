"""What waits for sessions that are not in memory. Everything about it is bounded: the questions, those of one network,
what waits for each, and how long."""

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

from stellwerk.core.ids import PeerId
from stellwerk.core.timers import Timed
from stellwerk.dtls.base import Base
from stellwerk.dtls.events import SessionQuestion
from stellwerk.dtls.half_open import network_of

if TYPE_CHECKING:
    from stellwerk.dtls.server import ServerHandshake


class Question(Timed):
    """One open `events.SessionQuestion` and what waits for its answer."""

    __slots__ = ("_unanswered", "datagrams", "handshakes", "is_void", "key", "network", "number", "sends", "session_id")

    def __init__(
        self,
        number: int,
        key: Hashable,
        session_id: bytes | None,
        network: str | None,
        unanswered: "Callable[[Question, float], None]",
    ) -> None:
        super().__init__()
        self.number = number
        self.key = key
        self.session_id = session_id
        self.network = network
        self.datagrams: list[tuple[PeerId, bytes]] = []
        self.sends: list[bytes] = []
        self.handshakes: list[ServerHandshake] = []
        self.is_void = False
        """Whatever the answer, there is no session: it was closed meanwhile."""
        self._unanswered = unanswered

    def fire(self, now: float) -> None:
        """Nobody answered."""
        self._unanswered(self, now)


class Questions:
    """All open questions about sessions of one endpoint. ``unanswered`` is told when time is over for one."""

    def __init__(
        self,
        base: Base,
        unanswered: Callable[[Question, float], None],
    ) -> None:
        self._base = base
        self._limits = base.limits
        self._unanswered = unanswered
        self._by_number: dict[int, Question] = {}
        self._by_key: dict[Hashable, Question] = {}
        self._networks: dict[str, int] = {}

    def about(
        self, session_id: bytes | None, address: PeerId | None, now: float, source: PeerId | None = None
    ) -> Question | None:
        """The question about ``session_id``, or about whoever was last heard from ``address``: put now if it is not
        open yet. None: too many are open, of all or of the network of ``source``."""
        key: Hashable = session_id if session_id is not None else address
        question = self._by_key.get(key)
        if question is not None:
            return question
        if len(self._by_number) >= self._limits.questions:
            return None
        network = network_of(source) if source is not None else None
        if network is not None:
            open_there = self._networks.get(network, 0)
            if open_there >= self._limits.questions_per_address:
                return None
            self._networks[network] = open_there + 1
        question = Question(self._base.number(), key, session_id, network, self._unanswered)
        self._by_number[question.number] = self._by_key[key] = question
        self._base.timers.arm(question, now + self._limits.answer_s)
        self._base.events.append(SessionQuestion(question.number, session_id, address))
        return question

    def take(self, number: int) -> Question | None:
        """The question that is answered now, None if it is over already."""
        question = self._by_number.pop(number, None)
        if question is None:
            return None
        del self._by_key[question.key]
        self._base.timers.cancel(question)
        if question.network is not None:
            left = self._networks[question.network] - 1
            if left:
                self._networks[question.network] = left
            else:
                del self._networks[question.network]
        return question

    def open_about(self, session_id: bytes) -> Question | None:
        """The open question about ``session_id``."""
        return self._by_key.get(session_id)
