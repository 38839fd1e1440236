"""Simulated devices that enrol for a certificate (security mode 4, RFC 9148), with the bootstrap server and the server
that they register with then."""

from base64 import b64decode
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.x509 import load_der_x509_certificate

from stellwerk.app.handlers.enrolling import Authority
from stellwerk.core.errors import UserError
from stellwerk.device.bootstrap.configuration import ServerEntry
from stellwerk.device.key_material import der_of, key_of, read_private_key, spki_of
from stellwerk.device.record import NOSEC, X509
from stellwerk.dtls.parameters import ServerIdentity
from stellwerk.sim.bootstrap.device import BootstrapDevice
from stellwerk.sim.bootstrap.options import OscoreValues
from stellwerk.sim.happenings import (
    BootstrapFailed,
    Bootstrapped,
    Enrolled,
    EnrolmentFailed,
    HandshakeDone,
    Rebooted,
    Registered,
)
from stellwerk.sim.security import PreSharedKey
from tests.scenario.bootstrap_lab import HOST, PLAIN, SECURE, BootstrapLab
from tests.scenario.bootstrap_port import psk_block, with_bootstrap
from tests.scenario.test_bootstrap_oscore import THERE, members
from tests.scenario.test_secure_keys import AUTHORITY, ISSUER, NOW, SERVER, der

NAME = "urn:dev:os:dev1"
KEY = bytes.fromhex("8f1c02b7a4d95e36607b2d11c3f4e859")
IDENTITY = ServerIdentity(SERVER.key, der(SERVER)[:1])
ENROLS = ServerEntry(short_id=123, mode=X509, host=HOST, port=SECURE, keys="est", lifetime_s=86_400)
OPEN = ServerEntry(short_id=124, mode=NOSEC, host=HOST, port=PLAIN, lifetime_s=86_400)
PROVEN = {"credentials": PreSharedKey(b"bs-dev1", KEY)}
IDENTITY_CELL, SERVER_CELL, SECRET_CELL = 3, 4, 5


class Issuing:
    """The platform's authority. ``since``: when what it signs, for a day, was signed; ``out_of_order``: it signs
    nothing."""

    def __init__(self) -> None:
        self.since: datetime = NOW
        self.issued: list[bytes] = []
        self.out_of_order = False

    def authority(self) -> Authority:
        return Authority(lambda: der(AUTHORITY)[0], self.enrol)

    def enrol(self, key: EllipticCurvePublicKey, endpoint: str) -> bytes:
        if self.out_of_order:
            raise UserError("no key of the authority")
        self.issued.append(der_of(ISSUER.enrolled(key, endpoint, days=1, now=self.since)))
        return self.issued[-1]


@pytest.fixture
def issuing() -> Issuing:
    return Issuing()


@pytest.fixture
def lab(issuing: Issuing) -> Iterator[BootstrapLab]:
    made = BootstrapLab(IDENTITY, AUTHORITY.chain, authority=issuing.authority())
    made.port.profile(ENROLS)
    yield made
    made.close()


@pytest.fixture
def record(lab: BootstrapLab) -> Any:
    return lab.provision(credential=with_bootstrap(psk_block("bs-dev1", KEY)))


def of(lab: BootstrapLab, kind: type) -> list[Any]:
    return [each for each in lab.happenings if isinstance(each, kind)]


def certificate_of(device: BootstrapDevice) -> bytes:
    """What it keeps in its account; empty: none."""
    (cells,) = [each for each in device.tree.instances(0).values() if each.get(2) == 4]
    found, secret = cells.get(IDENTITY_CELL), cells.get(SECRET_CELL)
    assert isinstance(found, bytes)
    assert isinstance(secret, bytes)
    if found:
        assert key_of(load_der_x509_certificate(found)) == spki_of(read_private_key(secret).public_key())
    return found


def what_holds(lab: BootstrapLab, record: Any) -> bytes:
    """The certificate that the server lets in."""
    assert lab.stack.store is not None
    return b64decode(lab.stack.run(lab.stack.store.credential_of(record.device_id)).secret)


@pytest.mark.spec("ETS 10", "LwM2M-contract 2.5", "B-8", "SEC-10", "RFC 9148 4.2", "RFC 9148 4.3", "RFC 9148 4.5")
def test_a_device_makes_a_key_enrols_in_its_session_and_registers_with_its_certificate(
    lab: BootstrapLab, record: Any, issuing: Issuing
) -> None:
    device = lab.join(**PROVEN)
    assert lab.port.ends_of(record) == [("configured", "")]
    assert lab.registered() == [NAME]
    assert [certificate_of(device)] == issuing.issued
    assert lab.value(device, "/0/1/4") == IDENTITY.chain[0]
    # One session with the bootstrap server for all of it, and one with the other.
    assert len(of(lab, HandshakeDone)) == 2
    assert of(lab, Enrolled) == [Enrolled(NAME, "sen")]
    assert what_holds(lab, record) == certificate_of(device)


@pytest.mark.spec("LwM2M-contract 2.5", "LwM2M-contract 2.6")
def test_it_enrols_under_oscore_where_dtls_is_below(lab: BootstrapLab) -> None:
    there = {**psk_block("bs-dev1", KEY), "oscore": members(THERE)}
    record = lab.provision(credential=with_bootstrap(there))
    context = OscoreValues(THERE.secret, THERE.sender_id, THERE.recipient_id, master_salt=THERE.salt)
    device = lab.join(oscore=context, **PROVEN)
    assert device.server.transport == "oscore+dtls"
    assert of(lab, Enrolled) == [Enrolled(NAME, "sen")]
    assert what_holds(lab, record) == certificate_of(device)
    assert lab.registered() == [NAME]


@pytest.mark.spec("LwM2M-contract 2.5")
def test_key_and_certificate_outlive_the_device(lab: BootstrapLab, record: Any, issuing: Issuing) -> None:
    device = lab.join(**PROVEN)
    lab.leave(device)
    again = lab.join(memory=device.memory(), **PROVEN)
    assert lab.registered() == [NAME]
    assert certificate_of(again) == certificate_of(device)
    assert (len(issuing.issued), len(of(lab, Bootstrapped)), len(of(lab, Registered))) == (1, 1, 2)


@pytest.mark.spec("LwM2M-contract 2.5", "SEC-9", "RFC 9148 4.2")
def test_when_it_is_told_to_it_renews_its_certificate_and_registers_with_the_new_one(
    lab: BootstrapLab, record: Any, issuing: Issuing
) -> None:
    device = lab.join(**PROVEN)
    first = certificate_of(device)
    lab.poke(device, BootstrapDevice.renew)
    assert of(lab, Enrolled) == [Enrolled(NAME, "sen"), Enrolled(NAME, "sren")]
    second = certificate_of(device)
    assert [first, second] == issuing.issued
    assert key_of(load_der_x509_certificate(first)) != key_of(load_der_x509_certificate(second))
    assert len(of(lab, Registered)) == 2
    assert what_holds(lab, record) == second
    assert lab.command(record, "READ /3/0/0") == 200


@pytest.mark.spec("LwM2M-contract 2.5", "SEC-9")
def test_a_certificate_is_renewed_when_four_fifths_of_its_time_are_over(
    lab: BootstrapLab, record: Any, issuing: Issuing
) -> None:
    # It counts from a day before it was signed.
    issuing.since = NOW - timedelta(days=0.6) + timedelta(minutes=2)
    device = lab.join(**PROVEN)
    lab.run_for(110)
    assert [each.function for each in of(lab, Enrolled)] == ["sen"]
    issuing.since = NOW
    lab.run_for(20)
    assert [each.function for each in of(lab, Enrolled)] == ["sen", "sren"]
    assert what_holds(lab, record) == certificate_of(device) == issuing.issued[-1]


def test_it_renews_as_often_as_one_likes(lab: BootstrapLab, record: Any) -> None:
    device = lab.join(renew_every_s=20.0, **PROVEN)
    lab.run_for(45)
    assert [each.function for each in of(lab, Enrolled)] == ["sen", "sren", "sren"]
    assert len(of(lab, Registered)) == 3
    assert what_holds(lab, record) == certificate_of(device)


@pytest.mark.spec("LwM2M-contract 2.5")
def test_another_bootstrap_gives_it_another_certificate(lab: BootstrapLab, record: Any, issuing: Issuing) -> None:
    device = lab.join(**PROVEN)
    assert lab.command(record, "EXECUTE /1/0/9") == 200
    assert [each.function for each in of(lab, Enrolled)] == ["sen", "sen"]
    assert what_holds(lab, record) == certificate_of(device) == issuing.issued[1]
    assert lab.registered() == [NAME]


def test_what_needs_no_certificate_is_registered_with_before_one_is_there(
    lab: BootstrapLab, record: Any, issuing: Issuing
) -> None:
    issuing.out_of_order = True
    lab.port.profile(ENROLS, OPEN)
    device = lab.join(**PROVEN)
    assert [each.number for each in device.accounts] == [1]
    assert (certificate_of(device), lab.registered()) == (b"", [NAME])
    issuing.out_of_order = False
    lab.run_for(65)
    assert [each.number for each in device.accounts] == [1, 0]
    assert lab.registered() == [NAME]


MISDEEDS: dict[str, tuple[str, int]] = {
    "csr:once": ("4.00 the signature of the signing request is not of its key", 1),
    "stranger:once@sen": (f"4.03 the signing request names 'nobody-knows-{NAME}'", 1),
    "again:once@sen": ("", 2),
    "again:once@crts": ("", 1),
    "reboot:once@sen": ("in the middle", 2),
    "reboot:once@crts": ("in the middle", 1),
}


@pytest.mark.spec("LwM2M-contract 2.5", "RFC 9148 4.5")
@pytest.mark.parametrize("fault", MISDEEDS)
def test_whatever_it_gets_wrong_once_it_has_a_certificate_that_counts_in_the_end(
    lab: BootstrapLab, record: Any, issuing: Issuing, fault: str
) -> None:
    why, issued = MISDEEDS[fault]
    device = lab.join(faults=[fault], **PROVEN)
    lab.run_for(6)
    assert "".join(each.detail for each in of(lab, EnrolmentFailed)).startswith(why)
    assert (len(of(lab, Rebooted)), device.faults_committed) == ("reboot" in fault, 1)
    assert len(issuing.issued) == issued
    assert what_holds(lab, record) == certificate_of(device) == issuing.issued[-1]
    assert lab.registered() == [NAME]


@pytest.mark.spec("LwM2M-contract 2.5", "SEC-9")
@pytest.mark.parametrize("fault", ["reboot:once@sren", "again:once@sren", "csr:once@sren", "stranger:once@sren"])
def test_whatever_it_gets_wrong_when_it_renews_it_stays_registered(
    lab: BootstrapLab, record: Any, issuing: Issuing, fault: str
) -> None:
    device = lab.join(faults=[fault], **PROVEN)
    lab.poke(device, BootstrapDevice.renew, wait_s=0.3)
    assert lab.registered() == [NAME]
    assert lab.command(record, "READ /3/0/0", wait_s=10) == 200
    assert what_holds(lab, record) == certificate_of(device)


@pytest.mark.spec("LwM2M-contract 2.5", "ETS 7")
def test_a_device_that_cannot_enrol_asks_its_bootstrap_server_again(lab: BootstrapLab, record: Any) -> None:
    device = lab.join(faults=["csr"], **PROVEN)
    lab.run_for(20)
    assert [each.reason for each in of(lab, EnrolmentFailed)][:3] == ["refused"] * 3
    assert len(of(lab, Bootstrapped)) == 2
    assert not of(lab, BootstrapFailed)
    assert certificate_of(device) == b""


def test_a_device_that_takes_leave_asks_for_nothing_more(lab: BootstrapLab, record: Any, issuing: Issuing) -> None:
    device = lab.join(faults=["csr:once"], **PROVEN)
    lab.stop(device)
    lab.run_for(30)
    assert (issuing.issued, of(lab, Enrolled)) == ([], [])
