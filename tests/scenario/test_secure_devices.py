"""Devices behind DTLS, from the first ClientHello to a command: whose a session is, and what it may say."""

from collections.abc import Iterator
from random import Random

import pytest

from stellwerk.app.credentials import raw_key_credential
from stellwerk.coap import codes
from stellwerk.coap.codes import BAD_REQUEST, CHANGED, CONTENT, CONTINUE, CREATED, DELETED, FORBIDDEN, NOT_FOUND, POST
from stellwerk.coap.message import ACK, CON, RST, Message
from stellwerk.core.ids import PeerId
from stellwerk.device.key_material import spki_of, to_base64
from stellwerk.device.record import Credential
from stellwerk.dtls.parameters import ServerIdentity, ServerParameters
from stellwerk.issuing import new_key
from stellwerk.southbound.secure_listener import SecureSettings
from tests.scenario.secure_device import SecureDevice
from tests.scenario.stack import Stack, ack, after, con
from tests.scenario.test_commands import read, write
from tests.scenario.test_observations import observe

KEY = bytes(range(16))
LINKS = b"</1/0>,</3/0>,</3303/0>"
PAIR = b'[{"n":"/3303/0/5700","v":21.5}]'


def psk(identity: str, key: bytes = KEY) -> Credential:
    return Credential(identity, f"psk-hex:{key.hex()}")


@pytest.fixture
def stack() -> Iterator[Stack]:
    made = Stack(secure=ServerParameters())
    made.provision("dev1", credential=psk("id1"))
    made.provision("dev2", credential=psk("id2", bytes(16)))
    made.provision("plain")
    yield made
    made.close()


@pytest.fixture
def device(stack: Stack) -> SecureDevice:
    return SecureDevice(stack, b"id1", KEY).connect()


@pytest.fixture
def other(stack: Stack) -> SecureDevice:
    return SecureDevice(stack, b"id2", bytes(16), port=41_000).connect()


@pytest.mark.spec("SEC-1", "SEC-3")
@pytest.mark.parametrize("name", ["urn:dev:os:dev1", "dev:os:dev1", "dev1"])
def test_a_device_registers_over_psk_as_any_of_its_names(stack: Stack, device: SecureDevice, name: str) -> None:
    assert device.register(f"/rd?ep={name}&lt=300&lwm2m=1.1&b=U") == CREATED
    assert stack.registrations() == [name]


@pytest.mark.spec("SEC-4")
def test_without_a_name_a_device_is_who_it_has_proven_to_be(stack: Stack, device: SecureDevice) -> None:
    assert device.register("/rd?lt=300&lwm2m=1.1&b=U") == CREATED
    assert stack.registrations() == ["urn:dev:os:dev1"]


@pytest.mark.spec("SEC-3", "READ-1", "D2C 6.6")
@pytest.mark.parametrize("name", ["dev2", "plain", "nobody", "id1"])
def test_a_device_registers_as_nobody_else(stack: Stack, device: SecureDevice, name: str) -> None:
    assert device.register(f"/rd?ep={name}&lt=300&lwm2m=1.1&b=U") == BAD_REQUEST
    assert stack.registrations() == []
    assert stack.meters.registers_refused == {"other-identity": 1}


@pytest.mark.spec("SEC-6", "SEC-7")
def test_a_device_with_credentials_is_refused_without_and_the_other_way_round(stack: Stack) -> None:
    stack << con(POST, "/rd?ep=dev1&lt=300&lwm2m=1.1&b=U", mid=1, payload=LINKS, content_format=40)
    stack >> ack(FORBIDDEN, mid=1)
    nobody = SecureDevice(stack, b"plain", KEY).connect()
    assert nobody.session is None
    assert stack.sessions.handshakes.recent_failures(None)[0].reason == "unknown-identity"


@pytest.mark.spec("SEC-3", "LwM2M-contract 2.2")
def test_a_wrong_key_and_an_unknown_identity_look_the_same_from_outside(stack: Stack) -> None:
    wrong = SecureDevice(stack, b"id1", bytes(16)).connect()
    unknown = SecureDevice(stack, b"id9", bytes(16), port=41_000).connect()
    assert wrong.failed is not None
    assert unknown.failed is not None
    assert (wrong.failed.reason, wrong.failed.detail) == (unknown.failed.reason, unknown.failed.detail)
    reasons = [(each.reason, each.device) for each in stack.sessions.handshakes.recent_failures(None)]
    assert reasons == [("unknown-identity", ""), ("wrong-key", "dev1")]
    (record,) = [each for each in [stack.run(stack.store.device_by_endpoint("dev1"))] if each]  # type: ignore[union-attr]
    assert stack.log(record) == ["handshake-failed"]


@pytest.mark.spec("SEC-8")
@pytest.mark.parametrize(("cid", "found"), [(b"", False), (None, True)])
def test_a_session_is_stored_by_its_address_where_no_connection_id_leads_to_it(
    stack: Stack, cid: bytes | None, found: bool
) -> None:
    device = SecureDevice(stack, b"id1", KEY, cid=cid).connect()
    device.register()
    assert stack.store is not None
    record = stack.run(stack.store.device_by_endpoint("dev1"))
    [session] = stack.run(stack.store.sessions_of(record.device_id))
    assert stack.run(stack.store.session_from(session.address)) == (session if found else None)


@pytest.mark.spec("SEC-5")
def test_only_the_device_itself_updates_and_ends_its_registration(
    stack: Stack, device: SecureDevice, other: SecureDevice
) -> None:
    device.register()
    assert device.location
    stranger = PeerId("udp", "192.0.2.66", 4000, "192.0.2.100", 5683)
    answer = other.request(POST, device.location)
    assert answer is not None
    assert answer.code == BAD_REQUEST
    answer = other.request(codes.DELETE, device.location)
    assert answer is not None
    assert answer.code == BAD_REQUEST
    stack << con(POST, device.location, mid=1, peer=stranger) >> ack(BAD_REQUEST, mid=1, peer=stranger)
    stack << con(codes.DELETE, device.location, mid=2, peer=stranger) >> ack(BAD_REQUEST, mid=2, peer=stranger)
    assert stack.registrations() == ["urn:dev:os:dev1"]
    assert stack.meters.identities_refused == {"update": 2, "deregister": 2}
    answer = device.request(POST, device.location)
    assert answer is not None
    assert answer.code == CHANGED
    answer = device.request(codes.DELETE, device.location)
    assert answer is not None
    assert answer.code == DELETED


@pytest.mark.spec("SEC-5")
def test_a_send_speaks_for_the_device_of_its_session_alone(
    stack: Stack, device: SecureDevice, other: SecureDevice
) -> None:
    device.register()
    answer = other.request(POST, "/dp", PAIR, content_format=110)
    assert answer is not None
    assert answer.code == NOT_FOUND
    answer = device.request(POST, "/dp", PAIR, content_format=110)
    assert answer is not None
    assert answer.code == CHANGED


@pytest.mark.spec("SEC-1", "SEC-2", "OB-4")
def test_a_secure_device_is_read_and_observed(stack: Stack, device: SecureDevice) -> None:
    device.register()
    record = stack.run(stack.store.device_by_endpoint("dev1"))  # type: ignore[union-attr]
    stack.post(record, read("/3303/0/5700"))
    device.pump()
    request = device.next_request()
    assert request.code == codes.GET
    device.send(Message(ACK, CONTENT, request.mid, request.token, ((12, b""),), b"21.5"))
    stack.post(record, observe("/3303/0/5700"))
    device.pump()
    request = device.next_request()
    device.send(Message(ACK, CONTENT, request.mid, request.token, ((6, b"\x01"), (12, b"")), b"22"))
    device.send(Message(CON, CONTENT, 900, request.token, ((6, b"\x02"), (12, b"")), b"23"))
    assert device.next_request().type == ACK
    assert stack.values(record, "/3303/0/5700") == ["21.5", "22", "23"] or stack.values(record, "/3303/0/5700") == [
        "21.5",
        "22.0",
        "23.0",
    ]


@pytest.mark.spec("SEC-5", "LwM2M-contract 15")
def test_a_notification_over_the_session_of_another_device_is_reset(
    stack: Stack, device: SecureDevice, other: SecureDevice
) -> None:
    device.register()
    other.register()
    record = stack.run(stack.store.device_by_endpoint("dev1"))  # type: ignore[union-attr]
    stack.post(record, observe("/3303/0/5700"))
    device.pump()
    request = device.next_request()
    device.send(Message(ACK, CONTENT, request.mid, request.token, ((6, b"\x01"), (12, b"")), b"22"))
    other.send(Message(CON, CONTENT, 900, request.token, ((6, b"\x02"), (12, b"")), b"99"))
    assert other.next_request().type == RST
    assert stack.meters.identities_refused == {"notify": 1}


@pytest.mark.spec("RFC 6066 4", "RFC 8449 4", "LwM2M-contract 2.2")
@pytest.mark.parametrize("limit", [{"max_fragment_length": 1}, {"record_size_limit": 300}])
def test_a_device_with_small_records_is_written_to_in_blocks_that_fit(stack: Stack, limit: dict[str, int]) -> None:
    device = SecureDevice(stack, b"id1", KEY, **limit).connect()
    assert device.register() == CREATED
    record = stack.run(stack.store.device_by_endpoint("dev1"))  # type: ignore[union-attr]
    stack.post(record, write("/3/0/15", "x" * 700))
    device.pump()
    told = b""
    while device.heard:
        request = device.next_request()
        (block,) = [value for number, value in request.options if number == 27]
        told += request.payload
        code = CONTINUE if block[-1] & 8 else CHANGED
        device.send(Message(ACK, code, request.mid, request.token, ((27, block),)))
    assert b"x" * 700 in told
    assert "size" not in stack.secure_peers.dropped


# -- sessions come and go --


@pytest.mark.spec("RFC 9146 6", "LwM2M-contract 2.3")
def test_a_session_with_a_connection_id_moves_and_takes_its_registration_along(
    stack: Stack, device: SecureDevice
) -> None:
    device.register()
    device.move(45_000)
    answer = device.request(POST, device.location)
    assert answer is not None
    assert answer.code == CHANGED
    record = stack.run(stack.store.device_by_endpoint("dev1"))  # type: ignore[union-attr]
    stack.post(record, read("/3/0/0"))
    device.pump()
    assert device.next_request().code == codes.GET
    assert stack.meters.secure.moved == 1
    assert stack.dtls.sessions == 1


@pytest.mark.spec("SEC-5", "LwM2M-contract 2.2")
def test_a_resumed_session_takes_the_registration_along_at_once(stack: Stack, device: SecureDevice) -> None:
    device.register()
    again = SecureDevice(stack, b"id1", KEY, port=46_000, seed=9).connect(device.state)
    assert again.session is not None
    assert stack.meters.secure.handshakes["resumed", ""] == 1
    record = stack.run(stack.store.device_by_endpoint("dev1"))  # type: ignore[union-attr]
    stack.post(record, read("/3/0/0"))
    again.pump()
    assert again.next_request().code == codes.GET


@pytest.mark.spec("SEC-5", "LwM2M-contract 2.2")
@pytest.mark.parametrize("uplink", ["update", "send"])
def test_a_new_session_takes_the_registration_over_with_its_first_uplink(
    stack: Stack, device: SecureDevice, uplink: str
) -> None:
    device.register()
    again = SecureDevice(stack, b"id1", KEY, port=46_000, seed=9).connect()
    known = next(iter(stack.registry))
    before = known.registration.peer
    if uplink == "update":
        answer = again.request(POST, device.location)
    else:
        answer = again.request(POST, "/dp", PAIR, content_format=110)
    assert answer is not None
    assert answer.code == CHANGED
    known = next(iter(stack.registry))
    assert known.registration.peer != before
    # The one before it is over.
    assert stack.dtls.sessions == 1


@pytest.mark.spec("LwM2M-contract 2.2", "BIN-4")
def test_a_closed_session_leaves_the_registration_and_what_waits_for_it(stack: Stack, device: SecureDevice) -> None:
    device.register()
    device.close()
    record = stack.run(stack.store.device_by_endpoint("dev1"))  # type: ignore[union-attr]
    stack.post(record, read("/3/0/0"))
    assert stack.registrations() == ["urn:dev:os:dev1"]
    assert "session-ended" in stack.log(record)
    again = SecureDevice(stack, b"id1", KEY, port=46_000, seed=9).connect()
    again.request(POST, device.location)
    assert again.next_request().code == codes.GET


@pytest.mark.spec("LwM2M-contract 2.2", "QM-3")
def test_what_waits_for_a_device_leaves_when_it_resumes(stack: Stack, device: SecureDevice) -> None:
    device.register()
    device.close()
    record = stack.run(stack.store.device_by_endpoint("dev1"))  # type: ignore[union-attr]
    stack.post(record, read("/3/0/0"))
    again = SecureDevice(stack, b"id1", KEY, port=46_000, seed=9).connect(device.state)
    assert stack.meters.secure.handshakes["resumed", ""] == 1
    assert again.next_request().code == codes.GET


@pytest.mark.spec("SEC-5", "OB-4", "RFC 7641 3.6")
def test_observations_go_on_over_a_resumed_session_and_are_asked_for_anew_over_a_new_one(
    stack: Stack, device: SecureDevice
) -> None:
    device.register()
    record = stack.run(stack.store.device_by_endpoint("dev1"))  # type: ignore[union-attr]
    stack.post(record, observe("/3303/0/5700"))
    device.pump()
    request = device.next_request()
    device.send(Message(ACK, CONTENT, request.mid, request.token, ((6, b"\x01"), (12, b"")), b"22"))
    resumed = SecureDevice(stack, b"id1", KEY, port=46_000, seed=9).connect(device.state)
    resumed.send(Message(CON, CONTENT, 900, request.token, ((6, b"\x02"), (12, b"")), b"23"))
    assert resumed.next_request().type == ACK
    assert resumed.heard == []
    new = SecureDevice(stack, b"id1", KEY, port=46_001, seed=11).connect()
    new.send(Message(CON, CONTENT, 901, request.token, ((6, b"\x03"), (12, b"")), b"24"))
    assert new.next_request().type == ACK
    again = new.next_request()
    assert (again.code, again.options[0]) == (codes.GET, (6, b""))
    assert again.token != request.token
    assert stack.values(record, "/3303/0/5700") == ["22.0", "23.0", "24.0"]


# -- restart --


@pytest.mark.spec("Design 7")
@pytest.mark.parametrize("cid", [b"", None])
def test_after_a_restart_a_session_goes_on_without_a_handshake(
    stack: Stack, device: SecureDevice, cid: bytes | None
) -> None:
    device = SecureDevice(stack, b"id1", KEY, port=47_000, cid=cid).connect()
    device.register()
    again = Stack(store=stack.store, clock=stack.clock, seed=1, secure=ServerParameters())
    device.stack = again
    sent = device.sent
    answer = device.request(POST, device.location)
    assert answer is not None
    assert answer.code == CHANGED
    assert device.sent == sent + 1
    record = again.run(again.store.device_by_endpoint("dev1"))  # type: ignore[union-attr]
    again.post(record, read("/3/0/0"))
    device.pump()
    assert device.next_request().code == codes.GET
    assert again.meters.secure.restored == 1
    assert not again.meters.secure.handshakes
    again.close()


@pytest.mark.spec("Design 7")
def test_after_a_restart_a_command_reaches_a_device_that_was_not_heard(stack: Stack, device: SecureDevice) -> None:
    device.register()
    again = Stack(store=stack.store, clock=stack.clock, seed=1, secure=ServerParameters())
    device.stack = again
    record = again.run(again.store.device_by_endpoint("dev1"))  # type: ignore[union-attr]
    again.post(record, read("/3/0/0"))
    device.pump()
    assert device.next_request().code == codes.GET
    again.close()


# -- revocation --


@pytest.mark.spec("SEC-9", "Platform 4", "D2C 6.5")
def test_a_changed_key_ends_the_session_and_the_new_one_opens_the_door(stack: Stack, device: SecureDevice) -> None:
    device.register()
    record = stack.run(stack.store.device_by_endpoint("dev1"))  # type: ignore[union-attr]
    stack.run(stack.devices.change_credential(record, secret="psk-hex:" + "11" * 16))
    device.pump()
    assert device.ended is not None
    assert device.ended.reason == "close-notify"
    assert stack.registrations() == []
    assert stack.run(stack.store.sessions_of(record.device_id)) == []  # type: ignore[union-attr]
    assert device.connect().session is None
    resumed = SecureDevice(stack, b"id1", KEY, port=46_000).connect(device.state)
    assert resumed.session is None
    newer = SecureDevice(stack, b"id1", b"\x11" * 16, port=46_001).connect()
    assert newer.register() == CREATED


@pytest.mark.spec("SEC-9", "D2C 6.5", "LwM2M-contract 2.2")
def test_who_loses_its_key_loses_what_waits_for_it(stack: Stack, device: SecureDevice) -> None:
    device.register()
    record = stack.run(stack.store.device_by_endpoint("dev1"))  # type: ignore[union-attr]
    device.close()
    stack.post(record, read("/3/0/0"), expires_ms=stack.clock.wall_ms() + 10_000_000)
    device.connect()
    stack.run(stack.devices.remove_credential(record))
    device.pump()
    assert device.ended is not None
    assert (device.ended.reason, device.session) == ("alert", None)
    assert "49" in device.ended.detail or "access" in device.ended.detail
    stack << con(POST, "/rd?ep=dev1&lt=300&lwm2m=1.1&b=U", mid=1, payload=LINKS, content_format=40)
    assert stack.take().code == CREATED
    stack << after(5)
    assert stack.silent()


# -- abuse --


@pytest.mark.spec("LwM2M-contract 15")
def test_an_address_that_begins_too_many_handshakes_waits_and_no_other_does() -> None:
    stack = Stack(secure=ServerParameters(), rates=SecureSettings(per_address=0.5))
    stack.provision("dev1", credential=psk("id1"))
    first = [SecureDevice(stack, b"id1", KEY, port=40_000 + number).connect() for number in range(7)]
    assert [each.session is not None for each in first] == [True] * 5 + [False] * 2
    elsewhere = SecureDevice(stack, b"id1", KEY, host="198.51.100.2").connect()
    assert elsewhere.session is not None
    assert stack.meters.secure.limited == {"address": 2}
    # What was left without an answer comes again by itself.
    stack << after(3)
    first[5].tick()
    assert first[5].session is not None
    stack.close()


@pytest.mark.spec("LwM2M-contract 15")
def test_handshakes_with_public_keys_are_bounded_together_and_pre_shared_keys_go_on() -> None:
    key = new_key()
    identity = ServerIdentity(new_key())
    stack = Stack(secure=ServerParameters(identity=identity), rates=SecureSettings(with_certificates=2.0))
    stack.provision("dev1", credential=psk("id1"))
    raw = raw_key_credential("urn:dev:os:dev2", to_base64(spki_of(key.public_key())), 1)
    stack.provision("dev2", credential=raw)
    made = [SecureDevice(stack, own_key=key, raw_keys=True, port=40_000 + number).connect() for number in range(4)]
    assert [each.session is not None for each in made] == [True, True, False, False]
    assert [each.failed for each in made] == [None] * 4
    assert SecureDevice(stack, b"id1", KEY, port=41_000).connect().session is not None
    assert stack.meters.secure.handshakes["failed", "rate"] == 2
    assert stack.meters.secure.limited == {"certificates": 2}
    stack << after(3)
    made[2].tick()
    assert made[2].session is not None
    stack.close()


@pytest.mark.spec("LwM2M-contract 15", "Design 7")
def test_bytes_of_every_kind_on_the_secure_port_harm_no_session(stack: Stack, device: SecureDevice) -> None:
    device.register()
    chance = Random(5)
    for number in range(300):
        junk = bytes([chance.choice([0, 20, 21, 22, 23, 25, 26]), 254, 253]) + chance.randbytes(chance.randrange(60))
        stack.feed_secure(junk, PeerId("udp", "203.0.113.9", 1024 + number, "192.0.2.100", 5684))
        stack.feed_secure(junk, PeerId("udp", "198.51.100.1", 40_000, "192.0.2.100", 5684))
    answer = device.request(POST, device.location)
    assert answer is not None
    assert answer.code == CHANGED
    assert stack.dtls.sessions == 1
