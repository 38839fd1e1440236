"""What both ends of a handshake agree on, and what follows from it: the transcript, the master secret, the keys of the
session and both Finished (RFC 5246 §6.3, 7.4.9, 8.1; RFC 7627 §4)."""

from hashlib import sha256
from hmac import compare_digest
from typing import ClassVar

from stellwerk.core.identity import SecureIdentity
from stellwerk.core.ids import PeerId
from stellwerk.core.timers import Timed
from stellwerk.dtls.alerts import AlertDescription
from stellwerk.dtls.association import Association, associate
from stellwerk.dtls.extensions import RFC_9146_CODE_POINT
from stellwerk.dtls.fragments import transcript_form
from stellwerk.dtls.machine import HandshakeFault
from stellwerk.dtls.prf import (
    CLIENT_FINISHED,
    SERVER_FINISHED,
    KeyBlock,
    Prf,
    extended_master_secret,
    key_block,
    master_secret,
    verify_data,
)
from stellwerk.dtls.records import MAX_PLAINTEXT
from stellwerk.dtls.session import SessionSecrets
from stellwerk.dtls.suites import Suite


class Keying(Timed):
    """The part of a `handshake.Handshake` with ``address`` that its steps fill in, message by message. ``IS_SERVER``:
    which end is ours."""

    __slots__ = (
        "_before",
        "_prf",
        "address",
        "association",
        "cid_code_point",
        "client_random",
        "device",
        "encrypt_then_mac",
        "established_s",
        "extended_master_secret",
        "identity",
        "keys",
        "master",
        "own_cid",
        "peer_cid",
        "resumed",
        "send_limit",
        "server_random",
        "session_id",
        "suite",
        "tls_session_id",
        "transcript",
    )

    IS_SERVER: ClassVar[bool]

    def __init__(self, address: PeerId) -> None:
        super().__init__()
        self.address = address
        self.transcript = bytearray()
        """All messages so far, each as if in one fragment (RFC 6347 §4.2.6)."""
        self.association: Association | None = None
        """The session as it will be, once there are keys."""
        self.suite: Suite | None = None
        self.identity: SecureIdentity | None = None
        self.device = 0
        """The number of the peer's device, as whoever was asked says; 0 before that."""
        self.client_random = b""
        self.server_random = b""
        self.master = b""
        """48 bytes."""
        self.session_id = b""
        """8 bytes: the session as our side knows it."""
        self.tls_session_id = b""
        self.resumed: bytes | None = None
        """The `session_id` of the session that it goes on from."""
        self.established_s = 0
        """When the full handshake behind it was, in the seconds of `server.ServerHost.wall_s`; 0: this is one."""
        self.extended_master_secret = False
        self.encrypt_then_mac = False
        self.own_cid = b""
        """The connection ID in records to us, and in those to the peer below; empty: none (RFC 9146)."""
        self.peer_cid = b""
        self.cid_code_point = RFC_9146_CODE_POINT
        self.send_limit = MAX_PLAINTEXT
        """Bytes of plaintext in a record to the peer at most (RFC 6066 §4)."""
        self.keys: KeyBlock | None = None
        self._before = 0
        """How much of the transcript is older than the message whose step runs."""
        self._prf: Prf | None = None
        """Under the master secret."""

    # --- the transcript ------------------------------------------------------------------------------------------

    def _note(self, type: int, number: int, body: bytes) -> None:
        """A message of the peer, whose step runs next."""
        self._before = len(self.transcript)
        self.transcript += transcript_form(type, number, body)

    @property
    def _transcript_before(self) -> bytes:
        """All messages before the one whose step runs."""
        return bytes(self.transcript[: self._before])

    def transcript_hash(self) -> bytes:
        """SHA-256 of all messages so far."""
        return sha256(self.transcript).digest()

    # --- keys ----------------------------------------------------------------------------------------------------

    def _derive(self, premaster: bytes) -> None:
        """Keys of a full handshake; the transcript ends with the ClientKeyExchange."""
        if self.extended_master_secret:
            master = extended_master_secret(premaster, self.transcript_hash())
        else:
            master = master_secret(premaster, self.client_random, self.server_random)
        self._use_master(master)

    def _use_master(self, master: bytes) -> None:
        """The session as it will be: its keys come from ``master`` and both randoms."""
        suite = self.suite
        assert suite is not None
        self.master = master
        self._prf = prf = Prf(master)
        self.keys = key_block(suite, prf, self.server_random, self.client_random)
        self.association = associate(
            suite,
            self.keys,
            session_id=self.session_id,
            address=self.address,
            is_server=self.IS_SERVER,
            encrypt_then_mac=self.encrypt_then_mac,
            own_cid=self.own_cid,
            peer_cid=self.peer_cid,
            cid_code_point=self.cid_code_point,
            limit=self.send_limit,
        )

    def secrets(self) -> SessionSecrets:
        """What a resumption of the session will need."""
        assert self.suite is not None
        assert self.identity is not None
        return SessionSecrets(
            self.session_id,
            self.tls_session_id,
            self.suite.number,
            self.master,
            self.extended_master_secret,
            self.encrypt_then_mac,
            self.identity,
            self.device,
            self.established_s,
        )

    # --- Finished ------------------------------------------------------------------------------------------------

    def _own_verify_data(self) -> bytes:
        """What our Finished says of all messages so far: 12 bytes."""
        label = SERVER_FINISHED if self.IS_SERVER else CLIENT_FINISHED
        assert self._prf is not None
        return verify_data(self._prf, label, self.transcript_hash())

    def _check_finished(self, body: bytes) -> None:
        """Raises `HandshakeFault` unless ``body`` is the peer's Finished."""
        label = CLIENT_FINISHED if self.IS_SERVER else SERVER_FINISHED
        assert self._prf is not None
        expected = verify_data(self._prf, label, sha256(self._transcript_before).digest())
        if not compare_digest(body, expected):
            raise HandshakeFault(
                "bad-finished",
                "the peer's Finished is another one: it saw other handshake messages than we",
                AlertDescription.DECRYPT_ERROR,
            )
