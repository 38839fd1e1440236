"""A chain is trusted when it leads to a trust anchor by certificates that may do so, else refused with the reason."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from stellwerk.dtls.certificates import (
    MAX_NAMES,
    CertificateRefused,
    read_certificate,
    read_raw_key,
    verify_chain,
)
from stellwerk.dtls.failures import REASONS

AT = datetime(2026, 6, 1, tzinfo=UTC)
FROM, UNTIL = datetime(2026, 1, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)
CA = x509.BasicConstraints(ca=True, path_length=None)


def usage(*names: str) -> x509.KeyUsage:
    fields = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{field: field in names for field in fields})


@dataclass
class Holder:
    """A certificate with its private key."""

    key: Any
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


def issue(
    name: str,
    issuer: Holder | None = None,
    *extensions: x509.ExtensionType,
    key: Any = None,
    start: datetime = FROM,
    end: datetime = UNTIL,
    algorithm: HashAlgorithm | None = None,
    critical: bool = True,
    subject: x509.Name | None = None,
) -> Holder:
    """A certificate for ``name``, by ``issuer`` or by itself."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    subject = subject if subject is not None else x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(start)
        .not_valid_after(end)
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical)
    signer = issuer.key if issuer else key
    plain = isinstance(signer, ed25519.Ed25519PrivateKey)
    return Holder(key, builder.sign(signer, None if plain else algorithm or SHA256()))


ROOT = issue("root", None, CA, usage("key_cert_sign"))
MIDDLE = issue("middle", ROOT, CA, usage("key_cert_sign"))
DEVICE = issue("dev1", MIDDLE, usage("digital_signature"))


def check(*chain: Holder, anchors: tuple[Holder, ...] = (ROOT,), **how: Any) -> None:
    how = {"at": AT, "check_validity": True} | how
    verify_chain([holder.der for holder in chain], [anchor.certificate for anchor in anchors], **how)


def refusal(*chain: Holder, **how: Any) -> CertificateRefused:
    with pytest.raises(CertificateRefused) as caught:
        check(*chain, **how)
    assert caught.value.reason in REASONS
    return caught.value


@pytest.mark.spec("RFC 5280 6.1")
@pytest.mark.parametrize(
    ("chain", "anchors"),
    [
        ((DEVICE, MIDDLE), (ROOT,)),
        ((DEVICE, MIDDLE, ROOT), (ROOT,)),
        ((DEVICE,), (MIDDLE,)),
        ((DEVICE, MIDDLE), (MIDDLE,)),
        ((issue("dev2", ROOT),), (ROOT,)),
        ((issue("dev2", ROOT),), (issue("root", None, CA), ROOT)),
    ],
    ids=["by a CA between", "root sent too", "the CA between is the anchor", "and is sent", "bare", "two of a name"],
)
def test_a_chain_to_an_anchor_is_trusted(chain: tuple[Holder, ...], anchors: tuple[Holder, ...]) -> None:
    check(*chain, anchors=anchors)


@pytest.mark.spec("RFC 5246 7.4.2")
def test_the_peers_own_certificate_is_first_and_its_issuers_come_in_any_order() -> None:
    lower = issue("lower", MIDDLE, CA)
    device = issue("dev1", lower)
    check(device, lower, MIDDLE)
    check(device, MIDDLE, lower)
    check(device, issue("stranger"), MIDDLE, lower)
    # What proves possession is the first: a CA first is the CA's own chain, and it may not act as a client.
    assert refusal(MIDDLE, DEVICE).reason == "bad-certificate"


def test_a_pinned_certificate_is_trusted_whoever_issued_it() -> None:
    own = issue("dev1")
    check(own, anchors=(own,))
    check(DEVICE, anchors=(DEVICE,))
    assert refusal(issue("dev1"), anchors=(own,)).reason == "untrusted-certificate"


@pytest.mark.spec("RFC 5280 4.2.1.9")
def test_a_pinned_certificate_issues_nothing() -> None:
    own = issue("dev1")
    refused = refusal(issue("dev2", own), anchors=(own,))
    assert refused.reason == "untrusted-certificate"
    assert "is no CA" in refused.detail


@pytest.mark.spec("RFC 5280 6.1.3")
@pytest.mark.parametrize(
    ("start", "end", "reason"),
    [
        (FROM, AT, None),
        (AT, UNTIL, None),
        (FROM, AT - timedelta(seconds=1), "expired-certificate"),
        (AT + timedelta(seconds=1), UNTIL, "not-yet-valid-certificate"),
    ],
)
@pytest.mark.parametrize("which", ["device", "middle", "anchor", "pinned"])
def test_all_certificates_have_to_be_valid_unless_that_is_not_asked(
    start: datetime, end: datetime, reason: str | None, which: str
) -> None:
    def dates(here: str) -> dict[str, datetime]:
        return {"start": start, "end": end} if here == which else {}

    anchor = issue("anchor", None, CA, **dates("anchor"))
    middle = issue("middle", anchor, CA, **dates("middle"))
    device = issue("dev1", middle, **dates("device"))
    if which == "pinned":
        device = anchor = issue("dev1", **dates("pinned"))
    if reason is None:
        check(device, middle, anchors=(anchor,))
    else:
        refused = refusal(device, middle, anchors=(anchor,))
        assert refused.reason == reason
        assert "2026-0" in refused.detail
    check(device, middle, anchors=(anchor,), check_validity=False)


@pytest.mark.spec("RFC 5280 6.1.4")
@pytest.mark.parametrize(
    ("extensions", "why"),
    [
        ((), "is no CA"),
        ((x509.BasicConstraints(ca=False, path_length=None),), "is no CA"),
        ((CA, usage("digital_signature")), "keyCertSign"),
        ((CA, x509.NameConstraints([x509.DNSName("a.example")], None)), "name constraints"),
        ((CA, x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])), "lacks clientAuth"),
        ((CA, x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0")), "critical extension 1.2.3.4"),
        ((CA, x509.PolicyConstraints(0, None)), "critical extension 2.5.29.36"),
    ],
)
@pytest.mark.parametrize("is_anchor", [True, False])
def test_who_issues_has_to_be_a_ca_that_may(extensions: tuple[Any, ...], why: str, is_anchor: bool) -> None:
    issuer = issue("issuer", None if is_anchor else ROOT, *extensions)
    refused = refusal(issue("dev1", issuer), issuer, anchors=(issuer if is_anchor else ROOT,))
    assert refused.reason in ("untrusted-certificate", "bad-certificate")
    assert why in refused.detail


@pytest.mark.spec("RFC 5280 4.2.1.9", "RFC 5280 6.1.4")
def test_a_path_is_no_longer_than_its_cas_allow() -> None:
    root = issue("root", None, x509.BasicConstraints(ca=True, path_length=1))
    first = issue("first", root, x509.BasicConstraints(ca=True, path_length=0))
    second = issue("second", first, CA)
    check(issue("dev1", first), first, anchors=(root,))
    refused = refusal(issue("dev1", second), second, first, anchors=(root,))
    assert refused.reason == "untrusted-certificate"
    assert "pathLenConstraint" in refused.detail
    # A CA that renews its own certificate does not count.
    renewed = issue("first", first, x509.BasicConstraints(ca=True, path_length=0))
    check(issue("dev1", renewed), renewed, first, anchors=(root,))


@pytest.mark.spec("RFC 7925 4.4", "RFC 5280 4.2.1.3", "RFC 5280 4.2.1.12")
@pytest.mark.parametrize(
    ("extensions", "role", "why"),
    [
        ((), "client", None),
        ((usage("digital_signature", "key_agreement"),), "client", None),
        ((usage("key_agreement"),), "client", "digitalSignature"),
        ((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]),), "client", None),
        ((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]),), "server", "serverAuth"),
        ((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]),), "client", "clientAuth"),
        ((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE]),), "client", None),
        ((x509.UnrecognizedExtension(x509.ObjectIdentifier("1.2.3.4"), b"\5\0"),), "client", "1.2.3.4"),
    ],
)
def test_the_peers_certificate_has_to_be_for_what_it_does(
    extensions: tuple[Any, ...], role: str, why: str | None
) -> None:
    device = issue("dev1", ROOT, *extensions)
    if why is None:
        check(device, role=role)
    else:
        refused = refusal(device, role=role)
        assert refused.reason == "bad-certificate"
        assert why in refused.detail


def test_a_foreign_ca_is_not_trusted_even_with_the_name_of_ours() -> None:
    foreign = issue("foreign", None, CA)
    refused = refusal(issue("dev1", foreign), foreign)
    assert refused.reason == "untrusted-certificate"
    assert "CN=foreign" in refused.detail
    namesake = issue("root", None, CA)
    refused = refusal(issue("dev1", namesake), namesake)
    assert refused.reason == "untrusted-certificate"
    assert "not signed with the key" in refused.detail
    assert refusal(DEVICE, MIDDLE, anchors=()).reason == "untrusted-certificate"


@pytest.mark.spec("LwM2M-contract 15")
def test_a_strangers_keys_check_nothing() -> None:
    # A check may take as long as the stranger likes: an RSA exponent of 3072 bits makes it 10 ms.
    stranger, impostor = issue("stranger", None, CA), issue("stranger", None, CA)
    assert (
        "leads to none of the trusted certificates (there are 1)" in refusal(issue("dev1", impostor), stranger).detail
    )
    # Below a CA that is trusted they are checked.
    own = issue("stranger", ROOT, CA)
    assert "not signed with the key" in refusal(issue("dev1", impostor), own).detail
    check(issue("dev1", own), stranger, own)


def test_a_chain_with_a_link_missing_is_not_trusted() -> None:
    lower = issue("lower", MIDDLE, CA)
    assert refusal(issue("dev1", lower), lower).reason == "untrusted-certificate"


def test_circles_of_issuers_end() -> None:
    one = issue("one", None, CA)
    other = issue("other", one, CA)
    back = issue("one", other, CA, key=one.key)
    assert refusal(issue("dev1", back), back, other, back).reason == "untrusted-certificate"


def test_many_issuers_of_one_name_cost_a_bounded_number_of_checks() -> None:
    namesakes = [issue("ca", None, CA) for _ in range(9)]
    anchors = tuple(issue("ca", None, CA) for _ in range(40))
    refused = refusal(issue("dev1", namesakes[0]), *namesakes, anchors=anchors)
    assert refused.reason == "untrusted-certificate"
    # The right one is past the bound: not found, and no error of ours.
    own = issue("ca", None, CA)
    assert refusal(issue("dev1", own), anchors=(*anchors, own)).reason == "untrusted-certificate"


def test_chains_of_nothing_or_of_too_much_are_refused() -> None:
    assert refusal().reason == "no-client-certificate"
    assert refusal(*[DEVICE] * 11).reason == "bad-certificate"
    with pytest.raises(ValueError, match="time zone"):
        check(DEVICE, at=datetime(2026, 6, 1))


@pytest.mark.spec("LwM2M-contract 2.2")
def test_a_ca_with_a_weak_signature_or_key_is_not_trusted() -> None:
    weak = issue("weak", None, CA, key=rsa.generate_private_key(65537, 1024))
    assert "too weak" in refusal(issue("dev1", weak), anchors=(weak,)).detail
    small = issue("small", None, CA, key=ec.generate_private_key(ec.SECP224R1()))
    assert "too weak" in refusal(issue("dev1", small), anchors=(small,)).detail
    # ecdsa-with-SHA256 to ecdsa-with-SHA224; whether it would verify is not asked any more.
    old = x509.load_der_x509_certificate(
        issue("dev1", ROOT).der.replace(bytes.fromhex("2a8648ce3d040302"), bytes.fromhex("2a8648ce3d040301"))
    )
    assert "sha224" in refusal(Holder(None, old)).detail


@pytest.mark.parametrize(
    ("key", "algorithm"),
    [
        (ec.generate_private_key(ec.SECP384R1()), SHA384()),
        (ec.generate_private_key(ec.SECP521R1()), SHA256()),
        (ed25519.Ed25519PrivateKey.generate(), None),
    ],
)
def test_other_strong_keys_of_cas_are_fine(key: Any, algorithm: HashAlgorithm | None) -> None:
    anchor = issue("anchor", None, CA, key=key, algorithm=algorithm)
    check(issue("dev1", anchor, algorithm=algorithm), anchors=(anchor,))


def test_a_certificate_says_who_it_is() -> None:
    names = x509.SubjectAlternativeName(
        [
            x509.UniformResourceIdentifier("urn:dev:mac:0024befffe804ff1"),
            x509.DNSName("dev1.example"),
            x509.RFC822Name("a@b.example"),
        ]
    )
    device = issue("dev1", ROOT, names)
    leaf = read_certificate(device.der)
    assert (leaf.common_name, leaf.names) == ("dev1", ("dev1.example", "urn:dev:mac:0024befffe804ff1"))
    assert (leaf.not_before, leaf.not_after) == (FROM, UNTIL)
    assert leaf.key == device.key.public_key()
    assert read_raw_key(leaf.spki) == leaf.key


def test_a_certificate_without_alternative_name_or_common_name_has_none() -> None:
    assert read_certificate(DEVICE.der).names == ()
    nobody = x509.Name([])
    assert read_certificate(issue("", ROOT, subject=nobody).der).common_name == ""
    twice = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name) for name in ("dev1", "dev2")])
    assert read_certificate(issue("", ROOT, subject=twice).der).common_name == ""


def test_a_certificate_has_a_bounded_number_of_names() -> None:
    names = [x509.DNSName(f"{n}.example") for n in range(MAX_NAMES + 1)]
    assert len(read_certificate(issue("dev1", ROOT, x509.SubjectAlternativeName(names[1:])).der).names) == MAX_NAMES
    with pytest.raises(CertificateRefused, match="more than 64 names"):
        read_certificate(issue("dev1", ROOT, x509.SubjectAlternativeName(names)).der)


def spki(key: Any) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@pytest.mark.spec("LwM2M-contract 2.2")
@pytest.mark.parametrize("curve", [ec.SECP256R1, ec.SECP384R1, ec.SECP521R1])
def test_keys_on_the_curves_of_the_standard_are_read(curve: type[ec.EllipticCurve]) -> None:
    key = ec.generate_private_key(curve())
    assert read_raw_key(spki(key)) == key.public_key()
    assert read_certificate(issue("dev1", ROOT, key=key).der).key == key.public_key()


@pytest.mark.spec("LwM2M-contract 2.2")
@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP192R1()),
        ec.generate_private_key(ec.SECP224R1()),
        ec.generate_private_key(ec.SECP256K1()),
        ed25519.Ed25519PrivateKey.generate(),
        rsa.generate_private_key(65537, 1024),
    ],
    ids=["secp192r1", "secp224r1", "secp256k1", "ed25519", "rsa"],
)
def test_other_keys_are_refused(key: Any) -> None:
    for read, data in ((read_raw_key, spki(key)), (read_certificate, issue("dev1", ROOT, key=key).der)):
        with pytest.raises(CertificateRefused, match="none on P-256") as caught:
            read(data)
        assert caught.value.reason == "bad-certificate"


@pytest.mark.parametrize(
    "change",
    [
        lambda der: der + b"\0",
        lambda der: der[:-1],
        lambda der: b"",
        lambda der: b"\x30\x80" + der[4:] + b"\0\0",
        lambda der: b"\x31" + der[1:],
    ],
    ids=["trailing byte", "cut off", "empty", "indefinite length", "no sequence"],
)
def test_malformed_der_is_refused(change: Any) -> None:
    for read, data in ((read_raw_key, spki(ROOT.key)), (read_certificate, DEVICE.der)):
        with pytest.raises(CertificateRefused) as caught:
            read(change(data))
        assert caught.value.reason == "bad-certificate"
    with pytest.raises(CertificateRefused):
        verify_chain([change(DEVICE.der)], [ROOT.certificate], at=AT, check_validity=True)


@pytest.mark.spec("RFC 7250 3")
def test_a_raw_key_with_a_compressed_point_is_refused() -> None:
    point = ROOT.key.public_key().public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    data = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200") + point
    with pytest.raises(CertificateRefused, match="uncompressed point"):
        read_raw_key(data)


_SHOWN = issue("dev1", ROOT, usage("digital_signature"), x509.SubjectAlternativeName([x509.DNSName("dev1.example")]))


@given(st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=4), st.integers(0, 400), st.booleans())
@settings(max_examples=40, deadline=None)
def test_any_bytes_are_a_certificate_or_refused(changes: list[tuple[int, int]], end: int, cut: bool) -> None:
    data = bytearray(_SHOWN.der)
    for place, byte in changes:
        data[place % len(data)] = byte
    broken = bytes(data[:end] if cut else data)
    if broken == _SHOWN.der:
        return
    try:
        read_certificate(broken)
    except CertificateRefused as refused:
        reason = refused.reason
    else:
        reason = "bad-certificate"
    assert reason == "bad-certificate"
    with pytest.raises(CertificateRefused):
        verify_chain([broken, MIDDLE.der], [ROOT.certificate], at=AT, check_validity=True)


@given(st.binary(max_size=99), st.integers(0, 90), st.integers(0, 255))
@settings(max_examples=40, deadline=None)
def test_any_bytes_are_a_raw_key_or_refused(data: bytes, place: int, byte: int) -> None:
    changed = bytearray(spki(ROOT.key))
    changed[place] = byte
    for broken in (data, bytes(changed)):
        if broken == spki(ROOT.key):
            continue
        with pytest.raises(CertificateRefused):
            read_raw_key(broken)


def test_an_anchor_that_cannot_be_read_does_no_harm_to_the_others() -> None:
    # A UTF8String that is none, in the subject: found only when somebody asks.
    broken = Holder(None, x509.load_der_x509_certificate(ROOT.der.replace(b"\x0c\x04root", b"\x0c\x04ro\xff\xff")))
    with pytest.raises(ValueError):
        _ = broken.certificate.subject
    check(DEVICE, MIDDLE, anchors=(broken, ROOT))
    assert refusal(DEVICE, MIDDLE, anchors=(broken,)).reason == "untrusted-certificate"


@pytest.mark.filterwarnings("error")
def test_an_odd_certificate_of_a_peer_writes_no_warnings() -> None:
    # A serial number is positive.
    odd = DEVICE.der.replace(b"\x02\x01\x07", b"\x02\x01\x87", 1)
    with pytest.warns(UserWarning, match="serial number"):
        x509.load_der_x509_certificate(odd)
    assert read_certificate(odd).common_name == "dev1"
    with pytest.raises(CertificateRefused, match="trusted certificates"):
        verify_chain([odd], [], at=AT, check_validity=True)
