"""Credentials of simulated devices: what may be written, and what the answer to anything else says."""

from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, SECP384R1, generate_private_key
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from structlog.testing import capture_logs

from stellwerk.issuing import Issuer, NotIssued, make_authority
from stellwerk.sim.bootstrap.options import OscoreValues
from stellwerk.sim.key_files import (
    BadCredentials,
    Sources,
    context_keyring,
    read_certificates,
    read_private_key,
    read_public_key,
)
from stellwerk.sim.security import Certificate, NoSuchSuite, PreSharedKey, RawKey, parse_suites

HEX = "000102030405060708090a0b0c0d0e0f"
KEY = bytes(range(16))


def write_key(path: Path, key=None, encoding=Encoding.PEM, form=PrivateFormat.PKCS8, password=None):
    key = key or generate_private_key(SECP256R1())
    protection = BestAvailableEncryption(password) if password else NoEncryption()
    path.write_bytes(key.private_bytes(encoding, form, protection))
    return key


def make_issuer() -> Issuer:
    made = make_authority("authority")
    return Issuer(made.key, made.chain[0])


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def test_a_pre_shared_key_stands_behind_the_last_colon():
    assert Sources(psk=f"urn:dev:1:{HEX}").keyring(1)("d", 1) == PreSharedKey(b"urn:dev:1", KEY)


def test_devices_of_a_fleet_have_identities_of_their_own():
    keyring = Sources(psk=f"id-{{n}}-{{endpoint}}:{HEX}").keyring(2)
    assert [keyring(f"dev-{number}", number).identity for number in (1, 2)] == [b"id-1-dev-1", b"id-2-dev-2"]


def test_a_file_lists_identities_and_keys(tmp_path):
    listed = tmp_path / "keys"
    listed.write_text(f"# endpoint identity key\n\ndev-1 one {HEX}\ndev-2  two\tff\n")
    keyring = Sources(psk_file=listed).keyring(2)
    assert [keyring("dev-1", 1), keyring("dev-2", 2)] == [PreSharedKey(b"one", KEY), PreSharedKey(b"two", b"\xff")]
    with pytest.raises(BadCredentials, match="'dev-3'"):
        keyring("dev-3", 3)


@pytest.mark.parametrize("form", [PrivateFormat.PKCS8, PrivateFormat.TraditionalOpenSSL])
@pytest.mark.parametrize("encoding", [Encoding.PEM, Encoding.DER])
def test_a_private_key_is_read_from_every_usual_form(tmp_path, form, encoding):
    key = write_key(tmp_path / "k", encoding=encoding, form=form)
    found = Sources(rpk=tmp_path / "k").keyring(1)("dev-1", 1)
    assert isinstance(found, RawKey)
    assert found.key.private_numbers() == key.private_numbers()


def test_a_folder_holds_a_pair_for_each_device(tmp_path):
    issuer, keys = make_issuer(), {}
    for name in ("dev-1", "dev-2"):
        keys[name] = write_key(tmp_path / f"{name}.key")
        chain = issuer.client(keys[name], name).chain
        (tmp_path / f"{name}.crt").write_bytes(pem(*chain) if name == "dev-1" else der(chain[0]))
    raw, certified = Sources(rpk=tmp_path).keyring(2), Sources(certificate=tmp_path).keyring(2)
    assert raw("dev-2", 2).key.private_numbers() == keys["dev-2"].private_numbers()
    first, second = certified("dev-1", 1), certified("dev-2", 2)
    assert (len(first.chain), first.chain[1]) == (2, der(issuer.certificate))
    assert [len(second.chain), second.key.private_numbers()] == [1, keys["dev-2"].private_numbers()]


def test_an_authority_issues_each_device_a_certificate(tmp_path):
    made = make_authority("authority")
    write_key(tmp_path / "ca.key", made.key)
    (tmp_path / "ca.crt").write_bytes(der(made.chain[0]))
    found = Sources(issuer=tmp_path / "ca.crt", issuer_key=tmp_path / "ca.key").keyring(9)("dev-7", 7)
    assert isinstance(found, Certificate)
    leaf = x509.load_der_x509_certificate(found.chain[0])
    leaf.verify_directly_issued_by(made.chain[0])
    assert leaf.subject.rfc4514_string() == "CN=dev-7"
    assert leaf.public_key() == found.key.public_key()
    with pytest.raises(NotIssued, match="64"):
        Sources(issuer=tmp_path / "ca.crt", issuer_key=tmp_path / "ca.key").keyring(1)("n n" * 30, 1)


def test_a_public_key_is_read_from_both_forms(tmp_path):
    public = generate_private_key(SECP256R1()).public_key()
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "d").write_bytes(spki)
    (tmp_path / "p").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    assert read_public_key(tmp_path / "d", "--server-key") == read_public_key(tmp_path / "p", "--server-key") == spki


@pytest.mark.parametrize(
    ("sources", "count", "said"),
    [
        (Sources(psk=HEX), 1, "IDENTITY:HEXKEY"),
        (Sources(psk=f":{HEX}"), 1, "1 to 128 octets, not 0"),
        (Sources(psk=f"{'i' * 129}:{HEX}"), 1, "1 to 128 octets, not 129"),
        (Sources(psk="dev:0g"), 1, "hex digits"),
        (Sources(psk="dev:"), 1, "1 to 64 octets, not 0"),
        (Sources(psk=f"dev:{'00' * 65}"), 1, "1 to 64 octets, not 65"),
        (Sources(psk=f"dev:{HEX}"), 2, "cannot share one identity"),
        (Sources(rpk=Path("k")), 2, "cannot share one file"),
        (Sources(psk=f"dev:{HEX}", rpk=Path("k")), 1, "--psk and --rpk: a device has one kind"),
        (Sources(certificate=Path("c")), 1, "--key"),
        (Sources(key=Path("k")), 1, "goes with --cert"),
        (Sources(issuer=Path("k")), 1, "go together"),
        (Sources(psk_file=Path("nowhere")), 1, "No such file"),
    ],
)
def test_what_is_wrong_with_credentials_is_said(sources, count, said):
    with pytest.raises(BadCredentials, match=said):
        sources.keyring(count)


def test_a_secret_is_not_repeated_in_an_error_or_a_representation():
    with pytest.raises(BadCredentials) as raised:
        Sources(psk="dev:secretzz").keyring(1)
    assert "secretzz" not in str(raised.value)
    sources = Sources(psk=f"dev:{HEX}")
    assert HEX not in repr(sources) + repr(sources.keyring(1)("dev", 1))
    assert repr(KEY) not in repr(sources.keyring(1)("dev", 1))


@pytest.mark.parametrize("line", ["dev-1 one", f"dev-1 one {HEX} more", "dev-1 one xx"])
def test_a_line_of_a_key_file_that_is_wrong_is_named(tmp_path, line):
    (tmp_path / "keys").write_text(f"dev-0 zero {HEX}\n{line}\n")
    with pytest.raises(BadCredentials, match="line 2"):
        Sources(psk_file=tmp_path / "keys").keyring(1)


def test_an_endpoint_has_one_line_in_a_key_file(tmp_path):
    (tmp_path / "keys").write_text(f"dev-0 zero {HEX}\ndev-0 one {HEX}\n")
    with pytest.raises(BadCredentials, match="'dev-0' has a line already"):
        Sources(psk_file=tmp_path / "keys").keyring(1)


def test_files_that_hold_something_else_are_refused(tmp_path):
    other, junk, locked = tmp_path / "p384", tmp_path / "junk", tmp_path / "locked"
    write_key(other, generate_private_key(SECP384R1()))
    write_key(locked, password=b"open")
    junk.write_bytes(b"-----BEGIN nothing-----\n\xff")
    for path, said in ((other, "secp256r1"), (junk, "private key"), (locked, "without a password")):
        with pytest.raises(BadCredentials, match=said):
            read_private_key(path, "--rpk")
    with pytest.raises(BadCredentials, match="certificate"):
        read_certificates(junk, "--cert")
    with pytest.raises(BadCredentials, match="SubjectPublicKeyInfo"):
        read_public_key(junk, "--server-key")


def test_a_certificate_for_another_key_is_refused(tmp_path):
    (tmp_path / "c").write_bytes(der(make_issuer().client(generate_private_key(SECP256R1()), "dev-1").chain[0]))
    write_key(tmp_path / "k")
    with pytest.raises(BadCredentials, match="another key"):
        Sources(certificate=tmp_path / "c", key=tmp_path / "k").keyring(1)("dev-1", 1)


def test_suites_are_named_as_the_standards_do():
    assert parse_suites(["TLS_PSK_WITH_AES_128_CCM_8,psk_with_aes_128_ccm", "ECDHE_ECDSA_WITH_AES_128_CCM_8"]) == (
        *(0xC0A8, 0xC0A4, 0xC0AE),
    )
    with pytest.raises(NoSuchSuite, match="PSK_WITH_AES_128_CCM_8"):
        parse_suites(["AES"])


# -- OSCORE --


def test_one_context_is_written_in_a_line():
    keyring = context_keyring(f"6d31:01:{HEX}:9e7c", None, count=1)
    assert keyring is not None
    assert keyring("dev-1", 1) == OscoreValues(KEY, b"m1", b"\x01", master_salt=b"\x9e\x7c")
    bare = context_keyring(f":01:{HEX}", None, count=1)
    assert bare is not None
    assert bare("dev-1", 1) == OscoreValues(KEY, b"", b"\x01")
    assert context_keyring("", None, count=1) is None


@pytest.mark.spec("RFC 8613 3.3")
def test_several_devices_have_ids_of_their_own_at_both_ends():
    keyring = context_keyring(f"{{endpoint}}:aa{{n}}:{HEX}", None, count=2)
    assert keyring is not None
    assert keyring("d-7", 7) == OscoreValues(KEY, b"d-7", b"\xaa\x00\x07")
    assert keyring("d", 70_000).recipient_id == b"\xaa\x01\x11\x70"


def test_contexts_are_listed_in_a_file(tmp_path):
    (tmp_path / "k").write_text(
        f"# by hand\n\ndev-1 6d31 01 {HEX}\ndev-2 - 01 {HEX} 9e7c 37cb\ndev-3 01 02 {HEX} - 00\n"
    )
    keyring = context_keyring("", tmp_path / "k", count=3)
    assert keyring is not None
    assert keyring("dev-1", 1) == OscoreValues(KEY, b"m1", b"\x01")
    assert keyring("dev-2", 2) == OscoreValues(KEY, b"", b"\x01", master_salt=b"\x9e\x7c", id_context=b"\x37\xcb")
    assert keyring("dev-3", 3).id_context == b"\0"
    with pytest.raises(BadCredentials, match="no line begins with 'dev-4'"):
        keyring("dev-4", 4)


@pytest.mark.parametrize(
    ("text", "count", "said"),
    [
        (HEX, 1, "--oscore: write it as SENDER:RECIPIENT:SECRET"),
        (f"01:02:{HEX}:00:00", 1, "write it as SENDER:RECIPIENT:SECRET"),
        (f"m1:01:{HEX}", 1, "hex digits, two for each byte"),
        ("01:02:", 1, "no master secret"),
        (f"01:01:{HEX}", 1, "both ends have the same ID"),
        (f"{'00' * 8}:01:{HEX}", 1, "at most 7 bytes"),
        (f"{{endpoint}}:01:{HEX}", 1, None),
        (f"{{n}}:01:{HEX}", 2, "cannot share an ID"),
        (f"01:{{n}}:{HEX}", 2, "cannot share an ID"),
    ],
)
def test_what_is_wrong_with_a_context_is_said(text, count, said):
    if said is None:
        assert context_keyring(text, None, count=count) is not None
        return
    secret = "5ec2e7" * 6
    with pytest.raises(BadCredentials, match=said) as raised:
        context_keyring(text.replace(HEX, secret), None, count=count)
    assert secret not in str(raised.value)


@pytest.mark.parametrize(
    "line", [f"dev-1 01 {HEX}", f"dev-1 01 02 {HEX} 03 04 05", f"dev-1 01 01 {HEX}", "dev-1 0 1 00"]
)
def test_a_line_with_a_context_that_is_wrong_is_named(tmp_path, line):
    (tmp_path / "k").write_text(f"dev-0 01 02 {HEX}\n{line}\n")
    with pytest.raises(BadCredentials, match="line 2"):
        context_keyring("", tmp_path / "k", count=1)


def test_contexts_are_said_once(tmp_path):
    (tmp_path / "k").write_text(f"dev-0 01 02 {HEX}\ndev-0 01 02 {HEX}\n")
    with pytest.raises(BadCredentials, match="'dev-0' has a line already"):
        context_keyring("", tmp_path / "k", count=1)
    with pytest.raises(BadCredentials, match="leave out one of them"):
        context_keyring(f"01:02:{HEX}", tmp_path / "k", count=1)


@pytest.mark.parametrize(
    ("option", "text", "said"),
    [
        ("--psk", "ID:0001", ("--psk", "a key has 32, 64, 96 or 128 hex digits, this one has 4", 0)),
        ("--psk", f"ID:{HEX}00", ("--psk", "a key has 32, 64, 96 or 128 hex digits, this one has 34", 0)),
        ("--psk", f"ID:{HEX}", None),
        ("--psk-file", f"a a {HEX}\nb b 00\nc c 0001", ("k, line 2", "a key has 32, 64, 96 or 128 hex digits", 1)),
        ("--oscore", "01:02:0001", ("--oscore, secret", "it has 32 to 128 hex digits, this one has 4", 0)),
        ("--oscore", f"01:02:{HEX}00:9e", None),
        ("--oscore-file", f"a 01 02 {HEX}\nb 03 04 5ec2", ("k, line 2, secret", "it has 32 to 128 hex digits", 0)),
    ],
)
def test_a_key_that_the_server_takes_from_nobody_is_warned_of(monkeypatch, tmp_path, option, text, said):
    monkeypatch.chdir(tmp_path)
    Path("k").write_text(text)
    with capture_logs() as lines:
        match option:
            case "--psk":
                Sources(psk=text).keyring(1)
            case "--psk-file":
                Sources(psk_file=Path("k")).keyring(1)
            case "--oscore":
                context_keyring(text, None, count=1)
            case _:
                context_keyring("", Path("k"), count=1)
    assert len(lines) == bool(said)
    for each in lines:
        assert (each["where"], each["more"]) == (said[0], said[2])
        assert each["reason"].startswith(said[1])
        assert not any(secret in str(each) for secret in ("0001", "5ec2"))
