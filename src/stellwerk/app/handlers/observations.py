"""Observations as desired state: committed before the Observe leaves, restored after every Register and restart
(RFC 7641; contract OB-4..9)."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from functools import lru_cache
from typing import Final

import structlog

from stellwerk.app.committing import commit, log_not_stored
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.ports import (
    Clock,
    Commit,
    DecidingStore,
    DeviceAnswer,
    DeviceLink,
    DropObservation,
    PutObservation,
)
from stellwerk.app.registry import Known, Registry
from stellwerk.core.errors import PeerError
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.core.instant import Instant
from stellwerk.device.observation import WantedObservation
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.formats import decode_content
from stellwerk.lwm2m.gateway import GATEWAY
from stellwerk.lwm2m.operations import Notify, Observe, WriteAttributes
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.status import dotted, is_success

log = structlog.get_logger(__name__)

FIRST_HANDLE: Final = 1 << 48
"""Handles of re-observes start here; those of commands are their row ids."""
_NONE: Final[dict[Path, WantedObservation]] = {}
"""What is wanted of nearly every device, one for all of them; never changed."""
_WORTH_ANOTHER_TRY: Final = ("timeout", "refused", "lost", "unconnected")
"""A lost datagram or connection or a bound of ours says nothing of what the device would answer."""


class Observations:
    """What is wanted of devices that were heard in this run; the store knows the rest."""

    def __init__(self, *, store: DecidingStore, registry: Registry, clock: Clock, link: DeviceLink) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._link = link
        self._by_token: dict[bytes, WantedObservation] = {}
        self._by_device: dict[DeviceId, dict[Path, WantedObservation]] = {}
        self._restoring: dict[int, WantedObservation] = {}
        self._attributing: set[int] = set()
        """Handles among those of `_restoring` whose attributes are being written."""
        self._next_handle = FIRST_HANDLE
        self.owed: dict[DeviceId, dict[Path, WantedObservation] | None] = {}
        """What a registered device is still to be asked for, None for all: its Observe went unanswered or could not be
        sent. Asked again with `resume` when the device is heard."""
        self.on_heard: Callable[[Known, Instant], None] = _nobody
        """Told of a device after its notification was stored and acknowledged: it listens now (QM-3)."""
        self.on_gateway: Callable[[Known, Instant], None] = _nobody
        """Told of a device that notified of its Gateway object."""

    # -- wanting --

    async def observe(self, device_id: DeviceId, path: Path, labels: tuple[str, ...] = ()) -> WantedObservation:
        """Want ``path`` observed from now on: stored, then asked of the device if it is registered, and again after
        every Register. Returns what is wanted. Raises what the store raised."""
        known = await self._registry.load_of(device_id)
        at_ms = self._clock.wall_ms()
        token = self._link.draw_token()
        wanted = WantedObservation(device_id, path, token, None, (), labels, at_ms)
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

    def new(self, known: Known, operation: Observe, labels: tuple[str, ...], at_ms: int) -> WantedObservation:
        """What an OBSERVE command wants, with a fresh token; commit `put` of it before the Observe leaves."""
        token = self._link.draw_token()
        return WantedObservation(
            known.registration.device_id, operation.path, token, None, operation.attributes, labels, at_ms
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

    def dropped(self, device_id: DeviceId, path: Path) -> None:
        """The observation is not wanted any more; its next notification is reset (the passive cancel, OB-5)."""
        wanted = self._by_device.get(device_id, {}).pop(path, None)
        if wanted is None:
            return
        self._by_token.pop(wanted.token, None)
        known = self._registry.of(device_id)
        if known is not None:
            self._link.forget_observation(known.registration.peer, wanted.token)

    def of(self, device_id: DeviceId, path: Path) -> WantedObservation | None:
        return self._by_device.get(device_id, {}).get(path)

    def wanted_paths(self, device_id: DeviceId) -> Collection[Path]:
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
            fresh = [replace(each, token=self._link.draw_token()) for each in wanted]
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

    def _ask(self, wanted: WantedObservation, known: Known, with_attributes: bool = True) -> None:
        """Observe anew; the attributes first, for a device that restarted may have forgotten them."""
        self._next_handle += 1
        self._restoring[self._next_handle] = wanted
        if with_attributes and wanted.attributes:
            self._attributing.add(self._next_handle)
            self._link.send(
                self._next_handle, known.registration, WriteAttributes(wanted.path, wanted.attributes), None
            )
            return
        self._link.send(self._next_handle, known.registration, Observe(wanted.path, wanted.accept), wanted.token)

    def _attributes_answered(self, wanted: WantedObservation, known: Known, answer: DeviceAnswer, at: Instant) -> bool:
        """Whether the Observe follows: also where the device does not take the attributes, since a value too many is
        better than none."""
        if answer.failure:
            return False
        if not is_success(answer.status):
            self._log(known, at, "attributes-refused", f"{wanted.path}: the device answered {dotted(answer.status)}")
        if self._by_token.get(wanted.token) is wanted:
            self._ask(wanted, known, with_attributes=False)
        return True

    def finished(self, answer: DeviceAnswer, at: Instant) -> bool:
        """What came of an Observe of ours; False when ``answer.handle`` is not one of these. It stays wanted."""
        wanted = self._restoring.pop(answer.handle, None)
        if wanted is None:
            return False
        known = self._registry.of(wanted.device_id)
        attributes = answer.handle in self._attributing
        self._attributing.discard(answer.handle)
        if known is None:
            return True
        if attributes and self._attributes_answered(wanted, known, answer, at):
            return True
        if answer.failure or not is_success(answer.status) or not answer.observing:
            why = answer.failure or (dotted(answer.status) if not is_success(answer.status) else "a plain answer")
            again = "with the next Register"
            if answer.failure in _WORTH_ANOTHER_TRY and self._by_token.get(wanted.token) is wanted:
                again = "when the device is heard"
                owed = self.owed.setdefault(wanted.device_id, {})
                if owed is not None:
                    owed[wanted.path] = wanted
            self._log(known, at, "observe-failed", f"{wanted.path}: {why}; asked again {again}")
            return True
        known.heard(at.now, self._link)
        row = self._row(known, wanted, answer.status, answer.content_format, answer.payload, b"", at)
        if self._undecodable(known, wanted, answer.content_format, answer.payload, at) is None:
            self._store.submit(Commit((row,), (), _log_failure, reserve=True))
        return True

    # -- notifications --

    async def find(self, peer: PeerId, token: bytes) -> tuple[WantedObservation, Registration] | None:
        """The wanted observation a token belongs to, with its device's registration. Raises `MovedWithoutUpdate` when
        ``peer`` is not where that is."""
        wanted = self._by_token.get(token) or await self._store.observation_by_token(token)
        if wanted is None:
            return None
        known = await self._registry.load_of(wanted.device_id)
        if known is None:
            return None
        if known.registration.peer != peer:
            raise MovedWithoutUpdate(known.registration.endpoint_name, known.registration.peer, peer)
        await self._wanted_of(wanted.device_id)
        current = self._by_token.get(token)
        return None if current is None else (current, known.registration)

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
        try:
            decode_content(
                None if content_format < 0 else content_format,
                payload,
                wanted.path,
                known.registration.types,
                now_s=at.wall_ms / 1000,
                root=known.registration.objects.root,
            )
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

    async def _wanted_of(self, device_id: DeviceId) -> dict[Path, WantedObservation]:
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


@lru_cache(maxsize=1024)
def _shown(attributes: tuple[tuple[str, str | None], ...]) -> str:
    """The active attributes as a notification's message shows them: JSON with numbers."""
    return "{" + ",".join(f'"{name}":{value}' for name, value in attributes if value is not None) + "}"


def _nobody(known: Known, at: Instant) -> None:
    pass


def _log_failure(error: Exception | None) -> None:
    if error is not None:
        log_not_stored(log, "journal.entry_lost", error)
