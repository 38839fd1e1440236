"""Certificates and raw public keys of peers: what is in them, and whether a chain leads to a trust anchor (RFC 5280 §6,
RFC 7250, RFC 7925 §4.3, 4.4).

The path is built here, around the signature checks of `cryptography`: its own verifier is one for the web, wants a
subject alternative name, extended key usages and more that device certificates often lack, and knows no pinned leaf. Of
RFC 5280 §6 the policy tree is left out (any policy will do), so is revocation; a CA with name constraints is refused,
so that none is overlooked.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, Literal, TypeVar
from warnings import catch_warnings, simplefilter

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    SECP384R1,
    SECP521R1,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from stellwerk.core.errors import PeerError

MAX_NAMES: Final = 64
"""DNS names and URIs that we read of one certificate."""

_MAX_CHAIN: Final = 10
# Issuers tried for one chain, and signatures of them that are wrong: only keys that are trusted already check any, as
# those of strangers may take as long as strangers like.
_MAX_TRIES: Final = 48
_MAX_WRONG: Final = 8
_SHOWN: Final = 120
_CURVES: Final = (SECP256R1, SECP384R1, SECP521R1)
_RSA_BITS: Final = range(2048, 8193)
_HASHES: Final = frozenset(("sha256", "sha384", "sha512"))
_UNDERSTOOD: Final = frozenset(
    (
        ExtensionOID.BASIC_CONSTRAINTS,
        ExtensionOID.KEY_USAGE,
        ExtensionOID.EXTENDED_KEY_USAGE,
        ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
        ExtensionOID.CERTIFICATE_POLICIES,
        ExtensionOID.SUBJECT_KEY_IDENTIFIER,
        ExtensionOID.AUTHORITY_KEY_IDENTIFIER,
    )
)
_USES: Final = {"client": ExtendedKeyUsageOID.CLIENT_AUTH, "server": ExtendedKeyUsageOID.SERVER_AUTH}

E = TypeVar("E", bound=x509.ExtensionType)


class CertificateRefused(PeerError):
    """``reason`` is one of `failures.REASONS`; ``detail`` a sentence for people, which may quote the certificate."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason, self.detail = reason, detail
        super().__init__(f"{reason}: {detail}")


@dataclass(frozen=True, slots=True)
class Leaf:
    """What a peer's own certificate says. ``spki``: the DER of its key; ``names``: DNS names and URIs of the subject
    alternative name; ``common_name``: empty unless the subject has exactly one."""

    key: EllipticCurvePublicKey
    spki: bytes
    common_name: str
    names: tuple[str, ...]
    not_before: datetime
    not_after: datetime


def read_certificate(der: bytes) -> Leaf:
    """The certificate in ``der``. Raises `CertificateRefused`: it cannot be read, or its key is none on P-256, P-384 or
    P-521. Nothing of it is trusted by that."""
    with _quietly(), _reading():
        certificate = x509.load_der_x509_certificate(der)
        key = certificate.public_key()
        if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, _CURVES):
            raise _bad_key("certificate")
        common_names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        common_name = common_names[0].value if len(common_names) == 1 else ""
        return Leaf(
            key,
            key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo),
            common_name if isinstance(common_name, str) else "",
            _names(certificate),
            certificate.not_valid_before_utc,
            certificate.not_valid_after_utc,
        )


def read_raw_key(spki: bytes) -> EllipticCurvePublicKey:
    """The key in a SubjectPublicKeyInfo (RFC 7250). Raises `CertificateRefused`, also for any form but the one of DER
    with an uncompressed point: keys are known by their bytes."""
    with _reading("raw public key"):
        key = load_der_public_key(spki)
        if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, _CURVES):
            raise _bad_key("raw public key")
        if key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo) != spki:
            raise CertificateRefused(
                "bad-certificate", "the raw public key is not in the one form of DER with an uncompressed point"
            )
        return key


def verify_chain(
    chain: Sequence[bytes],
    anchors: Sequence[x509.Certificate],
    *,
    at: datetime,
    check_validity: bool,
    role: Literal["client", "server"] = "client",
) -> None:
    """Whether ``chain`` (DER, the peer's own certificate first, issuers in any order) leads to one of ``anchors`` for a
    peer in ``role``. Raises `CertificateRefused` if not.

    An anchor is a CA, at the root or in between, or the peer's own certificate: that one is trusted for itself and
    issues nothing unless it is a CA. ``at``: when all has to be valid, with a time zone; not asked for without
    ``check_validity``, as a clock that is wrong is no judge.
    """
    if not chain:
        raise CertificateRefused("no-client-certificate", "the chain is empty; the peer has to send its certificate")
    if len(chain) > _MAX_CHAIN:
        raise CertificateRefused("bad-certificate", f"the chain has more than {_MAX_CHAIN} certificates")
    if at.tzinfo is None:
        raise ValueError("a time zone is needed to compare with")
    with _quietly(), _reading():
        leaf, *others = [x509.load_der_x509_certificate(der) for der in chain]
        search = _Search(anchors, others, at if check_validity else None, role)
        search.check_validity(leaf)
        if leaf in anchors:
            return
        search.check_leaf(leaf)
        if not search.climb(leaf, 0, frozenset()):
            raise search.failure or CertificateRefused(
                "untrusted-certificate",
                f"{_shown(leaf.subject)} was issued by {_shown(leaf.issuer)}, and the chain leads to none of the "
                f"trusted certificates (there are {len(anchors)})",
            )


class _Search:
    """The search for one path: up by names and by what certificates say of themselves, down from the anchor by
    signatures. ``failure``: the first thing wrong with an issuer."""

    def __init__(
        self,
        anchors: Sequence[x509.Certificate],
        others: Sequence[x509.Certificate],
        at: datetime | None,
        role: Literal["client", "server"],
    ) -> None:
        self._anchors = anchors
        self._others = others
        self._at = at
        self._use = _USES[role]
        self._tries = _MAX_TRIES
        self._wrong = _MAX_WRONG
        self.failure: CertificateRefused | None = None

    def climb(self, child: x509.Certificate, below: int, used: frozenset[int]) -> bool:
        """Whether a path leads from ``child`` to an anchor. ``below``: how many CAs that somebody else issued stand
        between the issuer of ``child`` and the leaf; ``used``: which of the others are on the way."""
        for anchor in self._anchors:
            if self._may_issue(child, anchor, below) and self._is_signed(child, anchor):
                return True
        for place, other in enumerate(self._others):
            if place in used or not self._may_issue(child, other, below):
                continue
            next_below = below + (other.subject != other.issuer)
            if self.climb(other, next_below, used | {place}) and self._is_signed(child, other):
                return True
        return False

    def check_leaf(self, leaf: x509.Certificate) -> None:
        self._check_critical(leaf)
        usage = _extension(leaf, x509.KeyUsage)
        if usage is not None and not usage.digital_signature:
            raise CertificateRefused(
                "bad-certificate", f"the key usage of {_shown(leaf.subject)} lacks digitalSignature"
            )
        self._check_extended_usage(leaf, "bad-certificate")

    def check_validity(self, certificate: x509.Certificate) -> None:
        if self._at is None:
            return
        if self._at > certificate.not_valid_after_utc:
            raise CertificateRefused(
                "expired-certificate",
                f"{_shown(certificate.subject)} expired at {certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC",
            )
        if self._at < certificate.not_valid_before_utc:
            raise CertificateRefused(
                "not-yet-valid-certificate",
                f"{_shown(certificate.subject)} is valid from {certificate.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC",
            )

    def _may_issue(self, child: x509.Certificate, issuer: x509.Certificate, below: int) -> bool:
        if self._tries < 1 or self._wrong < 1 or not _is_named(issuer, child):
            return False
        self._tries -= 1
        try:
            with _reading():
                self._check_strength(child, issuer)
                self._check_issuer(issuer, below)
                self.check_validity(issuer)
        except CertificateRefused as refused:
            self.failure = self.failure or refused
            return False
        return True

    def _is_signed(self, child: x509.Certificate, issuer: x509.Certificate) -> bool:
        """``issuer`` is trusted."""
        try:
            with _reading():
                child.verify_directly_issued_by(issuer)
        except InvalidSignature:
            self._wrong -= 1
            self.failure = self.failure or CertificateRefused(
                "untrusted-certificate",
                f"{_shown(child.subject)} is not signed with the key of {_shown(issuer.subject)} that is known",
            )
            return False
        except CertificateRefused as refused:
            self._wrong -= 1
            self.failure = self.failure or refused
            return False
        return True

    def _check_strength(self, child: x509.Certificate, issuer: x509.Certificate) -> None:
        key = issuer.public_key()
        strong = (
            (isinstance(key, EllipticCurvePublicKey) and isinstance(key.curve, _CURVES))
            or (isinstance(key, RSAPublicKey) and key.key_size in _RSA_BITS)
            or isinstance(key, Ed25519PublicKey)
        )
        if not strong:
            raise CertificateRefused(
                "untrusted-certificate",
                f"the key of {_shown(issuer.subject)} is too weak or unknown: P-256, P-384, P-521, Ed25519 or RSA of "
                "2048 to 8192 bits is needed",
            )
        algorithm = child.signature_hash_algorithm
        if algorithm is not None and algorithm.name not in _HASHES:
            raise CertificateRefused(
                "untrusted-certificate",
                f"{_shown(child.subject)} is signed with {algorithm.name}; SHA-256 or better is needed",
            )

    def _check_issuer(self, issuer: x509.Certificate, below: int) -> None:
        wrong = ""
        constraints = _extension(issuer, x509.BasicConstraints)
        usage = _extension(issuer, x509.KeyUsage)
        if constraints is None or not constraints.ca:
            wrong = "is no CA (basicConstraints), but issued a certificate"
        elif constraints.path_length is not None and below > constraints.path_length:
            wrong = f"allows {constraints.path_length} CAs below it (pathLenConstraint), and there are {below}"
        elif usage is not None and not usage.key_cert_sign:
            wrong = "must not sign certificates (keyUsage lacks keyCertSign)"
        elif _extension(issuer, x509.NameConstraints) is not None:
            wrong = "has name constraints, which are not understood here"
        if wrong:
            raise CertificateRefused("untrusted-certificate", f"{_shown(issuer.subject)} {wrong}")
        self._check_critical(issuer)
        self._check_extended_usage(issuer, "untrusted-certificate")

    def _check_critical(self, certificate: x509.Certificate) -> None:
        for extension in certificate.extensions:
            if extension.critical and extension.oid not in _UNDERSTOOD:
                raise CertificateRefused(
                    "bad-certificate",
                    f"{_shown(certificate.subject)} has the critical extension {extension.oid.dotted_string}, which is "
                    "not understood here",
                )

    def _check_extended_usage(self, certificate: x509.Certificate, reason: str) -> None:
        uses = _extension(certificate, x509.ExtendedKeyUsage)
        if uses is not None and self._use not in uses and ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE not in uses:
            wanted = "clientAuth" if self._use == ExtendedKeyUsageOID.CLIENT_AUTH else "serverAuth"
            raise CertificateRefused(reason, f"the extended key usage of {_shown(certificate.subject)} lacks {wanted}")


def _is_named(issuer: x509.Certificate, child: x509.Certificate) -> bool:
    """Whether ``child`` names ``issuer``. One that cannot be read, among others that can, has issued nothing."""
    try:
        with _reading():
            return issuer.subject == child.issuer
    except CertificateRefused:
        return False


@contextmanager
def _quietly() -> Iterator[None]:
    """`cryptography` warns of what it puts up with in a certificate. Nobody sends us lines for the log by that."""
    with catch_warnings():
        simplefilter("ignore")
        yield


@contextmanager
def _reading(what: str = "certificate") -> Iterator[None]:
    """`cryptography` parses parts when they are asked for; whatever it says of them is one answer."""
    try:
        yield
    except (
        ValueError,
        TypeError,
        UnsupportedAlgorithm,
        x509.InvalidVersion,
        x509.DuplicateExtension,
        x509.UnsupportedGeneralNameType,
    ) as error:
        raise CertificateRefused("bad-certificate", f"the {what} cannot be read: {str(error)[:_SHOWN]!r}") from None


def _extension(certificate: x509.Certificate, kind: type[E]) -> E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


def _names(certificate: x509.Certificate) -> tuple[str, ...]:
    alternative = _extension(certificate, x509.SubjectAlternativeName)
    if alternative is None:
        return ()
    names = (
        *alternative.get_values_for_type(x509.DNSName),
        *alternative.get_values_for_type(x509.UniformResourceIdentifier),
    )
    if len(names) > MAX_NAMES:
        raise CertificateRefused("bad-certificate", f"the certificate has more than {MAX_NAMES} names")
    return names


def _bad_key(what: str) -> CertificateRefused:
    return CertificateRefused("bad-certificate", f"the key of the {what} is none on P-256, P-384 or P-521")


def _shown(name: x509.Name) -> str:
    """A name from anywhere, safe to show and short."""
    text = ascii(name.rfc4514_string())
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}...'"
