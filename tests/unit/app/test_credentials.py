"""Credentials in lists of texts, as provisioning requests carry them."""

import pytest
from tests.credential_material import P384, b64, brief, certificate, der, pkcs8, spki

from stellwerk.app.credentials import (
    BadCredential,
    endpoint_names,
    is_key,
    parse_credentials,
    without_keys,
    written_credential,
    written_secret,
)
from stellwerk.device.record import PSK, RPK, X509

NAMES = endpoint_names("urn:imei:1234", "meter-1")
CERT = b64(der(certificate()))


@pytest.mark.spec("D2C 6.5", "D2C 6.6")
def test_the_names_of_a_device_begin_with_its_node_id() -> None:
    assert NAMES == ("urn:imei:1234", "imei:1234", "1234", "meter-1")


@pytest.mark.spec("D2C 6.5", "Platform 4")
@pytest.mark.parametrize(
    ("texts", "kind", "identity", "secret"),
    [
        (["psk-id:a", "psk:test"], PSK, "a", "test"),
        ([f"rpk:{b64(spki())}"], RPK, "urn:imei:1234", b64(spki())),
        ([f"x509:{CERT}"], X509, None, CERT),
        (["x509-cn:meter-1"], X509, "meter-1", ""),
        (["x509-cn:"], X509, "urn:imei:1234", ""),
    ],
    ids=brief,
)
def test_a_device_proves_itself_by_what_the_list_says(
    texts: list[str], kind: str, identity: str | None, secret: str
) -> None:
    found = parse_credentials(texts, 7, NAMES)
    assert (found.kind, found.secret, found.created_ms, found.endpoint) == (kind, secret, 7, "")
    assert found.identity == identity or len(found.identity) == 64
    # As it is shown, it can be given again.
    assert written_credential(found.identity, written_secret(found), 7, NAMES) == found


@pytest.mark.spec("D2C 6.5", "Platform 4")
@pytest.mark.parametrize(
    ("texts", "says"),
    [
        ([f"rpk:{b64(spki())}", "psk-id:a"], "psk-id: goes with psk: only"),
        ([f"rpk:{b64(spki())}", f"x509:{CERT}"], "two keys"),
        (["rpk:AAAA"], "nodeCredentials (nCr), rpk: this cannot be read as a SubjectPublicKeyInfo"),
        ([f"rpk:{b64(spki(P384))}"], "secp384r1 is not spoken here"),
        ([f"rpk:{b64(pkcs8())}"], "rpk: this cannot be read"),
        (["x509:"], "x509: it is empty"),
        (["x509-cn:meter-2"], "'meter-2' does not mean this device; its endpoint names are urn:imei:1234, "),
        (["psk-id:NO_SEC", "psk:x"], "not NO_SEC"),
        (["psk-id:a"], "psk:<key> is missing"),
        ([], "psk:<key> is missing"),
    ],
)
def test_what_cannot_be_says_which_part_and_why(texts: list[str], says: str) -> None:
    with pytest.raises(BadCredential) as refused:
        parse_credentials(texts, 7, NAMES)
    assert says in str(refused.value)
    assert b64(pkcs8()) not in str(refused.value)


def test_a_plain_key_that_looks_like_another_kind_stays_a_key() -> None:
    found = written_credential("a", "psk:rpk:x", 0, NAMES)
    assert (found.kind, found.key) == (PSK, b"rpk:x")
    assert written_credential("a", written_secret(found), 0, NAMES) == found


@pytest.mark.spec("D2C 6.1")
def test_of_a_list_only_names_are_shown() -> None:
    texts = ["psk-id:a", "x509-cn:meter-1", "psk:x", f"rpk:{b64(pkcs8())}", f"x509:{CERT}", 5]
    assert without_keys(texts) == ["psk-id:a", "x509-cn:meter-1", "***", "***", "***", "***"]


def test_a_private_key_in_a_name_is_seen() -> None:
    assert is_key("-----BEGIN EC PRIVATE KEY-----\nMHc")
    assert not is_key("x509-cn:meter-1")
