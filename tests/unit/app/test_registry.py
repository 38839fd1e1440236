"""Registrations in memory: the indexes agree whatever happens, and the store is asked on first need only."""

import asyncio
from collections.abc import Coroutine
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from stellwerk.app.ports import DecidingStore
from stellwerk.app.registry import NEVER, Known, Registry
from stellwerk.core.ids import DeviceId, PeerId, TenantId
from stellwerk.device.end_device import EndDeviceRecord, EndDeviceRegistration, register_behind
from stellwerk.device.record import DeviceRecord
from stellwerk.device.registration import Registration
from stellwerk.lwm2m.link_format import decode_object_list
from stellwerk.lwm2m.schema.library import Library

T = TypeVar("T")
OBJECTS = decode_object_list(b"</3/0>")
TYPES = Library.builtin().for_device("1.1", {3: None})
LABELS = ("d2c-uplink-property_Room:7",)


def run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(work)


def peer_of(number: int) -> PeerId:
    return PeerId("udp", "192.0.2.1", 40_000 + number, "192.0.2.100", 5683)


def record_of(device: int) -> DeviceRecord:
    return DeviceRecord(DeviceId(device), TenantId(1), "t", f"dev{device}", f"dev{device}", LABELS, "SCS-LwM2M", 0, 0)


def registration_of(device: int, location: str, peer: int, updated_ms: int = 0) -> Registration:
    return Registration(
        location,
        DeviceId(device),
        f"dev{device}",
        peer_of(peer),
        "1.1",
        300,
        "U",
        False,
        b"</3/0>",
        OBJECTS,
        TYPES,
        updated_ms,
        updated_ms,
    )


class Rows:
    """The four reads a registry needs, over plain rows; counts them."""

    def __init__(self) -> None:
        self.rows: dict[DeviceId, Registration] = {}
        self.removed: set[DeviceId] = set()
        self.records: dict[DeviceId, DeviceRecord] = {}
        self.reads = 0

    async def registration_at(self, location: str) -> Registration | None:
        return self._first(lambda each: each.location == location)

    async def registration_of(self, device_id: DeviceId) -> Registration | None:
        return self._first(lambda each: each.device_id == device_id)

    async def registration_from(self, peer: PeerId) -> Registration | None:
        return self._first(lambda each: each.peer == peer)

    async def device(self, device_id: DeviceId) -> DeviceRecord | None:
        return None if device_id in self.removed else self.records.get(device_id, record_of(device_id))

    def _first(self, wanted: Any) -> Registration | None:
        self.reads += 1
        return next((each for each in self.rows.values() if wanted(each)), None)


@pytest.fixture
def rows() -> Rows:
    return Rows()


@pytest.fixture
def registry(rows: Rows) -> Registry:
    store: DecidingStore = rows  # type: ignore[assignment]
    return Registry(store)


def test_what_is_put_is_found_by_location_device_and_address_with_its_labels(registry: Registry) -> None:
    known = registry.put(registration_of(1, "a", 1), record_of(1), 5.0)
    assert registry.at("a") is registry.of(DeviceId(1)) is registry.from_peer(peer_of(1)) is known
    assert (known.uplink_labels, known.last_heard, len(registry)) == (("Room:7",), 5.0, 1)


@pytest.mark.spec("R-9")
def test_a_new_registration_takes_the_place_of_the_old_one_everywhere(registry: Registry) -> None:
    registry.put(registration_of(1, "a", 1), record_of(1), 1.0)
    registry.put(registration_of(1, "b", 2), record_of(1), 2.0)
    assert registry.at("a") is None
    assert registry.from_peer(peer_of(1)) is None
    assert [each.registration.location for each in registry] == ["b"]


@pytest.mark.parametrize("way", ["at", "of", "peer"])
def test_the_store_is_asked_once_and_whoever_comes_later_finds_the_same(
    registry: Registry, rows: Rows, way: str
) -> None:
    rows.rows[DeviceId(1)] = registration_of(1, "a", 1)

    async def load() -> Known | None:
        if way == "at":
            return await registry.load_at("a", 7.0)
        if way == "of":
            return await registry.load_of(DeviceId(1))
        return await registry.load_from_peer(peer_of(1), 7.0)

    first = run(load())
    assert first is not None
    assert run(load()) is first
    assert rows.reads == 1
    assert registry.at("a") is first


@pytest.mark.spec("QM-2")
def test_loading_for_a_command_is_not_hearing_and_loading_for_an_uplink_is(registry: Registry, rows: Rows) -> None:
    rows.rows[DeviceId(1)] = registration_of(1, "a", 1)
    rows.rows[DeviceId(2)] = registration_of(2, "b", 2)
    asked, heard = run(registry.load_of(DeviceId(1))), run(registry.load_at("b", 7.0))
    assert asked is not None
    assert heard is not None
    assert (asked.last_heard, heard.last_heard) == (NEVER, 7.0)


def test_a_registration_whose_device_was_removed_is_nobody_s(registry: Registry, rows: Rows) -> None:
    rows.rows[DeviceId(1)] = registration_of(1, "a", 1)
    rows.removed.add(DeviceId(1))
    assert run(registry.load_at("a", 1.0)) is None
    assert len(registry) == 0


def test_what_the_store_still_has_of_a_device_that_registered_anew_is_not_loaded(
    registry: Registry, rows: Rows
) -> None:
    rows.rows[DeviceId(1)] = registration_of(1, "old", 1)
    new = registry.put(registration_of(1, "new", 1), record_of(1), 1.0)
    assert run(registry.load_at("old", 2.0)) is None
    assert registry.of(DeviceId(1)) is new


def test_a_device_that_registers_while_it_is_being_loaded_is_found_as_it_is_then(
    registry: Registry, rows: Rows
) -> None:
    rows.rows[DeviceId(1)] = registration_of(1, "old", 1)

    async def device(device_id: DeviceId) -> DeviceRecord:
        raise AssertionError("nobody asks for the device")

    async def race() -> Known | None:
        found = rows.rows[DeviceId(1)]

        async def late(device_id: DeviceId) -> Registration:
            registry.put(registration_of(1, "new", 1), record_of(1), 1.0)
            return found

        rows.registration_of = late  # type: ignore[method-assign]
        rows.device = device  # type: ignore[method-assign]
        return await registry.load_of(DeviceId(1))

    known = run(race())
    assert known is not None
    assert known.registration.location == "new"


class Indexes(RuleBasedStateMachine):
    """Few devices, locations and addresses, so that they meet often."""

    def __init__(self) -> None:
        super().__init__()
        self.registry = Registry(Rows())  # type: ignore[arg-type]
        self.present: dict[int, Registration] = {}
        self.made = 0

    @rule(device=st.integers(1, 4), peer=st.integers(1, 2), earlier=st.booleans())
    def put(self, device: int, peer: int, earlier: bool) -> None:
        self.made += 1
        made = registration_of(device, f"l{self.made}", peer, updated_ms=0 if earlier else self.made)
        self.present[device] = made
        self.registry.put(made, record_of(device), 1.0)

    @rule(device=st.integers(1, 4))
    def drop(self, device: int) -> None:
        dropped = self.registry.drop(DeviceId(device))
        expected = self.present.pop(device, None)
        assert (dropped.registration if dropped else None) is expected

    @invariant()
    def every_index_says_the_same(self) -> None:
        registry = self.registry
        assert len(registry) == len(self.present)
        for device, registration in self.present.items():
            known = registry.of(DeviceId(device))
            assert known is not None
            assert known.registration is registration
            assert registry.at(registration.location) is known
        for peer in (peer_of(1), peer_of(2)):
            there = [each for each in self.present.values() if each.peer == peer]
            speaker = registry.from_peer(peer)
            assert (speaker.registration in there) if speaker else not there
        for number in range(1, self.made + 1):
            known = registry.at(f"l{number}")
            assert known is None or known.registration in self.present.values()


Indexes.TestCase.settings = settings(max_examples=30, stateful_step_count=20, deadline=None)
TestIndexes = Indexes.TestCase


# -- gateways --

GATEWAY_LIST = decode_object_list(b"</3/0>,</25>")


def gateway_registration(location: str, peer: int, *, objects: Any = GATEWAY_LIST) -> Registration:
    return replace(registration_of(1, location, peer), objects=objects)


def end_device(device: int, prefix: str = "d01") -> tuple[EndDeviceRegistration, EndDeviceRecord]:
    plain = record_of(device)
    fields = [getattr(plain, each) for each in DeviceRecord.__slots__]
    record = EndDeviceRecord(*fields, DeviceId(1), "dev1", prefix)
    registration = register_behind(
        gateway_registration("a", 1),
        record,
        location=f"e{device}",
        version="1.1",
        body=b"</3/0>",
        objects=OBJECTS,
        types=TYPES,
        registered_ms=0,
    )
    return registration, record


@pytest.mark.spec("LwM2M-contract 12")
def test_end_devices_are_found_by_device_alone_and_leave_the_address_to_their_gateway(registry: Registry) -> None:
    gateway = registry.put(gateway_registration("a", 1), record_of(1), 5.0)
    known = registry.put(*end_device(2), 9.0)
    assert registry.from_peer(peer_of(1)) is gateway
    assert registry.at("e2") is None
    assert registry.of(DeviceId(2)) is known
    assert known.household is gateway.household is gateway
    registry.drop(DeviceId(2))
    assert registry.from_peer(peer_of(1)) is gateway
    assert len(registry) == 1


@pytest.mark.spec("R-14", "QM-2")
def test_end_devices_move_listen_and_go_with_their_gateway(registry: Registry) -> None:
    registry.put(gateway_registration("a", 1), record_of(1), 5.0)
    known = registry.put(*end_device(2), 9.0)
    assert known.last_heard == 5.0
    gateway = registry.put(gateway_registration("a", 2), record_of(1), 7.0)
    assert (known.registration.peer, known.last_heard) == (peer_of(2), 7.0)
    known.last_heard = 8.0
    known.silent_since = 6.0
    assert (gateway.last_heard, gateway.silent_since) == (8.0, 6.0)
    registry.drop(DeviceId(1))
    assert registry.of(DeviceId(2)) is None


def test_a_device_that_lists_no_gateway_object_any_more_has_nobody_behind_it(registry: Registry) -> None:
    registry.put(gateway_registration("a", 1), record_of(1), 5.0)
    registry.put(*end_device(2), 5.0)
    registry.put(gateway_registration("b", 1, objects=OBJECTS), record_of(1), 6.0)
    assert [each.registration.location for each in registry] == ["b"]


def test_an_end_device_that_is_loaded_brings_its_gateway(registry: Registry, rows: Rows) -> None:
    registration, record = end_device(2)
    rows.rows[DeviceId(1)] = gateway_registration("a", 3)
    rows.rows[DeviceId(2)] = registration
    rows.records[DeviceId(2)] = record
    known = run(registry.load_of(DeviceId(2)))
    assert known is not None
    assert (known.registration.peer, known.last_heard) == (peer_of(3), NEVER)
    assert len(registry) == 2
    registry.drop(DeviceId(1))
    del rows.rows[DeviceId(1)]
    assert run(registry.load_of(DeviceId(2))) is None


def test_other_devices_hold_nothing_for_gateways() -> None:
    assert not {"behind", "gateway", "loaded"} & set(Known.__slots__)
    assert not hasattr(record_of(1), "gateway_id")
    assert not hasattr(registration_of(1, "a", 1), "gateway_id")
