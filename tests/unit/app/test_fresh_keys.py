"""Keys that are made for one device: strong, of the kind that is wanted, and the platform knows what it gave."""

import json
from dataclasses import replace

import pytest
from cryptography.x509 import load_der_x509_certificate

from stellwerk.app.credentials import check_credential
from stellwerk.app.fresh_keys import FreshKeys, NoFreshKeys
from stellwerk.core.ids import DeviceId, TenantId
from stellwerk.device.bootstrap.account import Account, ServerMaterial, check_account
from stellwerk.device.bootstrap.configuration import FRESH_KEYS, ServerEntry
from stellwerk.device.key_material import certificate_key_id, key_of, raw_key_id, read_private_key, spki_of
from stellwerk.device.record import NOSEC, OSCORE, PSK, RPK, X509, DeviceRecord, security_of
from stellwerk.issuing import Issuer, make_authority

NOW_MS = 1_790_000_000_000
METER = DeviceRecord(DeviceId(7), TenantId(1), "acme", "meter", "urn:imei:7", (), "", NOW_MS, NOW_MS)
AUTHORITY = make_authority("acme")
ENTRY = ServerEntry(keys=FRESH_KEYS)
OWN = ServerMaterial(b"a public key", b"a certificate")


def certify(key: object, endpoint: str) -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding

    issued = Issuer(AUTHORITY.key, AUTHORITY.chain[0]).client(key, endpoint)  # type: ignore[arg-type]
    return issued.chain[0].public_bytes(Encoding.DER)


FRESH = FreshKeys(certify)


@pytest.mark.spec("LwM2M-contract B-10")
@pytest.mark.parametrize("mode", [PSK, RPK, X509])
@pytest.mark.parametrize("oscore", [False, True])
def test_what_is_made_may_be_given_and_is_what_the_platform_takes(mode: str, oscore: bool) -> None:
    entry = replace(ENTRY, mode=mode, oscore=oscore)
    keys, credential = FRESH(METER, entry, NOW_MS)
    check_account(Account(entry, keys, OWN))
    check_credential(credential, METER)
    assert (keys.mode, credential.kind, credential.is_fresh, credential.created_ms) == (mode, mode, True, NOW_MS)
    assert security_of(credential) == (f"{mode}+oscore" if oscore else mode)
    again = FRESH(METER, entry, NOW_MS)
    assert again[0].secret != keys.secret
    assert not any(each in repr((keys, credential)) for each in (keys.secret.hex(), credential.secret or "?"))


def test_a_pre_shared_key_has_an_identity_of_its_own() -> None:
    keys, credential = FRESH(METER, replace(ENTRY, mode=PSK), NOW_MS)
    assert len(keys.secret) == 16
    assert credential.key == keys.secret
    assert credential.identity.encode() == keys.public
    assert credential.identity.startswith("urn:imei:7#")
    assert FRESH(METER, replace(ENTRY, mode=PSK), NOW_MS)[1].identity != credential.identity
    long = replace(METER, node_id="ä" * 100)
    assert len(FRESH(long, replace(ENTRY, mode=PSK), NOW_MS)[0].public) <= 128


def test_a_key_pair_is_found_by_its_public_half() -> None:
    keys, credential = FRESH(METER, replace(ENTRY, mode=RPK), NOW_MS)
    assert spki_of(read_private_key(keys.secret).public_key()) == keys.public
    assert (credential.identity, credential.key_id) == ("urn:imei:7", raw_key_id(keys.public))


@pytest.mark.spec("Platform 12.1")
def test_a_certificate_is_of_the_platforms_authority_and_names_the_device() -> None:
    keys, credential = FRESH(METER, replace(ENTRY, mode=X509), NOW_MS)
    certificate = load_der_x509_certificate(keys.public)
    certificate.verify_directly_issued_by(AUTHORITY.chain[0])
    assert certificate.subject.rfc4514_string() == "CN=urn:imei:7"
    assert key_of(certificate) == spki_of(read_private_key(keys.secret).public_key())
    assert credential.key_id == certificate_key_id(keys.public)
    with pytest.raises(NoFreshKeys, match="keys make"):
        FreshKeys()(METER, replace(ENTRY, mode=X509), NOW_MS)


@pytest.mark.spec("LwM2M-contract 2.6")
def test_an_oscore_context_is_told_to_both_ends_alike() -> None:
    keys, credential = FRESH(METER, replace(ENTRY, oscore=True), NOW_MS)
    assert (keys.mode, keys.public, credential.kind, credential.identity) == (NOSEC, b"", OSCORE, "urn:imei:7")
    made = keys.oscore
    assert made is not None
    assert (len(made.master_secret), len(made.master_salt), len(made.sender_id)) == (16, 8, 6)
    assert made.sender_id != made.recipient_id
    assert json.loads(credential.oscore) == {
        "masterSecret": made.master_secret.hex(),
        "senderId": made.sender_id.hex(),
        "recipientId": made.recipient_id.hex(),
        "masterSalt": made.master_salt.hex(),
    }
    with pytest.raises(NoFreshKeys, match="NO_SEC has no keys"):
        FRESH(METER, ENTRY, NOW_MS)


def test_a_key_that_came_out_weak_is_thrown_away() -> None:
    strong = bytes.fromhex("0f1e2d3c4b5a69788796a5b4c3d2e1f1")
    numbers = iter([bytes(4), bytes(16), bytes(range(16)), strong])
    keys, _ = FreshKeys(random=lambda size: next(numbers))(METER, replace(ENTRY, mode=PSK), NOW_MS)
    assert keys.secret == strong
