"""Any number of simulated devices on one CoAP engine, with the same six verbs as the engine below."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from stellwerk.coap.actions import Action
from stellwerk.coap.events import Event
from stellwerk.core.ids import PeerId
from stellwerk.core.timers import Timed, Timers
from stellwerk.net.driver import Engine
from stellwerk.sim.device import Device
from stellwerk.sim.happenings import Happening


@dataclass(frozen=True, slots=True)
class Start:
    """Let ``device`` join and register."""

    device: Device


@dataclass(frozen=True, slots=True)
class Stop:
    """Let ``device`` de-register."""

    device: Device


@dataclass(frozen=True, slots=True)
class Leave:
    """Forget ``device``: it is gone without a word."""

    device: Device


@dataclass(frozen=True, slots=True)
class Poke:
    """``act`` on ``device`` at the current time: an Update, a value set from inside."""

    device: Device
    act: Callable[[Device, float], None]


@dataclass(frozen=True, slots=True)
class Move:
    """Let ``device`` speak from the local address in ``server``: another socket, as after a reboot. With
    ``unnoticed`` it goes on as before, as behind a NAT that gave it another port."""

    device: Device
    server: PeerId
    unnoticed: bool = False


Order: TypeAlias = Start | Stop | Leave | Poke | Move


class _Member(Timed):
    """A device and its place in the timers."""

    __slots__ = ("_population", "device")

    def __init__(self, population: "Population", device: Device) -> None:
        super().__init__()
        self._population = population
        self.device = device

    def fire(self, now: float) -> None:
        if self._population._may_act(self.device, now):
            self.device.tick(now)
            self._population._settle(self, now)


class Population:
    """Routes events of ``engine`` to the device at the local address they came to, and submits what devices want.
    `take_events` gives what happened to them."""

    def __init__(self, engine: Engine[Event, Action]) -> None:
        self._engine = engine
        self._members: dict[tuple[str, int], _Member] = {}
        self._timers = Timers()
        self._happenings: list[Happening] = []
        self._now = 0.0

    def __len__(self) -> int:
        return len(self._members)

    def devices(self) -> list[Device]:
        """All of them, in the order they joined."""
        return [member.device for member in self._members.values()]

    # -- the six verbs --

    def feed(self, datagram: bytes, *, peer: PeerId, now: float) -> None:
        self._now = now
        member = self._members.get((peer.local_host, peer.local_port))
        if member is not None and member.device.is_listening(now):
            self._engine.feed(datagram, peer=peer, now=now)
            self._run()

    def tick(self, now: float) -> None:
        self._now = now
        self._timers.fire_due(now)
        deadline = self._engine.deadline()
        if deadline is not None and deadline <= now:
            self._engine.tick(now)
        self._run()

    def submit(self, action: Order, now: float) -> None:
        self._now = now
        device = action.device
        key = (device.server.local_host, device.server.local_port)
        if isinstance(action, Leave):
            member = self._members.pop(key, None)
            if member is not None:
                self._timers.cancel(member)
            return
        member = self._members.get(key)
        if isinstance(action, Start):
            member = self._members[key] = _Member(self, device)
            device.start(now)
        elif member is None:
            return
        elif isinstance(action, Stop):
            device.stop(now)
        elif isinstance(action, Move):
            del self._members[key]
            self._members[action.server.local_host, action.server.local_port] = member
            device.move(action.server, unnoticed=action.unnoticed)
        else:
            action.act(device, now)
        self._settle(member, now)
        self._run()

    def take_datagrams(self) -> list[tuple[PeerId, bytes]]:
        return self._engine.take_datagrams()

    def take_events(self) -> list[Happening]:
        happenings, self._happenings = self._happenings, []
        return happenings

    def deadline(self) -> float | None:
        due = self._timers.next_due()
        deadline = self._engine.deadline()
        if deadline is not None and deadline < due:
            return deadline
        return due if due != float("inf") else None

    # -- inside --

    def _may_act(self, device: Device, now: float) -> bool:
        """Whether ``device`` may do what is due. If not, it is not asked again before something happens to it."""
        return True

    def _take_actions(self, device: Device, now: float) -> list[Action]:
        """What ``device`` wants of the engine."""
        return device.take_actions()

    def _run(self) -> None:
        events = self._engine.take_events()
        while events:
            for event in events:
                peer = event.peer
                member = self._members.get((peer.local_host, peer.local_port))
                if member is not None:
                    member.device.handle(event, self._now)
                    self._settle(member, self._now)
            events = self._engine.take_events()

    def _settle(self, member: _Member, now: float) -> None:
        device = member.device
        for action in self._take_actions(device, now):
            self._engine.submit(action, now)
        self._happenings.extend(device.take_happenings())
        due = device.deadline()
        if due is None:
            self._timers.cancel(member)
        else:
            self._timers.arm(member, due)
