"""A PSK client made of codecs alone, which says what it is told to, in any order, cut in any way."""

from hashlib import sha256

from dtls_wire import KEY, Bed, address

from stellwerk.core.ids import PeerId
from stellwerk.dtls.extensions import Extensions
from stellwerk.dtls.fragments import Fragment, decode_fragments, encode_fragment, transcript_form
from stellwerk.dtls.messages import (
    ClientHello,
    ClientKeyExchangePsk,
    HandshakeType,
    decode_hello_verify_request,
    decode_server_hello,
    encode_client_hello,
    encode_client_key_exchange_psk,
)
from stellwerk.dtls.prf import CLIENT_FINISHED, Prf, extended_master_secret, key_block, psk_premaster, verify_data
from stellwerk.dtls.protection import Protection
from stellwerk.dtls.records import DTLS_1_2, ContentType, encode_record, split_records
from stellwerk.dtls.suites import SUITES

SUITE = SUITES[0xC0A8]


class ByHand:
    """One client at ``peer``, against the server of ``bed``. What it makes is not sent; `send` does that."""

    def __init__(self, bed: Bed, peer: PeerId | None = None, key: bytes = KEY, identity: bytes = b"device-1") -> None:
        self.bed = bed
        self.peer = peer or address()
        self.key = key
        self.identity = identity
        self.sequence = 0
        self.protected = 0
        self.message_seq = 0
        self.transcript = b""
        self.hello = ClientHello(
            DTLS_1_2, b"r" * 32, b"", b"", (SUITE.number,), extensions=Extensions(extended_master_secret=True)
        )
        self.write: Protection | None = None
        self.read: Protection | None = None
        self.answers: list[bytes] = []
        self.cid = b""
        """What the server wants to see in records, if anything."""

    def send(self, *records: bytes) -> list[bytes]:
        """Feed the records in one datagram; what the server sends back."""
        self.bed.server.feed(b"".join(records), peer=self.peer, now=self.bed.now)
        self.bed._hear("server", self.bed.server)
        self.answers = [datagram for to, datagram in self.bed.server.take_datagrams() if to == self.peer]
        return self.answers

    def plain(self, type: int, content: bytes) -> bytes:
        """A record of epoch 0."""
        self.sequence += 1
        return encode_record(type, 0, self.sequence - 1, content)

    def seal(self, type: int, content: bytes) -> bytes:
        """A record of epoch 1."""
        assert self.write is not None
        self.protected += 1
        return self.write.seal(type, 1, self.protected - 1, content, cid=self.cid)

    def message(self, type: int, body: bytes, *, size: int = 1 << 14) -> list[bytes]:
        """The contents of handshake records, ``size`` bytes of the body in each; the message is in the transcript."""
        number = self.message_seq
        self.message_seq += 1
        self.transcript += transcript_form(type, number, body)
        return [
            encode_fragment(Fragment(type, len(body), number, at, body[at : at + size]))
            for at in range(0, max(len(body), 1), size)
        ]

    def hello_record(self) -> bytes:
        """Its ClientHello, as it stands."""
        self.transcript = b""
        return self.plain(
            ContentType.HANDSHAKE, self.message(HandshakeType.CLIENT_HELLO, encode_client_hello(self.hello))[0]
        )

    def get_cookie(self) -> None:
        """The first ClientHello and its answer."""
        [answer] = self.send(self.hello_record())
        [fragment] = decode_fragments(split_records(answer, 0)[0].fragment)
        self.hello.cookie = decode_hello_verify_request(fragment.data).cookie

    def begin(self) -> list[bytes]:
        """Both ClientHellos; the server's flight goes into the transcript."""
        self.get_cookie()
        answers = self.send(self.hello_record())
        for answer in answers:
            for record in split_records(answer, 0):
                for fragment in decode_fragments(record.fragment):
                    self.transcript += transcript_form(fragment.type, fragment.message_seq, fragment.data)
                    if fragment.type == HandshakeType.SERVER_HELLO:
                        reply = decode_server_hello(fragment.data)
                        self.server_random = reply.random
                        self.cid = reply.extensions.connection_id or b""
        return answers

    def key_exchange(self) -> bytes:
        """The ClientKeyExchange record; keys follow from it."""
        body = encode_client_key_exchange_psk(ClientKeyExchangePsk(self.identity))
        [content] = self.message(HandshakeType.CLIENT_KEY_EXCHANGE, body)
        session_hash = sha256(self.transcript).digest()
        self.master = extended_master_secret(psk_premaster(self.key), session_hash)
        keys = key_block(SUITE, Prf(self.master), self.server_random, self.hello.random)
        self.write = Protection(SUITE, keys.client_write_key, keys.client_write_iv)
        self.read = Protection(SUITE, keys.server_write_key, keys.server_write_iv)
        return self.plain(ContentType.HANDSHAKE, content)

    def change(self) -> bytes:
        """The ChangeCipherSpec record."""
        return self.plain(ContentType.CHANGE_CIPHER_SPEC, b"\x01")

    def finished(self, *, size: int = 1 << 14, verify: bytes | None = None) -> list[bytes]:
        """The Finished, in as many records as ``size`` makes of it."""
        if verify is None:
            verify = verify_data(Prf(self.master), CLIENT_FINISHED, sha256(self.transcript).digest())
        return [
            self.seal(ContentType.HANDSHAKE, content)
            for content in self.message(HandshakeType.FINISHED, verify, size=size)
        ]

    def data(self, content: bytes) -> bytes:
        """Application data."""
        return self.seal(ContentType.APPLICATION_DATA, content)

    def opened(self) -> list[tuple[int, bytes]]:
        """Type and content of the protected records in the last answers."""
        assert self.read is not None
        records = [record for answer in self.answers for record in split_records(answer, 0)]
        return [self.read.open(record) for record in records if record.epoch]
