"""Record protection in one direction of one epoch, with and without connection IDs (RFC 9146 §5): AEAD (RFC 5288 §3,
RFC 6655 §3, RFC 7251 §2) here, CBC in `cbc`.

The hot path of secure devices. Only keys are kept, in one piece: a cipher object costs 0.3 us (CCM) or 1 us (GCM) per
record, but more than half a KiB (2 KiB) of every idle session.
"""

from collections.abc import Callable
from functools import cache
from struct import Struct
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM

from stellwerk.dtls.cbc import ProtectionError, open_cbc, seal_cbc
from stellwerk.dtls.records import DTLS_1_2, MAX_PLAINTEXT, Record, encode_record
from stellwerk.dtls.suites import SUITES, Suite

__all__ = ["Protection", "ProtectionError"]

_TLS12_CID: Final = 25
_NONCE: Final = 8

# RFC 5246 6.2.3.3: epoch and sequence number, type, version, length of the plaintext.
_AAD: Final = Struct("!QBHH")
# RFC 9146 5.3: placeholder, type, length of the connection ID, type, version, epoch and sequence number. The connection
# ID and the length of the inner plaintext follow.
_CID_AAD: Final = Struct("!QBBBHQ")
_PLACEHOLDER: Final = (1 << 64) - 1
_EARLY_AAD: Final = Struct("!QBH")
_LENGTH: Final = Struct("!H")
_HEADER: Final = Struct("!BHQHQ")


def _ccm8(key: bytes) -> AESCCM:
    return AESCCM(key, 8)


_CIPHERS: Final[dict[str, Callable[[bytes], AESCCM | AESGCM]]] = {"ccm8": _ccm8, "ccm": AESCCM, "gcm": AESGCM}


class _Form:
    """What sessions of one suite, and of the same extensions, protect records with beside their keys."""

    __slots__ = ("cipher", "early_cid", "encrypt_then_mac", "overhead", "split")

    def __init__(self, suite: Suite, encrypt_then_mac: bool, early_cid: bool) -> None:
        self.cipher = _CIPHERS.get(suite.cipher)
        """None: CBC."""
        # CBC: the explicit IV, the MAC and at most a block of padding.
        self.overhead = (_NONCE if self.cipher else 32) + suite.tag_length
        self.split = Struct(f"{suite.key_length}s{suite.fixed_iv_length}s{suite.mac_key_length}s").unpack
        """Keys in one piece as key, implicit part of the nonce, MAC key."""
        self.encrypt_then_mac = encrypt_then_mac
        self.early_cid = early_cid


@cache
def _form_of(suite: int, encrypt_then_mac: bool, early_cid: bool) -> _Form:
    return _Form(SUITES[suite], encrypt_then_mac, early_cid)


@cache
def _cid_aad(length: int) -> Struct:
    """Of AEAD, with a connection ID of ``length`` bytes."""
    return Struct(f"{_CID_AAD.format}{length}sH")


class Protection:
    """Seals or opens records under the write keys of one end.

    ``iv``: the implicit part of the nonce, 4 bytes for AEAD, empty for CBC. ``mac_key`` and ``encrypt_then_mac`` (RFC
    7366): for CBC alone. ``early_cid``: connection IDs were negotiated under a code point from before RFC 9146; the
    drafts of that time authenticate them in another way (draft-ietf-tls-dtls-connection-id-05 §5).
    """

    __slots__ = ("_form", "_keys")

    def __init__(
        self,
        suite: Suite,
        key: bytes,
        iv: bytes,
        mac_key: bytes = b"",
        encrypt_then_mac: bool = False,
        early_cid: bool = False,
    ) -> None:
        if (len(key), len(iv), len(mac_key)) != (suite.key_length, suite.fixed_iv_length, suite.mac_key_length):
            raise ValueError(f"keys do not fit {suite.name}")
        self._form = _form_of(suite.number, encrypt_then_mac, early_cid)
        self._keys = key + iv + mac_key

    @property
    def keys(self) -> tuple[bytes, bytes, bytes]:
        """``key``, ``iv`` and ``mac_key``."""
        key, iv, mac_key = self._form.split(self._keys)
        return key, iv, mac_key

    @property
    def overhead(self) -> int:
        """Bytes that a fragment without connection ID has at most beside its plaintext."""
        return self._form.overhead

    def seal(
        self, type: int, epoch: int, sequence: int, plaintext: bytes, *, cid: bytes = b"", padding: int = 0
    ) -> bytes:
        """The whole record with ``plaintext``, at most 2^14 bytes, of content type ``type``. With ``cid``, which the
        peer wants to see, it becomes a `TLS12_CID` record: ``type`` and ``padding`` zeros are inside (RFC 9146 §4).
        Without, ``padding`` means nothing.

        The nonce is epoch and sequence number: nobody may seal two records with the same.
        """
        number = epoch << 48 | sequence
        form = self._form
        cipher = form.cipher
        if cid or cipher is None:
            return self._seal_long(type, number, plaintext, cid, padding)
        key, iv, _ = form.split(self._keys)
        nonce = number.to_bytes(8, "big")
        length = len(plaintext)
        return _HEADER.pack(type, DTLS_1_2, number, form.overhead + length, number) + cipher(key).encrypt(
            iv + nonce, plaintext, _AAD.pack(number, type, DTLS_1_2, length)
        )

    def _seal_long(self, type: int, number: int, plaintext: bytes, cid: bytes, padding: int) -> bytes:
        if cid:
            plaintext = b"".join((plaintext, type.to_bytes(1, "big"), bytes(padding)))
            type = _TLS12_CID
        nonce = number.to_bytes(8, "big")
        prefix = self._additional(number, type, DTLS_1_2, cid)
        form = self._form
        key, iv, mac_key = form.split(self._keys)
        if form.cipher is None:
            fragment = seal_cbc(key, mac_key, form.encrypt_then_mac, nonce, prefix, plaintext)
        else:
            aad = prefix + _LENGTH.pack(len(plaintext))
            fragment = nonce + form.cipher(key).encrypt(iv + nonce, plaintext, aad)
        return encode_record(type, number >> 48, number & 0xFFFF_FFFF_FFFF, fragment, cid=cid)

    def open(self, record: Record) -> tuple[int, bytes]:
        """Content type and plaintext of ``record``; type and padding of a `TLS12_CID` record are taken off. Raises
        `ProtectionError`."""
        type = record.type
        cid = record.cid
        fragment = record.fragment
        number = record.epoch << 48 | record.sequence
        form = self._form
        cipher = form.cipher
        key, iv, mac_key = form.split(self._keys)
        if cipher is None:
            prefix = self._additional(number, type, record.version, cid)
            plaintext = open_cbc(key, mac_key, form.encrypt_then_mac, prefix, fragment)
        else:
            length = len(fragment) - form.overhead
            if length < 0:
                raise ProtectionError
            if not cid:
                aad = _AAD.pack(number, type, record.version, length)
            elif form.early_cid:
                aad = self._additional(number, type, record.version, cid) + _LENGTH.pack(length)
            else:
                size = len(cid)
                aad = _cid_aad(size).pack(
                    _PLACEHOLDER, _TLS12_CID, size, _TLS12_CID, record.version, number, cid, length
                )
            try:
                plaintext = cipher(key).decrypt(iv + fragment[:_NONCE], fragment[_NONCE:], aad)
            except InvalidTag:
                raise ProtectionError from None
        if type == _TLS12_CID:
            inner = plaintext.rstrip(b"\0")
            if not inner:
                raise ProtectionError
            type, plaintext = inner[-1], inner[:-1]
        if len(plaintext) > MAX_PLAINTEXT:
            raise ProtectionError
        return type, plaintext

    def _additional(self, number: int, type: int, version: int, cid: bytes) -> bytes:
        """What is authenticated beside the content, without the length at its end."""
        if not cid:
            return _EARLY_AAD.pack(number, type, version)
        if self._form.early_cid:
            return b"".join((_EARLY_AAD.pack(number, type, version), cid, len(cid).to_bytes(1, "big")))
        return _CID_AAD.pack(_PLACEHOLDER, _TLS12_CID, len(cid), _TLS12_CID, version, number) + cid
