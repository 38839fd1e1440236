"""One link per transport, behind the one port that `app` knows: a request goes where its device is registered."""

import asyncio
from collections.abc import Mapping

from stellwerk.app.device_ports import DeviceAnswer
from stellwerk.app.handlers.observations import Observations
from stellwerk.app.handlers.oscore_contexts import OscoreContexts
from stellwerk.app.ports import Clock
from stellwerk.app.uplinks import Uplinks
from stellwerk.core.ids import PeerId
from stellwerk.core.instant import Instant
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.operations import Operation
from stellwerk.southbound.link import ConnectionLost, Finished, Link, Reacted
from stellwerk.southbound.oscore_peers import OscorePeers


class Links:
    """Implements `app.device_ports.DeviceLink` over ``by_transport``; at least one link. What cannot be sent since
    nothing here speaks its transport ends as ``unconnected``."""

    def __init__(self, by_transport: Mapping[str, Link], *, clock: Clock) -> None:
        self._by_transport = dict(by_transport)
        self._any = next(iter(self._by_transport.values()))
        self._clock = clock
        self._finished: Finished

    def connect(
        self,
        uplinks: Uplinks,
        observations: Observations,
        finished: Finished,
        reacted: Reacted,
        connection_lost: ConnectionLost,
    ) -> None:
        """Close the circle with `app`."""
        self._finished = finished
        for link in self._by_transport.values():
            link.connect(uplinks, observations, finished, reacted, connection_lost)

    def speak_oscore(self, contexts: OscoreContexts) -> None:
        """Messages may be protected with OSCORE; ``contexts`` knows whose."""
        for link in self._by_transport.values():
            link.oscore = OscorePeers(submit=link.submit, contexts=contexts)

    def draw_token(self) -> bytes:
        return self._any.draw_token()

    def choose_format(self, registration: Registration, operation: Operation) -> int:
        return self._by_transport.get(registration.peer.carrier, self._any).choose_format(registration, operation)

    def send(
        self,
        handle: int,
        registration: Registration,
        operation: Operation,
        token: bytes | None = None,
        ack_timeout_s: float | None = None,
    ) -> None:
        link = self._by_transport.get(registration.peer.carrier)
        if link is not None:
            link.send(handle, registration, operation, token, ack_timeout_s)
        else:
            # Later, like every outcome: whoever called has not returned yet.
            asyncio.get_running_loop().call_soon(self._refuse, handle, registration.peer.carrier)

    def _refuse(self, handle: int, transport: str) -> None:
        answer = DeviceAnswer(handle, failure="unconnected", detail=f"nothing listens for {transport} here")
        self._finished(answer, Instant(self._clock.now(), self._clock.wall_ms()))

    def reaches(self, peer: PeerId) -> bool:
        link = self._by_transport.get(peer.carrier)
        return link is not None and link.reaches(peer)

    def cancel(self, handle: int) -> None:
        for link in self._by_transport.values():
            link.cancel(handle)

    def hold(self, handle: int) -> None:
        for link in self._by_transport.values():
            link.hold(handle)

    def repeat(self, handle: int) -> None:
        for link in self._by_transport.values():
            link.repeat(handle)

    def prove_peer(self, peer: PeerId) -> None:
        link = self._by_transport.get(peer.carrier)
        if link is not None and not peer.is_channel:
            link.prove_peer(peer)

    def move_peer(self, old: PeerId, new: PeerId) -> None:
        link = self._by_transport.get(old.carrier)
        if link is None:
            return
        if old.is_session:
            link.lose_peer(old, "the device speaks over another session now")
        elif old.is_channel or new.is_channel:
            # A connection's requests and observations are its own (BIN-4): they end, and what is owed is asked anew.
            link.forget_peer(old)
        else:
            link.move_peer(old, new)

    def forget_peer(self, peer: PeerId) -> None:
        link = self._by_transport.get(peer.carrier)
        if link is not None:
            link.forget_peer(peer)

    def forget_observation(self, peer: PeerId, token: bytes) -> None:
        link = self._by_transport.get(peer.carrier)
        if link is not None:
            link.forget_observation(peer, token)
