"""OSCORE contexts: whose each is, which numbers of ours may be used, and which end (RFC 8613; contract §2.6).

An engine asks for the context of a sender ID; it is given it with numbers that are stored as used before one of them is
(App. B.1.1). Several engines may hold one context, since a device may come over UDP today and TCP tomorrow: each is
given numbers of its own, and once the device is heard by one the others forget it. A context is bound to its device as
a secure session is, and speaks for it by the same rule (`app.speaking`).
"""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import structlog

from stellwerk.app.bootstrap_blocks import read_blocks
from stellwerk.app.failures import Failures
from stellwerk.app.handlers.promoting import Promoting
from stellwerk.app.meters import OscoreMeters
from stellwerk.app.oscore import UNKNOWN, ContextName, OscoreContext
from stellwerk.app.ports import DecidingStore, StoreTrouble
from stellwerk.app.tasks import Tasks
from stellwerk.core.errors import UserError
from stellwerk.core.ids import DeviceId, PeerId, context_peer
from stellwerk.core.instant import Instant
from stellwerk.core.rates import TokenBuckets
from stellwerk.device.record import NOSEC, DeviceRecord, security_of, transport_security, wants_oscore

log = structlog.get_logger(__name__)

NUMBERS_AT_FIRST: Final = 256
"""Numbers of ours that an engine is given with a context; it asks for more before they are used up."""
_LOOK_UPS_PER_S: Final = 5_000.0
"""Of contexts: anybody may ask from an address that he made up."""
_UNKNOWN_PER_S: Final = 20.0
_UNKNOWN_BURST: Final = 200.0
"""Of sender IDs that nobody has, from one address."""
_TRIES: Final = 3
_LOOK_AGAIN_S: Final = 2.0
"""Between two look-ups of a context in whose name things come that cannot be read."""
_MEANINGS: Final = {
    "oscore_decryption": "the device has another key, salt or ID than the server, or somebody changed the message",
    "oscore_replay": "the message came before, or the device has lost track of its numbers",
}
"""What people should know of what an engine refuses, by its reason."""


class ContextLink(Protocol):
    """An engine that speaks OSCORE; an answer that comes too late is ignored."""

    def give(self, question: int, context: OscoreContext, unused: int, ceiling: int) -> None:
        """That is the context asked for; numbers from ``unused`` up to below ``ceiling`` may be used."""
        ...

    def no_context(self, question: int, *, is_busy: bool = False) -> None:
        """There is none; ``is_busy``: or nobody could look."""
        ...

    def stored(self, number: int, unused: int, ceiling: int) -> None:
        """Numbers below ``ceiling`` may be used, of those above the ones of before only from ``unused`` on. 0 and 0:
        none could be stored, it may ask again."""
        ...

    def drop(self, number: int) -> None:
        """Nothing is sent or taken with the context any more."""
        ...


@dataclass(slots=True)
class _Held:
    """A context that engines hold. ``top``: numbers below it were given to one of them, or are being stored for it;
    ``lows``: below which each may use numbers, of those that hold the context. ``peers``: those it is bound to a
    device as; ``carriers``: where it was heard last, by its peer; ``look_again``: when it may be looked up anew."""

    device_id: DeviceId
    device: str
    sender_id: bytes
    is_fresh: bool
    top: int
    lows: dict[ContextLink, int] = field(default_factory=dict)
    peers: set[PeerId] = field(default_factory=set)
    carriers: dict[PeerId, PeerId] = field(default_factory=dict)
    look_again: float = 0.0


class OscoreContexts:
    """Of one server: that of device management, or with ``is_bootstrap`` the bootstrap server, each with contexts of
    its own. ``devices``: the table of whose each session and context is there, which `app.speaking.Speaking` and
    `app.bootstrap_admission` go by. ``promoting`` None: no context is fresh."""

    def __init__(
        self,
        *,
        store: DecidingStore,
        tasks: Tasks,
        failures: Failures,
        meters: OscoreMeters,
        devices: dict[PeerId, DeviceId],
        promoting: Promoting | None,
        is_bootstrap: bool = False,
    ) -> None:
        self._store = store
        self._tasks = tasks
        self._failures = failures
        self._meters = meters
        self.devices = devices
        self._held: dict[int, _Held] = {}
        self._of: dict[DeviceId, set[int]] = defaultdict(set)
        self._over: dict[PeerId, set[PeerId]] = defaultdict(set)
        """The peers that were heard last over a connection or session."""
        self._revision = 0
        self._changed_at: dict[DeviceId, int] = {}
        """At which revision a device's contexts have changed, while anything is looked up: what was looked up before is
        looked up again."""
        self._looking = 0
        self._look_ups: TokenBuckets[None] = TokenBuckets(_LOOK_UPS_PER_S, _LOOK_UPS_PER_S)
        self._unknown: TokenBuckets[str] = TokenBuckets(_UNKNOWN_PER_S, _UNKNOWN_BURST)
        self._is_bootstrap = is_bootstrap
        self._promoting = promoting
        if promoting is not None:
            promoting.hearers.append(self._promoted)
        self._lost: Callable[[PeerId, str, Instant], None] = lambda peer, why, at: None

    def connect(self, lost: Callable[[PeerId, str, Instant], None]) -> None:
        """``lost`` hears of contexts that are heard no more where they were."""
        self._lost = lost

    def __len__(self) -> int:
        return len(self._held)

    def may_reach(self, peer: PeerId) -> bool:
        """Whether it is known where the device of the context is."""
        held = None if peer.has_ended else self._held.get(int(peer.remote_host))
        return held is not None and peer in held.carriers

    def carrier_of(self, peer: PeerId) -> PeerId | None:
        """Where the device of the context was heard last."""
        held = None if peer.has_ended else self._held.get(int(peer.remote_host))
        return None if held is None else held.carriers.get(peer)

    # -- which is it? --

    def asked(self, link: ContextLink, question: int, carrier: PeerId, name: ContextName, at: Instant) -> None:
        """What is the context of ``name``, from which something came by ``carrier``?"""
        if not self._look_ups.take(None, at.now) or not self._unknown.has(carrier.remote_host, at.now):
            self._meters.contexts["limited"] += 1
            link.no_context(question, is_busy=True)
            return
        if not self._tasks.start("oscore context", self._look_up_and_answer(link, question, carrier, name, at)):
            self._meters.contexts["limited"] += 1
            link.no_context(question, is_busy=True)

    async def _look_up_and_answer(
        self, link: ContextLink, question: int, carrier: PeerId, name: ContextName, at: Instant
    ) -> None:
        given: bool | None = None
        self._looking += 1
        try:
            given = await self._give(link, question, carrier, name, at)
        except UserError as error:
            # A secret that does not open with this master key: the text says what to do, and names none.
            given = False
            log.warning("oscore.not_answered", detail=str(error))
        except StoreTrouble as error:
            log.warning("oscore.not_answered", detail=str(error))
        finally:
            self._looking -= 1
            if not self._looking:
                self._changed_at.clear()
            if not given:
                # Who is told that its context is unknown may give it up: not where nobody could look.
                link.no_context(question, is_busy=given is None)

    async def _give(
        self, link: ContextLink, question: int, carrier: PeerId, name: ContextName, at: Instant
    ) -> bool | None:
        """Give ``link`` the context that it asked for, with numbers. False: there is none, or it may not have it; None:
        it changed each time it was looked at. Raises what the store raises."""
        for _ in range(_TRIES):
            before = self._revision
            context = await self._look_up(name)
            record = None if context is None else await self._store.device(context.device_id)
            if context is None or record is None:
                self._unknown.take(carrier.remote_host, at.now)
                where = " for the bootstrap server" if self._is_bootstrap else ""
                text = f"no device has the {name}{where}; give it one, or correct it on the device"
                self._refuse(carrier, name, "unknown-context", text, None, at)
                return False
            # A fresh credential may want other layers than the one that holds.
            security = await self._security(record, context)
            wrong = self._wrong_layers(carrier, record, security)
            if wrong:
                self._refuse(carrier, name, "wrong-layers", wrong, record, at)
                return False
            if context.ceiling == UNKNOWN:
                text = (
                    "a backup was put back, and nobody knows which numbers were used with the context since; "
                    "give the device a new one"
                )
                self._refuse(carrier, name, "numbers-unknown", text, record, at)
                return False
            held = self._held.get(context.number)
            unused = max(context.ceiling, 0 if held is None else held.top)
            ceiling = unused + NUMBERS_AT_FIRST
            # Nobody else is given these meanwhile.
            held = self._hold(context, record, ceiling)
            if not await self._store.raise_oscore_ceiling(context.number, ceiling):
                continue
            if self._changed_at.get(context.device_id, before) <= before:
                # One that has the context already, and asked twice, goes on with the numbers that it had.
                held.lows.setdefault(link, ceiling)
                self._bind(held, context_peer(context.number, carrier.transport))
                self._meters.contexts["given"] += 1
                link.give(question, context, unused, ceiling)
                return True
        return None

    async def _look_up(self, name: ContextName) -> OscoreContext | None:
        if name.kid_context is not None:
            found = await self._store.oscore_context(name.kid, name.kid_context, is_bootstrap=self._is_bootstrap)
            if found is not None:
                return found
        # One that nobody knows may be the first word about another one (App. B.2).
        return await self._store.oscore_context(name.kid, None, is_bootstrap=self._is_bootstrap)

    async def _security(self, record: DeviceRecord, context: OscoreContext) -> str:
        if self._is_bootstrap:
            return read_blocks(await self._store.credential_of(record.device_id)).bootstrap_server.security
        if not context.is_fresh:
            return record.security
        fresh = await self._store.fresh_credential(record.device_id)
        return record.security if fresh is None else security_of(fresh)

    def _wrong_layers(self, carrier: PeerId, record: DeviceRecord, security: str) -> str:
        """Why a device of that ``security`` may not speak OSCORE over ``carrier``; empty where it may."""
        if not wants_oscore(security):
            return f"device {record.name!r} has no OSCORE context any more"
        below = transport_security(security)
        if below == NOSEC:
            if carrier.is_proven:
                return f"device {record.name!r} has an OSCORE context and nothing for the {carrier.transport} below it"
        elif not carrier.is_proven:
            return f"device {record.name!r} has to speak OSCORE within DTLS or TLS ({below}); this came without"
        elif self.devices.get(carrier) != record.device_id:
            return f"the {carrier} below is not that of device {record.name!r}, whose OSCORE context this is"
        return ""

    def _refuse(
        self, carrier: PeerId, name: ContextName, reason: str, detail: str, record: DeviceRecord | None, at: Instant
    ) -> None:
        self._meters.contexts["refused"] += 1

        async def named() -> DeviceRecord | None:
            return record

        self._failures.note("oscore-refused", carrier, str(name), reason, detail, named, at)

    def _hold(self, context: OscoreContext, record: DeviceRecord, top: int) -> _Held:
        held = self._held.get(context.number)
        if held is None:
            held = _Held(context.device_id, record.name, context.sender_id, context.is_fresh, top)
            self._held[context.number] = held
            self._of[context.device_id].add(context.number)
        held.top = top
        return held

    # -- numbers (App. B.1.1) --

    def wants_numbers(self, link: ContextLink, number: int, ceiling: int) -> None:
        """The engine wants to use numbers below ``ceiling`` next."""
        held = self._held.get(number)
        low = None if held is None else held.lows.get(link)
        if held is None or low is None or ceiling <= low:
            self._leave(link, number)
            return
        # Those that follow its own may have been given to another engine, or be on their way there.
        unused = max(held.top, low)
        held.top = unused + ceiling - low
        if not self._tasks.start("oscore numbers", self._raise(link, number, unused, held.top)):
            link.stored(number, 0, 0)

    async def _raise(self, link: ContextLink, number: int, unused: int, ceiling: int) -> None:
        try:
            stored = await self._store.raise_oscore_ceiling(number, ceiling)
        except Exception as error:
            # What it has left may last until the store is well again; without an answer it would not ask any more.
            link.stored(number, 0, 0)
            if not isinstance(error, StoreTrouble):
                raise
            log.warning("oscore.numbers_not_stored", number=number, detail=str(error))
            return
        held = self._held.get(number)
        if stored and held is not None and link in held.lows:
            held.lows[link] = ceiling
            link.stored(number, unused, ceiling)
        else:
            self._leave(link, number)

    def _leave(self, link: ContextLink, number: int) -> None:
        """``link`` has no numbers of the context any more: it asks for it anew when the device is heard."""
        held = self._held.get(number)
        if held is not None:
            held.lows.pop(link, None)
        link.drop(number)

    # -- what happens to contexts --

    def heard(self, link: ContextLink, number: int, peer: PeerId, carrier: PeerId, at: Instant) -> None:
        """The context was heard by ``link``, verified and fresh, from ``carrier`` for the first time or from there
        anew. In all other engines it ends: none knows which numbers came to another, so what came here could be said
        again there (RFC 8613 §7.4)."""
        held = self._held.get(number)
        if held is None:
            return
        if carrier.is_proven and self.devices.get(carrier) != held.device_id:
            text = f"the {carrier} below is not that of device {held.device!r}, whose OSCORE context this is"
            self._note_failure(held, carrier, "wrong-layers", text, at)
            self._end(number, text, at)
            return
        for other in tuple(held.lows):
            if other is not link:
                self._leave(other, number)
        for other_peer in tuple(held.carriers):
            if other_peer != peer:
                self.lost(other_peer, f"the device speaks over {carrier.transport} now", at)
        before = held.carriers.get(peer)
        if before == carrier:
            return
        self._part(peer, before)
        held.carriers[peer] = carrier
        if carrier.is_channel:
            self._over[carrier].add(peer)
        self._bind(held, peer)
        self._meters.contexts["moved" if before is not None else "heard"] += 1
        log.info("oscore.heard", peer=str(peer), device_id=held.device_id, address=str(carrier), old=str(before or ""))
        if held.is_fresh and self._promoting is not None:
            shown_over = carrier if carrier.is_proven else peer
            self._promoting.used(shown_over, ContextName(held.sender_id), held.device_id)

    def refused(self, number: int, carrier: PeerId, reason: str, detail: str, at: Instant) -> None:
        """Something came in the name of a context that does not verify, or came before."""
        held = self._held.get(number)
        self._meters.contexts["refused"] += 1
        if held is not None:
            text = f"{detail}; {_MEANINGS[reason]}" if reason in _MEANINGS else detail
            self._note_failure(held, carrier, reason.replace("_", "-"), text, at)
            if reason in _MEANINGS and at.now >= held.look_again:
                # Anybody may say so in its name.
                held.look_again = at.now + _LOOK_AGAIN_S
                self._tasks.start("oscore context", self._look_again(number, held, at))

    async def _look_again(self, number: int, held: _Held, at: Instant) -> None:
        """A device that was given another context under the same sender ID is known by it with its next message."""
        found = await self._store.oscore_context(held.sender_id, None, is_bootstrap=self._is_bootstrap)
        if (found is None or found.number != number) and self._held.get(number) is held:
            self._end(number, "the device has another OSCORE context now", at)

    def _note_failure(self, held: _Held, carrier: PeerId, reason: str, detail: str, at: Instant) -> None:
        async def named() -> DeviceRecord | None:
            return await self._store.device(held.device_id)

        name = str(ContextName(held.sender_id))
        self._failures.note("oscore-refused", carrier, name, reason, detail, named, at)

    def rederived(self, peer: PeerId, at: Instant) -> None:
        """Both ends agreed on another ID Context: what the device was asked for, and observes, is gone (App. B.2)."""
        self._meters.contexts["rederived"] += 1
        log.info("oscore.rederived", peer=str(peer), device_id=self.devices.get(peer))
        self._lost(peer, "the device has derived its OSCORE context anew", at)

    def lost(self, peer: PeerId, why: str, at: Instant) -> None:
        """The device of the context is not where it was heard last any more."""
        held = self._held.get(int(peer.remote_host))
        carrier = None if held is None else held.carriers.pop(peer, None)
        if carrier is not None:
            self._part(peer, carrier)
            self._lost(peer, why, at)

    def session_lost(self, session: PeerId, why: str, at: Instant) -> None:
        """A secure session is no more, and who was registered over it, or with a context within it, is offline."""
        self._lost(session, why, at)
        self.carrier_lost(session, why, at)

    def carrier_lost(self, carrier: PeerId, why: str, at: Instant) -> None:
        """A connection or session is no more; what was heard over it is to be heard again."""
        for peer in tuple(self._over.get(carrier, ())):
            self.lost(peer, why, at)

    # -- a fresh credential is used (contract device platform §12) --

    async def _promoted(self, device: DeviceRecord, peer: PeerId) -> None:
        """Of the device's contexts only that of its fresh credential stays, as the one that holds."""
        self._note_change(device.device_id)
        for number in tuple(self._of.get(device.device_id, ())):
            held = self._held.get(number)
            if held is not None and held.is_fresh:
                held.is_fresh = False
            else:
                self._forget(number)

    # -- revocation (SEC-9) --

    def revoked(self, device: DeviceRecord) -> None:
        """The device's credentials changed: no context of before is taken any more."""
        self.removed(device.device_id)

    def removed(self, device_id: DeviceId) -> None:
        """The device is gone with all that was stored of it."""
        self._note_change(device_id)
        for number in self._of.pop(device_id, set()):
            self._forget(number)

    def _end(self, number: int, why: str, at: Instant) -> None:
        held = self._held.get(number)
        peers = () if held is None else tuple(held.carriers)
        self._forget(number)
        for peer in peers:
            self._lost(peer, why, at)

    def _forget(self, number: int) -> None:
        held = self._held.pop(number, None)
        if held is None:
            return
        # Which numbers were given is known only from the store again.
        self._note_change(held.device_id)
        numbers = self._of.get(held.device_id)
        if numbers is not None:
            numbers.discard(number)
            if not numbers:
                del self._of[held.device_id]
        for link in held.lows:
            link.drop(number)
        for peer in held.peers:
            self.devices.pop(peer, None)
            self._part(peer, held.carriers.get(peer))

    def _note_change(self, device_id: DeviceId) -> None:
        if self._looking:
            self._revision += 1
            self._changed_at[device_id] = self._revision

    def _bind(self, held: _Held, peer: PeerId) -> None:
        held.peers.add(peer)
        self.devices[peer] = held.device_id

    def _part(self, peer: PeerId, carrier: PeerId | None) -> None:
        """``peer`` is not heard over ``carrier`` any more."""
        if carrier is None or not carrier.is_channel:
            return
        peers = self._over.get(carrier)
        if peers is not None:
            peers.discard(peer)
            if not peers:
                del self._over[carrier]
