"""Secure sessions: whose each is, which are kept and which end (contract §2; device platform §5; decisions 0012, 0013).

A handshake's engine asks who its peer is; the answer names a device, which the session belongs to from then on. What is
told of sessions is stored in the order of everything else, so a session is on disk no later than a Register over it.
"""

import asyncio
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Protocol

import structlog

from stellwerk.app.changes import Commit, DropSession, PutSession
from stellwerk.app.committing import log_not_stored
from stellwerk.app.identities import Found, Identities, Trust
from stellwerk.app.meters import Meters
from stellwerk.app.ports import Clock, DecidingStore, SecureLink
from stellwerk.app.rare_lines import RareLines
from stellwerk.app.records import SecureSession
from stellwerk.app.registry import Known
from stellwerk.app.tasks import Tasks
from stellwerk.core.errors import UserError
from stellwerk.core.identity import CertificateIdentity, PskIdentity, RawKeyIdentity, SecureIdentity
from stellwerk.core.ids import DeviceId, PeerId, TenantId, session_of, session_peer
from stellwerk.core.instant import Instant
from stellwerk.core.rates import TokenBuckets
from stellwerk.device.record import NOSEC, BadKey, DeviceRecord

log = structlog.get_logger(__name__)

RECENT_FAILURES: Final = 200
LIVE_PER_DEVICE: Final = 4
"""Sessions of one device that are kept in memory; with one more the oldest ends."""
TROUBLES_LOGGED_PER_S: Final = 5.0
_LOOK_UPS_PER_S: Final = 5_000.0
"""Of sessions that may be stored, and as many by address: anybody may ask from an address that he made up, but not with
a connection ID."""
_BURST_S: Final = 10.0
_TRIES: Final = 3
_LONGEST_IDENTITY: Final = 200
_LONGEST_DETAIL: Final = 600
"""Characters that are kept of what a peer may have written."""
_KEPT: Final = frozenset({"close-notify", "evicted"})
"""Ends of a session after which it may still be resumed, or restored."""

_ADMITTED: Final = 10_000
_ENDED_KEPT: Final = 4_096
"""Sessions that ended lately: more than end while a Register is being stored."""
_NOT_KEPT: Final = "the session is not kept any more"


@dataclass(frozen=True, slots=True)
class FailedHandshake:
    """For people who look for what is wrong. ``identity``: as far as the peer named one, nothing of it is proven;
    ``tenant`` and ``device`` whose that would be, empty where it is nobody's. ``number`` counts them."""

    number: int
    at_ms: int
    address: str
    identity: str
    reason: str
    detail: str
    tenant: str = ""
    device: str = ""
    device_id: int = 0


@dataclass(frozen=True, slots=True)
class Security:
    """What people see of it: ``sessions`` in memory (of all tenants, so None for people of one), recent ``failures``,
    the newest first."""

    sessions: int | None
    failures: tuple[FailedHandshake, ...]


class TakeOver(Protocol):
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
    ) -> None:
        """``devices``: the table of whose each session is, for those who look only."""
        self._store = store
        self._identities = Identities(store)
        self._tasks = tasks
        self._clock = clock
        self._link = link
        self._lines = lines
        self._meters = meters.secure
        self._tenants: TokenBuckets[TenantId] = TokenBuckets(per_tenant, per_tenant * _BURST_S)
        self._troubles: TokenBuckets[None] = TokenBuckets(TROUBLES_LOGGED_PER_S, TROUBLES_LOGGED_PER_S * _BURST_S)
        self._look_ups: TokenBuckets[bool] = TokenBuckets(_LOOK_UPS_PER_S, _LOOK_UPS_PER_S)
        self._admitted: OrderedDict[DeviceId, TenantId] = OrderedDict()
        """Whose handshakes are under way, or have failed."""
        self._unsaid = 0
        self._failed = 0
        self.devices: dict[PeerId, DeviceId] = {} if devices is None else devices
        """Whose each session in memory is."""
        self._live: dict[DeviceId, tuple[PeerId, ...]] = {}
        """The same by device, oldest first."""
        self._continued: set[PeerId] = set()
        """Sessions in memory that another one goes on from: what hangs on them is there already, and what is stored of
        them may be resumed again."""
        self._ended_lately: OrderedDict[PeerId, None] = OrderedDict()
        """The newest last. Nothing is sent to them, though what is stored of one may be resumed."""
        self._unstored: dict[bytes, tuple[int, SecureSession]] = {}
        """States that the store did not take, as their number and the state; tried again by `retry`."""
        self._states = 0
        """How many were told: a state is tried again only while no later one of the session is stored."""
        self._revisions = 0
        """How often anybody's credentials have changed: who was looked up before is looked up again."""
        self.failures: deque[FailedHandshake] = deque(maxlen=RECENT_FAILURES)
        """The newest last."""
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

    def asked_for_key(self, handshake: int, identity: bytes, at: Instant) -> None:
        """What is the pre-shared key of ``identity``?"""
        self._start(handshake, self._answer_key(handshake, PskIdentity(identity), at))

    def asked_about_raw_key(self, handshake: int, identity: RawKeyIdentity, at: Instant) -> None:
        """Whose raw public key is that?"""
        self._start(handshake, self._answer_proven(handshake, identity, Trust(), at))

    def asked_about_certificate(self, handshake: int, identity: CertificateIdentity, trust: Trust, at: Instant) -> None:
        """Whose certificate is that?"""
        self._start(handshake, self._answer_proven(handshake, identity, trust, at))

    def asked_to_resume(
        self, handshake: int, identity: SecureIdentity, device_id: DeviceId, session_id: bytes, at: Instant
    ) -> None:
        """May ``identity`` go on from the session that it had?"""
        self._start(handshake, self._answer_resumption(handshake, identity, device_id, session_id, at))

    def _start(self, handshake: int, work: Coroutine[Any, Any, None]) -> None:
        if not self._tasks.start("handshake", self._answered(handshake, work)):
            work.close()
            self._link.refuse(handshake, "room", "too many identities are being looked up; it may try again")

    async def _answered(self, handshake: int, work: Coroutine[Any, Any, None]) -> None:
        try:
            await work
        except UserError as error:
            # A key that does not open with this master key: the text says what to do, and names no secret.
            self._link.refuse(handshake, "not-answered", str(error))
        except Exception:
            self._link.refuse(handshake, "not-answered", "the store could not say who that is; it may try again")
            raise

    async def _looked_up(self, look: Callable[[], Awaitable[Found | None]]) -> Found | None:
        """What ``look`` finds while nobody's credentials change."""
        for _ in range(_TRIES):
            before = self._revisions
            found = await look()
            if before == self._revisions:
                return found
        return None

    async def _answer_key(self, handshake: int, identity: PskIdentity, at: Instant) -> None:
        found = await self._looked_up(lambda: self._identities.with_key(identity))
        if found is None:
            text = f"no device has the {identity}; give it to one, or correct it on the device"
            self._link.refuse(handshake, "unknown-identity", text)
            return
        record, credential = found
        if not self._admits(handshake, record, at):
            return
        try:
            key = credential.key
        except BadKey as error:
            # Kept from before it was checked.
            self._link.refuse(handshake, "unknown-identity", f"the key of the {identity} cannot be used: {error}")
            return
        self._link.give_key(handshake, key, record.device_id)

    async def _answer_proven(
        self, handshake: int, identity: RawKeyIdentity | CertificateIdentity, trust: Trust, at: Instant
    ) -> None:
        found = await self._looked_up(lambda: self._identities.proven(identity, trust))
        if found is None:
            self._link.refuse(handshake, *_unknown(identity, trust))
            return
        if trust.dates and isinstance(identity, CertificateIdentity):
            self._link.refuse(handshake, *_split(trust.dates))
            return
        if self._admits(handshake, found[0], at):
            self._link.accept(handshake, found[0].device_id)

    async def _answer_resumption(
        self, handshake: int, identity: SecureIdentity, device_id: DeviceId, session_id: bytes, at: Instant
    ) -> None:
        before = self._revisions
        # What was revoked is not stored any more, whatever ticket somebody has.
        session = await self._store.session(session_id)
        record = None if session is None else await self._store.device(session.device_id)
        if session is None or record is None or session.device_id != device_id or before != self._revisions:
            self._link.refuse(handshake, "unknown-identity", f"the session of the {identity} is not kept any more")
        elif self._admits(handshake, record, at):
            self._link.accept(handshake, device_id)

    def _admits(self, handshake: int, record: DeviceRecord, at: Instant) -> bool:
        if self._tenants.has(record.tenant_id, at.now):
            # It counts once it is complete: an identity is no secret, and whoever knows one is to use up nothing.
            self._admitted[record.device_id] = record.tenant_id
            if len(self._admitted) > _ADMITTED:
                self._admitted.popitem(last=False)
            return True
        self._meters.limited["tenant"] += 1
        text = f"the devices of tenant {record.tenant!r} make more handshakes than they may; it may try again later"
        self._link.refuse(handshake, "rate", text)
        return False

    # -- what is kept --

    def asked_for_session(self, question: int, session_id: bytes | None, address: PeerId | None, at: Instant) -> None:
        """Is there a stored session of this ID, or last heard from ``address``?"""
        if not self._look_ups.take(session_id is not None, at.now):
            self._meters.limited["look-up"] += 1
            self._link.no_session(question)
            return
        work = self._find_session(question, session_id, address, at)
        if not self._tasks.start("session", work):
            work.close()
            self._link.no_session(question)

    async def _find_session(self, question: int, session_id: bytes | None, address: PeerId | None, at: Instant) -> None:
        before = self._revisions
        session: SecureSession | None = None
        try:
            # One that does not open with this master key is as good as none.
            with suppress(UserError):
                if session_id is not None:
                    session = await self._store.session(session_id)
                elif address is not None:
                    session = await self._store.session_from(address)
        finally:
            if session is None or before != self._revisions:
                self._link.no_session(question)
        if session is None:
            if session_id is not None:
                # In this order: what could not leave waits by the time it comes back.
                self._lost(session_peer(session_id), _NOT_KEPT, at)
                self._link.lose(session_peer(session_id), _NOT_KEPT)
            return
        if before == self._revisions and self._link.restore(question, session):
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
        tenant_id = self._admitted.pop(device_id, None)
        if tenant_id is not None:
            self._tenants.take(tenant_id, at.now)
        log.info(
            "session.established",
            device_id=device_id,
            identity=str(identity)[:_LONGEST_IDENTITY],
            peer=str(peer),
            address=str(address),
            handshake=how,
        )
        self._bind(peer, device_id)
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
        self._release(peer)
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

    def failed(self, address: PeerId, reason: str, detail: str, identity: SecureIdentity | None, at: Instant) -> None:
        """A handshake came to nothing."""
        self._meters.handshakes["failed", reason] += 1
        if not self._troubles.take(None, at.now):
            self._unsaid += 1
            return
        unsaid, self._unsaid = self._unsaid, 0
        more = {"not_logged": unsaid} if unsaid else {}
        named = "" if identity is None else str(identity)[:_LONGEST_IDENTITY]
        detail = detail[:_LONGEST_DETAIL]
        log.info("handshake.failed", address=str(address), identity=named, reason=reason, detail=detail, **more)
        work = self._note_failure(address, reason, detail, identity, named, at)
        if not self._tasks.start("handshake failure", work):
            work.close()

    async def _note_failure(
        self, address: PeerId, reason: str, detail: str, identity: SecureIdentity | None, named: str, at: Instant
    ) -> None:
        record: DeviceRecord | None = None
        try:
            with suppress(UserError):
                record = await self._identities.named(identity)
        finally:
            whose = ("", "", 0) if record is None else (record.tenant, record.name, int(record.device_id))
            self._failed += 1
            self.failures.append(FailedHandshake(self._failed, at.wall_ms, str(address), named, reason, detail, *whose))
        if record is not None:
            text = f"from {address} as {named}: {reason}, {detail}"
            self._lines.write(record.device_id, "handshake-failed", text, at)

    def recent_failures(self, tenant: str | None) -> list[FailedHandshake]:
        """The newest first: those that name a device of ``tenant``, all for None."""
        return [each for each in reversed(self.failures) if tenant is None or each.tenant == tenant]

    def summary(self, tenant: str | None) -> Security:
        """What somebody of ``tenant`` may see, None for all."""
        return Security(len(self) if tenant is None else None, tuple(self.recent_failures(tenant)))

    # -- revocation (SEC-9) --

    def revoked(self, device: DeviceRecord) -> None:
        """The device's credentials changed: nobody who came in with what they were stays. What is stored of its
        sessions is dropped by whoever says so."""
        self._end_all(device.device_id, device.security == NOSEC)

    def removed(self, device_id: DeviceId) -> None:
        """The device is gone with all that was stored of it."""
        self._end_all(device_id, True)

    def _end_all(self, device_id: DeviceId, revoked: bool) -> None:
        self._revisions += 1
        self._link.forget_handshakes(device_id)
        for session in [each for _, each in self._unstored.values() if each.device_id == device_id]:
            del self._unstored[session.session_id]
        for peer in self._live.get(device_id, ()):
            self._link.close(peer, revoked=revoked)

    # -- inside --

    def _bind(self, peer: PeerId, device_id: DeviceId) -> None:
        live = tuple(each for each in self._live.get(device_id, ()) if each != peer)
        if len(live) >= LIVE_PER_DEVICE:
            self._link.close(live[0])
        self._ended_lately.pop(peer, None)
        self.devices[peer] = device_id
        self._live[device_id] = (*live, peer)

    def _release(self, peer: PeerId) -> None:
        device_id = self.devices.pop(peer, None)
        if device_id is None:
            return
        rest = tuple(each for each in self._live.get(device_id, ()) if each != peer)
        if rest:
            self._live[device_id] = rest
        else:
            self._live.pop(device_id, None)


def _unknown(identity: RawKeyIdentity | CertificateIdentity, trust: Trust) -> tuple[str, str]:
    """Why nobody has an identity that is proven."""
    if isinstance(identity, RawKeyIdentity):
        return "unknown-identity", f"no device has the {identity}; give it to one, or correct it on the device"
    if trust.chain:
        reason, detail = _split(trust.chain)
        if reason == "untrusted-certificate":
            detail += (
                "; trust its issuer (`keys trust`), or give a device this very certificate (`credentials set --cert`)"
            )
        elif reason in ("expired-certificate", "not-yet-valid-certificate"):
            detail += "; give the device another one, or set the clock of the server right"
        return reason, detail
    name = identity.common_name
    return "unknown-identity", f"no device of security x509 has the endpoint name {name!r}, nor this certificate"


def _split(trouble: str) -> tuple[str, str]:
    reason, _, detail = trouble.partition(":")
    return reason, detail.strip()


def _log_failure(error: Exception | None) -> None:
    if error is not None:
        log_not_stored(log, "session.not_dropped", error)
