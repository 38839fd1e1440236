"""Devices that enrol at the bootstrap server (security mode 4, RFC 9148): played by hand, over DTLS."""

import json
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization.pkcs7 import load_der_pkcs7_certificates
from cryptography.x509 import load_der_x509_certificate

from stellwerk.app.handlers.enrolling import Authority
from stellwerk.app.ports import StoreFailing
from stellwerk.coap.codes import (
    BAD_REQUEST,
    CHANGED,
    CONTENT,
    FORBIDDEN,
    GET,
    METHOD_NOT_ALLOWED,
    NOT_ACCEPTABLE,
    NOT_FOUND,
    POST,
    PUT,
    REQUEST_ENTITY_INCOMPLETE,
    REQUEST_ENTITY_TOO_LARGE,
    SERVICE_UNAVAILABLE,
    UNAUTHORIZED,
    UNSUPPORTED_CONTENT_FORMAT,
)
from stellwerk.coap.message import Message
from stellwerk.coap.options import BLOCK1, BLOCK2, encode_block, read_options
from stellwerk.core.errors import UserError
from stellwerk.device.bootstrap.configuration import ServerEntry, parse_bootstrap, render_bootstrap
from stellwerk.device.key_material import der_of, key_of, spki_of, to_base64
from stellwerk.device.record import PSK, X509, Credential
from stellwerk.dtls.parameters import ServerIdentity, ServerParameters
from stellwerk.issuing import new_key
from tests.scenario.bootstrap_port import BootstrapPort, Client, SecureClient, psk_block, with_bootstrap
from tests.scenario.oscore_device import OscoreDevice
from tests.scenario.secure_device import SecureDevice
from tests.scenario.stack import Stack
from tests.scenario.test_bootstrap_keys import FOR_SERVER, KEY, MATERIAL, NAME, everything, value
from tests.scenario.test_bootstrap_oscore import THERE
from tests.scenario.test_bootstrap_oscore import provision as bootstrapped_with_oscore
from tests.scenario.test_secure_keys import AUTHORITY, ISSUER, NOW, SERVER, der
from tests.unit.device.bootstrap.test_enrolment import signing_request

ENROLS = ServerEntry(short_id=123, mode=X509, host="dm.example", port=5684, keys="est")
BY_PSK = ServerEntry(short_id=123, mode=PSK, host="dm.example", port=5684)
OWN = new_key()
CRTS, SEN, SREN = (f"/.well-known/est/{each}" for each in ("crts", "sen", "sren"))
CERTIFICATE = der(AUTHORITY)[0]


def enrol(key: Any, endpoint: str) -> bytes:
    return der_of(ISSUER.enrolled(key, endpoint, now=NOW))


def cannot(*_: Any) -> bytes:
    raise UserError("/var/lib/stellwerk/keys/ca.key: there is no authority here")


@pytest.fixture
def stack() -> Iterator[Stack]:
    identity = ServerIdentity(SERVER.key, der(SERVER)[:1])
    made = Stack(secure=ServerParameters(identity=identity), trusted=AUTHORITY.chain)
    yield made
    made.close()


@pytest.fixture
def port(stack: Stack) -> BootstrapPort:
    made = BootstrapPort(
        stack, secure=ServerParameters(), own=MATERIAL, authority=Authority(lambda: CERTIFICATE, enrol)
    )
    made.profile(ENROLS)
    return made


@pytest.fixture
def device(stack: Stack) -> Any:
    return stack.provision("dev1", credential=with_bootstrap(psk_block("bs-dev1", KEY)))


@pytest.fixture
def client(port: BootstrapPort, device: Any) -> SecureClient:
    return SecureClient(port, b"bs-dev1", KEY).connect()


def fresh(port: BootstrapPort, device: Any) -> Credential | None:
    return port.stack.run(port.stack.store.fresh_credential(device.device_id))  # type: ignore[no-any-return]


def ask(client: Client, target: str, csr: bytes | None = None, accept: int | None = None, **more: Any) -> Message:
    extra = [] if accept is None else [(17, accept.to_bytes(2, "big"))]
    if csr is None:
        return client.ask(target, GET, extra=extra, **more)
    return client.ask(target, payload=csr, extra=extra, **{"content_format": 286, **more})


def certificate_in(answer: Message) -> bytes:
    content_format = read_options(answer.options).content_format
    if content_format == 287:
        return answer.payload
    assert content_format == 281
    (found,) = load_der_pkcs7_certificates(answer.payload)
    return der_of(found)


def registers(stack: Stack, certificate: bytes, key: Any = OWN, port: int = 41_000) -> bool:
    """Whether the device gets in at the server of device management."""
    device = SecureDevice(stack, own_key=key, chain=(certificate,), port=port)
    device.connect()
    return device.session is not None and device.register() == 0x41


@pytest.mark.spec("ETS 10", "LwM2M-contract 2.5", "B-8", "SEC-10", "SEC-9")
@pytest.mark.spec("RFC 9148 4.1", "RFC 9148 4.2", "RFC 9148 4.5")
def test_a_device_is_bootstrapped_enrols_and_registers_with_its_certificate(
    port: BootstrapPort, device: Any, client: SecureClient
) -> None:
    assert client.bootstrap(f"/bs?ep={NAME}")[-1] == "POST /bs"
    assert value(client, "/0/1/0") == "coaps://dm.example:5684"
    assert value(client, "/0/1/2") == 4
    assert (value(client, "/0/1/3"), value(client, "/0/1/5")) == (b"", b"")
    assert value(client, "/0/1/4") == MATERIAL.certificate
    assert port.ends_of(device) == [("configured", "")]
    authorities = ask(client, CRTS)
    assert (authorities.code, certificate_in(authorities)) == (CONTENT, CERTIFICATE)
    assert fresh(port, device) is None
    answer = ask(client, SEN, signing_request(key=OWN))
    assert answer.code == CHANGED
    found = load_der_x509_certificate(certificate_in(answer))
    assert key_of(found) == spki_of(OWN.public_key())
    found.verify_directly_issued_by(AUTHORITY.chain[0])
    kept = fresh(port, device)
    assert kept is not None
    assert kept.kind == X509
    assert registers(port.stack, certificate_in(answer))
    # It was used, so it is the one that holds.
    assert fresh(port, device) is None
    stored = port.stack.run(port.stack.store.credential_of(device.device_id))
    assert stored.key_id == kept.key_id
    told = everything(port, device)
    assert "bootstrap-est-crts" in told
    assert "bootstrap-est-sen" in told


@pytest.mark.spec("LwM2M-contract 2.5", "Design 7")
def test_what_happens_while_a_session_runs_is_in_its_history(
    port: BootstrapPort, device: Any, client: SecureClient
) -> None:
    assert client.ask(f"/bs?ep={NAME}").code == CHANGED
    client.run(1)
    # The answer to the next step is awaited when the device enrols.
    step = client.next()
    assert ask(client, SEN, signing_request("urn:dev:os:dev2", OWN)).code == FORBIDDEN
    assert ask(client, SEN, signing_request(key=OWN), 287).code == CHANGED
    client.react(step)
    client.run()
    newest = port.sessions_of(device)
    (session,) = [each for each in newest if each.state.value == "configured"]
    enrolments = [(each.operation, each.status) for each in session.steps if each.operation.startswith("EST")]
    assert enrolments == [("EST-sen", 403), ("EST-sen", 204)]
    others = [each for each in session.steps if not each.operation.startswith("EST")]
    assert all(each.status for each in others)
    assert others[-1].operation == "Bootstrap-Finish"


@pytest.mark.spec("LwM2M-contract 2.5", "SEC-9", "RFC 9148 4.2")
def test_a_device_enrols_again_and_what_it_had_holds_until_it_comes_with_the_new_one(
    port: BootstrapPort, device: Any, client: SecureClient
) -> None:
    first = certificate_in(ask(client, SEN, signing_request(key=OWN)))
    assert registers(port.stack, first)
    other = new_key()
    again = ask(SecureClient(port, b"bs-dev1", KEY, port=40_100).connect(), SREN, signing_request(key=other))
    assert again.code == CHANGED
    second = certificate_in(again)
    assert registers(port.stack, first, port=41_001)
    assert registers(port.stack, second, other, port=41_002)
    assert not registers(port.stack, first, port=41_003)


@pytest.mark.spec("LwM2M-contract 2.5", "RFC 9148 4.3")
@pytest.mark.parametrize(("accept", "content_format"), [(None, 281), (281, 281), (287, 287)])
def test_certificates_come_in_the_format_that_is_asked_for(
    client: SecureClient, accept: int | None, content_format: int
) -> None:
    for answer in (ask(client, CRTS, accept=accept), ask(client, SEN, signing_request(key=OWN), accept)):
        assert read_options(answer.options).content_format == content_format
        assert certificate_in(answer)


BROKEN = signing_request(key=OWN)[:-1] + bytes([signing_request(key=OWN)[-1] ^ 1])
REFUSED: dict[str, tuple[int, str, bytes | None, dict[str, Any]]] = {
    "a signature of another key": (BAD_REQUEST, SEN, BROKEN, {}),
    "garbage": (BAD_REQUEST, SEN, b"hello", {}),
    "nothing": (BAD_REQUEST, SREN, b"", {}),
    "the name of another": (FORBIDDEN, SEN, signing_request("urn:dev:os:dev2", OWN), {}),
    "another format of the answer": (NOT_ACCEPTABLE, SEN, signing_request(key=OWN), {"accept": 60}),
    "another format of authorities": (NOT_ACCEPTABLE, CRTS, None, {"accept": 40}),
    "another format of the request": (UNSUPPORTED_CONTENT_FORMAT, SEN, signing_request(), {"content_format": 42}),
    "no format of the request": (UNSUPPORTED_CONTENT_FORMAT, SEN, signing_request(), {"content_format": None}),
}


@pytest.mark.spec("LwM2M-contract 2.5", "RFC 9148 4.3", "RFC 9148 4.5")
@pytest.mark.parametrize("what", REFUSED)
def test_what_is_wrong_is_refused_with_a_text_and_nothing_is_kept(
    port: BootstrapPort, device: Any, client: SecureClient, what: str
) -> None:
    code, target, csr, more = REFUSED[what]
    answer = ask(client, target, csr, **more)
    assert answer.code == code
    assert answer.payload
    assert fresh(port, device) is None
    assert port.sessions_of(device)[0].state.value == "refused"
    # The next one is taken, over the same session.
    assert ask(client, SEN, signing_request(key=OWN)).code == CHANGED


@pytest.mark.spec("LwM2M-contract 2.5", "B-15", "SEC-3")
@pytest.mark.parametrize("name", ["urn:dev:os:dev1", "dev1", "dev:os:dev1"])
def test_a_device_enrols_by_each_of_its_names_and_its_certificate_bears_that(
    port: BootstrapPort, device: Any, client: SecureClient, name: str
) -> None:
    answer = ask(client, SEN, signing_request(name, OWN), 287)
    assert answer.code == CHANGED
    subject = load_der_x509_certificate(answer.payload).subject
    assert [each.value for each in subject] == [name]


@pytest.mark.spec("LwM2M-contract 2.5", "B-15", "SEC-3")
def test_nobody_gets_a_certificate_for_a_name_that_is_anothers_at_the_other_server(port: BootstrapPort) -> None:
    port.stack.provision("dev2")
    credential = with_bootstrap(psk_block("bs-dev1", KEY), endpoint="dev2")
    device = port.stack.provision("dev1", credential=credential)
    client = SecureClient(port, b"bs-dev1", KEY).connect()
    assert client.ask("/bs?ep=dev2").code == CHANGED
    for name in ("dev2", "urn:dev:os:dev2", "nobody"):
        assert ask(client, SEN, signing_request(name, OWN)).code == FORBIDDEN
    assert fresh(port, device) is None
    assert ask(client, SEN, signing_request("dev1", OWN)).code == CHANGED


@pytest.mark.spec("LwM2M-contract 2.5", "Design 7")
def test_a_request_that_is_too_long_is_refused_before_all_of_it_is_there(client: SecureClient) -> None:
    for number in range(2):
        block = client.ask(
            SEN,
            payload=bytes(1024),
            content_format=286,
            extra=[(BLOCK1, encode_block(number, True, 6))],
        )
    block = client.ask(SEN, payload=b"x", content_format=286, extra=[(BLOCK1, encode_block(2, False, 6))])
    assert block.code == REQUEST_ENTITY_TOO_LARGE


@pytest.mark.spec("LwM2M-contract 2.5", "RFC 7959 2.4", "RFC 9148 4.6")
def test_a_certificate_is_fetched_in_blocks_and_a_block_of_none_is_not_another_certificate(
    port: BootstrapPort, device: Any, client: SecureClient
) -> None:
    csr, got, more, number = signing_request(key=OWN), b"", True, 0
    while more:
        extra = [(17, b"\x01\x1f"), (BLOCK2, encode_block(number, False, 2))]
        answer = client.ask(SEN, payload=b"" if number else csr, content_format=286, extra=extra)
        assert answer.code == CHANGED
        block = read_options(answer.options).block2
        assert block is not None
        got, more, number = got + answer.payload, block.more, number + 1
    assert number > 3
    kept = fresh(port, device)
    assert kept is not None
    assert to_base64(got) == kept.secret
    extra = [(17, b"\x01\x1f"), (BLOCK2, encode_block(1, False, 3))]
    assert client.ask(SREN, payload=csr, content_format=286, extra=extra).code == REQUEST_ENTITY_INCOMPLETE
    assert fresh(port, device) == kept


@pytest.mark.spec("LwM2M-contract 2.5", "RFC 9148 4.1", "RFC 9148 4.2")
def test_other_methods_and_functions_are_not_there(client: SecureClient) -> None:
    assert client.ask(CRTS, POST).code == METHOD_NOT_ALLOWED
    assert client.ask(SEN, GET).code == METHOD_NOT_ALLOWED
    assert client.ask(SEN, PUT).code == METHOD_NOT_ALLOWED
    assert client.ask("/.well-known/est/skg", POST).code == NOT_FOUND
    assert client.ask("/.well-known/est", GET).code == NOT_FOUND


@pytest.mark.spec("LwM2M-contract 2.5", "SEC-3", "RFC 9148 4")
def test_without_security_nobody_enrols(port: BootstrapPort) -> None:
    device = port.stack.provision("dev1")
    assert ask(Client(port), CRTS).code == UNAUTHORIZED
    assert ask(Client(port), SEN, signing_request(key=OWN)).code == UNAUTHORIZED
    assert fresh(port, device) is None


@pytest.mark.spec("LwM2M-contract 2.5", "B-10")
def test_a_device_that_could_not_enrol_is_not_given_such_an_account(port: BootstrapPort) -> None:
    in_the_open = port.stack.provision("dev1")
    assert Client(port).ask(f"/bs?ep={NAME}").code == BAD_REQUEST
    once = port.stack.provision("dev2", credential=with_bootstrap(psk_block("bs-dev2", KEY), oneTime=True))
    client = SecureClient(port, b"bs-dev2", KEY).connect()
    assert client.ask("/bs").code == BAD_REQUEST
    assert ask(client, SEN, signing_request("urn:dev:os:dev2", OWN)).code == FORBIDDEN
    assert "DTLS only" in everything(port, in_the_open)
    assert "oneTime" in everything(port, once)
    assert fresh(port, once) is None


@pytest.mark.spec("LwM2M-contract 2.5", "LwM2M-contract 2.6")
def test_over_oscore_without_dtls_nobody_enrols(port: BootstrapPort) -> None:
    device = bootstrapped_with_oscore(port)
    speaking = OscoreDevice(port, THERE)  # type: ignore[arg-type]
    assert speaking.ask(POST, f"/bs?ep={NAME}") == BAD_REQUEST
    assert speaking.ask(GET, CRTS) == UNAUTHORIZED
    assert "DTLS only" in everything(port, device)


@pytest.mark.spec("LwM2M-contract 2.5")
def test_only_while_the_profile_of_the_device_says_so(port: BootstrapPort, device: Any, client: SecureClient) -> None:
    port.profile(BY_PSK)
    for answer in (ask(client, CRTS), ask(client, SEN, signing_request(key=OWN))):
        assert (answer.code, b"profile" in answer.payload) == (FORBIDDEN, True)
    port.profile(replace(ENROLS, short_id=7), BY_PSK)
    assert ask(client, SEN, signing_request(key=OWN)).code == CHANGED


@pytest.mark.spec("LwM2M-contract 2.5", "SEC-3")
def test_who_shows_what_is_not_the_devices_any_more_enrols_no_more(
    port: BootstrapPort, device: Any, client: SecureClient
) -> None:
    changed = with_bootstrap(psk_block("bs-dev1-new", FOR_SERVER))
    port.stack.run(port.stack.store.set_credential(device.device_id, changed))  # type: ignore[union-attr]
    assert ask(client, SEN, signing_request(key=OWN)).code == BAD_REQUEST
    assert fresh(port, device) is None


@pytest.mark.spec("LwM2M-contract 2.5")
@pytest.mark.parametrize("authority", [None, Authority(cannot, cannot)])
def test_without_an_authority_the_device_comes_again_later(stack: Stack, authority: Authority | None) -> None:
    port = BootstrapPort(stack, secure=ServerParameters(), own=MATERIAL, authority=authority)
    port.profile(ENROLS)
    stack.provision("dev1", credential=with_bootstrap(psk_block("bs-dev1", KEY)))
    client = SecureClient(port, b"bs-dev1", KEY).connect()
    for answer in (ask(client, CRTS), ask(client, SEN, signing_request(key=OWN))):
        assert answer.code == SERVICE_UNAVAILABLE
        assert b"certificates" in answer.payload
        assert b"/var" not in answer.payload


@pytest.mark.spec("Design 7")
def test_a_certificate_that_cannot_be_kept_does_not_leave(
    port: BootstrapPort, client: SecureClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(*_: Any, **__: Any) -> None:
        raise StoreFailing("disk full")

    monkeypatch.setattr(port.stack.store, "put_fresh_credential", fails)
    assert ask(client, SEN, signing_request(key=OWN)).code == SERVICE_UNAVAILABLE


@pytest.mark.spec("Design 7")
def test_a_device_that_asks_too_often_comes_again_later(client: SecureClient) -> None:
    answers = [ask(client, CRTS).code for _ in range(32)]
    assert set(answers[:30]) == {CONTENT}
    assert answers[-1] == SERVICE_UNAVAILABLE


def test_a_profile_as_people_write_it_says_so() -> None:
    text = '{"bootstrap": [{"securityMode": "X509", "keys": "est", "host": "dm.example", "port": 5684}]}'
    parsed = parse_bootstrap(json.loads(text))
    assert parsed.servers == (ENROLS,)
    assert parse_bootstrap(render_bootstrap(parsed)) == parsed
