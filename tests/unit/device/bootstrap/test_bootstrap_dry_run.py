"""People see what would be written, and no secret."""

import json
from typing import Any

import pytest
from tests.credential_material import OTHER, b64, certificate, der, pkcs8, spki
from tests.unit.device.bootstrap.bootstrap_accounts import KEY, OSCORE_KEYS, SECRET, accounts, configuration, entry

from stellwerk.device.bootstrap.account import Account, ClientKeys, ServerMaterial
from stellwerk.device.bootstrap.discovered import decode_discovered
from stellwerk.device.bootstrap.dry_run import differences, show_pack, show_plan
from stellwerk.device.bootstrap.pack import make_pack
from stellwerk.device.bootstrap.plan import make_plan
from stellwerk.device.key_material import certificate_key_id, raw_key_id
from stellwerk.device.record import Credential
from stellwerk.lwm2m.path import Path

CREDENTIAL = Credential("id1", f"psk-hex:{KEY.hex()}")
OSCORE = json.dumps(
    {
        "senderId": OSCORE_KEYS.sender_id.hex(),
        "recipientId": OSCORE_KEYS.recipient_id.hex(),
        "masterSecret": SECRET.hex(),
        "masterSalt": OSCORE_KEYS.master_salt.hex(),
        "idContext": OSCORE_KEYS.id_context.hex(),
    }
)


def test_a_dry_run_names_each_operation_and_value() -> None:
    of = configuration(entry(securityMode="PSK", port=5684))
    listed = decode_discovered(b"</0/0>,</0/1>;ssid=123,</1/0>;ssid=123")
    shown = show_plan(make_plan(of, accounts(of), listed, pct=112), of, accounts(of), CREDENTIAL)
    assert str(shown).splitlines() == [
        "Bootstrap-Delete /0/1",
        "Bootstrap-Delete /1/0",
        "Bootstrap-Write /0/1  (Content-Format 112)",
        "  /0/1/0     LWM2M Server URI: coaps://dm.example.org:5684",
        "  /0/1/1     Bootstrap-Server: false",
        "  /0/1/2     Security Mode: 0",
        "  /0/1/3     Public Key or Identity: 'id1'",
        "  /0/1/4     Server Public Key: empty",
        "  /0/1/5     Secret Key: 16 bytes, withheld",
        "  /0/1/10    Short Server ID: 123",
        "  /0/1/11    Client Hold Off Time: 1",
        "  /0/1/12    Bootstrap-Server Account Timeout: 0",
        "Bootstrap-Write /1/0  (Content-Format 112)",
        "  /1/0/0     Short Server ID: 123",
        "  /1/0/1     Lifetime: 300",
        "  /1/0/2     Default Minimum Period: 1",
        "  /1/0/6     Notification Storing When Disabled or Offline: true",
        "  /1/0/7     Binding: U",
    ]


@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_no_secret_is_shown_in_bytes_or_hex(version: str) -> None:
    of = configuration(entry(securityMode="PSK", oscore=True), entry(shortServerId=2, port=1))
    listed = decode_discovered(f"</0/0>,</21>;ver={version}".encode())
    text = str(show_plan(make_plan(of, accounts(of), listed), of, accounts(of), None))
    text += str(show_pack(make_pack(of, accounts(of), (Path(0, 0),)), 112, of, accounts(of), None))
    for secret in (KEY, SECRET, OSCORE_KEYS.master_salt):
        assert secret.hex() not in text.lower()
        assert repr(secret)[2:-1] not in text
    assert "OSCORE Master Secret: 16 bytes, withheld" in text


def test_keys_and_certificates_are_shown_as_a_digest() -> None:
    of = configuration(entry(securityMode="RPK"))
    given = [Account(of.given[0], ClientKeys("rpk", spki(), pkcs8()), ServerMaterial(spki(OTHER)))]
    text = str(show_plan(make_plan(of, given, None), of, given, None))
    assert f"Server Public Key: {len(spki(OTHER))} bytes, SHA-256 {raw_key_id(spki(OTHER))[4:20]}..." in text


def test_nothing_to_write_is_said_and_several_servers_without_rights_are_doubted() -> None:
    nothing = configuration()
    assert str(show_plan(make_plan(nothing, [], None), nothing, [], None)) == "Nothing would be written."
    two = configuration(entry(), entry(shortServerId=2, port=1))
    shown = show_plan(make_plan(two, accounts(two), decode_discovered(b"</0/0>")), two, accounts(two), None)
    assert shown.warnings == (
        "the profile has 2 servers and no acls: a device that has object 2 gives each server only what that one "
        "creates itself",
    )


def account(mode: str, keys: ClientKeys, **members: Any) -> Account:
    return Account(configuration(entry(securityMode=mode, **members)).servers[0], keys)


PSK = account("PSK", ClientKeys("psk", b"id1", KEY))
RPK = account("RPK", ClientKeys("rpk", spki(), pkcs8()))
X509 = account("X509", ClientKeys("x509", der(certificate()), pkcs8()))
WITH_OSCORE = account("NO_SEC", ClientKeys(oscore=OSCORE_KEYS), oscore=True)
PINNED = b64(der(certificate()))


@pytest.mark.parametrize(
    ("given", "credential", "said"),
    [
        (PSK, CREDENTIAL, ()),
        (PSK, None, ("the device is given keys of mode psk, and here its credential is of mode nosec",)),
        (PSK, Credential("id2", CREDENTIAL.secret), ("the PSK identity is another than here, where it is 'id2'",)),
        (PSK, Credential("id1", "psk-text:x"), ("the pre-shared key is another than here, of the same identity",)),
        (RPK, Credential("e", "", kind="rpk", key_id=raw_key_id(spki())), ()),
        (RPK, Credential("e", "", kind="rpk", key_id="rpk:0"), ("the raw public key is another than here",)),
        (X509, Credential("e", "", kind="x509", endpoint="meter-1"), ()),
        (
            X509,
            Credential("e", "", kind="x509", endpoint="meter-2"),
            ("the certificate's common name is not the endpoint name 'meter-2'",),
        ),
        (
            X509,
            Credential("e", PINNED, kind="x509", key_id="x509:0"),
            ("the certificate is another than the one that is pinned here",),
        ),
        (
            X509,
            Credential("e", PINNED, kind="x509", key_id=certificate_key_id(X509.keys.public)),
            (),
        ),
        (account("NO_SEC", ClientKeys()), None, ()),
        (WITH_OSCORE, Credential("e", "", kind="oscore", oscore=OSCORE), ()),
        (WITH_OSCORE, None, ("no OSCORE context is here",)),
        (
            account("NO_SEC", ClientKeys()),
            Credential("e", "", kind="oscore", oscore=OSCORE),
            ("an OSCORE context is wanted here, and none is given",),
        ),
        (
            WITH_OSCORE,
            Credential("e", "", kind="oscore", oscore=OSCORE.replace(SECRET.hex(), "00")),
            ("the OSCORE context differs from the one here in masterSecret",),
        ),
    ],
    ids=range(15),
)
def test_keys_that_would_not_be_accepted_here_are_doubted(
    given: Account, credential: Credential | None, said: tuple[str, ...]
) -> None:
    assert differences(given, credential) == said


def test_a_fresh_key_is_not_doubted() -> None:
    of = configuration(entry(securityMode="PSK", keys="fresh"))
    shown = show_plan(make_plan(of, accounts(of), decode_discovered(b"</0/0>")), of, accounts(of), None)
    assert shown.warnings == ()
