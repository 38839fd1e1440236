"""A DTLS 1.2 peer that is driven by hand and shares no code with ours: it says any message, in any order and epoch,
with any number, whole or in parts, and knows every key. What it hears it only keeps.

AEAD suites alone (RFC 6655, RFC 5288): PSK, and ECDHE with raw public keys or certificates. RFC 5246, RFC 6347,
RFC 7250, RFC 7627, RFC 9146.
"""

import hashlib
import hmac
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

CCS, ALERT, HANDSHAKE, DATA, WITH_CID = 20, 21, 22, 23, 25
(
    HELLO_REQUEST,
    CLIENT_HELLO,
    SERVER_HELLO,
    HELLO_VERIFY_REQUEST,
    NEW_SESSION_TICKET,
    CERTIFICATE,
    SERVER_KEY_EXCHANGE,
    CERTIFICATE_REQUEST,
    SERVER_HELLO_DONE,
    CERTIFICATE_VERIFY,
    CLIENT_KEY_EXCHANGE,
    FINISHED,
) = (0, 1, 2, 3, 4, 11, 12, 13, 14, 15, 16, 20)
GROUPS, POINT_FORMATS, SIGNATURES, CLIENT_TYPES, SERVER_TYPES, EXTENDED_MASTER, TICKET, CID, RENEGOTIATION = (
    10, 11, 13, 19, 20, 23, 35, 54, 0xFF01,
)  # fmt: skip
DTLS_1_2 = 0xFEFD
PSK_CCM8, PSK_CCM, PSK_GCM = 0xC0A8, 0xC0A4, 0x00A8
ECDHE_CCM8, ECDHE_CCM, ECDHE_GCM = 0xC0AE, 0xC0AC, 0xC02B
PSK_SUITES = (PSK_CCM8, PSK_CCM, PSK_GCM)


def prf(secret: bytes, label: bytes, seed: bytes, length: int) -> bytes:
    """RFC 5246 §5, with SHA-256."""
    seed = label + seed
    found, a = b"", seed
    while len(found) < length:
        a = hmac.digest(secret, a, "sha256")
        found += hmac.digest(secret, a + seed, "sha256")
    return found[:length]


def vector(size: int, content: bytes) -> bytes:
    """``content`` behind its length in ``size`` bytes."""
    return len(content).to_bytes(size, "big") + content


def extensions(found: dict[int, bytes]) -> bytes:
    """As they end a hello."""
    return vector(2, b"".join(struct.pack("!H", kind) + vector(2, body) for kind, body in found.items()))


def cipher_of(suite: int, key: bytes) -> AESCCM | AESGCM:
    if suite in (PSK_GCM, ECDHE_GCM):
        return AESGCM(key)
    return AESCCM(key, 8 if suite in (PSK_CCM8, ECDHE_CCM8) else 16)


def additional(kind: int, number: int, cid: bytes, length: int, version: int = DTLS_1_2) -> bytes:
    """What a record's tag covers beside its content."""
    if not cid:
        return struct.pack("!QBHH", number, kind, version, length)
    head = struct.pack("!QBBBHQ", 2**64 - 1, WITH_CID, len(cid), WITH_CID, version, number)
    return head + cid + struct.pack("!H", length)


@dataclass
class Keys:
    """Of one direction."""

    suite: int
    key: bytes
    iv: bytes

    def seal(self, kind: int, number: int, plain: bytes, cid: bytes = b"", padding: int = 0) -> bytes:
        """The whole record."""
        if cid:
            plain, kind = plain + bytes([kind]) + bytes(padding), WITH_CID
        explicit = struct.pack("!Q", number)
        sealed = explicit + cipher_of(self.suite, self.key).encrypt(
            self.iv + explicit, plain, additional(kind, number, cid, len(plain))
        )
        return struct.pack("!BHQ", kind, DTLS_1_2, number) + cid + vector(2, sealed)

    def open(self, record: "Piece") -> tuple[int, bytes]:
        """Content type and plaintext. Raises InvalidTag."""
        cipher = cipher_of(self.suite, self.key)
        plain_length = len(record.fragment) - 8 - (8 if self.suite in (PSK_CCM8, ECDHE_CCM8) else 16)
        covered = additional(record.kind, record.number, record.cid, plain_length)
        plain = cipher.decrypt(self.iv + record.fragment[:8], record.fragment[8:], covered)
        if record.kind != WITH_CID:
            return record.kind, plain
        plain = plain.rstrip(b"\0")
        return plain[-1], plain[:-1]


@dataclass
class Piece:
    """A record as it came; ``number`` has the epoch in its upper 16 bits."""

    kind: int
    number: int
    cid: bytes
    fragment: bytes

    @property
    def epoch(self) -> int:
        return self.number >> 48


def split(datagram: bytes, cid_length: int = 0) -> Iterator[Piece]:
    """The records of a datagram of ours; an AssertionError where it is none."""
    at = 0
    while at < len(datagram):
        kind, version, number = struct.unpack_from("!BHQ", datagram, at)
        assert version in (DTLS_1_2, 0xFEFF), version
        at += 11
        size = cid_length if kind == WITH_CID else 0
        cid = datagram[at : at + size]
        (length,) = struct.unpack_from("!H", datagram, at + size)
        at += size + 2
        fragment = datagram[at : at + length]
        assert len(fragment) == length, "a record beyond the end"
        yield Piece(kind, number, cid, fragment)
        at += length


def fragments(plain: bytes) -> Iterator[tuple[int, int, int, int, bytes]]:
    """Type, length of the whole, message number, offset and data of each fragment."""
    at = 0
    while at < len(plain):
        kind = plain[at]
        whole, number = int.from_bytes(plain[at + 1 : at + 4]), int.from_bytes(plain[at + 4 : at + 6])
        offset, size = int.from_bytes(plain[at + 6 : at + 9]), int.from_bytes(plain[at + 9 : at + 12])
        data = plain[at + 12 : at + 12 + size]
        assert len(data) == size, "a fragment beyond the end"
        yield kind, whole, number, offset, data
        at += 12 + size


def fragment(kind: int, whole: int, number: int, offset: int, data: bytes, length: int | None = None) -> bytes:
    """One fragment; ``length`` may lie about ``data``."""
    size = len(data) if length is None else length
    return (
        bytes([kind])
        + whole.to_bytes(3, "big")
        + number.to_bytes(2, "big")
        + offset.to_bytes(3, "big")
        + size.to_bytes(3, "big")
        + data
    )


@dataclass
class Hand:
    """One end of one handshake. ``psk`` or ``key`` (with ``chain``, else as a raw public key) is what it has."""

    role: str = "client"
    identity: bytes = b"device"
    psk: bytes = b"0123456789abcdef"
    key: ec.EllipticCurvePrivateKey | None = None
    chain: tuple[bytes, ...] = ()
    suites: tuple[int, ...] = (PSK_CCM8,)
    own_cid: bytes | None = None
    """What it offers; None: nothing."""
    extended: bool = True
    random: bytes = bytes(range(32))
    session_id: bytes = b""
    ticket: bytes | None = None
    more: dict[int, bytes] = field(default_factory=dict)
    """Further extensions of its hello."""

    suite: int = 0
    cookie: bytes = b""
    peer_cid: bytes = b""
    peer_random: bytes = b""
    peer_extensions: dict[int, bytes] = field(default_factory=dict)
    peer_point: bytes = b""
    peer_session_id: bytes = b""
    given_ticket: bytes = b""
    master: bytes = b""
    premaster: bytes = b""
    transcript: bytearray = field(default_factory=bytearray)
    next_message: int = 0
    sequence: list[int] = field(default_factory=lambda: [0, 0])
    write: Keys | None = None
    read: Keys | None = None
    heard: list[tuple[int, bytes]] = field(default_factory=list)
    """Handshake messages, in order, each once."""
    repeated: int = 0
    alerts: list[tuple[int, int, int]] = field(default_factory=list)
    """Epoch, level, description."""
    data: list[bytes] = field(default_factory=list)
    numbers: list[int] = field(default_factory=list)
    """Epoch and sequence number of every protected record that came."""
    flight: list[tuple[int, int, bytes]] = field(default_factory=list)
    """Epoch, content type and content of what an honest end said last, to say it again."""
    finished: bool = False
    """The other end's Finished came and verifies."""
    _parts: dict[int, tuple[int, bytearray]] = field(default_factory=dict)
    _filled: dict[int, set[int]] = field(default_factory=dict)
    _hear_next: int = 0
    _ephemeral: ec.EllipticCurvePrivateKey | None = None

    # -- bodies --

    def client_hello(self, cookie: bytes | None = None, *, extra: dict[int, bytes] | None = None) -> bytes:
        found: dict[int, bytes] = {}
        if self.extended:
            found[EXTENDED_MASTER] = b""
        if self.key is not None:
            found |= {GROUPS: b"\0\2\0\x17", POINT_FORMATS: b"\1\0", SIGNATURES: b"\0\2\4\3"}
            if not self.chain:
                found |= {CLIENT_TYPES: b"\1\2", SERVER_TYPES: b"\1\2"}
        if self.own_cid is not None:
            found[CID] = vector(1, self.own_cid)
        if self.ticket is not None:
            found[TICKET] = self.ticket
        found |= self.more | (extra or {})
        suites = b"".join(struct.pack("!H", each) for each in (*self.suites, 0x00FF))
        return (
            struct.pack("!H", DTLS_1_2)
            + self.random
            + vector(1, self.session_id)
            + vector(1, self.cookie if cookie is None else cookie)
            + vector(2, suites)
            + b"\1\0"
            + (extensions(found) if found else b"")
        )

    def server_hello(self, suite: int, session_id: bytes = b"", found: dict[int, bytes] | None = None) -> bytes:
        self.suite = suite
        body = struct.pack("!H", DTLS_1_2) + self.random + vector(1, session_id) + struct.pack("!HB", suite, 0)
        given = {EXTENDED_MASTER: b""} if found is None and self.extended else found
        return body + (extensions(given) if given else b"")

    def certificate(self, chain: tuple[bytes, ...] | None = None) -> bytes:
        """Our chain or raw public key; with ``chain`` () an empty one."""
        if chain is not None or self.chain:
            used = self.chain if chain is None else chain
            return vector(3, b"".join(vector(3, each) for each in used))
        assert self.key is not None
        return vector(3, self.key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))

    def client_key_exchange(self) -> bytes:
        """Its body; what is secret is known from then on."""
        if self.suite in PSK_SUITES:
            self.premaster = vector(2, bytes(len(self.psk))) + vector(2, self.psk)
            return vector(2, self.identity)
        own = self.ephemeral()
        theirs = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), self.peer_point)
        self.premaster = own.exchange(ec.ECDH(), theirs)
        return vector(1, self.point())

    def ephemeral(self) -> ec.EllipticCurvePrivateKey:
        if self._ephemeral is None:
            self._ephemeral = ec.derive_private_key(int.from_bytes(self.random) | 1, ec.SECP256R1())
        return self._ephemeral

    def point(self) -> bytes:
        return self.ephemeral().public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)

    def server_key_exchange(self) -> bytes:
        """Of an ECDHE server, signed."""
        assert self.key is not None
        params = b"\3\0\x17" + vector(1, self.point())
        signature = self.key.sign(self.peer_random + self.random + params, ec.ECDSA(hashes.SHA256()))
        return params + b"\4\3" + vector(2, signature)

    def certificate_verify(self, transcript: bytes | None = None) -> bytes:
        assert self.key is not None
        signed = bytes(self.transcript) if transcript is None else transcript
        return b"\4\3" + vector(2, self.key.sign(signed, ec.ECDSA(hashes.SHA256())))

    def verify_data(self, role: str | None = None) -> bytes:
        label = (role or self.role).encode() + b" finished"
        return prf(self.master, label, hashlib.sha256(self.transcript).digest(), 12)

    # -- keys --

    def derive(self, *, resume: bytes | None = None) -> None:
        """Keys from what was said until now: after ClientKeyExchange, or from the master secret ``resume``."""
        ours, theirs = self.random, self.peer_random
        client, server = (ours, theirs) if self.role == "client" else (theirs, ours)
        if resume is not None:
            self.master = resume
        elif self.extended and EXTENDED_MASTER in self.peer_extensions:
            digest = hashlib.sha256(self.transcript).digest()
            self.master = prf(self.premaster, b"extended master secret", digest, 48)
        else:
            self.master = prf(self.premaster, b"master secret", client + server, 48)
        block = prf(self.master, b"key expansion", server + client, 40)
        of_client, of_server = Keys(self.suite, block[:16], block[32:36]), Keys(self.suite, block[16:32], block[36:])
        self.write, self.read = (of_client, of_server) if self.role == "client" else (of_server, of_client)

    # -- saying --

    def message(self, kind: int, body: bytes, number: int | None = None, *, counts: bool = True) -> bytes:
        """A handshake message in one fragment; where it ``counts`` it belongs to the transcript."""
        if number is None:
            number = self.next_message
            self.next_message += 1
        whole = fragment(kind, len(body), number, 0, body)
        if counts:
            self.transcript += whole
        return whole

    def plain(self, kind: int, content: bytes, sequence: int | None = None, version: int = DTLS_1_2) -> bytes:
        """An unprotected record."""
        if sequence is None:
            sequence = self.sequence[0]
            self.sequence[0] += 1
        return struct.pack("!BHQ", kind, version, sequence) + vector(2, content)

    def sealed(
        self, kind: int, content: bytes, sequence: int | None = None, *, epoch: int = 1, padding: int = 0
    ) -> bytes:
        """A protected record, with the connection ID that the other end wants."""
        assert self.write is not None
        if sequence is None:
            sequence = self.sequence[1]
            self.sequence[1] += 1
        return self.write.seal(kind, epoch << 48 | sequence, content, self.peer_cid, padding)

    def say(self, kind: int, body: bytes) -> bytes:
        """The next handshake message in a plain record."""
        return self.plain(HANDSHAKE, self.message(kind, body))

    def change(self) -> bytes:
        return self.plain(CCS, b"\1")

    def say_finished(self, body: bytes | None = None) -> bytes:
        """Finished, sealed."""
        return self.sealed(HANDSHAKE, self.message(FINISHED, self.verify_data() if body is None else body))

    def first_hello(self) -> bytes:
        """The ClientHello without a cookie, which counts for nothing."""
        self.transcript.clear()
        self.next_message = 1
        return self.plain(HANDSHAKE, self.message(CLIENT_HELLO, self.client_hello(b""), 0, counts=False))

    def second_hello(self) -> bytes:
        self.transcript.clear()
        self.next_message = 1
        return self.say(CLIENT_HELLO, self.client_hello())

    def last_flight(self) -> list[bytes]:
        """All of an honest client's, as records."""
        asked = any(kind == CERTIFICATE_REQUEST for kind, _ in self.heard)
        said = [self.message(CERTIFICATE, self.certificate())] if asked else []
        said.append(self.message(CLIENT_KEY_EXCHANGE, self.client_key_exchange()))
        self.derive()
        if asked:
            said.append(self.message(CERTIFICATE_VERIFY, self.certificate_verify()))
        self.flight = [(0, HANDSHAKE, each) for each in said]
        self.flight += [(0, CCS, b"\1"), (1, HANDSHAKE, self.message(FINISHED, self.verify_data()))]
        return self.flight_again()

    def flight_again(self) -> list[bytes]:
        """The same messages in new records."""
        return [
            self.sealed(kind, content) if epoch else self.plain(kind, content) for epoch, kind, content in self.flight
        ]

    # -- hearing --

    def hear(self, datagram: bytes) -> None:
        """Keeps what is in a datagram; an AssertionError where it is no good DTLS."""
        for piece in split(datagram, len(self.own_cid or b"")):
            if piece.epoch == 0:
                self._hear_content(0, piece.kind, piece.fragment)
                continue
            self.numbers.append(piece.number)
            assert self.read is not None, "protected before there were keys"
            assert piece.cid == (self.own_cid or b"")
            assert piece.fragment[:8] == struct.pack("!Q", piece.number), "a nonce that is not epoch and number"
            try:
                kind, plain = self.read.open(piece)
            except InvalidTag:
                raise AssertionError("a record that does not verify") from None
            self._hear_content(piece.epoch, kind, plain)

    def _hear_content(self, epoch: int, kind: int, content: bytes) -> None:
        if kind == ALERT:
            self.alerts.append((epoch, content[0], content[1]))
        elif kind == DATA:
            assert epoch > 0, "unprotected data"
            self.data.append(content)
        elif kind == HANDSHAKE:
            for piece in fragments(content):
                self._hear_fragment(*piece)

    def _hear_fragment(self, kind: int, whole: int, number: int, offset: int, data: bytes) -> None:
        if kind == HELLO_VERIFY_REQUEST:
            if self.count(SERVER_HELLO):
                # Late: the other end is further already.
                return
            self.cookie = data[3:]
            self.heard.append((kind, data))
            # RFC 6347 4.2.2: what follows it is numbered as if it was the first, or the second.
            self._hear_next = -1
            return
        if kind in (SERVER_HELLO, CLIENT_HELLO) and (self._hear_next < 0 or kind == CLIENT_HELLO):
            self._hear_next = number
        if number < self._hear_next:
            self.repeated += 1
            return
        _, parts = self._parts.setdefault(number, (kind, bytearray(whole)))
        parts[offset : offset + len(data)] = data
        self._filled.setdefault(number, set()).update(range(offset, offset + len(data)))
        while (found := self._parts.get(self._hear_next)) and len(self._filled[self._hear_next]) == len(found[1]):
            number = self._hear_next
            del self._parts[number], self._filled[number]
            self._hear_next += 1
            self._hear_message(found[0], number, bytes(found[1]))

    def _hear_message(self, kind: int, number: int, body: bytes) -> None:
        if kind == FINISHED:
            other = "server" if self.role == "client" else "client"
            self.finished = body == self.verify_data(other)
            assert self.finished, "a Finished that does not verify"
        self.transcript += fragment(kind, len(body), number, 0, body)
        self.heard.append((kind, body))
        if kind == SERVER_HELLO:
            self.peer_random, at = body[2:34], 35 + body[34]
            self.peer_session_id = body[35:at]
            (self.suite,) = struct.unpack_from("!H", body, at)
            self._hear_extensions(body[at + 3 :])
            if CID in self.peer_extensions:
                self.peer_cid = self.peer_extensions[CID][1:]
        elif kind == CLIENT_HELLO:
            self.peer_random, at = body[2:34], 35 + body[34]
            self.peer_session_id = body[35:at]
            at += 1 + body[at]
            at += 2 + int.from_bytes(body[at : at + 2])
            at += 1 + body[at]
            self._hear_extensions(body[at:])
        elif kind == SERVER_KEY_EXCHANGE and self.suite not in PSK_SUITES:
            self.peer_point = body[4 : 4 + body[3]]
        elif kind == CLIENT_KEY_EXCHANGE and self.suite not in PSK_SUITES:
            self.peer_point = body[1:]
        elif kind == NEW_SESSION_TICKET:
            self.given_ticket = body[6:]

    def _hear_extensions(self, block: bytes) -> None:
        self.peer_extensions = {}
        at = 2
        while at < len(block):
            kind, size = struct.unpack_from("!HH", block, at)
            self.peer_extensions[kind] = block[at + 4 : at + 4 + size]
            at += 4 + size

    def count(self, kind: int) -> int:
        return sum(each == kind for each, _ in self.heard)
