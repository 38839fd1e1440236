"""Keys and certificates for tests, made anew in each run."""

import base64
import json
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

P256 = ec.generate_private_key(ec.SECP256R1())
OTHER = ec.generate_private_key(ec.SECP256R1())
P384 = ec.generate_private_key(ec.SECP384R1())
SMALL = ec.generate_private_key(ec.SECP224R1())
RSA = rsa.generate_private_key(65537, 1024)


def certificate(key: Any = P256, name: str = "meter-1", days: int = 365, signer: Any = None) -> x509.Certificate:
    """Signed by itself unless a ``signer`` is given."""
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    begins = min(datetime.now(UTC), datetime.now(UTC) + timedelta(days=days)) - timedelta(days=2)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(begins)
        .not_valid_after(datetime.now(UTC) + timedelta(days=days))
        .sign(signer or key, SHA256())
    )


def spki(key: Any = P256, encoding: Encoding = Encoding.DER) -> bytes:
    return bytes(key.public_key().public_bytes(encoding, PublicFormat.SubjectPublicKeyInfo))


def pkcs8(key: Any = P256, encoding: Encoding = Encoding.DER, password: bytes = b"") -> bytes:
    seal = BestAvailableEncryption(password) if password else NoEncryption()
    return bytes(key.private_bytes(encoding, PrivateFormat.PKCS8, seal))


def sec1(key: Any = P256, encoding: Encoding = Encoding.DER) -> bytes:
    return bytes(key.private_bytes(encoding, PrivateFormat.TraditionalOpenSSL, NoEncryption()))


def der(one: x509.Certificate) -> bytes:
    return one.public_bytes(Encoding.DER)


def brief(value: object) -> str:
    """What a test with that parameter is called in every process: keys and signatures are others in each."""
    return value if isinstance(value, str) and len(value) < 60 else type(value).__name__


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


BARE = {"bootstrapServer": {"securityMode": "NO_SEC"}, "lwm2mServer": {"securityMode": "NO_SEC"}}


def record(client: dict[str, Any], bootstrap: Any = BARE) -> str:
    return json.dumps({"client": {"endpoint": "meter-1", **client}, "bootstrap": bootstrap})
