"""Whole bodies out of blocks, and blocks out of whole bodies, as a server (RFC 7959; contract BLK-1 to BLK-12).

`Bodies` collects what clients send with Block1 and keeps our large answers while clients fetch them with Block2. Both
are bounded: per body, per peer, together, and by an idle time per block.
"""

from collections.abc import Mapping
from hashlib import blake2b
from typing import NamedTuple

from stellwerk.coap import codes
from stellwerk.coap.layer import MessageLayer
from stellwerk.coap.message import Message, Options
from stellwerk.coap.options import (
    BLOCK1,
    BLOCK2,
    ETAG,
    MAX_AGE,
    SIZE1,
    SIZE2,
    Block,
    Cut,
    OptionView,
    encode_block,
    encode_uint,
    unit_of,
)
from stellwerk.coap.peers import Peer
from stellwerk.core.timers import Timed

BodyKey = tuple[object, ...]

_FULL_MAX_AGE_S = 30


class Verdict(NamedTuple):
    """An answer that the block layer gives by itself."""

    code: int
    options: Options
    text: str = ""


class BodyStore:
    """The bodies of one peer, in the order in which they began."""

    __slots__ = ("arriving", "leaving")

    def __init__(self) -> None:
        self.arriving: dict[BodyKey, _Body] = {}
        self.leaving: dict[BodyKey, _Body] = {}


class _Body(Timed):
    """One body under way in either direction."""

    __slots__ = ("_bodies", "arriving", "code", "data", "etag", "key", "last", "options", "peer")

    def __init__(self, bodies: "Bodies", peer: Peer, key: BodyKey, data: bytearray | bytes, arriving: bool) -> None:
        super().__init__()
        self._bodies = bodies
        self.peer = peer
        self.key = key
        self.data = data
        self.arriving = arriving
        self.last = 0
        """Where the last block that arrived began."""
        self.code = 0
        self.options: Options = ()
        self.etag = b""

    def fire(self, now: float) -> None:
        """No block came for the idle time."""
        self._bodies.discard(self)


def answer_key(message: Message, view: OptionView) -> BodyKey:
    """What makes two requests ask for blocks of the same answer. Later ones carry no body (BLK-9), so it is no part."""
    return (message.code, view.path, view.query, view.accept)


class Bodies:
    """All bodies of one engine. ``by_path`` bounds single bodies by path prefix, beside `Limits.body_bytes`."""

    def __init__(self, layer: MessageLayer, by_path: Mapping[tuple[str, ...], int]) -> None:
        self._layer = layer
        self._timers = layer.timers
        self._limits = layer.limits
        self._by_path = dict(by_path)
        self._total = 0

    def limit_for(self, path: tuple[str, ...]) -> int:
        """The largest body for ``path``, in bytes: that of the longest configured prefix."""
        for length in range(len(path), -1, -1):
            limit = self._by_path.get(path[:length])
            if limit is not None:
                return limit
        return self._limits.body_bytes

    # --- Block1 --------------------------------------------------------------------------------------------------

    def collect(self, peer: Peer, message: Message, view: OptionView, block: Block, now: float) -> bytes | Verdict:
        """Take one Block1 block: the whole body after the last one, else what to answer."""
        payload = message.payload
        # RFC 9175 3.3: Request-Tag is part of what tells two transfers apart.
        key = (message.code, view.path, view.query, view.content_format, view.request_tag)
        store = peer.bodies
        body = store.arriving.get(key) if store is not None else None
        if block.more and not block.is_filled_by(len(payload)):
            self._discard_maybe(body)
            return Verdict(codes.BAD_REQUEST, (), "block is not full")
        limit = self.limit_for(view.path)
        if block.offset + len(payload) > limit or (view.size1 or 0) > limit:
            # A smaller block would not help, so no Block1 hint: Size1 says what would fit (RFC 7959 2.9.3).
            self._discard_maybe(body)
            return Verdict(codes.REQUEST_ENTITY_TOO_LARGE, ((SIZE1, encode_uint(limit)),))
        if block.number == 0:
            # RFC 7959 2.5: block 0 starts anew, whatever was there before.
            self._discard_maybe(body)
            if not block.more:
                return payload
            if self._total + len(payload) > self._limits.bodies_total_bytes:
                return self._full()
            body = self._open(peer, key, bytearray(), True)
        elif body is None:
            return Verdict(codes.REQUEST_ENTITY_INCOMPLETE, (), "no transfer in progress")
        elif block.offset != len(body.data):
            if block.more and block.offset == body.last and body.data[body.last :] == payload:
                # The last block once more under a new message ID: the sender gave up on its acknowledgement.
                return self._go_on(peer, block)
            self.discard(body)
            return Verdict(codes.REQUEST_ENTITY_INCOMPLETE, (), f"expected the block at {len(body.data)}")
        if self._total + len(payload) > self._limits.bodies_total_bytes:
            self.discard(body)
            return self._full()
        assert isinstance(body.data, bytearray)
        if not block.more:
            whole = bytes(body.data) + payload
            self.discard(body)
            return whole
        body.last = len(body.data)
        body.data += payload
        self._total += len(payload)
        self._timers.arm(body, now + self._limits.block_idle_s)
        return self._go_on(peer, block)

    def _go_on(self, peer: Peer, block: Block) -> Verdict:
        value = encode_block(block.number, block.more, min(block.exponent, self._layer.cut_for(peer).exponent))
        return Verdict(codes.CONTINUE, ((BLOCK1, value),))

    def _full(self) -> Verdict:
        return Verdict(codes.SERVICE_UNAVAILABLE, ((MAX_AGE, encode_uint(_FULL_MAX_AGE_S)),), "no room for the body")

    # --- Block2 --------------------------------------------------------------------------------------------------

    def cut(
        self, peer: Peer, key: BodyKey, code: int, options: Options, payload: bytes, block: Block | None, now: float
    ) -> tuple[int, Options, bytes]:
        """Code, options and payload of the block that ``block`` asks for (None: the first) of a new answer.

        The answer is kept for the following blocks when it has more than one.
        """
        cut = self._layer.cut_for(peer)
        if block is None and len(payload) <= cut.whole:
            return code, options, payload
        exponent = cut.exponent if block is None else min(block.exponent, cut.exponent)
        body = None
        if len(payload) > cut.size_at(exponent) and self._total + len(payload) <= self._limits.bodies_total_bytes:
            body = self._open(peer, key, payload, False)
            body.code, body.options = code, options
            body.etag = blake2b(payload, digest_size=4).digest()
            self._total += len(payload)
            self._timers.arm(body, now + self._limits.block_idle_s)
        etag = body.etag if body is not None else blake2b(payload, digest_size=4).digest()
        return _block_of(code, options, payload, etag, block.offset if block else 0, exponent, cut)

    def next_block(self, peer: Peer, key: BodyKey, block: Block, now: float) -> tuple[int, Options, bytes] | None:
        """A following block of a kept answer; None when nothing is kept."""
        body = peer.bodies.leaving.get(key) if peer.bodies is not None else None
        if body is None:
            return None
        cut = self._layer.cut_for(peer)
        exponent = min(block.exponent, cut.exponent)
        self._timers.arm(body, now + self._limits.block_idle_s)
        return _block_of(body.code, body.options, bytes(body.data), body.etag, block.offset, exponent, cut)

    # --- room ----------------------------------------------------------------------------------------------------

    def _open(self, peer: Peer, key: BodyKey, data: bytearray | bytes, arriving: bool) -> _Body:
        store = peer.bodies or BodyStore()
        bodies = store.arriving if arriving else store.leaving
        old = bodies.get(key)
        if old is not None:
            self.discard(old)
        # BLK-12: a client may abandon a transfer and begin another, so the oldest makes room, not the newest.
        while len(bodies) >= self._limits.bodies_per_peer:
            self.discard(next(iter(bodies.values())))
        # Emptied on the way, the store has left its peer.
        peer.bodies = store
        body = _Body(self, peer, key, data, arriving)
        bodies[key] = body
        return body

    def _discard_maybe(self, body: _Body | None) -> None:
        if body is not None:
            self.discard(body)

    def discard_all(self, peer: Peer) -> None:
        """Forget every body from and for ``peer``."""
        store = peer.bodies
        if store is not None:
            for body in (*store.arriving.values(), *store.leaving.values()):
                self.discard(body)

    def discard(self, body: _Body) -> None:
        """Forget a body and give its room back."""
        self._timers.cancel(body)
        self._total -= len(body.data)
        # Its dead timer may hold the body for a while, but not the bytes that no bound counts any more.
        body.data = b""
        store = body.peer.bodies
        if store is not None:
            (store.arriving if body.arriving else store.leaving).pop(body.key, None)
            if not store.arriving and not store.leaving:
                body.peer.bodies = None


def _block_of(
    code: int, options: Options, payload: bytes, etag: bytes, offset: int, exponent: int, cut: Cut
) -> tuple[int, Options, bytes]:
    size = cut.size_at(exponent)
    if offset and offset >= len(payload):
        return codes.BAD_REQUEST, (), b"no such block"
    more = offset + size < len(payload)
    block: list[tuple[int, bytes]] = [(BLOCK2, encode_block(offset // unit_of(exponent), more, exponent))]
    if not any(number == ETAG for number, _ in options):
        block.append((ETAG, etag))
    if offset == 0 and more:
        block.append((SIZE2, encode_uint(len(payload))))
    return code, tuple(sorted((*options, *block), key=lambda option: option[0])), payload[offset : offset + size]
