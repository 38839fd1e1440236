"""A live session: keys, record numbers, the replay window, connection IDs and where the peer is.

There may be a hundred thousand, so it holds what a record needs; everything else that is stored of it is in its
``secrets``, encoded. It always is epoch 1: renegotiation is refused.

Numbers of what we send stay below `ceiling`, the one in the newest state that is stored. Whoever restores a state
begins at its ceiling, so no number, and with it no nonce, is ever used twice, whatever was lost in between.
"""

from typing import TYPE_CHECKING, Final

from stellwerk.core.ids import PeerId, session_peer
from stellwerk.dtls.extensions import RFC_9146_CODE_POINT
from stellwerk.dtls.prf import KeyBlock
from stellwerk.dtls.protection import Protection
from stellwerk.dtls.records import HEADER_BYTES, MAX_SEQUENCE, Record
from stellwerk.dtls.replay import ReplayWindow
from stellwerk.dtls.suites import Suite

if TYPE_CHECKING:
    from stellwerk.dtls.flights import LastFlight

EPOCH: Final = 1
NO_CEILING: Final = MAX_SEQUENCE

_HELD: Final = 8
"""Records that wait for a stored ceiling."""


class Exhausted(Exception):
    """All record numbers are used."""


class Moved:
    """The peer is heard from a new address that it has not proven yet (RFC 9146 §6)."""

    __slots__ = ("credit", "home", "sent")

    def __init__(self, home: PeerId, credit: int) -> None:
        self.home = home
        """The last address that is proven."""
        self.credit = credit
        """Bytes that may go to the new one."""
        self.sent = False
        """Something went there, so that the next record from there may answer it."""


class Association:
    """One session of ours. ``session_id`` has 8 bytes; as a server it is what we want to read as connection ID too."""

    __slots__ = (
        "_read",
        "_write",
        "address",
        "asked",
        "ceiling",
        "cid_code_point",
        "device",
        "ended",
        "heard",
        "held",
        "is_server",
        "last_flight",
        "limit",
        "moved",
        "next_sequence",
        "own_cid",
        "peer",
        "peer_cid",
        "root",
        "secrets",
        "session_id",
        "window",
    )

    def __init__(
        self,
        *,
        session_id: bytes,
        address: PeerId,
        is_server: bool,
        read: Protection,
        write: Protection,
        own_cid: bytes,
        peer_cid: bytes,
        cid_code_point: int,
        limit: int,
    ) -> None:
        self.session_id = session_id
        self.peer = session_peer(session_id)
        self.address = address
        self.is_server = is_server
        self.own_cid = own_cid
        """What the peer's records carry; empty: they are known by their address."""
        self.peer_cid = peer_cid
        self.cid_code_point = cid_code_point
        self.limit = limit
        """Plaintext bytes of one record at most."""
        self.device = 0
        self.secrets = b""
        """`session.SessionSecrets`, encoded: for its next state and for resumption."""
        self.root = session_id
        """The beginning of the TLS session id (`known_by`)."""
        self._read = read
        self._write = write
        self.window = ReplayWindow()
        self.next_sequence = 0
        self.ceiling = NO_CEILING
        """The first number that may not be used."""
        self.asked = NO_CEILING
        """The ceiling of the newest state that was told, stored or not."""
        self.held: list[bytes] | None = None
        self.moved: Moved | None = None
        self.last_flight: LastFlight | None = None
        self.heard = True
        """It was heard since the eviction looked at it last."""
        self.ended = False

    def known_by(self, tls_session_id: bytes) -> None:
        """Take in under which id the peer resumes it, if any: it begins with another session's if this one resumed
        that."""
        if tls_session_id and not tls_session_id.startswith(self.session_id):
            self.root = tls_session_id[: len(self.session_id)]

    @property
    def keys(self) -> KeyBlock:
        """Of both ends."""
        client, server = (self._read, self._write) if self.is_server else (self._write, self._read)
        client_key, client_iv, client_mac = client.keys
        server_key, server_iv, server_mac = server.keys
        return KeyBlock(client_mac, server_mac, client_key, server_key, client_iv, server_iv)

    # --- records -------------------------------------------------------------------------------------------------

    @property
    def overhead(self) -> int:
        """Bytes that a record has at most beside its plaintext."""
        return HEADER_BYTES + self._write.overhead + (len(self.peer_cid) + 1 if self.peer_cid else 0)

    def may_seal(self) -> bool:
        """Whether there is a number for one more record."""
        return self.next_sequence < self.ceiling

    def seal(self, type: int, plaintext: bytes) -> bytes:
        """One record. Raises `Exhausted` rather than using a number that is not stored as used."""
        sequence = self.next_sequence
        if sequence >= self.ceiling:
            raise Exhausted
        self.next_sequence = sequence + 1
        return self._write.seal(type, EPOCH, sequence, plaintext, cid=self.peer_cid)

    def open(self, record: Record) -> tuple[int, bytes]:
        """Content type and plaintext of a record of this session. Raises `ProtectionError`. The window is asked and
        told by the caller."""
        return self._read.open(record)

    def hold(self, data: bytes) -> bool:
        """Keep ``data`` until a higher ceiling is stored; False: too much waits already."""
        if self.held is None:
            self.held = []
        if len(self.held) >= _HELD:
            return False
        self.held.append(data)
        return True

    # --- numbers -------------------------------------------------------------------------------------------------

    def mark(self) -> int:
        """The highest number read, with its epoch: what a store keeps against replays after a restart."""
        return EPOCH << 48 | max(self.window.highest, 0)


def associate(
    suite: Suite,
    keys: KeyBlock,
    *,
    session_id: bytes,
    address: PeerId,
    is_server: bool,
    encrypt_then_mac: bool,
    own_cid: bytes,
    peer_cid: bytes,
    cid_code_point: int,
    limit: int,
) -> Association:
    """The session that ``keys`` make. It may send at once, up to its first ceiling."""
    early_cid = cid_code_point != RFC_9146_CODE_POINT
    client = Protection(
        suite, keys.client_write_key, keys.client_write_iv, keys.client_write_mac_key, encrypt_then_mac, early_cid
    )
    server = Protection(
        suite, keys.server_write_key, keys.server_write_iv, keys.server_write_mac_key, encrypt_then_mac, early_cid
    )
    read, write = (client, server) if is_server else (server, client)
    return Association(
        session_id=session_id,
        address=address,
        is_server=is_server,
        read=read,
        write=write,
        own_cid=own_cid,
        peer_cid=peer_cid,
        cid_code_point=cid_code_point,
        limit=limit,
    )
