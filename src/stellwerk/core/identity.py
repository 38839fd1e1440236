"""Who a secure peer has proven to be. Engines prove it, `app` says which device that is."""

from dataclasses import dataclass
from hashlib import sha256
from typing import TypeAlias


@dataclass(frozen=True, slots=True)
class PskIdentity:
    """Knows the key that goes with ``identity``: 1 to 128 octets, compared as they are (RFC 4279 §5.1)."""

    identity: bytes

    def __str__(self) -> str:
        return f"PSK identity {printable(self.identity)}"


@dataclass(frozen=True, slots=True)
class RawKeyIdentity:
    """Holds the private key to ``spki``, a DER SubjectPublicKeyInfo (RFC 7250)."""

    spki: bytes

    def __str__(self) -> str:
        return f"raw public key {fingerprint(self.spki)}"


@dataclass(frozen=True, slots=True)
class CertificateIdentity:
    """Holds the private key to ``chain[0]``; ``chain`` is DER, the peer's own certificate first, as the peer sent it.
    ``common_name`` and ``names`` (DNS and URI entries of the subject alternative name) are of the first. Whether
    anybody trusts the chain is not said here."""

    chain: tuple[bytes, ...]
    common_name: str = ""
    names: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"certificate {self.common_name!r} {fingerprint(self.chain[0])}"


SecureIdentity: TypeAlias = PskIdentity | RawKeyIdentity | CertificateIdentity


def fingerprint(data: bytes) -> str:
    """SHA-256 of ``data``, its first 16 hex digits: enough for people to tell keys apart."""
    return sha256(data).hexdigest()[:16]


def printable(identity: bytes) -> str:
    """A PSK identity as a quoted text that is safe to show: what is no printable UTF-8 is escaped."""
    text = identity.decode("utf-8", "backslashreplace")
    return repr(text)
