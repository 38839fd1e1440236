"""Keys and certificates are read from what people have, and refused with the rule they break."""

from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st
from tests.credential_material import OTHER, P256, P384, RSA, SMALL, b64, brief, certificate, der, pkcs8, sec1, spki

from stellwerk.device.key_material import (
    BadMaterial,
    certificate_credentials_id,
    certificate_key_id,
    read_certificate,
    read_certificates,
    read_private_key,
    read_public_key,
)

PEM = Encoding.PEM
MINE = certificate()


@pytest.mark.spec("LwM2M-contract 2.2", "Platform 4")
@pytest.mark.parametrize(
    "material",
    [
        spki(),
        b64(spki()),
        spki(encoding=PEM),
        spki(encoding=PEM).decode(),
        f"\n{b64(spki())[:40]}\n{b64(spki())[40:]} ",
    ],
    ids=brief,
)
def test_a_public_key_is_der_base64_or_pem(material: str | bytes) -> None:
    assert read_public_key(material) == spki()


def test_a_compressed_point_is_the_same_key() -> None:
    der_of_point = P256.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    prefix = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")
    assert read_public_key(prefix + der_of_point) == spki()


@pytest.mark.spec("LwM2M-contract 2.2")
@pytest.mark.parametrize(
    "material", [pkcs8(), b64(pkcs8()), pkcs8(encoding=PEM), sec1(), sec1(encoding=PEM)], ids=brief
)
def test_a_private_key_is_pkcs8_or_sec1(material: str | bytes) -> None:
    assert read_private_key(material).private_numbers() == P256.private_numbers()


@pytest.mark.spec("LwM2M-contract 2.2")
@pytest.mark.parametrize("material", [der(MINE), b64(der(MINE)), MINE.public_bytes(PEM)], ids=brief)
def test_a_certificate_is_der_base64_or_pem(material: str | bytes) -> None:
    assert read_certificate(material) == MINE


def test_a_text_of_several_certificates_keeps_their_order() -> None:
    other = certificate(OTHER)
    both = MINE.public_bytes(PEM) + other.public_bytes(PEM)
    assert read_certificates(both) == [MINE, other]
    with pytest.raises(BadMaterial, match="2 are given"):
        read_certificate(both)


@pytest.mark.spec("LwM2M-contract 2.2")
@pytest.mark.parametrize(
    ("read", "material", "says"),
    [
        (read_public_key, "", "empty"),
        (read_public_key, "=!", "no base64"),
        (read_public_key, "AAAA", "cannot be read as a SubjectPublicKeyInfo"),
        (read_public_key, spki() + b"\0", "cannot be read"),
        (read_public_key, spki(P384), "secp384r1 is not spoken here; use secp256r1"),
        (read_public_key, spki(SMALL), "secp224r1 has 224 bits, 255 are the least"),
        (read_public_key, spki(RSA), "no elliptic curve key"),
        (read_public_key, b64(pkcs8()), "cannot be read"),
        (read_public_key, pkcs8(encoding=PEM), "'PRIVATE KEY'"),
        (read_public_key, "A" * 16_385, "16384 are the most"),
        (read_public_key, "-----BEGIN PUBLIC KEY-----", "no end"),
        (read_public_key, b"\xff\xfe", "this is not"),
        (read_certificate, "AAAA", "cannot be read as an X.509 certificate"),
        (read_certificate, der(certificate(P384)), "secp384r1"),
        (read_certificate, der(certificate(RSA)), "no elliptic curve key"),
        (read_certificate, spki(encoding=PEM), "'PUBLIC KEY'"),
        (read_private_key, pkcs8(P384), "secp384r1"),
        (read_private_key, pkcs8(RSA), "no elliptic curve key"),
        (read_private_key, pkcs8(password=b"secret"), "encrypted"),
        (read_private_key, pkcs8(encoding=PEM, password=b"secret"), "encrypted"),
        (read_private_key, spki(), "cannot be read as a PKCS#8"),
    ],
    ids=brief,
)
def test_what_cannot_be_used_is_refused_with_its_rule(read: Any, material: str | bytes, says: str) -> None:
    with pytest.raises(BadMaterial, match=says):
        read(material)


def test_a_certificate_is_named_by_published_hashes_in_lower_case_hex() -> None:
    assert certificate_credentials_id(b"abc") == "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532"
    assert certificate_key_id(b"abc") == "x509:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


@given(
    st.one_of(st.text(max_size=200), st.binary(max_size=200), st.binary(max_size=60).map(lambda each: spki() + each))
)
def test_any_material_is_read_or_refused(material: str | bytes) -> None:
    texts = []
    for read in (read_public_key, read_certificate, read_private_key):
        try:
            read(material)
        except BadMaterial as error:
            texts.append(str(error))
    assert all(len(each) < 200 for each in texts)
    assert len(texts) >= 2, "no material is two things at once"
