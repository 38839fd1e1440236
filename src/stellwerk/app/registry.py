"""Registrations in memory: those heard of in this run, by location, device and address. Loaded from the store on first
need, never all at once (design §4)."""

from collections.abc import Callable, Iterator
from typing import Final

from stellwerk.app.device_ports import Acknowledgement, DeviceLink
from stellwerk.app.ports import DecidingStore
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.device.end_device import EndDeviceRegistration
from stellwerk.device.record import DeviceRecord
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.gateway import GATEWAY

NEVER: Final = float("-inf")


class Known:
    """A registration with what every message of its device carries, so that the hot path looks nothing up."""

    __slots__ = (
        "last_heard",
        "leaving",
        "pending",
        "record",
        "registration",
        "silent_since",
        "updating",
        "uplink_labels",
    )

    def __init__(self, registration: Registration, record: DeviceRecord, now: float) -> None:
        self.registration = registration
        self.pending: Registration | None = None
        """What the registration becomes once its newest change is stored; the next change starts from there."""
        self.leaving: list[Callable[[Acknowledgement], None]] | None = None
        """Who waits to hear that its De-register is stored; None while there is none."""
        self.updating = 0
        """How many of its Updates are being stored: it does not expire meanwhile."""
        self.record = record
        self.uplink_labels = record.uplink_labels
        self.last_heard = now
        """When the device sent something in this run; `NEVER` while it only was loaded."""
        self.silent_since = NEVER
        """When it left a command unanswered; it counts until the device is heard again."""

    @property
    def household(self) -> "KnownGateway | None":
        """The gateway among those that share an address and one turn, when it is one of such."""
        return None

    def heard(self, now: float, link: DeviceLink) -> None:
        """It answered us: it listens, and it receives what is sent to its address."""
        self.last_heard = now
        if not self.registration.proven:
            self.registration.proven = True
            link.prove_peer(self.registration.peer)


class KnownGateway(Known):
    """A device that lists the Gateway object, with the end devices behind it that are registered and in memory."""

    __slots__ = ("behind", "loaded")

    def __init__(self, registration: Registration, record: DeviceRecord, now: float) -> None:
        super().__init__(registration, record, now)
        self.behind: dict[DeviceId, KnownEndDevice] = {}
        self.loaded = False
        """All that are registered are in memory."""

    @property
    def household(self) -> "KnownGateway":
        return self

    def with_prefix(self, prefix: str) -> "KnownEndDevice | None":
        return next((each for each in self.behind.values() if each.registration.prefix == prefix), None)


class KnownEndDevice(Known):
    """What was heard of one behind a gateway was heard of that gateway: it listens when that does."""

    __slots__ = ("gateway",)
    registration: EndDeviceRegistration

    def __init__(self, registration: EndDeviceRegistration, record: DeviceRecord, gateway: KnownGateway) -> None:
        self.gateway = gateway
        super().__init__(registration, record, gateway.last_heard)

    @property
    def household(self) -> KnownGateway:
        return self.gateway

    @property
    def last_heard(self) -> float:
        return self.gateway.last_heard

    @last_heard.setter
    def last_heard(self, now: float) -> None:
        self.gateway.last_heard = max(now, self.gateway.last_heard)

    @property
    def silent_since(self) -> float:
        return self.gateway.silent_since

    @silent_since.setter
    def silent_since(self, now: float) -> None:
        self.gateway.silent_since = max(now, self.gateway.silent_since)

    def heard(self, now: float, link: DeviceLink) -> None:
        self.gateway.heard(now, link)
        self.registration.proven = self.gateway.registration.proven


class Registry:
    """The three indexes always agree. Change it only after the commit of the change.

    Devices may share an address (a stale NAT binding): the one heard there last speaks for it, and when it goes,
    another does. End devices behind a gateway are found by their device alone: location and address are the gateway's.
    """

    def __init__(self, store: DecidingStore) -> None:
        self._store = store
        self._by_location: dict[str, Known] = {}
        self._by_device: dict[DeviceId, Known] = {}
        self._by_peer: dict[PeerId, Known] = {}
        self._shadowed: dict[PeerId, dict[Known, None]] = {}
        """The others at an address that more than one device has, in order. Empty for nearly every fleet."""

    def __len__(self) -> int:
        return len(self._by_device)

    def __iter__(self) -> Iterator[Known]:
        return iter(self._by_device.values())

    def at(self, location: str) -> Known | None:
        return self._by_location.get(location)

    def of(self, device_id: DeviceId) -> Known | None:
        return self._by_device.get(device_id)

    def from_peer(self, peer: PeerId) -> Known | None:
        return self._by_peer.get(peer)

    async def load_at(self, location: str, now: float) -> Known | None:
        """As `at`, asking the store too."""
        return self.at(location) or await self._keep(await self._store.registration_at(location), now)

    async def load_of(self, device_id: DeviceId) -> Known | None:
        """As `of`, asking the store too. A device that is only loaded was not heard: a sleeper may sleep."""
        known = self.of(device_id) or await self._keep(await self._store.registration_of(device_id), NEVER)
        # None too where it registered anew while we waited for the store.
        return known or self.of(device_id)

    async def load_from_peer(self, peer: PeerId, now: float) -> Known | None:
        """As `from_peer`, asking the store too, unless for a connection or a context: none of an earlier run stands."""
        if peer.is_connection or peer.is_context:
            return self.from_peer(peer)
        return self.from_peer(peer) or await self._keep(await self._store.registration_from(peer), now)

    def put(self, registration: Registration, record: DeviceRecord, now: float) -> Known:
        """The device's registration from now on; what it had before is gone. Returns it with its record. Those behind
        a gateway follow it, or go where it is none any more. An end device's gateway has to be known."""
        if isinstance(registration, EndDeviceRegistration):
            return self._put_end_device(registration, record)
        before = self._drop(registration.device_id)
        if registration.endpoint_name == record.node_id:
            # One text for both: there is one for every device of the fleet.
            registration.endpoint_name = record.node_id
        is_gateway = GATEWAY in registration.objects.objects
        known = KnownGateway(registration, record, now) if is_gateway else Known(registration, record, now)
        if isinstance(before, KnownGateway):
            self._follow(before, known)
        peer = registration.peer
        self._by_device[registration.device_id] = known
        self._by_location[registration.location] = known
        other = self._by_peer.get(peer)
        if other is not None:
            # Only loading brings in somebody who was heard there earlier.
            if other.registration.updated_ms > registration.updated_ms:
                self._shadowed.setdefault(peer, {})[known] = None
                return known
            self._shadowed.setdefault(peer, {})[other] = None
        self._by_peer[peer] = known
        return known

    def drop(self, device_id: DeviceId) -> Known | None:
        """Forget the device's registration, and those of end devices behind it; returns what was known."""
        known = self._drop(device_id)
        if isinstance(known, KnownGateway):
            for each in known.behind:
                self._by_device.pop(each, None)
        return known

    def _put_end_device(self, registration: EndDeviceRegistration, record: DeviceRecord) -> Known:
        self._drop(registration.device_id)
        gateway = self._by_device[registration.gateway_id]
        assert isinstance(gateway, KnownGateway)
        known = KnownEndDevice(registration, record, gateway)
        self._by_device[registration.device_id] = gateway.behind[registration.device_id] = known
        return known

    def _follow(self, before: KnownGateway, known: Known) -> None:
        if not isinstance(known, KnownGateway):
            for each in before.behind:
                self._by_device.pop(each, None)
            return
        known.behind, known.loaded = before.behind, before.loaded
        for end_device in known.behind.values():
            end_device.gateway = known
            end_device.registration = end_device.registration.following(known.registration)

    def _drop(self, device_id: DeviceId) -> Known | None:
        known = self._by_device.pop(device_id, None)
        if isinstance(known, KnownEndDevice):
            known.gateway.behind.pop(device_id, None)
        elif known is not None:
            self._by_location.pop(known.registration.location, None)
            self._leave(known, known.registration.peer)
        return known

    def disconnect(self, peer: PeerId) -> list[Known]:
        """The connection of ``peer`` is gone: nobody speaks from there any more. Gives those who did; they stay
        registered."""
        gone: list[Known] = []
        while (known := self._by_peer.get(peer)) is not None:
            self.part(known)
            gone.append(known)
        return gone

    def part(self, known: Known) -> None:
        """The device does not speak from its connection any more, whoever else does; it stays registered."""
        peer = known.registration.peer
        self._leave(known, peer)
        known.registration.peer = peer.ended()
        for each in known.behind.values() if isinstance(known, KnownGateway) else ():
            each.registration.peer = peer.ended()

    def _leave(self, known: Known, peer: PeerId) -> None:
        shadowed = self._shadowed.get(peer)
        if self._by_peer.get(peer) is not known:
            if shadowed is not None:
                shadowed.pop(known, None)
        elif shadowed:
            self._by_peer[peer] = shadowed.popitem()[0]
        else:
            del self._by_peer[peer]
        if shadowed is not None and not shadowed:
            del self._shadowed[peer]

    async def _keep(self, registration: Registration | None, now: float) -> Known | None:
        if registration is None:
            return None
        present = self.of(registration.device_id)
        if present is not None:
            # Somebody else loaded or replaced it while we waited for the store.
            return present if present.registration.location == registration.location else None
        record = await self._store.device(registration.device_id)
        if record is None:
            return None
        if isinstance(registration, EndDeviceRegistration):
            gateway = await self.load_of(registration.gateway_id)
            if not isinstance(gateway, KnownGateway):
                return None
            # It may have changed while we waited.
            registration = registration.following(gateway.registration)
        elif (registration.peer.is_connection or registration.peer.is_context) and not registration.peer.has_ended:
            registration.peer = registration.peer.ended()
        return self.of(registration.device_id) or self.put(registration, record, now)
