"""AES-128-CBC with HMAC-SHA-256: MAC-then-encrypt (RFC 5246 §6.2.3.2) and encrypt-then-MAC (RFC 7366).

MAC-then-encrypt invites padding oracles (Lucky Thirteen): who learns from an alert or from the time whether the padding
or the MAC was wrong can find plaintext. Against the first, both are one error, and records that do not verify are
dropped without a word. Against the second, padding is checked over its longest form whatever it says, a MAC is computed
in any case, and as many hash blocks are worked off as for the longest content. Python promises no constant time beyond
that: what is left are slices and copies of other lengths. The CBC suites are off unless somebody turns them on, and
encrypt-then-MAC, which has none of this, is preferred where the peer has it.
"""

from hashlib import sha256
from hmac import compare_digest
from typing import Final

from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.ciphers.modes import CBC

from stellwerk.core.errors import PeerError
from stellwerk.dtls.prf import Prf

_BLOCK: Final = 16
_MAC: Final = 32
_HASH_BLOCK: Final = 64
_LONGEST_PADDING: Final = 256


class ProtectionError(PeerError):
    """A record does not verify, or what it holds breaks the rules. It does not say which: that is nobody's business."""


def seal_cbc(
    key: bytes, mac_key: bytes, encrypt_then_mac: bool, number: bytes, prefix: bytes, plaintext: bytes
) -> bytes:
    """The fragment for ``plaintext``. ``number``: epoch and sequence number, 8 bytes; ``prefix``: what the MAC covers
    before the length (RFC 5246 §6.2.3.1, RFC 9146 §5.1 and 5.2)."""
    mac = Prf(mac_key)
    # RFC 5246 6.2.3.2 wants an unpredictable IV. A keyed hash of the record number is one, needs no entropy, and cannot
    # be a record's MAC, which covers more bytes.
    iv = mac.hmac(number + b"iv")[:_BLOCK]
    if not encrypt_then_mac:
        plaintext += mac.hmac(b"".join((prefix, len(plaintext).to_bytes(2, "big"), plaintext)))
    padding = _BLOCK - 1 - len(plaintext) % _BLOCK
    cipher = Cipher(AES(key), CBC(iv)).encryptor()
    fragment = iv + cipher.update(plaintext + bytes((padding,)) * (padding + 1)) + cipher.finalize()
    if encrypt_then_mac:
        fragment += mac.hmac(b"".join((prefix, len(fragment).to_bytes(2, "big"), fragment)))
    return fragment


def open_cbc(key: bytes, mac_key: bytes, encrypt_then_mac: bool, prefix: bytes, fragment: bytes) -> bytes:
    """The plaintext in ``fragment``. Raises `ProtectionError`."""
    mac = Prf(mac_key)
    if encrypt_then_mac:
        if len(fragment) < 2 * _BLOCK + _MAC or len(fragment) % _BLOCK:
            raise ProtectionError
        fragment, found = fragment[:-_MAC], fragment[-_MAC:]
        wanted = mac.hmac(b"".join((prefix, len(fragment).to_bytes(2, "big"), fragment)))
        if not compare_digest(found, wanted):
            raise ProtectionError
        data = _decrypt(key, fragment)
        padding = data[-1] + 1
        if padding > len(data) or data[-padding:] != bytes((padding - 1,)) * padding:
            raise ProtectionError
        return data[:-padding]
    # An IV, a MAC, and one byte of padding at least.
    if len(fragment) < _BLOCK + 3 * _BLOCK or len(fragment) % _BLOCK:
        raise ProtectionError
    data = _decrypt(key, fragment)
    padding = data[-1] + 1
    longest = len(data) - _MAC - 1
    good = int(padding + _MAC <= len(data)) & _is_padding(data, padding)
    # With broken padding go on as if there was none: the MAC fails, and takes its time.
    end = len(data) - _MAC - (padding if good else 1)
    wanted = mac.hmac(b"".join((prefix, end.to_bytes(2, "big"), data[:end])))
    _pass_time(len(prefix) + 2, end, longest)
    if not (compare_digest(data[end : end + _MAC], wanted) & good):
        raise ProtectionError
    return data[:end]


def _decrypt(key: bytes, fragment: bytes) -> bytes:
    cipher = Cipher(AES(key), CBC(fragment[:_BLOCK])).decryptor()
    return cipher.update(fragment[_BLOCK:]) + cipher.finalize()


def _is_padding(data: bytes, padding: int) -> int:
    """1 if the last ``padding`` bytes of ``data`` all say so, else 0; always over as many bytes as padding may have."""
    wrong = 0
    for place, byte in enumerate(reversed(data[-_LONGEST_PADDING:])):
        wrong |= (byte ^ (padding - 1)) & -(place < padding)
    return int(not wrong)


def _pass_time(before: int, content: int, longest: int) -> None:
    """Hash as many blocks as the MAC of the ``longest`` content has more than that of ``content``."""
    blocks = _blocks(before + longest) - _blocks(before + content)
    sha256(bytes(blocks * _HASH_BLOCK))


def _blocks(length: int) -> int:
    # The length, a one bit and eight bytes close a hash.
    return (length + 9 + _HASH_BLOCK - 1) // _HASH_BLOCK
