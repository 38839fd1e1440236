"""The server's keys: made once, readable by their owner only, replaced while it runs, never by what cannot be used."""

import asyncio
import os
import shutil
import stat
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from structlog.testing import capture_logs
from tests.credential_material import OTHER, P256, P384, certificate, pkcs8

from stellwerk.device.key_material import der_of, spki_of
from stellwerk.issuing import Issued, NotIssued, make_authority, new_key
from stellwerk.key_files import AUTHORITY, BOOTSTRAP, SERVER, KeyFileUnusable, KeyFolder, ServerKeys, notice_about


@pytest.fixture
def empty(tmp_path: Path) -> KeyFolder:
    return KeyFolder(tmp_path / "data")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Keys to copy: each that is made waits for the disk several times."""
    data_dir = tmp_path_factory.mktemp("made")
    KeyFolder(data_dir).ensure()
    return data_dir


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> KeyFolder:
    shutil.copytree(made, tmp_path / "data")
    return KeyFolder(tmp_path / "data")


def mode(file: Path) -> int:
    return stat.S_IMODE(file.stat().st_mode)


def look(keys: ServerKeys) -> bool:
    """Twice: changed files have to rest."""

    async def twice() -> bool:
        return await keys.look() or await keys.look()

    return asyncio.run(twice())


@pytest.mark.spec("SEC-8", "LwM2M-contract 2.2")
def test_the_first_start_makes_an_authority_and_keys_that_all_differ(empty: KeyFolder) -> None:
    folder = empty
    assert folder.ensure((SERVER, BOOTSTRAP), ["0.0.0.0", "192.0.2.7"]) == [AUTHORITY, SERVER, BOOTSTRAP]
    assert {mode(folder.key_file(each)) for each in (AUTHORITY, SERVER, BOOTSTRAP)} == {0o600}
    assert {mode(folder.certificate_file(each)) for each in (AUTHORITY, SERVER, BOOTSTRAP)} == {0o644}
    assert mode(folder.keys) == mode(folder.keys.parent) == 0o700
    loaded = [folder.load(each) for each in (AUTHORITY, SERVER, BOOTSTRAP)]
    assert len({spki_of(each.key.public_key()) for each in loaded}) == 3
    authority, server = loaded[0].chain[0], loaded[1].chain[0]
    server.verify_directly_issued_by(authority)
    names = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "localhost" in names.get_values_for_type(x509.DNSName)
    assert [str(each) for each in names.get_values_for_type(x509.IPAddress)] == ["192.0.2.7"]
    before = {each: each.read_bytes() for each in folder.keys.iterdir()}
    assert folder.ensure((SERVER, BOOTSTRAP)) == []
    assert {each: each.read_bytes() for each in folder.keys.iterdir()} == before


@pytest.mark.spec("LwM2M-contract 2.2")
def test_the_server_shows_its_chain_without_the_root_and_trusts_its_own_authority(folder: KeyFolder) -> None:
    keys = ServerKeys.open(folder.keys.parent)
    issued = folder.load(SERVER)
    assert keys.identity.chain == (der_of(issued.chain[0]),)
    assert spki_of(keys.identity.key.public_key()) == spki_of(issued.key.public_key())
    assert keys.anchors == (folder.load(AUTHORITY).chain[0],)
    assert keys.notices() == []
    assert "PRIVATE" not in repr(keys.identity) + repr(issued)


@pytest.mark.spec("LwM2M-contract 2.2")
def test_another_key_is_taken_up_while_the_server_runs(folder: KeyFolder) -> None:
    keys = ServerKeys.open(folder.keys.parent)
    changes: list[bytes] = []
    keys.changed = lambda: changes.append(spki_of(keys.identity.key.public_key()))
    assert not look(keys)
    other = folder.issuer().server(new_key(), "other.example", ["other.example"])
    folder.store(SERVER, other)
    assert look(keys)
    assert changes == [spki_of(other.key.public_key())]
    assert not look(keys)


def test_files_are_read_only_when_they_rest(folder: KeyFolder) -> None:
    keys = ServerKeys.open(folder.keys.parent)
    folder.store(SERVER, folder.issuer().server(new_key(), "one", ["one"]))
    assert not asyncio.run(keys.look())
    last = folder.issuer().server(new_key(), "two", ["two"])
    folder.store(SERVER, last)
    assert not asyncio.run(keys.look())
    assert asyncio.run(keys.look())
    assert keys.identity.chain == (der_of(last.chain[0]),)


def truncated(folder: KeyFolder) -> None:
    folder.key_file(SERVER).write_bytes(folder.key_file(SERVER).read_bytes()[:100])


def of_another_curve(folder: KeyFolder) -> None:
    folder.key_file(SERVER).write_bytes(pkcs8(P384, Encoding.PEM))


def of_another_key(folder: KeyFolder) -> None:
    folder.key_file(SERVER).write_bytes(pkcs8(OTHER, Encoding.PEM))


def gone(folder: KeyFolder) -> None:
    folder.key_file(SERVER).unlink()


def no_certificate(folder: KeyFolder) -> None:
    folder.certificate_file(SERVER).write_bytes(b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


BREAKS = [
    (truncated, "no end"),
    (of_another_curve, "secp384r1 is not spoken here"),
    (of_another_key, "not of the key in server.key"),
    (gone, "No such file"),
    (no_certificate, "cannot be read as an X.509 certificate"),
]


@pytest.mark.parametrize(("damage", "says"), BREAKS)
def test_files_that_cannot_be_used_are_refused_and_the_old_ones_go_on(
    folder: KeyFolder, damage: Callable[[KeyFolder], None], says: str
) -> None:
    keys = ServerKeys.open(folder.keys.parent)
    good, before = folder.load(SERVER), keys.identity
    damage(folder)
    with capture_logs() as lines:
        # Said once, not every two seconds.
        assert not look(keys)
        assert not look(keys)
    assert keys.identity == before
    assert [(each["event"], says in each["reason"]) for each in lines] == [("keys.refused", True)]
    folder.store(SERVER, good)
    assert look(keys)
    assert keys.identity.chain == before.chain


@pytest.mark.parametrize(("damage", "says"), BREAKS[:3] + BREAKS[4:])
def test_a_server_does_not_start_with_keys_that_cannot_be_used(
    folder: KeyFolder, damage: Callable[[KeyFolder], None], says: str
) -> None:
    damage(folder)
    with pytest.raises(KeyFileUnusable, match=says) as refused:
        ServerKeys.open(folder.keys.parent)
    assert str(folder.keys) in str(refused.value)


def test_a_key_without_a_certificate_serves_raw_public_keys(folder: KeyFolder) -> None:
    folder.certificate_file(SERVER).unlink()
    assert ServerKeys.open(folder.keys.parent).identity.chain == ()


@pytest.mark.spec("Platform 5")
def test_authorities_are_trusted_and_distrusted_while_the_server_runs(folder: KeyFolder) -> None:
    keys = ServerKeys.open(folder.keys.parent)
    (own,) = keys.anchors
    told: list[int] = []
    keys.changed = lambda: told.append(len(keys.fingerprints()))
    other = make_authority("Other").chain[0]
    file = folder.add_trust(other)
    (folder.trust / "device.pem").write_bytes(certificate().public_bytes(Encoding.PEM))
    (folder.trust / "broken.pem").write_bytes(b"x")
    (folder.trust / "notes.txt").write_bytes(b"x")
    with capture_logs() as lines:
        assert look(keys)
    assert keys.anchors == (own, other)
    broken, device = [each["reason"] for each in lines if each["event"] == "keys.authority_refused"]
    assert "device.pem: 'CN=meter-1' is no certificate authority" in device
    assert "broken.pem: this is no base64" in broken
    assert told == [2]
    file.unlink()
    assert look(keys)
    assert keys.anchors == (own,)
    assert told == [2, 1]


@pytest.mark.parametrize(
    ("days", "says"),
    [(365, ""), (29, "ends on"), (-1, "has ended on")],
)
def test_what_ends_soon_or_has_ended_is_said(days: int, says: str) -> None:
    text = notice_about(certificate(days=days), datetime.now(UTC))
    assert (says in text) if says else text == ""


def test_a_certificate_that_has_not_begun_is_said() -> None:
    assert "is not valid before" in notice_about(certificate(), datetime.now(UTC) - timedelta(days=30))


def test_an_expired_certificate_is_said_loudly_each_day(folder: KeyFolder) -> None:
    folder.store(SERVER, Issued(P256, (certificate(days=-1),)))
    times = [datetime.now(UTC)]
    keys = ServerKeys(folder, now=lambda: times[-1])
    with capture_logs() as lines:
        keys.remind()
        keys.remind()
        times.append(times[0] + timedelta(days=1))
        keys.remind()
    assert [(each["event"], each["log_level"]) for each in lines] == [("keys.certificate_expired", "error")] * 2
    assert len(keys.notices()) == 1


def test_a_key_that_others_may_read_is_said(folder: KeyFolder) -> None:
    os.chmod(folder.key_file(SERVER), 0o640)
    with capture_logs() as lines:
        ServerKeys.open(folder.keys.parent)
    assert [each["event"] for each in lines] == ["keys.readable_by_others"]


@pytest.mark.spec("LwM2M-contract 2.2")
@pytest.mark.parametrize(
    ("endpoint", "common_name", "names"),
    [
        ("meter-1", "meter-1", ["meter-1"]),
        ("urn:imei:1", "urn:imei:1", ["urn:imei:1"]),
        ("with blank", "with blank", None),
        ("urn:dev:os:" + "x" * 60, "", ["urn:dev:os:" + "x" * 60]),
    ],
)
def test_a_certificate_of_a_device_names_its_endpoint(
    folder: KeyFolder, endpoint: str, common_name: str, names: list[str] | None
) -> None:
    issued = folder.issuer().client(new_key(), endpoint, 30).chain[0]
    issued.verify_directly_issued_by(folder.issuer().certificate)
    found = [each.value for each in issued.subject]
    assert found == ([common_name] if common_name else [])
    if names is not None:
        shown = issued.extensions.get_extension_for_class(x509.SubjectAlternativeName)
        assert [each.value for each in shown.value] == names
        assert shown.critical is not bool(common_name)


@pytest.mark.spec("LwM2M-contract 2.5")
def test_a_key_of_which_the_private_half_stays_with_the_device_is_certified_alike(folder: KeyFolder) -> None:
    key = new_key()
    enrolled = x509.load_der_x509_certificate(folder.enrol(key.public_key(), "meter-1"))
    enrolled.verify_directly_issued_by(x509.load_der_x509_certificate(folder.authority()))
    given = x509.load_der_x509_certificate(folder.certify(key, "meter-1"))
    assert [each.value for each in enrolled.extensions] == [each.value for each in given.extensions]
    assert (enrolled.subject, enrolled.public_key()) == (given.subject, key.public_key())


@pytest.mark.parametrize("endpoint", ["", "x y" * 30, "a\0b"])
def test_what_cannot_be_a_name_is_no_certificate(folder: KeyFolder, endpoint: str) -> None:
    with pytest.raises(NotIssued, match="cannot be the name"):
        folder.issuer().client(new_key(), endpoint)
