"""Secure sessions: whose each is, which are kept and which end (contract §2; device platform §5; decisions 0012, 0013).

A handshake's engine asks who its peer is; the answer names a device, which the session belongs to from then on. What is
told of sessions is stored in the order of everything else, so a session is on disk no later than a Register over it.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, Protocol

import structlog

from stellwerk.app.bootstrap_identities import BOOTSTRAP_PORTS, BootstrapIdentities
from stellwerk.app.changes import Commit, DropSession, PutSession
from stellwerk.app.committing import log_not_stored
from stellwerk.app.device_ports import SecureLink
from stellwerk.app.failures import LONGEST_IDENTITY, Failures, Security
from stellwerk.app.handlers.handshakes import Handshakes
from stellwerk.app.handlers.promoting import Promoting
from stellwerk.app.identities import Identities
from stellwerk.app.live_peers import LivePeers
from stellwerk.app.meters import Meters
from stellwerk.app.ports import Clock, DecidingStore
from stellwerk.app.rare_lines import RareLines
from stellwerk.app.registry import Known
from stellwerk.app.session import SecureSession
from stellwerk.app.tasks import Tasks
from stellwerk.core.errors import UserError
from stellwerk.core.identity import SecureIdentity
from stellwerk.core.ids import DeviceId, PeerId, session_of, session_peer
from stellwerk.core.instant import Instant
from stellwerk.core.rates import TokenBuckets
from stellwerk.device.record import NOSEC, DeviceRecord

log = structlog.get_logger(__name__)

_LOOK_UPS_PER_S: Final = 5_000.0
"""Of sessions that may be stored, and as many by address: anybody may ask from an address that he made up, but not with
a connection ID."""
_KEPT: Final = frozenset({"close-notify", "evicted"})
"""Ends of a session after which it may still be resumed, or restored."""
_ENDED_KEPT: Final = 4_096
"""Sessions that ended lately: more than end while a Register is being stored."""
_NOT_KEPT: Final = "the session is not kept any more"


class TakeOver(Protocol):
    """`moving.Moving.take_over`."""

    def __call__(self, peer: PeerId, at: Instant, *, followed: bool = False) -> Awaitable[Known | None]: ...


class SecureSessions:
    """``link`` reaches the engine; `connect` closes the circle. ``per_tenant``: complete handshakes a second, 0 for no
    bound."""

    def __init__(
        self,
        *,
        store: DecidingStore,
        tasks: Tasks,
        clock: Clock,
        link: SecureLink,
        lines: RareLines,
        meters: Meters,
        per_tenant: float = 0.0,
        devices: dict[PeerId, DeviceId] | None = None,
        failures: Failures | None = None,
        promoting: Promoting | None = None,
    ) -> None:
        """``devices``: as for `LivePeers`; ``failures``: where handshakes that came to nothing are kept; ``promoting``:
        who is told of fresh credentials. Each is one of its own for None."""
        self._store = store
        self._tasks = tasks
        self._clock = clock
        self._link = link
        self._meters = meters.secure
        self.handshakes = Handshakes(
            identities=Identities(store),
            tasks=tasks,
            link=link,
            lines=lines,
            meters=self._meters,
            per_tenant=per_tenant,
            failures=failures,
            elsewhere=(BootstrapIdentities(store), BOOTSTRAP_PORTS),
        )
        self._look_ups: TokenBuckets[bool] = TokenBuckets(_LOOK_UPS_PER_S, _LOOK_UPS_PER_S)
        self._live = LivePeers(devices)
        self.devices = self._live.devices
        """Whose each session in memory is."""
        self._continued: set[PeerId] = set()
        """Sessions in memory that another one goes on from: what hangs on them is there already, and what is stored of
        them may be resumed again."""
        self._ended_lately: OrderedDict[PeerId, None] = OrderedDict()
        """The newest last. Nothing is sent to them, though what is stored of one may be resumed."""
        self._unstored: dict[bytes, tuple[int, SecureSession]] = {}
        """States that the store did not take, as their number and the state; tried again by `retry`."""
        self._states = 0
        """How many were told: a state is tried again only while no later one of the session is stored."""
        self.promoting = Promoting(store, tasks) if promoting is None else promoting
        self.promoting.hearers.append(self._promoted)
        self._take_over: TakeOver
        self._lost: Callable[[PeerId, str, Instant], None]

    def connect(self, take_over: TakeOver, lost: Callable[[PeerId, str, Instant], None]) -> None:
        """``take_over`` moves a device's registration to a session; ``lost`` hears of sessions that are no more."""
        self._take_over = take_over
        self._lost = lost

    def __len__(self) -> int:
        return len(self.devices)

    def may_reach(self, peer: PeerId) -> bool:
        """Whether what is sent to the session may arrive; one that is not in memory may be stored."""
        return not peer.has_ended and peer not in self._ended_lately

    # -- who is it? --

    def asked_to_resume(
        self, handshake: int, identity: SecureIdentity, device_id: DeviceId, session_id: bytes, at: Instant
    ) -> None:
        """May ``identity`` go on from the session that it had?"""
        self.handshakes.start(handshake, self._answer_resumption(handshake, identity, device_id, session_id, at))

    async def _answer_resumption(
        self, handshake: int, identity: SecureIdentity, device_id: DeviceId, session_id: bytes, at: Instant
    ) -> None:
        before = self.handshakes.revisions
        # What was revoked is not stored any more, whatever ticket somebody has.
        session = await self._store.session(session_id)
        record = None if session is None else await self._store.device(session.device_id)
        if session is None or record is None or session.device_id != device_id or before != self.handshakes.revisions:
            self._link.refuse(handshake, "unknown-identity", f"the session of the {identity} is not kept any more")
        elif self.handshakes.admits(handshake, record, at):
            self._link.accept(handshake, device_id)

    # -- what is kept --

    def asked_for_session(self, question: int, session_id: bytes | None, address: PeerId | None, at: Instant) -> None:
        """Is there a stored session of this ID, or last heard from ``address``?"""
        if not self._look_ups.take(session_id is not None, at.now):
            self._meters.limited["look-up"] += 1
            self._link.no_session(question)
            return
        if not self._tasks.start("session", self._find_session(question, session_id, address, at)):
            self._link.no_session(question)

    async def _find_session(self, question: int, session_id: bytes | None, address: PeerId | None, at: Instant) -> None:
        before = self.handshakes.revisions
        session: SecureSession | None = None
        try:
            # One that does not open with this master key is as good as none.
            with suppress(UserError):
                if session_id is not None:
                    session = await self._store.session(session_id)
                elif address is not None:
                    session = await self._store.session_from(address)
        finally:
            if session is None or before != self.handshakes.revisions:
                self._link.no_session(question)
        if session is None:
            if session_id is not None:
                # In this order: what could not leave waits by the time it comes back.
                self._lost(session_peer(session_id), _NOT_KEPT, at)
                self._link.lose(session_peer(session_id), _NOT_KEPT)
            return
        if before == self.handshakes.revisions and self._link.restore(question, session):
            self._bind(session_peer(session.session_id), session.device_id)
            self._meters.restored += 1

    def keep(self, session: SecureSession) -> None:
        """The session is, or has become, this: store it."""
        self._states += 1
        number, session_id = self._states, session.session_id

        def done(error: Exception | None) -> None:
            # One that the queue had no room for is told before those that wait in it.
            tried, _ = self._unstored.get(session_id, (0, None))
            if error is None:
                if tried and tried < number:
                    del self._unstored[session_id]
                self._link.stored(session_id, session.ceiling)
            elif session_peer(session_id) in self.devices:
                log_not_stored(log, "session.not_stored", error)
                if tried < number:
                    self._unstored[session_id] = number, session

        self._unstored.pop(session_id, None)
        self._store.submit(Commit((), (PutSession(session),), done, reserve=True))

    async def run(self, every_s: float = 1.0) -> None:
        """`retry` every ``every_s`` seconds, for ever."""
        while True:
            await asyncio.sleep(every_s)
            self.retry()

    def retry(self) -> None:
        """Store what the store did not take before; called now and then."""
        for _, session in list(self._unstored.values()):
            self.keep(session)

    def _drop(self, session_id: bytes) -> None:
        self._unstored.pop(session_id, None)
        self._store.submit(Commit((), (DropSession(session_id),), _log_failure, reserve=True))

    # -- what happens to sessions --

    def established(
        self,
        peer: PeerId,
        address: PeerId,
        identity: SecureIdentity,
        device_id: DeviceId,
        at: Instant,
        *,
        resumed: PeerId | None = None,
    ) -> None:
        """A handshake is complete. A session that goes on from another takes the registration over at once; else it
        does with the first uplink."""
        how = "full" if resumed is None else "resumed"
        self._meters.handshakes[how, ""] += 1
        shows_fresh = self.handshakes.completed(device_id, at, identity if resumed is None else None)
        log.info(
            "session.established",
            device_id=device_id,
            identity=str(identity)[:LONGEST_IDENTITY],
            peer=str(peer),
            address=str(address),
            handshake=how,
        )
        self._bind(peer, device_id)
        if shows_fresh:
            self.promoting.used(peer, identity, device_id)
        if resumed is not None:
            if resumed in self.devices:
                self._continued.add(resumed)
            self._link.follow(resumed, peer)
            self._tasks.start("resumed session", self._follow(peer, at))

    async def _follow(self, peer: PeerId, at: Instant) -> None:
        await self._take_over(peer, at, followed=True)

    def moved(self, peer: PeerId, old: PeerId, new: PeerId) -> None:
        """The session is heard from another address."""
        self._meters.moved += 1
        log.info("session.moved", peer=str(peer), device_id=self.devices.get(peer), old=str(old), new=str(new))

    def ended(self, peer: PeerId, reason: str, detail: str, at: Instant) -> None:
        """The session is not in memory any more."""
        self._meters.ended[reason] += 1
        self._live.remove(peer)
        if reason == "evicted":
            return
        self._ended_lately[peer] = None
        if len(self._ended_lately) > _ENDED_KEPT:
            self._ended_lately.popitem(last=False)
        log.info("session.ended", peer=str(peer), reason=reason, detail=detail)
        if peer in self._continued:
            self._continued.discard(peer)
            return
        if reason not in _KEPT:
            self._drop(session_of(peer))
        self._lost(peer, f"the secure session ended: {detail or reason}", at)

    def superseded(self, peer: PeerId) -> None:
        """The device is registered over another session or connection than ``peer`` now."""
        if peer.is_session and not peer.has_ended and peer in self.devices:
            self._link.close(peer)

    def summary(self, tenant: str | None) -> Security:
        """What somebody of ``tenant`` may see, None for all."""
        return Security(len(self) if tenant is None else None, tuple(self.handshakes.recent_failures(tenant)))

    # -- revocation (SEC-9) --

    def revoked(self, device: DeviceRecord) -> None:
        """The device's credentials changed: nobody who came in with what they were stays. What is stored of its
        sessions is dropped by whoever says so."""
        self._end_all(device.device_id, device.security == NOSEC)

    def removed(self, device_id: DeviceId) -> None:
        """The device is gone with all that was stored of it."""
        self._end_all(device_id, True)

    async def _promoted(self, device: DeviceRecord, peer: PeerId) -> None:
        """Of the device's sessions only ``peer`` stays, and no handshake goes on that was begun with what it had."""
        device_id = device.device_id
        self.handshakes.revisions += 1
        self._link.forget_handshakes(device_id)
        for other in self._live.of(device_id):
            if other != peer:
                self._link.close(other)
        for session in [each for _, each in self._unstored.values() if each.device_id == device_id]:
            if session_peer(session.session_id) != peer:
                del self._unstored[session.session_id]
        for session in await self._store.sessions_of(device_id):
            if session_peer(session.session_id) != peer:
                self._drop(session.session_id)

    def _end_all(self, device_id: DeviceId, revoked: bool) -> None:
        self.handshakes.revisions += 1
        self._link.forget_handshakes(device_id)
        for session in [each for _, each in self._unstored.values() if each.device_id == device_id]:
            del self._unstored[session.session_id]
        for peer in self._live.of(device_id):
            self._link.close(peer, revoked=revoked)

    # -- inside --

    def _bind(self, peer: PeerId, device_id: DeviceId) -> None:
        self._ended_lately.pop(peer, None)
        for old in self._live.add(peer, device_id):
            self._link.close(old)


def _log_failure(error: Exception | None) -> None:
    if error is not None:
        log_not_stored(log, "session.not_dropped", error)
