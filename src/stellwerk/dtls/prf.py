"""Keys out of secrets: the TLS 1.2 PRF with SHA-256 and what is derived with it (RFC 5246 §5, 6.3, 8.1; RFC 7627 §4;
RFC 4279 §2)."""

from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final

from stellwerk.dtls.suites import Suite

if TYPE_CHECKING:
    from hashlib import _Hash

CLIENT_FINISHED: Final = b"client finished"
SERVER_FINISHED: Final = b"server finished"
VERIFY_DATA_BYTES: Final = 12
MASTER_SECRET_BYTES: Final = 48

_BLOCK: Final = 64
_DIGEST: Final = 32
_INNER: Final = bytes(byte ^ 0x36 for byte in range(256))
_OUTER: Final = bytes(byte ^ 0x5C for byte in range(256))


@dataclass(slots=True)
class KeyBlock:
    """The keys of both directions (RFC 5246 §6.3). MAC keys are empty for AEAD suites, IVs for CBC suites."""

    client_write_mac_key: bytes = field(repr=False)
    server_write_mac_key: bytes = field(repr=False)
    client_write_key: bytes = field(repr=False)
    server_write_key: bytes = field(repr=False)
    client_write_iv: bytes = field(repr=False)
    server_write_iv: bytes = field(repr=False)


class Prf:
    """HMAC-SHA-256 under one secret, which P_SHA256 takes many times: the two hash states after the padded key are kept
    and copied, a third of the price of `hmac.digest`."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, secret: bytes) -> None:
        key = (sha256(secret).digest() if len(secret) > _BLOCK else secret).ljust(_BLOCK, b"\0")
        self._inner: _Hash = sha256(key.translate(_INNER))
        self._outer: _Hash = sha256(key.translate(_OUTER))

    def hmac(self, data: bytes) -> bytes:
        """HMAC-SHA-256 of ``data``."""
        inner = self._inner.copy()
        inner.update(data)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return outer.digest()

    def expand(self, label: bytes, seed: bytes, length: int) -> bytes:
        """``length`` bytes of PRF(secret, label, seed)."""
        seed = label + seed
        new_inner, new_outer = self._inner.copy, self._outer.copy
        chained, result = seed, b""
        # As `hmac` twice in each turn: half of a handshake's hashes are made here.
        while len(result) < length:
            inner, outer = new_inner(), new_outer()
            inner.update(chained)
            outer.update(inner.digest())
            chained = outer.digest()
            inner, outer = new_inner(), new_outer()
            inner.update(chained + seed)
            outer.update(inner.digest())
            result += outer.digest()
        return result[:length]


def prf(secret: bytes, label: bytes, seed: bytes, length: int) -> bytes:
    """``length`` bytes of PRF(secret, label, seed) with P_SHA256 (RFC 5246 §5)."""
    return Prf(secret).expand(label, seed, length)


def psk_premaster(key: bytes) -> bytes:
    """The premaster secret of plain PSK (RFC 4279 §2): as many zeros as the key has bytes, and the key, each with its
    length."""
    size = len(key).to_bytes(2, "big")
    return b"".join((size, bytes(len(key)), size, key))


def master_secret(premaster: bytes, client_random: bytes, server_random: bytes) -> bytes:
    """48 bytes (RFC 5246 §8.1)."""
    return Prf(premaster).expand(b"master secret", client_random + server_random, MASTER_SECRET_BYTES)


def extended_master_secret(premaster: bytes, session_hash: bytes) -> bytes:
    """48 bytes (RFC 7627 §4). ``session_hash``: SHA-256 over all handshake messages up to and including the
    ClientKeyExchange."""
    return Prf(premaster).expand(b"extended master secret", session_hash, MASTER_SECRET_BYTES)


def key_block(suite: Suite, master: Prf, server_random: bytes, client_random: bytes) -> KeyBlock:
    """The keys that ``suite`` needs (RFC 5246 §6.3). ``master``: the PRF under the master secret. Mind the order: the
    server's random is first here."""
    mac, key, iv = suite.mac_key_length, suite.key_length, suite.fixed_iv_length
    block = master.expand(b"key expansion", server_random + client_random, 2 * (mac + key + iv))
    keys, ivs = 2 * mac, 2 * (mac + key)
    return KeyBlock(
        block[:mac],
        block[mac:keys],
        block[keys : keys + key],
        block[keys + key : ivs],
        block[ivs : ivs + iv],
        block[ivs + iv :],
    )


def verify_data(master: Prf, label: bytes, transcript_hash: bytes) -> bytes:
    """The 12 bytes of a Finished (RFC 5246 §7.4.9). ``label`` is `CLIENT_FINISHED` or `SERVER_FINISHED`."""
    return master.expand(label, transcript_hash, VERIFY_DATA_BYTES)
