"""Simulated devices over DTLS: their sessions begin, move, end and go on."""

from datetime import UTC, datetime
from itertools import pairwise

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from stellwerk.coap import codes
from stellwerk.core.identity import RawKeyIdentity
from stellwerk.device.key_material import der_of
from stellwerk.dtls.actions import CloseSession
from stellwerk.issuing import Issuer, make_authority
from stellwerk.sim.device import Device
from stellwerk.sim.enrolment import Patience
from stellwerk.sim.faults import Fault
from stellwerk.sim.happenings import (
    Deregistered,
    HandshakeDone,
    HandshakeFailed,
    Registered,
    RegistrationRefused,
    Resumed,
    SessionLost,
)
from stellwerk.sim.security import AfterHandshake, Certificate, RawKey, Resume

from .conftest import DEVICE
from .secure_bench import KEY, SERVER_KEY, SecureBench

PATIENCE = Patience(first_s=5.0, count=5, pause_s=300.0)


def test_a_device_registers_is_read_and_observed_and_leaves_over_its_session():
    bench = SecureBench()
    device = bench.start()
    assert [(each.suite, each.has_cid) for each in bench.told(HandshakeDone)] == [("TLS_PSK_WITH_AES_128_CCM_8", False)]
    assert bench.told(Registered)
    assert bench.value("/3/0/0")
    assert bench.code(codes.GET, "/3303/0/5700", observe=0, accept=112) == "2.05"
    bench.network.run_for(60)
    assert bench.notifications
    assert {each.peer for each in bench.requests} == {bench.established[0].peer}
    bench.stop(device)
    assert bench.told(Deregistered)
    assert [each.reason for each in bench.ended] == ["close-notify"]


def test_nothing_is_said_before_the_handshake_is_complete_and_a_failed_one_is_tried_again():
    bench = SecureBench()
    bench.network.detach(bench.address)
    bench.start(patience=PATIENCE)
    bench.network.run_for(100)
    assert [each.reason for each in bench.told(HandshakeFailed)] == ["timeout"]
    assert bench.told(RegistrationRefused) == []
    bench.restart_server()
    bench.network.run_for(60)
    assert len(bench.told(Registered)) == 1


def test_a_wrong_key_is_told_with_its_reason_on_both_ends():
    bench = SecureBench()
    bench.keys[b"dev-1"] = bytes(16)
    bench.start(patience=PATIENCE)
    assert [each.reason for each in bench.failed] == ["wrong-key"]
    failure = bench.told(HandshakeFailed)[0]
    assert (failure.reason, "decrypt_error" in failure.detail) == ("alert", True)
    bench.network.run_for(5.5)
    assert len(bench.told(HandshakeFailed)) == 2
    bench.keys[b"dev-1"] = KEY
    bench.network.run_for(12)
    assert bench.told(Registered)


@pytest.mark.parametrize(("fault", "reason"), [("wrong-key", "wrong-key"), ("wrong-identity", "unknown-identity")])
def test_a_fault_of_handshakes_is_seen_by_the_server(fault, reason):
    bench = SecureBench()
    device = bench.start(faults=(Fault.parse(fault),), patience=PATIENCE)
    assert [each.reason for each in bench.failed] == [reason]
    assert device.faults_committed == 1
    assert bench.requests == []


def test_with_a_connection_id_a_device_goes_on_from_another_port():
    bench = SecureBench(security={"cid_length": 0})
    device = bench.start(update_every_s=10.0)
    assert bench.told(HandshakeDone)[0].has_cid
    assert bench.code(codes.GET, "/3303/0/5700", observe=0, accept=112) == "2.05"
    bench.move(device, 41_000)
    bench.network.run_for(20)
    assert [each.new.remote_port for each in bench.moved] == [41_000]
    assert bench.value("/3/0/0")
    assert len(bench.established) == bench.registers == 1
    assert bench.updates >= 1


def test_with_a_connection_id_a_nat_may_forget_a_device():
    bench = SecureBench(security={"cid_length": 0})
    bench.start(update_every_s=10.0)
    bench.network.move(DEVICE, ("192.0.2.1", 5000))
    bench.network.run_for(20)
    assert [each.new.remote_host for each in bench.moved] == ["192.0.2.1"]
    assert bench.value("/3/0/0")
    assert (len(bench.established), bench.told(SessionLost)) == (1, [])


def test_without_a_connection_id_a_device_that_moved_waits_in_vain_and_comes_back_with_a_handshake():
    bench = SecureBench()
    device = bench.start(update_every_s=10.0, patience=PATIENCE)
    bench.move(device, 41_000)
    bench.network.run_until(lambda: bench.registers == 2, 60)
    assert [each.reason for each in bench.told(SessionLost)] == ["timeout"]
    assert (len(bench.established), bench.moved) == (2, [])
    assert bench.established[1].address.remote_port == 41_000
    assert bench.value("/3/0/0")


@pytest.mark.parametrize(
    ("rule", "registers", "updates"),
    [(AfterHandshake.REGISTER, 2, 0), (AfterHandshake.UPDATE, 1, 1), (AfterHandshake.NOTHING, 1, 0)],
)
@pytest.mark.spec("LwM2M-contract 2.2")
def test_a_device_whose_session_ended_makes_a_handshake_and_does_what_its_kind_does(rule, registers, updates):
    bench = SecureBench(security={"after_handshake": rule})
    bench.start()
    bench.end_session()
    bench.network.run_for(5)
    assert [each.reason for each in bench.told(SessionLost)] == ["close-notify"]
    assert len(bench.established) == 2
    assert (bench.registers, bench.updates) == (registers, updates)
    assert bench.value("/3/0/0")


def test_a_server_that_ends_every_session_gets_fewer_and_fewer_handshakes():
    bench = SecureBench()
    bench.start(patience=PATIENCE, update_every_s=1e6)
    ends = []

    def end(request):
        ends.append(bench.network.now)
        bench.server.submit(CloseSession(request.peer))

    # It answers nothing, and ends the session instead.
    bench.decide = end
    bench.end_session()
    bench.network.run_for(100)
    pauses = [later - earlier for earlier, later in pairwise(ends)]
    assert [round(each / 5) for each in pauses] == [1, 2, 4, 8]


@pytest.mark.parametrize("resume", list(Resume))
def test_a_sleeper_resumes_when_it_wakes_up_and_goes_on(resume):
    bench = SecureBench(security={"resume": resume})
    bench.start(queue_mode=True, update_every_s=60.0, awake_s=5.0)
    bench.network.run_until(lambda: bench.updates == 2, 130)
    assert (len(bench.told(HandshakeDone)), len(bench.told(Resumed))) == (1, 2)
    assert (bench.registers, len(bench.secure.population.heard), bench.clients.sessions) == (1, 1, 1)
    assert [each.resumed is not None for each in bench.established] == [False, True, True]
    assert bench.value("/3/0/0")


def test_a_sleeper_measures_without_a_handshake_and_sends_what_it_measured_when_it_wakes_up():
    bench = SecureBench(security={"resume": Resume.ID})
    bench.start(queue_mode=True, update_every_s=60.0, awake_s=5.0, send_every_s=8.0)
    bench.network.run_until(lambda: bench.updates == 2, 130)
    assert len(bench.established) == 3
    assert len(bench.asked(codes.POST, "dp")) >= 1


def test_a_sleeper_resumes_before_it_tells_what_is_observed():
    bench = SecureBench(security={"resume": Resume.ID})
    bench.start(queue_mode=True, update_every_s=1e6, awake_s=5.0)
    assert bench.code(codes.PUT, "/3303/0/5700", query=("pmin=1", "pmax=30")) == "2.04"
    assert bench.code(codes.GET, "/3303/0/5700", observe=0, accept=112) == "2.05"
    first = len(bench.notifications)
    bench.network.run_for(65)
    assert len(bench.notifications) - first == len(bench.told(Resumed)) == 2
    assert bench.notifications[-1].peer == bench.established[-1].peer
    assert bench.requests[1:] == []


def test_a_sleeper_that_does_not_resume_keeps_its_session():
    bench = SecureBench()
    bench.start(queue_mode=True, update_every_s=60.0, awake_s=5.0)
    bench.network.run_for(130)
    assert (len(bench.established), bench.updates) == (1, 2)
    bench.network.run_for(20)
    assert bench.ask(codes.GET, "/3/0/0", wait_s=5) is None


def test_a_server_that_does_not_resume_gets_a_full_handshake_and_a_register():
    bench = SecureBench(security={"resume": Resume.ID})
    bench.resumes = False
    bench.start(queue_mode=True, update_every_s=60.0, awake_s=5.0)
    bench.network.run_for(65)
    assert (len(bench.told(HandshakeDone)), bench.told(Resumed)) == (2, [])
    assert bench.registers == 2


@pytest.mark.parametrize("resume", [None, Resume.ID])
def test_a_reboot_loses_the_session_and_registers_over_another(resume):
    bench = SecureBench(security={"resume": resume})
    bench.start()
    assert bench.code(codes.POST, "/3/0/4") == "2.04"
    bench.network.run_for(5)
    assert [each.resumed is not None for each in bench.established] == [False, resume is not None]
    assert bench.registers == 2
    assert bench.told(SessionLost) == []


def test_a_disabled_device_ends_its_session_and_comes_back_over_another():
    bench = SecureBench()
    bench.start()
    bench.ask(codes.PUT, "/1/0/5", content_format=0, payload=b"30")
    assert bench.code(codes.POST, "/1/0/4") == "2.04"
    bench.network.run_for(20)
    assert [each.reason for each in bench.ended] == ["close-notify"]
    bench.network.run_for(20)
    assert (len(bench.established), bench.registers) == (2, 2)


def test_a_device_without_a_session_makes_a_handshake_to_de_register():
    bench = SecureBench()
    device = bench.start()
    bench.keys.clear()
    bench.end_session()
    bench.keys[b"dev-1"] = KEY
    bench.stop(device)
    assert len(bench.asked(codes.DELETE, "rd")) == 1
    assert len(bench.told(Deregistered)) == 1


def test_a_device_that_cannot_come_back_leaves_without_a_word():
    bench = SecureBench()
    device = bench.start()
    bench.keys.clear()
    bench.end_session()
    bench.stop(device)
    assert len(bench.told(Deregistered)) == 1
    failed = len(bench.told(HandshakeFailed))
    bench.network.run_for(600)
    assert len(bench.told(HandshakeFailed)) == failed


def spki_of(key) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


OWN_KEY = generate_private_key(SECP256R1())
AUTHORITY, OTHER_AUTHORITY = make_authority("authority"), make_authority("other authority")
ISSUER = Issuer(AUTHORITY.key, AUTHORITY.chain[0])
SERVER_CHAIN = tuple(der_of(each) for each in ISSUER.server(SERVER_KEY, "server", ["localhost"]).chain)


def raw(endpoint_name: str, number: int) -> RawKey:
    return RawKey(OWN_KEY)


def certified(endpoint_name: str, number: int) -> Certificate:
    return Certificate(OWN_KEY, tuple(der_of(each) for each in ISSUER.client(OWN_KEY, endpoint_name).chain), ISSUER)


def test_a_raw_public_key_proves_a_device_and_its_server_is_known_by_its_own():
    bench = SecureBench(raw, {"server_key": spki_of(SERVER_KEY)})
    bench.start()
    assert bench.established[0].identity == RawKeyIdentity(spki_of(OWN_KEY))
    assert bench.value("/3/0/0")


@pytest.mark.parametrize("keyring", [raw, certified])
def test_a_server_with_another_key_than_the_one_that_was_named_is_refused(keyring):
    bench = SecureBench(keyring, {"server_key": spki_of(OWN_KEY)}, chain=SERVER_CHAIN)
    bench.start()
    assert [each.reason for each in bench.told(HandshakeFailed)] == ["unknown-identity"]
    assert bench.established == []


def test_a_certificate_proves_a_device_and_its_server_by_their_authorities():
    bench = SecureBench(certified, {"anchors": AUTHORITY.chain}, chain=SERVER_CHAIN)
    bench.start()
    identity = bench.established[0].identity
    assert (identity.common_name, len(identity.chain)) == ("dev-1", 2)
    assert bench.value("/3/0/0")


def test_a_server_whose_certificate_leads_to_no_authority_that_was_named_is_refused():
    bench = SecureBench(certified, {"anchors": OTHER_AUTHORITY.chain}, chain=SERVER_CHAIN)
    bench.start()
    assert [each.reason for each in bench.told(HandshakeFailed)] == ["untrusted-certificate"]


def test_an_expired_certificate_and_one_of_somebody_else_are_shown_on_purpose():
    for fault, names, expired in (
        ("expired-certificate", "dev-1", True),
        ("wrong-identity", "nobody-knows-dev-1", False),
    ):
        bench = SecureBench(certified, chain=SERVER_CHAIN)
        bench.start(faults=(Fault.parse(fault),))
        identity = bench.established[0].identity
        leaf = x509.load_der_x509_certificate(identity.chain[0])
        assert identity.common_name == names
        leaf.verify_directly_issued_by(AUTHORITY.chain[0])
        assert (leaf.not_valid_after_utc < datetime.now(UTC)) is expired


def test_a_wrong_key_to_a_certificate_signs_what_does_not_verify():
    bench = SecureBench(certified, chain=SERVER_CHAIN)
    bench.start(faults=(Fault.parse("wrong-key"),))
    assert [each.reason for each in bench.failed] == ["bad-signature"]


def test_a_network_that_loses_doubles_and_delays_datagrams_of_handshakes_too():
    bench = SecureBench(security={"cid_length": 4, "resume": Resume.ID}, loss=0.2, duplication=0.2, jitter_s=1.0)
    device = bench.start(update_every_s=30.0, queue_mode=True, awake_s=10.0)
    bench.network.run_for(600)
    assert len(bench.told(Resumed)) >= 5
    assert bench.updates >= 10
    assert device.is_registered


def test_what_a_sleeper_does_not_hear_no_engine_hears():
    bench = SecureBench(security={"cid_length": 0})
    bench.start(queue_mode=True, update_every_s=1e6, awake_s=5.0)
    bench.network.run_for(10)
    bench.server.submit(CloseSession(bench.established[0].peer))
    bench.network.run_for(5)
    assert bench.told(SessionLost) == []


@pytest.mark.spec("RFC 5246 7.2.2")
def test_a_session_that_ended_with_a_fatal_alert_is_not_resumed():
    bench = SecureBench(security={"resume": Resume.ID})
    bench.start()
    bench.end_session(49)
    assert [each.reason for each in bench.told(SessionLost)] == ["alert"]
    assert len(bench.established) == 2
    assert not any(bench.offered)
    bench.end_session()
    assert [each.resumed is not None for each in bench.established] == [False, False, True]


def test_what_a_server_does_not_take_is_not_offered_again():
    bench = SecureBench(security={"resume": Resume.ID})
    bench.start(patience=PATIENCE)
    bench.resumes = False
    bench.keys.clear()
    bench.end_session()
    assert len(bench.told(HandshakeFailed)) == 1
    assert any(bench.offered)
    bench.offered.clear()
    bench.network.run_for(6)
    assert len(bench.told(HandshakeFailed)) == 2
    assert not any(bench.offered)


def test_a_session_is_resumed_although_the_server_was_not_there_for_a_while():
    bench = SecureBench(security={"resume": Resume.ID, "handshake_s": 5.0})
    device = bench.start(patience=PATIENCE)
    bench.network.detach(bench.address)
    bench.reboot(device)
    bench.network.run_for(8)
    assert [each.reason for each in bench.told(HandshakeFailed)] == ["timeout"]
    bench.network.attach(bench.address, bench._stack, bench._hear)
    bench.network.run_for(10)
    assert [each.resumed is not None for each in bench.established] == [False, True]


@pytest.mark.parametrize("cid_length", [None, 0, 4])
def test_sessions_that_others_took_the_place_of_leave_nothing_behind(cid_length):
    bench = SecureBench(security={"resume": Resume.ID, "cid_length": cid_length})
    device = bench.start(update_every_s=20.0)
    for port in range(41_000, 41_005):
        bench.reboot(device)
        bench.network.run_for(5)
        bench.move(device, port)
        bench.end_session()
        bench.network.run_for(60)
    assert device.is_registered
    assert len(bench.established) > 5
    assert (bench.clients.sessions, len(bench.secure.population.heard)) == (1, 1)


def test_a_device_that_moves_in_the_middle_of_a_handshake_begins_another():
    bench = SecureBench(delay_s=0.1)
    device = bench.join()
    bench.network.run_for(0.25)
    bench.move(device, 41_000)
    bench.network.detach(DEVICE)
    bench.network.run_for(2)
    assert [each.address.remote_port for each in bench.established] == [41_000]
    assert bench.told(Registered)


def test_what_was_said_without_a_session_is_said_again_over_the_next():
    bench = SecureBench(security={"after_handshake": AfterHandshake.NOTHING})
    device = bench.start(patience=PATIENCE)
    bench.keys.clear()
    bench.end_session()
    bench.poke(device, Device.trigger_update)
    assert bench.updates == 0
    bench.keys[b"dev-1"] = KEY
    bench.network.run_for(6)
    assert (len(bench.established), bench.updates) == (2, 1)


def test_a_session_that_was_of_use_has_its_successor_at_once():
    bench = SecureBench()
    bench.start(patience=PATIENCE)
    for number in range(2, 5):
        bench.end_session()
        assert len(bench.established) == bench.registers == number
    assert (bench.clients.sessions, len(bench.secure.population.heard)) == (1, 1)


def test_a_fault_of_handshakes_shows_although_the_device_could_resume():
    bench = SecureBench(security={"resume": Resume.ID})
    device = bench.start(faults=(Fault.parse("wrong-key:50%"),), seed=3, patience=PATIENCE)
    for _ in range(8):
        bench.network.run_for(30)
        bench.reboot(device)
    assert bench.told(Resumed)
    assert len(bench.failed) == device.faults_committed > 0


def test_devices_share_an_engine_and_nothing_else():
    bench = SecureBench()
    bench.keys[b"dev-2"] = KEY
    second = (DEVICE[0], 40_001)
    bench.network.attach(second, bench.secure, bench._note)
    bench.join()
    bench.join(second, endpoint_name="dev-2")
    bench.network.run_for(1)
    assert {each.endpoint_name for each in bench.told(Registered)} == {"dev-1", "dev-2"}
    assert {each.address.remote_port for each in bench.established} == {DEVICE[1], second[1]}
