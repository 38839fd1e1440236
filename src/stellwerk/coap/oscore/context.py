"""Keys, nonces and associated data out of a context's material (RFC 8613 §3.2, §5.2, §5.4)."""

from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from stellwerk.coap.oscore.material import ContextMaterial
from stellwerk.coap.oscore.option import MOST_PIV_BYTES
from stellwerk.core.errors import PeerError

LAST_NUMBER: Final = (1 << 40) - 1
"""A context can protect no more than this (RFC 8613 §7.2.1)."""


class Unverified(PeerError):
    """A message does not verify: a wrong key, or other bytes than its sender's."""


class UnusableMaterial(ValueError):
    """No context can be derived from some material; the text says why, and holds nothing secret."""


class Cipher(Protocol):
    """An AEAD with its key."""

    def encrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """Ciphertext and tag."""
        ...

    def decrypt(self, nonce: bytes, data: bytes, associated_data: bytes | None) -> bytes:
        """Raises InvalidTag."""
        ...


class Aead(NamedTuple):
    """One algorithm of RFC 9053 §4: lengths in bytes, and how it is made of a key."""

    key: int
    nonce: int
    tag: int
    cipher: Callable[[bytes], Cipher]


def _ccm(key: int, nonce: int, tag: int) -> Aead:
    return Aead(key, nonce, tag, lambda secret: AESCCM(secret, tag))


# COSE algorithm numbers. Of CCM, the names say: length field in bits, tag in bits, key in bits.
AEADS: Final[dict[int, Aead]] = {
    1: Aead(16, 12, 16, AESGCM),
    2: Aead(24, 12, 16, AESGCM),
    3: Aead(32, 12, 16, AESGCM),
    10: _ccm(16, 13, 8),
    11: _ccm(32, 13, 8),
    12: _ccm(16, 7, 8),
    13: _ccm(32, 7, 8),
    24: Aead(32, 12, 16, ChaCha20Poly1305),
    30: _ccm(16, 13, 16),
    31: _ccm(32, 13, 16),
    32: _ccm(16, 7, 16),
    33: _ccm(32, 7, 16),
}
# HKDF-SHA-256 and -512; object 21 names them by their HMAC as well.
_HASHES: Final[dict[int, type[HashAlgorithm]]] = {-10: SHA256, 5: SHA256, -11: SHA512, 7: SHA512}


def refusal_of(material: ContextMaterial) -> str | None:
    """Why no context can be derived from ``material``, None if one can."""
    aead = AEADS.get(material.aead)
    if aead is None:
        return f"AEAD algorithm {material.aead} is none of {sorted(AEADS)}"
    if material.hkdf not in _HASHES:
        return f"HKDF algorithm {material.hkdf} is none of {sorted(_HASHES)}"
    longest = aead.nonce - 6
    if len(material.sender_id) > longest or len(material.recipient_id) > longest:
        return f"an ID has at most {longest} bytes with AEAD algorithm {material.aead}"
    if material.sender_id == material.recipient_id:
        return "both ends have the same ID"
    if not material.master_secret:
        return "there is no master secret"
    return None


class Keys:
    """What protects messages under one ID Context."""

    __slots__ = (
        "_aead",
        "_common_iv",
        "_recipient",
        "_recipient_aad",
        "_recipient_iv",
        "_sender",
        "_sender_aad",
        "_sender_iv",
        "id_context",
        "recipient_id",
        "sender_id",
    )

    def __init__(self, material: ContextMaterial, id_context: bytes | None = None) -> None:
        """``id_context``: another than the material's. Raises `UnusableMaterial`."""
        refusal = refusal_of(material)
        if refusal is not None:
            raise UnusableMaterial(refusal)
        self._aead = AEADS[material.aead]
        self.sender_id = material.sender_id
        self.recipient_id = material.recipient_id
        self.id_context = material.id_context if id_context is None else id_context
        self._sender = self._aead.cipher(derive(material, self.id_context, material.sender_id, "Key", self._aead.key))
        self._recipient = self._aead.cipher(
            derive(material, self.id_context, material.recipient_id, "Key", self._aead.key)
        )
        self._common_iv = derive(material, self.id_context, b"", "IV", self._aead.nonce)
        # What nonces and associated data of both ends begin with; only the Partial IV is missing to them.
        self._sender_iv, self._sender_aad = self._begun(self.sender_id, material.aead)
        self._recipient_iv, self._recipient_aad = self._begun(self.recipient_id, material.aead)

    def _begun(self, of: bytes, aead: int) -> tuple[int, bytes]:
        padded = bytes((len(of),)) + of.rjust(self._aead.nonce - 1 - MOST_PIV_BYTES, b"\0") + bytes(MOST_PIV_BYTES)
        begun = int.from_bytes(padded, "big") ^ int.from_bytes(self._common_iv, "big")
        return begun, b"\x85\x01\x81" + encode_integer(aead) + encode_bytes(of)

    @property
    def overhead(self) -> int:
        """Bytes that protection adds at most to a message of ours: tag, code, marker, option."""
        return self._aead.tag + 12 + len(self.sender_id) + len(self.id_context)

    def nonce(self, of: bytes, piv: bytes) -> bytes:
        """The nonce for the Partial IV ``piv`` of the end that sends as ``of``, which is one of the two (RFC 8613
        §5.2)."""
        begun = self._recipient_iv if of == self.recipient_id else self._sender_iv
        return (begun ^ int.from_bytes(piv, "big")).to_bytes(self._aead.nonce, "big")

    def associated_data(self, kid: bytes, piv: bytes) -> bytes:
        """What is authenticated with a message: the request it is, or answers (RFC 8613 §5.4). ``kid`` is one of the
        two."""
        begun = self._recipient_aad if kid == self.recipient_id else self._sender_aad
        # An ID has at most 7 bytes and a Partial IV 5: both lengths stand in one byte.
        lengths = 0x40 | len(begun) + len(piv) + 2, 0x40 | len(piv)
        return b"\x83\x68Encrypt0\x40%c%b%c%b\x40" % (lengths[0], begun, lengths[1], piv)

    def seal(self, nonce: bytes, plain: bytes, associated_data: bytes) -> bytes:
        """``plain``, protected by us."""
        return self._sender.encrypt(nonce, plain, associated_data)

    def open(self, nonce: bytes, sealed: bytes, associated_data: bytes) -> bytes:
        """What the other end protected. Raises `Unverified`."""
        try:
            return self._recipient.decrypt(nonce, sealed, associated_data)
        except (InvalidTag, ValueError):
            raise Unverified("it does not verify") from None


def derive(material: ContextMaterial, id_context: bytes, of: bytes, kind: str, length: int) -> bytes:
    """``length`` bytes for ``kind`` ("Key" or "IV") of the end that sends as ``of`` (RFC 8613 §3.2.1)."""
    salt = material.master_salt or None
    return HKDF(_HASHES[material.hkdf](), length, salt, info_of(material.aead, id_context, of, kind, length)).derive(
        material.master_secret
    )


def info_of(aead: int, id_context: bytes, of: bytes, kind: str, length: int) -> bytes:
    """The info structure of RFC 8613 §3.2.1: an array of ID, ID Context or null, algorithm, type, length."""
    context = encode_bytes(id_context) if id_context else b"\xf6"
    text = kind.encode()
    return (
        b"\x85" + encode_bytes(of) + context + encode_integer(aead) + _head(0x60, len(text)) + text + _head(0, length)
    )


def encode_bytes(value: bytes) -> bytes:
    """A byte string of CBOR."""
    return _head(0x40, len(value)) + value


def decode_bytes(value: bytes) -> bytes | None:
    """What the one byte string of CBOR that ``value`` is holds; None where it is anything else."""
    for head in (1, 2):
        held = value[head:]
        if value[:head] == _head(0x40, len(held)):
            return held
    return None


def encode_integer(value: int) -> bytes:
    """An integer of CBOR."""
    return _head(0, value) if value >= 0 else _head(0x20, -1 - value)


def _head(major: int, value: int) -> bytes:
    if value < 24:
        return bytes((major | value,))
    if value < 256:
        return bytes((major | 24, value))
    return bytes((major | 25,)) + value.to_bytes(2, "big")
