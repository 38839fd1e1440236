"""A network in memory: connects engines under a virtual clock, so that an hour of a bad network is a short test."""

from collections.abc import Callable, Iterable
from heapq import heappop, heappush
from typing import Any, Final, TypeAlias

from stellwerk.core.ids import PeerId
from stellwerk.core.instant import Instant
from stellwerk.net.driver import Engine
from stellwerk.sim.impairment import Conditions, Impairment

Address: TypeAlias = tuple[str, int]
"""Host and port."""

OnEvents: TypeAlias = Callable[[list[Any], Instant], None]
"""Gets the events of one round with the round's time, as a `net.driver.Driver` would call it."""

EPOCH_MS: Final = 1_800_000_000_000
"""What the wall clock shows when a network's time starts: 2027-01-15T08:00:00Z."""

_MINIMUM_STEP_S: Final = 1e-6
_ROUNDS_PER_INSTANT: Final = 10_000


class Station:
    """An engine on the network. ``submit`` hands it an action and sends what follows from it."""

    __slots__ = ("_network", "engine", "on_events")

    def __init__(self, network: "MemoryNetwork", engine: Engine[Any, Any], on_events: OnEvents | None) -> None:
        self.engine = engine
        self.on_events = on_events
        self._network = network

    def submit(self, action: Any) -> None:
        self.engine.submit(action, self._network.now)
        self.flush()

    def flush(self) -> None:
        """Let pending events out and pending datagrams go."""
        self._network._finish_round(self)


class MemoryNetwork:
    """Carries datagrams between attached engines, with loss, duplication, delay and reordering drawn from ``seed``.

    Nothing happens by itself: `run` moves time from one arrival or deadline to the next. An address that `move`d is
    seen by the others under its new one, like a device behind a NAT: its own engine knows nothing of it.
    """

    def __init__(
        self,
        seed: int = 0,
        *,
        loss: float = 0.0,
        duplication: float = 0.0,
        delay_s: float = 0.01,
        jitter_s: float = 0.0,
        reorder: float = 0.0,
        reorder_delay_s: float = 0.5,
        start: float = 1000.0,
        epoch_ms: int = EPOCH_MS,
    ) -> None:
        """``start``: monotonic seconds at the beginning, when the wall clock shows ``epoch_ms``."""
        self.now = start
        self.impairment = Impairment(Conditions(loss, duplication, delay_s, jitter_s, reorder, reorder_delay_s), seed)
        self.trace: Callable[[float, Address, Address, bytes], None] | None = None
        """Told of each datagram that leaves, before its fate: time, outer source, outer destination, bytes."""
        self._start = start
        self._epoch_ms = epoch_ms
        self._stations: dict[Address, Station] = {}
        self._outer_of: dict[Address, Address] = {}
        self._inner_of: dict[Address, Address] = {}
        self._flights: list[tuple[float, int, Address, Address, bytes]] = []
        self._launched = 0

    # -- who takes part --

    def attach(
        self, address: Address | Iterable[Address], engine: Engine[Any, Any], on_events: OnEvents | None = None
    ) -> Station:
        """Deliver what is sent to ``address`` (or each of several) to ``engine``; ``on_events`` gets its events.
        Attaching an address again replaces what was there, like a restart: datagrams in flight reach the new one."""
        station = Station(self, engine, on_events)
        addresses = [address] if _is_address(address) else list(address)
        for each in addresses:
            self._stations[each] = station  # type: ignore[index]
        station.flush()
        return station

    def detach(self, address: Address) -> None:
        """What is sent to ``address`` from now on is lost."""
        self._stations.pop(address, None)

    def move(self, old_address: Address, new_address: Address) -> None:
        """Give the engine at ``old_address`` another outer address; what others send to the old one is lost."""
        inner = self._inner_of.pop(old_address, old_address)
        self._outer_of[inner] = new_address
        self._inner_of[new_address] = inner

    # -- time --

    def instant(self) -> Instant:
        """The current time on both clocks."""
        return Instant(self.now, self._epoch_ms + round((self.now - self._start) * 1000))

    def next_time(self) -> float | None:
        """When something happens next, or None when nothing will."""
        times = [deadline for station in self._each() if (deadline := station.engine.deadline()) is not None]
        if self._flights:
            times.append(self._flights[0][0])
        return min(times, default=None)

    def run(self, until: float) -> None:
        """Let time pass up to ``until`` (monotonic seconds). Raises `RuntimeError` when engines keep each other busy
        without time passing."""
        rounds = 0
        while (at := self.next_time()) is not None and at <= until:
            rounds = rounds + 1 if at <= self.now else 0
            if rounds > _ROUNDS_PER_INSTANT:
                raise RuntimeError(f"nothing but work at {self.now}: an engine's deadline does not move on")
            self.now = max(self.now, at)
            self._deliver()
            self._tick()
        self.now = max(self.now, until)

    def run_for(self, seconds: float) -> None:
        """`run` from now on."""
        self.run(self.now + seconds)

    def run_until(self, condition: Callable[[], bool], within_s: float) -> bool:
        """Let time pass until ``condition`` holds, at most ``within_s`` seconds. Says whether it holds."""
        end = self.now + within_s
        while not condition():
            at = self.next_time()
            if at is None or at > end:
                self.now = max(self.now, end)
                return condition()
            self.run(max(at, self.now))
        return True

    def _each(self) -> list[Station]:
        return list(dict.fromkeys(self._stations.values()))

    def _deliver(self) -> None:
        while self._flights and self._flights[0][0] <= self.now:
            _, _, source, target, datagram = heappop(self._flights)
            inner = self._inner_of.get(target)
            if inner is None:
                if target in self._outer_of:
                    continue  # The NAT has forgotten this binding.
                inner = target
            station = self._stations.get(inner)
            if station is None:
                continue
            station.engine.feed(datagram, peer=PeerId("udp", *source, *inner), now=self.now)
            self._finish_round(station)

    def _tick(self) -> None:
        for station in self._each():
            deadline = station.engine.deadline()
            if deadline is not None and deadline <= self.now:
                station.engine.tick(self.now)
                self._finish_round(station)

    def _finish_round(self, station: Station) -> None:
        engine = station.engine
        events = engine.take_events()
        while events:
            if station.on_events is not None:
                station.on_events(events, self.instant())
            events = engine.take_events()
        for peer, datagram in engine.take_datagrams():
            inner = (peer.local_host, peer.local_port)
            self._send(self._outer_of.get(inner, inner), (peer.remote_host, peer.remote_port), datagram)

    def _send(self, source: Address, target: Address, datagram: bytes) -> None:
        if self.trace is not None:
            self.trace(self.now, source, target, datagram)
        for delay in self.impairment.fate(datagram):
            self._launched += 1
            arrival = self.now + max(delay, _MINIMUM_STEP_S)
            heappush(self._flights, (arrival, self._launched, source, target, datagram))


def _is_address(value: object) -> bool:
    return isinstance(value, tuple) and len(value) == 2 and isinstance(value[0], str)
