"""Keys and certificates for tests: each is made from a word, so that it is the same in every run and guards nothing."""

import datetime
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from stellwerk.dtls.parameters import ServerIdentity

PSK_IDENTITY = b"urn:dev:os:interop-1"
PSK, WRONG_PSK = b"key-of-all-tests", b"not-the-same-key"
"""Letters, since libcoap's programs take nothing else."""
CLIENT = "urn:dev:os:interop-1"
SERVER = "localhost"
START, END = datetime.datetime(2024, 1, 1), datetime.datetime(2064, 1, 1)


@dataclass(frozen=True)
class Certificate:
    """One with its key, and who signed it (None: itself)."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    issuer: "Certificate | None" = None

    @property
    def chain(self) -> tuple[bytes, ...]:
        """DER, own first, without the root."""
        if self.issuer is None:
            return ()
        return (self.certificate.public_bytes(Encoding.DER), *self.issuer.chain)

    @property
    def spki(self) -> bytes:
        return public_key(self.key)

    @property
    def pem(self) -> str:
        """The chain, without the root unless it is the root itself."""
        own = self.certificate.public_bytes(Encoding.PEM).decode()
        return own + (self.issuer.pem if self.issuer is not None and self.issuer.issuer is not None else "")

    @property
    def key_pem(self) -> str:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()

    @property
    def key_pkcs8(self) -> bytes:
        return self.key.private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())

    @property
    def public_pem(self) -> str:
        return self.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()


def public_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@cache
def private_key(word: str) -> ec.EllipticCurvePrivateKey:
    """A P-256 key out of ``word``."""
    return ec.derive_private_key(int.from_bytes(sha256(word.encode()).digest()), ec.SECP256R1())


@cache
def certificate(
    name: str,
    issuer: Certificate | None = None,
    *,
    is_ca: bool = False,
    start: datetime.datetime = START,
    end: datetime.datetime = END,
) -> Certificate:
    """For the common name ``name``, which is its alternative name too (a host name, or a URI where it has a colon)."""
    key = private_key(f"key of {name}")
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(int.from_bytes(sha256(name.encode()).digest()[:8]))
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(is_ca, None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.KeyUsage(not is_ca, False, False, False, False, is_ca, is_ca, False, False), critical=True
        )
    )  # fmt: skip
    signer = issuer.key if issuer else key
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False
    )
    if not is_ca:
        kind = x509.UniformResourceIdentifier(name) if ":" in name else x509.DNSName(name)
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        builder = builder.add_extension(x509.SubjectAlternativeName([kind]), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    return Certificate(key, builder.sign(signer, SHA256(), ecdsa_deterministic=True), issuer)


@cache
def authority() -> Certificate:
    return certificate("Stellwerk test authority", is_ca=True)


def server() -> Certificate:
    return certificate(SERVER, authority())


def server_identity() -> ServerIdentity:
    return ServerIdentity(server().key, server().chain)


def client() -> Certificate:
    return certificate(CLIENT, authority())


def stranger() -> Certificate:
    """A client's, of an authority that nobody trusts."""
    return certificate(CLIENT + "-stranger", certificate("Somebody else", is_ca=True))


def write_files(folder: Path) -> None:
    """``ca.pem``, and of server, client and stranger NAME.pem, NAME-key.pem, NAME-public.pem and NAME-both.pem (the
    private and the public key)."""
    (folder / "ca.pem").write_text(authority().pem)
    for name, each in (("server", server()), ("client", client()), ("stranger", stranger())):
        (folder / f"{name}.pem").write_text(each.pem)
        (folder / f"{name}-key.pem").write_text(each.key_pem)
        (folder / f"{name}-public.pem").write_text(each.public_pem)
        (folder / f"{name}-both.pem").write_text(each.public_pem + each.key_pem)
