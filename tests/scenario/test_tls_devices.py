"""Devices behind TLS: registered, refused, disconnected and revoked (contract §1.8, §2; RFC 8323 §8, 9)."""

import ssl
from collections.abc import Iterator
from typing import Any

import pytest

from stellwerk.coap import codes
from stellwerk.coap.message import Message, encode_options
from stellwerk.coap.tcp.frames import encode_frame
from stellwerk.coap.tcp.signalling import ABORT, RELEASE, decode_abort
from stellwerk.core.ids import PeerId
from stellwerk.device.record import Credential
from stellwerk.dtls.parameters import ServerIdentity, ServerParameters
from stellwerk.issuing import Issuer, new_key
from tests.scenario.gateway_device import Behind, Gateway
from tests.scenario.stack import HOME, Stack, Step, ack, con
from tests.scenario.test_commands import SENML_MANUFACTURER, path_of, read
from tests.scenario.test_secure_keys import BAD, ISSUER, KEY, NAME, NOW, SERVER, STRANGER, by_name, der, pinned
from tests.scenario.test_streams import LINKS, frame
from tests.scenario.tls_device import TlsDevice
from tests.scenario.trouble import TroubledStore
from tests.tls_client import V12, V13, VERSIONS, PskClient

OWN = ISSUER.client(KEY, NAME, now=NOW)
OTHER = ISSUER.client(new_key(), "urn:dev:os:dev2", now=NOW)
SELF_SIGNED = Issuer(STRANGER.key, STRANGER.chain[0]).client(KEY, "some serial number", now=NOW)
ALERTS = {
    "expired": "certificate_expired",
    "of tomorrow": "certificate_expired",
    "of a stranger": "unknown_ca",
    "of another name": "decrypt_error",
}


@pytest.fixture
def stack() -> Iterator[Stack]:
    identity = ServerIdentity(SERVER.key, der(SERVER)[:1])
    made = Stack(secure=ServerParameters(identity=identity), tls=identity, trusted=(ISSUER.certificate,))
    made.provision("dev1", credential=by_name())
    made.provision("dev2", credential=Credential("urn:dev:os:dev2", "", kind="x509"))
    made.provision("plain")
    yield made
    made.close()


def record(stack: Stack, name: str = "dev1") -> object:
    assert stack.store is not None
    return stack.run(stack.store.device_by_endpoint(name))


def register(device: TlsDevice, name: str = NAME) -> int:
    """The code of the answer to a Register."""
    device.say(frame(codes.POST, f"/rd?ep={name}&lt=300&lwm2m=1.1&b=T", payload=LINKS, content_format=40))
    answer = device.heard()
    device.location = "/" + "/".join(value.decode() for number, value in answer.options if number == 8)
    return answer.code


def failure(stack: Stack) -> str:
    assert stack.behind_tls is not None
    return stack.behind_tls.connections.handshakes.recent_failures(None)[0].reason


@pytest.mark.spec("ETS 404", "R-1", "MSG-11", "BIN-4", "SEC-1", "SEC-3", "RFC 8323 5.3", "LwM2M-contract 1.8")
@pytest.mark.parametrize("version", VERSIONS)
def test_a_device_registers_behind_tls_and_is_asked_over_its_connection(stack: Stack, version: ssl.TLSVersion) -> None:
    device = TlsDevice(stack, OWN, version=version).connect()
    assert device.client.tls.selected_alpn_protocol() == "coap"
    assert register(device) == codes.CREATED
    assert stack.registrations() == [NAME]
    stack.post(record(stack), read("/3/0/0"))
    request = device.heard()
    assert (request.code, path_of(request)) == (codes.GET, "/3/0/0")
    device.say(frame(codes.CONTENT, token=request.token, payload=SENML_MANUFACTURER, content_format=112))
    assert stack.values(record(stack), "/3/0/0") == ['"ACME"']
    device.say(frame(codes.POST, device.location, b"u"))
    assert device.heard().code == codes.CHANGED
    device.say(frame(codes.DELETE, device.location, b"d"))
    assert device.heard().code == codes.DELETED
    assert stack.registrations() == []


@pytest.mark.spec("SEC-3", "SEC-6", "SEC-7")
def test_a_device_behind_tls_speaks_for_nobody_else_and_with_a_certificate_for_nothing_less(stack: Stack) -> None:
    device = TlsDevice(stack, OWN).connect()
    assert register(device, "plain") == codes.BAD_REQUEST
    assert register(device, "urn:dev:os:dev2") == codes.BAD_REQUEST
    assert register(device) == codes.CREATED
    other = TlsDevice(stack, OTHER, port=50_002).connect()
    other.say(frame(codes.POST, device.location, b"u"))
    assert other.heard().code == codes.BAD_REQUEST
    plain = f"/rd?ep={NAME}&lt=300&lwm2m=1.1&b=U"
    stack << con(codes.POST, plain, mid=1, payload=LINKS, content_format=40) >> ack(codes.FORBIDDEN, mid=1)


@pytest.mark.spec("SEC-4")
def test_behind_tls_a_device_without_a_name_is_who_it_has_proven_to_be(stack: Stack) -> None:
    device = TlsDevice(stack, OWN).connect()
    device.say(frame(codes.POST, "/rd?lt=300&lwm2m=1.1&b=T", payload=LINKS, content_format=40))
    assert device.heard().code == codes.CREATED
    assert stack.registrations() == [NAME]


@pytest.mark.spec("SEC-3", "LwM2M-contract 2.2")
@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("which", BAD)
def test_a_certificate_that_will_not_do_behind_tls_is_refused_and_both_ends_hear_why(
    stack: Stack, which: str, version: ssl.TLSVersion
) -> None:
    wanted, issue = BAD[which]
    device = TlsDevice(stack, issue(), version=version).connect()
    assert device.was_closed
    assert failure(stack) == wanted
    assert stack.meters.tls.handshakes == {("failed", wanted): 1}
    assert device.client.trouble.endswith("alert_" + ALERTS[which])
    assert not device.client.heard


@pytest.mark.spec("SEC-1", "SEC-2", "LwM2M-contract 2.2")
@pytest.mark.parametrize(("version", "word"), [(V12, "handshake_failure"), (V13, "certificate_required")])
def test_without_a_certificate_nobody_comes_in(stack: Stack, version: ssl.TLSVersion, word: str) -> None:
    device = TlsDevice(stack, version=version).connect()
    assert device.was_closed
    assert failure(stack) == "no-client-certificate"
    assert device.client.trouble.endswith(word)


@pytest.mark.spec("SEC-3", "LwM2M-contract 2.2")
@pytest.mark.parametrize("version", VERSIONS)
def test_a_pinned_certificate_opens_tls_whoever_issued_it_and_no_other_does(
    stack: Stack, version: ssl.TLSVersion
) -> None:
    stack.provision("dev3", credential=pinned(SELF_SIGNED))
    assert register(TlsDevice(stack, SELF_SIGNED, version=version).connect(), "urn:dev:os:dev3") == codes.CREATED
    another = Issuer(STRANGER.key, STRANGER.chain[0]).client(new_key(), "some serial number", now=NOW)
    refused = TlsDevice(stack, another, version=version, port=50_002).connect()
    assert refused.was_closed
    assert failure(stack) == "untrusted-certificate"


@pytest.mark.spec("SEC-3", "LwM2M-contract 2.2")
def test_a_pinned_certificate_that_has_expired_does_not_open_tls(stack: Stack) -> None:
    old = Issuer(STRANGER.key, STRANGER.chain[0]).client(KEY, "serial", days=10, now=NOW.replace(year=NOW.year - 1))
    stack.provision("dev3", credential=pinned(old))
    device = TlsDevice(stack, old).connect()
    assert device.was_closed
    assert failure(stack) == "expired-certificate"


@pytest.mark.spec("BIN-4", "R-14", "LwM2M-contract 1.8")
@pytest.mark.parametrize("ending", [TlsDevice.hang_up, TlsDevice.close])
def test_a_device_whose_connection_behind_tls_ends_is_offline_until_it_is_heard_again(
    stack: Stack, ending: object
) -> None:
    device = TlsDevice(stack, OWN).connect()
    register(device)
    ending(device)  # type: ignore[operator]
    assert stack.registrations() == [NAME]
    assert "connection-lost" in stack.log(record(stack))
    stack.post(record(stack), read("/3/0/0"))
    again = TlsDevice(stack, OWN, port=50_009).connect()
    again.say(frame(codes.POST, device.location, b"u"))
    assert again.heard().code == codes.CHANGED
    assert path_of(again.heard()) == "/3/0/0"


@pytest.mark.spec("SEC-5", "BIN-4")
def test_a_connection_that_the_device_has_left_for_another_is_released(stack: Stack) -> None:
    device = TlsDevice(stack, OWN).connect()
    register(device)
    again = TlsDevice(stack, OWN, port=50_009).connect()
    assert register(again) == codes.CREATED
    device.listen()
    assert device.was_closed
    assert device.signals[-1].code == RELEASE
    assert stack.registrations() == [NAME]
    assert again.is_connected


@pytest.mark.spec("SEC-9", "RFC 8323 5.6")
@pytest.mark.parametrize("given", [None, "pinned"])
def test_changed_credentials_end_the_connections_of_their_device_and_of_nobody_else(
    stack: Stack, given: str | None
) -> None:
    device, other = TlsDevice(stack, OWN).connect(), TlsDevice(stack, OTHER, port=50_002).connect()
    register(device)
    register(other, "urn:dev:os:dev2")
    assert stack.store is not None
    credential = None if given is None else pinned(SELF_SIGNED)
    stack.run(stack.store.set_credential(record(stack).device_id, credential))  # type: ignore[attr-defined]
    stack.run(stack.devices.revoking.look())
    device.listen()
    assert device.was_closed
    assert device.signals[-1].code == ABORT
    assert "credentials of this device" in decode_abort(device.signals[-1])
    assert other.is_connected
    assert stack.registrations() == ["urn:dev:os:dev2"]
    assert TlsDevice(stack, OWN, port=50_003).connect().was_closed


@pytest.mark.spec("SEC-9")
def test_an_authority_that_is_trusted_no_more_takes_the_connections_along_that_came_by_it(stack: Stack) -> None:
    stack.run(stack.devices.revoking.trust(["aa" * 32]))
    device = TlsDevice(stack, OWN).connect()
    register(device)
    stack.run(stack.devices.revoking.trust(["bb" * 32]))
    device.listen()
    assert device.was_closed
    assert stack.registrations() == []


SECRET = bytes(range(16))


@pytest.fixture
def keyed(stack: Stack) -> Stack:
    stack.provision("dev4", credential=Credential("id4", f"psk-hex:{SECRET.hex()}"))
    return stack


@pytest.mark.spec("SEC-3")
def test_a_device_with_a_pre_shared_key_does_not_come_in_with_a_certificate(keyed: Stack) -> None:
    device = TlsDevice(keyed, ISSUER.client(KEY, "urn:dev:os:dev4", now=NOW)).connect()
    assert device.was_closed
    assert failure(keyed) == "unknown-identity"


@pytest.mark.spec("ETS 406", "SEC-3", "RFC 8323 9.1", "RFC 4279 2", "LwM2M-contract 2.2")
@pytest.mark.parametrize(
    ("version", "suite"),
    [(V12, "PSK-AES128-CCM8"), (V12, "PSK-AES128-CCM"), (V12, "PSK-AES128-GCM-SHA256"), (V13, "PSK-AES128-CCM8")],
)
def test_a_device_registers_behind_tls_with_its_pre_shared_key(
    keyed: Stack, version: ssl.TLSVersion, suite: str
) -> None:
    device = TlsDevice(keyed, client=PskClient(b"id4", SECRET, version, suite)).connect()
    assert device.is_connected, device.client.trouble
    assert register(device, "plain") == codes.BAD_REQUEST
    assert register(device, "urn:dev:os:dev4") == codes.CREATED


@pytest.mark.spec("SEC-3", "LwM2M-contract 2.2")
@pytest.mark.parametrize("version", VERSIONS)
def test_behind_tls_a_wrong_key_and_an_unknown_identity_look_the_same_from_outside(
    keyed: Stack, version: ssl.TLSVersion
) -> None:
    wrong = TlsDevice(keyed, client=PskClient(b"id4", bytes(16), version)).connect()
    assert failure(keyed) == "wrong-key"
    unknown = TlsDevice(keyed, client=PskClient(b"id9", SECRET, version), port=50_002).connect()
    assert failure(keyed) == "unknown-identity"
    assert wrong.was_closed
    assert unknown.was_closed
    assert wrong.client.trouble
    assert wrong.client.trouble == unknown.client.trouble


@pytest.mark.spec("SEC-9")
def test_a_pre_shared_key_that_is_replaced_ends_the_connection_and_the_new_one_opens(keyed: Stack) -> None:
    device = TlsDevice(keyed, client=PskClient(b"id4", SECRET)).connect()
    register(device, "urn:dev:os:dev4")
    assert keyed.store is not None
    newer = Credential("id4", f"psk-hex:{bytes(16).hex()}")
    keyed.run(keyed.store.set_credential(record(keyed, "dev4").device_id, newer))  # type: ignore[attr-defined]
    keyed.run(keyed.devices.revoking.look())
    device.listen()
    assert device.was_closed
    assert TlsDevice(keyed, client=PskClient(b"id4", SECRET), port=50_002).connect().was_closed
    assert TlsDevice(keyed, client=PskClient(b"id4", bytes(16)), port=50_003).connect().is_connected


@pytest.mark.spec("SEC-9", "Platform 12.1")
def test_a_fresh_key_is_taken_beside_the_old_one_until_it_is_used(keyed: Stack) -> None:
    fresh = Credential("id4-fresh", f"psk-hex:{bytes(16).hex()}", is_fresh=True)
    assert keyed.store is not None
    keyed.run(keyed.store.put_fresh_credential(record(keyed, "dev4").device_id, fresh))  # type: ignore[attr-defined]
    old = TlsDevice(keyed, client=PskClient(b"id4", SECRET)).connect()
    assert register(old, "urn:dev:os:dev4") == codes.CREATED
    new = TlsDevice(keyed, client=PskClient(b"id4-fresh", bytes(16)), port=50_002).connect()
    old.listen()
    assert old.was_closed
    assert register(new, "urn:dev:os:dev4") == codes.CREATED
    assert TlsDevice(keyed, client=PskClient(b"id4", SECRET), port=50_003).connect().was_closed


@pytest.mark.spec("LwM2M-contract 2.2")
def test_a_device_has_four_connections_behind_tls_and_with_a_fifth_the_oldest_ends(stack: Stack) -> None:
    devices = [TlsDevice(stack, OWN, port=51_000 + number).connect() for number in range(5)]
    for each in devices:
        each.listen()
    assert [each.was_closed for each in devices] == [True, False, False, False, False]


@pytest.mark.spec("SEC-3", "SEC-5", "LwM2M-contract 1.8")
@pytest.mark.parametrize("is_registered", [True, False])
def test_what_is_asked_of_a_device_does_not_go_to_who_comes_over_the_same_two_ends(
    is_registered: bool,
) -> None:
    store = TroubledStore()
    identity = ServerIdentity(SERVER.key, der(SERVER)[:1])
    stack = Stack(
        store=store,
        secure=ServerParameters(identity=identity),
        tls=identity,
        trusted=(ISSUER.certificate,),
        patience=30,
    )
    stack.provision("dev1", credential=by_name())
    stack.provision("dev2", credential=Credential("urn:dev:os:dev2", "", kind="x509"))
    stack.post(record(stack), read("/3/0/0"))
    one = TlsDevice(stack, OWN).connect()
    store.slow = True
    one.say(frame(codes.POST, f"/rd?ep={NAME}&lt=300&lwm2m=1.1&b=T", payload=LINKS, content_format=40))
    one.hang_up()
    two = TlsDevice(stack, OTHER).connect()
    assert two.peer == one.peer
    if is_registered:
        two.say(frame(codes.POST, "/rd?ep=urn:dev:os:dev2&lt=300&lwm2m=1.1&b=T", payload=LINKS, content_format=40))
    stack.run(caught_up(store))
    stack.run(stack._settle())
    two.listen()
    assert [each.code for each in two._heard] == [codes.CREATED] * is_registered
    two._heard.clear()
    stack.post(record(stack), read("/3/0/1"))
    two.listen()
    assert two._heard == []
    assert "connection-lost" in stack.log(record(stack))
    if is_registered:
        other = record(stack, "urn:dev:os:dev2")
        stack.post(other, read("/3/0/0"))
        two.listen()
        assert [each.code for each in two._heard] == [codes.GET]
    stack.close()


async def caught_up(store: TroubledStore) -> None:
    store.catch_up()


class Through:
    """Stands for the stack in front of a gateway: what it says goes through its connection."""

    def __init__(self, device: TlsDevice) -> None:
        self.device = device
        self.out: list[tuple[PeerId, Message]] = []

    def __lshift__(self, step: Step) -> "Through":
        said = step.message
        self.device.say(encode_frame(said.code, said.token, encode_options(said.options), said.payload))
        self.pull()
        return self

    def pull(self) -> None:
        self.device.listen()
        self.out += [(HOME, each) for each in self.device._heard]
        self.device._heard.clear()


@pytest.mark.spec("SEC-5", "LwM2M-contract 12")
def test_devices_behind_a_gateway_behind_tls_are_asked_over_its_connection() -> None:
    identity = ServerIdentity(SERVER.key, der(SERVER)[:1])
    secure, trusted = ServerParameters(identity=identity), (ISSUER.certificate,)
    stack = Stack(secure=secure, tls=identity, trusted=trusted, end_devices=5)
    stack.provision("dev1", credential=by_name())
    through: Any = Through(TlsDevice(stack, OWN).connect())
    gateway = Gateway(through, name=NAME, behind=[Behind("d7", "d01")])
    gateway.register()
    assert stack.store is not None
    end_device = stack.run(stack.store.device_by_name(stack.tenant_id, "dev1-d7"))
    stack.post(end_device, read("/3303/0/5700"))
    through.pull()
    assert [path_of(message) for _, message in through.out] == ["/d01/3303/0/5700"]
    assert "connection-lost" not in stack.log(end_device)
    stack.close()
