"""What is written of one server into objects 0, 1, 2 and 21, byte for byte."""

from dataclasses import replace
from typing import Any

import pytest
from tests.credential_material import b64, certificate, der, pkcs8, spki
from tests.unit.device.bootstrap.bootstrap_accounts import KEY, OSCORE_KEYS, SECRET, configuration, entry

from stellwerk.device.bootstrap.account import (
    Account,
    BadAccount,
    ClientKeys,
    ServerMaterial,
    access_content,
    check_account,
    check_versions,
    oscore_content,
    security_content,
    server_content,
    server_uri,
    weakness,
)
from stellwerk.device.bootstrap.configuration import NO_RPK_OVER_TLS, Acl, ServerEntry
from stellwerk.lwm2m.bootstrap import BootstrapWrite, encode_bootstrap_write
from stellwerk.lwm2m.content import Content
from stellwerk.lwm2m.path import Path
from stellwerk.lwm2m.value import ObjectLink

TLV, SENML_CBOR, LWM2M_CBOR = 11542, 112, 11544


def account(keys: ClientKeys | None = None, own: ServerMaterial | None = None, **members: Any) -> Account:
    (server,) = configuration(entry(**members)).servers
    return Account(server, keys or ClientKeys(), own or ServerMaterial())


def written(path: Path, content: Content, content_format: int) -> str:
    return encode_bootstrap_write(BootstrapWrite(path, content, content_format)).hex()


def resources(content: Content) -> dict[int, object]:
    return {each.path[2]: each.value for each in content.entries}


@pytest.mark.spec("LwM2M-contract B-7", "LwM2M-contract B-8")
def test_a_nosec_account_in_tlv() -> None:
    # 0 URI, 1 false, 2 mode 3, 10 short id 123, 11 hold-off, 12 time-out; empty 3, 4, 5
    uri = b"coap://dm.example.org:5683"
    assert written(Path(0, 1), security_content(account(), 1, "1.1"), TLV) == (
        f"c8001a{uri.hex()}" "c10100" "c10203" "c003" "c004" "c005" "c10a7b" "c10b01" "c10c00"
    )  # fmt: skip


@pytest.mark.spec("LwM2M-contract B-7", "LwM2M-contract B-8")
def test_a_psk_account_in_tlv_has_identity_and_key_and_an_empty_server_key() -> None:
    one = account(ClientKeys("psk", b"id1", KEY), securityMode="PSK", port=5684)
    uri = b"coaps://dm.example.org:5684"
    assert written(Path(0, 1), security_content(one, 1, "1.1"), TLV) == (
        f"c8001b{uri.hex()}" "c10100" "c10200" f"c303{b'id1'.hex()}" "c004" f"c80510{KEY.hex()}"
        "c10a7b" "c10b01" "c10c00"
    )  # fmt: skip


@pytest.mark.spec("LwM2M-contract B-7")
def test_a_psk_account_in_senml_cbor() -> None:
    one = account(ClientKeys("psk", b"id1", KEY), securityMode="PSK", port=5684)
    uri = b"coaps://dm.example.org:5684"
    assert written(Path(0, 1), security_content(one, 1, "1.1"), SENML_CBOR) == (
        "89"
        f"a321652f302f312f00613003781b{uri.hex()}"
        "a200613104f4"
        "a20061320200"
        "a20061330843696431"
        "a20061340840"
        f"a20061350850{KEY.hex()}"
        "a2006231300218" "7b"
        "a2006231310201"
        "a2006231320200"
    )  # fmt: skip


@pytest.mark.spec("LwM2M-contract B-7")
def test_a_server_instance_in_tlv_and_in_lwm2m_cbor() -> None:
    content = server_content(account(lifetime=86400, defaultMaxPeriod=60), 1)
    assert written(Path(1, 1), content, TLV) == "c1007bc40100015180c10201c1033cc10601c10755"
    assert written(Path(1, 1), content, LWM2M_CBOR) == "a1820101a600187b011a00015180020103183c06f5076155"


@pytest.mark.spec("LwM2M-contract 10", "LwM2M-contract 2.6")
def test_an_oscore_account_links_its_context_and_is_nosec_below() -> None:
    one = account(ClientKeys(oscore=OSCORE_KEYS), oscore=True)
    said = resources(security_content(one, 1, "1.1", 4))
    assert (said[2], said[17]) == (3, ObjectLink(21, 4))
    assert written(Path(21, 4), oscore_content(OSCORE_KEYS, 4, "2.0"), TLV) == (
        f"c80010{SECRET.hex()}" "c401" "01646576" "c402" "02737276" "c1030a" "c104f6" "c505" "0973616c74" "c206ff10"
    )  # fmt: skip


@pytest.mark.spec("LwM2M-contract 2.6", "LwM2M-contract 16.15")
def test_before_2_0_object_21_holds_hex() -> None:
    assert resources(oscore_content(OSCORE_KEYS, 1, "1.1")) == {
        0: SECRET.hex(), 1: b"\x01dev".hex(), 2: b"\x02srv".hex(), 3: 10, 4: -10, 5: b"\x09salt".hex(), 6: "ff10"
    }  # fmt: skip
    assert 6 not in resources(oscore_content(OSCORE_KEYS, 1, "1.0"))


@pytest.mark.spec("LwM2M-contract B-10", "Platform 3.4")
def test_raw_public_keys_and_certificates_with_the_platforms_own_where_the_entry_has_none() -> None:
    mine, own = certificate(), ServerMaterial(b"spki", b"certificate")
    rpk = ClientKeys("rpk", spki(), pkcs8())
    x509 = ClientKeys("x509", der(mine), pkcs8())
    said = resources(security_content(account(rpk, own, securityMode="RPK"), 0, "1.1"))
    assert (said[2], said[3], said[4], said[5]) == (1, spki(), b"spki", pkcs8())
    said = resources(security_content(account(x509, own, securityMode="X509"), 0, "1.1"))
    assert (said[2], said[3], said[4], said[5]) == (2, der(mine), b"certificate", pkcs8())
    named = account(x509, own, securityMode="X509", serverPublicKey=b64(der(mine)), certificateUsage=3)
    said = resources(security_content(named, 0, "1.1"))
    assert (said[4], said[15]) == (der(mine), 3)
    both = account(x509, own, securityMode="X509", serverPublicKey=b64(spki()), serverCertificate=b64(der(mine)))
    assert resources(security_content(both, 0, "1.1"))[4] == der(mine)


@pytest.mark.spec("LwM2M-contract 10")
def test_object_0_before_1_1_has_nothing_from_13_on() -> None:
    one = account(matchingType=1, serverName="dm", certificateUsage=2)
    assert {13, 14, 15} <= resources(security_content(one, 0, "1.1")).keys()
    assert max(resources(security_content(one, 0, "1.0"))) == 12


@pytest.mark.spec("Platform 3.4")
@pytest.mark.parametrize(
    ("server", "uri"),
    [
        (ServerEntry(), "coap://localhost:5683"),
        (ServerEntry(mode="psk", host="0.0.0.0", port=5684), "coaps://localhost:5684"),
        (ServerEntry(transport="tcp", host="a.b"), "coap+tcp://a.b:5683"),
        (ServerEntry(mode="x509", transport="tcp", host="2001:db8::1"), "coaps+tcp://[2001:db8::1]:5683"),
    ],
)
def test_the_uri_has_the_scheme_of_transport_and_mode(server: ServerEntry, uri: str) -> None:
    assert server_uri(server) == uri


@pytest.mark.spec("Platform 3.4")
def test_an_entry_of_the_bootstrap_server_is_marked_and_has_no_short_id() -> None:
    one = Account(ServerEntry(is_bootstrap=True, short_id=None, hold_off_s=30, account_timeout_s=600))
    said = resources(security_content(one, 0, "1.1"))
    assert (said[1], said[11], said[12], 10 in said) == (True, 30, 600, False)


@pytest.mark.spec("LwM2M-contract B-12", "Platform 13")
def test_access_rights_in_tlv() -> None:
    # 0 object 3, 1 instance 0, 2 {0: 1, 123: 31}, 3 owner 123
    content = access_content(Acl(3, 0, 123, ((0, 1), (123, 31))), 0)
    assert written(Path(2, 0), content, TLV) == "c10003c101008602410001417b1fc1037b"
    create = access_content(Acl(9, 65535, 65535, ((123, 16),)), 1)
    assert written(Path(2, 1), create, TLV) == "c10009c4010000ffff8302417b10c4030000ffff"


def test_access_rights_of_nobody_can_be_written_in_every_format() -> None:
    for content_format in (11542, 112, 110, 11544):
        assert written(Path(2, 0), access_content(Acl(3, 0, 65535), 0), content_format)


@pytest.mark.spec("LwM2M-contract B-10")
@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (KEY[:15], "has 15 bytes; 16 to 64 random ones are wanted"),
        (b"", "has 0 bytes; 16 to 64 random ones are wanted"),
        (bytes(16), "has 1 different bytes only; at least 16 random ones are wanted"),
        (b"passwordpassword", "has 7 different bytes only; at least 16 random ones are wanted"),
        (bytes(range(16)), "counts from byte to byte; at least 16 random ones are wanted"),
        (bytes(range(32, 0, -1)), "counts from byte to byte; at least 16 random ones are wanted"),
    ],
)
def test_a_weak_key_is_not_given_to_a_device(key: bytes, reason: str) -> None:
    assert weakness(key) == reason
    with pytest.raises(BadAccount) as caught:
        check_account(account(ClientKeys("psk", b"id1", key or b"k"), securityMode="PSK"))
    assert str(caught.value).startswith("server 123: the pre-shared key ")
    assert key.hex() not in str(caught.value) or not key


@pytest.mark.spec("LwM2M-contract B-10")
def test_a_random_key_is_given() -> None:
    assert weakness(KEY) is None


@pytest.mark.spec("Platform 4")
@pytest.mark.parametrize(
    ("one", "text"),
    [
        (
            account(ClientKeys("psk", b"i", KEY)),
            "server 123: the profile wants mode NO_SEC, the device's bootstrap credentials (lwm2mServer) are of mode "
            "PSK; both have to be the same",
        ),
        (account(ClientKeys("psk"), securityMode="PSK"), "server 123: the device has no keys for it"),
        (
            account(ClientKeys("psk", b"i" * 129, KEY), securityMode="PSK"),
            "server 123: the PSK identity has 129 bytes, 128 are the most",
        ),
        (
            account(ClientKeys("rpk", b"p", b"s"), securityMode="RPK"),
            "server 123: neither the profile nor this server has a public key for devices to know it by",
        ),
        (
            Account(
                replace(account(securityMode="RPK").entry, transport="tcp"),
                ClientKeys("rpk", b"p", b"s"),
                ServerMaterial(b"p", b"c"),
            ),
            f"server 123: {NO_RPK_OVER_TLS}",
        ),
        (
            account(oscore=True),
            "server 123: the profile wants OSCORE, and the device has no OSCORE context for it",
        ),
        (
            account(ClientKeys(oscore=replace(OSCORE_KEYS, master_secret=b"short")), oscore=True),
            "server 123: the OSCORE master secret has 5 bytes; 16 to 64 random ones are wanted",
        ),
    ],
)
def test_what_no_device_may_be_given_is_refused_with_the_reason(one: Account, text: str) -> None:
    with pytest.raises(BadAccount) as caught:
        check_account(one)
    assert str(caught.value) == text


@pytest.mark.spec("LwM2M-contract 2.6")
def test_a_device_that_cannot_hold_the_link_to_oscore_is_not_left_without_protection() -> None:
    one = account(ClientKeys(oscore=OSCORE_KEYS), oscore=True)
    check_versions(one, "1.1")
    with pytest.raises(BadAccount, match=r"object 0 of version 1\.0 has none"):
        check_versions(one, "1.0")


@pytest.mark.spec("LwM2M-contract 2.5", "LwM2M-contract B-8", "LwM2M-contract SEC-10")
def test_an_account_to_enrol_for_has_mode_4_the_servers_certificate_and_no_keys() -> None:
    (server,) = configuration(entry(securityMode="X509", keys="est")).servers
    one = Account(server, ClientKeys("x509"), ServerMaterial(b"", b"shown"))
    check_account(one)
    found = resources(security_content(one, 1, "1.1"))
    assert [found[each] for each in (2, 3, 4, 5)] == [4, b"", b"shown", b""]
    check_versions(one, "1.1")
    with pytest.raises(BadAccount, match=r"its object 0 of version 1\.0 has no such mode"):
        check_versions(one, "1.0")
    with pytest.raises(BadAccount, match="neither the profile nor this server has a certificate"):
        check_account(replace(one, own=ServerMaterial()))


def test_nothing_that_is_printed_of_an_account_holds_a_secret() -> None:
    one = account(ClientKeys("psk", b"id1", KEY, OSCORE_KEYS), securityMode="PSK")
    shown = repr(one)
    for secret in (KEY, SECRET):
        assert repr(secret)[2:-1] not in shown
