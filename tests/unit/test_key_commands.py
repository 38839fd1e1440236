"""`stellwerk keys`: makes, shows, imports, trusts and issues; never leaves the server without usable keys."""

import shutil
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from tests.credential_material import OTHER, P384, brief, certificate, pkcs8
from typer.testing import CliRunner

from stellwerk.cli import app
from stellwerk.core.errors import UserError
from stellwerk.device.key_material import (
    read_certificate,
    read_certificates,
    read_private_key,
    read_public_key,
    spki_of,
    to_base64,
)
from stellwerk.issuing import make_authority
from stellwerk.key_files import AUTHORITY, BOOTSTRAP, SERVER, KeyFolder, fingerprint_of

run = CliRunner()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    data_dir = tmp_path_factory.mktemp("made")
    KeyFolder(data_dir).ensure()
    return data_dir


@pytest.fixture
def empty(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> KeyFolder:
    monkeypatch.setenv("STELLWERK_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return KeyFolder(tmp_path / "data")


@pytest.fixture
def folder(empty: KeyFolder, made: Path) -> KeyFolder:
    shutil.copytree(made, empty.keys.parent)
    return empty


def words(*arguments: str) -> list[list[str]]:
    found = run.invoke(app, ["keys", *arguments])
    assert found.exit_code == 0, (found.output, found.exception)
    return [line.split("\t") for line in found.stdout.splitlines()]


def refused(*arguments: str) -> str:
    found = run.invoke(app, ["keys", *arguments])
    assert isinstance(found.exception, UserError), found.output
    return str(found.exception)


def contents(folder: KeyFolder) -> dict[Path, bytes]:
    return {each: each.read_bytes() for each in folder.keys.parent.rglob("*") if each.is_file()}


def test_keys_are_made_once_and_shown_without_what_is_private(empty: KeyFolder) -> None:
    assert "there are no keys yet" in refused("show")
    assert words("make") == [["made", str(empty.certificate_file(each))] for each in (AUTHORITY, SERVER)]
    before = contents(empty)
    assert "--force replaces it" in refused("make")
    assert contents(empty) == before
    shown = run.invoke(app, ["keys", "show"]).stdout
    server = empty.load(SERVER)
    public = to_base64(spki_of(server.key.public_key()))
    assert public in shown
    assert fingerprint_of(server.chain[0]) in shown
    assert "PRIVATE" not in shown
    assert words("show", "--spki") == [[public]]


def test_a_new_server_key_is_of_the_same_authority_and_the_old_one_stays_beside_it(folder: KeyFolder) -> None:
    before = folder.load(SERVER)
    words("make", "--force", "--cn", "lwm2m.example", "--name", "192.0.2.1")
    after = folder.load(SERVER)
    assert spki_of(after.key.public_key()) != spki_of(before.key.public_key())
    after.chain[0].verify_directly_issued_by(folder.issuer().certificate)
    assert [each.value for each in after.chain[0].subject] == ["lwm2m.example"]
    assert read_certificates((folder.keys / "server.pem.old").read_bytes()) == list(before.chain)
    old = read_private_key((folder.keys / "server.key.old").read_bytes())
    assert old.private_numbers() == before.key.private_numbers()
    words("make", "--force", "--ca")
    assert folder.issuer().certificate != before.chain[1]


@pytest.mark.spec("SEC-8")
def test_the_bootstrap_server_has_a_key_of_its_own(folder: KeyFolder) -> None:
    folder.key_file(BOOTSTRAP).unlink(missing_ok=True)
    text = refused("show", "--spki", "--bootstrap")
    assert "bootstrap.key is not there; `stellwerk keys make --bootstrap` or the next `stellwerk serve`" in text
    words("make", "--bootstrap")
    keys = [spki_of(folder.load(each).key.public_key()) for each in (AUTHORITY, SERVER, BOOTSTRAP)]
    assert len(set(keys)) == 3
    # A device that knows its servers by raw public keys needs both.
    spki, bootstrap = words("show", "--spki"), words("show", "--spki", "--bootstrap")
    assert [spki, bootstrap] == [[[to_base64(each)]] for each in keys[1:]]
    shown = run.invoke(app, ["keys", "show", "--bootstrap"]).stdout
    assert (bootstrap[0][0] in shown, spki[0][0] in shown) == (True, False)
    said = refused("import", "--bootstrap", "--key", str(folder.key_file(SERVER)))
    assert "server.key is the same key; each has one of its own" in said


def test_a_new_authority_leaves_the_other_server_behind_and_says_so(folder: KeyFolder) -> None:
    words("make", "--bootstrap", "--force")
    for options, behind, how in (((), BOOTSTRAP, "make --bootstrap"), (("--bootstrap",), SERVER, "make")):
        found = run.invoke(app, ["keys", "make", "--ca", "--force", *options])
        file = folder.certificate_file(behind)
        said = f"warning: {file} is of the former authority; `stellwerk keys {how} --force` renews it"
        assert found.stderr.splitlines() == [said]
        # It is behind already.
        assert run.invoke(app, ["keys", "make", "--ca", "--force", *options]).stderr == ""
        words("make", "--force", *(() if options else ("--bootstrap",)))


def test_a_key_with_its_chain_is_imported(folder: KeyFolder, tmp_path: Path) -> None:
    key, cert = tmp_path / "own.key", tmp_path / "own.pem"
    key.write_bytes(pkcs8())
    cert.write_bytes(certificate(name="own").public_bytes(Encoding.PEM))
    assert words("import", "--key", str(key), "--cert", str(cert)) == [["imported", str(folder.key_file(SERVER))]]
    assert folder.load(SERVER).chain == (read_certificate(cert.read_bytes()),)
    words("import", "--key", str(key))
    assert folder.load(SERVER).chain == ()
    assert "no certificate: raw public keys" in run.invoke(app, ["keys", "show"]).stdout


@pytest.mark.parametrize(
    ("key", "cert", "says"),
    [
        (pkcs8(P384), None, "secp384r1 is not spoken here"),
        (pkcs8(password=b"x"), None, "encrypted"),
        (b"", None, "empty"),
        (pkcs8(OTHER), certificate(), "is not of the key in"),
        (pkcs8(), certificate(days=-1), "has ended on"),
    ],
    ids=brief,
)
def test_what_the_server_could_not_use_is_not_imported(
    folder: KeyFolder, tmp_path: Path, key: bytes, cert: object, says: str
) -> None:
    (tmp_path / "own.key").write_bytes(key)
    arguments = ["import", "--key", str(tmp_path / "own.key")]
    if cert is not None:
        (tmp_path / "own.pem").write_bytes(cert.public_bytes(Encoding.PEM))  # type: ignore[attr-defined]
        arguments += ["--cert", str(tmp_path / "own.pem")]
    before = contents(folder)
    said = refused(*arguments)
    assert says in said
    assert str(tmp_path) in said
    assert contents(folder) == before


@pytest.mark.spec("Platform 5")
def test_authorities_are_trusted_shown_and_distrusted(folder: KeyFolder, tmp_path: Path) -> None:
    one, two = make_authority("One").chain[0], make_authority("Two").chain[0]
    (tmp_path / "both.pem").write_bytes(one.public_bytes(Encoding.PEM) + two.public_bytes(Encoding.PEM))
    (tmp_path / "device.pem").write_bytes(certificate().public_bytes(Encoding.PEM))
    assert "no certificate authority" in refused("trust", str(tmp_path / "both.pem"), str(tmp_path / "device.pem"))
    assert folder.anchors().certificates == (folder.issuer().certificate,)
    trusted = words("trust", str(tmp_path / "both.pem"))
    assert trusted == [["trusted", fingerprint_of(one), "CN=One"], ["trusted", fingerprint_of(two), "CN=Two"]]
    assert run.invoke(app, ["keys", "show"]).stdout.count("trusted authority") == 2
    own = fingerprint_of(folder.issuer().certificate)
    assert "the platform's own; `stellwerk keys make --ca --force` replaces it" in refused("distrust", own)
    assert "has the fingerprint '1234'" in refused("distrust", fingerprint_of(one), "1234")
    assert len(folder.anchors().certificates) == 3
    assert words("distrust", fingerprint_of(one)[:16]) == [["distrusted", fingerprint_of(one), "CN=One"]]
    assert folder.anchors().certificates == (folder.issuer().certificate, two)


def test_of_a_file_with_several_authorities_the_others_stay(folder: KeyFolder) -> None:
    one, two = make_authority("One").chain[0], make_authority("Two").chain[0]
    folder.trust.mkdir()
    (folder.trust / "mine.pem").write_bytes(one.public_bytes(Encoding.PEM) + two.public_bytes(Encoding.PEM))
    words("distrust", fingerprint_of(two).upper())
    assert folder.anchors().certificates == (folder.issuer().certificate, one)


@pytest.mark.spec("SEC-8")
def test_a_device_gets_a_key_a_certificate_and_its_raw_public_key(folder: KeyFolder, tmp_path: Path) -> None:
    files = [Path(line) for (line,) in words("issue", "urn:imei:../1", "--out", str(tmp_path / "new"), "--days", "9")]
    assert [each.name for each in files] == [f"urn:imei:.._1.{each}" for each in ("key", "pem", "pub")]
    key, issued, public = (each.read_bytes() for each in files)
    assert files[0].stat().st_mode & 0o777 == 0o600
    own = spki_of(read_private_key(key).public_key())
    assert read_public_key(public) == spki_of(read_certificate(issued).public_key()) == own  # type: ignore[arg-type]
    read_certificate(issued).verify_directly_issued_by(folder.issuer().certificate)
    assert "--force replaces it" in refused("issue", "urn:imei:../1", "--out", str(tmp_path / "new"))
    assert files[0].read_bytes() == key
    words("issue", "urn:imei:../1", "--out", str(tmp_path / "new"), "--force")
    assert files[0].read_bytes() != key


def test_nothing_is_issued_without_an_authority(empty: KeyFolder) -> None:
    assert "there is no authority yet" in refused("issue", "meter-1")
