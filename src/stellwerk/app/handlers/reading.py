"""Reads of our own after a Register: what a device says of itself and where it is (contract Device to Cloud §9).

The values become current values, which device-info shows; no message is made of them unless that is wanted. A storm of
registrations does not become a storm of reads: a bounded number is out at a time, the others wait for their turn.
"""

from collections.abc import Callable, Sequence
from typing import Final

import structlog

from stellwerk.app.changes import Commit
from stellwerk.app.committing import log_not_stored
from stellwerk.app.device_ports import DeviceAnswer, DeviceLink
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.ports import Clock, DecidingStore
from stellwerk.app.registry import Known, Registry
from stellwerk.core.errors import PeerError
from stellwerk.core.ids import DeviceId
from stellwerk.core.instant import Instant
from stellwerk.lwm2m.content import Content
from stellwerk.lwm2m.formats import decode_content
from stellwerk.lwm2m.operations import Read
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.status import dotted, is_success

log = structlog.get_logger(__name__)

FIRST_HANDLE: Final = 1 << 49
"""Handles of these reads start here: above those of commands and of re-observes."""
DEVICE_AND_LOCATION: Final = (3, 6)
AT_ONCE: Final = 256
"""Devices that are being read at a time."""
WAITING: Final = 100_000
"""Devices that wait to be read; beyond that the one that waits longest is passed over, which its log tells."""

_NOT_FOUND: Final = 404

OnRead = Callable[[Known, int, Content, Instant], None]
"""Told what a device answered: object, and what it says of it."""


class Reading:
    """``objects``: whose contents are read when the device lists them. ``as_messages``: each answer is also a
    ``response`` message, without trace labels."""

    def __init__(
        self,
        *,
        store: DecidingStore,
        registry: Registry,
        clock: Clock,
        link: DeviceLink,
        objects: Sequence[int] = DEVICE_AND_LOCATION,
        as_messages: bool = False,
        at_once: int = AT_ONCE,
    ) -> None:
        self._store = store
        self._registry = registry
        self._clock = clock
        self._link = link
        self._objects = tuple(objects)
        self._as_messages = as_messages
        self._at_once = at_once
        self._next_handle = FIRST_HANDLE
        self._waiting: dict[DeviceId, tuple[str, Sequence[int]]] = {}
        """Devices in the order of their turn, each with the location of the registration that asks for it, and the
        objects to read."""
        self._left: dict[DeviceId, list[int]] = {}
        """Devices that are being read, each with the objects that are still to come."""
        self._out: dict[int, tuple[DeviceId, str, int]] = {}
        """Handles of reads that are out: device, location, object."""
        self._households: dict[DeviceId, dict[DeviceId, tuple[str, Sequence[int]]]] = {}
        """Gateways of which one device, itself or behind it, is being read, with those that wait for that to end: they
        have one address, where one request at a time is out (NSTART)."""
        self._house_of: dict[DeviceId, DeviceId] = {}
        """Of devices that are being read for a household: its gateway."""
        self.on_read: OnRead = _nobody

    def __len__(self) -> int:
        """Devices that are being read or wait for it."""
        return len(self._waiting) + len(self._left) + sum(map(len, self._households.values()))

    def device_registered(self, known: Known, at: Instant) -> None:
        """Read the device, now or when its turn comes."""
        self.read(known, self._objects, at)

    def read(self, known: Known, objects: Sequence[int], at: Instant) -> None:
        """Read those of ``objects`` that the device lists, now or when its turn comes."""
        registration = known.registration
        if not any(each in registration.objects.objects for each in objects):
            return
        device_id = registration.device_id
        before = self._waiting.pop(device_id, None)
        for waiting in self._households.values():
            before = waiting.pop(device_id, before)
        if before is not None and before[0] == registration.location:
            objects = tuple(dict.fromkeys((*before[1], *objects)))
        if len(self) - len(self._left) >= WAITING and self._waiting:
            passed_over = next(iter(self._waiting))
            del self._waiting[passed_over]
            self._log(passed_over, at, "too many devices register at once; they are not all read")
        self._waiting[device_id] = (registration.location, objects)
        self._start()

    def finished(self, answer: DeviceAnswer, at: Instant) -> bool:
        """What came of a read; False when ``answer.handle`` is not one of ours."""
        out = self._out.pop(answer.handle, None)
        if out is None:
            return False
        device_id, location, object_id = out
        known = self._registry.of(device_id)
        if known is None or known.registration.location != location:
            # It is gone, or registered anew; then it has a turn of its own.
            self._end(device_id)
            return True
        if answer.failure:
            self._log(device_id, at, f"/{object_id}: {answer.failure}; read again with the next Register")
            self._end(device_id)
            return True
        self._take(known, object_id, answer, at)
        self._next(known)
        return True

    def _start(self) -> None:
        while self._waiting and len(self._left) < self._at_once:
            device_id = next((each for each in self._waiting if each not in self._left), None)
            if device_id is None:
                return
            location, objects = self._waiting.pop(device_id)
            known = self._registry.of(device_id)
            if known is None or known.registration.location != location:
                continue
            if known.household is not None:
                gateway_id = known.household.registration.device_id
                if gateway_id in self._households:
                    self._households[gateway_id][device_id] = (location, objects)
                    continue
                self._households[gateway_id] = {}
                self._house_of[device_id] = gateway_id
            listed = known.registration.objects.objects
            self._left[device_id] = [each for each in reversed(objects) if each in listed]
            self._next(known)

    def _next(self, known: Known) -> None:
        registration = known.registration
        left = self._left.get(registration.device_id)
        if not left:
            self._end(registration.device_id)
            return
        object_id = left.pop()
        self._next_handle += 1
        self._out[self._next_handle] = (registration.device_id, registration.location, object_id)
        self._link.send(self._next_handle, registration, Read(Path(object_id)))

    def _end(self, device_id: DeviceId) -> None:
        if self._left.pop(device_id, None) is not None:
            gateway_id = self._house_of.pop(device_id, None)
            if gateway_id is not None:
                # Those that waited come first: the others of the household wait for them again.
                self._waiting = {**self._households.pop(gateway_id), **self._waiting}
            self._start()

    def _take(self, known: Known, object_id: int, answer: DeviceAnswer, at: Instant) -> None:
        registration = known.registration
        path = Path(object_id)
        if not is_success(answer.status):
            # A list may name an object that has no instance: that is no news.
            if answer.status != _NOT_FOUND:
                self._log(registration.device_id, at, f"{path}: the device answered {dotted(answer.status)}")
            return
        root = registration.objects.root
        try:
            content = decode_content(
                None if answer.content_format < 0 else answer.content_format,
                answer.payload,
                path,
                registration.types,
                now_s=at.wall_ms / 1000,
                root=root,
            )
        except PeerError as error:
            self._log(registration.device_id, at, f"{path}: the answer does not decode: {error}")
            return
        row = JournalEntry(
            Kind.ANSWER if self._as_messages else Kind.READING,
            registration.device_id,
            at.wall_ms,
            status=answer.status,
            path=str(path),
            content_format=answer.content_format,
            payload=answer.payload,
            labels=known.uplink_labels if self._as_messages else (),
            method="read" if self._as_messages else "",
            reason="ok" if self._as_messages else "",
            root=root,
        )
        self._store.submit(Commit((row,), (), _log_failure, reserve=True))
        self.on_read(known, object_id, content, at)

    def _log(self, device_id: DeviceId, at: Instant, detail: str) -> None:
        row = JournalEntry(Kind.LOG, device_id, at.wall_ms, reason="reading-failed", detail=detail)
        self._store.submit(Commit((row,), (), _log_failure, reserve=True))


def _nobody(known: Known, object_id: int, content: Content, at: Instant) -> None:
    pass


def _log_failure(error: Exception | None) -> None:
    if error is not None:
        log_not_stored(log, "reading.not_stored", error)
