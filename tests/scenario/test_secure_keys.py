"""Raw public keys and certificates, from the handshake to the Register."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from cryptography.hazmat.primitives.serialization import Encoding

from stellwerk.app.credentials import certificate_credential, raw_key_credential
from stellwerk.coap.codes import BAD_REQUEST, CREATED, POST
from stellwerk.device.key_material import spki_of, to_base64
from stellwerk.device.record import X509, Credential
from stellwerk.dtls.parameters import ServerIdentity, ServerParameters
from stellwerk.issuing import Issued, Issuer, make_authority, new_key
from tests.scenario.secure_device import SecureDevice
from tests.scenario.stack import WALL_MS, Stack

NOW = datetime.fromtimestamp(WALL_MS / 1000, UTC)
AUTHORITY = make_authority("Authority of tests", NOW)
STRANGER = make_authority("Authority of nobody", NOW)
ISSUER = Issuer(AUTHORITY.key, AUTHORITY.chain[0])
SERVER = ISSUER.server(new_key(), "server.example", ["server.example"], NOW)
KEY = new_key()
NAME = "urn:dev:os:dev1"


def der(issued: Issued) -> tuple[bytes, ...]:
    return tuple(each.public_bytes(Encoding.DER) for each in issued.chain)


def by_name() -> Credential:
    return Credential(NAME, "", kind=X509)


def raw(key: EllipticCurvePrivateKey) -> Credential:
    return raw_key_credential(NAME, to_base64(spki_of(key.public_key())), WALL_MS)


def pinned(issued: Issued) -> Credential:
    return certificate_credential(to_base64(der(issued)[0]), WALL_MS)


@pytest.fixture
def stack() -> Iterator[Stack]:
    identity = ServerIdentity(SERVER.key, der(SERVER)[:1])
    made = Stack(secure=ServerParameters(identity=identity), trusted=AUTHORITY.chain)
    yield made
    made.close()


def with_raw_key(stack: Stack, key: EllipticCurvePrivateKey = KEY) -> SecureDevice:
    return SecureDevice(stack, key=b"", own_key=key, raw_keys=True).connect()


def with_certificate(stack: Stack, issued: Issued) -> SecureDevice:
    return SecureDevice(stack, own_key=issued.key, chain=der(issued)).connect()


def reason(stack: Stack) -> str:
    return stack.sessions.handshakes.recent_failures(None)[0].reason


@pytest.mark.spec("SEC-3", "RFC 7250 4")
def test_a_device_registers_with_its_raw_public_key_and_as_nobody_else(stack: Stack) -> None:
    stack.provision("dev1", credential=raw(KEY))
    stack.provision("plain")
    device = with_raw_key(stack)
    assert device.register("/rd?ep=plain&lt=300&lwm2m=1.1&b=U") == BAD_REQUEST
    assert device.register() == CREATED
    assert stack.registrations() == [NAME]


@pytest.mark.spec("SEC-3", "RFC 7250 4")
def test_another_raw_public_key_is_unknown(stack: Stack) -> None:
    stack.provision("dev1", credential=raw(KEY))
    assert with_raw_key(stack, new_key()).session is None
    assert reason(stack) == "unknown-identity"


@pytest.mark.spec("SEC-3", "LwM2M-contract 2.2")
def test_a_certificate_of_a_trusted_authority_names_the_device(stack: Stack) -> None:
    stack.provision("dev1", credential=by_name())
    device = with_certificate(stack, ISSUER.client(KEY, NAME, now=NOW))
    assert device.register(f"/rd?ep={NAME}&lt=300&lwm2m=1.1&b=U") == CREATED
    assert stack.registrations() == [NAME]


@pytest.mark.spec("SEC-3", "LwM2M-contract 2.2")
def test_a_pinned_certificate_opens_the_door_whoever_issued_it(stack: Stack) -> None:
    issued = Issuer(STRANGER.key, STRANGER.chain[0]).client(KEY, "some serial number", now=NOW)
    stack.provision("dev1", credential=pinned(issued))
    assert with_certificate(stack, issued).register() == CREATED


LONG_AGO = NOW - timedelta(days=400)
BAD: dict[str, tuple[str, Callable[[], Issued]]] = {
    "expired": ("expired-certificate", lambda: ISSUER.client(KEY, NAME, days=10, now=LONG_AGO)),
    "of tomorrow": ("not-yet-valid-certificate", lambda: ISSUER.client(KEY, NAME, now=NOW + timedelta(days=9))),
    "of a stranger": (
        "untrusted-certificate",
        lambda: Issuer(STRANGER.key, STRANGER.chain[0]).client(KEY, NAME, now=NOW),
    ),
    "of another name": ("unknown-identity", lambda: ISSUER.client(KEY, "urn:dev:os:dev9", now=NOW)),
}


@pytest.mark.spec("SEC-3", "LwM2M-contract 2.2")
@pytest.mark.parametrize("which", BAD)
def test_a_certificate_that_will_not_do_is_refused_and_says_why(stack: Stack, which: str) -> None:
    wanted, issue = BAD[which]
    stack.provision("dev1", credential=by_name())
    device = with_certificate(stack, issue())
    assert device.session is None
    assert reason(stack) == wanted
    assert stack.meters.secure.handshakes == {("failed", wanted): 1}


@pytest.mark.spec("SEC-3", "LwM2M-contract 2.2")
def test_a_pinned_certificate_that_has_expired_is_refused(stack: Stack) -> None:
    issued = ISSUER.client(KEY, NAME, days=10, now=LONG_AGO)
    stack.provision("dev1", credential=pinned(issued))
    assert with_certificate(stack, issued).session is None
    assert reason(stack) == "expired-certificate"


@pytest.mark.spec("SEC-9", "Platform 5")
def test_an_authority_that_was_distrusted_while_no_server_ran_opens_no_door(stack: Stack) -> None:
    record = stack.provision("dev1", credential=by_name())
    stack.run(stack.devices.revoking.trust(["aa" * 32]))
    device = with_certificate(stack, ISSUER.client(KEY, NAME, now=NOW))
    device.register()
    again = Stack(store=stack.store, clock=stack.clock, seed=1, secure=stack.secure, trusted=STRANGER.chain)
    again.run(again.devices.revoking.trust(["bb" * 32]))
    assert again.run(again.store.sessions_of(record.device_id)) == []  # type: ignore[union-attr]
    device.stack = again
    assert device.request(POST, device.location) is None
    assert with_certificate(again, ISSUER.client(KEY, NAME, now=NOW)).session is None
    again.close()
