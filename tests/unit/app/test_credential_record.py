"""The credential record of the device platform is taken whole, or refused with the field and the rule."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.credential_material import (
    BARE,
    OTHER,
    P384,
    RSA,
    SMALL,
    b64,
    certificate,
    der,
    pkcs8,
    record,
    sec1,
    spki,
)

from stellwerk.app.credential_record import (
    BadField,
    bootstrap_id,
    bootstrap_oscore,
    is_one_time,
    parse_record,
    render_record,
    without_secrets,
)
from stellwerk.app.oscore import read_oscore
from stellwerk.core.ids import DeviceId
from stellwerk.device.key_material import certificate_key_id, raw_key_id, read_private_key
from stellwerk.device.record import (
    NOSEC,
    OSCORE,
    PSK,
    RPK,
    X509,
    Credential,
    security_of,
    transport_security,
    wants_oscore,
)

HEX = "0123456789ABCDEF" * 2
SECRETS = (HEX.lower(), b64(pkcs8()), b64(pkcs8(OTHER)))
NO_SEC = {"securityConfigClientMode": "NO_SEC"}
PSK_CLIENT = {"securityConfigClientMode": "PSK", "identity": "id1", "key": HEX}
RPK_CLIENT = {"securityConfigClientMode": "RPK", "key": b64(spki())}
X509_CLIENT = {"securityConfigClientMode": "X509"}
MINE = certificate()
PSK_SERVER = {"securityMode": "PSK", "clientPublicKeyOrId": "id2", "clientSecretKey": HEX}
RPK_SERVER = {"securityMode": "RPK", "clientPublicKeyOrId": b64(spki()), "clientSecretKey": b64(pkcs8())}
X509_SERVER = {"securityMode": "X509", "clientPublicKeyOrId": b64(der(MINE)), "clientSecretKey": b64(pkcs8())}


@pytest.mark.spec("Platform 4")
def test_each_mode_has_its_credentials_id() -> None:
    expected = {
        "NO_SEC": (NO_SEC, NOSEC, "meter-1", "", ""),
        "PSK": (PSK_CLIENT, PSK, "id1", f"psk-hex:{HEX.lower()}", ""),
        "RPK": (RPK_CLIENT, RPK, "meter-1", b64(spki()), "rpk:"),
        "X509 by name": (X509_CLIENT, X509, "meter-1", "", ""),
    }
    for client, kind, identity, secret, key_id in expected.values():
        found = parse_record(record(client), 7)
        assert (found.kind, found.identity, found.secret, found.endpoint) == (kind, identity, secret, "meter-1")
        assert found.key_id[:4] == key_id
        assert (found.bootstrap, found.created_ms, found.modified_ms) == ("", 7, 7)
    pinned = parse_record(record({**X509_CLIENT, "cert": b64(der(MINE))}), 7)
    assert (pinned.kind, pinned.secret) == (X509, b64(der(MINE)))
    assert len(pinned.identity) == 64
    assert pinned.key_id.startswith("x509:")


@pytest.mark.spec("Platform 4")
def test_pem_is_taken_where_der_in_base64_is_meant() -> None:
    from cryptography.hazmat.primitives.serialization import Encoding

    pem = {"securityMode": "RPK"}
    pem["clientPublicKeyOrId"] = spki(encoding=Encoding.PEM).decode()
    pem["clientSecretKey"] = sec1(encoding=Encoding.PEM).decode()
    client = {**X509_CLIENT, "cert": MINE.public_bytes(Encoding.PEM).decode()}
    found = parse_record(record(client, {**BARE, "lwm2mServer": pem}), 0)
    assert found.secret == b64(der(MINE))
    kept = json.loads(found.bootstrap)["lwm2mServer"]
    assert kept["clientPublicKeyOrId"] == b64(spki())
    assert read_private_key(kept["clientSecretKey"]).public_key() == MINE.public_key()


def servers(**changed: Any) -> dict[str, Any]:
    return {"bootstrapServer": PSK_SERVER, "lwm2mServer": RPK_SERVER, **changed}


def without(block: dict[str, Any], name: str) -> dict[str, Any]:
    return {each: value for each, value in block.items() if each != name}


MODE_RULE = "one of NO_SEC, PSK, RPK, X509"


@pytest.mark.spec("Platform 4")
@pytest.mark.parametrize(
    ("client", "field", "rule"),
    [
        ({}, "client.securityConfigClientMode", "missing"),
        ({"securityConfigClientMode": "psk"}, "client.securityConfigClientMode", MODE_RULE),
        ({"securityConfigClientMode": 5}, "client.securityConfigClientMode", "a text"),
        ({**NO_SEC, "endpoint": None}, "client.endpoint", "missing"),
        ({**NO_SEC, "endpoint": " \t"}, "client.endpoint", "not blank"),
        ({**NO_SEC, "endpoint": "a\0b"}, "client.endpoint", "printable"),
        ({**NO_SEC, "endpoint": " a"}, "client.endpoint", "no blank before or after"),
        ({**NO_SEC, "endpoint": "a" * 256}, "client.endpoint", "255"),
        ({**NO_SEC, "endpoint": ["a"]}, "client.endpoint", "a text"),
        ({**NO_SEC, "key": HEX}, "client.key", "mode NO_SEC has none"),
        ({**NO_SEC, "ident": "x"}, "client.ident", "no such member"),
        (without(PSK_CLIENT, "identity"), "client.identity", "missing"),
        ({**PSK_CLIENT, "identity": "  "}, "client.identity", "not blank"),
        ({**PSK_CLIENT, "identity": "NO_SEC"}, "client.identity", "not NO_SEC"),
        ({**PSK_CLIENT, "identity": "x" * 129}, "client.identity", "1 to 128 bytes"),
        ({**PSK_CLIENT, "identity": "\ud800"}, "client.identity", "control characters"),
        (without(PSK_CLIENT, "key"), "client.key", "missing"),
        ({**PSK_CLIENT, "key": ""}, "client.key", "not blank"),
        ({**PSK_CLIENT, "key": HEX[:-1] + "g"}, "client.key", "hex digits"),
        ({**PSK_CLIENT, "key": HEX[:-1]}, "client.key", "32, 64, 96 or 128 hex digits, this one has 31"),
        ({**PSK_CLIENT, "key": HEX * 5}, "client.key", "this one has 160"),
        ({**PSK_CLIENT, "key": 5}, "client.key", "a text"),
        ({**RPK_CLIENT, "key": "x"}, "client.key", "no base64"),
        ({**RPK_CLIENT, "key": b64(pkcs8())}, "client.key", "cannot be read as a SubjectPublicKeyInfo"),
        ({**RPK_CLIENT, "key": b64(spki(RSA))}, "client.key", "no elliptic curve key"),
        ({**RPK_CLIENT, "key": b64(spki(SMALL))}, "client.key", "224 bits, 255 are the least"),
        ({**RPK_CLIENT, "key": b64(spki(P384))}, "client.key", "secp384r1 is not spoken here"),
        ({**RPK_CLIENT, "cert": "x"}, "client.cert", "mode RPK has none"),
        ({**X509_CLIENT, "cert": "AAAA"}, "client.cert", "cannot be read as an X.509"),
        ({**X509_CLIENT, "cert": b64(der(certificate(RSA)))}, "client.cert", "no elliptic curve key"),
        ({**X509_CLIENT, "cert": 5}, "client.cert", "a text"),
    ],
)
def test_a_client_that_breaks_a_rule_is_told_which(client: dict[str, Any], field: str, rule: str) -> None:
    with pytest.raises(BadField, match=rule) as refused:
        parse_record(record(client), 0)
    assert refused.value.field == field
    assert str(refused.value).startswith(f"{field}: ")
    assert not any(each in str(refused.value).lower() for each in SECRETS)


@pytest.mark.spec("Platform 4")
@pytest.mark.parametrize(
    ("bootstrap", "field", "rule"),
    [
        (None, "bootstrap", "missing"),
        ([], "bootstrap", "JSON object"),
        ({}, "bootstrap.bootstrapServer", "missing"),
        (without(servers(), "lwm2mServer"), "bootstrap.lwm2mServer", "missing"),
        (servers(other={}), "bootstrap.other", "no such member"),
        (servers(lwm2mServer="x"), "bootstrap.lwm2mServer", "JSON object"),
        (servers(lwm2mServer={}), "bootstrap.lwm2mServer.securityMode", "missing"),
        (servers(lwm2mServer={"securityMode": "EST"}), "bootstrap.lwm2mServer.securityMode", MODE_RULE),
        (
            servers(bootstrapServer={"securityMode": "NO_SEC", "clientSecretKey": HEX}),
            "bootstrap.bootstrapServer.clientSecretKey",
            "mode NO_SEC has none",
        ),
        (
            servers(bootstrapServer={**PSK_SERVER, "clientPublicKeyOrId": " "}),
            "bootstrap.bootstrapServer.clientPublicKeyOrId",
            "not blank",
        ),
        (
            servers(bootstrapServer={**PSK_SERVER, "clientPublicKeyOrId": "NO_SEC"}),
            "bootstrap.bootstrapServer.clientPublicKeyOrId",
            "not NO_SEC",
        ),
        (
            servers(bootstrapServer={**PSK_SERVER, "clientSecretKey": HEX[:30]}),
            "bootstrap.bootstrapServer.clientSecretKey",
            "this one has 30",
        ),
        (
            servers(bootstrapServer=without(PSK_SERVER, "clientSecretKey")),
            "bootstrap.bootstrapServer.clientSecretKey",
            "missing",
        ),
        (
            servers(lwm2mServer={**RPK_SERVER, "clientPublicKeyOrId": b64(der(MINE))}),
            "bootstrap.lwm2mServer.clientPublicKeyOrId",
            "SubjectPublicKeyInfo",
        ),
        (
            servers(lwm2mServer={**RPK_SERVER, "clientSecretKey": b64(spki())}),
            "bootstrap.lwm2mServer.clientSecretKey",
            "PKCS#8",
        ),
        (
            servers(lwm2mServer={**RPK_SERVER, "clientSecretKey": b64(pkcs8(OTHER))}),
            "bootstrap.lwm2mServer.clientSecretKey",
            "not the private key to clientPublicKeyOrId",
        ),
        (
            servers(lwm2mServer={**X509_SERVER, "clientSecretKey": b64(pkcs8(OTHER))}),
            "bootstrap.lwm2mServer.clientSecretKey",
            "not the private key to clientPublicKeyOrId",
        ),
        (
            servers(lwm2mServer={**X509_SERVER, "clientPublicKeyOrId": b64(spki())}),
            "bootstrap.lwm2mServer.clientPublicKeyOrId",
            "X.509 certificate",
        ),
        (
            servers(lwm2mServer={**X509_SERVER, "clientSecretKey": b64(pkcs8(password=b"x"))}),
            "bootstrap.lwm2mServer.clientSecretKey",
            "encrypted",
        ),
    ],
)
def test_a_bootstrap_part_that_breaks_a_rule_is_told_which(bootstrap: Any, field: str, rule: str) -> None:
    with pytest.raises(BadField, match=rule) as refused:
        parse_record(record(NO_SEC, bootstrap), 0)
    assert refused.value.field == field
    assert not any(each in str(refused.value).lower() for each in SECRETS)


@pytest.mark.parametrize(
    ("text", "field", "rule"),
    [
        ("", "record", "no JSON in line 1, column 1"),
        ("5", "record", "JSON object"),
        ("null", "record", "JSON object"),
        ("[" * 100_000, "record", "nested too deeply"),
        ('{"a": 1, "client": {}, "bootstrap": {}}', "a", "no such member; the members are bootstrap, client"),
        ('{"client": {"key": "1", "key": "2"}}', "key", "given twice"),
        (f'{{"{HEX}": 1}}', "\\*\\*\\*", "no such member"),
        ('{"client": "%s"' % ("x" * 131_072), "record", "131072 are the most"),
        ("{" + "1" * 5000 + "}", "record", "no JSON"),
    ],
)
def test_what_is_no_record_is_refused(text: str, field: str, rule: str) -> None:
    with pytest.raises(BadField, match=rule) as refused:
        parse_record(text, 0)
    assert refused.value.field == field.replace("\\", "")


@pytest.mark.spec("Platform 4")
@pytest.mark.parametrize(
    "client", [NO_SEC, PSK_CLIENT, RPK_CLIENT, X509_CLIENT, {**X509_CLIENT, "cert": b64(der(MINE))}]
)
@pytest.mark.parametrize("bootstrap", [BARE, servers(), servers(lwm2mServer=X509_SERVER)])
def test_a_record_comes_back_as_it_was_given(client: dict[str, Any], bootstrap: Any) -> None:
    found = parse_record(record(client, bootstrap), 0)
    shown = render_record(found, "another")
    assert parse_record(json.dumps(shown), 0) == found
    everything = json.dumps(without_secrets(shown)) + repr(found)
    assert not any(each in everything.lower() or each in everything for each in SECRETS)
    assert json.dumps(shown).count(HEX.lower()) == (client is PSK_CLIENT) + (bootstrap is not BARE)


@pytest.mark.spec("Platform 4")
def test_what_was_not_made_by_a_record_is_shown_as_one() -> None:
    assert render_record(None, "meter-1") == {
        "client": {"securityConfigClientMode": "NO_SEC", "endpoint": "meter-1"},
        "bootstrap": BARE,
    }
    short = render_record(Credential("id", "dGVzdDEyMw=="), "meter-1")
    assert short["client"]["key"] == b"test123".hex()
    assert parse_record(json.dumps(render_record(None, "meter-1")), 0).kind == NOSEC


MEMBERS = st.sampled_from(
    [
        *("client", "bootstrap", "bootstrapServer", "lwm2mServer", "securityMode", "securityConfigClientMode"),
        *("endpoint", "identity", "key", "cert", "clientPublicKeyOrId", "clientSecretKey", "other"),
    ]
)
LEAVES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(["NO_SEC", "PSK", "RPK", "X509", HEX, b64(spki()), b64(pkcs8()), b64(der(MINE)), "meter-1"]),
)
ANY_JSON = st.recursive(
    LEAVES, lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(MEMBERS, inner, max_size=5))
)
CLIENT = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("securityConfigClientMode", *["endpoint", "identity", "key", "cert"]), LEAVES)
)
SERVER = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(("securityMode", "clientPublicKeyOrId", "clientSecretKey"), LEAVES)
)
NEARLY = st.fixed_dictionaries(
    {"client": CLIENT, "bootstrap": st.fixed_dictionaries({"bootstrapServer": SERVER, "lwm2mServer": SERVER})}
)


@given(st.one_of(ANY_JSON, NEARLY))
def test_any_json_is_a_record_or_is_refused_with_a_field(value: Any) -> None:
    refused: BadField | None = None
    try:
        found = parse_record(json.dumps(value), 0)
    except BadField as error:
        refused = error
    if refused is None:
        assert parse_record(json.dumps(render_record(found, "x")), 0) == found
    else:
        assert (bool(refused.field), str(refused)) == (True, f"{refused.field}: {refused.rule}")


@given(st.text(max_size=100))
def test_any_text_is_a_record_or_is_refused(text: str) -> None:
    with pytest.raises(BadField):
        parse_record(text, 0)


SECRET_OF_C1 = "0102030405060708090a0b0c0d0e0f10"
"""RFC 8613 C.1."""
CONTEXT: dict[str, Any] = {"masterSecret": SECRET_OF_C1, "senderId": "", "recipientId": "01"}
FULL = {**CONTEXT, "masterSalt": "9e7ca92223786340", "idContext": "37cbf3210017a2d3", "aead": 24, "hkdf": -11}


@pytest.mark.spec("LwM2M-contract 2.6")
@pytest.mark.parametrize(
    ("client", "kind", "security"),
    [(NO_SEC, OSCORE, "oscore"), (PSK_CLIENT, PSK, "psk+oscore"), (X509_CLIENT, X509, "x509+oscore")],
)
def test_an_oscore_context_alone_or_above_another_layer(client: dict[str, Any], kind: str, security: str) -> None:
    found = parse_record(record({**client, "oscore": CONTEXT}), 7)
    assert (found.kind, security_of(found)) == (kind, security)
    assert wants_oscore(security)
    assert transport_security(security) == (NOSEC if kind == OSCORE else kind)
    context = read_oscore(found.oscore, DeviceId(1))
    assert (context.sender_id, context.recipient_id, context.master_secret.hex()) == (b"", b"\x01", SECRET_OF_C1)
    shown = render_record(found, "another")
    assert shown["client"]["oscore"] == CONTEXT
    assert parse_record(json.dumps(shown), 7) == found
    assert SECRET_OF_C1 not in json.dumps(without_secrets(shown)) + repr(found) + repr(context)


def test_what_wants_no_oscore_is_said_as_before() -> None:
    assert (wants_oscore(NOSEC), wants_oscore(X509)) == (False, False)
    assert (transport_security(NOSEC), transport_security(X509)) == (NOSEC, X509)
    assert (security_of(None), security_of(parse_record(record(PSK_CLIENT), 0))) == (NOSEC, PSK)


def oscore(**changed: Any) -> dict[str, Any]:
    return {**PSK_CLIENT, "oscore": {**CONTEXT, **changed}}


@pytest.mark.parametrize(
    ("client", "field", "rule"),
    [
        ({**PSK_CLIENT, "oscore": "x"}, "client.oscore", "JSON object"),
        ({**PSK_CLIENT, "oscore": without(CONTEXT, "senderId")}, "client.oscore.senderId", "missing"),
        (oscore(secret="x"), "client.oscore.secret", "no such member"),
        (oscore(masterSecret=SECRET_OF_C1[:-2]), "client.oscore.masterSecret", "32 to 128 hex digits, this one has 30"),
        (oscore(masterSecret=SECRET_OF_C1[:-1] + "x"), "client.oscore.masterSecret", "hex digits"),
        (oscore(masterSecret=SECRET_OF_C1[:-1]), "client.oscore.masterSecret", "even number"),
        (oscore(senderId=5), "client.oscore.senderId", "a text"),
        (oscore(senderId="00" * 8), "client.oscore.senderId", "0 to 14 hex digits"),
        (oscore(senderId="00" * 2, aead=12), "client.oscore.senderId", "0 to 2 hex digits"),
        (oscore(senderId="01"), "client.oscore.recipientId", "both ends have the same ID"),
        (oscore(aead=4), "client.oscore.aead", "one of 10, 11"),
        (oscore(aead=True), "client.oscore.aead", "one of"),
        (oscore(hkdf="x"), "client.oscore.hkdf", "one of -10, -11, 5, 7"),
    ],
)
def test_an_oscore_context_that_breaks_a_rule_is_told_which(client: dict[str, Any], field: str, rule: str) -> None:
    with pytest.raises(BadField, match=rule) as refused:
        parse_record(record(client), 0)
    assert refused.value.field == field
    assert SECRET_OF_C1[:-2] not in str(refused.value)


def test_algorithms_have_one_name_each() -> None:
    by_hmac = json.loads(parse_record(record(oscore(hkdf=7, aead=24)), 0).oscore)
    assert (by_hmac["hkdf"], by_hmac["aead"]) == (-11, 24)
    assert json.loads(parse_record(record(oscore(hkdf=5, aead=10)), 0).oscore) == CONTEXT


def test_servers_have_keys_of_their_own_and_contexts_and_a_device_is_bootstrapped_once() -> None:
    bootstrap = servers(
        lwm2mServer={**PSK_SERVER, "oscore": FULL},
        servers={"7": {**RPK_SERVER, "oscore": None}, "65534": {"securityMode": "NO_SEC", "oscore": CONTEXT}},
        oneTime=True,
        endpoint="meter-1@factory",
    )
    found = parse_record(record(NO_SEC, bootstrap), 0)
    kept = json.loads(found.bootstrap)
    assert kept["servers"] == {"7": kept["servers"]["7"], "65534": bootstrap["servers"]["65534"]}
    assert kept["servers"]["7"]["clientPublicKeyOrId"] == b64(spki())
    assert kept["lwm2mServer"]["oscore"] == FULL
    assert (kept["oneTime"], kept["endpoint"]) == (True, "meter-1@factory")
    assert is_one_time(found.bootstrap)
    shown = render_record(found, "x")
    assert parse_record(json.dumps(shown), 0) == found
    masked = json.dumps(without_secrets(shown))
    assert not any(each in masked for each in (*SECRETS, SECRET_OF_C1))
    assert b64(spki()) in masked
    assert not is_one_time(parse_record(record(NO_SEC, servers(oneTime=False)), 0).bootstrap)
    assert parse_record(record(NO_SEC, {**BARE, "servers": {}, "oneTime": False, "endpoint": None}), 0).bootstrap == ""


@pytest.mark.parametrize(
    ("changed", "field", "rule"),
    [
        ({"servers": []}, "bootstrap.servers", "JSON object"),
        ({"servers": {"0": PSK_SERVER}}, "bootstrap.servers.***", "1 to 65534"),
        ({"servers": {"65535": PSK_SERVER}}, "bootstrap.servers.***", "1 to 65534"),
        ({"servers": {"x": PSK_SERVER}}, "bootstrap.servers.x", "1 to 65534"),
        ({"servers": {"7": None}}, "bootstrap.servers.7", "missing"),
        ({"servers": {"7": {}}}, "bootstrap.servers.7.securityMode", "missing"),
        ({"servers": {"7": {**PSK_SERVER, "oscore": {}}}}, "bootstrap.servers.7.oscore.senderId", "missing"),
        ({"bootstrapServer": {**PSK_SERVER, "oscore": {}}}, "bootstrap.bootstrapServer.oscore.senderId", "missing"),
        (
            {"bootstrapServer": {"securityMode": "NO_SEC", "oscore": {}}},
            "bootstrap.bootstrapServer.oscore.senderId",
            "missing",
        ),
        ({"oneTime": 1}, "bootstrap.oneTime", "true or false"),
        ({"endpoint": "x\ny"}, "bootstrap.endpoint", "printable"),
    ],
)
def test_what_else_of_a_bootstrap_part_breaks_a_rule(changed: dict[str, Any], field: str, rule: str) -> None:
    with pytest.raises(BadField, match=rule) as refused:
        parse_record(record(NO_SEC, servers(**changed)), 0)
    assert refused.value.field == field


@pytest.mark.spec("Platform 12.1")
def test_the_bootstrap_server_finds_a_device_by_what_its_block_says() -> None:
    def found(block: dict[str, Any]) -> str:
        return bootstrap_id(parse_record(record(NO_SEC, servers(bootstrapServer=block)), 0).bootstrap)

    assert found(PSK_SERVER) == "psk:id2"
    assert found(RPK_SERVER) == raw_key_id(spki())
    assert found(X509_SERVER) == certificate_key_id(der(MINE))
    assert found({"securityMode": "NO_SEC"}) == ""
    assert [bootstrap_id(each) for each in ("", "{}", "no JSON", '{"bootstrapServer": []}')] == [""] * 4


AT_BOOTSTRAP = {**CONTEXT, "masterSecret": "8f1c02b7a4d95e36607b2d11c3f4e859"}


@pytest.mark.spec("LwM2M-contract 2.6", "Platform 4")
@pytest.mark.parametrize("block", [{"securityMode": "NO_SEC"}, PSK_SERVER])
def test_a_device_may_have_an_oscore_context_at_the_bootstrap_server(block: dict[str, Any]) -> None:
    bootstrap = servers(bootstrapServer={**block, "oscore": AT_BOOTSTRAP})
    found = parse_record(record({**NO_SEC, "oscore": CONTEXT}, bootstrap), 7)
    assert json.loads(bootstrap_oscore(found.bootstrap)) == AT_BOOTSTRAP
    shown = render_record(found, "x")
    assert shown["bootstrap"]["bootstrapServer"]["oscore"] == AT_BOOTSTRAP
    assert AT_BOOTSTRAP["masterSecret"] not in json.dumps(without_secrets(shown))
    assert bootstrap_oscore(parse_record(record(NO_SEC, servers()), 0).bootstrap) == ""
    assert bootstrap_oscore("kept from before it was checked") == ""


@pytest.mark.spec("RFC 8613 3.3", "SEC-8")
@pytest.mark.parametrize(
    ("client", "others"),
    [
        ({**PSK_CLIENT, "oscore": {**AT_BOOTSTRAP, "senderId": "05"}}, {}),
        (NO_SEC, {"lwm2mServer": {**PSK_SERVER, "oscore": AT_BOOTSTRAP}}),
        (NO_SEC, {"servers": {"7": {"securityMode": "NO_SEC", "oscore": {**AT_BOOTSTRAP, "masterSalt": "00"}}}}),
    ],
)
def test_the_bootstrap_server_shares_its_master_secret_with_no_other(client: Any, others: dict[str, Any]) -> None:
    with pytest.raises(BadField, match="each has one of its own") as refused:
        parse_record(record(client, servers(bootstrapServer={**PSK_SERVER, "oscore": AT_BOOTSTRAP}, **others)), 0)
    assert refused.value.field == "bootstrap.bootstrapServer.oscore.masterSecret"
    assert AT_BOOTSTRAP["masterSecret"] not in str(refused.value)


@pytest.mark.spec("Platform 5", "Platform 12.1", "SEC-8")
def test_of_its_keys_for_the_bootstrap_server_the_platform_need_not_have_the_private_one() -> None:
    at_server = {"securityMode": "NO_SEC"}
    for block, known in (
        (without(RPK_SERVER, "clientSecretKey"), raw_key_id(spki())),
        (without(X509_SERVER, "clientSecretKey"), certificate_key_id(der(MINE))),
        # Whatever a trusted authority made out to the device's name.
        ({"securityMode": "X509"}, ""),
    ):
        text = record(NO_SEC, servers(bootstrapServer=block, lwm2mServer=at_server))
        kept = parse_record(text, 0).bootstrap
        assert json.loads(kept)["bootstrapServer"] == block
        assert bootstrap_id(kept) == known


@pytest.mark.parametrize(
    ("bootstrap", "field"),
    [
        (servers(bootstrapServer=without(X509_SERVER, "clientPublicKeyOrId")), "bootstrap.bootstrapServer"),
        (servers(bootstrapServer={"securityMode": "RPK"}), "bootstrap.bootstrapServer"),
        (servers(lwm2mServer={"securityMode": "X509"}), "bootstrap.lwm2mServer"),
        (servers(lwm2mServer=without(X509_SERVER, "clientSecretKey")), "bootstrap.lwm2mServer"),
    ],
)
def test_what_a_device_is_given_has_both_and_a_private_key_is_of_something(bootstrap: Any, field: str) -> None:
    with pytest.raises(BadField, match=field):
        parse_record(record(NO_SEC, bootstrap), 0)
