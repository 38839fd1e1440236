"""Sessions that end in the middle of something, and strangers who speak of a registration in ways of their own."""

import asyncio
from collections.abc import Iterator
from dataclasses import replace

import pytest

from stellwerk.app.records import NewDevice
from stellwerk.coap import codes
from stellwerk.coap.codes import BAD_REQUEST, CREATED, POST
from stellwerk.core.ids import PeerId, TenantId
from stellwerk.device.command import Step
from stellwerk.device.record import DeviceRecord
from stellwerk.dtls.parameters import ServerParameters
from stellwerk.lwm2m.paths import parse_target
from tests.scenario.secure_device import SecureDevice
from tests.scenario.stack import Stack, after, con
from tests.scenario.test_commands import execute, read
from tests.scenario.test_profile_ids import FULL, OURS
from tests.scenario.test_secure_devices import KEY, psk
from tests.scenario.trouble import TroubledStore

STRANGER = PeerId("udp", "192.0.2.66", 4000, "192.0.2.100", 5683)


@pytest.fixture
def stack() -> Iterator[Stack]:
    made = Stack(secure=ServerParameters(), store=TroubledStore())
    made.provision("dev1", credential=psk("id1"))
    made.provision("dev2", credential=psk("id2", bytes(16)))
    yield made
    made.close()


@pytest.fixture
def device(stack: Stack) -> SecureDevice:
    return SecureDevice(stack, b"id1", KEY).connect()


@pytest.mark.spec("SEC-5", "LwM2M-contract 4")
def test_nobody_else_teaches_a_profile_or_looks_like_the_device_by_naming_one(
    stack: Stack, device: SecureDevice
) -> None:
    assert device.register("/rd?lt=300&lwm2m=1.2&b=U") == CREATED
    record = stack.run(stack.store.device_by_endpoint("dev1"))  # type: ignore[union-attr]
    other = SecureDevice(stack, b"id2", bytes(16), port=41_000).connect()
    stack << after(60)
    (known,) = stack.registry
    heard = known.last_heard
    for _ in range(3):
        answer = other.request(POST, f"{device.location}?pid={OURS}")
        assert answer is not None
        assert answer.code == BAD_REQUEST
    other.request(POST, f"{device.location}?pid={OURS}", FULL, content_format=40)
    stack << con(POST, f"{device.location}?lt=%zz", mid=1, peer=STRANGER)
    assert stack.take().code == BAD_REQUEST
    assert stack.run(stack.store.object_lists_of(record.device_id)) == {}  # type: ignore[union-attr]
    assert known.last_heard == heard
    assert stack.log(record).count("identity-refused") == 1
    assert "update-refused" not in stack.log(record)


@pytest.mark.spec("BIN-4", "Design 7")
@pytest.mark.parametrize("request_", [read("/3/0/0"), execute("/3/0/4")])
def test_what_is_asked_over_a_session_that_is_not_kept_waits_for_the_device(
    stack: Stack, device: SecureDevice, request_: object
) -> None:
    device.register()
    record = stack.run(stack.store.device_by_endpoint("dev1"))  # type: ignore[union-attr]
    stack.run(stack.store.drop_sessions())  # type: ignore[union-attr]
    again = Stack(store=stack.store, clock=stack.clock, seed=1, secure=ServerParameters())
    again.post(record, request_)
    again << after(250)
    (command,) = again.run(again.store.recent_commands(record.device_id, 9))  # type: ignore[union-attr]
    assert command.step.value in ("queued", "sent"), (command.step, command.reason, command.detail)
    new = SecureDevice(again, b"id1", KEY, port=46_000).connect()
    new.register()
    new.pump()
    assert new.next_request().code in (codes.GET, codes.POST)
    again.close()


async def caught_up(store: TroubledStore) -> None:
    store.catch_up()


@pytest.mark.spec("BIN-4", "LwM2M-contract 2.2")
def test_a_session_that_ends_while_its_register_is_stored_leaves_nobody_to_talk_to(
    stack: Stack, device: SecureDevice
) -> None:
    store = stack.store
    assert isinstance(store, TroubledStore)
    store.slow = True
    device.request(POST, "/rd?lt=300&lwm2m=1.1&b=U", b"</1/0>,</3/0>", content_format=40)
    device.close()
    stack.run(caught_up(store))
    stack << after(0)
    (known,) = stack.registry
    assert known.registration.peer.has_ended


@pytest.mark.spec("SEC-9")
def test_a_key_that_changes_while_a_register_is_stored_leaves_neither_session_nor_registration(
    stack: Stack, device: SecureDevice
) -> None:
    store = stack.store
    assert isinstance(store, TroubledStore)
    record = stack.run(store.device_by_endpoint("dev1"))
    store.slow = True
    device.request(POST, "/rd?lt=300&lwm2m=1.1&b=U", b"</1/0>,</3/0>", content_format=40)

    async def change() -> None:
        changing = asyncio.ensure_future(stack.devices.change_credential(record, secret="psk-hex:" + "11" * 16))
        await asyncio.sleep(0)
        await caught_up(store)
        await changing

    stack.run(change())
    stack << after(0)
    device.pump()
    assert device.session is None
    assert stack.registrations() == []
    assert stack.run(store.sessions_of(record.device_id)) == []
    assert stack.sessions.devices == {}


@pytest.mark.spec("BIN-4", "LwM2M-contract 2.2", "Design 7")
def test_a_device_that_said_goodbye_is_waited_for_after_a_restart_too(stack: Stack, device: SecureDevice) -> None:
    device.register()
    state = device.state
    device.close()
    record = stack.run(stack.store.device_by_endpoint("dev1"))  # type: ignore[union-attr]
    again = Stack(store=stack.store, clock=stack.clock, seed=1, secure=ServerParameters())
    again.post(record, read("/3/0/0"))
    again << after(200)
    (command,) = again.run(again.store.recent_commands(record.device_id, 9))  # type: ignore[union-attr]
    assert command.step is Step.QUEUED
    assert again.meters.secure.restored == 0
    resumed = SecureDevice(again, b"id1", KEY, port=46_000).connect(state)
    resumed.pump()
    assert again.meters.secure.handshakes["resumed", ""] == 1
    assert resumed.next_request().code == codes.GET
    again.close()


class Overtaken(TroubledStore):
    """Somebody provisions the device, with a key, just before it is made for a Register."""

    async def create_device(self, tenant_id: TenantId, device: NewDevice) -> DeviceRecord:
        if device.credential is None:
            await super().create_device(tenant_id, replace(device, credential=psk("id1")))
        return await super().create_device(tenant_id, device)


@pytest.mark.spec("SEC-6")
def test_a_device_that_gets_its_key_while_it_is_made_for_a_register_comes_with_it() -> None:
    stack = Stack(store=Overtaken(), auto_provision=("*",))
    target = "/rd?ep=urn:dev:new&lt=300&lwm2m=1.1&b=U"
    stack << con(POST, target, mid=1, payload=b"</1/0>,</3/0>", content_format=40)
    assert stack.take().code == codes.FORBIDDEN
    assert stack.registrations() == []
    stack.close()


@pytest.mark.spec("BIN-4", "LwM2M-contract 2.2")
def test_an_observe_of_ours_wakes_no_session_that_its_device_took_leave_of(stack: Stack, device: SecureDevice) -> None:
    device.register()
    state = device.state
    device.close()
    record = stack.run(stack.store.device_by_endpoint("dev1"))  # type: ignore[union-attr]
    stack.run(stack.observations.observe(record.device_id, parse_target("/3303/0/5700")))
    stack << after(1)
    assert (stack.dtls.sessions, stack.meters.secure.restored) == (0, 0)
    resumed = SecureDevice(stack, b"id1", KEY, port=46_000).connect(state)
    stack << after(1)
    resumed.pump()
    request = resumed.next_request()
    assert (request.code, request.options[0]) == (codes.GET, (6, b""))
