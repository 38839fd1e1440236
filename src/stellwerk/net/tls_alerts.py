"""Alerts of ours, where the TLS library has no way to say them: between a handshake that it takes for complete and our
word about who that is.

In TLS 1.2 our last flight has not left by then, so the alert is in the clear, as every alert before it is. In TLS 1.3
it is the first record under the server's application traffic secret (RFC 8446 §7.3, 5.2): what the library would have
said first under that secret has not left, and never will.
"""

from typing import Final

from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, HashAlgorithm
from cryptography.hazmat.primitives.kdf.hkdf import HKDFExpand

from stellwerk.dtls.alerts import AlertDescription, AlertLevel, encode_alert

_ALERT: Final = 21
_APPLICATION_DATA: Final = 23
_VERSION: Final = b"\x03\x03"
_IV_BYTES: Final = 12
_HASHES: Final[dict[str, type[HashAlgorithm]]] = {"TLS_AES_256_GCM_SHA384": SHA384}
_KEY_BYTES: Final = {"TLS_AES_128_GCM_SHA256": 16, "TLS_AES_128_CCM_SHA256": 16, "TLS_AES_128_CCM_8_SHA256": 16}

REASON_ALERTS: Final = {
    "expired-certificate": AlertDescription.CERTIFICATE_EXPIRED,
    "not-yet-valid-certificate": AlertDescription.CERTIFICATE_EXPIRED,
    "untrusted-certificate": AlertDescription.UNKNOWN_CA,
    "bad-certificate": AlertDescription.BAD_CERTIFICATE,
    "rate": AlertDescription.INTERNAL_ERROR,
    "room": AlertDescription.INTERNAL_ERROR,
    "not-answered": AlertDescription.INTERNAL_ERROR,
}
"""What a client hears of why it may not come in. Of a certificate that nobody would take it hears exactly that, as it
has to get another one. Who is simply not known hears what a wrong key hears: it may come again (contract §2.2)."""


def alert_about(reason: str) -> AlertDescription:
    """The alert for a `dtls.failures.REASONS` of ours."""
    return REASON_ALERTS.get(reason, AlertDescription.DECRYPT_ERROR)


def plain_alert(description: int) -> bytes:
    """A fatal alert in a record without protection."""
    return bytes((_ALERT,)) + _VERSION + b"\x00\x02" + encode_alert(AlertLevel.FATAL, description)


def sealed_alert(description: int, suite: str, secret: bytes) -> bytes:
    """A fatal alert as record number 0 under ``secret``, a traffic secret of TLS 1.3; ``suite`` is its name (RFC 8446
    Appendix B.4)."""
    made = _HASHES.get(suite, SHA256)()
    key = _expand(secret, b"key", _KEY_BYTES.get(suite, 32), made)
    nonce = _expand(secret, b"iv", _IV_BYTES, made)
    content = encode_alert(AlertLevel.FATAL, description) + bytes((_ALERT,))
    tag = 8 if suite == "TLS_AES_128_CCM_8_SHA256" else 16
    header = bytes((_APPLICATION_DATA,)) + _VERSION + (len(content) + tag).to_bytes(2, "big")
    aead: AESCCM | AESGCM | ChaCha20Poly1305
    if "CCM" in suite:
        aead = AESCCM(key, tag_length=tag)
    elif "GCM" in suite:
        aead = AESGCM(key)
    else:
        aead = ChaCha20Poly1305(key)
    return header + aead.encrypt(nonce, content, header)


def _expand(secret: bytes, label: bytes, length: int, made: HashAlgorithm) -> bytes:
    """HKDF-Expand-Label without a context (RFC 8446 §7.1)."""
    name = b"tls13 " + label
    info = length.to_bytes(2, "big") + bytes((len(name),)) + name + b"\x00"
    return HKDFExpand(made, length, info).derive(secret)
