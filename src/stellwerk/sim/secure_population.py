"""Simulated devices on one CoAP engine whose peers are secure sessions."""

from collections.abc import Callable

from stellwerk.coap.actions import Action, SendNotification
from stellwerk.coap.events import Event
from stellwerk.core.ids import PeerId
from stellwerk.net.driver import Engine
from stellwerk.sim.device import Device
from stellwerk.sim.population import Population


class SecurePopulation(Population):
    """Devices whose peers are sessions. ``may_act``: whether a device has a session to do what is due with;
    ``let_out``: what of its actions goes on to the engine."""

    def __init__(
        self,
        engine: Engine[Event, Action],
        may_act: Callable[[Device, float], bool],
        let_out: Callable[[Device, list[Action], float], list[Action]],
    ) -> None:
        super().__init__(engine)
        self._asks = may_act
        self._let_out = let_out
        self.heard: set[str] = set()
        """The sessions whose device hears what they carry."""

    def feed(self, datagram: bytes, *, peer: PeerId, now: float) -> None:
        if peer.remote_host in self.heard:
            super().feed(datagram, peer=of_session(peer), now=now)

    def take_datagrams(self) -> list[tuple[PeerId, bytes]]:
        return [(PeerId("dtls", peer.remote_host, 0), data) for peer, data in super().take_datagrams()]

    def rebind(self, device: Device, session: PeerId) -> None:
        """From now on ``session`` is the way between ``device`` and its server, in place of an earlier one if any."""
        member = self._members.pop((device.server.local_host, device.server.local_port), None)
        device.reach(of_session(session))
        if member is not None:
            self._members[device.server.local_host, device.server.local_port] = member

    def tell(self, notifications: list[SendNotification], peer: PeerId, now: float) -> None:
        """Let these go to ``peer``, whomever they were for at first."""
        for each in notifications:
            each.peer = peer
            self._engine.submit(each, now)

    def wake(self, device: Device, now: float) -> None:
        """Let ``device`` do what is due, without asking whether it may."""
        device.tick(now)
        self.settle(device, now)

    def settle(self, device: Device, now: float) -> None:
        """Take over what ``device`` wants, and when it is due next."""
        member = self._members.get((device.server.local_host, device.server.local_port))
        if member is not None:
            self._now = now
            self._settle(member, now)

    def _may_act(self, device: Device, now: float) -> bool:
        return self._asks(device, now)

    def _take_actions(self, device: Device, now: float) -> list[Action]:
        return self._let_out(device, device.take_actions(), now)


def of_session(session: PeerId) -> PeerId:
    """The peer that a device takes its session for: devices are told apart by their own end of it, and what another
    session was asked must not be taken for an answer in this one."""
    return PeerId("dtls", session.remote_host, 0, session.remote_host, 0)
