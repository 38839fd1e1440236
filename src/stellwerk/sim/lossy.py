"""A bad network between an engine and its driver: the same six verbs, but datagrams get lost, doubled and late."""

from heapq import heappop, heappush
from typing import Generic, TypeVar

from stellwerk.core.ids import PeerId
from stellwerk.net.driver import Engine
from stellwerk.sim.impairment import Impairment

E = TypeVar("E")
A = TypeVar("A", contravariant=True)


class LossyEngine(Generic[E, A]):
    """``inner`` behind a network that ``impairment`` describes, in both directions.

    Delayed datagrams wait here; a datagram without delay passes in the same round.
    """

    def __init__(self, inner: Engine[E, A], impairment: Impairment) -> None:
        self._inner = inner
        self._impairment = impairment
        self._waiting: list[tuple[float, int, bool, PeerId, bytes]] = []
        self._out: list[tuple[PeerId, bytes]] = []
        self._count = 0
        self._now = 0.0

    def feed(self, datagram: bytes, *, peer: PeerId, now: float) -> None:
        self._now = now
        for delay in self._impairment.fate(datagram):
            if delay <= 0:
                self._inner.feed(datagram, peer=peer, now=now)
            else:
                self._wait(now + delay, True, peer, datagram)

    def tick(self, now: float) -> None:
        self._now = now
        while self._waiting and self._waiting[0][0] <= now:
            _, _, inwards, peer, datagram = heappop(self._waiting)
            if inwards:
                self._inner.feed(datagram, peer=peer, now=now)
            else:
                self._out.append((peer, datagram))
        deadline = self._inner.deadline()
        if deadline is not None and deadline <= now:
            self._inner.tick(now)

    def submit(self, action: A, now: float) -> None:
        self._now = now
        self._inner.submit(action, now)

    def take_events(self) -> list[E]:
        return self._inner.take_events()

    def take_datagrams(self) -> list[tuple[PeerId, bytes]]:
        for peer, datagram in self._inner.take_datagrams():
            for delay in self._impairment.fate(datagram):
                if delay <= 0:
                    self._out.append((peer, datagram))
                else:
                    self._wait(self._now + delay, False, peer, datagram)
        out, self._out = self._out, []
        return out

    def deadline(self) -> float | None:
        deadline = self._inner.deadline()
        if self._waiting and (deadline is None or self._waiting[0][0] < deadline):
            return self._waiting[0][0]
        return deadline

    def _wait(self, until: float, inwards: bool, peer: PeerId, datagram: bytes) -> None:
        self._count += 1
        heappush(self._waiting, (until, self._count, inwards, peer, datagram))
