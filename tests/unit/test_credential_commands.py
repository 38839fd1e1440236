"""`stellwerk credentials`: gives devices what they prove themselves with, by the rules of the credential record."""

import asyncio
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.credential_material import BARE, P256, P384, b64, certificate, der, pkcs8, record, spki
from typer.testing import CliRunner

from stellwerk.access import open_store
from stellwerk.app.credential_record import parse_record
from stellwerk.app.credentials import Change, in_place_of
from stellwerk.app.records import NewDevice
from stellwerk.cli import app
from stellwerk.config import load_settings
from stellwerk.core.errors import UserError
from stellwerk.credential_commands import _set
from stellwerk.device.record import Credential
from stellwerk.issuing import Issued
from stellwerk.key_files import SERVER, KeyFolder
from stellwerk.storage.vault import KEY_FILE
from stellwerk.vault_commands import rotate

run = CliRunner()
HEX = "00112233445566778899AABBCCDDEEFF"
CONTEXT = f"6d31:01:{HEX}:9e7ca92223786340"
WITHIN = "OSCORE context, sender ID 6d31"


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with two devices, to copy."""
    data_dir = tmp_path_factory.mktemp("filled")
    settings = load_settings(None, {"STELLWERK_DATA_DIR": str(data_dir)})

    async def fill() -> None:
        async with open_store(settings, may_make=True) as store:
            tenant_id = await store.ensure_tenant("default", 1)
            for name in ("meter-1", "meter-2"):
                await store.create_device(tenant_id, NewDevice(name, f"urn:dev:os:{name}", (), "SCS-LwM2M", (), 1))

    asyncio.run(fill())
    return data_dir


@pytest.fixture
def scratch(monkeypatch: pytest.MonkeyPatch, filled: Path, tmp_path: Path) -> Path:
    monkeypatch.setenv("STELLWERK_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(filled, tmp_path / "data")
    (tmp_path / "key.pub").write_bytes(spki(encoding=Encoding.PEM))
    (tmp_path / "meter.pem").write_bytes(certificate().public_bytes(Encoding.PEM))
    return tmp_path


def said(*arguments: str, given: str | None = None) -> str:
    found = run.invoke(app, ["credentials", *arguments], input=given)
    assert found.exit_code == 0, (found.output, found.exception)
    return found.stdout


def refused(*arguments: str) -> str:
    found = run.invoke(app, ["credentials", *arguments])
    assert isinstance(found.exception, UserError), (found.output, found.exception)
    assert HEX.lower() not in str(found.exception).lower()
    return str(found.exception)


def shown(*arguments: str) -> Any:
    return json.loads(said("show", "meter-1", *arguments))


def noted() -> Sequence[Any]:
    async def look() -> Sequence[Any]:
        async with open_store(load_settings(), may_make=True) as store:
            return await store.credential_changes(10)

    return asyncio.run(look())


@pytest.mark.spec("Platform 4")
def test_a_pre_shared_key_is_set_and_shown_only_when_it_is_to_be(scratch: Path) -> None:
    assert shown()["client"] == {"securityConfigClientMode": "NO_SEC", "endpoint": "urn:dev:os:meter-1"}
    assert said("set", "meter-1", "--psk", f"urn:imei:1:{HEX}") == "meter-1\tpre-shared key, identity 'urn:imei:1'\n"
    client = {"securityConfigClientMode": "PSK", "endpoint": "urn:dev:os:meter-1", "identity": "urn:imei:1"}
    assert shown() == {"client": {**client, "key": "***"}, "bootstrap": BARE}
    assert shown("--reveal")["client"] == {**client, "key": HEX.lower()}
    assert len(noted()) == 1
    assert HEX.lower().encode() not in (scratch / "data/stellwerk.db").read_bytes()


@pytest.mark.spec("Platform 4")
def test_public_keys_certificates_and_names_are_set_from_files(scratch: Path) -> None:
    assert said("set", "meter-1", "--rpk", "key.pub").startswith("meter-1\traw public key, SHA-256 ")
    assert shown()["client"]["key"] == b64(spki())
    assert said("set", "meter-1", "--cert", "meter.pem").startswith("meter-1\tcertificate, SHA-256 ")
    assert len(shown()["client"]["cert"]) > 300
    assert said("set", "meter-1", "--cn", "meter-1") == "meter-1\tany trusted certificate of 'meter-1'\n"
    assert said("set", "meter-1", "--none") == "meter-1\tno credentials: it comes without security\n"
    assert shown()["client"]["securityConfigClientMode"] == "NO_SEC"


@pytest.mark.spec("Platform 4")
def test_a_record_is_set_whole_and_keeps_what_a_bootstrap_server_gives(scratch: Path) -> None:
    server = {"securityMode": "PSK", "clientPublicKeyOrId": "id2", "clientSecretKey": HEX.lower()}
    text = record({"securityConfigClientMode": "X509"}, {"bootstrapServer": server, "lwm2mServer": server})
    said("set", "meter-1", "--record", "-", given=text)
    assert shown("--reveal") == json.loads(text)
    assert shown()["bootstrap"]["lwm2mServer"]["clientSecretKey"] == "***"
    said("set", "meter-1", "--psk", f"a:{HEX}")
    assert shown("--reveal")["bootstrap"]["lwm2mServer"] == server
    (scratch / "record.json").write_text(record({"securityConfigClientMode": "NO_SEC"}))
    said("set", "meter-1", "--record", "record.json")
    assert shown("--reveal")["bootstrap"] == BARE
    said("set", "meter-1", "--record", "-", given=text)
    said("set", "meter-1", "--none")
    assert shown("--reveal")["bootstrap"] == BARE


@pytest.mark.spec("Platform 4")
def test_a_layer_that_is_not_named_stays_and_each_can_be_taken_away(scratch: Path) -> None:
    assert said("set", "meter-1", "--oscore", CONTEXT) == f"meter-1\t{WITHIN}, with nothing below it\n"
    psk = "pre-shared key, identity 'a'"
    assert said("set", "meter-1", "--psk", f"a:{HEX}") == f"meter-1\t{psk}; and {WITHIN} within\n"
    context = {"senderId": "6d31", "recipientId": "01", "masterSalt": "9e7ca92223786340", "masterSecret": "***"}
    assert context.items() <= shown()["client"]["oscore"].items()
    assert said("set", "meter-1", "--rpk", "key.pub").endswith(f"; and {WITHIN} within\n")
    assert said("set", "meter-1", "--oscore", f"00:01:{HEX}").endswith("; and OSCORE context, sender ID 00 within\n")
    assert said("set", "meter-1", "--no-oscore").startswith("meter-1\traw public key, SHA-256 ")
    assert "oscore" not in shown()["client"]
    assert said("set", "meter-1", "--oscore", CONTEXT).endswith(f"; and {WITHIN} within\n")
    assert said("set", "meter-1", "--only-oscore") == f"meter-1\t{WITHIN}, with nothing below it\n"
    text = refused("set", "meter-1", "--no-oscore")
    assert f"the device has nothing else ({WITHIN}, with nothing below it); give it a key too, or say --none" in text
    assert said("set", "meter-1", "--no-oscore", "--psk", f"a:{HEX}") == f"meter-1\t{psk}\n"
    assert said("set", "meter-1", "--psk", f"b:{HEX}", "--oscore", CONTEXT).endswith(f"; and {WITHIN} within\n")


@pytest.mark.spec("Platform 4")
def test_the_context_with_the_bootstrap_server_is_another_one(scratch: Path) -> None:
    parts = {"masterSecret": HEX.lower(), "senderId": "6d31", "recipientId": "02"}
    server = {"securityMode": "NO_SEC", "oscore": parts}
    bootstrap = {"bootstrapServer": server, "lwm2mServer": {"securityMode": "NO_SEC"}}
    said("set", "meter-1", "--record", "-", given=record({"securityConfigClientMode": "NO_SEC"}, bootstrap))
    assert "each server has one of its own" in refused("set", "meter-1", "--oscore", CONTEXT)


def test_an_endpoint_name_that_a_record_gave_stays_with_another_key(scratch: Path) -> None:
    text = record({"securityConfigClientMode": "PSK", "endpoint": "meter-1", "identity": "a", "key": HEX})
    said("set", "meter-1", "--record", "-", given=text)
    said("set", "meter-1", "--psk", f"b:{HEX}")
    assert shown()["client"]["endpoint"] == "meter-1"


def test_two_commands_at_one_time_take_nothing_back_from_each_other(scratch: Path) -> None:
    """What the second keeps is what the first has just set."""
    server = {"securityMode": "PSK", "clientPublicKeyOrId": "id2", "clientSecretKey": HEX.lower()}
    text = record({"securityConfigClientMode": "X509"}, {"bootstrapServer": server, "lwm2mServer": server})
    settings = load_settings()

    def first(_: object) -> Change:
        return lambda before: parse_record(text, 5)

    def second(_: object) -> Change:
        def change(before: Credential | None) -> Credential:
            new = Credential("a", f"psk-hex:{HEX}")
            return new if before is None else in_place_of(before, new)

        return change

    async def both() -> None:
        await asyncio.gather(*(_set(settings, "default", "meter-1", each) for each in (first, second)))

    asyncio.run(both())
    assert shown()["client"]["identity"] == "a"
    assert shown("--reveal")["bootstrap"]["lwm2mServer"] == server


@pytest.mark.spec("Platform 4")
def test_an_identity_or_a_key_is_of_one_device_and_whose_is_not_said(scratch: Path) -> None:
    said("set", "meter-2", "--psk", f"a:{HEX}")
    text = refused("set", "meter-1", "--psk", f"a:{HEX}")
    assert "'a' exists already" in text
    assert "meter-2" not in text
    said("set", "meter-2", "--rpk", "key.pub")
    assert "public key" in refused("set", "meter-1", "--rpk", "key.pub")
    said("set", "meter-2", "--psk", f"meter-1:{HEX}")
    # Identities of all kinds are names in one list.
    assert "credentials ID 'meter-1' exists already" in refused("set", "meter-1", "--cn", "meter-1")


REFUSALS: Sequence[tuple[list[str], str]] = [
    ([], "say one of --psk"),
    (["--none", "--cn", "meter-1"], "say one of --psk"),
    (["--psk", f"a:{HEX}", "--cn", "meter-1"], "say one of --psk"),
    (["--record", "other.json", "--no-oscore"], "say one of --psk"),
    (["--no-oscore"], "--no-oscore: the device has no OSCORE context (no credentials: it comes without security"),
    (["--only-oscore"], "--only-oscore: the device has no OSCORE context (no credentials: it comes without security"),
    (["--no-oscore", "--only-oscore"], "--no-oscore: --only-oscore keeps it; say one of both"),
    (["--no-oscore", "--oscore", CONTEXT], "--no-oscore: --oscore gives it one; say one of both"),
    (["--only-oscore", "--cn", "meter-1"], "--only-oscore takes the key or certificate away"),
    (["--oscore", f"6d31:{HEX}"], "--oscore takes SENDER:RECIPIENT:SECRET or"),
    (["--oscore", "6d31:01:00"], "--oscore, secret: it has 32 to 128 hex digits, this one has 2"),
    (["--oscore", f"1:01:{HEX}"], "--oscore, Sender ID: it is an even number of hex digits"),
    (["--oscore", f"6d31:6d31:{HEX}"], "--oscore, Recipient ID: both ends have the same ID"),
    (["--psk", HEX], "an identity, a colon and the key"),
    (["--psk", f"a:{HEX}00"], "--psk, key: a key has 32, 64, 96 or 128 hex digits, this one has 34"),
    (["--psk", f"NO_SEC:{HEX}"], "--psk, identity: a PSK identity is not NO_SEC"),
    (["--psk", f":{HEX}"], "--psk, identity: it is not blank"),
    (["--rpk", "p384.pub"], "--rpk p384.pub: the curve secp384r1 is not spoken here"),
    (["--rpk", "private.key"], "--rpk private.key: this cannot be read as a SubjectPublicKeyInfo"),
    (["--rpk", "absent"], "--rpk absent: No such file"),
    (["--cert", "key.pub"], "it has to be an X.509 certificate"),
    (["--cn", "meter-2"], "'meter-2' does not mean this device"),
    (["--record", "meter.pem"], "record: it is no JSON in line 1"),
    (["--record", "other.json"], "client.endpoint: 'elsewhere' does not mean this device"),
]


def test_what_cannot_be_names_the_option_and_the_rule_and_changes_nothing(scratch: Path) -> None:
    (scratch / "p384.pub").write_bytes(spki(P384))
    (scratch / "private.key").write_bytes(pkcs8())
    client = {"securityConfigClientMode": "PSK", "endpoint": "elsewhere", "identity": "a", "key": HEX}
    (scratch / "other.json").write_text(record(client))
    wrong = [arguments for arguments, says in REFUSALS if says not in refused("set", "meter-1", *arguments)]
    assert wrong == []
    assert noted() == []


def test_devices_tenants_and_keys_that_are_not_there_are_said(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "no device 'absent'" in refused("set", "absent", "--none")
    assert "no tenant 'absent'" in refused("show", "meter-1", "--tenant", "absent")
    monkeypatch.setenv("STELLWERK_ALLOW_NOSEC", "off")
    assert "STELLWERK_ALLOW_NOSEC=off" in refused("set", "meter-1", "--none")
    (scratch / "none.json").write_text(record({"securityConfigClientMode": "NO_SEC"}))
    assert "STELLWERK_ALLOW_NOSEC=off" in refused("set", "meter-1", "--record", "none.json")
    # The server has its master key from the environment, and this command does not.
    (scratch / "data" / KEY_FILE).unlink()
    assert "STELLWERK_MASTER_KEY; set it here too" in (text := refused("set", "meter-1", "--psk", f"a:{HEX}"))
    assert f"no {KEY_FILE} in the data directory {scratch / 'data'}" in text
    assert not (scratch / "data" / KEY_FILE).exists()


def test_nothing_is_sealed_with_another_servers_key(scratch: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = scratch / "data" / KEY_FILE
    of_server, other = file.read_text().strip(), "0f" * 32
    monkeypatch.setenv("STELLWERK_MASTER_KEY", other)
    words = ("set", "meter-1", "--psk", f"a:{HEX}")
    for sealed_before in (False, True):
        if sealed_before:
            monkeypatch.delenv("STELLWERK_MASTER_KEY")
            said(*words)
            monkeypatch.setenv("STELLWERK_MASTER_KEY", other)
        text = refused("set", "meter-2", "--psk", f"b:{HEX}")
        assert f"STELLWERK_MASTER_KEY is another than that in {file}" in text
        assert not any(each in text for each in (other, of_server))
    monkeypatch.setenv("STELLWERK_MASTER_KEY", of_server)
    said(*words)


@pytest.mark.parametrize("way", ["rotated", "said", "lost", "unusable"])
def test_a_server_that_has_moved_to_a_key_of_the_setting_has_its_secrets_sealed_with_it(
    scratch: Path, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    said("set", "meter-1", "--psk", f"a:{HEX}")
    file = scratch / "data" / KEY_FILE
    monkeypatch.setenv("STELLWERK_MASTER_KEY", "0f" * 32)
    match way:
        case "rotated":
            rotate(load_settings())
        case "said":
            monkeypatch.setenv("STELLWERK_MASTER_KEY_OLD", file.read_text().strip())
        case "unusable":
            file.write_text("")
        case _:
            # What neither key opens is no sign that the one of the file is in use.
            file.write_text("aa" * 32)
    said("set", "meter-2", "--psk", f"b:{HEX}")
    file.unlink()
    assert '"identity": "b"' in said("show", "meter-2")


@pytest.mark.spec("SEC-8")
def test_a_device_does_not_get_the_key_of_the_server(scratch: Path) -> None:
    KeyFolder(scratch / "data").store(SERVER, Issued(P256, (certificate(),)))
    for arguments in (["--rpk", "key.pub"], ["--cert", "meter.pem"]):
        assert "server.key is the same key" in refused("set", "meter-1", *arguments)
    assert noted() == []


def test_what_another_master_key_has_sealed_is_not_replaced_but_can_be_taken_away(scratch: Path) -> None:
    said("set", "meter-1", "--psk", f"a:{HEX}")
    (scratch / "data" / KEY_FILE).write_text("00" * 32)
    assert "sealed with another master key" in refused("set", "meter-1", "--psk", f"b:{HEX}")
    assert "sealed with another master key" in refused("show", "meter-1")
    said("set", "meter-1", "--none")
    said("set", "meter-1", "--psk", f"b:{HEX}")


def test_a_certificate_that_has_ended_is_taken_with_a_warning(scratch: Path) -> None:
    (scratch / "old.der").write_bytes(der(certificate(days=-1)))
    found = run.invoke(app, ["credentials", "set", "meter-1", "--cert", "old.der"])
    assert found.exit_code == 0
    assert "warning: the certificate has ended on" in found.stderr


def test_a_key_of_the_api_that_is_no_hex_is_shown_as_hex(scratch: Path) -> None:
    async def give() -> None:
        async with open_store(load_settings(), may_make=True) as store:
            device = await store.device_by_endpoint("meter-1")
            assert device is not None
            await store.set_credential(device.device_id, Credential("a", "dGVzdDEyMw=="))

    asyncio.run(give())
    assert shown("--reveal")["client"]["key"] == b"test123".hex()
