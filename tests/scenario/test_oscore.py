"""Devices that protect their messages with OSCORE: registered, asked, observed, replayed, restarted, revoked (contract
§2.6; RFC 8613)."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

from stellwerk.coap import codes, events
from stellwerk.coap.message import decode_message, encode_options
from stellwerk.coap.options import ECHO, OSCORE
from stellwerk.coap.tcp.frames import encode_frame
from stellwerk.core.ids import DeviceId, PeerId
from stellwerk.device.record import DeviceRecord
from stellwerk.dtls.parameters import ServerParameters
from tests.scenario.oscore_device import LINKS, Keys, OscoreDevice
from tests.scenario.secure_device import SecureDevice
from tests.scenario.stack import Stack, ack, after, con
from tests.scenario.test_commands import NOTIFICATION, SENML_MANUFACTURER, read, write
from tests.scenario.test_observations import observe
from tests.scenario.test_secure_devices import KEY, PAIR, psk

OTHER = Keys(b"dev2", secret=bytes(16))
BOTH = Keys(b"both")
SENSOR = "/3303/0/5700"


@pytest.fixture
def stack() -> Iterator[Stack]:
    made = Stack(secure=ServerParameters())
    made.provision("dev1", credential=Keys().credential("dev1"))
    made.provision("dev2", credential=OTHER.credential("dev2"))
    made.provision("both", credential=BOTH.credential("both", "psk", f"psk-hex:{KEY.hex()}"))
    made.provision("tls-only", credential=psk("id1"))
    made.provision("plain")
    yield made
    made.close()


def record(stack: Stack, name: str = "dev1") -> Any:
    assert stack.store is not None
    return stack.run(stack.store.device_by_name(stack.tenant_id, name))


def restarted(stack: Stack) -> Stack:
    """Another run on the same store, as after `kill -9`."""
    assert stack.store is not None
    return Stack(store=stack.store, clock=stack.clock, seed=stack.seed + 1, secure=ServerParameters())


def again(device: OscoreDevice, stack: Stack) -> OscoreDevice:
    """The device speaks with another run."""
    device.stack = stack
    return device


def reasons(stack: Stack) -> list[tuple[str, str]]:
    return [(each.reason, each.device) for each in stack.failures.recent(None)]


def pivs(datagrams: list[bytes]) -> list[bytes]:
    """The Partial IVs that were sent, in order."""
    found = []
    for each in datagrams:
        value = next((value for number, value in decode_message(each).options if number == OSCORE), b"")
        if value and value[0] & 7:
            found.append(value[1 : 1 + (value[0] & 7)])
    return found


# -- registration --


@pytest.mark.spec("ETS 405", "LwM2M-contract 2.6", "READ-15", "RFC 8613 B.1.2")
def test_a_device_registers_after_an_echo_under_its_sender_id(stack: Stack) -> None:
    device = OscoreDevice(stack)
    assert device.register("/rd?ep=dev1&lt=300&lwm2m=1.1&b=U") == codes.CREATED
    assert stack.registrations() == ["dev1"]
    # Twice: what came first was answered with an Echo, since it might have been said before.
    assert len([each for each in device.up if decode_message(each).code == codes.POST]) == 2
    known = stack.registry.of(record(stack).device_id)
    assert known is not None
    assert str(known.registration.peer) == f"oscore context {known.registration.peer.remote_host} over udp"
    assert known.registration.proven


@pytest.mark.spec("LwM2M-contract 2.6")
def test_nothing_of_what_is_said_is_readable_on_the_way(stack: Stack) -> None:
    device = OscoreDevice(stack)
    device.resources["/3/0/0"] = (112, SENML_MANUFACTURER)
    device.register()
    stack.post(record(stack), read("/3/0/0"))
    device.pump()
    for data in (*device.up, *device.down):
        message = decode_message(data)
        assert {number for number, _ in message.options} <= {OSCORE}
        assert b"ACME" not in data
        assert b"3303" not in data


@pytest.mark.spec("SEC-3", "LwM2M-contract 2.6")
@pytest.mark.parametrize("name", ["dev2", "plain", "nobody"])
def test_a_device_registers_as_nobody_else(stack: Stack, name: str) -> None:
    device = OscoreDevice(stack)
    assert device.register(f"/rd?ep={name}&lt=300&lwm2m=1.1&b=U") == codes.BAD_REQUEST
    assert stack.registrations() == []
    assert stack.meters.registers_refused == {"other-identity": 1}


@pytest.mark.spec("SEC-4")
def test_without_a_name_a_device_is_who_its_sender_id_says(stack: Stack) -> None:
    assert OscoreDevice(stack, OTHER).register() == codes.CREATED
    assert stack.registrations() == ["urn:dev:os:dev2"]


@pytest.mark.spec("SEC-6", "LwM2M-contract 2.6")
@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("dev1", "OSCORE over coap:// or coap+tcp://, at the port that STELLWERK_COAP_PORT names"),
        ("both", "OSCORE within coaps:// or coaps+tcp://, at the port that STELLWERK_COAPS_PORT names"),
        ("tls-only", "coaps:// or coaps+tcp://, at the port that STELLWERK_COAPS_PORT names"),
    ],
)
def test_what_comes_without_security_is_refused_with_a_plain_text_and_the_log_says_what_is_right(
    stack: Stack, name: str, right: str
) -> None:
    with capture_logs() as lines:
        stack << con(codes.POST, f"/rd?ep={name}&lt=300&lwm2m=1.1&b=U", mid=1, payload=LINKS, content_format=40)
        text = f"device {name!r} has credentials and must use them"
        stack >> ack(codes.FORBIDDEN, mid=1, payload=text.encode())
    assert [each["detail"] for each in lines if each["event"] == "register.refused"] == [f"{text}: {right}"]
    assert stack.store is not None
    (line,) = stack.run(stack.store.projection.device_log(record(stack, name).device_id, 10))
    assert line.detail.startswith(f"{text}: {right}, from udp://")


@pytest.mark.spec("RFC 8613 8.2", "LwM2M-contract 2.6")
@pytest.mark.parametrize(
    ("keys", "code", "reason"),
    [
        (Keys(b"who?"), codes.UNAUTHORIZED, ("unknown-context", "")),
        (Keys(secret=bytes(16)), codes.BAD_REQUEST, ("oscore-decryption", "dev1")),
    ],
)
def test_an_unknown_sender_id_and_a_wrong_key_are_refused_and_shown_to_people(
    stack: Stack, keys: Keys, code: int, reason: tuple[str, str]
) -> None:
    device = OscoreDevice(stack, keys)
    answer = device.request(codes.POST, "/rd?lt=300&lwm2m=1.1&b=U", LINKS, 40)
    assert isinstance(answer, events.RequestFailed)
    [said] = device.down
    assert decode_message(said).code == code
    assert reasons(stack) == [reason]
    assert stack.registrations() == []


@pytest.mark.spec("SEC-5")
def test_only_the_device_itself_updates_and_ends_its_registration(stack: Stack) -> None:
    device, other = OscoreDevice(stack), OscoreDevice(stack, OTHER, port=43_000)
    device.register()
    assert other.ask(codes.POST, device.location) == codes.BAD_REQUEST
    assert other.ask(codes.DELETE, device.location) == codes.BAD_REQUEST
    stack << con(codes.POST, device.location, mid=1) >> ack(codes.BAD_REQUEST, mid=1)
    assert device.ask(codes.POST, device.location) == codes.CHANGED
    assert device.ask(codes.DELETE, device.location) == codes.DELETED
    assert stack.registrations() == []


# -- what is asked and told --


@pytest.mark.spec("ETS 405", "D-1")
def test_commands_reach_the_device_and_its_answers_are_values(stack: Stack) -> None:
    device = OscoreDevice(stack)
    device.resources["/3/0/0"] = (112, SENML_MANUFACTURER)
    device.register()
    stack.post(record(stack), read("/3/0/0"), write("/3/0/15", "UTC"))
    device.pump()
    assert [(each.code, each.path) for each in device.requests] == [
        (codes.GET, ("3", "0", "0")),
        (codes.PUT, ("3", "0", "15")),
    ]
    assert stack.values(record(stack), "/3/0/0") == ['"ACME"']


@pytest.mark.spec("RFC 8613 4.1.3.5", "OB-1")
def test_an_observed_device_notifies_and_its_notifications_are_stored_once(stack: Stack) -> None:
    device = OscoreDevice(stack)
    device.resources[SENSOR] = (112, NOTIFICATION)
    device.register()
    stack.post(record(stack), observe(SENSOR))
    device.pump()
    [request] = device.requests
    before = len(stack.values(record(stack), SENSOR))
    device.notify(request, 5, NOTIFICATION)
    device.notify(request, 6, NOTIFICATION)
    assert len(stack.values(record(stack), SENSOR)) == before + 2


@pytest.mark.spec("LwM2M-contract 2.6")
def test_a_send_is_a_value_of_the_device_of_its_context(stack: Stack) -> None:
    device, other = OscoreDevice(stack), OscoreDevice(stack, OTHER, port=43_000)
    assert device.ask(codes.POST, "/dp", PAIR, 110) == codes.NOT_FOUND
    device.register()
    assert device.ask(codes.POST, "/dp", PAIR, 110) == codes.CHANGED
    assert other.ask(codes.POST, "/dp", PAIR, 110) == codes.NOT_FOUND
    assert stack.values(record(stack), SENSOR) == ["21.5"]


@pytest.mark.spec("RFC 8613 4.1.3.4", "BLK-1")
def test_large_bodies_go_in_blocks_inside_the_protection(stack: Stack) -> None:
    device = OscoreDevice(stack)
    links = LINKS + b"," + b",".join(b"</3303/%d>" % each for each in range(1, 200))
    assert device.register(links=links) == codes.CREATED
    known = stack.registry.of(record(stack).device_id)
    assert known is not None
    assert len(known.registration.objects.objects[3303].instances) == 200
    stack.post(record(stack), write("/3/0/15", "x" * 3000))
    device.pump()
    [request] = device.requests
    assert len(request.payload) > 3000
    assert all(len(each) < 1200 for each in device.down)


@pytest.mark.spec("RFC 8613 7.4", "LwM2M-contract 2.6")
def test_a_replayed_datagram_changes_nothing_and_moves_nothing(stack: Stack) -> None:
    device = OscoreDevice(stack)
    device.resources["/3/0/0"] = (112, SENML_MANUFACTURER)
    device.register()
    device.ask(codes.POST, "/dp", PAIR, 110)
    for captured in [each for each in device.up if decode_message(each).code]:
        answer = device.replay(captured)
        assert answer.code == codes.UNAUTHORIZED
        assert OSCORE not in [number for number, _ in answer.options]
    assert stack.values(record(stack), SENSOR) == ["21.5"]
    stack.post(record(stack), read("/3/0/0"))
    device.pump()
    assert stack.values(record(stack), "/3/0/0") == ['"ACME"']


@pytest.mark.spec("LwM2M-contract 2.6")
def test_a_device_that_moves_is_asked_where_it_was_heard_last(stack: Stack) -> None:
    device = OscoreDevice(stack)
    device.resources["/3/0/0"] = (112, SENML_MANUFACTURER)
    device.register()
    device.move(42_001)
    stack.post(record(stack), read("/3/0/0"))
    device.pump()
    assert not device.requests
    assert device.ask(codes.POST, device.location) == codes.CHANGED
    stack << after(3)
    device.pump()
    assert stack.values(record(stack), "/3/0/0") == ['"ACME"']
    assert stack.meters.oscore.contexts["moved"] == 1


@pytest.mark.spec("QM-1", "LwM2M-contract 2.6")
def test_a_sleeper_is_asked_when_it_is_heard(stack: Stack) -> None:
    device = OscoreDevice(stack)
    device.resources["/3/0/0"] = (112, SENML_MANUFACTURER)
    device.register("/rd?lt=3000&lwm2m=1.1&b=U&Q")
    stack << after(200)
    stack.post(record(stack), read("/3/0/0"))
    device.pump()
    assert not device.requests
    device.ask(codes.POST, device.location)
    assert stack.values(record(stack), "/3/0/0") == ['"ACME"']


# -- restarts --


@pytest.mark.spec("RFC 8613 B.1.1", "RFC 8613 B.1.2", "LwM2M-contract 2.6")
def test_a_server_that_restarts_uses_no_number_twice_and_believes_nobody_without_an_echo(stack: Stack) -> None:
    device = OscoreDevice(stack)
    device.resources["/3/0/0"] = (112, SENML_MANUFACTURER)
    device.register()
    stack.post(record(stack), read("/3/0/0"))
    device.pump()
    old = next(each for each in device.up[::-1] if decode_message(each).code == codes.POST)
    later = restarted(stack)
    try:
        again(device, later)
        # What was said before the restart is not taken for news, whoever says it; the Echo is for the device alone.
        answer = device.replay(old)
        assert [number for number, _ in answer.options] == [OSCORE]
        assert not later.contexts.may_reach(PeerId("oscore+udp", "1", 0))
        assert device.ask(codes.POST, "/dp", PAIR, 110) == codes.CHANGED
        later.post(record(later), read("/3/0/0"))
        device.pump()
        used = pivs(device.down)
        assert len(used) == len(set(used)) >= 4
        assert later.values(record(later), SENSOR) == ["21.5"]
        assert later.values(record(later), "/3/0/0") == ['"ACME"'] * 2
        assert device.replay(old, port=6667).code == codes.UNAUTHORIZED
    finally:
        later.close()


@pytest.mark.spec("LwM2M-contract 2.6")
def test_a_command_waits_after_a_restart_until_the_device_is_heard(stack: Stack) -> None:
    device = OscoreDevice(stack)
    device.resources["/3/0/0"] = (112, SENML_MANUFACTURER)
    device.resources[SENSOR] = (112, NOTIFICATION)
    device.register()
    stack.post(record(stack), observe(SENSOR))
    device.pump()
    later = restarted(stack)
    try:
        again(device, later)
        later.run(later.commands.recover())
        later.post(record(later), read("/3/0/0"))
        device.pump()
        device.requests.clear()
        later << after(100)
        assert later.received(record(later))[-1].get("method") != "read"
        assert device.ask(codes.POST, device.location) == codes.CHANGED
        # What it observed for us is asked for again, since only the server before this one could read of it.
        assert {each.path for each in device.requests} == {("3", "0", "0"), ("3303", "0", "5700")}
        assert later.values(record(later), "/3/0/0") == ['"ACME"']
        request = next(each for each in device.requests if each.path[0] == "3303")
        before = len(later.values(record(later), SENSOR))
        device.notify(request, 9, NOTIFICATION)
        assert len(later.values(record(later), SENSOR)) == before + 1
    finally:
        later.close()


@pytest.mark.spec("RFC 8613 B.1.1")
def test_a_device_that_restarts_goes_on_with_its_context(stack: Stack) -> None:
    device = OscoreDevice(stack)
    device.register()
    after_power_cut = OscoreDevice(stack, port=42_005, unused=device.ceiling)
    after_power_cut.resources["/3/0/0"] = (112, SENML_MANUFACTURER)
    assert after_power_cut.register() == codes.CREATED
    stack.post(record(stack), read("/3/0/0"))
    after_power_cut.pump()
    assert stack.values(record(stack), "/3/0/0") == ['"ACME"']


@pytest.mark.spec("RFC 8613 B.2")
def test_a_device_that_lost_its_numbers_agrees_on_another_context(stack: Stack) -> None:
    OscoreDevice(stack).register()
    forgetful = OscoreDevice(stack, port=42_005, rederive=True)
    forgetful.resources["/3/0/0"] = (112, SENML_MANUFACTURER)
    assert forgetful.register() == codes.CREATED
    stack.post(record(stack), read("/3/0/0"))
    forgetful.pump()
    assert stack.values(record(stack), "/3/0/0") == ['"ACME"']
    assert stack.meters.oscore.contexts["rederived"] == 1


# -- credentials that change --


@pytest.mark.spec("SEC-9", "LwM2M-contract 2.6")
def test_a_context_that_is_taken_away_speaks_no_more_and_its_registration_ends(stack: Stack) -> None:
    assert stack.store is not None
    device = OscoreDevice(stack)
    device.register()
    newer = Keys(b"newer")
    stack.run(stack.store.set_credential(record(stack).device_id, newer.credential("dev1")))
    stack.run(stack._then_settle(stack.devices.revoking.look()))
    assert stack.registrations() == []
    answer = device.request(codes.POST, device.location)
    assert isinstance(answer, events.RequestFailed)
    assert OscoreDevice(stack, newer, port=42_005).register() == codes.CREATED


@pytest.mark.spec("Platform 12.1")
def test_a_fresh_context_is_promoted_by_its_first_message_and_the_former_ends(stack: Stack) -> None:
    assert stack.store is not None
    device = OscoreDevice(stack)
    device.register()
    newer = Keys(b"newer")
    fresh = newer.credential("dev1")
    stack.run(stack.store.put_fresh_credential(record(stack).device_id, fresh))
    assert device.ask(codes.POST, device.location) == codes.CHANGED
    renewed = OscoreDevice(stack, newer, port=42_005)
    renewed.resources["/3/0/0"] = (112, SENML_MANUFACTURER)
    assert renewed.register() == codes.CREATED
    assert stack.run(stack.store.fresh_credential(record(stack).device_id)) is None
    assert isinstance(device.request(codes.POST, device.location), events.RequestFailed)
    stack.post(record(stack), read("/3/0/0"))
    renewed.pump()
    assert stack.values(record(stack), "/3/0/0") == ['"ACME"']


async def registered_at(stack: Stack) -> PeerId:
    """As which peer the device is registered."""
    assert stack.store is not None
    device = await stack.store.device_by_name(stack.tenant_id, "dev1")
    assert device is not None
    found = await stack.store.registration_of(device.device_id)
    assert found is not None
    return found.peer


@pytest.mark.spec("Platform 12.1")
def test_a_register_waits_until_its_fresh_context_is_the_one_that_holds(stack: Stack) -> None:
    assert stack.store is not None
    OscoreDevice(stack).register()
    newer = Keys(b"newer")
    stack.run(stack.store.put_fresh_credential(record(stack).device_id, newer.credential("dev1")))
    before = stack.run(registered_at(stack))
    promote = stack.store.promote_fresh_credential

    seen = []

    async def slow(device_id: DeviceId, *used: Any, **named: Any) -> DeviceRecord | None:
        for _ in range(5):
            await asyncio.sleep(0)
        seen.append(await registered_at(stack))
        return await promote(device_id, *used, **named)

    stack.store.promote_fresh_credential = slow  # type: ignore[method-assign]
    renewed = OscoreDevice(stack, newer, port=42_005)
    assert renewed.register() == codes.CREATED
    assert seen == [before]
    assert stack.run(registered_at(stack)) != before
    assert stack.run(stack.store.fresh_credential(record(stack).device_id)) is None
    assert stack.registrations() == ["urn:dev:os:dev1"]
    assert renewed.ask(codes.POST, renewed.location) == codes.CHANGED


@pytest.mark.spec("Platform 12.1", "SEC-5")
def test_a_registration_made_with_the_former_context_goes_on_with_the_fresh_one(stack: Stack) -> None:
    assert stack.store is not None
    device = OscoreDevice(stack)
    device.register()
    newer = Keys(b"newer")
    stack.run(stack.store.put_fresh_credential(record(stack).device_id, newer.credential("dev1")))
    renewed = OscoreDevice(stack, newer, port=42_005)
    assert renewed.ask(codes.POST, device.location) == codes.CHANGED
    assert isinstance(device.request(codes.POST, device.location), events.RequestFailed)


@pytest.mark.spec("Platform 12.1")
def test_a_fresh_context_ends_the_session_of_the_key_before_it(stack: Stack) -> None:
    assert stack.store is not None
    session = SecureDevice(stack, b"id1", KEY).connect()
    assert session.register() == codes.CREATED
    newer = Keys(b"newer")
    stack.run(stack.store.put_fresh_credential(record(stack, "tls-only").device_id, newer.credential("tls-only")))
    assert OscoreDevice(stack, newer).register() == codes.CREATED
    session.pump()
    assert session.ended is not None
    assert SecureDevice(stack, b"id1", KEY, port=40_500).connect().session is None


@pytest.mark.spec("Platform 12.1")
def test_a_fresh_key_that_is_shown_ends_the_context_of_before_it(stack: Stack) -> None:
    assert stack.store is not None
    device = OscoreDevice(stack)
    device.register()
    stack.run(stack.store.put_fresh_credential(record(stack).device_id, psk("fresh")))
    session = SecureDevice(stack, b"fresh", KEY).connect()
    assert session.register() == codes.CREATED
    assert isinstance(device.request(codes.POST, device.location), events.RequestFailed)
    assert record(stack).security == "psk"


@pytest.mark.spec("Platform 12.1")
def test_a_device_that_came_without_security_comes_with_its_fresh_context(stack: Stack) -> None:
    assert stack.store is not None
    stack << con(codes.POST, "/rd?ep=plain&lt=300&lwm2m=1.1&b=U", mid=1, payload=LINKS, content_format=40)
    assert stack.take().code == codes.CREATED
    newer = Keys(b"newer")
    stack.run(stack.store.put_fresh_credential(record(stack, "plain").device_id, newer.credential("plain")))
    assert OscoreDevice(stack, newer).register("/rd?ep=plain&lt=300&lwm2m=1.1&b=U") == codes.CREATED
    assert record(stack, "plain").security == "oscore"
    stack << con(codes.POST, "/rd?ep=plain&lt=300&lwm2m=1.1&b=U", mid=2, payload=LINKS, content_format=40)
    assert stack.take().code == codes.FORBIDDEN


# -- both layers --


def both(stack: Stack, identity: str = "both", keys: Keys = BOTH, key: bytes = KEY) -> OscoreDevice:
    session = SecureDevice(stack, identity.encode(), key).connect()
    assert session.session is not None
    return OscoreDevice(stack, keys, session=session)


@pytest.mark.spec("LwM2M-contract 2.6", "SEC-3")
def test_a_device_with_both_layers_registers_within_its_session_and_is_asked_there(stack: Stack) -> None:
    device = both(stack)
    device.resources["/3/0/0"] = (112, SENML_MANUFACTURER)
    assert device.register() == codes.CREATED
    assert stack.registrations() == ["urn:dev:os:both"]
    stack.post(record(stack, "both"), read("/3/0/0"))
    device.pump()
    assert stack.values(record(stack, "both"), "/3/0/0") == ['"ACME"']


@pytest.mark.spec("LwM2M-contract 2.6", "SEC-6")
def test_one_layer_alone_does_not_do_for_a_device_with_both(stack: Stack) -> None:
    bare = OscoreDevice(stack, BOTH)
    assert isinstance(bare.request(codes.POST, "/rd?lt=300&lwm2m=1.1&b=U", LINKS, 40), events.RequestFailed)
    assert reasons(stack) == [("wrong-layers", "both")]
    session = SecureDevice(stack, b"both", KEY).connect()
    assert session.register() == codes.FORBIDDEN
    assert stack.meters.registers_refused == {"wrong-layers": 1}
    assert stack.registrations() == []


@pytest.mark.spec("LwM2M-contract 2.6", "SEC-5")
def test_the_registration_of_both_layers_is_not_updated_over_the_session_alone(stack: Stack) -> None:
    device = both(stack)
    device.register()
    assert device.session is not None
    answer = device.session.request(codes.POST, device.location)
    assert answer is not None
    assert answer.code == codes.BAD_REQUEST
    answer = device.session.request(codes.POST, "/dp", PAIR, content_format=110)
    assert answer is not None
    assert answer.code == codes.NOT_FOUND
    assert stack.values(record(stack, "both"), SENSOR) == []


@pytest.mark.spec("LwM2M-contract 2.6", "SEC-3")
@pytest.mark.parametrize(("identity", "keys"), [("id1", BOTH), ("both", Keys()), ("id1", Keys())])
def test_a_context_within_a_session_that_is_not_its_devices_is_refused(stack: Stack, identity: str, keys: Keys) -> None:
    device = both(stack, identity, keys)
    assert isinstance(device.request(codes.POST, "/rd?lt=300&lwm2m=1.1&b=U", LINKS, 40), events.RequestFailed)
    assert [reason for reason, _ in reasons(stack)] == ["wrong-layers"]
    assert stack.registrations() == []


@pytest.mark.spec("LwM2M-contract 2.6")
def test_when_the_session_ends_commands_wait_for_the_next_one(stack: Stack) -> None:
    device = both(stack)
    device.register()
    assert device.session is not None
    device.session.close()
    assert stack.log(record(stack, "both"))[-1] == "connection-lost"
    stack.post(record(stack, "both"), read("/3/0/0"))
    stack << after(1)
    later = SecureDevice(stack, b"both", KEY, port=40_500).connect()
    renewed = OscoreDevice(stack, BOTH, session=later, unused=device.ceiling)
    renewed.resources["/3/0/0"] = (112, SENML_MANUFACTURER)
    assert renewed.ask(codes.POST, device.location) == codes.CHANGED
    assert stack.values(record(stack, "both"), "/3/0/0") == ['"ACME"']


# -- over TCP --


@pytest.mark.spec("LwM2M-contract 2.6", "ETS 405", "BIN-4")
def test_a_device_speaks_oscore_over_tcp_and_its_connection_is_its_presence(stack: Stack) -> None:
    device = OscoreDevice(stack, tcp=True)
    device.resources["/3/0/0"] = (112, SENML_MANUFACTURER)
    assert device.register("/rd?lt=300&lwm2m=1.1&b=T") == codes.CREATED
    stack.post(record(stack), read("/3/0/0"))
    device.pump()
    assert stack.values(record(stack), "/3/0/0") == ['"ACME"']
    stack.say(device.here, b"")
    assert "connection-lost" in stack.log(record(stack))
    stack.post(record(stack), read("/3/0/0"))
    back = OscoreDevice(stack, tcp=True, port=42_009, unused=device.ceiling)
    back.resources["/3/0/0"] = (112, SENML_MANUFACTURER)
    assert back.ask(codes.POST, device.location) == codes.CHANGED
    assert stack.values(record(stack), "/3/0/0") == ['"ACME"'] * 2


@pytest.mark.spec("LwM2M-contract 2.6", "SEC-5", "RFC 8613 B.1.1")
def test_a_device_that_changes_its_transport_keeps_its_registration_and_numbers_stay_apart(stack: Stack) -> None:
    device = OscoreDevice(stack)
    device.register()
    other = OscoreDevice(stack, tcp=True, unused=device.ceiling)
    other.resources["/3/0/0"] = (112, SENML_MANUFACTURER)
    assert other.ask(codes.POST, device.location) == codes.CHANGED
    stack.post(record(stack), read("/3/0/0"))
    other.pump()
    assert stack.values(record(stack), "/3/0/0") == ['"ACME"']
    back = OscoreDevice(stack, port=42_010, unused=other.ceiling)
    back.resources["/3/0/0"] = (112, SENML_MANUFACTURER)
    assert back.ask(codes.POST, device.location) == codes.CHANGED
    stack.post(record(stack), read("/3/0/0"))
    back.pump()
    assert stack.values(record(stack), "/3/0/0") == ['"ACME"'] * 2


@pytest.mark.spec("RFC 8613 7.4")
def test_what_came_over_one_transport_is_not_taken_over_another_again(stack: Stack) -> None:
    near = OscoreDevice(stack, tcp=True)
    near.register()
    far = OscoreDevice(stack, unused=near.ceiling)
    far.ask(codes.POST, near.location)
    far.ask(codes.POST, "/dp", PAIR, 110)
    assert stack.values(record(stack), SENSOR) == ["21.5"]
    said = decode_message(far.up[-1])
    near.engine.take_datagrams()
    frame = encode_frame(said.code, said.token, encode_options(said.options), said.payload)
    near._carry(frame)
    near.pump()
    assert stack.values(record(stack), SENSOR) == ["21.5"]


def test_echo_values_are_options_of_the_protected_message(stack: Stack) -> None:
    device = OscoreDevice(stack)
    device.register()
    assert not [each for each in device.down if ECHO in [number for number, _ in decode_message(each).options]]
