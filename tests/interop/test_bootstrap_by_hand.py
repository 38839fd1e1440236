"""Devices that go wrong on their way to a server, each in one way: on aiocoap, by hand, and libcoap's client. Whatever
happens has a name in the device's history."""

import json
import shutil
import subprocess
from base64 import urlsafe_b64decode
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import aiocoap
import pytest
from aiocoap import (
    BAD_REQUEST,
    CHANGED,
    FORBIDDEN,
    INTERNAL_SERVER_ERROR,
    METHOD_NOT_ALLOWED,
    NOT_ACCEPTABLE,
    NOT_FOUND,
    UNAUTHORIZED,
    UNSUPPORTED_CONTENT_FORMAT,
)
from aiocoap_device import FACTORY, SILENCE, ScriptedDevice
from bootstrapped import Bootstrapped, dm, set_profile
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.hazmat.primitives.serialization.pkcs7 import load_der_pkcs7_certificates
from raw_coap import (
    CON,
    CONTENT,
    CONTENT_FORMAT,
    GET,
    LINK_FORMAT,
    POST,
    RESET,
    Message,
    RawDevice,
    Reply,
    path_options,
    query_options,
    uint,
)
from served import Served, wait_until
from tests.unit.device.bootstrap.test_enrolment import signing_request

from stellwerk.issuing import new_key

HAS_ONE = '</>;lwm2m=1.1,</0/0>,</0/1>;ssid=123;uri="coap://old:5683",</1/0>;ssid=123,</3/0>'
LIBCOAP = "coap-client-openssl"


@pytest.fixture(scope="module")
def server(serve_module: Callable[..., Served]) -> Served:
    server = serve_module().start()
    set_profile(server, "one", dm(server))
    set_profile(server, "one-psk", dm(server, "PSK"))
    return server


@pytest.fixture
def known(server: Served, tmp_path: Path) -> Bootstrapped:
    """A device without keys that gets one server."""
    return Bootstrapped(server, "none", "one", tmp_path)


@pytest.fixture
def scripted(server: Served) -> Iterator[Callable[..., ScriptedDevice]]:
    made: list[ScriptedDevice] = []

    def make(answers: dict[str, Any] | None = None, holds: str = FACTORY) -> ScriptedDevice:
        made.append(ScriptedDevice(server.bootstrap_coap_port, answers, holds))
        return made[-1]

    yield make
    for each in made:
        each.close()


Make = Callable[..., ScriptedDevice]
WRITES = ["PUT /0/1", "PUT /1/0"]
ALL = ["GET /", *WRITES, "POST /bs"]
BLIND = ["GET /", "PUT /0/1", "PUT /1/1", "POST /bs"]
"""Where nobody knows what the device has, instance 0 may be the bootstrap server's account."""


@pytest.mark.spec("B-1", "B-2", "B-4", "B-5", "B-7", "B-13", "B-14", "B-16", "ETS 0", "ETS 9", "Platform 12.1")
@pytest.mark.parametrize(
    ("holds", "answers", "steps", "ending"),
    [
        # Discover may fail or make no sense.
        (FACTORY, {"GET /": NOT_FOUND}, BLIND, ("configured", "")),
        (FACTORY, {"GET /": METHOD_NOT_ALLOWED}, BLIND, ("configured", "")),
        (FACTORY, {"GET /": INTERNAL_SERVER_ERROR}, BLIND, ("configured", "")),
        (FACTORY, {"GET /": b"\xff\x00 </0/0 no link format"}, BLIND, ("configured", "")),
        (FACTORY, {"GET /": b""}, ALL, ("configured", "")),
        ('lwm2m="1.0",</0>,</0/0>,</1>,</3/0>', {}, ALL, ("configured", "")),
        # Nothing to delete is no failure, a Delete that is refused is one.
        (HAS_ONE, {"DELETE /0/1": NOT_FOUND}, ["GET /", "DELETE /0/1", "DELETE /1/0", *WRITES, "POST /bs"],
         ("configured", "")),
        (HAS_ONE, {"DELETE /0/1": BAD_REQUEST}, ["GET /", "DELETE /0/1"], ("step failed", "delete-refused")),
        # Neither Finish nor anything else after a Write that was refused.
        (FACTORY, {"PUT /0/1": BAD_REQUEST}, ["GET /", "PUT /0/1"], ("step failed", "write-refused")),
        (FACTORY, {"PUT /1/0": FORBIDDEN}, ["GET /", *WRITES], ("step failed", "write-refused")),
        (FACTORY, {"PUT /0/1": [UNSUPPORTED_CONTENT_FORMAT]}, ["GET /", "PUT /0/1", *WRITES, "POST /bs"],
         ("configured", "")),
        (FACTORY, {"PUT /0/1": UNSUPPORTED_CONTENT_FORMAT}, ["GET /", *["PUT /0/1"] * 5],
         ("step failed", "formats-refused")),
        # Finish.
        (FACTORY, {"POST /bs": 0.3}, ALL, ("configured", "")),
        (FACTORY, {"POST /bs": BAD_REQUEST}, ALL, ("step failed", "finish-refused")),
        (FACTORY, {"POST /bs": [NOT_ACCEPTABLE]},
         [*ALL, "GET /1", "DELETE /0/1", "DELETE /1/0", *WRITES, "POST /bs"], ("configured", "")),
        (FACTORY, {"POST /bs": NOT_ACCEPTABLE},
         [*ALL, "GET /1", "DELETE /0/1", "DELETE /1/0", *WRITES, "POST /bs"], ("inconsistent", "finish-refused")),
    ],
)  # fmt: skip
def test_what_aiocoap_answers_to_a_step_leads_to_a_named_end(
    known: Bootstrapped,
    scripted: Make,
    holds: str,
    answers: dict[str, Any],
    steps: list[str],
    ending: tuple[str, str],
) -> None:
    one = scripted({**answers}, holds)
    assert one.request(known.endpoint).code == CHANGED
    session = known.wait_ended()
    assert (session["state"], session["reason"]) == ending, session
    assert one.steps == steps
    if ending[0] != "configured":
        # The client's own words.
        assert "as the test wants it" in session["detail"]
    assert known.log()[-1][0] == "bootstrap-ended"


@pytest.mark.spec("B-4", "ETS 0")
@pytest.mark.parametrize("pct", [11542, 110, 112, 11544])
def test_writes_come_in_the_format_that_aiocoap_prefers(known: Bootstrapped, scripted: Make, pct: int) -> None:
    one = scripted()
    assert one.request(known.endpoint, f"&pct={pct}").code == CHANGED
    assert known.wait_ended()["state"] == "configured"
    assert one.script.formats == [pct, pct]


@pytest.mark.spec("SEC-3", "B-4", "B-16")
def test_requests_that_lead_to_nothing_are_refused_with_the_reason(
    server: Served, known: Bootstrapped, scripted: Make, tmp_path: Path
) -> None:
    one = scripted()
    with_keys = Bootstrapped(server, "psk", "one-psk", tmp_path)
    for query, code, reason, device in (
        ("?ep=urn:dev:os:nobody", BAD_REQUEST, "unknown-endpoint", None),
        ("", BAD_REQUEST, "no-name", None),
        ("?ep=a&ep=b", BAD_REQUEST, "parameters", None),
        (f"?ep={known.endpoint}&pct=text", BAD_REQUEST, "parameters", None),
        (f"?ep={known.endpoint}&pct=60", UNSUPPORTED_CONTENT_FORMAT, "pct", known),
        (f"?ep={with_keys.endpoint}", BAD_REQUEST, "has-credentials", with_keys),
    ):
        answer = one.ask(aiocoap.POST, f"/bs{query}")
        assert answer.code == code, (query, answer)
        refused = [each for each in server.log_lines() if each.get("event") == "bootstrap.refused"][-1]
        assert refused["reason"] == reason
        # To whoever has not shown where it is no more is said than it paid for, and what would be right to nobody.
        said = answer.payload.decode()
        right = refused["detail"].removeprefix(said) if said else ""
        assert right == "" or (reason == "has-credentials" and "STELLWERK_BOOTSTRAP_COAPS_PORT" in right)
        if device is not None:
            session = device.wait_ended()
            assert (session["state"], session["reason"], session["steps"]) == ("refused", reason, [])
            assert device.log()[-1][0] == "bootstrap-refused"
    assert one.steps == []


@pytest.mark.spec("B-16")
def test_a_second_request_of_aiocoap_in_the_middle_ends_the_first_session(known: Bootstrapped, scripted: Make) -> None:
    one = scripted({"PUT /0/1": [SILENCE]})
    one.request(known.endpoint)
    wait_until(lambda: "PUT /0/1" in one.steps, within_s=10, what="the first write has come")
    assert one.request(known.endpoint).code == CHANGED
    assert known.wait_ended(2)["state"] == "configured"
    first = known.history()[0]
    assert (first["state"], first["reason"]) == ("replaced", "another-request")
    assert one.steps == ["GET /", "PUT /0/1", *ALL]


@pytest.mark.spec("B-16")
def test_a_device_that_asks_again_from_another_address_is_configured_there(known: Bootstrapped, scripted: Make) -> None:
    before, after = scripted({"PUT /1/0": [SILENCE]}), scripted()
    before.request(known.endpoint)
    wait_until(lambda: "PUT /1/0" in before.steps, within_s=10, what="the second write has come")
    assert after.request(known.endpoint).code == CHANGED
    assert known.wait_ended(2)["state"] == "configured"
    assert known.history()[0]["state"] == "replaced"
    assert (before.steps, after.steps) == (["GET /", *WRITES], ALL)


@pytest.mark.spec("B-16")
def test_a_step_that_is_reset_ends_the_session(server: Served, known: Bootstrapped) -> None:
    def answering(message: Message) -> Reply | None:
        if message.code == GET:
            return Reply(CONTENT, FACTORY.encode(), ((CONTENT_FORMAT, uint(LINK_FORMAT)),))
        return RESET

    device = RawDevice(known.endpoint, server.bootstrap_coap_port, answering)
    try:
        query = query_options([f"ep={known.endpoint}"])
        assert device.ask(Message(CON, POST, 1, b"ask", (*path_options("/bs"), *query)), within_s=10).code == 0x44
        session = known.wait_ended()
        assert (session["state"], session["reason"]) == ("step failed", "reset")
        assert session["detail"] == "Bootstrap-Write /0/1: reset: the peer sent RST"
    finally:
        device.close()


# -- packs --


@pytest.mark.spec("B-6", "B-9", "ETS 12", "RFC 9175 2.3")
def test_aiocoap_fetches_a_pack_once_it_has_shown_where_it_is(
    server: Served, known: Bootstrapped, scripted: Make
) -> None:
    one = scripted()

    def fetch(target: str) -> aiocoap.Message:
        first = one.ask(aiocoap.GET, target)
        assert first.code == UNAUTHORIZED
        return one.ask(aiocoap.GET, target, echo=first.opt.echo)

    answer = fetch(f"/bspack?ep={known.endpoint}&acc=</0/0>")
    assert (answer.code, answer.opt.content_format) == (aiocoap.CONTENT, 112), answer
    assert f"coap://127.0.0.1:{server.coap_port}".encode() in answer.payload
    session = known.wait_ended()
    assert (session["state"], session["trigger"]) == ("configured", "pack")
    # Not without a word on what must stay.
    assert fetch(f"/bspack?ep={known.endpoint}").code == METHOD_NOT_ALLOWED
    session = known.wait_ended(2)
    assert (session["state"], session["reason"]) == ("refused", "pack-refused")
    assert fetch("/bspack?ep=urn:dev:os:nobody&acc=</0/0>").code == BAD_REQUEST
    assert one.steps == []


# -- libcoap --


def libcoap(port: int, target: str, *words: str) -> str:
    """What its client prints; with a key in ``words`` it speaks DTLS."""
    if shutil.which(LIBCOAP) is None:
        pytest.skip(f"{LIBCOAP} (libcoap3-bin) is not on this machine")
    scheme = "coaps" if {"-k", "-j"} & set(words) else "coap"
    command = [LIBCOAP, "-B", "10", "-v", "6", *words, f"{scheme}://127.0.0.1:{port}{target}"]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)
    return (done.stdout + done.stderr).decode(errors="replace")


@pytest.mark.spec("SEC-3", "SEC-4", "B-4", "B-15", "B-16", "ETS 1")
def test_libcoap_is_told_why_it_is_refused(server: Served, known: Bootstrapped, tmp_path: Path) -> None:
    plain, secure = server.bootstrap_coap_port, server.bootstrap_coaps_port
    one = Bootstrapped(server, "psk", "one-psk", tmp_path)
    own = "-u", one.identity("bs"), "-k", one.psk["bs"].decode()
    assert "4.00 no device has the endpoint name 'nobody'" in libcoap(plain, "/bs?ep=nobody", "-m", "post")
    said = libcoap(plain, f"/bs?ep={known.endpoint}&pct=0", "-m", "post")
    assert "4.15 parameter 'pct': Content-Format 0 is not supported, only 112, 110, 11544, 11542" in said
    assert (known.wait_ended()["state"], known.wait_ended()["reason"]) == ("refused", "pct")

    said = libcoap(secure, f"/bs?ep={known.endpoint}", "-m", "post", *own)
    assert f"4.00 endpoint '{known.endpoint}' is not that of device '{one.name}'" in said
    assert (one.wait_ended()["state"], one.wait_ended()["reason"]) == ("refused", "wrong-identity")
    said = libcoap(secure, f"/bs?ep={one.endpoint}", "-m", "post", "-u", one.identity("bs"), "-k", "another")
    assert "decrypt error" in said
    one.wait_logged("bootstrap-refused", "handshake-failed")
    assert len(one.history()) == 1


@pytest.mark.spec("B-16", "ETS 1")
def test_libcoap_that_leaves_in_the_middle_has_its_session_lost(server: Served, tmp_path: Path) -> None:
    one = Bootstrapped(server, "psk", "one-psk", tmp_path)
    own = "-u", one.identity("bs"), "-k", one.psk["bs"].decode()
    # No name: the identity stands in for it.
    assert " c:2.04 " in libcoap(server.bootstrap_coaps_port, "/bs", "-m", "post", *own)
    session = one.wait_ended()
    assert (session["state"], session["reason"]) == ("lost", "lost")
    assert "close-notify" in session["detail"]


@pytest.mark.spec("B-9", "B-10", "ETS 12", "RFC 9175 2.3")
@pytest.mark.parametrize("mode", ["none", "psk"])
def test_libcoap_fetches_a_pack(server: Served, tmp_path: Path, mode: str) -> None:
    one = Bootstrapped(server, mode, "one" if mode == "none" else "one-psk", tmp_path)
    port, own = server.bootstrap_coap_port, ()
    if mode == "psk":
        port, own = server.bootstrap_coaps_port, ("-u", one.identity("bs"), "-k", one.psk["bs"].decode())
    said = libcoap(port, f"/bspack?ep={one.endpoint}&acc=</0/0>", "-A", "110", *own)
    start = said.index('\n[{"bn"') + 1
    values = {each["n"]: each for each in json.loads(said[start : said.index("}]", start) + 2])}
    assert (
        values["0/1/0"]["vs"] == f"coap{'s' * bool(own)}://127.0.0.1:{server.coaps_port if own else server.coap_port}"
    )
    assert (values["0/1/10"]["v"], values["1/0/0"]["v"]) == (123, 123)
    if own:
        secret = values["0/1/5"]["vd"]
        assert urlsafe_b64decode(secret + "==") == one.psk["dm"]
        assert secret not in one.told()
    assert (one.wait_ended()["state"], one.wait_ended()["trigger"]) == ("configured", "pack")
    assert " c:4.06 " in libcoap(port, f"/bspack?ep={one.endpoint}&acc=</0/0>", "-A", "50", *own)


@pytest.mark.spec("ETS 10", "LwM2M-contract 2.5", "SEC-9", "RFC 9148 4.1", "RFC 9148 4.3", "RFC 9148 4.5")
def test_libcoap_enrols_and_registers_with_the_certificate_that_it_got(server: Served, tmp_path: Path) -> None:
    set_profile(server, "one-est", dm(server, "X509", keys="est"))
    one = Bootstrapped(server, "psk", "one-est", tmp_path)
    plain, secure = server.bootstrap_coap_port, server.bootstrap_coaps_port
    own = "-u", one.identity("bs"), "-k", one.psk["bs"].decode()
    request, csr, got, pem = (tmp_path / each for each in ("key.pem", "csr", "got", "got.pem"))
    key = new_key()
    request.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    csr.write_bytes(signing_request(one.endpoint, key))
    asks = "-m", "post", "-t", "286", "-f", str(csr)
    assert " c:4.01 " in libcoap(plain, "/.well-known/est/sen", *asks)
    libcoap(secure, "/.well-known/est/crts", "-A", "287", "-o", str(got), *own)
    authority = x509.load_der_x509_certificate(got.read_bytes())
    got.unlink()
    libcoap(secure, "/.well-known/est/crts", "-o", str(got), *own)
    assert load_der_pkcs7_certificates(got.read_bytes()) == [authority]
    got.unlink()
    said = libcoap(secure, "/.well-known/est/sen", *asks, "-A", "287", "-o", str(got), *own)
    assert " c:2.04 " in said
    certificate = x509.load_der_x509_certificate(got.read_bytes())
    certificate.verify_directly_issued_by(authority)
    pem.write_bytes(certificate.public_bytes(Encoding.PEM))
    links = tmp_path / "links"
    links.write_text("</1/0>,</3/0>")
    shows = "-c", str(pem), "-j", str(request)
    target = f"/rd?ep={one.endpoint}&lt=300&lwm2m=1.1&b=U"
    assert " c:2.01 " in libcoap(server.coaps_port, target, "-m", "post", "-t", "40", "-f", str(links), *shows)
    one.wait_logged("bootstrap-est-crts", "bootstrap-est-crts", "bootstrap-est-sen")
