"""Gateways: each end device that one lists becomes a device of its own (LwM2M Gateway 1.1; contract §12).

The Gateway object is read (`surveying`) after a Register, after an Update that lists other instances of it, and when an
observation of it tells something. What it lists is compared with what is stored: a device that is new is made, one that
came back is registered again, one that is gone is not registered any more. Nothing here waits for a device: an answer
starts the next step. One comparison runs at a time for each gateway; what comes meanwhile is looked at afterwards.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import structlog

from stellwerk.app.changes import Change, ChangeRegistration, DropObservation, PutRegistration
from stellwerk.app.committing import commit
from stellwerk.app.device_ports import DeviceAnswer, DeviceLink
from stellwerk.app.end_devices import Behind, ends_of
from stellwerk.app.handlers.adopting import Adoption, NotTaken, log_line
from stellwerk.app.handlers.deregistering import forget_registration
from stellwerk.app.handlers.observations import Observations
from stellwerk.app.handlers.reading import Reading
from stellwerk.app.handlers.surveying import Surveying
from stellwerk.app.handlers.turns import Later, on_the_loop
from stellwerk.app.journal import JournalEntry, Kind
from stellwerk.app.listener import Listener
from stellwerk.app.model_warnings import ModelWarnings
from stellwerk.app.ports import Clock, DecidingStore, StoreTrouble
from stellwerk.app.registry import Known, KnownGateway, Registry
from stellwerk.app.tasks import Tasks
from stellwerk.core.entropy import Entropy
from stellwerk.core.ids import DeviceId
from stellwerk.core.instant import Instant
from stellwerk.device.end_device import EndDeviceRecord, EndDeviceRegistration, register_behind
from stellwerk.lwm2m.end_device_names import node_id
from stellwerk.lwm2m.gateway import (
    GATEWAY,
    ROUTING,
    EndDevice,
    EndDevices,
    encode_device_objects,
    join_flaws,
)
from stellwerk.lwm2m.link_format import ObjectList
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.schema.library import Library
from stellwerk.lwm2m.status import Status

log = structlog.get_logger(__name__)

AGAIN_S: Final = 30.0
PAUSE_S: Final = 1.0
LOOK_AGAIN_S: Final = 60.0
"""An unknown prefix lets a gateway be read anew at most this often."""

_OBJECT: Final = Path(GATEWAY)
_LINES: Final = 20
"""Lines that one reading may leave in a gateway's log."""
_SLICE: Final = 64
"""Devices whose registrations are written together."""


class Gateways:
    """``most``: end devices of one gateway, registered or not; 0: gateways are devices like all others."""

    def __init__(
        self,
        *,
        store: DecidingStore,
        registry: Registry,
        library: Library,
        observations: Observations,
        reading: Reading,
        tasks: Tasks,
        clock: Clock,
        entropy: Entropy,
        link: DeviceLink,
        listener: Listener,
        most: int,
        again_s: float = AGAIN_S,
        pause_s: float = PAUSE_S,
        later: Later = on_the_loop,
    ) -> None:
        """``again_s``: when a gateway is read anew after the store did not take what came of it; ``pause_s``: how soon
        after a comparison there may be another; both in seconds, which ``later`` waits."""
        self._run_later = later
        self._again_s = again_s
        self._pause_s = pause_s
        self._store = store
        self._registry = registry
        self._library = library
        self._observations = observations
        self._reading = reading
        self._tasks = tasks
        self._clock = clock
        self._entropy = entropy
        self._link = link
        self._listener = listener
        self._most = most
        self._comparing: dict[DeviceId, EndDevices | None] = {}
        """Gateways that are being compared, each with what came meanwhile."""
        self._read_at: dict[DeviceId, float] = {}
        """When what a gateway lists was last compared in this run."""
        self._anew: set[DeviceId] = set()
        """Gateways that registered and were not compared since: relations behind them died too."""
        self._reconnected: set[DeviceId] = set()
        """Gateways that came over another connection before those behind them were in memory: relations behind them
        died with the old one."""
        self._later: set[DeviceId] = set()
        """Gateways that are read anew in a moment."""
        self._model_warnings = ModelWarnings()
        self._adoption = Adoption(store=store, registry=registry, clock=clock, most=most)
        self._surveying = Surveying(registry=registry, link=link, most=most, listed=self._compare)
        if most:
            reading.on_read = self._surveying.take_read

    # -- what happens to gateways --

    def device_registered(self, known: Known, at: Instant) -> None:
        """A device registered, perhaps one that was a gateway and is none any more."""
        if known.household is known:
            self._anew.add(known.registration.device_id)
        elif known.household is None and known.registration.device_id in self._read_at:
            self._close(known)

    def objects_changed(self, before: ObjectList, known: Known, at: Instant) -> None:
        """An Update brought another object list: a gateway sends one when an end device comes or goes (Gateway 1.1
        §8.2)."""
        now = known.registration.objects
        if GATEWAY in now.objects:
            if before.objects.get(GATEWAY) != now.objects[GATEWAY]:
                self.look(known, at)
        elif GATEWAY in before.objects:
            self._close(known)

    def notified(self, known: Known, at: Instant) -> None:
        """An observation of the Gateway object told something."""
        if known.household is known:
            self.look(known, at)

    def heard(self, house: KnownGateway, known: Known, at: Instant) -> Sequence[Known]:
        """Somebody of ``house`` was heard: the others that listen now, too."""
        if not house.loaded and self._most:
            self._tasks.spawn(f"end devices of {house.registration.endpoint_name}", self._load_then_hear(house, at))
        for each in house.behind.values():
            each.registration.proven = house.registration.proven
        return [each for each in (house, *house.behind.values()) if each is not known]

    def connection_changed(self, house: KnownGateway) -> None:
        """What those behind it observe for us ended with its connection."""
        for each in house.behind.values():
            self._observations.owe(each)
        if not house.loaded:
            self._reconnected.add(house.registration.device_id)

    def device_lost(self, device_id: DeviceId, at: Instant) -> None:
        """A registration ended, a gateway's or an end device's that another gateway lists too."""
        self._forget(device_id)
        claimant = self._adoption.claims.pop(device_id, None)
        known = None if claimant is None else self._registry.of(claimant)
        if known is not None:
            self.look(known, at)

    def _forget(self, gateway_id: DeviceId) -> None:
        self._surveying.forget(gateway_id)
        self._read_at.pop(gateway_id, None)
        self._anew.discard(gateway_id)
        self._reconnected.discard(gateway_id)

    def read_since(self, known: KnownGateway, now: float) -> bool:
        """Whether what the gateway lists was compared within the last `LOOK_AGAIN_S`."""
        read_at = self._read_at.get(known.registration.device_id)
        return read_at is not None and now - read_at < LOOK_AGAIN_S

    def finished(self, answer: DeviceAnswer, at: Instant) -> bool:
        """What came of a request to a gateway; False when ``answer.handle`` is not one of ours."""
        return self._surveying.finished(answer, at)

    # -- reading --

    def look(self, known: Known, at: Instant) -> None:
        """Read what the gateway lists, when its turn comes; soon, where that was done just now."""
        gateway_id = known.registration.device_id
        read_at = self._read_at.get(gateway_id)
        if not self._most or gateway_id in self._later:
            return
        if read_at is not None and at.now - read_at < self._pause_s:
            self._look_later(gateway_id, self._pause_s)
        else:
            self._reading.read(known, (GATEWAY,), at)

    def _look_later(self, gateway_id: DeviceId, after_s: float) -> None:
        self._later.add(gateway_id)
        self._run_later(after_s, partial(self._look_again, gateway_id))

    def _look_again(self, gateway_id: DeviceId) -> None:
        self._later.discard(gateway_id)
        known = self._registry.of(gateway_id)
        if known is not None:
            self._reading.read(known, (GATEWAY,), Instant(self._clock.now(), self._clock.wall_ms()))

    # -- comparing --

    def _compare(self, known: Known, listed: EndDevices) -> None:
        gateway_id = known.registration.device_id
        if gateway_id in self._comparing:
            self._comparing[gateway_id] = listed
            return
        self._comparing[gateway_id] = None
        work = self._compare_until_done(gateway_id, known.registration.location, listed)
        if not self._tasks.spawn(f"end devices of {known.registration.endpoint_name}", work):
            del self._comparing[gateway_id]

    async def _compare_until_done(self, gateway_id: DeviceId, location: str, listed: EndDevices) -> None:
        try:
            following: EndDevices | None = listed
            while following is not None:
                known = self._registry.of(gateway_id)
                if not isinstance(known, KnownGateway):
                    return
                await self._compare_once(known, following)
                following, self._comparing[gateway_id] = self._comparing[gateway_id], None
        except StoreTrouble:
            # What was stored of it stands, the rest follows.
            self._look_later(gateway_id, self._again_s)
            raise
        finally:
            del self._comparing[gateway_id]

    async def _compare_once(self, known: KnownGateway, listed: EndDevices) -> None:
        at = Instant(self._clock.now(), self._clock.wall_ms())
        gateway_id = known.registration.device_id
        flaws = list(listed.flaws)
        stored = {each[0].node_id: each for each in await self._behind(gateway_id)}
        changed: list[_Changed] = []
        present: set[DeviceId] = set()
        count = len(stored)
        for device in listed.devices:
            found = stored.get(node_id(known.record.node_id, device.device_id))
            try:
                if found is None:
                    found = await self._adoption.adopt(known, device, count)
                    count += 1
                elif found[0].prefix != device.prefix and found[0].device_id not in present:
                    found = await self._adoption.change(known, device, found[0]), found[1]
            except NotTaken as error:
                flaws.append(f"/{GATEWAY}/{device.instance}: {error}")
                continue
            if found[0].device_id in present:
                # Two device IDs that mean one node: a URN, and the rest of it within this gateway's node ID.
                flaws.append(f"/{GATEWAY}/{device.instance}: its device ID is that of another instance")
                continue
            present.add(found[0].device_id)
            change = self._registered(known, device, found, at)
            if change is not None:
                changed.append(change)
        if not self._stands(known):
            # It ended or registered anew; then it is read anew.
            return
        gone = [each for each in stored.values() if each[0].device_id not in present]
        ends = ends_of(gone, Kind.DEREGISTER, at, f"gateway {known.record.name} does not list it any more")
        lines = self._lines(gateway_id, at, "end-device-trouble", flaws)
        if lines or ends.entries:
            await commit(self._store, (*lines, *ends.entries), ends.changes)
        for registration in ends.registrations:
            log.info("registration.ended", endpoint_name=registration.endpoint_name, reason="not listed any more")
            forget_registration(self._registry, self._link, self._listener, registration, at)
        for start in range(0, len(changed), _SLICE):
            some = changed[start : start + _SLICE]
            if not self._stands(known):
                return
            rows = [row for each in some for row in each.rows]
            await commit(self._store, rows, [each.change for each in some])
            self._keep(gateway_id, some, at)
        if not self._stands(known):
            return
        self._read_at[gateway_id] = at.now
        await self._load(known)
        if gateway_id in self._anew:
            self._anew.discard(gateway_id)
            self._tell_registered(gateway_id, {each.record.device_id for each in changed if each.anew}, at)
        if listed.devices or stored:
            await self._observe(gateway_id)

    def _stands(self, known: Known) -> bool:
        current = self._registry.of(known.registration.device_id)
        return isinstance(current, KnownGateway) and current.registration.location == known.registration.location

    def _tell_registered(self, gateway_id: DeviceId, told: set[DeviceId], at: Instant) -> None:
        """The gateway registered, and with it those behind it that stayed as they were."""
        house = self._registry.of(gateway_id)
        if isinstance(house, KnownGateway):
            for device_id, known in list(house.behind.items()):
                if device_id not in told:
                    self._listener.device_registered(known, at)

    async def _behind(self, gateway_id: DeviceId) -> Sequence[Behind]:
        return await self._store.end_devices(gateway_id)

    def _registered(self, gateway: KnownGateway, device: EndDevice, found: Behind, at: Instant) -> "_Changed | None":
        """What the device's registration becomes; None where it stays as it is."""
        record, before = found
        version = gateway.registration.version
        objects = device.objects
        if objects is None:
            # Nothing sensible was said of them: what was known holds.
            objects = ObjectList() if before is None else before.objects
        body = encode_device_objects(objects)
        if before is not None and (before.body, before.version, before.prefix) == (body, version, record.prefix):
            return None
        versions = {each: its.version for each, its in objects.objects.items()}
        types = self._library.for_device(version, versions, record.tenant)
        # Another release of the enabler is another device to whoever reads its values.
        anew = before is None or before.version != version
        registration = register_behind(
            gateway.registration,
            record,
            location=self._entropy.take(8).hex() if before is None or anew else before.location,
            version=version,
            body=body,
            objects=objects,
            types=types,
            registered_ms=self._clock.lifetime_ms() if before is None or anew else before.registered_ms,
        )
        where = f"behind gateway {gateway.record.name}, prefix {record.prefix}"
        row = JournalEntry(
            Kind.REGISTER if anew else Kind.UPDATE,
            record.device_id,
            at.wall_ms,
            status=Status.CREATED if anew else Status.CHANGED,
            content_format=40,
            payload=body,
            labels=record.uplink_labels,
            location=registration.location,
            method=registration.endpoint_name if anew else "",
            detail=f"lwm2m={version} {where}" if anew else f"new object list, {where}",
        )
        lines = self._model_warnings.lines(record.device_id, types.warnings, at)
        deadline_ms = registration.deadline_ms(0)
        change: Change
        if anew:
            change = PutRegistration(registration, deadline_ms)
        else:
            change = ChangeRegistration(registration, deadline_ms)
        return _Changed(record, registration, anew, change, (row, *lines))

    def _keep(self, gateway_id: DeviceId, changed: Sequence["_Changed"], at: Instant) -> None:
        """What is stored now, in memory."""
        for each in changed:
            self._model_warnings.note(each.record.device_id, each.registration.types.warnings)
            gateway = self._registry.of(gateway_id)
            if not isinstance(gateway, KnownGateway):
                return
            registration = each.registration.following(gateway.registration)
            known = self._registry.put(registration, each.record, gateway.last_heard)
            if each.anew:
                log.info(
                    "registration.created",
                    endpoint_name=registration.endpoint_name,
                    gateway=gateway.record.name,
                    prefix=registration.prefix,
                )
                self._listener.device_registered(known, at)

    # -- memory --

    async def load(self, house: KnownGateway) -> None:
        """Have all registered devices behind it in memory. Raises what the store raises."""
        await self._load(house)

    async def _load(self, house: KnownGateway) -> None:
        gateway_id = house.registration.device_id
        current = self._registry.of(gateway_id)
        if not isinstance(current, KnownGateway) or current.loaded:
            return
        for record, registration in await self._behind(gateway_id):
            current = self._registry.of(gateway_id)
            if not isinstance(current, KnownGateway):
                return
            if registration is not None and self._registry.of(record.device_id) is None:
                self._registry.put(registration.following(current.registration), record, current.last_heard)
        current.loaded = True
        if gateway_id in self._reconnected:
            self._reconnected.discard(gateway_id)
            for each in current.behind.values():
                self._observations.owe(each)

    async def _load_then_hear(self, house: KnownGateway, at: Instant) -> None:
        await self._load(house)
        current = self._registry.of(house.registration.device_id)
        if isinstance(current, KnownGateway) and current.loaded:
            self._listener.device_heard(current, at)

    async def _observe(self, gateway_id: DeviceId) -> None:
        """Want to be told when end devices come and go."""
        await self._observations.load(gateway_id)
        if self._registry.of(gateway_id) is None:
            self._observations.forget_device(gateway_id)
        elif self._observations.of(gateway_id, _OBJECT) is None:
            await self._observations.observe(gateway_id, _OBJECT)

    def _close(self, known: Known) -> None:
        """The device has no Gateway object any more: nobody is behind it."""
        self._forget(known.registration.device_id)
        name = f"end devices of {known.registration.endpoint_name}"
        self._tasks.spawn(name, self._end_all(known.registration.device_id, known.record.name))

    async def _end_all(self, device_id: DeviceId, name: str) -> None:
        at = Instant(self._clock.now(), self._clock.wall_ms())
        detail = f"gateway {name} has no end devices any more"
        ends = ends_of(await self._behind(device_id), Kind.DEREGISTER, at, detail)
        await self._observations.load(device_id)
        drop = DropObservation(device_id, _OBJECT)
        await commit(self._store, ends.entries, (*ends.changes, drop))
        self._observations.dropped(device_id, _OBJECT)
        for registration in ends.registrations:
            forget_registration(self._registry, self._link, self._listener, registration, at)

    def _lines(self, device_id: DeviceId, at: Instant, reason: str, texts: Sequence[str]) -> list[JournalEntry]:
        return [log_line(device_id, at.wall_ms, reason, text) for text in join_flaws(texts, _LINES)]


def read_after_register(objects: Sequence[int], most: int) -> tuple[int, ...]:
    """``objects``, and of gateways what tells of end devices: the routes first, which the other refers to."""
    return (*(each for each in objects if each not in (ROUTING, GATEWAY)), ROUTING, GATEWAY) if most else tuple(objects)


@dataclass(frozen=True, slots=True)
class _Changed:
    """An end device's registration that is new or another one, with what that writes. ``anew``: it registers."""

    record: EndDeviceRecord
    registration: EndDeviceRegistration
    anew: bool
    change: Change
    rows: tuple[JournalEntry, ...]
