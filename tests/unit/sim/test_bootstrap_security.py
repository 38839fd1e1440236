"""Devices prove themselves to their bootstrap server, and with what they got there to each of their servers."""

from typing import Any

import pytest

from stellwerk.coap import codes
from stellwerk.coap.actions import SendRequest
from stellwerk.coap.events import RequestFailed, ResponseReceived
from stellwerk.coap.oscore.material import ContextMaterial
from stellwerk.core.identity import CertificateIdentity, RawKeyIdentity
from stellwerk.core.ids import PeerId
from stellwerk.device.key_material import der_of, pkcs8_of, spki_of
from stellwerk.dtls.actions import CloseSession
from stellwerk.issuing import Issuer, make_authority, new_key
from stellwerk.lwm2m.value import ObjectLink
from stellwerk.sim.bootstrap.contexts import unanswered
from stellwerk.sim.faults import Fault
from stellwerk.sim.happenings import (
    Bootstrapped,
    HandshakeDone,
    HandshakeFailed,
    Registered,
    RegistrationRefused,
    Remembered,
    SessionLost,
)
from stellwerk.sim.population import Start
from stellwerk.sim.security import Certificate, PreSharedKey, RawKey

from .bootstrap_bench import (
    BOOTSTRAP,
    DELETE,
    DISCOVER,
    FINISH,
    OTHER,
    SERVER,
    SERVER_KEY,
    BootstrapBench,
    Peer,
    Step,
    account,
    write,
)

KEY = bytes(range(16))
OTHER_KEY = bytes(range(16, 32))
SECURE = f"coaps://{SERVER[0]}:{SERVER[1]}"
SERVER_SPKI = spki_of(SERVER_KEY.public_key())

AUTHORITY = make_authority("authority")
ISSUER = Issuer(AUTHORITY.key, AUTHORITY.chain[0])
SERVER_CHAIN = tuple(der_of(each) for each in ISSUER.server(SERVER_KEY, "bs.example", ["bs.example"]).chain)
DEVICE_KEY = new_key()
DEVICE_CHAIN = tuple(der_of(each) for each in ISSUER.client(DEVICE_KEY, "dev-1").chain)


def with_psk(*more: Step, identity: bytes = b"dm-1", key: bytes = KEY) -> list[Step]:
    return [DISCOVER, DELETE, *account(uri=SECURE, mode=0, r3=identity, r5=key), *more, FINISH]


def psk_bench(script: list[Step], **options: Any) -> BootstrapBench:
    settings = {"keys": {b"bs-1": KEY}, "server_keys": {b"dm-1": KEY}, "credentials": PreSharedKey(b"bs-1", KEY)}
    return BootstrapBench(script, **{**settings, **options})


def test_with_a_pre_shared_key_each():
    bench = psk_bench(with_psk())
    device = bench.start()
    assert bench.is_configured
    assert (bench.bootstrap.identities, bench.server.identities) == ([b"bs-1"], [b"dm-1"])
    assert len(bench.of(HandshakeDone)) == 2
    # A Finish may be repeated for a while; then the session with the bootstrap server is closed.
    bench.network.run_for(90)
    assert not bench.bootstrap.ended
    bench.network.run_for(10)
    assert [each.reason for each in bench.bootstrap.ended] == ["close-notify"]
    bench.stop(device)
    assert bench.server.requests[-1].code == codes.DELETE
    assert [each.reason for each in bench.server.ended] == ["close-notify"]


def test_with_a_raw_public_key_each():
    given = new_key()
    script = account(uri=SECURE, mode=1, r3=spki_of(given.public_key()), r4=SERVER_SPKI, r5=pkcs8_of(given))
    own = new_key()
    bench = psk_bench([DELETE, *script, FINISH], credentials=RawKey(own), server_key=SERVER_SPKI)
    bench.start()
    assert bench.is_configured
    for peer, key in ((bench.bootstrap, own), (bench.server, given)):
        (each,) = peer.established
        assert isinstance(each.identity, RawKeyIdentity)
        assert each.identity.spki == spki_of(key.public_key())


@pytest.mark.parametrize("usage", [None, 2, 3])
def test_with_a_certificate_each(usage: int | None):
    given = ISSUER.client(new_key(), "dev-1")
    server_says = der_of(AUTHORITY.chain[0]) if usage == 2 else SERVER_CHAIN[0]
    values: dict[str, Any] = {"r3": der_of(given.chain[0]), "r4": server_says, "r5": pkcs8_of(given.key)}
    if usage is not None:
        values["r15"] = usage
    bench = psk_bench(
        [DELETE, *account(uri=SECURE, mode=2, **values), FINISH],
        chain=SERVER_CHAIN,
        credentials=Certificate(DEVICE_KEY, DEVICE_CHAIN),
        anchors=AUTHORITY.chain,
    )
    bench.server = Peer(bench.network, SERVER, {}, chain=SERVER_CHAIN)
    bench.start()
    assert bench.is_configured
    (each,) = bench.server.established
    assert isinstance(each.identity, CertificateIdentity)
    assert each.identity.chain[0] == der_of(given.chain[0])


def test_a_server_that_is_not_the_one_of_the_account_is_refused():
    stranger = spki_of(new_key().public_key())
    given = new_key()
    script = account(uri=SECURE, mode=1, r3=spki_of(given.public_key()), r4=stranger, r5=pkcs8_of(given))
    bench = psk_bench([DELETE, *script, FINISH])
    bench.start()
    assert bench.of(Bootstrapped)
    assert not bench.of(Registered)
    assert {each.reason for each in bench.of(HandshakeFailed)} == {"unknown-identity"}
    assert [each.reason for each in bench.of(RegistrationRefused)] == ["unknown-identity"]


def test_several_servers_with_another_security_each():
    script = with_psk(
        *account(2, f"coap://{OTHER[0]}:{OTHER[1]}", 7),
        *account(3, "coaps://10.0.0.5:5684", 8, mode=0, r3=b"third", r5=OTHER_KEY),
    )
    bench = psk_bench(script)
    other, third = Peer(bench.network, OTHER), Peer(bench.network, ("10.0.0.5", 5684), {b"third": OTHER_KEY})
    device = bench.start()
    assert device.is_registered
    assert [len(each.asked("rd")) for each in (bench.server, other, third)] == [1, 1, 1]
    assert third.identities == [b"third"]


def test_it_bootstraps_in_the_open_and_registers_in_a_session():
    bench = BootstrapBench(with_psk(), server_keys={b"dm-1": KEY})
    bench.start()
    assert bench.is_configured
    assert bench.server.identities == [b"dm-1"]


def test_keys_that_the_server_does_not_take_make_it_bootstrap_again():
    bench = psk_bench(with_psk(identity=b"old"), failures=2)
    bench.start(3)
    assert not bench.of(Registered)
    bench.bootstrap.script = tuple(with_psk())
    bench.network.run_for(60)
    assert len(bench.of(Bootstrapped)) == 2
    assert bench.of(Registered)


def test_what_it_was_made_with_may_be_wrong():
    bench = psk_bench(with_psk(), credentials=PreSharedKey(b"nobody", KEY))
    bench.start(30)
    assert set(bench.failures) == {"handshake"}
    assert 1 < len(bench.failures) < 5
    assert not bench.bootstrap.requests


@pytest.mark.parametrize("fault", ["wrong-key", "wrong-identity"])
def test_faults_of_handshakes_befall_those_with_bootstrap_servers_too(fault: str):
    bench = psk_bench(with_psk())
    bench.start(150, faults=(Fault.parse(fault),))
    assert set(bench.failures) <= {"handshake"}
    assert bench.of(HandshakeFailed)
    assert not bench.bootstrap.requests


def test_a_bootstrap_server_that_ends_the_session_in_the_middle():
    bench = psk_bench([DISCOVER])
    bench.start()
    bench.bootstrap.station.submit(CloseSession(bench.bootstrap.established[0].peer))
    bench.network.run_for(1)
    assert bench.failures == ["lost"]
    assert bench.of(SessionLost)
    bench.bootstrap.script = tuple(with_psk())
    bench.network.run_for(10)
    assert bench.is_configured
    assert len(bench.bootstrap.established) == 2


def test_a_server_that_ends_the_session_is_registered_with_again():
    bench = psk_bench(with_psk())
    device = bench.start()
    bench.server.station.submit(CloseSession(bench.server.established[0].peer))
    bench.network.run_for(2)
    assert len(bench.server.asked("rd")) == 2
    assert device.is_registered


def test_a_server_that_forgot_the_session_is_found_out():
    bench = psk_bench(with_psk())
    device = bench.start()
    bench.server = Peer(bench.network, SERVER, {b"dm-1": KEY})
    bench.network.run_for(1200)
    assert bench.server.identities == [b"dm-1"]
    assert device.is_registered


def test_after_a_restart_it_needs_no_bootstrap_server():
    bench = psk_bench(with_psk())
    device = bench.start()
    again = bench.restart(device)
    assert len(bench.bootstrap.established) == 1
    assert bench.server.identities == [b"dm-1", b"dm-1"]
    assert again.is_registered


def test_the_trigger_opens_another_session_with_the_bootstrap_server():
    bench = psk_bench(with_psk())
    bench.start(120)
    peer = bench.server.established[0].peer
    bench.server.station.submit(SendRequest(1, peer, codes.POST, b"x", ("1", "1", "9")))
    bench.network.run_for(3)
    assert bench.bootstrap.identities == [b"bs-1", b"bs-1"]
    assert len(bench.of(Bootstrapped)) == len(bench.of(Registered)) == 2


def test_a_bootstrap_server_may_change_the_keys_of_its_own_account():
    own = {"/0/0/0": f"coaps://{BOOTSTRAP[0]}:{BOOTSTRAP[1]}", "/0/0/1": True, "/0/0/2": 0}
    step = write("/0/0", {**own, "/0/0/3": b"bs-2", "/0/0/5": OTHER_KEY})
    bench = psk_bench(with_psk(step), keys={b"bs-1": KEY, b"bs-2": OTHER_KEY})
    bench.start()
    peer = bench.server.established[0].peer
    bench.server.station.submit(SendRequest(1, peer, codes.POST, b"x", ("1", "1", "9")))
    bench.network.run_for(3)
    assert bench.bootstrap.identities == [b"bs-1", b"bs-2"]


# -- OSCORE --

SECRET = b"sixteen secret b"
SERVERS_CONTEXT = ContextMaterial(7, b"srv", b"dev-1", SECRET, b"salt", ceiling=256)


def with_oscore(uri: str = f"coap://{SERVER[0]}:{SERVER[1]}", version: str = "1.2", **more: Any) -> list[Step]:
    values: list[Any] = [SECRET, b"dev-1", b"srv", 10, -10, b"salt"]
    if version == "1.1":
        # Before version 2.0 object 21 has texts of hexadecimal digits.
        values = [each.hex() if isinstance(each, bytes) else each for each in values]
    context = {f"/21/4/{number}": value for number, value in enumerate(values)}
    steps = account(uri=uri, release=version, r17=ObjectLink(21, 4), **more)
    return [DELETE, write("/21/4", context, release=version), *steps, FINISH]


def oscore_bench(script: list[Step], keys: dict[bytes, bytes] | None = None, **options: Any) -> BootstrapBench:
    bench = BootstrapBench(script, **options)
    bench.server = Peer(bench.network, SERVER, keys, context=SERVERS_CONTEXT)
    return bench


@pytest.mark.parametrize("version", ["1.1", "1.2"])
def test_with_an_oscore_context(version: str):
    bench = oscore_bench(with_oscore(version=version))
    device = bench.start(lwm2m_version=version)
    assert bench.is_configured
    (asked,) = bench.server.asked("rd")
    assert asked.peer.is_context
    answers: list[Any] = []
    bench.server.hear = lambda event, now: answers.append(event)  # type: ignore[method-assign]
    bench.server.station.submit(SendRequest(5, asked.peer, codes.GET, b"read", ("3", "0", "0"), accept=0))
    bench.network.run_for(1)
    heard = [each for each in answers if isinstance(each, ResponseReceived)]
    assert [(codes.dotted(each.code), each.payload) for each in heard] == [("2.05", b"Stellwerk")]
    assert device.is_registered


def test_with_an_oscore_context_in_a_session():
    script = with_oscore(SECURE, mode=0, r3=b"dm-1", r5=KEY)
    bench = oscore_bench(script, {b"dm-1": KEY})
    bench.start(lwm2m_version="1.2")
    assert bench.is_configured
    assert bench.server.identities == [b"dm-1"]
    assert bench.server.asked("rd")[0].peer.is_context


@pytest.mark.parametrize(
    ("failure", "reason", "detail"),
    [
        ("unprotected", "refused", "unprotected: 4.00 Decryption failed"),
        ("timeout", "silent", "timeout"),
    ],
)
def test_a_server_that_cannot_read_what_is_protected_has_refused(failure: str, reason: str, detail: str):
    event = RequestFailed(1, PeerId("oscore+udp", *BOOTSTRAP), failure, "4.00 Decryption failed")
    assert unanswered(event) == (reason, detail)


def test_after_a_restart_it_uses_no_number_twice():
    bench = oscore_bench(with_oscore())
    device = bench.start(lwm2m_version="1.2")
    first = device.memory()["oscore"]
    assert first[0]["ceiling"] > 0
    assert bench.of(Remembered)
    again = bench.restart(device, lwm2m_version="1.2")
    assert again.is_registered
    assert again.memory()["oscore"][0]["ceiling"] > first[0]["ceiling"]
    # The same engine of the server, and its window, have seen both lives.
    assert len(bench.server.asked("rd")) == 2


def test_it_may_speak_from_another_port_with_the_same_context():
    bench = oscore_bench(with_oscore())
    device = bench.start(lwm2m_version="1.2", update_every_s=20.0, faults=(Fault.parse("move:30s"),))
    bench.network.run_for(120)
    updates = [each for each in bench.server.requests if each.path[:1] == ("rd",) and len(each.path) > 1]
    assert len(updates) >= 4
    assert device.is_registered


def test_an_oscore_context_that_cannot_be_is_refused_at_the_finish():
    script = with_oscore()
    script[1] = write("/21/4", {"/21/4/0": SECRET, "/21/4/1": b"same", "/21/4/2": b"same"}, release="1.2")
    bench = oscore_bench(script)
    bench.start(lwm2m_version="1.2")
    refusal = bench.bootstrap.answers[-1]
    assert refusal is not None
    assert codes.dotted(refusal.code) == "4.06"
    assert refusal.payload == b"/21/4: both ends have the same ID"


def test_many_at_once_over_a_bad_network_with_a_session_each():
    bench = psk_bench(with_psk(), network={"loss": 0.1, "seed": 2})
    for number in range(20):
        local = ("10.0.1.1", 1000 + number)
        bench.join(local)
        bench.devices.submit(Start(bench.device(f"dev-{number}", local)))
    bench.network.run_for(600)
    assert {each.endpoint_name for each in bench.of(Registered)} == {f"dev-{number}" for number in range(20)}
