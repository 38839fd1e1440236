"""Observations as desired state: committed before the Observe leaves, restored after every Register and restart
(RFC 7641; contract OB-4..9)."""

from collections.abc import Awaitable, Callable, Collection, Iterable
from dataclasses import replace
from functools import lru_cache
from typing import Final, TypeAlias

import structlog

from stellwerk.app.changes import Commit, DropObservation, PutObservation
from stellwerk.app.committing import commit, log_not_stored
from stellwerk.app.device_ports import DeviceAnswer, DeviceLink
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.ports import Clock, DecidingStore
from stellwerk.app.registry import Known, Registry
from stellwerk.core.errors import PeerError
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.core.instant import Instant
from stellwerk.device.observation import WantedObservation
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.answers import decode_answer
from stellwerk.lwm2m.gateway import GATEWAY
from stellwerk.lwm2m.operations import AnyObserve, Notify, Operation, WriteAttributes
from stellwerk.lwm2m.paths import Paths, Target
from stellwerk.lwm2m.status import dotted, is_success

log = structlog.get_logger(__name__)

FIRST_HANDLE: Final = 1 << 48
"""Handles of re-observes start here; those of commands are their row ids."""
_NONE: Final[dict[Target, WantedObservation]] = {}
"""What is wanted of nearly every device, one for all of them; never changed."""
_ATTRIBUTES_APART: Final = ("1.0", "1.1")
"""Versions that know no attributes within an Observe."""
_WORTH_ANOTHER_TRY: Final = ("timeout", "refused", "lost", "unconnected")
"""A lost datagram or connection or a bound of ours says nothing of what the device would answer."""


FromElsewhere: TypeAlias = Callable[[Known, PeerId, Instant], Awaitable[bool]]


class Observations:
    """What is wanted of devices that were heard in this run; the store knows the rest."""

    def __init__(self, *, store: DecidingStore, registry: Registry, clock: Clock, link: DeviceLink) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._link = link
        self._by_token: dict[bytes, WantedObservation] = {}
        self._by_device: dict[DeviceId, dict[Target, WantedObservation]] = {}
        self._restoring: dict[int, WantedObservation] = {}
        self._renewing: dict[int, WantedObservation] = {}
        """Those that are being cancelled so that the device starts anew with other attributes."""
        self._next_handle = FIRST_HANDLE
        self.owed: dict[DeviceId, dict[Target, WantedObservation] | None] = {}
        """What a registered device is still to be asked for, None for all: its Observe went unanswered or could not be
        sent. Asked again with `resume` when the device is heard."""
        self.on_heard: Callable[[Known, Instant], None] = _nobody
        """Told of a device after its notification was stored and acknowledged: it listens now (QM-3)."""
        self.from_elsewhere: FromElsewhere = _moved
        """Asked about a device that notifies from a peer that it is not registered at: whether it may."""
        self.on_gateway: Callable[[Known, Instant], None] = _nobody
        """Told of a device that notified of its Gateway object."""

    # -- wanting --

    async def observe(self, device_id: DeviceId, path: Target, labels: tuple[str, ...] = ()) -> WantedObservation:
        """Want ``path`` observed from now on: stored, then asked of the device if it is registered, and again after
        every Register. Returns what is wanted. Raises what the store raised."""
        known = await self._registry.load_of(device_id)
        at_ms = self._clock.wall_ms()
        token = self._link.draw_token()
        wanted = WantedObservation(device_id, path, token, None, (), labels, at_ms)
        if known is not None:
            wanted = replace(wanted, accept=self._link.choose_format(known.registration, wanted.observe()))
        await self._wanted_of(device_id)
        await commit(self._store, (), (PutObservation(wanted),))
        old = self.of(device_id, path)
        # Forgotten meanwhile where the registration ended.
        await self._wanted_of(device_id)
        self._keep(wanted)
        if old is not None and known is not None:
            self._link.forget_observation(known.registration.peer, old.token)
        if known is not None:
            self._ask(wanted, known)
        return wanted

    def new(self, known: Known, operation: AnyObserve, labels: tuple[str, ...], at_ms: int) -> WantedObservation:
        """What an OBSERVE command wants, with a fresh token; commit `put` of it before the Observe leaves."""
        token = self._link.draw_token()
        accept = self._link.choose_format(known.registration, operation)
        return WantedObservation(
            known.registration.device_id, operation.path, token, accept, operation.attributes, labels, at_ms
        )

    def put(self, wanted: WantedObservation) -> PutObservation:
        """The change that stores ``wanted``; known here at once, since its notification may overtake the commit. What
        else is wanted of the device has to be `loaded`."""
        self._keep(wanted)
        return PutObservation(wanted)

    def not_stored(self, wanted: WantedObservation, before: WantedObservation | None) -> None:
        """What `put` gave could not be stored: what was wanted of the path ``before`` it still is."""
        if self.of(wanted.device_id, wanted.path) is not wanted:
            return
        if before is None:
            self.dropped(wanted.device_id, wanted.path)
        else:
            self._keep(before)

    def dropped(self, device_id: DeviceId, path: Target) -> None:
        """The observation is not wanted any more; its next notification is reset (the passive cancel, OB-5)."""
        wanted = self._by_device.get(device_id, {}).pop(path, None)
        if wanted is None:
            return
        self._by_token.pop(wanted.token, None)
        known = self._registry.of(device_id)
        if known is not None:
            self._link.forget_observation(known.registration.peer, wanted.token)

    def of(self, device_id: DeviceId, path: Target) -> WantedObservation | None:
        return self._by_device.get(device_id, {}).get(path)

    def wanted_paths(self, device_id: DeviceId) -> Collection[Target]:
        return self._by_device.get(device_id, {}).keys()

    def loaded(self, device_id: DeviceId) -> bool:
        """Whether `of` and `wanted_paths` know what the store knows."""
        return device_id in self._by_device

    async def load(self, device_id: DeviceId) -> None:
        """Know what the store knows to be wanted of the device."""
        await self._wanted_of(device_id)

    # -- restoring (OB-7) --

    async def restore(self, known: Known) -> None:
        """The device registered anew: its relations died. Draw new tokens, store them, then observe again."""
        device_id = known.registration.device_id
        self.owed.pop(device_id, None)
        try:
            wanted = list((await self._wanted_of(device_id)).values())
            if not wanted:
                return
            fresh = [self._anew(each, known) for each in wanted]
            await commit(self._store, (), [PutObservation(each) for each in fresh])
        except Exception:
            self.owe(known)
            raise
        current = self._registry.of(device_id)
        still = current is not None and current.registration.location == known.registration.location
        for old, new in zip(wanted, fresh, strict=True):
            now_wanted = self.of(device_id, old.path)
            if now_wanted is None and self.loaded(device_id):
                # Given up while the tokens were being stored, perhaps just before, and then it is a row again.
                self._store.submit(Commit((), (DropObservation(device_id, old.path),), _log_failure))
            if now_wanted is None or _wish(now_wanted) != _wish(old):
                # Or wanted by another command by now.
                continue
            self._by_token.pop(old.token, None)
            self._keep(new)
            self._link.forget_observation(known.registration.peer, old.token)
            if current is not None and still:
                self._ask(new, current)

    def owe(self, known: Known) -> None:
        """The device could not be asked for what is wanted of it; `resume` will."""
        current = self._registry.of(known.registration.device_id)
        if current is not None:
            self.owed[known.registration.device_id] = None

    async def resume(self, known: Known) -> None:
        """The device was heard: ask it for what is owed."""
        owed = self.owed.pop(known.registration.device_id, {})
        if owed is None:
            await self.restore(known)
            return
        current = self._registry.of(known.registration.device_id)
        for wanted in owed.values():
            if current is not None and self._by_token.get(wanted.token) is wanted:
                self._ask(wanted, current)

    def _anew(self, wanted: WantedObservation, known: Known) -> WantedObservation:
        """The same wish of a registration that knows nothing of it yet."""
        accept = self._link.choose_format(known.registration, wanted.observe())
        return replace(wanted, token=self._link.draw_token(), accept=accept)

    def _ask(self, wanted: WantedObservation, known: Known, with_attributes: bool = True) -> None:
        """Observe anew, with its attributes: a device that restarted may have forgotten them."""
        operation = wanted.observe()
        self._send(self._restoring, wanted, known, operation if with_attributes else replace(operation, attributes=()))

    def _send(
        self, waiting: dict[int, WantedObservation], wanted: WantedObservation, known: Known, operation: Operation
    ) -> None:
        self._next_handle += 1
        waiting[self._next_handle] = wanted
        self._link.send(self._next_handle, known.registration, operation, wanted.token)

    # -- other attributes (contract §7) --

    def attributes_written(self, known: Known, operation: WriteAttributes) -> list[PutObservation]:
        """The device took attributes for a path: what is observed there or below is cancelled and observed anew, since
        a relation that stands need not heed them. Attributes below an observed path are none of its own (1.2.1).
        Returns what is to be stored with that."""
        changes: list[PutObservation] = []
        old = known.registration.version in _ATTRIBUTES_APART
        for wanted in tuple(self._by_device.get(known.registration.device_id, {}).values()):
            paths = wanted.path if isinstance(wanted.path, Paths) else (wanted.path,)
            if not any(operation.path.covers(each) for each in paths):
                continue
            if old and wanted.attributes and operation.path in paths:
                # They were written there before, for this observation, which goes by the new ones now.
                wanted = replace(wanted, attributes=_merged(wanted.attributes, operation.attributes))
                changes.append(self.put(wanted))
            # Not those of the observation with it, which are to stay.
            self._send(self._renewing, wanted, known, replace(wanted, attributes=()).cancel())
        return changes

    def _cancelled(self, wanted: WantedObservation, answer: DeviceAnswer, at: Instant) -> None:
        """The relation is gone, or the device says nothing: what it still sends is no harm."""
        known = self._registry.of(wanted.device_id)
        if known is None or self._by_token.get(wanted.token) is not wanted:
            return
        if answer.failure in _WORTH_ANOTHER_TRY:
            self._owe(wanted)
            return
        self._log(known, at, "observation-renewed", f"{wanted.path}: its attributes changed; observed anew")
        # On an old device they were written already.
        self._ask(wanted, known, with_attributes=known.registration.version not in _ATTRIBUTES_APART)

    def _owe(self, wanted: WantedObservation) -> None:
        owed = self.owed.setdefault(wanted.device_id, {})
        if owed is not None:
            owed[wanted.path] = wanted

    # -- what comes of it --

    def finished(self, answer: DeviceAnswer, at: Instant) -> bool:
        """What came of an Observe of ours; False when ``answer.handle`` is not one of these. It stays wanted."""
        renewed = self._renewing.pop(answer.handle, None)
        if renewed is not None:
            self._cancelled(renewed, answer, at)
            return True
        wanted = self._restoring.pop(answer.handle, None)
        if wanted is None:
            return False
        known = self._registry.of(wanted.device_id)
        if known is None:
            return True
        if answer.to_attributes and not answer.failure:
            # A value too many is better than none.
            self._log(known, at, "attributes-refused", f"{wanted.path}: the device answered {dotted(answer.status)}")
            if self._by_token.get(wanted.token) is wanted:
                self._ask(wanted, known, with_attributes=False)
            return True
        if answer.failure or not is_success(answer.status) or not answer.observing:
            why = answer.failure or (dotted(answer.status) if not is_success(answer.status) else "a plain answer")
            if answer.failure and answer.detail:
                why = f"{why}, {answer.detail}"
            again = "with the next Register"
            if answer.failure in _WORTH_ANOTHER_TRY and self._by_token.get(wanted.token) is wanted:
                again = "when the device is heard"
                self._owe(wanted)
            self._log(known, at, "observe-failed", f"{wanted.path}: {why}; asked again {again}")
            return True
        known.heard(at.now, self._link)
        changes = self.established(wanted, answer)
        row = self._row(known, wanted, answer.status, answer.content_format, answer.payload, b"", at)
        rows = (row,) if self._undecodable(known, wanted, answer.content_format, answer.payload, at) is None else ()
        if rows or changes:
            self._store.submit(Commit(rows, changes, _log_failure, reserve=True))
        return True

    def established(self, wanted: WantedObservation, answer: DeviceAnswer) -> tuple[PutObservation, ...]:
        """The device observes ``wanted``, or what is wanted of the path by now. What is to be stored of it: the format
        where it took another than the first, for a cancel has to repeat it (OB-5)."""
        current = self._by_token.get(wanted.token)
        if current is None or answer.accept in (-1, current.accept):
            return ()
        changed = replace(current, accept=answer.accept)
        self._keep(changed)
        return (PutObservation(changed),)

    # -- notifications --

    async def find(self, peer: PeerId, token: bytes) -> tuple[WantedObservation, Registration] | None:
        """The wanted observation a token belongs to, with its device's registration; None too where ``peer`` is not
        that device. Raises `MovedWithoutUpdate` when it may be, but is not where it is registered."""
        wanted = self._by_token.get(token) or await self._store.observation_by_token(token)
        if wanted is None:
            return None
        known = await self._registry.load_of(wanted.device_id)
        if known is None:
            return None
        if known.registration.peer != peer:
            at = Instant(self._clock.now(), self._clock.wall_ms())
            if not await self.from_elsewhere(known, peer, at):
                return None
        await self._wanted_of(wanted.device_id)
        current, known = self._by_token.get(token), self._registry.of(wanted.device_id)
        return None if current is None or known is None else (current, known.registration)

    def notified(
        self, notify: Notify, peer: PeerId, receipt: bytes, at: Instant, accept: Callable[[bool], None]
    ) -> None:
        """Store a notification; ``accept(True)`` once it is stored, ``accept(False)`` when it could not be."""
        wanted = self._by_token.get(notify.token)
        known = self._registry.of(wanted.device_id) if wanted else None
        if wanted is None or known is None:
            # Forgotten, but not by the engine: the next one is asked about and reset.
            accept(True)
            self._link.forget_observation(peer, notify.token)
            return
        content_format = -1 if notify.content_format is None else notify.content_format
        if is_success(notify.code):
            problem = self._undecodable(known, wanted, content_format, notify.body, at)
            if problem is not None:
                accept(True)
                # Nothing is stored of it, and the device listens all the same (QM-2).
                known.last_heard = at.now
                self.on_heard(known, at)
                return
        row = self._row(known, wanted, notify.code, content_format, notify.body, receipt, at)

        def done(error: Exception | None) -> None:
            accept(error is None)
            if error is not None:
                log_not_stored(log, "notification.not_stored", error, peer=str(peer))
            else:
                current = self._registry.of(wanted.device_id) or known
                current.last_heard = at.now
                self.on_heard(current, at)
                if wanted.path[0] == GATEWAY:
                    self.on_gateway(current, at)

        self._store.submit(Commit((row,), (), done))

    def lost(self, token: bytes, reason: str, at: Instant) -> None:
        """A relation ended on the device's side; it stays wanted and is asked for again after the next Register."""
        wanted = self._by_token.get(token)
        known = self._registry.of(wanted.device_id) if wanted else None
        if wanted is not None and known is not None:
            self._log(known, at, "observation-lost", f"{wanted.path}: {reason}")

    def forget_device(self, device_id: DeviceId) -> None:
        """The registration ended: nothing of the device needs to stay in memory."""
        self.owed.pop(device_id, None)
        for wanted in self._by_device.pop(device_id, {}).values():
            self._by_token.pop(wanted.token, None)

    # -- inside --

    def _undecodable(
        self, known: Known, wanted: WantedObservation, content_format: int, payload: bytes, at: Instant
    ) -> str | None:
        registration = known.registration
        given = None if content_format < 0 else content_format
        now_s = at.wall_ms / 1000
        try:
            decode_answer(given, payload, wanted.path, registration.types, now_s, registration.objects.root)
        except PeerError as error:
            self._log(known, at, "notification-undecodable", f"{wanted.path}: {error}")
            return str(error)
        return None

    def _row(
        self,
        known: Known,
        wanted: WantedObservation,
        status: int,
        content_format: int,
        payload: bytes,
        receipt: bytes,
        at: Instant,
    ) -> JournalEntry:
        return JournalEntry(
            Kind.NOTIFY,
            wanted.device_id,
            at.wall_ms,
            receipt,
            status,
            str(wanted.path),
            content_format,
            payload,
            wanted.labels + known.uplink_labels,
            detail=_shown(wanted.attributes) if wanted.attributes else "",
            root=known.registration.objects.root,
        )

    def _log(self, known: Known, at: Instant, event: str, detail: str) -> None:
        log.info("observation.trouble", endpoint_name=known.registration.endpoint_name, reason=event, detail=detail)
        row = JournalEntry(Kind.LOG, known.registration.device_id, at.wall_ms, reason=event, detail=detail)
        self._store.submit(Commit((row,), (), _log_failure))

    async def _wanted_of(self, device_id: DeviceId) -> dict[Target, WantedObservation]:
        if device_id not in self._by_device:
            stored = await self._store.observations_of(device_id)
            if device_id not in self._by_device:
                self._load(device_id, stored)
        return self._by_device[device_id]

    def _load(self, device_id: DeviceId, stored: Iterable[WantedObservation]) -> None:
        self._by_device[device_id] = _NONE
        for each in stored:
            self._keep(each)

    def _keep(self, wanted: WantedObservation) -> None:
        of_device = self._by_device[wanted.device_id]
        if of_device is _NONE:
            of_device = self._by_device[wanted.device_id] = {}
        old = of_device.get(wanted.path)
        if old is not None:
            self._by_token.pop(old.token, None)
        of_device[wanted.path] = wanted
        self._by_token[wanted.token] = wanted


class MovedWithoutUpdate(PeerError):
    """A notification came from ``actual`` while the device is registered at ``registered``: over NoSec only a
    Register or Update may move it (contract QM-7)."""

    def __init__(self, endpoint_name: str, registered: PeerId, actual: PeerId) -> None:
        self.endpoint_name, self.registered, self.actual = endpoint_name, registered, actual
        super().__init__(f"{endpoint_name} is registered at {registered}, not at {actual}")


def _wish(wanted: WantedObservation) -> tuple[int, tuple[str, ...]]:
    """What stays the same when only the token is drawn anew."""
    return wanted.created_ms, wanted.labels


def _merged(
    before: tuple[tuple[str, str | None], ...], change: tuple[tuple[str, str | None], ...]
) -> tuple[tuple[str, str | None], ...]:
    """Attributes as a Write-Attributes leaves them."""
    return tuple((name, value) for name, value in {**dict(before), **dict(change)}.items() if value is not None)


@lru_cache(maxsize=1024)
def _shown(attributes: tuple[tuple[str, str | None], ...]) -> str:
    """The active attributes as a notification's message shows them: JSON with numbers."""
    return "{" + ",".join(f'"{name}":{value}' for name, value in attributes if value is not None) + "}"


async def _moved(known: Known, peer: PeerId, at: Instant) -> bool:
    raise MovedWithoutUpdate(known.registration.endpoint_name, known.registration.peer, peer)


def _nobody(known: Known, at: Instant) -> None:
    pass


def _log_failure(error: Exception | None) -> None:
    if error is not None:
        log_not_stored(log, "journal.entry_lost", error)
