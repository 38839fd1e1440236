"""Simulated devices over TLS: connections as in `streams`, each of which proves itself first (RFC 8323 §9)."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from stellwerk.core.errors import UserError
from stellwerk.core.identity import CertificateIdentity
from stellwerk.core.ids import PeerId
from stellwerk.core.instant import Instant
from stellwerk.dtls import events
from stellwerk.dtls.actions import AcceptPeer, Connect, RefusePeer
from stellwerk.dtls.parameters import ClientParameters
from stellwerk.net.clock import SystemClock, SystemEntropy
from stellwerk.net.tcp import StreamDriver
from stellwerk.net.tls import TLS_EVENTS
from stellwerk.net.tls_client import TlsClients
from stellwerk.sim.happenings import HandshakeDone, HandshakeFailed, Happening, SessionLost
from stellwerk.sim.security import AfterHandshake, RawKey, Security, client_parameters
from stellwerk.sim.streams import StreamBearer, adopt
from stellwerk.sim.trust import Refusal, judge_server

Prove: TypeAlias = Callable[[int], tuple[str, ClientParameters]]
"""The endpoint name of the device with an index, and what it brings to a handshake."""
Judge: TypeAlias = Callable[[CertificateIdentity, Instant], Refusal | None]

_AGAIN_S: Final = 5.0
"""From a handshake that failed to the next."""


class NoWay(UserError):
    """What the devices are to do cannot be done over TLS; the text says what to leave out."""


class TlsBearer(StreamBearer):
    """``prove`` gives what a device brings, ``judge`` says whether the other end is its server. A connection whose
    handshake fails is one that was lost."""

    def __init__(self, host: str, port: int, *, prove: Prove, judge: Judge, handshake_s: float, **how: Any) -> None:
        """``how``: as of `StreamBearer`."""
        self._prove = prove
        self._judge = judge
        self._handshake_s = handshake_s
        self._shaking: dict[PeerId, asyncio.Future[None]] = {}
        self._names: dict[PeerId, str] = {}
        self._failed: set[PeerId] = set()
        super().__init__(host, port, **how)

    def _make_driver(self, clock: SystemClock) -> StreamDriver[Any, Any]:
        self._stack: TlsClients[Any, Any] = TlsClients(self.population, self._entropy, handshake_s=self._handshake_s)
        return StreamDriver(self._stack, self._hear, clock=clock, adopt=adopt, on_closed=self._lost, transport="tls")

    async def connect(self, index: int) -> PeerId:
        """As `StreamBearer.connect`; its handshake is over then, however it ended."""
        peer = await super().connect(index)
        name, parameters = self._prove(index)
        self._names[peer] = name
        done = self._shaking[peer] = asyncio.get_running_loop().create_future()
        self.driver.submit(Connect(peer, parameters))
        await done
        return peer

    def pause_s(self, peer: PeerId) -> float:
        """Longer after a handshake that failed, or a server that gave up after it."""
        self._names.pop(peer, None)
        usual = super().pause_s(peer)
        if peer not in self._failed:
            return usual
        self._failed.discard(peer)
        return max(usual, _AGAIN_S)

    def _hear(self, batch: list[Any], at: Instant) -> None:
        happenings: list[Happening] = []
        for event in batch:
            if type(event) not in TLS_EVENTS:
                happenings.append(event)
            elif isinstance(event, events.CertificateQuestion):
                assert isinstance(event.identity, CertificateIdentity)
                refusal = self._judge(event.identity, at)
                answer = AcceptPeer(event.handshake) if refusal is None else RefusePeer(event.handshake, *refusal)
                self.driver.submit(answer)
            else:
                happenings += self._follow(event)
        if happenings:
            self._tell(happenings, at)

    def _follow(self, event: Any) -> list[Happening]:
        if isinstance(event, events.SessionEstablished):
            self._settle(event.peer)
            return [HandshakeDone(self._names[event.peer], self._stack.suite_of(event.peer), False)]
        if isinstance(event, events.HandshakeFailed):
            self._settle(event.address)
            self._failed.add(event.address)
            return [HandshakeFailed(self._names[event.address], event.reason, event.detail)]
        if isinstance(event, events.SessionEnded) and event.detail and event.peer in self._names:
            if event.reason == "alert":
                # In TLS 1.3 a server refuses a client when that takes the handshake for complete.
                self._failed.add(event.peer)
            return [SessionLost(self._names[event.peer], event.reason, event.detail)]
        return []

    def _settle(self, peer: PeerId) -> None:
        done = self._shaking.pop(peer, None)
        if done is not None and not done.done():
            done.set_result(None)


def tls_bearer(host: str, port: int, security: Security, names: list[str], first: int, **how: Any) -> TlsBearer:
    """Connections of devices with ``names``, numbered from ``first`` on, that prove themselves by ``security``. Raises
    `NoWay`, and whatever its keyring raises."""
    require_tls(security)
    proofs = [security.keyring(name, number) for number, name in enumerate(names, first)]
    if any(isinstance(each, RawKey) for each in proofs):
        raise NoWay("over TLS there are no raw public keys; use --psk or --cert, or write coaps://")

    def prove(index: int) -> tuple[str, ClientParameters]:
        return names[index], client_parameters(security, proofs[index], names[index], None, SystemEntropy())

    def judge(identity: CertificateIdentity, at: Instant) -> Refusal | None:
        return judge_server(security, identity, datetime.fromtimestamp(at.wall_ms / 1000, UTC))

    return TlsBearer(host, port, prove=prove, judge=judge, handshake_s=security.handshake_s, **how)


def require_tls(security: Security) -> None:
    """Raises `NoWay` for what ``security`` wants and TLS has not."""
    if security.cid_length is not None or security.resume is not None or security.suites:
        why = "over TLS there are no connection IDs, no resumption and no choice of suites"
        raise NoWay(f"{why}; leave out --cid, --cid-length, --resume and --suite, or write coaps://")
    if security.after_handshake is not AfterHandshake.REGISTER:
        raise NoWay("over TLS a device goes on with an Update in each new connection; leave out --after-handshake")
