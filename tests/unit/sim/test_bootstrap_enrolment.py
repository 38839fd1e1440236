"""Devices that enrol, with a bootstrap server that a test plays: what it may answer, and what comes of it."""

import contextlib
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import serialize_certificates
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.coap import codes
from stellwerk.coap.actions import Drop, Respond
from stellwerk.coap.events import RequestReceived
from stellwerk.coap.options import MAX_AGE, encode_uint
from stellwerk.device.bootstrap.enrolment import read_request
from stellwerk.device.key_material import der_of, spki_of
from stellwerk.dtls.actions import CloseSession
from stellwerk.issuing import Issuer, make_authority, new_key
from stellwerk.sim.bootstrap.device import BootstrapDevice
from stellwerk.sim.bootstrap.est import _UNREADABLE, certificates_in, renewal_of, signing_request
from stellwerk.sim.happenings import Bootstrapped, Enrolled, EnrolmentFailed, Registered
from stellwerk.sim.population import Poke
from stellwerk.sim.security import PreSharedKey

from .bootstrap_bench import DISCOVER, FINISH, SERVER, BootstrapBench, Peer, account
from .test_bootstrap_security import AUTHORITY, ISSUER, KEY, SERVER_CHAIN

SECURE = f"coaps://{SERVER[0]}:{SERVER[1]}"
SCRIPT = (DISCOVER, *account(uri=SECURE, mode=4, r3=b"", r4=SERVER_CHAIN[0], r5=b""), FINISH)
LONG = "urn:dev:os:" + 70 * "7"
Answer = Callable[[RequestReceived], Respond | Drop]


def pkcs7(*chain: x509.Certificate) -> bytes:
    return serialize_certificates(list(chain), Encoding.DER)


class Registrar:
    """Answers requests of EST at the bootstrap server of ``bench``; ``answers`` come first, one for each."""

    def __init__(self, bench: BootstrapBench, issuer: Issuer = ISSUER) -> None:
        self.issuer = issuer
        self.answers: list[Answer] = []
        self.asked: list[tuple[str, bytes]] = []
        bench.bootstrap.decide = self._decide

    def _decide(self, request: RequestReceived) -> Respond | Drop | None:
        if request.path[:2] != (".well-known", "est"):
            return None
        self.asked.append((request.path[2], request.payload))
        assert request.accept == 281
        assert request.content_format == (None if request.path[2] == "crts" else 286)
        return self.answers.pop(0)(request) if self.answers else self.good(request)

    def good(self, request: RequestReceived, content_format: int = 281) -> Respond:
        if request.path[2] == "crts":
            return Respond(request.exchange, codes.CONTENT, (), 281, (), pkcs7(AUTHORITY.chain[0]))
        wanted = read_request(request.payload)
        made = self.issuer.enrolled(wanted.key, wanted.name)
        body = der_of(made) if content_format == 287 else pkcs7(self.issuer.certificate, made)
        return Respond(request.exchange, codes.CHANGED, (), content_format, (), body)

    @property
    def functions(self) -> list[str]:
        return [each for each, _ in self.asked]


def bench_of(**options: Any) -> BootstrapBench:
    made = BootstrapBench(
        SCRIPT, keys={b"bs-1": KEY}, chain=SERVER_CHAIN, credentials=PreSharedKey(b"bs-1", KEY), **options
    )
    made.server = Peer(made.network, SERVER, {}, chain=SERVER_CHAIN)
    return made


@pytest.fixture
def bench() -> BootstrapBench:
    return bench_of()


@pytest.fixture
def registrar(bench: BootstrapBench) -> Registrar:
    return Registrar(bench)


def reply(code: int, payload: bytes = b"", content_format: int | None = None, max_age_s: int | None = None) -> Answer:
    options = () if max_age_s is None else ((MAX_AGE, encode_uint(max_age_s)),)
    return lambda request: Respond(request.exchange, code, (), content_format, options, payload)


def ignore(request: RequestReceived) -> Drop:
    return Drop(request.exchange)


def why(bench: BootstrapBench) -> list[tuple[str, str]]:
    return [(each.reason, each.detail) for each in bench.of(EnrolmentFailed)]


@pytest.mark.spec("LwM2M-contract 2.5", "RFC 9148 4.3", "RFC 9148 4.4", "RFC 9148 4.5")
@pytest.mark.parametrize("content_format", [281, 287])
def test_it_asks_for_the_authority_and_for_a_certificate_in_one_session(
    bench: BootstrapBench, registrar: Registrar, content_format: int
):
    registrar.answers = [registrar.good, lambda request: registrar.good(request, content_format)]
    device = bench.start()
    assert registrar.functions == ["crts", "sen"]
    assert bench.of(Registered)
    # The authority is known from then on.
    bench.devices.submit(Poke(device, BootstrapDevice.renew))
    bench.network.run_for(1)
    assert registrar.functions == ["crts", "sen", "sren"]
    assert len(bench.bootstrap.established) == 1
    assert [len(bench.server.established), len(bench.of(Registered))] == [2, 2]


@pytest.mark.spec("RFC 9148 4.7")
def test_where_the_server_wants_time_it_comes_after_max_age_with_the_identical_request(
    bench: BootstrapBench, registrar: Registrar
):
    registrar.answers = [registrar.good, reply(codes.SERVICE_UNAVAILABLE, max_age_s=30)]
    bench.start(29)
    assert registrar.functions == ["crts", "sen"]
    bench.network.run_for(2)
    assert registrar.functions == ["crts", "sen", "sen"]
    assert registrar.asked[1] == registrar.asked[2]
    assert why(bench) == [("refused", "5.03")]
    assert bench.of(Registered)


def test_a_server_that_is_not_ready_for_long_is_asked_as_long(bench: BootstrapBench, registrar: Registrar):
    registrar.answers = [reply(codes.SERVICE_UNAVAILABLE)] * 5
    bench.start(310)
    assert registrar.functions == [*["crts"] * 6, "sen"]
    assert len(bench.of(Bootstrapped)) == 1


STRANGERS = {
    "stranger": "the certificate is not of the authority that the server names",
    "authority": "a signature in it is not of the authority",
}
"""Other authorities, the second of the same name."""
FOR_ANOTHER_KEY = pkcs7(ISSUER.enrolled(new_key().public_key(), "dev-1"))
NO_CERTIFICATES: dict[str, tuple[Answer, str]] = {
    "a refusal": (reply(codes.FORBIDDEN, b"not you"), "4.03 not you"),
    "another success": (reply(codes.CREATED, FOR_ANOTHER_KEY, 281), "2.01"),
    "another format": (reply(codes.CHANGED, b"{}", 50), "certificates come as Content-Format 281 or 287, not 50"),
    "no format": (reply(codes.CHANGED), "certificates come as Content-Format 281 or 287, not None"),
    "garbage": (reply(codes.CHANGED, b"garbage", 281), ""),
    "a certificate that is none": (reply(codes.CHANGED, b"garbage", 287), ""),
    "a certificate for another key": (reply(codes.CHANGED, FOR_ANOTHER_KEY, 281), "not for the key"),
}


@pytest.mark.spec("LwM2M-contract 2.5")
@pytest.mark.parametrize("what", NO_CERTIFICATES)
def test_what_is_no_certificate_of_its_own_is_not_kept_and_another_key_is_tried(
    bench: BootstrapBench, registrar: Registrar, what: str
):
    answer, detail = NO_CERTIFICATES[what]
    registrar.answers = [registrar.good, answer]
    bench.start(10)
    ((reason, said),) = why(bench)
    assert reason == ("refused" if what in ("a refusal", "another success") else "answer")
    assert detail in said
    assert registrar.functions == ["crts", "sen", "sen"]
    assert registrar.asked[1] != registrar.asked[2]
    assert bench.of(Registered)


@pytest.mark.parametrize("name", STRANGERS)
def test_a_certificate_of_another_authority_is_not_kept(bench: BootstrapBench, name: str):
    stranger = make_authority(name)
    registrar = Registrar(bench, Issuer(stranger.key, stranger.chain[0]))
    bench.start(2)
    assert why(bench) == [("answer", STRANGERS[name])]
    assert registrar.functions == ["crts", "sen"]
    assert not bench.of(Enrolled)


def test_a_request_without_an_answer_is_made_again_in_another_session(bench: BootstrapBench, registrar: Registrar):
    # As often as it is repeated.
    registrar.answers = [registrar.good, *[ignore] * 5]
    bench.start(100)
    assert [reason for reason, _ in why(bench)] == ["silent"]
    assert registrar.asked[1] == registrar.asked[-1]
    assert len(bench.bootstrap.established) == 2
    assert bench.of(Registered)


def test_where_the_server_ends_the_session_it_makes_another(bench: BootstrapBench, registrar: Registrar):
    def close(request: RequestReceived) -> Drop:
        bench.bootstrap.engine.submit(CloseSession(request.peer), bench.network.now)
        return Drop(request.exchange)

    registrar.answers = [close]
    bench.start(10)
    assert [reason for reason, _ in why(bench)] == ["lost"]
    assert bench.of(Registered)


@pytest.mark.parametrize("conditions", [{"loss": 0.15}, {"duplication": 0.4, "jitter_s": 1.0}, {"reorder": 0.3}])
def test_on_a_bad_network_it_asks_for_no_more_certificates_than_one(conditions: dict[str, float]):
    bench = bench_of(network={**conditions, "seed": 3})
    registrar = Registrar(bench)
    device = bench.start(240)
    assert device.is_registered
    assert registrar.functions == ["crts", "sen"]


def test_without_a_bootstrap_server_nobody_renews():
    bench = bench_of(account_timeout_s=30, renew_every_s=60.0)
    registrar = Registrar(bench)
    device = bench.start(100)
    assert registrar.functions == ["crts", "sen"]
    assert [reason for reason, _ in why(bench)] == ["no-account"]
    assert device.is_registered


@pytest.mark.parametrize("name", ["dev-1", LONG, "d" * 40 + "." + "d" * 40 + ".example"])
def test_its_signing_requests_name_it(name: str):
    key = new_key()
    request = read_request(signing_request(key, name))
    assert (spki_of(request.key), request.name) == (spki_of(key.public_key()), name)


def test_a_certificate_is_to_be_renewed_when_four_fifths_of_its_time_are_over():
    made = ISSUER.enrolled(new_key().public_key(), "dev-1", days=9, now=datetime(2026, 1, 2, tzinfo=UTC))
    # It counts from a day before it was signed.
    assert renewal_of((der_of(made),)) == datetime(2026, 1, 9, tzinfo=UTC)


@settings(max_examples=50)
@given(st.sampled_from([None, 281, 287, 50]), st.binary(max_size=80))
def test_any_answer_is_read_or_refused(content_format: int | None, payload: bytes):
    with contextlib.suppress(_UNREADABLE):
        certificates_in(content_format, payload)
