"""The bootstrap list of a profile is read as the platform writes it, and refused with the member that is wrong."""

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.credential_material import P384, b64, certificate, der, spki
from tests.unit.device.bootstrap.bootstrap_accounts import BOOTSTRAP, entry

from stellwerk.device.bootstrap.configuration import (
    Acl,
    BadBootstrap,
    BootstrapConfiguration,
    ServerEntry,
    check_new,
    parse_bootstrap,
    render_bootstrap,
)

MINE = b64(der(certificate()))

AS_WRITTEN = {
    "bootstrapServerUpdateEnable": False,
    "bootstrap": [
        {
            "securityMode": "NO_SEC",
            "shortServerId": 123,
            "bootstrapServerIs": False,
            "host": "lwm2m.example.org",
            "port": 5685,
            "serverPublicKey": "",
            "serverCertificate": "",
            "clientHoldOffTime": 1,
            "bootstrapServerAccountTimeout": 0,
            "lifetime": 300,
            "defaultMinPeriod": 1,
            "notifIfDisabled": True,
            "binding": "U",
        }
    ],
}


@pytest.mark.spec("Platform 3.4")
def test_the_list_of_the_platform_is_read_and_written_as_it_is() -> None:
    configuration = parse_bootstrap(AS_WRITTEN)
    assert configuration.servers == (ServerEntry(host="lwm2m.example.org", port=5685),)
    assert render_bootstrap(configuration) == AS_WRITTEN


@pytest.mark.spec("Platform 3.4")
def test_what_is_left_out_of_an_entry_has_the_platforms_defaults() -> None:
    (server,) = parse_bootstrap({"bootstrap": [entry()]}).servers
    assert server == ServerEntry(
        short_id=123, host="dm.example.org", port=5683, hold_off_s=1, account_timeout_s=0, lifetime_s=300,
        default_min_period_s=1, notif_if_disabled=True, binding="U",
    )  # fmt: skip


@pytest.mark.spec("Platform 3.1")
def test_members_that_nobody_knows_are_overlooked() -> None:
    profile = {"type": "LWM2M", "observeAttr": {}, "bootstrap": [entry(somethingNew=1)]}
    assert len(parse_bootstrap(profile).servers) == 1
    assert not parse_bootstrap({})


@pytest.mark.spec("Platform 3.4")
@pytest.mark.parametrize("typed", [0, 111, 123, None, "x"])
def test_a_short_id_that_is_typed_for_a_bootstrap_server_is_overlooked(typed: object) -> None:
    profile = {"bootstrapServerUpdateEnable": True, "bootstrap": [BOOTSTRAP | {"shortServerId": typed}, entry()]}
    server = parse_bootstrap(profile).servers[0]
    assert (server.is_bootstrap, server.short_id) == (True, None)


@pytest.mark.spec("Platform 16.9")
def test_a_server_may_have_any_port_whatever_its_mode() -> None:
    parse_bootstrap({"bootstrap": [entry(securityMode="PSK", port=1), entry(shortServerId=1, port=65535)]})


@pytest.mark.spec("Platform 3.4")
def test_the_same_place_is_another_over_another_transport() -> None:
    entries = [entry(), entry(shortServerId=2, transport="tcp")]
    assert [each.binding for each in parse_bootstrap({"bootstrap": entries}).servers] == ["U", "T"]


@pytest.mark.spec("Platform 3.4")
@pytest.mark.parametrize("binding", ["U", "M", "H", "T", "S", "N", "UQ", "UQS", "TQ", "TQS", "SQ", "UT", "USTQ"])
def test_bindings_are_transports_each_once(binding: str) -> None:
    assert parse_bootstrap({"bootstrap": [entry(binding=binding)]}).servers[0].binding == binding


@pytest.mark.spec("Platform 3.4")
def test_keys_are_kept_as_base64_without_line_breaks() -> None:
    broken = f"{MINE[:64]}\r\n{MINE[64:]}\n"
    key = b64(spki())
    x509, rpk = parse_bootstrap(
        {
            "bootstrap": [
                entry(securityMode="X509", serverPublicKey=broken),
                entry(securityMode="RPK", serverPublicKey=f" {key[:10]}\n{key[10:]}", shortServerId=2, port=1),
            ]
        }
    ).servers
    assert (x509.server_public_key, rpk.server_public_key) == (MINE, key)


@pytest.mark.spec("Platform 3.4")
def test_of_a_key_and_a_certificate_that_an_editor_filled_in_the_certificate_counts() -> None:
    filled = entry(securityMode="X509", serverPublicKey=b64(spki()), serverCertificate=MINE)
    assert parse_bootstrap({"bootstrap": [filled]}).servers[0].server_certificate == MINE


def _cases() -> Iterator[tuple[str, str, Any]]:
    def one(**members: Any) -> dict[str, Any]:
        return {"bootstrap": [entry(**members)]}

    yield "bootstrap[0].securityMode", 'it is one of NO_SEC, PSK, RPK, X509, not "EST"', one(securityMode="EST")
    rule = "it is one of NO_SEC, PSK, RPK, X509, and it is missing"
    yield "bootstrap[0].securityMode", rule, {"bootstrap": [{"host": "a", "port": 1}]}
    rule = f'it is one of device, fresh, est, not "{"x" * 39}...'
    yield "bootstrap[0].keys", rule, one(keys="x" * 60)
    yield "bootstrap[0].host", "it is a text, not 7", one(host=7)
    yield "bootstrap[0].host", "it is missing", {"bootstrap": [{"securityMode": "PSK", "port": 1}]}
    for host in ("coap://a", "a b", "a/b", "x:y", "-a"):
        yield "bootstrap[0].host", "it is a name or an address, without a scheme and a port", one(host=host)
    for port in (0, 65536, "5683", True, None, 1.0):
        found = "and it is missing" if port is None else f"not {json.dumps(port)}"
        yield "bootstrap[0].port", f"it is a whole number, 1 to 65535, {found}", one(port=port)
    for short_id in (0, 65535, None, "1"):
        found = "and it is missing" if short_id is None else f"not {json.dumps(short_id)}"
        yield "bootstrap[0].shortServerId", f"it is a whole number, 1 to 65534, {found}", one(shortServerId=short_id)
    yield "bootstrap[0].lifetime", "it is a whole number, 0 to 4294967295, not -1", one(lifetime=-1)
    yield "bootstrap[0].notifIfDisabled", "it is true or false, not 1", one(notifIfDisabled=1)
    for binding in ("", "Q", "UU", "X", "UQQ"):
        rule = "it is letters of U, M, H, T, S, N, each once, with Q for queue mode"
        yield "bootstrap[0].binding", rule, one(binding=binding)
    rule = "a server that is reached over tcp needs the letter T in it"
    yield "bootstrap[0].binding", rule, one(transport="tcp", binding="U")
    yield "bootstrap[0].certificateUsage", "it is a whole number, 0 to 3, not 4", one(certificateUsage=4)
    yield "bootstrap[0].keys", 'it is one of device, fresh, est, not "new"', one(keys="new")
    rule = "a device that enrols gets a certificate; est goes with securityMode X509, not PSK"
    yield "bootstrap[0].keys", rule, one(securityMode="PSK", keys="est")
    rule = "a device that enrols is given no OSCORE context; est goes without oscore"
    yield "bootstrap[0].keys", rule, one(securityMode="X509", keys="est", oscore=True)
    rule = "a device enrols at the bootstrap server, and has to have keys for that one before"
    itself = BOOTSTRAP | {"securityMode": "X509", "keys": "est"}
    yield "bootstrap[0].keys", rule, {"bootstrapServerUpdateEnable": True, "bootstrap": [itself]}
    rule = "another entry has fresh; one new credential of a device is kept at a time"
    mixed = [entry(securityMode="PSK", keys="fresh"), entry(securityMode="X509", keys="est", shortServerId=2, port=1)]
    yield "bootstrap[1].keys", rule, {"bootstrap": mixed}
    rule = "this is no base64; it has to be a SubjectPublicKeyInfo (base64 of DER, or PEM)"
    yield "bootstrap[0].serverPublicKey", rule, one(securityMode="RPK", serverPublicKey="%")
    rule = "the curve secp384r1 is not spoken here; use secp256r1 (P-256)"
    yield "bootstrap[0].serverPublicKey", rule, one(securityMode="RPK", serverPublicKey=b64(spki(P384)))
    rule = "this cannot be read as an X.509 certificate (base64 of DER, or PEM)"
    yield "bootstrap[0].serverPublicKey", rule, one(securityMode="X509", serverPublicKey=b64(spki()))
    yield "bootstrap[0].serverCertificate", rule, one(securityMode="X509", serverCertificate=b64(spki()))
    yield "bootstrap", "it is a list, not an object", {"bootstrap": {}}
    yield "bootstrap[0]", "it is a JSON object, not 1", {"bootstrap": [1]}
    yield "profile", "it is a JSON object, not a list", []
    rule = "a bootstrap server can be listed only where bootstrapServerUpdateEnable is true"
    yield "bootstrap[0].bootstrapServerIs", rule, {"bootstrap": [BOOTSTRAP]}
    rule = "another entry has 123; each server has its own"
    yield "bootstrap[1].shortServerId", rule, {"bootstrap": [entry(), entry(port=1)]}
    rule = "bootstrap[0] has the same host, port and transport"
    twice = [entry(), entry(shortServerId=2, host="DM.example.org")]
    yield "bootstrap[1].port", rule, {"bootstrap": twice}
    yield "bootstrap[1].port", rule, {"bootstrap": [entry(host="0.0.0.0"), entry(shortServerId=2, host="localhost")]}
    rule = "bootstrap[0] is one already; a device has one at most"
    two = {"bootstrapServerUpdateEnable": True, "bootstrap": [BOOTSTRAP, BOOTSTRAP | {"port": 1}]}
    yield "bootstrap[1].bootstrapServerIs", rule, two

    def acl(**members: Any) -> dict[str, Any]:
        return {"bootstrap": [entry()], "acls": [{"objectId": 3, "owner": 123, "acl": {}} | members]}

    yield "acls[0].objectId", "it is a whole number, 1 to 65534, not 0", acl(objectId=0)
    yield "acls[0].instanceId", "it is a whole number, 0 to 65535, not 65536", acl(instanceId=65536)
    yield "acls[0].owner", "it is a shortServerId of the bootstrap list, or 65535 for nobody", acl(owner=5)
    rule = "instance 65535 says who may create instances; its owner is 65535 (nobody)"
    yield "acls[0].owner", rule, acl(instanceId=65535)
    rule = "instance 65535 knows the right to create only, 16"
    yield "acls[0].acl.1", rule, acl(instanceId=65535, owner=65535, acl={"1": 17})
    rule = "rights are 0 to 31: the sum of 1 read, 2 write, 4 execute, 8 delete, 16 create"
    yield "acls[0].acl.123", rule, acl(acl={"123": 32})
    yield "acls[0].acl", "its names are short server IDs, 1 to 65534, or 0 for all others", acl(acl={"65535": 1})
    yield "acls[0].acl.1", "it is given twice", acl(acl={"1": 1, "01": 1})
    rule = "acls[0] is about the same instance"
    yield "acls[1].instanceId", rule, {"acls": [{"objectId": 3, "owner": 1, "acl": {}}] * 2}


@pytest.mark.spec("Platform 3.4", "Platform 13")
@pytest.mark.parametrize(("field", "rule", "profile"), list(_cases()))
def test_what_is_wrong_is_refused_with_its_place_and_the_rule(field: str, rule: str, profile: Any) -> None:
    with pytest.raises(BadBootstrap) as caught:
        parse_bootstrap(profile)
    assert (caught.value.field, caught.value.rule) == (field, rule)
    assert str(caught.value) == f"{field}: {rule}"


@pytest.mark.spec("Platform 13")
def test_access_rights_are_read_as_the_platform_writes_them() -> None:
    acls = [
        {"objectId": 3, "instanceId": 0, "owner": 123, "acl": {"123": 31, "0": 1}},
        {"objectId": 9, "instanceId": 65535, "owner": 65535, "acl": {"123": 16}},
    ]
    configuration = parse_bootstrap({"bootstrap": [entry()], "acls": acls})
    assert configuration.acls == (Acl(3, 0, 123, ((0, 1), (123, 31))), Acl(9, 65535, 65535, ((123, 16),)))


@pytest.mark.spec("Platform 3.4")
def test_bootstrap_servers_are_given_only_where_the_profile_allows_it() -> None:
    servers = (ServerEntry(is_bootstrap=True, short_id=None), ServerEntry())
    assert BootstrapConfiguration(servers, updates_bootstrap_server=False).given == servers[1:]
    assert BootstrapConfiguration(servers, updates_bootstrap_server=True).given == servers


@pytest.mark.parametrize(
    ("member", "more"),
    [
        ("binding", {"transport": "udp", "binding": "TQ"}),
        ("transport", {"transport": "tcp", "securityMode": "RPK"}),
    ],
)
def test_what_is_no_good_to_a_device_is_refused_to_who_says_it_and_read_where_it_is_stored(
    member: str, more: dict[str, Any]
) -> None:
    stored = parse_bootstrap({"bootstrap": [entry(**more)]})
    with pytest.raises(BadBootstrap) as caught:
        check_new(stored)
    assert caught.value.field == f"bootstrap[0].{member}"


def test_what_is_of_use_may_be_said() -> None:
    for more in ({"transport": "udp", "binding": "UT"}, {"transport": "udp", "securityMode": "RPK"}, {"binding": "T"}):
        check_new(parse_bootstrap({"bootstrap": [entry(**more)]}))


@pytest.mark.spec("Platform 3.4", "BIN-1")
def test_what_is_left_open_follows_the_device() -> None:
    written = [
        entry(shortServerId=1, port=1),
        entry(shortServerId=2, port=2, binding="UQ"),
        entry(shortServerId=3, port=3, binding="UT"),
        entry(shortServerId=4, port=4, transport="udp"),
        entry(shortServerId=5, port=5, transport="tcp"),
        entry(shortServerId=6, port=5),
    ]
    configuration = parse_bootstrap({"bootstrap": written})

    def given_over(transport: str) -> list[tuple[str, str]]:
        return [(each.transport, each.binding) for each in configuration.given_over(transport)]

    udp, tcp = ("udp", "U"), ("tcp", "T")
    assert given_over("udp") == [udp, ("udp", "UQ"), ("udp", "UT"), udp, tcp, udp]
    # The last one has the place of the fifth, which is over TCP already.
    assert given_over("tcp") == [tcp, ("tcp", "TQ"), ("tcp", "UT"), udp, tcp, udp]


SECONDS = st.integers(0, 2**32 - 1)


@st.composite
def entries(draw: st.DrawFn, at: int) -> ServerEntry:
    is_bootstrap = draw(st.booleans()) if at == 0 else False
    transport = draw(st.sampled_from(["", "udp", "tcp"]))
    mode = draw(st.sampled_from(["nosec", "psk", "rpk", "x509"]))
    oscore = draw(st.booleans())
    return ServerEntry(
        mode=mode,
        is_bootstrap=is_bootstrap,
        short_id=None if is_bootstrap else draw(st.integers(1, 20)) * 100 + at,
        host=draw(st.sampled_from(["dm.example.org", "10.0.0.1", "2001:db8::1", "localhost"])),
        port=draw(st.integers(1, 6000)) * 10 + at,
        hold_off_s=draw(SECONDS),
        account_timeout_s=draw(SECONDS),
        lifetime_s=draw(SECONDS),
        default_min_period_s=draw(SECONDS),
        default_max_period_s=draw(st.none() | SECONDS),
        notif_if_disabled=draw(st.booleans()),
        binding="T" if transport == "tcp" else draw(st.sampled_from(["U", "UQ", "UT", "M"])),
        transport=transport,
        keys="device" if mode == "nosec" and not oscore else draw(st.sampled_from(["device", "fresh"])),
        oscore=oscore,
        server_name=draw(st.sampled_from(["", "dm.example.org"])),
        certificate_usage=draw(st.none() | st.integers(0, 3)),
        matching_type=draw(st.none() | st.integers(0, 3)),
    )


@given(data=st.data(), count=st.integers(0, 3), initiated=st.booleans())
def test_a_configuration_that_is_written_is_read_as_the_same(data: st.DataObject, count: int, initiated: bool) -> None:
    servers = tuple(data.draw(entries(at)) for at in range(count))
    owners = [each.short_id for each in servers if each.short_id is not None] or [7]
    acls = []
    for at, object_id in enumerate(data.draw(st.lists(st.integers(1, 65534), max_size=3))):
        owner = data.draw(st.sampled_from([*owners, 65535]))
        acls.append(Acl(object_id, at, owner, ((0, 1), (owners[0], data.draw(st.integers(0, 31))))))
    configuration = BootstrapConfiguration(servers, tuple(acls), True, initiated)
    assert parse_bootstrap(render_bootstrap(configuration)) == configuration


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=4), inner, max_size=2),
    max_leaves=6,
)
MEMBERS = ["securityMode", "bootstrapServerIs", "shortServerId", "host", "port", "serverPublicKey", "lifetime"]
MEMBERS += ["binding", "acl", "objectId", "owner"]
NAMES = st.sampled_from(MEMBERS)


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.dictionaries(NAMES, JSON), max_size=3), st.lists(st.dictionaries(NAMES, JSON), max_size=3))
def test_any_json_is_understood_or_refused(servers: Any, acls: Any) -> None:
    with suppress(BadBootstrap):
        parse_bootstrap({"bootstrap": servers, "acls": acls})
