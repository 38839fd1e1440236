"""The cases of the device platform (contract §12.3) and of its scenarios: every kind of security, every content of a
profile, begun by the device or by the trigger; with simulated devices that register with what they got."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from stellwerk.app.credential_record import BadField, parse_record
from stellwerk.device.bootstrap.configuration import BadBootstrap, ServerEntry, parse_bootstrap
from stellwerk.device.key_material import pkcs8_of, spki_of, to_base64
from stellwerk.device.record import NOSEC, PSK, RPK, X509
from stellwerk.dtls.parameters import ServerIdentity
from stellwerk.issuing import Issuer, new_key
from stellwerk.sim.security import Certificate, Credentials, PreSharedKey, RawKey
from tests.scenario.bootstrap_lab import BOOTSTRAP, HOST, PLAIN, SECURE, SECURE_BOOTSTRAP, BootstrapLab
from tests.scenario.stack import WALL_MS
from tests.scenario.test_secure_keys import AUTHORITY, ISSUER, NOW, SERVER, STRANGER, der

NAME = "urn:dev:os:dev1"
KEY = bytes.fromhex("8f1c02b7a4d95e36607b2d11c3f4e859")
FOR_SERVER = bytes.fromhex("d41a90073fc86be25577913e08b2aa64")
OWN = new_key()
SPKI = to_base64(spki_of(OWN.public_key()))
SECRET = to_base64(pkcs8_of(OWN))
TRUSTED = der(ISSUER.client(OWN, NAME, now=NOW))
FOREIGN = der(Issuer(STRANGER.key, STRANGER.chain[0]).client(OWN, NAME, now=NOW))
IDENTITY = ServerIdentity(SERVER.key, der(SERVER)[:1])


@dataclass(frozen=True)
class Kind:
    """A kind of security: the record as people write it, and what the device has for the bootstrap server."""

    mode: str
    client: dict[str, str]
    bootstrap_server: dict[str, str]
    lwm2m_server: dict[str, str]
    credentials: Credentials | None = None

    def record(self) -> str:
        client = {"endpoint": NAME, **self.client}
        bootstrap = {"bootstrapServer": self.bootstrap_server, "lwm2mServer": self.lwm2m_server}
        return json.dumps({"client": client, "bootstrap": bootstrap})

    def server(self, short_id: int = 123, host: str = HOST) -> ServerEntry:
        port = PLAIN if self.mode == NOSEC else SECURE
        return ServerEntry(short_id=short_id, mode=self.mode, host=host, port=port, lifetime_s=300)

    def bootstrap(self) -> ServerEntry:
        port = BOOTSTRAP if self.mode == NOSEC else SECURE_BOOTSTRAP
        return ServerEntry(is_bootstrap=True, short_id=None, mode=self.mode, host=HOST, port=port, hold_off_s=2)


def block(mode: str, public: str = "", secret: str = "") -> dict[str, str]:
    found = {"securityMode": mode}
    return found if mode == "NO_SEC" else {**found, "clientPublicKeyOrId": public, "clientSecretKey": secret}


def client(mode: str, **more: str) -> dict[str, str]:
    return {"securityConfigClientMode": mode, **more}


KINDS = {
    "NoSec": Kind(NOSEC, client("NO_SEC"), block("NO_SEC"), block("NO_SEC")),
    "PSK": Kind(
        PSK,
        client("PSK", identity="dm-dev1", key=FOR_SERVER.hex()),
        block("PSK", "bs-dev1", KEY.hex()),
        block("PSK", "dm-dev1", FOR_SERVER.hex()),
        PreSharedKey(b"bs-dev1", KEY),
    ),
    "RPK": Kind(RPK, client("RPK", key=SPKI), block("RPK", SPKI, SECRET), block("RPK", SPKI, SECRET), RawKey(OWN)),
    "X509 trust": Kind(
        X509,
        client("X509"),
        block("X509", to_base64(TRUSTED[0]), SECRET),
        block("X509", to_base64(TRUSTED[0]), SECRET),
        Certificate(OWN, TRUSTED),
    ),
    "X509 no trust": Kind(
        X509,
        client("X509", cert=to_base64(FOREIGN[0])),
        block("X509", to_base64(FOREIGN[0]), SECRET),
        block("X509", to_base64(FOREIGN[0]), SECRET),
        Certificate(OWN, FOREIGN),
    ),
}
CONTENTS = ["only DM", "only bootstrap", "both", "none", "three"]


@pytest.fixture
def lab() -> Iterator[BootstrapLab]:
    made = BootstrapLab(IDENTITY, AUTHORITY.chain)
    yield made
    made.close()


def give(lab: BootstrapLab, kind: Kind, contents: str) -> None:
    """The profile of the device has these."""
    match contents:
        case "only DM":
            lab.port.profile(kind.server())
        case "only bootstrap":
            lab.port.profile(kind.bootstrap(), updates_bootstrap_server=True)
        case "both":
            lab.port.profile(kind.bootstrap(), kind.server(), updates_bootstrap_server=True)
        case "none":
            lab.port.profile()
        case _:
            others = (kind.server(124, "dm2.example"), kind.server(125, "dm3.example"))
            lab.port.profile(kind.server(), *others)


def rewritten(lab: BootstrapLab, device: Any) -> bool:
    """Whether the bootstrap account is that of the profile."""
    return bool(lab.value(device, "/0/0/11") == 2)


@pytest.mark.spec("Platform 12.3", "Platform 12.1", "ETS 0", "ETS 1", "ETS 2", "B-10")
@pytest.mark.parametrize("contents", CONTENTS)
@pytest.mark.parametrize("name", KINDS)
def test_a_device_from_nothing(lab: BootstrapLab, name: str, contents: str) -> None:
    kind = KINDS[name]
    record = lab.provision(credential=parse_record(kind.record(), WALL_MS))
    give(lab, kind, contents)
    device = lab.join(credentials=kind.credentials)
    [(state, reason)] = lab.port.ends_of(record)
    assert lab.has_bootstrap_account(device)
    if contents in ("only bootstrap", "none"):
        # A device without a server may not take that for finished (B-7), and has what it had.
        assert (state, reason) == ("inconsistent", "finish-refused")
        assert (lab.accounts(device), lab.registered()) == ([], [])
        while not lab.failures:
            lab.run_for(0.5)
        assert [each for each, _ in lab.failures] == ["overtime"]
        assert not rewritten(lab, device)
        return
    assert (state, reason) == ("configured", "")
    assert lab.accounts(device) == ([123, 124, 125] if contents == "three" else [123])
    assert lab.registered() == [NAME]
    assert rewritten(lab, device) is (contents == "both")


@pytest.mark.spec("Platform 12.3", "Platform 12.2", "ETS 5", "B-11")
@pytest.mark.parametrize("contents", CONTENTS)
@pytest.mark.parametrize("name", KINDS)
def test_a_registered_device_that_is_told_to(lab: BootstrapLab, name: str, contents: str) -> None:
    kind = KINDS[name]
    record = lab.provision(credential=parse_record(kind.record(), WALL_MS))
    give(lab, kind, "only DM")
    device = lab.join(credentials=kind.credentials)
    [before] = [each.registration.location for each in lab.stack.registry]
    give(lab, kind, contents)
    assert lab.command(record, "EXECUTE /1/0/9") == 200
    state, reason = lab.port.ends_of(record)[0]
    assert (state, reason) == ("nothing to do" if contents == "none" else "configured", "")
    assert lab.accounts(device) == ([123, 124, 125] if contents == "three" else [123])
    assert rewritten(lab, device) is (contents in ("both", "only bootstrap"))
    assert lab.registered() == [NAME]
    [after] = [each.registration.location for each in lab.stack.registry]
    assert after != before


MALFORMED = {
    "no base64": "not base64 at all!",
    "no key": to_base64(b"\x30\x03\x02\x01\x00"),
    "a certificate cut short": to_base64(TRUSTED[0][:-20]),
}


@pytest.mark.spec("Platform 12.3", "Platform 4")
@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("member", ["clientPublicKeyOrId", "clientSecretKey"])
@pytest.mark.parametrize("server", ["bootstrapServer", "lwm2mServer"])
@pytest.mark.parametrize("name", ["RPK", "X509 no trust"])
def test_malformed_keys_and_certificates_of_a_device_are_refused(
    name: str, server: str, member: str, text: str
) -> None:
    record = json.loads(KINDS[name].record())
    record["bootstrap"][server][member] = text
    with pytest.raises(BadField) as refused:
        parse_record(json.dumps(record), WALL_MS)
    assert refused.value.field == f"bootstrap.{server}.{member}"


@pytest.mark.spec("Platform 12.3", "Platform 4")
def test_a_private_key_of_another_pair_is_refused() -> None:
    record = json.loads(KINDS["RPK"].record())
    record["bootstrap"]["lwm2mServer"]["clientSecretKey"] = to_base64(pkcs8_of(new_key()))
    with pytest.raises(BadField, match="not the private key"):
        parse_record(json.dumps(record), WALL_MS)


@pytest.mark.spec("Platform 12.3", "Platform 3.4")
@pytest.mark.parametrize("text", MALFORMED.values(), ids=MALFORMED)
@pytest.mark.parametrize("mode", ["RPK", "X509"])
def test_malformed_keys_and_certificates_of_a_server_are_refused(mode: str, text: str) -> None:
    entry = {"securityMode": mode, "shortServerId": 123, "host": "dm.example", "port": 5684, "serverPublicKey": text}
    with pytest.raises(BadBootstrap):
        parse_bootstrap({"bootstrap": [entry]})
