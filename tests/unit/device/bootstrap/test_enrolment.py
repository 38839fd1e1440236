"""Signing requests of devices that enrol: what a certificate is issued for, and what is not."""

from collections.abc import Callable
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.hazmat.primitives.serialization.pkcs7 import load_der_pkcs7_certificates
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from stellwerk.device.bootstrap.enrolment import (
    CERTS_ONLY,
    LONGEST_REQUEST,
    PKIX_CERT,
    BadRequest,
    in_format,
    read_request,
)
from stellwerk.device.key_material import der_of, spki_of
from stellwerk.issuing import make_authority, new_key
from stellwerk.lwm2m.status import Status

NAME = "urn:dev:os:dev1"
LONG = "urn:dev:os:" + 70 * "7"
KEY = new_key()


def signing_request(
    name: str | None = NAME, key: Any = KEY, also: tuple[x509.GeneralName, ...] = (), hash_: Any = SHA256
) -> bytes:
    subject = x509.Name([] if name is None else [x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    if also:
        builder = builder.add_extension(x509.SubjectAlternativeName(also), critical=False)
    return builder.sign(key, hash_() if hash_ else None).public_bytes(Encoding.DER)


GOOD = signing_request()


@pytest.mark.spec("LwM2M-contract 2.5")
def test_a_request_with_the_devices_name_and_a_key_of_p_256_is_taken() -> None:
    request = read_request(GOOD)
    assert (spki_of(request.key), request.name) == (spki_of(KEY.public_key()), NAME)


@pytest.mark.spec("LwM2M-contract 2.5")
def test_a_name_that_is_too_long_for_a_common_name_stands_in_an_alternative_name() -> None:
    by_uri = signing_request(None, also=(x509.UniformResourceIdentifier(LONG),))
    assert read_request(by_uri).name == LONG
    short = signing_request(None, also=(x509.UniformResourceIdentifier(NAME),))
    with pytest.raises(BadRequest, match="names nobody"):
        read_request(short)


def _broken_signature() -> bytes:
    return GOOD[:-1] + bytes([GOOD[-1] ^ 1])


REFUSED: dict[str, tuple[Callable[[], bytes], Status, str]] = {
    "garbage": (lambda: b"hello", Status.BAD_REQUEST, "no certificate signing request"),
    "nothing": (lambda: b"", Status.BAD_REQUEST, "no certificate signing request"),
    "more behind it": (lambda: GOOD + b"\0", Status.BAD_REQUEST, "no certificate signing request"),
    "a certificate": (
        lambda: der_of(make_authority("x").chain[0]),
        Status.BAD_REQUEST,
        "no certificate signing request",
    ),
    "another version": (lambda: GOOD[:7] + b"\1" + GOOD[8:], Status.BAD_REQUEST, "no certificate signing request"),
    "a signature of another key": (_broken_signature, Status.BAD_REQUEST, "signature"),
    "P-384": (
        lambda: signing_request(key=ec.generate_private_key(ec.SECP384R1())),
        Status.BAD_REQUEST,
        "secp256r1",
    ),
    "RSA": (lambda: signing_request(key=rsa.generate_private_key(65537, 1024)), Status.BAD_REQUEST, "secp256r1"),
    "Ed25519": (
        lambda: signing_request(key=ed25519.Ed25519PrivateKey.generate(), hash_=None),
        Status.BAD_REQUEST,
        "secp256r1",
    ),
    "no name": (lambda: signing_request(None), Status.FORBIDDEN, "nobody"),
    "too long": (lambda: bytes(LONGEST_REQUEST + 1), Status.REQUEST_ENTITY_TOO_LARGE, "2049 bytes, 2048"),
}


@pytest.mark.spec("LwM2M-contract 2.5")
@pytest.mark.parametrize("what", REFUSED)
def test_what_is_refused_is_refused_with_a_reason(what: str) -> None:
    make, status, text = REFUSED[what]
    with pytest.raises(BadRequest, match=text) as caught:
        read_request(make())
    assert caught.value.status is status
    assert caught.value.reason in ("csr", "csr-name", "csr-too-long")


def test_two_common_names_are_no_name() -> None:
    both = [x509.NameAttribute(NameOID.COMMON_NAME, each) for each in (NAME, "urn:dev:os:dev2")]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(both))
    with pytest.raises(BadRequest, match="dev2"):
        read_request(builder.sign(KEY, SHA256()).public_bytes(Encoding.DER))


@given(st.binary(max_size=64) | st.tuples(st.integers(0, len(GOOD) - 1), st.integers(1, 255)))
def test_any_bytes_are_refused_and_nothing_else_happens(what: bytes | tuple[int, int]) -> None:
    if isinstance(what, tuple):
        changed = bytearray(GOOD)
        changed[what[0]] ^= what[1]
        what = bytes(changed)
    with pytest.raises(BadRequest):
        read_request(what)


@pytest.mark.spec("LwM2M-contract 2.5", "RFC 9148 4.3")
def test_a_certificate_comes_alone_or_in_pkcs_7() -> None:
    certificate = der_of(make_authority("x").chain[0])
    assert in_format(certificate, PKIX_CERT) == certificate
    (found,) = load_der_pkcs7_certificates(in_format(certificate, CERTS_ONLY))
    assert der_of(found) == certificate
